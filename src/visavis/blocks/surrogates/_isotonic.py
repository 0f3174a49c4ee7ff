"""Isotonic regression by pooling adjacent violators, all rows and all violators of a row at once.

Both projections onto the permutahedron come down to it. ``first`` and ``second`` are rows [..., n] that fall from left
to right; a block of adjacent entries has one value,

- l2: ``mean(first) - mean(second)``,
- entropic: ``logsumexp(first) - logsumexp(second)``,

and the solution is the finest division into blocks whose values fall from left to right. Two adjacent blocks whose
values rise lie in one block of the solution, whatever happens around them; so all maximal runs of rising blocks are
merged in one go. Where that goes slowly (scores from a bell curve make one block in the middle, which draws in its
neighbours one after the other) a block draws in at once all that it would by itself. Nothing bounds the rounds that an
adversary can ask for, so after `_ROUNDS` of them the rest is merged pair by pair in a linked list, O(n) in all.
"""

import math
from collections.abc import Callable
from operator import add, sub, truediv
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from visavis.blocks.surrogates._rows import aside

__all__ = ["blocks", "pool", "pool_exp"]

_ROUNDS = 20
_CASCADE = 0.4  # a round that removes more than this share of what the one before did will be followed by many


def blocks(first: Tensor, second: Tensor, group: Tensor, *, entropic: bool) -> tuple[Tensor, Tensor]:
    """For every entry the index of its block's first entry, and that past its last; int64 [..., n].

    `group` falls from left to right, too: no block holds plus infinity, a finite number or minus infinity together.
    """
    return aside(_entropic_bounds if entropic else _l2_bounds, first, second, group)


class _Pool(torch.autograd.Function):
    """As a matrix it is symmetric: the backward pass is the forward pass, and so is the backward pass of that."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        sums = pad(x.cumsum(-1, dtype=torch.float64), (1, 0))  # in float64 differences keep float32's precision
        return ((sums.gather(-1, end) - sums.gather(-1, start)) / (end - start)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return pool(grad, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return pool(tangent, *ctx.saved_tensors)


def pool(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The mean over the block of every entry."""
    means: Tensor = _Pool.apply(x, start, end)  # type: ignore[no-untyped-call]
    return means


