"""Streaming statistics, Robbins-Monro and SPSA against theory and peers.

    python benchmarks/bench_approximation.py [errors] [speed]

One thread. One torch pass is `torch.var_mean` over the same chunks; the quickest idiom, a mean and a dot product
of the centred chunk, stands beside it. torch.quantile and torch.median hold the whole stream at once. River, scalar and
in Python, gets 10^5 values. Errors are over 30 to 4000 runs.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import compare, write_result
from noisyopt import minimizeSPSA
from river import stats
from torch import Tensor

from visavis.blocks.approximation import Averaged, RootSearch, Running, RunningQuantile, kiefer_wolfowitz, spsa

ROWS, CHUNKS = 10_000_000, (65_536, 1_000_000)
RUNS, LOOKS = 4000, 10_000
SEED = 10  # of medians and searches: not the one any choice was made on


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

    def median() -> None:
        running = RunningQuantile(0.5)
        for part in parts:
            running.update(part)

    return {
        "torch.var_mean": lambda: [torch.var_mean(part) for part in parts],
        "mean and dot": idiom,
        "Running": ours(),
        "Running, quantiles": ours(quantiles=True),
        "RunningQuantile": median,
        "torch.median, all at once": x.median,
        "torch.quantile, all at once": lambda: torch.quantile(x, 0.5),
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
        generator = torch.Generator().manual_seed(SEED)
        search, stream, whole = RootSearch(torch.full((RUNS,), 2.0)), RunningQuantile(0.5, RUNS), []
        for _ in range(LOOKS):
            values = draw(kind, generator)
            search.tell((values <= search.point).double() - 0.5)
            stream.update(values[None])
            whole.append(values[:500])
        sample = torch.stack(whole).median(0).values
        for name, value, interval in (
            ("RootSearch", search.value, search.interval(0.95)),
            ("RunningQuantile", stream.value, stream.interval(0.95)),
            ("sample median of 500 of the runs", sample, None),
        ):
            ratio = LOOKS * (value - median).square() / best
            found[f"{kind}, {name}"] = {
                "n Var over the optimum": float(ratio.mean()),
                "standard error": float(ratio.std()) / math.sqrt(len(ratio)),
            }
            if interval is not None:
                held = (interval[0] <= median) & (median <= interval[1])
                found[f"{kind}, {name}"]["coverage of 95 %"] = float(held.double().mean())
    return found


# Minimum 0 at 0, noise 1 in every look, start at 1 in each of 20 entries. The rules for gains were made on the first.
PROBLEMS: dict[str, Callable[[Any], Any]] = {
    "parabola": lambda x: (x**2).sum(),
    "quartic": lambda x: (x**2 / 2 + x**4).sum(),
    "valley": lambda x: (x**2).sum() + 4 * ((x[1:] - x[:-1]) ** 2).sum(),
    "absolute": lambda x: ((1 + 10 * x**2) ** 0.5 - 1).sum(),
}


def searches() -> dict[str, dict[str, list[float]]]:
    """Quartiles of the squared distance left after 2000 looks, by problem and method; noisyopt's defaults, and best.

    Its best is the pair (a, c) of fifteen with the least median on the problem itself: the hand-tuned peer.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for problem, f in PROBLEMS.items():

        def noisyopt(seed: int, f: Callable[[Any], Any] = f, **options: float) -> float:
            random = np.random.default_rng(seed)
            np.random.seed(seed)  # noisyopt draws from the global generator
            with np.errstate(all="ignore"):  # some pairs diverge
                x = minimizeSPSA(lambda x: f(x) + random.normal(), np.ones(20), niter=1000, paired=False, **options).x
            return float((x**2).sum()) if np.isfinite(x).all() else math.inf

        def ours(seed: int, method: Any, f: Callable[[Any], Any] = f) -> float:
            generator = torch.Generator().manual_seed(SEED + seed)
            options = {"generator": generator} if method is spsa else {}
            value = method(lambda x: f(x) + torch.randn((), generator=generator), torch.ones(20), **options).value
            return float(value.square().sum())

        pairs = [{"a": a, "c": c} for a in (0.01, 0.03, 0.1, 0.3, 1.0) for c in (0.1, 0.5, 1.5)]
        best = min(pairs, key=lambda pair: float(np.median([noisyopt(seed, **pair) for seed in range(3)])))
        methods: dict[str, Callable[[int], float]] = {
            "spsa": lambda seed: ours(seed, spsa),
            "kiefer_wolfowitz": lambda seed: ours(seed, kiefer_wolfowitz),
            "noisyopt, defaults": noisyopt,
            f"noisyopt, a = {best['a']:g}, c = {best['c']:g} the best of 15": lambda seed, p=best: noisyopt(seed, **p),
        }
        found[problem] = {}
        for name, method in methods.items():
            errors = [method(seed) for seed in range(30)]
            found[problem][name] = [float(np.percentile(errors, p)) for p in (25, 50, 75)]
    return found


