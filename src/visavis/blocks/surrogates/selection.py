"""Choosing by a threshold, smoothly: the k largest entries, quantiles and the median.

How many entries lie above a threshold t becomes ``sum sigmoid((x - t) / T)``, which falls from n to 0 as t rises: the
threshold for a wanted number is one root, found without sorting. The implicit function theorem gives it a gradient,
``weights / sum(weights)`` with the sigmoids' slopes as weights. The steps are those of `elementary`: the threshold is
the exact quantile of the entries blurred by logistic noise of scale T.

Half precision is computed in float32. n: entries along the axis.
"""

from typing import Any

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import aside, check_positive, wide
from visavis.errors import InputError, TensorError

__all__ = ["exact_median", "exact_quantile", "exact_top_k", "median", "quantile", "top_k"]


def top_k(x: Tensor, k: int, *, dim: int = -1, temperature: float) -> Tensor:
    """A mask in [0, 1] of the k largest entries along `dim`, which sums to k: `exact_top_k`, smoothed.

    Where the k-th largest entry is ahead of the next by a gap, no entry of the mask is farther from the exact one than
    ``m exp(-gap / 2T)``, m the larger of k and ``n - k``. Entries of minus infinity are left out.

    Args:
        x: float [..., n, ...].
        k: from 1 to the number of finite entries of every row.
        dim: the axis of n.
        temperature: positive, in units of `x`.

    Raises:
        TensorError: `x` is not float, or empty along `dim`.
        InputError: `k` or `temperature` out of range; plus infinity or NaN.

    >>> top_k(torch.tensor([0.9, 0.1, 0.5, 0.4]), 2, temperature=0.1)
    tensor([0.9886, 0.0283, 0.6140, 0.3691])
    """
    check_positive("temperature", temperature)
    rows = wide("x", x, dim)
    present = _present(rows, k)
    # All that are there are asked for: no threshold is low enough.
    every = present.sum(-1, keepdim=True) == k
    target = torch.full_like(every, k, dtype=rows.dtype)
    y = (rows - _threshold(rows, present, target.where(~every, k / 2), temperature)) / temperature
    return torch.where(every, present.to(rows.dtype), y.sigmoid()).to(x.dtype).movedim(-1, dim)


def exact_top_k(x: Tensor, k: int, *, dim: int = -1) -> Tensor:
    """1 at the k largest entries along `dim` and 0 elsewhere; entries that tie for the last places share them evenly.

    Arguments and errors as `top_k`.

    >>> exact_top_k(torch.tensor([0.9, 0.4, 0.4, 0.1]), 2)
    tensor([1.0000, 0.5000, 0.5000, 0.0000])
    """
    rows = wide("x", x, dim)
    _present(rows, k)
    last = rows.topk(k, -1).values[..., -1:]
    above, tied = (rows > last).to(rows.dtype), (rows == last).to(rows.dtype)
    share = (k - above.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True)
    return (above + share * tied).to(x.dtype).movedim(-1, dim)


def quantile(x: Tensor, q: float, *, dim: int = -1, temperature: float, mask: Tensor | None = None) -> Tensor:
    """The q-quantile along `dim`, with a gradient for more than two entries: `exact_quantile`, smoothed.

    The exact quantile interpolates between the order statistics below and above place ``q (n - 1)``, counted from 0.
    Each of the two, of place j, becomes the threshold that has ``j + 1/2`` of the blurred entries below it, which lies
    between ``T log(2 (n - j) - 1)`` below the exact one and ``T log(2 j + 1)`` above it. The gradient's weights are
    positive and sum to 1.

    Args:
        x: float [..., n, ...], finite where it counts.
        q: in [0, 1].
        dim: the axis of n, which the result does not have.
        temperature: positive, in units of `x`.
        mask: bool, shape of `x`: which entries count; at least one of each row.

    Raises:
        TensorError: `x` is not float, or empty along `dim`; `mask` is of another type or shape.
        InputError: `q` or `temperature` out of range, an entry not finite, a row with nothing that counts.

    >>> quantile(torch.tensor([0.0, 3.0, 1.0, 2.0]), 0.5, temperature=0.01)
    tensor(1.5000)
    """
    check_positive("temperature", temperature)
    rows, present = _masked(x, q, dim, mask)
    place = q * (present.sum(-1, keepdim=True) - 1).to(rows.dtype)
    below = place.floor()
    above = (below + 1).minimum(present.sum(-1, keepdim=True) - 1)
    count = present.sum(-1, keepdim=True)
    low, high = (_threshold(rows, present, count - at - 0.5, temperature) for at in (below, above))
    return (low + (place - below) * (high - low)).squeeze(-1).to(x.dtype)