def pool_exp(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The logsumexp over the block of every entry, of rows that fall from left to right."""
    top = x.detach().gather(-1, start)
    return (pool((x - top).exp(), start, end) * (end - start)).log() + top


def _l2_bounds(first: Tensor, second: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    difference = (first - second).double()
    difference -= difference.mean(-1, keepdim=True)  # running sums over all rows stay small
    sums = pad(difference.view(-1).cumsum(0), (1, 0))
    bounds = torch.arange(len(sums), device=sums.device, dtype=torch.float64)
    inner = _inner(group)
    value, last = difference.view(-1), math.inf
    for _ in range(_ROUNDS):
        rising = (value[1:] > value[:-1]).logical_and_(inner[1:])
        removed = int(rising.count_nonzero())
        if not removed:
            break
        if removed > _CASCADE * last:
            rising = _far(value, rising, inner, sums, bounds)
        kept = pad(~rising, (1, 1), value=True).nonzero().squeeze(1)
        sums, bounds, inner = sums.index_select(0, kept), bounds.index_select(0, kept), inner.index_select(0, kept[:-1])
        value, last = sums.diff() / bounds.diff(), removed
    else:
        bounds = bounds[_settle(torch.stack([sums.diff(), bounds.diff()]), inner, truediv, add)]
    return _spread(bounds.long(), group.shape)


def _far(value: Tensor, rising: Tensor, inner: Tensor, sums: Tensor, bounds: Tensor) -> Tensor:
    """The inner bounds that fall when at every rising pair each block draws in all it would of the other's side.

    Between two rising pairs lies a chain of blocks whose values fall. Its last block would draw in those of the next
    chain that lie above the mean from its own start to their end; the first block of the next, those of this chain
    that lie below the mean from their start to its own end.
    """
    begins = pad(rising, (1, 0)).logical_or_(~inner)
    firsts = begins.nonzero().squeeze(1)
    chain = begins.cumsum(0) - 1
    meets = inner.index_select(0, firsts)  # the chain before is of the same row
    origin, goal = (firsts - 1).clamp_min(0), pad(firsts[1:] + 1, (0, 1))
    # NaN where there is no chain to meet: no comparison with it holds.
    sums_of_origin = sums[origin].where(meets, math.nan).index_select(0, chain)
    sums_of_goal = sums[goal].where(pad(meets[1:], (0, 1)), math.nan).index_select(0, chain)
    mean = (sums[1:] - sums_of_origin) / (bounds[1:] - bounds[origin].index_select(0, chain))
    drawn = value > mean
    mean = (sums_of_goal - sums[:-1]) / (bounds[goal].index_select(0, chain) - bounds[:-1])
    return drawn[1:].logical_or_((value < mean)[:-1])


def _entropic_bounds(first: Tensor, second: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    state = torch.stack([first, second]).double().view(2, -1)
    inner = _inner(group)
    bounds = torch.arange(len(inner) + 1, device=inner.device)
    for _ in range(_ROUNDS):
        value = state[0] - state[1]
        rising = (value[1:] > value[:-1]).logical_and_(inner[1:])
        if not rising.any():
            break
        kept = pad(~rising, (1, 1), value=True).nonzero().squeeze(1)
        bounds = bounds[kept]
        state, inner = _logaddexp(state, kept), inner[kept[:-1]]
    else:
        bounds = bounds[_settle(state, inner, sub, _logaddexp_pair)]
    return _spread(bounds, group.shape)


def _inner(group: Tensor) -> Tensor:
    """False where a row begins, or a group of one."""
    inner = torch.ones(group.shape, dtype=torch.bool, device=group.device)
    inner[..., 0] = False
    if group[..., 0].isinf().any() or group[..., -1].isinf().any():
        infinite = group.isinf()
        inner[..., 1:] &= ~(infinite[..., 1:] | infinite[..., :-1]) | (group[..., 1:] == group[..., :-1])
    return inner.view(-1)


def _spread(bounds: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The bounds of every entry's block, [..., n] each, from those of all blocks of all rows."""
    lengths = bounds.diff()
    block = torch.arange(len(lengths), device=bounds.device).repeat_interleave(lengths, output_size=shape.numel())
    start = bounds[:-1] % shape[-1]
    return start.index_select(0, block).view(shape), (start + lengths).index_select(0, block).view(shape)


def _logaddexp(state: Tensor, kept: Tensor) -> Tensor:
    """The logsumexp of the segments between the bounds that are kept."""
    segment = torch.arange(len(kept) - 1, device=kept.device).repeat_interleave(kept.diff()).expand(2, -1)
    top = state[:, kept[:-1]].scatter_reduce(1, segment, state, "amax")
    sums = torch.zeros_like(top).scatter_add_(1, segment, (state - top.gather(1, segment)).exp())
    return sums.log() + top


def _logaddexp_pair(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high + math.log1p(math.exp(low - high))


def _settle(
    state: Tensor, inner: Tensor, value_of: Callable[[Any, Any], Any], merge: Callable[[float, float], float]
) -> Tensor:
    """The bounds that are left when every violator has drawn in its neighbours until none violates."""
    value = value_of(*state)
    violators = pad((value[1:] > value[:-1]) & inner[1:], (1, 0)).nonzero().squeeze(1).tolist()
    first, second, values, inners = *state.tolist(), value.tolist(), [*inner.tolist(), False]
    count = len(values)
    before, after, alive = list(range(-1, count)), list(range(1, count + 1)), [True] * (count + 1)

    def absorb(left: int, right: int) -> None:
        first[left], second[left] = merge(first[left], first[right]), merge(second[left], second[right])
        values[left] = value_of(first[left], second[left])
        alive[right] = False
        after[left] = after[right]
        before[after[right]] = left

    for violator in violators:
        block = before[violator]
        if not alive[violator] or values[violator] <= values[block]:
            continue
        absorb(block, violator)
        while True:
            left, right = before[block], after[block]
            if inners[right] and values[right] > values[block]:
                absorb(block, right)
            elif inners[block] and values[block] > values[left]:
                absorb(left, block)
                block = left
            else:
                break
    return torch.tensor(alive, device=state.device).nonzero().squeeze(1)
