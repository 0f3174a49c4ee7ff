"""The softmax's sums over all classes but the true one, block by block, and their gradients: three products in all.

N: samples of all ranks, C: classes held here, or those of them that were sampled, K: sub-centres, D: features.
A logit is ``z[c, n] = gain[n] * cos[c, n]`` with ``cos[c, n] = w[c] . x[n] / |w[c]|`` and x of length 1.

Forward, a block of classes is one product ``W_block X'``, whose rows are scaled by ``1 / |w|`` while they are in the
cache, so no normalised copy of W is made. What stays is one [C, N] matrix, ``exp(z - shift)``. Backward turns a block
of it into ``G = dloss/dz / |w|``, which needs the other two products, ``G' W_block`` for the samples and ``D = G X``
for the classes. That a class's length has no say costs one look at D in the cache, ``dW = D - w (w . D) / |w|^2``.

The true class is left out of the sums: its logit is one number a sample, made by the margin from N rows of W.

Why no exponential leaves the range of its dtype: where all logits are known to lie in [-b, b] with ``e^-b`` and
``C e^b`` in that range, the shift is 0. Anywhere else it is the largest logit so far, sample by sample, so that the
largest term is 1; each block remembers the shift it was taken with.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from visavis.blocks.classes.ranks import Ranks
from visavis.errors import InputError

__all__ = ["OtherClasses", "Task"]

# Rows, logits and gradient of a block shall stay in the cache together.
_BLOCK_BYTES = {"cpu": 4 * 2**20}
_BLOCK_BYTES_ELSEWHERE = 256 * 2**20  # few launches; not measured


class Task(NamedTuple):
    """What is to be summed, apart from the tensors that have gradients."""

    labels: Tensor  # [N] int64, among the classes of all ranks
    first: int  # the class of the weight's first row
    subcenters: int
    normalize: bool  # cosines; else inner products
    bounded: bool  # all logits are known to need no shift
    others: Callable[[Tensor, Tensor], Tensor] | None  # of a margin that changes the other classes, too
    observe: Callable[[Tensor], None]  # is told the true classes' cosines before anything else is worked out
    chosen: Tensor | None  # [C] int64 ascending: the sampled classes, counted from `first`; None: all
    log_weights: Tensor | None  # [C]: log of the number of classes that each sampled one stands for
    smoothing: bool  # whether the sum of the logits is asked for
    keep: bool  # whether there will be a backward
    ranks: Ranks

    @property
    def composed(self) -> bool:
        """Whether a logit is more than a cosine times a gain; autograd then works out its slope, block by block."""
        return self.others is not None or self.subcenters > 1


class _Memory:
    """What lives from forward to backward, [R, N] for R rows, and the gradient of these rows, [R, D], in one place.

    Backward needs a block of the one for the last time before it has a block of the other, and goes through the blocks
    in order: the gradient is written where blocks that are done have been. This saves memory, and time: what is new to
    a process has to be mapped page by page, for a batch half as large as D some four per cent of a step.
    """

    def __init__(self, inputs: Tensor, rows: int, with_gradient: bool) -> None:
        self.samples, self.features = inputs.shape
        self.step = max(self.samples, self.features) if with_gradient else self.samples
        self.flat = inputs.new_empty(rows * self.step)

    def kept(self, here: slice) -> Tensor:
        """[r, N] of these rows."""
        start, rows = here.start * self.step, here.stop - here.start
        return self.flat[start : start + rows * self.samples].view(rows, self.samples)

    def gradient(self, here: slice) -> Tensor:
        """[r, D] of these rows; takes the place of what was kept for them and for rows before them."""
        return self.flat[here.start * self.features : here.stop * self.features].view(-1, self.features)


class _Block(NamedTuple):
    rows: Tensor  # [c * K, D] of the weight, in the dtype we work in
    here: slice  # of all C * K rows
    hits: tuple[Tensor, Tensor]  # the true classes within: their place among c, their sample
    log_weights: Tensor | None  # [c, 1]


class _True(NamedTuple):
    """The sub-centres nearest to the M samples whose class is held here, among those of their class."""

    samples: Tensor  # [M] int64
    places: Tensor  # [M] int64, among the C * K rows
    cosines: Tensor  # [M]
    rows: Tensor  # [M, D]
    scales: Tensor  # [M]: 1 / |row|


def _scales(rows: Tensor) -> Tensor:
    """``1 / |w|`` of each row; 1 for one of zeros, whose cosines so are 0 and whose gradient is finite."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return lengths.masked_fill_(lengths == 0, 1.0).reciprocal_()


