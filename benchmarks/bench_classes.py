"""Softmax over very many classes: forward and backward against the three matrix products that it cannot avoid.

    python benchmarks/bench_classes.py

One thread, float32, D = 512, N = 256 samples. Contestants take turns within each round, and a ratio is one of the same
round, so that a slow moment of a shared machine hits both. What a contestant needs in memory on top of weight and
features is measured in a process of its own. Where the machine has too little memory free for the dense peers they are
left out, and the result says so. What is larger than the machine is computed, and marked as computed.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import peak_mb, quartiles, rss_mb, write_result
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear_cross_entropy, normalize

from visavis.blocks.classes import ClassSoftmax
from visavis.blocks.margins import ArcFace

FEATURES, SAMPLES, SCALE, MARGIN = 512, 256, 64.0, 0.5
ROUNDS = {100_000: 9, 1_000_000: 3}
GROWTH = (100_000, 200_000, 400_000, 1_000_000)
COMPUTED = (100_000, 1_000_000, 10_000_000)
DENSE_GIB = {100_000: 3, 1_000_000: 18}  # free memory that the dense peers want
NEED_IT_ALL = ("dense ArcFace, autograd", "pytorch-metric-learning ArcFaceLoss")


def contestants(classes: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """By name, what makes ready, and returns one forward and backward."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(SAMPLES, FEATURES, generator=generator)
    labels = torch.randint(classes, (SAMPLES,), generator=generator)

    weight = torch.empty(classes, FEATURES).normal_(
        std=0.01, generator=generator
    )  # of all but the peer, who has its own

    def leaves() -> tuple[Tensor, Tensor]:
        return features.clone().requires_grad_(), weight.detach().requires_grad_()

    def step(loss_of: Callable[[], Tensor], *tensors: Tensor) -> Callable[[], object]:
        def run() -> None:
            loss_of().backward()
            for tensor in tensors:
                tensor.grad = None

        return run

    def products() -> Callable[[], object]:
        directions = normalize(features)

        def run() -> object:
            logits = weight @ directions.T
            return logits.T @ weight, logits @ directions

        return run

    def ours(**options: Any) -> Callable[[], object]:
        head = ClassSoftmax(FEATURES, classes, **options)
        head.weight = torch.nn.Parameter(weight)
        x = features.clone().requires_grad_()
        return step(lambda: head(x, labels), x, head.weight)

    def dense() -> Callable[[], object]:
        x, rows = leaves()
        margin = ArcFace(MARGIN)

        def loss() -> Tensor:
            return cross_entropy(margin(normalize(x) @ normalize(rows).T, labels, scale=SCALE), labels)

        return step(loss, x, rows)

    def peer() -> Callable[[], object]:
        x = features.clone().requires_grad_()
        loss = ArcFaceLoss(classes, FEATURES, margin=float(np.degrees(MARGIN)), scale=SCALE)
        return step(lambda: loss(x, labels), x, loss.W)

    def fused(options: LinearCrossEntropyOptions | None) -> Callable[[], object]:
        x, rows = leaves()
        return step(lambda: linear_cross_entropy(x, rows, labels, options=options), x, rows)

    return {
        "three products": products,
        "ArcFace, ours": lambda: ours(margin=ArcFace(MARGIN), scale=SCALE),
        "NormFace, ours": lambda: ours(scale=SCALE),
        "plain softmax, ours": lambda: ours(normalize=False),
        "ArcFace, ours, a tenth of the classes": lambda: ours(margin=ArcFace(MARGIN), scale=SCALE, sample_rate=0.1),
        "plain softmax, linear_cross_entropy": lambda: fused(None),
        "plain softmax, linear_cross_entropy in chunks": lambda: fused(LinearCrossEntropyOptions()),
        "dense ArcFace, autograd": dense,
        "pytorch-metric-learning ArcFaceLoss": peer,
    }


def free_gib() -> float:
    """What the machine can give away now (Linux)."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 2**20


def timings(classes: int, rounds: int, skip: tuple[str, ...]) -> dict[str, Any]:
    """CPU seconds, and ratios to the three products and to ours, of the same round."""
    steps = {name: ready() for name, ready in contestants(classes).items() if name not in skip}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    report = {}
    for name, mine in seconds.items():
        report[name] = {
            "cpu_s": quartiles(mine, 4),
            "x three products": quartiles([a / b for a, b in zip(mine, seconds["three products"], strict=True)], 3),
            "x ArcFace, ours": quartiles([a / b for a, b in zip(mine, seconds["ArcFace, ours"], strict=True)], 3),
        }
    return report


def extra_gib(name: str, classes: int) -> float:
    """What the first step adds to the memory of a process that holds weight and features."""
    command = [sys.executable, __file__, "--memory", name, str(classes)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def computed(classes: int) -> dict[str, Any]:
    """Bytes and operations by arithmetic, for a step with momentum."""
    rows = 4 * classes * FEATURES / 2**30
    # [N, C] is kept where the gradient will be; what is wider than that needs memory of its own
    matrix = 4 * classes * max(0, SAMPLES - FEATURES) / 2**30
    return {
        "weight_gib": round(rows, 3),
        "momentum_gib": round(rows, 3),
        "gradient_gib": round(rows, 3),
        "kept_matrix_gib": round(matrix, 3),
        "step_gflop": round(6 * classes * SAMPLES * FEATURES / 1e9),
    }


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--memory"]:
        run = contestants(int(sys.argv[3]))[sys.argv[2]]()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = rss_mb()
        run()
        print(peak_mb() / 1024 - before / 1024)
        return
    report: dict[str, Any] = {}
    chunks = "plain softmax, linear_cross_entropy in chunks"
    for classes, rounds in ROUNDS.items():
        dense = free_gib() > DENSE_GIB[classes]
        brief = () if classes == 100_000 else ("NormFace, ours", "plain softmax, ours")
        skip = (chunks, *brief, *(() if dense else NEED_IT_ALL))
        report[f"{classes}"] = {"rounds": rounds, "left out for want of memory": [] if dense else list(NEED_IT_ALL)}
        report[f"{classes}"]["timings"] = timings(classes, rounds, skip)
        print(classes, {name: row["x three products"] for name, row in report[f"{classes}"]["timings"].items()})
    names = set(contestants(100_000))
    quick = timings(100_000, 1, tuple(names - {"three products", "ArcFace, ours", chunks}))
    report["100000"]["timings"][chunks] = quick[chunks]  # one round: it takes sixteen times as long
    for classes in ROUNDS:
        measured = report[f"{classes}"]["timings"]
        small = [name for name in measured if classes == 100_000 or name not in NEED_IT_ALL]
        report[f"{classes}"]["extra_gib"] = {name: round(extra_gib(name, classes), 3) for name in small}
        print(classes, report[f"{classes}"]["extra_gib"])
    growth = {}
    for classes in GROWTH:
        rows = timings(classes, 3, tuple(names - {"three products", "ArcFace, ours"}))
        growth[f"{classes}"] = rows["ArcFace, ours"]
    report["growth, ArcFace, ours"] = growth
    report["computed, not measured"] = {f"{classes}": computed(classes) for classes in COMPUTED}
    settings = {"features": FEATURES, "samples": SAMPLES, "scale": SCALE, "margin_rad": MARGIN, "threads": 1}
    write_result("classes", {"settings": settings, **report}, packages=("torch", "pytorch-metric-learning"))


if __name__ == "__main__":
    main()