def exact_quantile(x: Tensor, q: float, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The q-quantile along `dim`, interpolated linearly, of any number of entries (`torch.quantile` takes 2^24).

    Arguments and errors as `quantile`.

    >>> exact_quantile(torch.tensor([0.0, 3.0, 1.0, 2.0]), 0.5)
    tensor(1.5000)
    """
    rows, present = _masked(x, q, dim, mask)
    order = rows.where(present, torch.inf).sort(-1).values
    last = present.sum(-1, keepdim=True) - 1
    place = q * last.double()
    low, high = order.gather(-1, place.floor().long()), order.gather(-1, place.ceil().long())
    return (low + place.frac().to(rows.dtype) * (high - low)).squeeze(-1).to(x.dtype)


def median(x: Tensor, *, dim: int = -1, temperature: float, mask: Tensor | None = None) -> Tensor:
    """The middle entry along `dim`, or the mean of the two in the middle: `quantile` at 1/2.

    `torch.median` is the lower of the two.

    >>> median(torch.tensor([0.0, 3.0, 1.0, 2.0]), temperature=0.01)
    tensor(1.5000)
    """
    return quantile(x, 0.5, dim=dim, temperature=temperature, mask=mask)


def exact_median(x: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The middle entry along `dim`, or the mean of the two in the middle: `exact_quantile` at 1/2.

    >>> exact_median(torch.tensor([0.0, 3.0, 1.0, 2.0]))
    tensor(1.5000)
    """
    return exact_quantile(x, 0.5, dim=dim, mask=mask)


def _present(rows: Tensor, k: int) -> Tensor:
    """Which entries are there.

    Raises:
        InputError: plus infinity, NaN, or fewer than `k` are there.
    """

    def look(rows: Tensor) -> Tensor:
        if not (rows < torch.inf).all():
            raise InputError("x: expected finite numbers, or minus infinity to leave out, got infinity or NaN")
        present = rows > -torch.inf
        if not 1 <= k <= int(present.sum(-1).amin()):
            raise InputError(f"k: expected from 1 to the number of entries of a row, got {k}; are too many masked out?")
        return present

    return aside(look, rows)


def _masked(x: Tensor, q: float, dim: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if not 0.0 <= q <= 1.0:
        raise InputError(f"q: expected a share in [0, 1], got {q}")
    rows = wide("x", x, dim)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape):
        dtype = str(mask.dtype).removeprefix("torch.")
        raise TensorError(f"mask: expected bool {list(x.shape)}, got {dtype} {list(mask.shape)}")
    present = torch.ones_like(rows, dtype=torch.bool) if mask is None else mask.movedim(dim, -1)

    def look(rows: Tensor, present: Tensor) -> Tensor:
        if not present.any(-1).all():
            raise InputError("mask: expected at least one entry that counts in every row")
        if not (rows.isfinite() | ~present).all():
            raise InputError("x: expected finite numbers, got infinity or NaN; leave out by `mask` what is not there")
        return present

    return rows, aside(look, rows, present)


def _threshold(rows: Tensor, present: Tensor, target: Tensor, temperature: float) -> Tensor:
    """The t, [..., 1], above which `target` of the blurred entries that are there lie; 0 < target < their number."""
    scaled = rows.where(present, -torch.inf) / temperature
    t: Tensor = _Threshold.apply(scaled, target)  # type: ignore[no-untyped-call]
    return temperature * t


class _Threshold(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scaled: Tensor, target: Tensor) -> Tensor:
        return aside(_root, scaled, target)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * _slopes(*ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return (tangent * _slopes(*ctx.saved_tensors)).sum(-1, keepdim=True)


def _slopes(scaled: Tensor, t: Tensor) -> Tensor:
    """The sigmoids' slopes at the threshold, as weights that sum to 1; by their logarithms, as all may be tiny."""
    difference = scaled - t
    slope = torch.nn.functional.logsigmoid(difference) + torch.nn.functional.logsigmoid(-difference)
    return slope.softmax(-1)


def _root(scaled: Tensor, target: Tensor) -> Tensor:
    """By bisection, and Newton's method as long as it stays within; both ends follow from ``sigmoid(-x) < exp(-x)``."""
    x = scaled.double()
    present = x > -torch.inf
    count, target = present.sum(-1, keepdim=True), target.double()
    low = x.where(present, torch.inf).amin(-1, keepdim=True) - (count / (count - target)).log()
    high = x.amax(-1, keepdim=True) + (count / target).log()
    t = (low + high) / 2
    for _ in range(200):
        above = (x - t).sigmoid()
        surplus = above.sum(-1, keepdim=True) - target
        low, high = torch.where(surplus > 0, t, low), torch.where(surplus > 0, high, t)
        step = t + surplus / (above * (1 - above)).sum(-1, keepdim=True)
        new = torch.where((step > low) & (step < high), step, (low + high) / 2)
        new = torch.where(surplus == 0, t, new)  # in the middle of a gap, not at its end
        if bool(((new - t).abs() <= 1e-15 * (1 + t.abs())).all()):
            break
        t = new
    return t.to(scaled.dtype)