class _Rows:
    """The rows of the weight that take part, and which of them are true classes."""

    def __init__(self, weight: Tensor, task: Task, directions: Tensor) -> None:
        self.task, self.directions = task, directions
        self.rows = weight.view(-1, task.subcenters, weight.shape[1])
        self.classes = len(self.rows) if task.chosen is None else len(task.chosen)
        bytes_each = task.subcenters * (len(directions) + 2 * weight.shape[1]) * directions.itemsize
        fitting = max(1, _BLOCK_BYTES.get(weight.device.type, _BLOCK_BYTES_ELSEWHERE) // bytes_each)
        self.per_block = min(fitting, self.classes)
        held = task.labels - task.first
        self.samples = ((held >= 0) & (held < len(self.rows))).nonzero().flatten()
        self.held = held[self.samples]  # [M]
        self.places = self.held if task.chosen is None else torch.searchsorted(task.chosen, self.held)  # [M] among C

    def blocks(self) -> Iterator[_Block]:
        """All rows in turn."""
        subcenters, log_weights = self.task.subcenters, self.task.log_weights
        places, order = self.places.sort()
        starts = range(0, self.classes, self.per_block)
        edges = torch.searchsorted(places, torch.tensor([*starts, self.classes], device=places.device)).tolist()
        for number, start in enumerate(starts):
            here = slice(start, min(start + self.per_block, self.classes))
            found = slice(edges[number], edges[number + 1])
            yield _Block(
                self._take(here).flatten(0, 1).to(self.directions.dtype),
                slice(here.start * subcenters, here.stop * subcenters),
                (places[found] - start, self.samples[order[found]]),
                None if log_weights is None else log_weights[here, None],
            )

    def true(self) -> _True:
        """Of this rank's classes."""
        rows = self.rows.index_select(0, self.held).to(self.directions.dtype)  # [M, K, D]
        scales = _scales(rows)
        cosines, nearest = ((rows @ self.directions[self.samples, :, None]).squeeze(2) * scales).max(1)
        each = torch.arange(len(nearest), device=nearest.device)
        places = self.places * self.task.subcenters + nearest
        return _True(self.samples, places, cosines.clamp(-1.0, 1.0), rows[each, nearest], scales[each, nearest])

    def _take(self, here: slice) -> Tensor:
        return self.rows[here] if self.task.chosen is None else self.rows.index_select(0, self.task.chosen[here])


def _logits(cosines: Tensor, true_cosines: Tensor, gains: Tensor, task: Task) -> Tensor:
    """[c * K, N] cosines to [c, N] logits where `task.composed`."""
    nearest = cosines.view(-1, task.subcenters, cosines.shape[1]).amax(1)
    return gains * (nearest if task.others is None else task.others(nearest, true_cosines))


class OtherClasses(torch.autograd.Function):
    """The sums over the classes, as one differentiable step.

    ``OtherClasses.apply(directions, gains, weight, task)`` takes [N, D], [N] and [C * K, D] and returns four times [N],
    of the classes of all ranks:

    - the true classes' cosines,
    - the lengths of their rows of the weight,
    - ``log sum exp`` of the other classes' logits,
    - the sum of the other classes' logits, zeros if not asked for.

    Backward, every rank is given the gradients of these in full. It returns those of the gains in full, those of the
    directions as far as its own classes have a part in them, and that of its weight: dense, or sparse where classes are
    sampled.
    """

    @staticmethod
    def forward(
        ctx: Any, directions: Tensor, gains: Tensor, weight: Tensor, task: Task
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First the true classes, then all others."""
        table = _Rows(weight, task, directions)
        true = table.true()
        known = directions.new_zeros(2, len(directions))
        known[:, true.samples] = torch.stack([true.cosines, 1.0 / true.scales])
        cosines, lengths = task.ranks.add(known)
        task.observe(cosines)

        inputs = directions if task.composed else directions * gains[:, None]
        scales = inputs.new_ones(table.classes * task.subcenters, 1)
        memory = _Memory(inputs, len(scales), ctx.needs_input_grad[2]) if task.keep else None
        shift = gains.new_full(gains.shape, 0.0 if task.bounded else torch.finfo(gains.dtype).min)
        total, smooth, shifts = torch.zeros_like(gains, dtype=torch.float64), torch.zeros_like(gains), []
        for block in table.blocks():
            products = torch.mm(block.rows, inputs.T, out=None if memory is None else memory.kept(block.here))
            if task.normalize:
                scales[block.here, 0] = _scales(block.rows)
                products.mul_(scales[block.here])
            logits = _logits(products, cosines, gains, task) if task.composed else products
            if task.smoothing:
                logits[block.hits] = 0.0
                smooth += (logits if block.log_weights is None else logits * block.log_weights.exp()).sum(0)
            if block.log_weights is not None:
                logits.add_(block.log_weights)
            logits[block.hits] = -torch.inf
            if not task.bounded:
                before, shift = shift, torch.maximum(shift, logits.amax(0))
                total *= (before - shift).exp()
                logits.sub_(shift)
            total += logits.exp_().sum(0)
            shifts.append(shift)
        others = total.log().to(shift.dtype) + shift

        everyone = task.ranks.gather(torch.stack([others, smooth]))
        others, smooth = everyone[:, 0].logsumexp(0), everyone[:, 1].sum(0)
        ctx.save_for_backward(directions, gains, weight, cosines, others, scales)
        ctx.task, ctx.shifts, ctx.memory = task, shifts, memory
        return cosines, lengths, others, smooth

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The other two products, block by block, then the true classes' rows."""
        if torch.is_grad_enabled():
            raise InputError("create_graph: expected False, got True; ClassSoftmax has first derivatives only")
        with torch.autocast(gradients[0].device.type, enabled=False):
            return OtherClasses._backward(ctx, *gradients)

    @staticmethod
    def _backward(ctx: Any, of_cosines: Tensor, of_lengths: Tensor, of_others: Tensor, of_smooth: Tensor) -> Any:
        directions, gains, weight, cosines, others, scales = ctx.saved_tensors
        needs_directions, needs_gains, needs_weight, _ = ctx.needs_input_grad
        task: Task = ctx.task
        memory, ctx.memory = ctx.memory, None
        if memory is None:
            raise InputError("retain_graph: expected one backward, got a second; the first one used up what was kept")
        table = _Rows(weight, task, directions)

        inputs = directions if task.composed else directions * gains[:, None]
        of_inputs, of_gains, of_true = torch.zeros_like(inputs), torch.zeros_like(gains), torch.zeros_like(gains)
        # Used block after block, for memory that is new to a process has to be mapped first.
        most = table.per_block * task.subcenters
        slopes_at, rows_at = inputs.new_empty(most, len(inputs)), inputs.new_empty(most, weight.shape[1])
        for block, shift in zip(table.blocks(), ctx.shifts, strict=True):
            held, scale, size = memory.kept(block.here), scales[block.here], len(block.rows)
            weights = None if block.log_weights is None else block.log_weights.exp()
            if task.composed:
                with torch.enable_grad():
                    leaf, true, gain = (tensor.detach().requires_grad_() for tensor in (held, cosines, gains))
                    logits = _logits(leaf, true, gain, task)
                slopes = (logits.detach() - others).exp_().mul_(of_others)
                if weights is not None:
                    slopes.mul_(weights)
            else:
                slopes = torch.mul(held, (shift - others).exp_().mul_(of_others), out=slopes_at[:size])
            if task.smoothing:
                slopes.add_(of_smooth if weights is None else of_smooth * weights)
            slopes[block.hits] = 0.0
            if task.composed:
                slopes, *more = torch.autograd.grad(logits, (leaf, true, gain), slopes, materialize_grads=True)
                of_true += more[0]
                of_gains += more[1]
            if task.normalize:
                slopes.mul_(scale)
            if needs_directions or needs_gains:
                of_inputs.addmm_(slopes.T, block.rows)
            if needs_weight:
                found = torch.mm(slopes, inputs, out=memory.gradient(block.here))
                if task.normalize:
                    along = torch.mul(found, block.rows, out=rows_at[:size]).sum(1, keepdim=True)
                    found.addcmul_(block.rows, along.mul_(scale).mul_(scale), value=-1)

        of_directions = of_inputs
        if not task.composed:
            of_directions, of_gains = of_inputs * gains[:, None], (of_inputs * directions).sum(1)
        if needs_gains:
            task.ranks.add(of_gains)
        if task.others is not None:
            of_cosines = of_cosines + task.ranks.add(of_true)
        of_rows = memory.gradient(slice(0, len(scales))) if needs_weight else None
        _add_true_classes(table, of_cosines, of_lengths, of_directions, of_rows)
        return of_directions, of_gains, _in_place(of_rows, weight, task), None


def _add_true_classes(
    table: _Rows, of_cosines: Tensor, of_lengths: Tensor, of_directions: Tensor, of_rows: Tensor | None
) -> None:
    """What the gradients [N] of the true classes' cosines and lengths add to those of samples and rows."""
    true = table.true()
    units = true.rows * true.scales[:, None]
    of_cosines, of_lengths = of_cosines[true.samples, None], of_lengths[true.samples, None]
    of_directions.index_add_(0, true.samples, of_cosines * units)
    if of_rows is not None:
        sideways = (table.directions[true.samples] - true.cosines[:, None] * units) * true.scales[:, None]
        of_rows.index_add_(0, true.places, of_cosines * sideways + of_lengths * units)


def _in_place(of_rows: Tensor | None, weight: Tensor, task: Task) -> Tensor | None:
    """The gradient of the weight out of that of the rows that took part."""
    if of_rows is None:
        return None
    of_rows = of_rows.to(weight.dtype)
    if task.chosen is None:
        return of_rows
    each = torch.arange(task.subcenters, device=weight.device)
    rows = (task.chosen[:, None] * task.subcenters + each).flatten()
    return torch.sparse_coo_tensor(rows[None], of_rows, weight.shape, is_coalesced=True, check_invariants=False)
