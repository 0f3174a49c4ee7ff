"""Streaming statistics, Robbins-Monro and SPSA against theory and peers.

    python benchmarks/bench_approximation.py

One thread. One torch pass is `torch.var_mean` over the same chunks; the quickest idiom, a mean and a dot product
of the centred chunk, stands beside it. River, scalar and in Python, gets 10^5 values. Errors are over 10 to 6000 runs.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import compare, write_result
from noisyopt import minimizeSPSA
from river import stats
from torch import Tensor

from visavis.blocks.approximation import RootSearch, Running, spsa

ROWS, CHUNKS = 10_000_000, (65_536, 1_000_000)
RUNS, LOOKS = 6000, 10_000


def streams(chunk: int) -> dict[str, Callable[[], object]]:
    """By name, one pass over the stream."""
    x = torch.randn(ROWS, generator=torch.Generator().manual_seed(0))
    parts = x.split(chunk)

    def ours(**options: Any) -> Callable[[], object]:
        def run() -> object:
            running = Running(**options)
            for part in parts:
                running.update(part)
            return running

        return run

    def idiom() -> None:
        for part in parts:
            centred = part - part.mean()
            torch.dot(centred, centred)

    return {
        "torch.var_mean": lambda: [torch.var_mean(part) for part in parts],
        "mean and dot": idiom,
        "Running": ours(),
        "Running, quantiles": ours(quantiles=True),
    }


def ranks() -> dict[str, float]:
    """The largest error in rank over nine shares, as a part of the rows, and river's P2 at the median of 10^5."""
    found = {}
    x = torch.arange(float(ROWS))
    shuffled = x[torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))]
    for name, stream in {"random": shuffled, "sorted": x, "reversed": x.flip(0)}.items():
        running = Running(quantiles=True)
        for part in stream.split(CHUNKS[0]):
            running.update(part)
        shares = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
        found[name] = max(abs(float(running.quantile(share)) / ROWS - share) for share in shares)
        peer = stats.Quantile(0.5)
        start = time.process_time()
        for value in (stream[:: ROWS // 100_000] / ROWS).tolist():
            peer.update(value)
        found[f"river, {name}, median"] = abs(peer.get() - 0.5)
        found[f"river, {name}, ns a value"] = (time.process_time() - start) * 1e9 / 100_000
    return found


def medians() -> dict[str, dict[str, float]]:
    """Variance times n over its optimum 1 / (4 f^2), its standard error, and the share of intervals that held."""

    def draw(kind: str, generator: torch.Generator) -> Tensor:
        z = torch.randn(RUNS, generator=generator, dtype=torch.float64)
        if kind != "laplace":
            return z if kind == "normal" else z.exp()
        u = torch.rand(RUNS, generator=generator, dtype=torch.float64) - 0.5
        return -u.sign() * torch.log1p(-2 * u.abs())

    found = {}
    for kind, median, best in (("normal", 0, math.pi / 2), ("log-normal", 1, math.pi / 2), ("laplace", 0, 1)):
        generator = torch.Generator().manual_seed(0)
        search = RootSearch(torch.full((RUNS,), 2.0))
        for _ in range(LOOKS):
            search.tell((draw(kind, generator) <= search.point).double() - 0.5)
        ratio = LOOKS * (search.value - median).square() / best
        low, high = search.interval(0.95)
        found[kind] = {
            "n Var over the optimum": float(ratio.mean()),
            "standard error": float(ratio.std()) / math.sqrt(RUNS),
            "coverage of 95 %": float(((low <= median) & (median <= high)).double().mean()),
        }
    return found


def searches() -> dict[str, list[float]]:
    """Quartiles of the squared distance left after 2000 looks at a parabola in 20 dimensions, noise 1, from 20."""
    mine, peer = [], []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        found = spsa(
            lambda x, g=generator: x.square().sum() + torch.randn((), generator=g), torch.ones(20), generator=generator
        )
        mine.append(float(found.value.square().sum()))
        random = np.random.default_rng(seed)
        np.random.seed(seed)  # noisyopt draws from the global generator
        result = minimizeSPSA(lambda x, r=random: (x**2).sum() + r.normal(), np.ones(20), niter=1000, paired=False)
        peer.append(float((result.x**2).sum()))
    return {
        name: [float(np.percentile(errors, p)) for p in (25, 50, 75)]
        for name, errors in (("spsa", mine), ("noisyopt, its defaults", peer))
    }


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {f"stream, chunks of {chunk}": compare(streams(chunk), rounds=7) for chunk in CHUNKS}
    report |= {"ranks": ranks(), "medians": medians(), "spsa": searches()}
    settings = {"rows": ROWS, "runs": RUNS, "looks": LOOKS, "threads": 1}
    write_result("approximation", {"settings": settings, **report}, packages=("torch", "river", "noisyopt"))


if __name__ == "__main__":
    main()
