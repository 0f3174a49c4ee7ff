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
        checks: comparisons of one position of one layer with one forward pass.
        intervals: positions of the output whose ends were pinned to the pixel, out of all positions, per axis.
        silent: layers in which NaNs never showed, as in those of integers.
    """

    forwards: int
    checks: int
    intervals: tuple[tuple[int, int], ...]
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
        InputError: weights without memory.

    >>> measure(nn.Conv2d(1, 1, 3, dilation=4), (1, 32, 32))
    [range(12, 21), range(12, 21)]
    """
    image = _image(model, input_shape, seed=0)
    found = []
    with _evaluation(model, training=False), _outputs(model, {layer: 0}) as outputs:

        def reached(axis: int, nans: range) -> bool:
            outputs.clear()
            model(_with_nans(image, axis, nans))
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
    that pin the output's positions: k = low, which must leave it a number, and k = low + 1, which must not; first the
    middle and both ends, then others, then anything.

    Args:
        fields: of a network with weights.
        forwards: passes an axis and end.
        seed: of the image.

    Raises:
        InputError: weights without memory.
    """
    image = _image(fields.model, fields.input_shape, seed)
    seen: set[str] = set()
    mismatches: list[Mismatch] = []
    checks = passes = 0
    pinned = []
    numbers = {name: place.number for name, place in fields._places.items()}
    with _evaluation(fields.model, training=fields.training), _outputs(fields.model, numbers) as outputs:
        for axis, length in enumerate(fields.input_shape[1:]):
            top = fields.output.axes[axis]
            lows, highs = _cuts(top.low, length, forwards), _cuts(length - 1 - top.high, length, forwards)
            for nans in [range(k) for k in lows] + [range(length - k, length) for k in highs]:
                outputs.clear()
                fields.model(_with_nans(image, axis, nans))
                passes += 1
                for name, nan in outputs.items():
                    is_nan = _by_position(nan, fields._places[name].dims[axis])
                    expected = _expected(fields[name].axes[axis], nans)
                    checks += is_nan.numel()
                    seen.update([name] if bool(is_nan.any()) else [])
                    mismatches += [
                        Mismatch(name, axis, tuple(place), nans, bool(expected[tuple(place)]))
                        for place in (is_nan != expected).nonzero()[:3].tolist()
                    ]
            exact_low = sum(int(k) in lows and int(k) + 1 in lows for k in top.low.flatten())
            pinned.append((exact_low, top.low.numel()))
    silent = tuple(name for name in fields if name not in seen)
    return Verification(passes, checks, tuple(pinned), tuple(mismatches), silent)


def _cuts(ends: Tensor, length: int, count: int) -> set[int]:
    """How many positions to fill with NaN: what pins the ends of the middle, first and last position, then others."""
    flat = [int(end) for end in ends.flatten()]
    order = [len(flat) // 2, 0, len(flat) - 1, *range(1, len(flat), max(1, len(flat) // count))] if flat else []
    wanted = [cut for place in order for cut in (flat[place], flat[place] + 1)]
    spread = [1, *range(0, length + 1, max(1, length // count))]
    cuts: dict[int, None] = dict.fromkeys(cut for cut in [*wanted, *spread] if 0 < cut <= length)
    return set(list(cuts)[:count])


def _expected(axis: Axis, nans: range) -> Tensor:
    """Whether each position is reached from these, at one end of the axis."""
    hit = axis.low < nans.stop if nans.start == 0 else axis.high >= nans.start
    return hit & (axis.low <= axis.high)


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
            if name in numbers:
                tensors = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
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
