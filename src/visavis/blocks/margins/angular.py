"""Margins of a fixed size, added to the angle or taken from the cosine of the true class.

N: samples, C: classes. Angles are radians. Every function is the dense form, from cosines to logits; every class is the
same curve as a `Margin`, for `classes.ClassSoftmax`.
"""

import math

from torch import Tensor

from visavis.blocks.margins._curves import (
    angle,
    check_angle,
    check_number,
    check_scale,
    falling,
    pick,
    put,
    shift,
)
from visavis.blocks.margins.margin import Margin
from visavis.errors import InputError, expect

__all__ = [
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "LiArcFace",
    "NormFace",
    "arcface",
    "combined_margin",
    "cosface",
    "li_arcface",
    "normface",
    "subcenter",
]


def arcface(cosines: Tensor, labels: Tensor, *, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """Turn the true class away by an angle: ``cos t`` becomes ``cos(t + margin)``.

    Past ``t = pi - margin`` that curve would rise again, so it goes on as ``-2 - cos(t + margin)``: value and slope
    stay continuous and the logit keeps falling. The continuation is SphereFace's, not this paper's.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        margin: radians in [0, pi/2].
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`; off the true class, ``scale * cosines``.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: `margin`, `scale` or a label is out of range; degrees are the usual cause.

    Source: Deng et al., ArcFace, CVPR 2019, arXiv:1801.07698, eq. 3.

    >>> import torch
    >>> arcface(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), margin=0.0, scale=8.0)
    tensor([[4., 2.]])
    """
    check_angle("margin", margin)
    check_scale(scale)
    return scale * put(cosines, labels, shift(pick(cosines, labels), margin))


class ArcFace(Margin):
    """`arcface` as a margin: ``cos t`` becomes ``cos(t + margin)``; radians in [0, pi/2]."""

    def __init__(self, margin: float = 0.5) -> None:
        check_angle("margin", margin)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return shift(cosines, self.margin)


def normface(cosines: Tensor, labels: Tensor, *, scale: float = 64.0) -> Tensor:
    """No margin: a softmax on scaled cosines, neither bias nor length left; `labels` are only checked.

    Args, returns and errors as `arcface`.

    Source: Wang et al., NormFace, ACM Multimedia 2017, arXiv:1704.06369; its scale is learned, ours is given.

    >>> import torch
    >>> normface(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), scale=8.0)
    tensor([[4., 2.]])
    """
    check_scale(scale)
    pick(cosines, labels)
    return scale * cosines


class NormFace(Margin):
    """`normface` as a margin: none."""


def cosface(cosines: Tensor, labels: Tensor, *, margin: float = 0.35, scale: float = 64.0) -> Tensor:
    """Take a margin from the true class's cosine: ``cos t - margin``. Also known as AM-Softmax.

    Args, returns and errors as `arcface`, but the margin is a difference of cosines, in [0, 1].

    Source: Wang et al., CosFace, CVPR 2018, arXiv:1801.09414, eq. 4; Wang et al., Additive Margin Softmax,
    IEEE Signal Processing Letters 25(7), 2018, arXiv:1801.05599.

    >>> import torch
    >>> cosface(torch.tensor([[0.5, 0.75]]), torch.tensor([1]), margin=0.25, scale=8.0)
    tensor([[4., 4.]])
    """
    check_number("margin", margin, 0.0, 1.0)
    check_scale(scale)
    return scale * put(cosines, labels, pick(cosines, labels) - margin)


class CosFace(Margin):
    """`cosface` as a margin: ``cos t`` becomes ``cos t - margin``; a difference of cosines in [0, 1]."""

    def __init__(self, margin: float = 0.35) -> None:
        check_number("margin", margin, 0.0, 1.0)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return cosines - self.margin


def _combined(cosines: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    return (shift(cosines, m2) if m1 == 1.0 else falling(m1 * angle(cosines) + m2)) - m3


def _check_combined(m1: float, m2: float, m3: float) -> None:
    check_number("m1", m1, 1.0, 16.0)
    check_angle("m2", m2)
    check_number("m3", m3, 0.0, 1.0)


def combined_margin(
    cosines: Tensor, labels: Tensor, *, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, scale: float = 64.0
) -> Tensor:
    """All three kinds at once: ``cos(m1 t + m2) - m3``.

    SphereFace-R is (m, 0, 0), ArcFace (1, m, 0), CosFace (1, 0, m). Beyond ``m1 t + m2 = pi`` the curve falls on, as
    in `arcface`; InsightFace's lets it rise again.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        m1: factor of the angle, in [1, 16].
        m2: radians in [0, pi/2].
        m3: difference of cosines in [0, 1].
        scale: positive gain on every logit.

    Returns, errors and source as `arcface`, there eq. 4.

    >>> import torch
    >>> combined_margin(torch.tensor([[0.5, 0.75]]), torch.tensor([1]), m2=0.0, m3=0.25, scale=8.0)
    tensor([[4., 4.]])
    """
    _check_combined(m1, m2, m3)
    check_scale(scale)
    return scale * put(cosines, labels, _combined(pick(cosines, labels), m1, m2, m3))


class CombinedMargin(Margin):
    """`combined_margin` as a margin: ``cos t`` becomes ``cos(m1 t + m2) - m3``; m2 in radians."""

    def __init__(self, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2) -> None:
        _check_combined(m1, m2, m3)
        super().__init__()
        self.m1, self.m2, self.m3 = m1, m2, m3

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return _combined(cosines, self.m1, self.m2, self.m3)


def _linear(cosines: Tensor, margin: float) -> Tensor:
    return 1.0 - (2.0 / math.pi) * (angle(cosines) + margin)


def li_arcface(cosines: Tensor, labels: Tensor, *, margin: float = 0.45, scale: float = 64.0) -> Tensor:
    """Logits linear in the angle: ``1 - 2 t / pi`` for every class, and for the true one ``1 - 2 (t + margin) / pi``.

    Nothing turns round, so nothing need be continued; the price is an arc cosine for each of the N C entries.
    Args, returns and errors as `arcface`.

    Source: Li et al., AirFace, ICCV Workshops 2019, arXiv:1907.12256.

    >>> import torch
    >>> li_arcface(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), margin=0.0, scale=8.0).round(decimals=4)
    tensor([[0., 0.]])
    """
    check_angle("margin", margin)
    check_scale(scale)
    return scale * put(_linear(cosines, 0.0), labels, _linear(pick(cosines, labels), margin))


class LiArcFace(Margin):
    """`li_arcface` as a margin: ``1 - 2 (t + margin) / pi``, and without the margin for the other classes; radians."""

    changes_others = True

    def __init__(self, margin: float = 0.45) -> None:
        check_angle("margin", margin)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return _linear(cosines, self.margin)

    def others(self, cosines: Tensor, target: Tensor) -> Tensor:  # noqa: ARG002
        return _linear(cosines, 0.0)


def subcenter(cosines: Tensor, *, count: int = 3) -> Tensor:
    """The nearest of each class's sub-centres: [N, C * count] to [N, C], to go on to any margin.

    A class with several centres may give its noisy and odd photos one of their own.

    Args:
        cosines: [N, C * count] float; the sub-centres of a class side by side.
        count: sub-centres a class.

    Returns:
        [N, C], each class's largest cosine.

    Raises:
        TensorError: `cosines` is not float [N, any].
        InputError: `count` is not positive, or does not divide the columns.

    Source: Deng et al., Sub-center ArcFace, ECCV 2020.

    >>> import torch
    >>> subcenter(torch.tensor([[0.1, 0.5, 0.25, -0.5]]), count=2)
    tensor([[0.5000, 0.2500]])
    """
    expect("cosines", cosines, "float", None, None)
    if count < 1 or cosines.shape[1] % count:
        raise InputError(f"count: expected a divisor of the {cosines.shape[1]} columns, got {count}")
    return cosines.reshape(len(cosines), cosines.shape[1] // count, count).amax(2)
