"""Polynomial programming: bits that learn to minimise ``E mean_i |b_i - .45|^p``.

    python benchmarks/bench_estimators_polynomial.py

128 bits, logits 0 at the start, 64 independent copies of the bits a step that share the logits, Adam with step size
1e-3, 4000 steps. The optimum is all zeros, with the loss .45^p; what is reported is the exact expected loss at the end.

Results are kept a run at a time in build/, so that an interrupted benchmark goes on where it was.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from harness import ROOT, write_result
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent

from visavis.blocks.estimators import (
    ARM,
    REBAR,
    RELAX,
    RLOO,
    DisARM,
    Estimator,
    GumbelSoftmax,
    NetworkBaseline,
    Quadratic,
    ReinMax,
    RunningBaseline,
    ScoreFunction,
    StraightThrough,
    expect,
)

BITS, TARGET, BATCH, STEPS, RATE = 128, 0.45, 64, 4000, 1e-3
POWERS = (2.0,)
SEEDS = (0, 1, 2)
KEPT = ROOT / "build" / "bench_estimators_polynomial.json"


def network(inputs: int) -> nn.Module:
    """From [*, inputs] to [*]."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(-2))


ESTIMATORS: dict[str, tuple[Callable[[], Estimator] | None, int]] = {  # None: the exact gradient, bit by bit
    "exact": (None, 1),
    "Quadratic, 4 draws (ours)": (Quadratic, 4),
    "Quadratic, 2 draws (ours)": (Quadratic, 2),
    "RLOO, 4 draws": (RLOO, 4),
    "RLOO, 2 draws": (RLOO, 2),
    "DisARM, 2 draws": (DisARM, 2),
    "DisARM, 4 draws": (DisARM, 4),
    "ARM, 2 draws": (ARM, 2),
    "ReinMax": (ReinMax, 1),
    "ReinMax, 4 draws": (ReinMax, 4),
    "REBAR": (REBAR, 1),
    "RELAX": (lambda: RELAX(network(BITS)), 1),
    "Gumbel-softmax tau .5": (lambda: GumbelSoftmax(tau=0.5), 1),
    "hard Gumbel-softmax tau .5": (lambda: GumbelSoftmax(tau=0.5, hard=True), 1),
    "straight-through": (StraightThrough, 1),
    "REINFORCE": (ScoreFunction, 1),
    "REINFORCE, running mean": (lambda: ScoreFunction(RunningBaseline()), 1),
    "REINFORCE, network": (lambda: ScoreFunction(NetworkBaseline(network(BITS))), 1),
}


def expected(logits: Tensor, power: float) -> Tensor:
    """The loss itself."""
    chance = logits.sigmoid()
    return (chance * (1 - TARGET) ** power + (1 - chance) * TARGET**power).mean()


def trained(name: str, power: float, seed: int) -> tuple[float, float]:
    """Final expected loss, and CPU seconds."""
    make, samples = ESTIMATORS[name]
    torch.manual_seed(seed)
    noise = torch.Generator().manual_seed(1000 + seed)
    logits = torch.zeros(BITS, requires_grad=True)
    grad = make() if make else None
    baseline = getattr(grad, "baseline", None)
    learned = [part for part in (grad, baseline) if isinstance(part, nn.Module)]
    optimizer = torch.optim.Adam([logits, *(weight for part in learned for weight in part.parameters())], RATE)
    start = time.process_time()
    for _ in range(STEPS):
        if grad is None:
            loss = expected(logits, power)
        else:
            bits = Independent(Bernoulli(logits=logits.expand(BATCH, BITS)), 1)
            loss = expect(
                lambda b: (b - TARGET).abs().pow(power).mean(-1), bits, grad=grad, samples=samples, generator=noise
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(expected(logits.detach(), power)), time.process_time() - start


def main() -> None:
    """Measure what is missing, and write the result."""
    torch.set_num_threads(1)
    kept: dict[str, dict[str, list[float]]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    KEPT.parent.mkdir(exist_ok=True)
    for power in sorted(POWERS, key=lambda power: abs(power - 2)):
        for name in ESTIMATORS:
            losses = kept.setdefault(f"{power}", {}).setdefault(name, [])
            seconds = kept.setdefault("cpu_s", {}).setdefault(name, [])
            for seed in SEEDS[len(losses) :]:
                loss, cpu = trained(name, power, seed)
                losses.append(round(loss, 5))
                seconds.append(round(cpu, 2))
                KEPT.write_text(json.dumps(kept))
            print(power, name, losses, flush=True)
    report: dict[str, Any] = {
        "settings": {"bits": BITS, "target": TARGET, "batch": BATCH, "steps": STEPS, "rate": RATE, "seeds": SEEDS},
        "optimum": {f"{power}": round(TARGET**power, 5) for power in POWERS},
        "draws": {name: samples for name, (_, samples) in ESTIMATORS.items()},
        "final loss, a value a seed": {
            f"{power}": {name: kept[f"{power}"][name] for name in ESTIMATORS} for power in POWERS
        },
        "cpu_s": {name: kept["cpu_s"][name] for name in ESTIMATORS},
    }
    write_result("estimators_polynomial", report, packages=("torch",))
    KEPT.unlink()


if __name__ == "__main__":
    main()
