"""Sparse stand-ins for the softmax: rows that sum to 1 in which what falls behind is exactly 0.

All are ``[(alpha - 1) x - t]+ ^ (1 / (alpha - 1))`` with the threshold t at which they sum to 1; alpha = 1 would be the
softmax, 2 is the projection onto the simplex. Few entries of a long row can be above
it; they are found in one pass, and the threshold among them, without sorting.

n: entries along the axis. Entries of minus infinity are left out: they get 0.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from visavis.blocks.surrogates._rows import aside, peaks, wide
from visavis.errors import InputError

__all__ = ["entmax", "entmax15", "sparsemax"]

_GROUP = 16
_MANY = 1 / 2  # share of the groups from which on all entries are looked at


def sparsemax(x: Tensor, *, dim: int = -1) -> Tensor:
    """The point of the simplex nearest to `x`: ``[x - t]+``.

    For ``x / temperature`` and temperature to 0 it tends to the one-hot argmax, and is that as soon as the largest
    entry is ahead of the next by `temperature`. The threshold is found by Newton's method, which on this convex,
    piecewise linear function ends with the exact one (Michelot's algorithm).

    Args:
        x: float [..., n, ...]; half precision is computed in float32.
        dim: the axis of n.

    Returns:
        Shape and dtype of `x`; rows sum to 1.

    Raises:
        TensorError: `x` is not float, or empty along `dim`.
        InputError: a row of nothing but minus infinity, or with plus infinity or NaN.

    Source: Martins and Astudillo, From Softmax to Sparsemax, ICML 2016, arXiv:1602.02068; Michelot, 1986.

    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return _entmax(x, 2.0, dim)


def entmax15(x: Tensor, *, dim: int = -1) -> Tensor:
    """Half way from softmax to `sparsemax`: ``[x / 2 - t]+ ^ 2``, sparse and without a kink where an entry becomes 0.

    For ``x / temperature`` and temperature to 0 it tends to the one-hot argmax, and is that as soon as the largest
    entry is ahead of the next by twice the temperature. Arguments and errors as `sparsemax`.

    Source: Peters, Niculae and Martins, Sparse Sequence-to-Sequence Models, ACL 2019, arXiv:1905.05702.

    >>> entmax15(torch.tensor([1.0, 1.0, -2.0]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    return _entmax(x, 1.5, dim)


def entmax(x: Tensor, *, alpha: float, dim: int = -1) -> Tensor:
    """The whole family: ``[(alpha - 1) x - t]+ ^ (1 / (alpha - 1))``, softmax for alpha = 1 and `sparsemax` for 2.

    It maximises ``<p, x> + (1 - sum p^alpha) / (alpha (alpha - 1))`` over the simplex. For ``x / temperature`` and
    temperature to 0 it tends to the one-hot argmax, and is that as soon as the largest entry is ahead of the next by
    ``temperature / (alpha - 1)``. The threshold is found to rounding, by Newton's method or, above 2, bisection.

    Args:
        x: float [..., n, ...]; half precision is computed in float32.
        alpha: at least 1. No gradient goes to it.
        dim: the axis of n.

    Returns:
        Shape and dtype of `x`; rows sum to 1.

    Raises:
        TensorError: `x` is not float, or empty along `dim`.
        InputError: as `sparsemax`, unless alpha is 1; `alpha` out of range.

    Source: as `entmax15`, after Tsallis, 1988.

    >>> entmax(torch.tensor([1.0, 0.5, -1.0]), alpha=2.0)
    tensor([0.7500, 0.2500, 0.0000])
    """
    if not 1.0 <= alpha < torch.inf:
        raise InputError(f"alpha: expected at least 1, got {alpha}")
    return x.softmax(dim) if alpha == 1.0 else _entmax(x, alpha, dim)


class _Support(torch.autograd.Function):
    """The weights above 0 and their columns, [..., K], short rows padded with weights of 0.

    All that follows is done on these few; the matrix of derivatives, ``diag(s) - s s^T / sum(s)`` with
    ``s = weights^(2 - alpha)``, is symmetric.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        return aside(partial(_solve, alpha=alpha), rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)
        ctx.n, ctx.alpha = inputs[0].shape[-1], inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, None]:
        weights, columns = ctx.saved_tensors
        return _spread(_through(grad, weights, ctx.alpha), columns, ctx.n), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> tuple[Tensor, None]:
        weights, columns = ctx.saved_tensors
        return _through(tangent.gather(-1, columns), weights, ctx.alpha), None


def _entmax(x: Tensor, alpha: float, dim: int) -> Tensor:
    rows = wide("x", x, dim)
    weights, columns = _Support.apply(rows, alpha)  # type: ignore[no-untyped-call]
    return _spread(weights, columns, rows.shape[-1]).to(x.dtype).movedim(-1, dim)


