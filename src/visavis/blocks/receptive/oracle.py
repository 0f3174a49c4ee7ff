"""The network itself as the judge: which positions of its input turn a position of its output into NaN.

A NaN survives every sum and product, times zero too. With NaNs in positions 0..k-1 of one axis, a position of the
output is NaN if and only if something below k reaches it: its `low` is the largest k that leaves it a number. From the
other end NaNs in k.. find its `high`. No table of layers is involved, so an error in ours has nowhere to hide.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from visavis.blocks.receptive.fields import Axis, Fields
from visavis.errors import InputError

__all__ = ["Mismatch", "Verification", "measure", "verify"]


@dataclass(frozen=True)
class Mismatch:
    """A layer's position that is NaN and should not be, or the other way round."""

    layer: str
    axis: int
    position: tuple[int, ...]
    nan_positions: range
    predicted: bool


@dataclass(frozen=True)
class Verification:
    """What `Fields.verify` found.

    Attributes:
        forwards: passes of the network.
        checks: comparisons of one position of one layer with one pass.
        pinned: ends of intervals, of all layers and positions, found to the pixel; `ends`: how many there are.
        mismatches: up to three a layer and pass.
        silent: layers in which NaNs never showed, such as those of integers.
    """

    forwards: int
    checks: int
    pinned: int
    ends: int
    mismatches: tuple[Mismatch, ...] = field(repr=False)
    silent: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differed."""
        return not self.mismatches


def measure(
    model: nn.Module, input_shape: tuple[int, ...], *, position: tuple[int, ...] | None = None, layer: str = ""
) -> list[range]:
    """The field of one output position, by bisection: about ``2 log2(length)`` forward passes an axis.

    Args:
        model: with its weights; runs in evaluation mode.
        input_shape: as in `fields`.
        position: of the layer's output after batch and channels; the middle by default. NaN in any channel counts.
        layer: the name of a module; the network by default.

    Returns:
        The hull of the positions that reach it along each axis; an empty range where nothing does.

    Raises:
        InputError: weights without memory, or no such layer.

    >>> measure(nn.Conv2d(1, 1, 3, dilation=4), (1, 32, 32))
    [range(12, 21), range(12, 21)]
    """
    image = _image(model, input_shape, seed=0)
    found = []
    with _evaluation(model, training=False), _outputs(model, {layer: 0}) as outputs:

        def reached(axis: int, nans: range) -> bool:
            outputs.clear()
            model(_with_nans(image, axis, nans))
            if layer not in outputs:
                raise InputError(f"layer: expected the name of a module that ran and returned floats, got {layer!r}")
            nan = outputs[layer].flatten(0, 1).any(0)
            place = position if position is not None else tuple(size // 2 for size in nan.shape)
            return bool(nan[place])

        for axis, length in enumerate(input_shape[1:]):
            if not reached(axis, range(length)):
                found.append(range(0))
                continue
            low = _bisected(length, lambda k, axis=axis: reached(axis, range(k + 1)))  # type: ignore[misc]
            far = _bisected(length, lambda k, axis=axis, n=length: reached(axis, range(n - 1 - k, n)))  # type: ignore[misc]
            found.append(range(low, length - far))
    return found


def _bisected(length: int, holds: Callable[[int], bool]) -> int:
    """The first k in 0..length - 1 for which it holds; it does for the last."""
    low, high = 0, length - 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def verify(fields: Fields, *, forwards: int = 20, seed: int = 0) -> Verification:
    """Compare every position of every layer with forward passes on NaNs.

    A pass with NaNs below k tells of every position of every layer whether its `low` is below k. The ks are those
    that pin ends: k = low must leave a position a number, and k = low + 1 must not; first of the middle, first and last
    position of the last layer whose positions differ, then of others.

    Args:
        fields: of a network with weights.
        forwards: passes in all, at least one an axis and end.
        seed: of the image.

    Raises:
        InputError: weights without memory.
    """
    image = _image(fields.model, fields.input_shape, seed)
    numbers = {name: place.number for name, place in fields._places.items()}
    lengths = fields.input_shape[1:]
    seen: set[str] = set()
    mismatches: list[Mismatch] = []
    checks = passes = pinned = ends = 0
    with _evaluation(fields.model, training=fields.training), _outputs(fields.model, numbers) as outputs:
        for axis, length in enumerate(lengths):
            axes = [layer.axes[axis] for layer in fields.layers.values()]
            for reverse in (False, True):
                counts = [_counts(each, reverse=reverse) for each in axes]
                cuts = _cuts(counts, length, max(1, forwards // (2 * len(lengths))))
                for cut in cuts:
                    nans = range(length - cut, length) if reverse else range(cut)
                    outputs.clear()
                    fields.model(_with_nans(image, axis, nans))
                    passes += 1
                    for name, nan in outputs.items():
                        is_nan = _by_position(nan, fields._places[name].dims[axis])
                        expected = _counts(fields[name].axes[axis], reverse=reverse) < cut
                        checks += is_nan.numel()
                        seen.update([name] if bool(is_nan.any()) else [])
                        mismatches += [
                            Mismatch(name, axis, tuple(place), nans, bool(expected[tuple(place)]))
                            for place in (is_nan != expected).nonzero()[:3].tolist()
                        ]
                tried = torch.tensor([0, *cuts])
                pinned += sum(int((torch.isin(count, tried) & torch.isin(count + 1, tried)).sum()) for count in counts)
                ends += sum(count.numel() for count in counts)
    silent = tuple(name for name in fields if name not in seen)
    return Verification(passes, checks, pinned, ends, tuple(mismatches), silent)


def _counts(axis: Axis, *, reverse: bool) -> Tensor:
    """How many positions from the start (`reverse`: from the end) can be NaN and leave each position a number."""
    count = axis.length - 1 - axis.high if reverse else axis.low
    return torch.where(axis.low <= axis.high, count, axis.length)


def _cuts(counts: list[Tensor], length: int, number: int) -> list[int]:
    """How many positions to fill with NaN."""
    differing = [count.flatten() for count in counts if count.numel() > 1 and bool((count != count.flatten()[0]).any())]
    ends = (differing or [count.flatten() for count in counts])[-1].tolist()
    order = [len(ends) // 2, 0, len(ends) - 1, *range(1, len(ends), max(1, len(ends) // (number + 1)))]
    wanted = [ends[place] + more for place in order if place < len(ends) for more in (0, 1)]
    spread = range(1, length + 1, max(1, length // (number + 1)))
    return list(dict.fromkeys(cut for cut in [*wanted, *spread] if 0 < cut <= length))[:number]


def _by_position(nan: Tensor, dims: list[int]) -> Tensor:
    """NaN anywhere in what shares a position along `dims`."""
    others = [dim for dim in range(nan.ndim) if dim not in dims]
    return nan.amax(others) if others else nan


def _image(model: nn.Module, input_shape: tuple[int, ...], seed: int) -> Tensor:
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
    if like.is_meta:
        raise InputError('model: expected weights, as the network has to run, got parameters on device "meta"')
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *input_shape, generator=generator).to(like)


def _with_nans(image: Tensor, axis: int, nans: range) -> Tensor:
    image = image.clone()
    image.narrow(2 + axis, nans.start, len(nans)).fill_(torch.nan)
    return image


@contextmanager
def _evaluation(model: nn.Module, *, training: bool) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()} if training else {}
    model.train(training)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in state:
                    buffer.copy_(state[name])


@contextmanager
def _outputs(model: nn.Module, numbers: dict[str, int]) -> Iterator[dict[str, Tensor]]:
    """Where the layers' outputs are NaN, by the names of `Fields`; which of several tensors returned, by number."""
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook_of(called: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, result: object) -> None:  # noqa: ARG001
            calls[called] += 1
            name = called if calls[called] == 1 else f"{called}:{calls[called]}"
            tensors = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
            if name in numbers and tensors[numbers[name]].dtype.is_floating_point:
                found[name] = tensors[numbers[name]].isnan()  # now: a later layer may write over the tensor
            if not called:
                calls.clear()

        return hook

    handles = [
        module.register_forward_hook(hook_of(name))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
