"""Soft ranks against torch's sort, and sparse maps against its softmax, forward and backward.

    python benchmarks/bench_soft_ranks.py

One thread, float32, CPU time; contestants take turns within each round, and a ratio is to the base of the same round.
Peers that are not installed are left out, and the result says so. The worst case is a staircase that a sequential
pool-adjacent-violators would go back over again and again.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import write_result
from torch import Tensor

from visavis.blocks import surrogates

SIZES = {"100 x 1,000": (100, 1000), "10 x 10,000": (10, 10_000)}
ROWS = (100, 10_000)
ROUNDS = 25
STRENGTHS = (0.001, 0.1, 1.0, 100.0)


def peer(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def ratios(x: Tensor, contestants: dict[str, Callable[[Tensor], Tensor]]) -> dict[str, list[float]]:
    """Quartiles of forward and backward over the first contestant of the same round."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(x.shape, generator=generator)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS + 1):
        for name, function in contestants.items():
            leaf = x.clone().requires_grad_()
            start = time.process_time()
            function(leaf).backward(weights)
            seconds[name].append(time.process_time() - start)
    base = np.array(next(iter(seconds.values()))[1:])
    return {
        name: [round(float(q), 3) for q in np.percentile(np.array(spent[1:]) / base, (25, 50, 75))]
        for name, spent in seconds.items()
    }


def ranks(rows: int, n: int) -> dict[str, dict[str, list[float]]]:
    """Of normal scores at several strengths, and of scores made to be slow."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, n, generator=generator)
    stairs = torch.arange(n, dtype=torch.float32).expand(rows, n).clone()
    stairs[:, 0] = 2.0 * n * n  # pulls in one stair after another
    torchsort = peer("torchsort")

    def soft(strength: float) -> Callable[[Tensor], Tensor]:
        return lambda x: surrogates.rank(x, strength=strength)

    contestants: dict[str, Callable[[Tensor], Tensor]] = {"torch.sort": lambda x: x.sort(-1).values}
    contestants |= {f"rank, strength {strength:g}": soft(strength) for strength in STRENGTHS}
    contestants["rank, entropic, strength 1"] = lambda x: surrogates.rank(x, strength=1.0, regularization="entropic")
    contestants["sort, strength 1"] = lambda x: surrogates.sort(x, strength=1.0)
    if torchsort:
        contestants["torchsort.soft_rank, strength 1"] = lambda x: torchsort.soft_rank(x, regularization_strength=1.0)
    worst = {
        "torch.sort": contestants["torch.sort"],
        "sort of a staircase, strength 1": contestants["sort, strength 1"],
    }
    return {"normal": ratios(x, contestants), "staircase": ratios(stairs, worst)}


def sparse() -> dict[str, dict[str, list[float]]]:
    """Normal logits, and ten times as peaked and as flat."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, generator=generator)
    entmax = peer("entmax")
    contestants: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda x: x.softmax(-1),
        "sparsemax": surrogates.sparsemax,
        "entmax15": surrogates.entmax15,
        "entmax, alpha 1.3": lambda x: surrogates.entmax(x, alpha=1.3),
        "top_k of 100": lambda x: surrogates.top_k(x, 100, temperature=0.1),
        "quantile": lambda x: surrogates.quantile(x, 0.9, temperature=0.1)[:, None].expand(x.shape),
    }
    if entmax:
        contestants["sparsemax, entmax package"] = lambda x: entmax.sparsemax(x, -1)
        contestants["entmax15, entmax package"] = lambda x: entmax.entmax15(x, -1)
        contestants["sparsemax, entmax package, k 100"] = lambda x: entmax.sparsemax(x, -1, 100)
    return {f"logits of deviation {scale:g}": ratios(scale * x, contestants) for scale in (0.1, 1.0, 10.0)}


def main() -> None:
    """Write results/soft_ranks--<machine>.json."""
    torch.set_num_threads(1)
    write_result(
        "soft_ranks",
        {
            "settings": {"rounds": ROUNDS, "rows": ROWS, "threads": 1},
            "left out": [name for name in ("torchsort", "entmax") if peer(name) is None],
            "times torch.sort": {size: ranks(*shape) for size, shape in SIZES.items()},
            "times softmax": sparse(),
        },
        packages=("torch", "entmax", "torchsort"),
    )


if __name__ == "__main__":
    main()
