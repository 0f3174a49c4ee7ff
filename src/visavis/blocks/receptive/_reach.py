"""Which input positions reach each element of a tensor, along one axis of the input, and how operations move that.

A `Reach` stores, for every element, a vector of K numbers whose union over elements is the elementwise maximum:
``(-first, last)`` for intervals (K = 2), a mask for exact sets (K = length of the axis). Every operation is therefore a
gather and a maximum, whichever of the two is carried. A dimension along which nothing changes has length 1.

`closed` is what the operation computes: what lies in the padding reaches nothing. `open` is the field of an image
without an edge: positions in the padding are given the field that the pattern of the positions inside continues to.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

__all__ = ["FAR", "NOTHING", "NO_TAP", "Reach", "period_of"]

NOTHING = -(1 << 40)  # of ``-first`` and of ``last``: no position
FAR = 1 << 40  # of both: the whole image, however large
NO_TAP = -(1 << 30)  # a window's tap that is not there, unlike one that lies in the padding

Steps = dict[int, Fraction | None]


@dataclass(frozen=True)
class Reach:
    """The fields of a tensor of shape `shape` along one input axis.

    Attributes:
        closed: int64 [*dims, K], each dim the tensor's or 1.
        open: int64 [*dims, 2]; None where masks are carried.
        steps: of the dims that run along the input axis, the input positions a step; None: known not to be even.
        empty: what `closed` holds where nothing reaches.
    """

    shape: tuple[int, ...]
    closed: Tensor
    open: Tensor | None
    steps: Steps
    empty: int = NOTHING

    def windows(self, dim: int, taps: Tensor, step: Fraction | None) -> "Reach":
        """Output position o along `dim` reads positions ``taps[o]``; [out, taps], outside 0..n-1 in the padding."""
        n, out = self.shape[dim], len(taps)
        shape = (*self.shape[:dim], out, *self.shape[dim + 1 :])
        inside = (taps >= 0) & (taps < n)
        closed = self.closed
        if closed.shape[dim] == 1 and not bool(inside.any(1).all()):
            closed = _widened(closed, dim, n)
        if closed.shape[dim] > 1 or n == 1:
            closed = _gathered(closed, dim, taps.clamp(0, n - 1), inside, self.empty)
        opened = self.open
        if opened is not None and (opened.shape[dim] > 1 or dim in self.steps):
            wanted = taps[taps != NO_TAP]
            left = max(0, -int(wanted.min())) if len(wanted) else 0
            right = max(0, int(wanted.max()) - n + 1) if len(wanted) else 0
            wide = self._extended(_widened(opened, dim, n), dim, left, right)
            opened = _gathered(wide, dim, (taps + left).clamp(0, n + left + right - 1), taps != NO_TAP, NOTHING)
        steps = dict(self.steps)
        if dim in steps:
            before = steps[dim]
            steps[dim] = None if before is None or step is None else before * step
        return replace(
            self,
            shape=shape,
            closed=_narrow(closed, dim),
            open=_each(lambda tensor: _narrow(tensor, dim), opened),
            steps=steps,
        )

    def _extended(self, opened: Tensor, dim: int, left: int, right: int) -> Tensor:
        """`left` and `right` positions more, that continue the pattern."""
        n = opened.shape[dim]
        if not left and not right:
            return opened
        period, jump = period_of(opened, dim)
        if not period:  # too short to show a pattern: the step known from the operations before
            known = self.steps.get(dim)
            period = 1
            size = round(known) if known is not None else 0
            edge = torch.tensor([-size, size])
            jump_left = jump_right = edge.expand_as(opened.narrow(dim, 0, 1))
        else:
            jump_left = jump_right = jump
        places = torch.arange(-left, n + right)
        turns = torch.where(places < 0, -((-places + period - 1) // period), 0)
        turns = torch.where(places >= n, (places - n) // period + 1, turns)
        base = opened.index_select(dim, places - turns * period)
        count = turns.view(-1, *[1] * (opened.ndim - dim - 1))
        moved = base + count * torch.where(count < 0, jump_left, jump_right)
        return torch.where(base.abs() >= FAR // 2, base, moved)

    def reduced(self, dims: list[int], *, keep: bool) -> "Reach":
        """One value from all along `dims`; from all along an axis of the image: from the whole image."""
        dims = [dim % len(self.shape) for dim in dims]
        closed = self.closed.amax(dims, keepdim=True) if dims else self.closed
        opened = self.open.amax(dims, keepdim=True) if dims and self.open is not None else self.open
        if opened is not None and self.open is not None and any(dim in self.steps for dim in dims):
            intact = any(self.steps.get(dim) is not None for dim in dims)
            varied = any(self.open.shape[dim] > 1 for dim in dims)
            if intact or (varied and opened.shape[:-1].numel() == 1):
                opened = torch.where(opened > NOTHING, FAR, NOTHING).expand_as(opened)
        kept = replace(
            self,
            shape=tuple(1 if dim in dims else size for dim, size in enumerate(self.shape)),
            closed=closed,
            open=opened,
            steps={dim: step for dim, step in self.steps.items() if dim not in dims},
        )
        return kept if keep else kept.permuted([dim for dim in range(len(self.shape)) if dim not in dims])

    def spread(self, dims: list[int]) -> "Reach":
        """Every element along `dims` reads all of them, as softmax and FFT do."""
        shape = tuple(self.shape[dim] if dim in {d % len(self.shape) for d in dims} else 1 for dim in range(self.ndim))
        one = self.reduced(dims, keep=True)
        return one.expanded(tuple(max(a, b) for a, b in zip(one.shape, shape, strict=True)))

    @property
    def ndim(self) -> int:
        """Of the tensor."""
        return len(self.shape)

    def permuted(self, order: list[int]) -> "Reach":
        """Dims in another order; those left out have length 1, or are alike all along."""

        def moved(tensor: Tensor) -> Tensor:
            for dim in range(self.ndim):
                if dim not in order:
                    tensor = tensor.narrow(dim, 0, 1)
            rest = [dim for dim in range(self.ndim) if dim not in order]
            return tensor.permute(*rest, *order, self.ndim)[(0,) * len(rest)]

        steps = {place: self.steps[dim] for place, dim in enumerate(order) if dim in self.steps}
        shape = tuple(self.shape[dim] for dim in order)
        return replace(self, shape=shape, closed=moved(self.closed), open=_each(moved, self.open), steps=steps)

    def expanded(self, shape: tuple[int, ...]) -> "Reach":
        """Broadcast to `shape`; new dims come first."""
        new = len(shape) - self.ndim

        def moved(tensor: Tensor) -> Tensor:
            return tensor[(None,) * new]

        steps = {dim + new: step for dim, step in self.steps.items()}
        return replace(self, shape=shape, closed=moved(self.closed), open=_each(moved, self.open), steps=steps)

    def viewed(self, shape: tuple[int, ...]) -> "Reach":
        """The same elements in row-major order under another shape."""
        if shape == self.shape:
            return self
        steps: Steps = {}
        closed, opened = self.closed, self.open
        before, after = [], []
        for olds, news in _groups(self.shape, shape):
            before.append(olds)
            after.append(news)
            live = [dim for dim in olds if self.shape[dim] > 1]
            kept = [dim for dim in news if shape[dim] > 1]
            for dim in kept or news[:1]:
                if any(old in self.steps for old in olds):
                    intact = len(live) <= 1 and len(kept) <= 1 and len(olds) > 0
                    along = [old for old in olds if old in self.steps]
                    steps[dim] = self.steps[along[0]] if intact else None
        if not before:
            return replace(self, shape=shape)

        def moved(tensor: Tensor) -> Tensor:
            sizes: list[int] = []
            for olds, news in zip(before, after, strict=True):
                if all(tensor.shape[dim] == 1 for dim in olds):
                    sizes += [1] * len(news)
                else:
                    for dim in olds:
                        tensor = _widened(tensor, dim, self.shape[dim])
                    sizes += [shape[dim] for dim in news]
            tensor = tensor.reshape(*sizes, tensor.shape[-1])
            for dim, size in enumerate(sizes):
                if size > 1:
                    tensor = _narrow(tensor, dim)
            return tensor

        return replace(self, shape=shape, closed=moved(closed), open=_each(moved, opened), steps=steps)

    def joined(self, other: "Reach | None") -> "Reach":
        """The union with the field of another tensor of the same shape."""
        if other is None:
            return self
        opened = None if self.open is None or other.open is None else torch.maximum(self.open, other.open)
        steps = dict(self.steps)
        for dim, step in other.steps.items():
            steps[dim] = step if steps.get(dim, step) == step else None
        return replace(self, closed=torch.maximum(self.closed, other.closed), open=opened, steps=steps)

    def picked(self, places: Tensor) -> "Reach":
        """Element i of the result is the element of row-major number ``places[i]``; -1: none."""

        def moved(tensor: Tensor, empty: int) -> Tensor:
            for dim, size in enumerate(self.shape):
                tensor = _widened(tensor, dim, size)
            flat = torch.cat([tensor.reshape(-1, tensor.shape[-1]), tensor.new_full((1, tensor.shape[-1]), empty)])
            moved = flat[places.flatten()].view(*places.shape, tensor.shape[-1])
            for dim in range(places.ndim):
                moved = _narrow(moved, dim)
            return moved

        opened = None if self.open is None else moved(self.open, NOTHING)
        return replace(
            self,
            shape=tuple(places.shape),
            closed=moved(self.closed, self.empty),
            open=opened,
            steps=_steps(opened) if opened is not None else {},
        )

    def whole(self, shape: tuple[int, ...]) -> "Reach":
        """Every element of a tensor of `shape` reads every element of this one."""
        one = self.reduced(list(range(self.ndim)), keep=False)
        opened = None if one.open is None else torch.where(one.open > NOTHING, FAR, NOTHING)
        return replace(one, open=opened).expanded(shape)

    def cat_with(self, others: "list[Reach | None]", lengths: list[int], dim: int) -> "Reach":
        """Concatenated along `dim` with others, of these lengths; None: reached by nothing. This one is among them."""
        shape = (*self.shape[:dim], sum(lengths), *self.shape[dim + 1 :])

        def moved(tensors: list[Tensor | None], empty: int) -> Tensor:
            known = [tensor for tensor in tensors if tensor is not None]
            dims = [max(tensor.shape[d] for tensor in known) for d in range(self.ndim)]
            parts = []
            for tensor, length in zip(tensors, lengths, strict=True):
                size = [*dims[:dim], length, *dims[dim + 1 :], known[0].shape[-1]]
                parts.append(known[0].new_full((1,), empty).expand(size) if tensor is None else tensor.expand(size))
            return _narrow(torch.cat(parts, dim), dim)

        closed = moved([None if one is None else one.closed for one in others], self.empty)
        opened = None if self.open is None else moved([None if one is None else one.open for one in others], NOTHING)
        steps = dict(self.steps)
        for other in others:
            for place, step in (other.steps if other else {}).items():
                steps[place] = step if steps.get(place, step) == step else None
        if dim in steps:
            steps[dim] = None
        return replace(self, shape=shape, closed=closed, open=opened, steps=steps)


def period_of(opened: Tensor, dim: int) -> tuple[int, Tensor]:
    """The smallest period after which all fields along `dim` have moved by the same, and by how much; 0: none seen."""
    n = opened.shape[dim]
    for period in range(1, n // 2 + 1):
        moved = opened.narrow(dim, period, n - period) - opened.narrow(dim, 0, n - period)
        first = moved.narrow(dim, 0, 1)
        if bool((moved == first).all()):
            return period, first
    return 0, opened.narrow(dim, 0, 1)


def _steps(opened: Tensor) -> Steps:
    """The dims along which fields move, and how far a step."""
    steps: Steps = {}
    for dim, size in enumerate(opened.shape[:-1]):
        if size > 1:
            period, jump = period_of(opened, dim)
            even = period and bool((jump[..., 1] == jump[..., 1].flatten()[0]).all())
            steps[dim] = Fraction(int(jump[..., 1].flatten()[0]), period) if even else None
    return steps


def _each(change: Callable[[Tensor], Tensor], tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else change(tensor)


def _widened(tensor: Tensor, dim: int, size: int) -> Tensor:
    return tensor.expand(*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]) if tensor.shape[dim] != size else tensor


def _narrow(tensor: Tensor, dim: int) -> Tensor:
    """Length 1 where nothing changes along `dim`."""
    if tensor.shape[dim] <= 1:
        return tensor
    first = tensor.narrow(dim, 0, 1)
    return first if bool((tensor == first).all()) else tensor


def _gathered(tensor: Tensor, dim: int, taps: Tensor, there: Tensor, empty: int) -> Tensor:
    """The maximum over the taps that are there."""
    out, count = taps.shape
    found = tensor.index_select(dim, taps.flatten()).reshape(*tensor.shape[:dim], out, count, *tensor.shape[dim + 1 :])
    if not bool(there.all()):
        mask = there.view(*[1] * dim, out, count, *[1] * (tensor.ndim - dim - 1))
        found = torch.where(mask, found, empty)
    return found.amax(dim + 1)


def _groups(olds: tuple[int, ...], news: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The least groups of dims of both shapes that hold the same number of elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(olds) or j < len(news):
        left, right = [i] if i < len(olds) else [], [j] if j < len(news) else []
        a, b = olds[i] if left else 1, news[j] if right else 1
        i, j = i + len(left), j + len(right)
        while a != b:
            if a < b:
                left.append(i)
                a *= olds[i]
                i += 1
            else:
                right.append(j)
                b *= news[j]
                j += 1
        groups.append((left, right))
    return groups
