"""The picture of a bias: how far it moves the decision boundary; needs matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visavis.blocks._plots import figure_class
from visavis.errors import InputError, expect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(weight: Tensor, biases: Sequence[float], points: Tensor, labels: Tensor) -> "Figure":
    r"""One neuron of two inputs with several biases: where it fires, and how many points it decides rightly.

    The boundary :math:`w\cdot x + b = 0` is perpendicular to w at the distance :math:`-b/|w|` from the origin: the
    weight turns it, the bias moves it.

    Args:
        weight: float [2], not zero.
        biases: what to draw; a threshold T is the bias -T.
        points: float [N, 2].
        labels: bool [N], whether the neuron ought to fire.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a zero weight or no bias.
        MissingExtraError: no matplotlib.
    """
    make_figure = figure_class()
    expect("weight", weight, "float", 2)
    expect("points", points, "float", None, 2)
    norm = float(weight.norm())
    if not norm or not biases:
        raise InputError(
            f"weight, biases: expected a weight other than zero and a bias, got {norm:g} and {len(biases)}"
        )
    figure = make_figure(figsize=(3.2 * len(biases), 3.4), layout="constrained")
    direction = weight / norm
    along = torch.stack([-direction[1], direction[0]])
    reach = float(points.abs().max()) * 1.15
    for place, bias in zip(figure.subplots(1, len(biases), squeeze=False)[0], biases, strict=True):
        foot = -bias / norm * direction
        ends = torch.stack([foot - 2 * reach * along, foot + 2 * reach * along])
        fires = torch.cat([ends, ends.flip(0) + 4 * reach * direction])
        place.fill(*fires.T.tolist(), color="#1f77b4", alpha=0.15, lw=0)
        place.plot(*ends.T.tolist(), color="#1f77b4")
        for kind, marker, colour in ((labels, "o", "#1f77b4"), (~labels, "x", "#d62728")):
            place.scatter(*points[kind].T.tolist(), s=14, marker=marker, c=colour)
        place.annotate("", foot.tolist(), (0, 0), arrowprops={"arrowstyle": "->"})
        right = ((points @ weight + bias > 0) == labels).float().mean()
        place.set_title(f"b = {bias:g} (threshold {0.0 - bias:g}): {100 * right:.0f} % right", fontsize=9)
        place.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    return figure
