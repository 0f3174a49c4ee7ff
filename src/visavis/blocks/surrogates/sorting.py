"""Sorting and ranking with a gradient: projections onto the permutahedron, in O(n log n) and exact.

The ranks of n scores maximise a linear function over all orders of ``1, ..., n``, or, what is the same, over their
convex hull, the permutahedron; so do the sorted scores over the hull of all orders of themselves. Both jump from corner
to corner as the scores move. Take something strictly convex off that linear function, `strength` times half the squared
length, and the answer slides through the hull instead: it is a projection. Sort, and it becomes isotonic regression.

n: entries along the axis.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from visavis.blocks.surrogates._isotonic import blocks, pool, pool_exp
from visavis.blocks.surrogates._rows import aside, check_positive, wide
from visavis.errors import InputError

__all__ = ["exact_rank", "rank", "sort"]

Regularization = Literal["l2", "entropic"]


def rank(
    scores: Tensor,
    *,
    dim: int = -1,
    strength: float,
    descending: bool = False,
    regularization: Regularization = "l2",
) -> Tensor:
    """The ranks 1, ..., n of the scores along `dim`, with a gradient: `exact_rank`, smoothed.

    The projection of ``scores / strength`` onto the permutahedron of ``(1, ..., n)``. Its ranks are in the order of the
    scores, sum to ``n (n + 1) / 2``, and are exact as soon as all scores are `strength` apart: two that are nearer
    share their ranks. By optimality, ``<scores, exact - soft>`` is from 0 to ``strength / 2`` times
    ``|exact|^2 - |soft|^2``, at most ``n (n^2 - 1) / 12``. The derivative averages within blocks of scores that share:
    ``(g - mean of g over the block) / strength``.

    The entropic projection is one of exponentials, by Kullback-Leibler divergence. It is smoother, its ranks do not sum
    to the same, and it approaches the exact ranks only exponentially in the gaps.

    Scores of minus infinity come last when `descending`, and leave the ranks of the others alone; so do those of plus
    infinity when not. That is how to mask. Several of them share the mean of their ranks.

    Args:
        scores: float [..., n, ...]; half precision is computed in float32.
        dim: the axis of n.
        strength: positive, in units of the scores.
        descending: whether rank 1 is the highest score, not the lowest.
        regularization: what is taken off the linear function.

    Returns:
        Shape and dtype of `scores`.

    Raises:
        TensorError: `scores` is not float, or empty along `dim`.
        InputError: a score is NaN; `strength` or `regularization` out of range.

    Source: Blondel et al., Fast Differentiable Sorting and Ranking, ICML 2020, arXiv:2002.08871.

    >>> rank(torch.tensor([0.3, 0.1, 0.7]), strength=0.1)
    tensor([2., 1., 3.])
    >>> rank(torch.tensor([0.3, 0.1, 0.7]), strength=0.4)
    tensor([1.8333, 1.3333, 2.8333])
    """
    rows = _checked("scores", scores, dim, strength, regularization)
    n = rows.shape[-1]
    order = aside(partial(_order, descending=not descending), rows)
    scaled = rows.gather(-1, order) / (-strength if descending else strength)  # falls from left to right
    ladder = torch.arange(n, 0, -1, dtype=rows.dtype, device=rows.device).expand_as(scaled)
    finite = _within_finite(scaled)
    start, end = blocks(finite, ladder, scaled, entropic=regularization == "entropic")
    if regularization == "entropic":
        ranks = finite - pool_exp(finite, start, end) + pool_exp(ladder, start, end)
    else:
        ranks = (finite - pool(finite, start, end)) + (n + 0.5 - (start + end).to(rows.dtype) / 2)
    return torch.empty_like(ranks).scatter(-1, order, ranks).to(scores.dtype).movedim(-1, dim)


def sort(
    x: Tensor,
    *,
    dim: int = -1,
    strength: float,
    descending: bool = False,
    regularization: Regularization = "l2",
) -> Tensor:
    """The entries sorted along `dim`, with a gradient for more than one entry a place: `torch.sort`, smoothed.

    The projection of ``(1, ..., n) / strength`` onto the hull of all orders of `x`. It is exact as soon as no two
    neighbours in order are farther apart than ``1 / strength``; blocks of places between wider gaps are drawn together,
    to steps of ``1 / strength``. The sum is kept. Infinite entries stay as they are at their ends, and the others are
    sorted among themselves.

    Args:
        x: float [..., n, ...]; half precision is computed in float32.
        dim: the axis of n.
        strength: positive, in units of one over those of `x`.
        descending: whether the largest entry comes first.
        regularization: as in `rank`.

    Returns:
        Shape and dtype of `x`.

    Raises:
        TensorError: `x` is not float, or empty along `dim`.
        InputError: an entry is NaN; `strength` or `regularization` out of range.

    Source: as `rank`.

    >>> sort(torch.tensor([0.3, 0.1, 0.7]), strength=0.1)
    tensor([0.1000, 0.3000, 0.7000])
    >>> sort(torch.tensor([3.0, 1.0, 7.0]), strength=0.5)
    tensor([1.6667, 3.6667, 5.6667])
    """
    rows = _checked("x", x, dim, strength, regularization)
    n = rows.shape[-1]
    values = rows.gather(-1, aside(partial(_order, descending=True), rows))
    place = torch.arange(n, dtype=rows.dtype, device=rows.device)
    ladder = ((n - place) / strength).expand_as(values)
    finite = _within_finite(values)
    start, end = blocks(ladder, finite, values, entropic=regularization == "entropic")
    if regularization == "entropic":
        smooth = ladder - pool_exp(ladder, start, end) + pool_exp(finite, start, end)
    else:
        smooth = ((start + end - 1).to(rows.dtype) / 2 - place) / strength + pool(finite, start, end)
    smooth = torch.where(values.isinf(), values, smooth)
    return (smooth if descending else smooth.flip(-1)).to(x.dtype).movedim(-1, dim)


def exact_rank(scores: Tensor, *, dim: int = -1, descending: bool = False) -> Tensor:
    """The ranks 1, ..., n of the scores along `dim`; equal scores share the mean of their ranks.

    Arguments and errors as `rank`.

    >>> exact_rank(torch.tensor([0.3, 0.1, 0.7, 0.3]))
    tensor([2.5000, 1.0000, 4.0000, 2.5000])
    """
    rows = wide("scores", scores, dim)
    return aside(_mean_ranks, -rows if descending else rows).to(scores.dtype).movedim(-1, dim)


def _checked(name: str, x: Tensor, dim: int, strength: float, regularization: Regularization) -> Tensor:
    check_positive("strength", strength)
    if regularization not in ("l2", "entropic"):
        raise InputError(f"regularization: expected 'l2' or 'entropic', got {regularization!r}")
    return wide(name, x, dim)


def _mean_ranks(rows: Tensor) -> Tensor:
    order = _order(rows)
    values = rows.gather(-1, order)
    place = torch.arange(1, rows.shape[-1] + 1, dtype=rows.dtype, device=rows.device).expand_as(rows)
    new = values[..., 1:] != values[..., :-1]
    first = place.where(pad(new, (1, 0), value=True), 0).cummax(-1).values
    last = place.where(pad(new, (0, 1), value=True), torch.inf).flip(-1).cummin(-1).values.flip(-1)
    return torch.empty_like(rows).scatter_(-1, order, (first + last) / 2)


def _order(rows: Tensor, *, descending: bool = False) -> Tensor:
    """The indices that sort each row, by whole numbers that compare as the entries do, which torch sorts sooner.

    Soonest, by digits, all in one row: on a CPU, the rows of a tensor that its cache holds are sorted as one, each
    entry below its row's number.
    """
    whole, sign = (torch.int32, 31) if rows.dtype == torch.float32 else (torch.int64, 63)
    bits = rows.contiguous().view(whole)
    keys = bits ^ ((bits >> sign) & torch.iinfo(whole).max)
    keys = ~keys if descending else keys
    n = rows.shape[-1]
    if whole == torch.int64 or rows.device.type != "cpu" or n < 256 or not 4096 <= rows.numel() <= 2**18:
        return keys.sort(-1).indices
    number = torch.arange(rows.numel() // n)[:, None]
    joined = keys.view(-1, n) + ((number << 32) + 2**31)
    return (joined.view(-1).sort().indices.view(-1, n) - number * n).view(rows.shape)


def _within_finite(falling: Tensor) -> Tensor:
    """Infinite entries replaced by the largest or smallest finite one of their row, or by 0."""
    ends: list[Tensor] = []

    def look(rows: Tensor) -> Tensor:
        outer = rows[..., [0, -1]]
        if outer.isnan().any():  # their bits are beyond those of infinity
            raise InputError("expected numbers to sort, got NaN; did the training diverge?")
        if outer.isinf().any():
            finite = rows.isfinite()
            low, high = rows.where(finite, torch.inf).amin(-1), rows.where(finite, -torch.inf).amax(-1)
            outer = torch.stack([high, low], -1).where(finite.any(-1, keepdim=True), 0.0)
            ends.append(outer)
        return outer

    limits = aside(look, falling)
    return falling.clamp(limits[..., 1:], limits[..., :1]) if ends else falling