def averages() -> dict[str, list[float]]:
    """Quartiles of the squared distance to the optimum of noisy descent after 1000 steps in 50 dimensions."""
    names = ("last iterate", "Averaged", "Averaged, forget=0", "torch ASGD, defaults", "torch swa_utils")
    errors: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(30):
        generator = torch.Generator().manual_seed(SEED + seed)
        model = torch.nn.Linear(50, 1, bias=False)
        torch.nn.init.constant_(model.weight, 1.0)
        asgd = torch.optim.ASGD(model.parameters(), lr=0.1)
        kept, plain = Averaged(asgd), Averaged(asgd, forget=0.0)
        swa = torch.optim.swa_utils.AveragedModel(model)
        for _ in range(1000):
            model.weight.grad = model.weight.detach() + torch.randn(1, 50, generator=generator)
            asgd.step()
            for one in (kept, plain):
                one.update()
            swa.update_parameters(model)
        with kept.applied():
            errors["Averaged"].append(float(model.weight.detach().square().sum()))
        with plain.applied():
            errors["Averaged, forget=0"].append(float(model.weight.detach().square().sum()))
        errors["last iterate"].append(float(model.weight.detach().square().sum()))
        errors["torch ASGD, defaults"].append(float(asgd.state[model.weight]["ax"].square().sum()))
        errors["torch swa_utils"].append(float(swa.module.weight.detach().square().sum()))
    return {name: [float(np.percentile(e, p)) for p in (25, 50, 75)] for name, e in errors.items()}


def updates() -> dict[str, Callable[[], object]]:
    """By name, one update of the average of 100 matrices of 256 x 256."""
    network = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(256, 256)) for _ in range(100)])
    averaged = Averaged(torch.optim.SGD(network.parameters(), lr=0.1))
    mean = torch.optim.swa_utils.AveragedModel(network)
    copies = [parameter.detach().clone() for parameter in network]

    def idiom() -> None:
        with torch.no_grad():
            torch._foreach_lerp_(copies, list(network), 0.01)

    return {
        "_foreach_lerp_": idiom,
        "Averaged": averaged.update,
        "torch swa_utils": lambda: mean.update_parameters(network),
    }


def main() -> None:
    """Measure what is asked for, and write the results."""
    torch.set_num_threads(1)
    settings = {"rows": ROWS, "runs": RUNS, "looks": LOOKS, "threads": 1}
    packages = ("torch", "river", "noisyopt")
    parts = sys.argv[1:] or ["errors", "speed"]
    if "errors" in parts:
        report = {"ranks": ranks(), "medians": medians(), "minima": searches(), "averages": averages()}
        write_result("approximation_errors", {"settings": settings, **report}, packages=packages)
    if "speed" in parts:
        times: dict[str, Any] = {f"stream, chunks of {chunk}": compare(streams(chunk), rounds=7) for chunk in CHUNKS}
        times["average"] = compare(updates(), rounds=31)
        write_result("approximation_speed", {"settings": settings, **times}, packages=packages)


if __name__ == "__main__":
    main()
