"""`check`: how far off, how noisy and how dear gradient estimators are, against the true gradient.

Shapes: D repetitions, P: parameters, all leaf tensors behind the distribution strung together.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks._plots import figure_class
from visavis.blocks.estimators._draws import tensors
from visavis.blocks.estimators._truth import truth
from visavis.blocks.estimators.estimator import Estimator, Integrand
from visavis.blocks.estimators.expectation import Name, estimator
from visavis.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report", "Row", "check"]


@dataclass(frozen=True)
class Row:
    """One estimator: squared bias and variance relative to the squared length of the true gradient."""

    name: str
    bias: float  # estimate of |E g - truth|^2 / |truth|^2 that is itself unbiased, so that it may be negative
    bias_error: float  # its standard error
    z: float  # the largest |mean - truth| of a parameter, in standard errors
    p: float  # how likely an unbiased estimator shows such a z, at most (Bonferroni)
    variance: float  # sum of the variances of all parameters, relative
    calls: float  # values of f for each batch element
    cpu_ms: float  # forward and backward

    def cells(self) -> tuple[str, ...]:
        """As text, a cell for each column of `Report.table`."""
        return (
            self.name,
            f"{self.bias:.2g}",
            f"{self.bias_error:.1g}",
            f"{self.z:.1f}",
            f"{self.p:.2g}",
            f"{self.variance:.3g}",
            f"{self.calls:g}",
            f"{self.cpu_ms:.2g}",
        )


@dataclass(frozen=True)
class Report:
    """What `check` found; `print(report.table())`."""

    rows: tuple[Row, ...]
    truth: str  # where the true gradient came from
    samples: int
    draws: int

    def table(self) -> str:
        """As text, a line for each estimator."""
        head = ("estimator", "rel. bias²", "± s.e.", "z", "p", "rel. variance", "calls of f", "CPU ms")
        lines = [head, *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join([*text, f"truth: {self.truth}; {self.samples} samples, {self.draws} repetitions"])

    def plot(self) -> "Figure":
        """Bias against variance, each relative; dashed lines join equal mean squared errors of one estimate.

        A bias below three standard errors is drawn hollow: it is not told apart from none.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        make_figure = figure_class()
        figure = make_figure(figsize=(7.2, 4.4), layout="constrained", dpi=110)
        axes = figure.add_subplot()
        shown = sorted((row for row in self.rows if row.variance > 0), key=lambda row: row.variance)
        for place, row in enumerate(shown):
            told_apart = row.bias > 3 * row.bias_error
            height = max(row.bias, row.bias_error)
            [point] = axes.plot(row.variance, height, "o", markersize=7, fillstyle="full" if told_apart else "none")
            axes.annotate(
                row.name,
                (row.variance, height),
                xytext=(7, 4 if place % 2 else -11),  # neighbours' names do not meet
                textcoords="offset points",
                color=point.get_color(),
            )
        axes.set(xscale="log", yscale="log", xlabel="variance / |gradient|²", ylabel="bias² / |gradient|²")
        axes.margins(x=0.25, y=0.15)
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for power in range(-12, 13):
            total = 10 ** (power / 2)
            odds = [10 ** (step / 10) for step in range(-60, 61)]  # of variance to bias
            parts = [(total * odd / (1 + odd), total / (1 + odd)) for odd in odds]
            axes.plot(*zip(*parts, strict=True), "--", color="0.8", linewidth=0.8, zorder=0)
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def check(
    f: Integrand,
    dist: Distribution,
    *,
    grad: Name | Estimator | Sequence[Name | Estimator],
    samples: int = 1,
    draws: int = 1000,
    generator: torch.Generator | None = None,
) -> Report:
    """Measure estimators: bias, variance and cost of the gradient of ``E f(z)``, batch elements averaged.

    The gradient is the one of the leaf tensors behind the parameters of `dist`. The truth comes from enumeration where
    the support is small, and otherwise from quadrature.

    Args:
        f: as in `expect`.
        dist: with a leaf that requires a gradient behind its parameters.
        grad: one estimator or several.
        samples: as in `expect`.
        draws: repetitions D, at least 3.
        generator: of the draws; torch's own when None.

    Raises:
        InputError: no leaf to differentiate by, no way to the truth, a true gradient of zero, too few draws.
    """
    if draws < 3:
        raise InputError(f"draws: expected at least 3, so that there is a spread, got {draws}")
    leaves = _leaves(dist)
    value, source = truth(f, dist)
    true = _flat_gradient(value.mean(), leaves)
    length2 = float(true.square().sum())
    if not 0.0 < length2 < math.inf:
        raise InputError(f"f: expected a true gradient that is finite and not zero, got one of length {length2**0.5}")
    several = [grad] if isinstance(grad, str) or callable(grad) else list(grad)
    rows = []
    for one in several:
        method = estimator(one)
        counted = _Counted(f, max(1, math.prod(dist.batch_shape)))
        gradients = []
        start = time.process_time()
        for _ in range(draws):
            value = method(counted, dist, samples=samples, generator=generator)
            gradients.append(_flat_gradient(value.mean(), leaves))
        seconds = time.process_time() - start
        name = one if isinstance(one, str) else getattr(one, "name", getattr(one, "__name__", type(one).__name__))
        rows.append(_row(name, torch.stack(gradients), true, counted.values / draws, 1e3 * seconds / draws))
    return Report(tuple(rows), source, samples, draws)


