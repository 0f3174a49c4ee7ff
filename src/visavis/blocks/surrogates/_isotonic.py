"""Isotonic regression by pooling adjacent violators, all rows and all violators of a row at once.

Both projections onto the permutahedron come down to it. ``first`` and ``second`` are rows [..., n] that fall from left
to right; a block of adjacent entries has one value,

- l2: ``mean(first) - mean(second)``,
- entropic: ``logsumexp(first) - logsumexp(second)``,

and the solution is the finest division into blocks whose values fall from left to right. Two adjacent blocks whose
values rise lie in one block of the solution, whatever happens around them; so all maximal runs of rising blocks can
be merged in one go, and usual rows need a few such rounds. An adversary, a staircase whose every merge causes just the
next, would need n. So once a round removes few blocks, the rest is merged one pair after the other in a linked list.
Rounds that remove a share of the blocks cost O(n) together, and so does the list.
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

_WORTH_A_ROUND = 1 / 8  # share of the blocks that a round has to remove for another to follow


def blocks(first: Tensor, second: Tensor, group: Tensor, *, entropic: bool) -> tuple[Tensor, Tensor]:
    """For every entry the index of its block's first entry, and that past its last; int64 [..., n].

    `group` falls from left to right, too: no block holds plus infinity, a finite number or minus infinity together.
    """
    bounds = aside(_entropic_bounds if entropic else _l2_bounds, first, second, group)
    return bounds[..., 0, :], bounds[..., 1, :]


class _Pool(torch.autograd.Function):
    """As a matrix it is symmetric: the backward pass is the forward pass, and so is the backward pass of that."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        sums = pad(x.double().cumsum(-1), (1, 0))  # in float64 their differences keep float32's precision
        return ((sums.gather(-1, end) - sums.gather(-1, start)) / (end - start)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return pool(grad, *ctx.saved_tensors), None, None


def pool(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The mean over the block of every entry."""
    means: Tensor = _Pool.apply(x, start, end)  # type: ignore[no-untyped-call]
    return means


def pool_exp(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The logsumexp over the block of every entry, of rows that fall from left to right."""
    top = x.detach().gather(-1, start)
    return (pool((x - top).exp(), start, end) * (end - start)).log() + top


def _l2_bounds(first: Tensor, second: Tensor, group: Tensor) -> Tensor:
    difference = (first - second).double()
    difference = difference - difference.mean(-1, keepdim=True)  # running sums over all rows stay small
    heads = _heads(group)
    return _bounds(torch.stack([difference, torch.ones_like(difference)]), heads, truediv, _add, add)


def _entropic_bounds(first: Tensor, second: Tensor, group: Tensor) -> Tensor:
    heads = _heads(group)
    return _bounds(torch.stack([first, second]).double(), heads, sub, _logaddexp, _logaddexp_pair)


def _heads(group: Tensor) -> Tensor:
    """Where a row begins, or a group of one."""
    heads = torch.zeros(group.shape, dtype=torch.bool, device=group.device)
    heads[..., 0] = True
    if group[..., 0].isinf().any() or group[..., -1].isinf().any():
        infinite = group.isinf()
        heads[..., 1:] |= (infinite[..., 1:] | infinite[..., :-1]) & (group[..., 1:] != group[..., :-1])
    return heads


def _bounds(
    state: Tensor,
    head: Tensor,
    value_of: Callable[[Any, Any], Any],
    merge: Callable[[Tensor, Tensor], Tensor],
    merge_pair: Callable[[float, float], float],
) -> Tensor:
    """The two bounds of every entry's block, [..., 2, n]; `state` [2, ..., n] is what `value_of` takes."""
    shape = head.shape
    state, head = state.reshape(2, -1), head.reshape(-1)
    starts = torch.arange(len(head), device=head.device)
    while True:
        value = value_of(*state)
        keep = head.clone()
        keep[1:] |= ~(value[1:] > value[:-1])
        kept = keep.nonzero().squeeze(1)
        removed = len(starts) - len(kept)
        if not removed:
            break
        few = removed < _WORTH_A_ROUND * len(starts)
        if few:
            kept = _settle(state, value, head, keep, value_of, merge_pair)
            starts = starts[kept]
            break
        state, starts, head = merge(state, kept), starts[kept], head[kept]
    lengths = pad(starts, (0, 1), value=math.prod(shape)).diff()
    start = (starts % shape[-1]).repeat_interleave(lengths)
    return torch.stack([start.view(shape), (start + lengths.repeat_interleave(lengths)).view(shape)], -2)


def _add(state: Tensor, kept: Tensor) -> Tensor:
    """Sums of the segments that begin at `kept`."""
    sums = pad(state.cumsum(1), (1, 0))
    return sums[:, pad(kept, (0, 1), value=state.shape[1])].diff(dim=1)


def _logaddexp(state: Tensor, kept: Tensor) -> Tensor:
    """The logsumexp of the segments that begin at `kept`."""
    lengths = pad(kept, (0, 1), value=state.shape[1]).diff()
    segment = torch.arange(len(kept), device=kept.device).repeat_interleave(lengths).expand(2, -1)
    top = state[:, kept].scatter_reduce(1, segment, state, "amax")
    sums = torch.zeros_like(top).scatter_add_(1, segment, (state - top.gather(1, segment)).exp())
    return sums.log() + top


def _logaddexp_pair(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high + math.log1p(math.exp(low - high))


def _settle(
    state: Tensor,
    value: Tensor,
    head: Tensor,
    keep: Tensor,
    value_of: Callable[[Any, Any], Any],
    merge_pair: Callable[[float, float], float],
) -> Tensor:
    """The blocks that begin a block of the solution; each violator draws in its neighbours until none violates."""
    first, second, values, heads = *state.tolist(), value.tolist(), [*head.tolist(), True]
    count = len(values)
    before, after, alive = list(range(-1, count)), list(range(1, count + 1)), [True] * count

    def absorb(left: int, right: int) -> None:
        first[left], second[left] = merge_pair(first[left], first[right]), merge_pair(second[left], second[right])
        values[left] = value_of(first[left], second[left])
        alive[right] = False
        after[left] = after[right]
        before[after[right]] = left

    for violator in (~keep).nonzero().squeeze(1).tolist():
        block = before[violator]
        if not alive[violator] or values[violator] <= values[block]:
            continue
        absorb(block, violator)
        while True:
            left, right = before[block], after[block]
            if not heads[right] and values[right] > values[block]:
                absorb(block, right)
            elif not heads[block] and values[block] > values[left]:
                absorb(left, block)
                block = left
            else:
                break
    return torch.tensor(alive, device=state.device).nonzero().squeeze(1)
