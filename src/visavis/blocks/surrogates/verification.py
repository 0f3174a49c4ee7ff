"""Smooth stand-ins for measures that have no gradient.

Shapes: N pairs. Similarities are in units of a cosine, temperatures in the same.
"""

import math

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import check_positive
from visavis.errors import InputError, TensorError, expect

__all__ = ["exact_tar_at_far", "tar_at_far"]


def tar_at_far(similarities: Tensor, same: Tensor, *, far: float, temperature: float) -> Tensor:
    """The share of pairs of one person accepted at a false-accept rate, with a gradient: `exact_tar_at_far`, smoothed.

    Every "is above" becomes a sigmoid of that temperature, T. The threshold t solves
    ``sum over impostors of sigmoid((s - t) / T) = k + 1/2``, where k is the number of impostor pairs that may pass,
    ``floor(far * impostors)``: for T -> 0 that is the similarity of impostor pair k + 1, the exact measure's. The
    value is the mean of ``sigmoid((s - t) / T)`` over the genuine pairs.

    Why not the straight quantile, the similarity of pair k + 1 itself: its gradient reaches that one pair, and the
    next step finds another pair in its place. Here the implicit function theorem spreads it over all impostor pairs
    that are near the threshold, by their sigmoid's slope; the weights are positive and sum to one, so that adding a
    constant to all similarities changes nothing.

    The limit for T -> 0 is the exact value, except that a genuine pair that ties with the threshold counts as the
    share of the impostor pairs tied there that may pass, plus one half of one pair; exactly, it does not count.

    As a loss, on a batch's cosines (upper triangle, each pair once)::

        upper = torch.ones_like(cosines, dtype=torch.bool).triu(1)
        same = labels[:, None] == labels
        loss = 1 - tar_at_far(cosines[upper], same[upper], far=1e-3, temperature=0.05)

    What to expect of it: a batch with n impostor pairs knows no rate below 1/n, and pairs far from the threshold give
    next to no gradient, so that from scratch it learns little. It is made for the last steps of a model that already
    tells people apart, and even there it need not beat cross-entropy: docs/evaluation.md has a case where it does not.

    Args:
        similarities: float [N]; half precision is computed in float32.
        same: bool [N], whether the pair shows one person; pairs of a photo with itself left out.
        far: share in [0, 1).
        temperature: positive; .02 to .1 suits cosines. Below the resolution of the dtype there is nothing to smooth.

    Returns:
        Scalar in [0, 1], dtype of `similarities`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: no pair of one person or no pair of different people, a similarity not finite, `far` or
            `temperature` out of range.

    Source: the threshold is ours; the constraint on the false positives as Eban et al., Scalable Learning of
    Non-Decomposable Objectives, AISTATS 2017, arXiv:1608.04802, who optimise a bound instead.

    >>> cosines = torch.tensor([0.9, 0.6, 0.5, 0.1, 0.0, -0.1])
    >>> same = torch.tensor([True, True, False, False, False, False])
    >>> tar_at_far(cosines, same, far=0.25, temperature=0.01)
    tensor(1.)
    """
    genuine, impostors = _split(similarities, same, far)
    check_positive("temperature", temperature)
    dtype = torch.promote_types(similarities.dtype, torch.float32)
    genuine, impostors = genuine.to(dtype), impostors.to(dtype)
    target = _allowed(len(impostors), far) + 0.5
    start = _solve(impostors.detach(), target, temperature)
    passing = torch.sigmoid((impostors - start) / temperature)
    # One step of Newton's method, whose derivative is the implicit function's. The slopes sum to at least 1/4: a sum of
    # x * (1 - x) is least, under a sum of x that is half a whole number, where all x but one are 0 or 1.
    slope = (passing * (1 - passing)).detach().sum().clamp_min(0.25)
    threshold = start + temperature * (passing.sum() - target) / slope
    return torch.sigmoid((genuine - threshold) / temperature).mean().to(similarities.dtype)


def exact_tar_at_far(similarities: Tensor, same: Tensor, *, far: float) -> Tensor:
    """The highest share of pairs of one person that a threshold accepts with at most `far` of those of two people.

    Nothing is interpolated, and equal similarities are accepted together or not at all, as in
    `visavis.face.evaluate.tar_at_far`, of which this is the twin on tensors. Arguments and errors as `tar_at_far`.

    Source: ISO/IEC 19795-1.

    >>> cosines = torch.tensor([0.9, 0.6, 0.5, 0.1, 0.0, -0.1])
    >>> same = torch.tensor([True, True, False, False, False, False])
    >>> exact_tar_at_far(cosines, ~same, far=0.5)
    tensor(0.)
    """
    genuine, impostors = _split(similarities, same, far)
    allowed = _allowed(len(impostors), far)
    threshold = impostors.topk(allowed + 1).values[-1]
    return (
        (genuine > threshold).to(torch.promote_types(similarities.dtype, torch.float32)).mean().to(similarities.dtype)
    )


def _split(similarities: Tensor, same: Tensor, far: float) -> tuple[Tensor, Tensor]:
    """The similarities of the pairs of one person and of the pairs of two."""
    expect("similarities", similarities, "float", None)
    if same.dtype != torch.bool or same.shape != similarities.shape:
        dtype = str(same.dtype).removeprefix("torch.")
        raise TensorError(f"same: expected bool [{len(similarities)}], got {dtype} {list(same.shape)}")
    if not 0.0 <= far < 1.0:
        raise InputError(f"far: expected a share in [0, 1), got {far}")
    if not similarities.isfinite().all():
        raise InputError("similarities: expected finite numbers, got infinity or NaN; did the training diverge?")
    genuine, impostors = similarities[same], similarities[~same]
    if not len(genuine) or not len(impostors):
        raise InputError(
            "same: expected pairs of one person and pairs of different people, "
            f"got {len(genuine)} and {len(impostors)}; draw batches with several photos of several people"
        )
    return genuine, impostors


def _allowed(impostors: int, far: float) -> int:
    """The most pairs whose share is at most `far`; far * impostors may lie a rounding below a whole number."""
    count = math.floor(far * impostors)
    return count + ((count + 1) / impostors <= far) - (count / impostors > far)


def _solve(impostors: Tensor, target: float, temperature: float) -> Tensor:
    """The t at which the sigmoids sum to `target`, by bisection; the sum falls as t rises.

    Both ends follow from ``1 / (1 + exp(x)) < exp(-x)``.
    """
    count = len(impostors)
    low = impostors.min() - temperature * math.log(count / (count - target))
    high = impostors.max() + temperature * math.log(count / target)
    for _ in range(60 if impostors.dtype == torch.float64 else 30):
        middle = (low + high) / 2
        above = torch.sigmoid((impostors - middle) / temperature).sum() > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2
