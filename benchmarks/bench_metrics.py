"""Does it pay to optimise the measure itself: linear models trained by smooth metrics or by cross-entropy.

    python benchmarks/bench_metrics.py

scikit-learn's digits, half to learn from, half to test, drawn anew for each seed. Every loss sees all of the learning
half in each step of Adam. How many steps, and a smooth loss's temperature, are the best of three each on a fifth of
the learning half, in which the model learns from the rest. What a loss is compared by is exact.

- F1 of "is it an 8", from four pooled pixels: at the threshold that the loss is made for, and at the one
  that is best on the learning half.
- Accuracy of ten digits when a fifth of the labels to learn from are drawn at random.
- ROC AUC and average precision of "is it an 8", with nine in ten eights left out of both halves.

And the CPU time of each metric, forward and backward, as a multiple of cross-entropy's on the same scores.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import quartiles, write_result
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy

from visavis.blocks import surrogates

SEEDS = range(8)
STEPS, RATE = (100, 400, 1600), 0.05
TEMPERATURES = (0.3, 1.0, 3.0)

Loss = Callable[[Tensor, Tensor, float], Tensor]
LOSSES: dict[str, Loss] = {
    "cross-entropy": lambda logits, labels, _: binary_cross_entropy_with_logits(logits, labels.float()),
    "1 - smooth F1": lambda logits, labels, t: 1 - surrogates.f1(logits, labels, temperature=t),
    "1 - smooth ROC AUC": lambda logits, labels, t: 1 - surrogates.roc_auc(logits, labels, temperature=t),
    "1 - smooth average precision": lambda logits, labels, t: (
        1 - surrogates.average_precision(logits, labels, temperature=t)
    ),
}
CLASSES: dict[str, Loss] = {
    "cross-entropy": lambda logits, labels, _: cross_entropy(logits, labels),
    "1 - smooth accuracy": lambda logits, labels, t: 1 - surrogates.accuracy(logits, labels, temperature=t),
}


def learn(loss: Loss, points: Tensor, labels: Tensor, outputs: int, temperature: float) -> dict[int, Tensor]:
    """Weights [features + 1, outputs] of a linear model with a bias, after each number of steps."""
    weight = torch.zeros(points.shape[1], outputs, requires_grad=True)
    optimizer = torch.optim.Adam([weight], RATE)
    found = {}
    for step in range(1, max(STEPS) + 1):
        optimizer.zero_grad()
        loss(squeezed(points @ weight), labels, temperature).backward()
        optimizer.step()
        if step in STEPS:
            found[step] = weight.detach().clone()
    return found


def chosen(
    name: str, loss: Loss, points: Tensor, labels: Tensor, outputs: int, score: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The model of the steps and temperature that are best on the last fifth, learned from all."""
    cut = len(points) * 4 // 5
    temperatures = (1.0,) if name == "cross-entropy" else TEMPERATURES  # which knows none
    held = {
        (t, steps): float(score(squeezed(points[cut:] @ weight), labels[cut:]))
        for t in temperatures
        for steps, weight in learn(loss, points[:cut], labels[:cut], outputs, t).items()
    }
    temperature, steps = max(held, key=lambda choice: held[choice])
    return learn(loss, points, labels, outputs, temperature)[steps]


def squeezed(logits: Tensor) -> Tensor:
    """[N] of one output, [N, outputs] of several."""
    return logits[:, 0] if logits.shape[1] == 1 else logits


