"""Rules of the operations that compute: each output reads a window, a row or all of the inputs."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from visavis.blocks.receptive._reach import Reach
from visavis.blocks.receptive._step import Step, base_name, union
from visavis.blocks.receptive._windows import adaptive, fractional, resize, sliding, transposed

__all__ = [
    "adaptive_pool",
    "along",
    "attention",
    "batch_norm",
    "convolution",
    "cumulative",
    "fft",
    "fractional_pool",
    "group_norm",
    "layer_norm",
    "pointwise",
    "pool",
    "product",
    "reduction",
    "upsample",
]


def pointwise(step: Step) -> Reach | None:
    """Element by element, broadcast."""
    return union([step.reach(value) for value in step.node.reads], step.shape)


def _dims(given: Any, ndim: int) -> list[int]:
    if given is None or given == []:
        return list(range(ndim))
    return [dim % max(ndim, 1) for dim in (given if isinstance(given, list | tuple) else [given])]


def reduction(step: Step) -> Reach | None:
    """Sum, mean, maximum, norm, ... over `dim`."""
    reach = step.first
    if reach is None:
        return None
    dims = _dims(step.argument("dim"), reach.ndim)
    return reach.reduced(dims, keep=bool(step.argument("keepdim", False)))


def along(step: Step) -> Reach | None:
    """Softmax, sorting: all along `dim` read all along it."""
    reach = step.first
    if reach is None:
        return None
    wide = reach.spread(_dims(step.argument("dim"), reach.ndim))
    return wide.expanded(step.shape) if wide.shape == step.shape else _resized(wide, step.shape)


def _resized(reach: Reach, shape: tuple[int, ...]) -> Reach:
    """To other lengths of dims along which nothing changes."""
    for dim, (old, new) in enumerate(zip(reach.shape, shape, strict=True)):
        if old != new:
            one = reach.windows(dim, torch.zeros(1, 1, dtype=torch.int64), Fraction(1))
            reach = one.expanded((*one.shape[:dim], new, *one.shape[dim + 1 :]))
    return reach


def cumulative(step: Step) -> Reach | None:
    """Element i reads elements 0..i."""
    reach = step.first
    if reach is None:
        return None
    dim = step.argument("dim") % reach.ndim
    taps = torch.arange(reach.shape[dim])
    return reach.windows(dim, torch.minimum(taps[:, None], taps[None]), Fraction(1))


def convolution(step: Step) -> Reach | None:
    """Windows along every spatial dim; channels mixed within a group."""
    reach, weight = step.first, step.argument("weight")
    if reach is None:
        return union([_all_of(step, weight)], step.shape)
    groups, dims = step.argument("groups"), len(step.shape) - 2
    whole = [list(step.argument(name)) for name in ("stride", "padding", "dilation")]
    stride, padding, dilation = [values * dims if len(values) == 1 else values for values in whole]
    reach = _mixed(reach, groups, step.shape[1])
    for axis in range(dims):
        kernel, out = weight.shape[2 + axis], step.shape[2 + axis]
        if step.argument("transposed"):
            taps = transposed(out, reach.shape[2 + axis], kernel, stride[axis], padding[axis], dilation[axis])
            reach = reach.windows(2 + axis, taps, Fraction(1, stride[axis]))
        else:
            taps = sliding(out, kernel, stride[axis], padding[axis], dilation[axis])
            reach = reach.windows(2 + axis, taps, Fraction(stride[axis]))
    return union([reach, _all_of(step, weight), _all_of(step, step.argument("bias"))], step.shape)


def _all_of(step: Step, value: Any) -> Reach | None:
    """Of a weight that is itself computed from the input: every output reads it."""
    reach = step.reach(value)
    return None if reach is None else reach.whole(())


def _mixed(reach: Reach, groups: int, channels: int) -> Reach:
    """Channels (dim 1) read all channels of their group."""
    one = reach.windows(1, torch.arange(reach.shape[1]).view(groups, -1), None)
    if groups == 1:
        return one.expanded((one.shape[0], channels, *one.shape[2:]))
    return one.windows(1, (torch.arange(channels) // (channels // groups))[:, None], None)


def pool(step: Step) -> Reach | None:
    """Maximum or average of windows."""
    reach, shape = step.first, step.shape
    if reach is None:
        return None
    dims = int(base_name(step.node).split("_pool")[1][0])

    def each(name: str, default: int) -> list[int]:
        values = list(step.argument(name) or [default])
        return values * dims if len(values) == 1 else values

    kernel = each("kernel_size", 1)
    stride = each("stride", 0)
    stride = [stride[d] or kernel[d] for d in range(dims)]
    padding, dilation = each("padding", 0), each("dilation", 1)
    for axis in range(dims):
        dim = len(shape) - dims + axis
        taps = sliding(shape[dim], kernel[axis], stride[axis], padding[axis], dilation[axis])
        reach = reach.windows(dim, taps, Fraction(stride[axis]))
    return reach


def adaptive_pool(step: Step) -> Reach | None:
    """Windows that cover the input evenly; a single one is the whole image, however large."""
    reach, shape = step.first, step.shape
    if reach is None:
        return None
    sizes = step.argument("output_size")
    for dim in range(len(shape) - len(sizes), len(shape)):
        n, out = reach.shape[dim], shape[dim]
        if out == 1:
            reach = reach.reduced([dim], keep=True)
        else:
            reach = reach.windows(dim, adaptive(n, out), Fraction(n, out) if n % out == 0 else None)
    return reach


def fractional_pool(step: Step) -> Reach | None:
    """Windows drawn anew in every call: the union over all draws."""
    reach, shape, kernel = step.first, step.shape, step.argument("kernel_size")
    if reach is None:
        return None
    for axis, size in enumerate(kernel):
        dim = len(shape) - len(kernel) + axis
        reach = reach.windows(dim, fractional(reach.shape[dim], shape[dim], size), None)
    step.note("draws its windows anew in every call; the field is the union over all draws")
    return reach


def upsample(step: Step) -> Reach | None:
    """Interpolation to another size: the taps that the operation reads, those of weight zero included."""
    reach, shape, name = step.first, step.shape, base_name(step.node)
    if reach is None:
        return None
    dims = len(shape) - 2
    scales = [step.argument(f"scales_{letter}") for letter in "dhw"[-dims:]] if dims > 1 else [step.argument("scales")]
    factors = step.argument("scale_factors")
    scales = list(factors) if factors else scales
    for axis in range(dims):
        dim, n, out = 2 + axis, reach.shape[2 + axis], shape[2 + axis]
        corners = bool(step.argument("align_corners", False))
        inside, taps = resize(name, n, out, scales[axis], corners=corners)
        even = None if corners else Fraction(n, out)
        reach = replace(reach.windows(dim, taps, even), closed=reach.windows(dim, inside, even).closed)
    return reach


def batch_norm(step: Step) -> list[Reach | None]:
    """With running statistics element by element; in training from all positions of the batch."""
    reach = step.first
    training = step.argument("training", "with_update" in step.node.name)
    if reach is not None and training:
        reach = reach.spread([dim for dim in range(reach.ndim) if dim != 1])
    return [reach, *[None] * (len(step.node.outputs) - 1)]


def layer_norm(step: Step) -> list[Reach | None]:
    """From all elements of the normalized dims."""
    reach = step.first
    count = len(step.argument("normalized_shape"))
    spread = None if reach is None else reach.spread(list(range(reach.ndim - count, reach.ndim)))
    return [spread, *[None] * (len(step.node.outputs) - 1)]


def group_norm(step: Step) -> list[Reach | None]:
    """From all positions, and the channels of the group."""
    reach = step.first
    if reach is not None:
        groups = step.argument("group")
        reach = _mixed(reach, groups, reach.shape[1]).spread(list(range(2, reach.ndim)))
    return [reach, *[None] * (len(step.node.outputs) - 1)]


def product(step: Step) -> Reach | None:
    """Matrix products: row i of the one, column j of the other. `addmm` and `baddbmm` add their first argument."""
    name = base_name(step.node)
    added = step.node.args[0] if name in ("addmm", "baddbmm", "addmv") else None
    a, b = [step.reach(value) for value in step.node.args[1 if added is not None else 0 :][:2]]
    shape = step.shape
    if a is not None:
        a = a.reduced([a.ndim - 1], keep=name in ("mm", "addmm", "bmm", "baddbmm"))
    if b is not None:
        b = b.reduced([max(b.ndim - 2, 0)], keep=name in ("mm", "addmm", "bmm", "baddbmm"))
    return union([step.reach(added), a, b], shape)


def attention(step: Step) -> list[Reach | None]:
    """Each query reads itself and all keys and values; causal: those up to itself."""
    query, key, value = (step.reach(step.argument(name)) for name in ("query", "key", "value"))
    shape = step.shape
    parts: list[Reach | None] = [None if query is None else query.reduced([3], keep=True)]
    repeat = shape[1]
    for reach, last in ((key, True), (value, False)):
        if reach is None:
            continue
        if reach.shape[1] != repeat:  # grouped heads
            reach = reach.windows(1, torch.arange(repeat)[:, None] // (repeat // reach.shape[1]), None)
        reach = reach.reduced([3], keep=True) if last else reach
        if step.argument("is_causal"):
            tokens = torch.arange(reach.shape[2])
            reach = reach.windows(2, torch.minimum(torch.arange(shape[2])[:, None], tokens[None]), Fraction(1))
        else:
            reach = reach.reduced([2], keep=True)
        parts.append(reach)
    mask = step.reach(step.argument("attn_mask"))
    parts.append(None if mask is None else mask.whole(()))
    return [union(parts, shape), *[None] * (len(step.node.outputs) - 1)]


def fft(step: Step) -> Reach | None:
    """Every frequency reads every position."""
    reach = step.first
    return None if reach is None else _resized(reach.spread(list(step.argument("dim"))), step.shape)