def _spread(entries: Tensor, columns: Tensor, n: int) -> Tensor:
    """[..., K] in its columns of [..., n], and 0 elsewhere."""
    return entries.new_zeros(*entries.shape[:-1], n).scatter_add(-1, columns, entries)


def _through(change: Tensor, weights: Tensor, alpha: float) -> Tensor:
    slope = _power(weights, 2.0 - alpha)
    by_entry = change * slope
    return by_entry - slope * (by_entry.sum(-1, keepdim=True) / slope.sum(-1, keepdim=True))


def _power(y: Tensor, exponent: float) -> Tensor:
    """``y ^ exponent`` where y is above 0, and 0 with a slope of 0 elsewhere."""
    if exponent == 0.0:
        return y.detach().sign()
    above = y > 0
    return torch.where(above, torch.where(above, y, 1.0).pow(exponent), 0.0)


def _solve(rows: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
    """The weights above 0 and their columns.

    The threshold of some of the entries is at most that of all. So that of the largest of every `_GROUP` entries tells
    which groups can hold an entry above the threshold, and after one pass over all that exist only those are looked at.

    Raises:
        InputError: the largest entry of a row is infinite or NaN.
    """
    n, power = rows.shape[-1], 1.0 / (alpha - 1.0)
    if not rows.numel():
        return rows[..., :1], torch.zeros_like(rows[..., :1], dtype=torch.int64)
    flat = rows.reshape(-1, n)
    width = -(-n // _GROUP)
    if n % _GROUP:
        flat = pad(flat, (0, width * _GROUP - n), value=-torch.inf)
    groups = flat.view(-1, _GROUP, width)
    tops = groups.amax(1)
    largest = peaks(tops)
    tops = (tops - largest) * (alpha - 1.0)
    low = _threshold(tops, power, steps=4)
    close = tops > low
    if int(close.count_nonzero()) > close.numel() * _MANY:
        table = ((flat - largest) * (alpha - 1.0))[:, :n]
        columns = torch.arange(n, device=rows.device).expand(len(table), n)
    else:
        table, columns = _candidates(groups, close, (largest, low), alpha)
    weights = (table - _threshold(table, power, steps=100)).clamp_(min=0.0).pow_(power)
    weights /= weights.sum(-1, keepdim=True)
    shape = (*rows.shape[:-1], -1)
    return weights.to(rows.dtype).view(shape), columns.view(shape)


def _candidates(groups: Tensor, close: Tensor, bounds: tuple[Tensor, Tensor], alpha: float) -> tuple[Tensor, Tensor]:
    """The entries of the groups that are `close`, as far as they are above the lower bound, and their columns."""
    largest, low = bounds
    row, group = close.nonzero(as_tuple=True)
    found = ((groups[row, :, group] - largest[row]) * (alpha - 1.0)).double()
    which, member = (found > low[row]).nonzero(as_tuple=True)
    found, row, column = found[which, member], row[which], member * groups.shape[-1] + group[which]
    counts = row.bincount(minlength=len(groups))
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    table = found.new_full((len(groups), int(counts.max())), -torch.inf)
    table[row, place] = found
    columns = torch.zeros_like(table, dtype=torch.int64)
    columns[row, place] = column
    return table, columns


def _threshold(x: Tensor, power: float, *, steps: int) -> Tensor:
    """The t with ``sum [x - t]+ ^ power = 1``, of rows whose largest entry is 0; never above it but for rounding.

    The left side to the power ``1 / power`` is a norm: for ``power >= 1`` it is convex, and Newton's method climbs to
    the root from ``t = -1`` without overshooting, for ``power = 1`` in finitely many steps. Else, bisection.
    """
    low = x.new_full((*x.shape[:-1], 1), -1.0)
    if power < 1.0:
        high = torch.zeros_like(low)
        for _ in range(steps):
            middle = (low + high) / 2
            over = (x - middle).clamp_(min=0.0).pow_(power).sum(-1, keepdim=True) >= 1.0
            low, high = torch.where(over, middle, low), torch.where(over, high, middle)
        return low
    for _ in range(steps):
        above = (x - low).clamp_(min=0.0)
        slope = above.sign() if power == 1.0 else above.pow(power - 1.0)
        total = (slope * above).sum(-1, keepdim=True)
        step = (total - total.pow(1.0 - 1.0 / power)) / slope.sum(-1, keepdim=True)
        low = low + step.clamp_(min=0.0)
        if step.max() <= torch.finfo(x.dtype).eps:
            break
    return low