def halves(points: Tensor, labels: Tensor, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Drawn anew for each seed; points with a column of ones, for the bias."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    points = torch.cat([points, torch.ones(len(points), 1)], 1)[order]
    half = len(points) // 2
    return (points[:half], labels[order][:half]), (points[half:], labels[order][half:])


def best_threshold(logits: Tensor, labels: Tensor) -> float:
    """Of the exact F1."""
    return max(logits.tolist(), key=lambda t: float(surrogates.exact_f1(logits - t + 1e-6, labels)))


def tuned_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """At its best threshold; the scores of cross-entropy are for that one."""
    return surrogates.exact_f1(logits - best_threshold(logits, labels) + 1e-6, labels)


def f1_of_eights(images: Tensor, digits: Tensor) -> dict[str, Any]:
    """From four pooled pixels, so that no model is right everywhere."""
    points, labels = avg_pool2d(images[:, None], 4).flatten(1), digits == 8
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        known, unknown = halves(points, labels, seed)
        for name in ("cross-entropy", "1 - smooth F1"):
            score = tuned_f1 if name == "cross-entropy" else surrogates.exact_f1
            weight = chosen(name, LOSSES[name], *known, 1, score)
            logits, train = (unknown[0] @ weight)[:, 0], (known[0] @ weight)[:, 0]
            threshold = best_threshold(train, known[1])
            found.setdefault(f"{name}, at its threshold", []).append(float(surrogates.exact_f1(logits, unknown[1])))
            tuned = float(surrogates.exact_f1(logits - threshold + 1e-6, unknown[1]))
            found.setdefault(f"{name}, tuned threshold", []).append(tuned)
    return found


def accuracy_under_noise(images: Tensor, digits: Tensor) -> dict[str, Any]:
    """A fifth of the labels to learn from are drawn at random; the test's are true."""
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        (points, labels), unknown = halves(images.flatten(1), digits, seed)
        generator = torch.Generator().manual_seed(100 + seed)
        drawn = torch.randint(10, labels.shape, generator=generator)
        noisy = torch.where(torch.rand(labels.shape, generator=generator) < 0.2, drawn, labels)
        for name, loss in CLASSES.items():
            weight = chosen(name, loss, points, noisy, 10, surrogates.exact_accuracy)
            found.setdefault(name, []).append(float(surrogates.exact_accuracy(unknown[0] @ weight, unknown[1])))
    return found


def rankings_of_rare_eights(images: Tensor, digits: Tensor) -> dict[str, Any]:
    """Nine in ten eights left out: about one image in a hundred is one."""
    found: dict[str, dict[str, list[float]]] = {"ROC AUC": {}, "average precision": {}}
    for seed in SEEDS:
        keep = torch.rand(len(digits), generator=torch.Generator().manual_seed(200 + seed)) < 0.1
        keep |= digits != 8
        points = avg_pool2d(images[keep][:, None], 2).flatten(1)
        known, unknown = halves(points, digits[keep] == 8, seed)
        for name, loss in LOSSES.items():
            if "F1" in name:
                continue
            score = surrogates.exact_average_precision if "precision" in name else surrogates.exact_roc_auc
            logits = (unknown[0] @ chosen(name, loss, *known, 1, score))[:, 0]
            for measure, exact in (
                ("ROC AUC", surrogates.exact_roc_auc),
                ("average precision", surrogates.exact_average_precision),
            ):
                found[measure].setdefault(name, []).append(float(exact(logits, unknown[1])))
    return found


def times() -> dict[str, list[float]]:
    """Quartiles of the ratio to cross-entropy in the same round, [10,000] scores or [10,000, 10] logits."""
    generator = torch.Generator().manual_seed(0)
    scores, logits = torch.randn(10_000, generator=generator), torch.randn(10_000, 10, generator=generator)
    yes, labels = torch.rand(10_000, generator=generator) < 0.1, torch.randint(10, (10_000,), generator=generator)
    targets = torch.randn(10_000, generator=generator)
    s = surrogates
    contestants: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
        "cross-entropy": (logits, lambda x: cross_entropy(x, labels)),
        "accuracy": (logits, lambda x: s.accuracy(x, labels, temperature=1.0)),
        "top-5 accuracy": (logits, lambda x: s.top_k_accuracy(x, labels, k=5, temperature=1.0)),
        "F1, macro": (logits, lambda x: s.f1(x, labels, temperature=1.0, average="macro")),
        "Jaccard, macro": (logits, lambda x: s.jaccard(x, labels, temperature=1.0, average="macro")),
        "Matthews": (logits, lambda x: s.matthews(x, labels, temperature=1.0)),
        "Cohen's kappa": (logits, lambda x: s.cohen_kappa(x, labels, temperature=1.0)),
        "binary cross-entropy": (scores, lambda x: binary_cross_entropy_with_logits(x, yes.float())),
        "F1, binary": (scores, lambda x: s.f1(x, yes, temperature=1.0)),
        "ROC AUC": (scores, lambda x: s.roc_auc(x, yes, temperature=1.0)),
        "average precision": (scores, lambda x: s.average_precision(x, yes, temperature=1.0)),
        "NDCG": (scores, lambda x: s.ndcg(x, yes.float(), temperature=1.0)),
        "Spearman": (scores, lambda x: s.spearman(x, targets, strength=1.0)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(25):
        for name, (x, function) in contestants.items():
            leaf = x.clone().requires_grad_()
            start = time.process_time()
            function(leaf).backward()
            seconds[name].append(time.process_time() - start)
    ratios, base = {}, "cross-entropy"
    for name in contestants:
        base = name if "cross-entropy" in name else base
        ratio = np.array(seconds[name]) / np.array(seconds[base])
        ratios[name] = quartiles(ratio, 2)
    return ratios


def summary(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Mean over seeds, their standard deviation, and the mean difference to cross-entropy with its standard error."""
    base = next(values for name, values in found.items() if name.startswith("cross-entropy"))
    rows = {}
    for name, values in found.items():
        gains = [value - reference for value, reference in zip(values, base, strict=True)]
        rows[name] = {
            "mean": round(statistics.mean(values), 4),
            "std": round(statistics.stdev(values), 4),
            "gain": round(statistics.mean(gains), 4),
            "gain error": round(statistics.stdev(gains) / len(gains) ** 0.5, 4),
        }
    return rows


def main() -> None:
    """Write results/metrics--<machine>.json."""
    torch.set_num_threads(1)
    data = load_digits()
    images, digits = torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)
    rankings = rankings_of_rare_eights(images, digits)
    write_result(
        "metrics",
        {
            "settings": {"seeds": len(SEEDS), "steps": STEPS, "rate": RATE, "temperatures": TEMPERATURES},
            "F1 of eights": summary(f1_of_eights(images, digits)),
            "accuracy, a fifth of the labels random": summary(accuracy_under_noise(images, digits)),
            "ROC AUC of rare eights": summary(rankings["ROC AUC"]),
            "average precision of rare eights": summary(rankings["average precision"]),
            "times cross-entropy": times(),
        },
        packages=("torch", "scikit-learn"),
    )


if __name__ == "__main__":
    main()