class _Counted:
    """f, and how many of its values were asked for, a batch element."""

    def __init__(self, f: Integrand, batch: int) -> None:
        self.f, self.batch, self.values = f, batch, 0.0

    def __call__(self, draws: Tensor) -> Tensor:
        values = self.f(draws)
        self.values += values.numel() / self.batch
        return values


def _row(name: str, gradients: Tensor, true: Tensor, calls: float, cpu_ms: float) -> Row:
    """Bias by the mean over pairs of different draws, ``<g_i - t, g_j - t>``; its error by the jackknife."""
    count = len(gradients)
    length2 = true.square().sum()
    off = gradients - true  # [D, P]
    total, own = off.sum(0), off.square().sum(1)
    squared = (total.square().sum() - own.sum()) / (count * (count - 1))
    without = ((total - off).square().sum(1) - (own.sum() - own)) / ((count - 1) * (count - 2))
    error = ((count - 1) / count * (without - without.mean()).square().sum()).sqrt()
    deviation = off.std(0)
    standard = deviation / count**0.5
    noise = 16 * torch.finfo(off.dtype).eps * (true.abs() + length2.sqrt() / len(true) ** 0.5)  # of rounding
    z = float((off.mean(0).abs() / (standard + noise)).max())
    p = min(1.0, len(true) * math.erfc(z / 2**0.5))
    return Row(
        name,
        float(squared / length2),
        float(error / length2),
        z,
        p,
        float(deviation.square().sum() / length2),
        calls,
        cpu_ms,
    )


def _flat_gradient(value: Tensor, leaves: list[Tensor]) -> Tensor:
    """[P] in float64, without touching anybody's .grad."""
    gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.detach().double().flatten() for gradient in gradients])


def _leaves(dist: Distribution) -> list[Tensor]:
    """The leaf tensors that require a gradient behind the parameters of a distribution, in a stable order."""
    found: dict[int, Tensor] = {}
    for tensor in tensors(dist):
        if tensor.requires_grad:
            for leaf in _behind(tensor):
                found.setdefault(id(leaf), leaf)
    if not found:
        raise InputError("dist: expected parameters that require a gradient, got none")
    return list(found.values())


def _behind(tensor: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph that made a tensor."""
    if tensor.is_leaf:
        yield tensor
    todo = [tensor.grad_fn]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if node is None:
            continue
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        todo.extend(new)
