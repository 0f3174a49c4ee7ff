"""Differentiable one-hot draws against a softmax, and against others' draws.

    python benchmarks/bench_estimators_speed.py

Logits (1024, 10000), float32, one thread; forward and backward, the upstream gradient given. Contestants take turns
within each round, and a ratio is one of the same round. Memory: the most that a step adds to a process that holds the
logits and the upstream gradient, in multiples of the logits, each in a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from harness import peak_mb, quartiles, rss_mb, write_result
from torch import Tensor
from torch.distributions import OneHotCategoricalStraightThrough, RelaxedOneHotCategorical
from torch.nn.functional import gumbel_softmax

from visavis.blocks.estimators import GumbelSoftmax, ReinMax, Relaxed, StraightThrough, gumbel_max

SHAPE, TAU, ROUNDS = (1024, 10_000), 0.5, 21
AIMS = {
    "Gumbel-softmax, soft, ours": 2.4,
    "Gumbel-softmax, hard, ours": 2.4,
    "ReinMax, ours": 2.3,
    "straight-through, ours": 1.8,
}


def draws() -> dict[str, Callable[[Tensor], Tensor]]:
    """By name, from logits to draws."""

    def ours(method: Relaxed) -> Callable[[Tensor], Tensor]:
        return lambda logits: method.from_logits(logits)

    found: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda logits: logits.softmax(-1),
        "Gumbel-softmax, soft, ours": ours(GumbelSoftmax(tau=TAU)),
        "Gumbel-softmax, soft, precise, ours": ours(GumbelSoftmax(tau=TAU, precise=True)),
        "Gumbel-softmax, soft, torch.nn.functional": lambda logits: gumbel_softmax(logits, tau=TAU),
        "Gumbel-softmax, soft, torch.distributions": lambda logits: RelaxedOneHotCategorical(
            torch.tensor(TAU), logits=logits
        ).rsample(),
        "Gumbel-softmax, hard, ours": ours(GumbelSoftmax(tau=TAU, hard=True)),
        "Gumbel-softmax, hard, torch.nn.functional": lambda logits: gumbel_softmax(logits, tau=TAU, hard=True),
        "ReinMax, ours": ours(ReinMax()),
        "straight-through, ours": ours(StraightThrough()),
        "straight-through, torch.distributions": lambda logits: OneHotCategoricalStraightThrough(
            logits=logits
        ).rsample(),
        "Gumbel-max, no gradient, ours": lambda logits: gumbel_max(logits.detach()),
    }
    if find_spec("reinmax"):
        from reinmax import reinmax

        found["ReinMax, reinmax"] = lambda logits: reinmax(logits, 1.0)[0]
    return found


def step(name: str) -> Callable[[], None]:
    """One forward and backward."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator).requires_grad_()
    upstream = torch.randn(SHAPE, generator=generator)
    draw = draws()[name]

    def run() -> None:
        drawn = draw(logits)
        if drawn.requires_grad:
            torch.autograd.grad(drawn, logits, upstream)

    return run


def memory(name: str) -> float:
    """In multiples of the logits, the second step's."""
    command = [sys.executable, __file__, "--memory", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if sys.argv[1:2] == ["--memory"]:
        run = step(sys.argv[2])
        run()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = rss_mb()
        run()
        print((peak_mb() - before) * 2**20 / (4 * SHAPE[0] * SHAPE[1]))
        return
    steps = {name: step(name) for name in draws()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(ROUNDS + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    report: dict[str, Any] = {}
    for name, mine in seconds.items():
        ratios = [a / b for a, b in zip(mine, seconds["softmax"], strict=True)]
        report[name] = {
            "cpu_ms": quartiles([1e3 * second for second in mine], 2),
            "x softmax": quartiles(ratios, 3),
            "memory x logits": round(memory(name), 2),
        }
        print(name, report[name], flush=True)
    left_out = [] if find_spec("reinmax") else ["reinmax"]
    settings = {"shape": SHAPE, "tau": TAU, "rounds": ROUNDS, "threads": 1, "left out": left_out, "aims": AIMS}
    write_result("estimators_speed", {"settings": settings, "draws": report}, packages=("torch", "reinmax"))


if __name__ == "__main__":
    main()
