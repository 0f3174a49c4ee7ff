"""Soft ranks and sorting beside torch.sort, sparsemax and entmax beside softmax: forward and backward, CPU time.

    python benchmarks/bench_soft_ranks.py

One thread, float32. Contestants take turns within each round, and a ratio is one of the same round, so that a slow
moment of a shared machine hits both. Peers that are not installed are left out, and the result names them.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from harness import quartiles, write_result
from torch import Tensor

from visavis.blocks.surrogates import entmax15, rank, sort, sparsemax

ROUNDS = 41
SORTED = ((100, 1000), (10, 10_000))
STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
SPARSE = (100, 10_000)

Contestants = dict[str, Callable[[], object]]


def step(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    """One forward and backward."""
    leaf = x.clone().requires_grad_()
    gradient = torch.randn(function(x).shape, generator=torch.Generator().manual_seed(1))

    def run() -> None:
        leaf.grad = None
        function(leaf).backward(gradient)

    return run


def normal(*shape: int) -> Tensor:
    """Standard normal."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def cascade(rows: int, n: int) -> Tensor:
    """For strength 1: only the two equal scores violate, and every merge of their block makes the next pair do so."""
    place = torch.arange(n, dtype=torch.float64)
    violating = torch.where(place == 0, -1.0, -(place - 1) / n**2)
    return (violating + n - place).float().expand(rows, n)


def ranks(rows: int, n: int) -> Contestants:
    """By name, one forward and backward."""
    x = normal(rows, n)
    found: Contestants = {"torch.sort": step(lambda v: v.sort(-1).values, x)}
    for strength in STRENGTHS:
        found[f"rank, strength {strength:g}"] = step(lambda v, s=strength: rank(v, strength=s), x)  # type: ignore[misc]
    found["rank, strength 1, a cascade"] = step(lambda v: rank(v, strength=1.0), cascade(rows, n))
    found["rank, entropic, strength 1"] = step(lambda v: rank(v, strength=1.0, regularization="entropic"), x)
    for strength in (0.1, 10.0):
        found[f"sort, strength {strength:g}"] = step(lambda v, s=strength: sort(v, strength=s), x)  # type: ignore[misc]
    if find_spec("torchsort"):
        import torchsort

        found["torchsort.soft_rank, strength 1"] = step(lambda v: torchsort.soft_rank(v), x)
    return found


def maps(rows: int, n: int) -> Contestants:
    """By name, one forward and backward."""
    x = normal(rows, n)
    found: Contestants = {
        "softmax": step(lambda v: v.softmax(-1), x),
        "sparsemax": step(sparsemax, x),
        "entmax15": step(entmax15, x),
        "sparsemax, rows of equal entries": step(sparsemax, torch.zeros(rows, n)),
        "entmax15, rows of equal entries": step(entmax15, torch.zeros(rows, n)),
    }
    if find_spec("entmax"):
        import entmax as peer

        found |= {
            "entmax package, sparsemax": step(lambda v: peer.sparsemax(v, dim=-1), x),
            "entmax package, entmax15": step(lambda v: peer.entmax15(v, dim=-1), x),
            "entmax package, sparsemax, k = 100": step(lambda v: peer.sparsemax(v, dim=-1, k=100), x),
            "entmax package, entmax15, k = 100": step(lambda v: peer.entmax15(v, dim=-1, k=100), x),
            "entmax package, entmax15 by bisection": step(lambda v: peer.entmax_bisect(v, alpha=1.5, dim=-1), x),
        }
    return found


def timings(steps: Contestants) -> dict[str, Any]:
    """CPU milliseconds, and ratios to the first of the contestants in the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(ROUNDS + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    base = next(iter(seconds.values()))
    return {
        name: {
            "cpu_ms": quartiles([1e3 * second for second in mine], 3),
            "ratio": quartiles([a / b for a, b in zip(mine, base, strict=True)], 2),
        }
        for name, mine in seconds.items()
    }


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "rounds": ROUNDS,
        "threads": 1,
        "left out": [name for name in ("entmax", "torchsort") if not find_spec(name)],
        "ranks": {f"{rows} x {n}": timings(ranks(rows, n)) for rows, n in SORTED},
        "maps": {f"{SPARSE[0]} x {SPARSE[1]}": timings(maps(*SPARSE))},
    }
    write_result("soft_ranks", report, packages=("torch", "entmax", "torchsort"))


if __name__ == "__main__":
    main()
