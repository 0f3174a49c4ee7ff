"""Rules of the operations that only move elements: each output is one element of the inputs, or none."""

import math
from dataclasses import replace
from fractions import Fraction

import torch
from torch.utils._pytree import tree_flatten, tree_map

from visavis.blocks._trace import Geometry, Value
from visavis.blocks.receptive._reach import NO_TAP, Reach
from visavis.blocks.receptive._step import Step, anywhere, base_name, everything, unknown
from visavis.blocks.receptive._windows import sliding

__all__ = [
    "cat",
    "columns",
    "copied",
    "cut",
    "expand",
    "flip",
    "folded",
    "from_parts",
    "glu",
    "index",
    "moved",
    "overlaid",
    "pad",
    "parts",
    "permute",
    "restrided",
    "roll",
    "split",
    "unfolded",
    "view",
]


def view(step: Step) -> Reach | None:
    return None if step.first is None else step.first.viewed(step.shape)


def permute(step: Step) -> Reach | None:
    """Dims in another order."""
    reach, name = step.first, base_name(step.node)
    if reach is None:
        return None
    order = list(range(reach.ndim))
    if name == "permute":
        order = [dim % reach.ndim for dim in step.argument("dims")]
    elif reach.ndim > 1:
        a, b = (0, 1) if name in ("t", "numpy_T") else (step.argument("dim0"), step.argument("dim1"))
        order[a], order[b] = order[b], order[a]
    return reach.permuted(order)


def expand(step: Step) -> Reach | None:
    return None if step.first is None else step.first.expanded(step.shape)


def cut(step: Step) -> Reach | None:
    """A part of one dim."""
    reach = step.first
    if reach is None:
        return None
    dim, name = step.argument("dim") % reach.ndim, base_name(step.node)
    n = reach.shape[dim]
    if name == "select":
        index = step.argument("index")
        one = reach.windows(dim, torch.tensor([[index % n]]), None)
        return one.permuted([d for d in range(one.ndim) if d != dim])
    places = torch.arange(n)[slice(step.argument("start"), step.argument("end"), step.argument("step"))]
    return reach.windows(dim, places[:, None], Fraction(step.argument("step")))


def split(step: Step) -> list[Reach | None]:
    """All parts of one dim."""
    reach = step.first
    if reach is None:
        return [None] * len(step.node.outputs)
    dim, start, results = step.argument("dim") % reach.ndim, 0, list[Reach | None]()
    for value in step.node.outputs:
        unbound = len(value.shape) < reach.ndim
        length = 1 if unbound else value.shape[dim]
        part = reach.windows(dim, torch.arange(start, start + length)[:, None], Fraction(1))
        results.append(part.permuted([d for d in range(part.ndim) if d != dim]) if unbound else part)
        start += length
    return results


def cat(step: Step) -> Reach | None:
    """Concatenation, along a dim of the inputs or a new one."""
    values = [value for value in step.argument("tensors") if value.shape != (0,)]
    reaches = [step.reach(value) for value in values]
    dim = step.argument("dim") % len(step.shape)
    if base_name(step.node) == "stack":
        shape = (*step.shape[:dim], 1, *step.shape[dim + 1 :])
        reaches = [None if reach is None else reach.viewed(shape) for reach in reaches]
        lengths = [1] * len(values)
    else:
        lengths = [value.shape[dim] for value in values]
    known = next(reach for reach in reaches if reach is not None)
    return known.cat_with(reaches, lengths, dim)


def pad(step: Step) -> Reach | None:
    """Zeros around, reflected, replicated or cut off."""
    reach, name = step.first, base_name(step.node)
    if reach is None:
        return None
    amounts = list(step.argument("pad", step.argument("padding")))
    for place in range(len(amounts) // 2):
        dim = reach.ndim - 1 - place
        left, right = amounts[2 * place : 2 * place + 2]
        n = reach.shape[dim]
        taps = torch.arange(-left, n + right)
        wide = reach.windows(dim, taps[:, None], Fraction(1))
        if "reflection" in name:
            taps = (n - 1) - ((n - 1) - taps.abs()).abs()
        elif "replication" in name:
            taps = taps.clamp(0, n - 1)
        inside = reach.windows(dim, taps[:, None], Fraction(1))
        reach = replace(wide, closed=inside.closed)
    return reach


def moved(step: Step) -> Reach | None:
    """Anything that only moves elements: the operation itself, run on the elements' numbers."""
    reach = step.first
    if reach is None:
        return None
    numbers = torch.arange(1, math.prod(reach.shape) + 1, dtype=torch.float64).view(reach.shape)
    own = step.node.args[0]
    args, kwargs = tree_map(lambda leaf: numbers if leaf is own else leaf, (step.node.args, step.node.kwargs))
    places = step.node.op(*args, **kwargs)
    return reach.picked(places.to(torch.int64) - 1)


def roll(step: Step) -> Reach | None:
    reach = step.first
    if reach is None:
        return None
    if not step.argument("dims"):
        return moved(step)
    for shift, dim in zip(step.argument("shifts"), step.argument("dims"), strict=True):
        dim %= reach.ndim
        reach = reach.windows(dim, torch.arange(reach.shape[dim]).roll(shift)[:, None], Fraction(1))
    return reach


def flip(step: Step) -> Reach | None:
    reach = step.first
    if reach is None:
        return None
    for dim in step.argument("dims"):
        dim %= reach.ndim
        reach = reach.windows(dim, torch.arange(reach.shape[dim]).flip(0)[:, None], Fraction(-1))
    return reach


def index(step: Step) -> Reach | list[Reach | None] | None:
    """Index tensors that depend on no input are followed exactly."""
    reach = step.first
    given = [leaf for leaf in tree_flatten((step.node.args[1:], step.node.kwargs))[0] if isinstance(leaf, Value)]
    numbers = {value: step.graph.evaluate(value) for value in given if value not in step.known}
    if reach is None or any(value in step.known for value in given):
        return anywhere(step)
    if any(tensor is None for tensor in numbers.values()):
        step.note("indices without numbers; taken to read the whole of its inputs")
        return everything(step)
    own = torch.arange(math.prod(reach.shape)).view(reach.shape)
    args, kwargs = tree_map(
        lambda leaf: numbers[leaf] if isinstance(leaf, Value) else leaf, (list(step.node.args[1:]), step.node.kwargs)
    )
    return reach.picked(step.node.op(own, *args, **kwargs))


def overlaid(step: Step) -> Reach | None:
    """What lies at an address: the lower tensor's field, or the upper's."""
    below, above, here, there = step.node.args
    lower, upper = step.reach(below), step.reach(above)
    known = lower or upper
    if known is None:
        return None
    memory = torch.full((int(max(_last(here), _last(there))) + 1,), -1)
    own = here.addresses()
    count = own.numel()
    memory[own.flatten()] = torch.arange(count)
    memory[there.addresses().flatten()] = count + torch.arange(there.addresses().numel())
    places = memory[own]
    low = None if lower is None else lower.picked(torch.where(places < count, places, -1))
    high = None if upper is None else upper.picked(torch.where(places >= count, places - count, -1))
    if low is None or high is None:
        return low or high
    joined = low.joined(high)
    return replace(joined, steps=known.steps)


def _last(geometry: Geometry) -> int:
    return geometry.span().stop - 1


def copied(step: Step) -> Reach | None:
    """`a.copy_(b)`."""
    source = step.reach(step.argument("src"))
    return None if source is None else source.expanded(step.shape)


def columns(step: Step) -> Reach | None:
    """Unfold an image, [N, C, H, W] to [N, C * kernel, windows]."""
    reach = step.first
    if reach is None:
        return None
    kernel, stride, padding, dilation = (step.argument(n) for n in ("kernel_size", "stride", "padding", "dilation"))
    sizes = []
    for axis in range(2):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        out = (reach.shape[2 + axis] + 2 * padding[axis] - span) // stride[axis] + 1
        taps = sliding(out, kernel[axis], stride[axis], padding[axis], dilation[axis])
        reach = reach.windows(2 + axis, taps.T.reshape(-1, 1), None)
        sizes += [kernel[axis], out]
    n, c = reach.shape[:2]
    return reach.viewed((n, c, *sizes)).permuted([0, 1, 2, 4, 3, 5]).viewed(step.shape)


def folded(step: Step) -> Reach | None:
    """Fold windows, [N, C * kernel, windows], to an image: each pixel reads all windows that hold it."""
    reach = step.first
    if reach is None:
        return None
    size, kernel, stride, padding, dilation = (
        step.argument(name) for name in ("output_size", "kernel_size", "stride", "padding", "dilation")
    )
    n, c = step.shape[:2]
    out = [
        (size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis in range(2)
    ]
    wide = reach.viewed((n, c, *kernel, *out)).permuted([0, 1, 2, 4, 3, 5])
    wide = wide.viewed((n, c, kernel[0] * out[0], kernel[1] * out[1]))
    for axis in range(2):
        place = sliding(out[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]).T.flatten()
        taps = torch.where(place == torch.arange(size[axis])[:, None], torch.arange(len(place)), NO_TAP)
        wide = wide.windows(2 + axis, taps, None)
    return wide


def unfolded(step: Step) -> Reach | None:
    """Tensor.unfold: windows along a dim become a new last dim."""
    reach = step.first
    if reach is None:
        return None
    dim, size, stride = step.argument("dimension") % reach.ndim, step.argument("size"), step.argument("step")
    out = step.shape[dim]
    taps = sliding(out, size, stride, 0, 1)
    wide = reach.windows(dim, taps.reshape(-1, 1), None)
    split_shape = (*wide.shape[:dim], out, size, *wide.shape[dim + 1 :])
    order = [d for d in range(len(split_shape)) if d != dim + 1] + [dim + 1]
    return wide.viewed(split_shape).permuted(order)


def glu(step: Step) -> Reach | None:
    reach = step.first
    if reach is None:
        return None
    dim = step.argument("dim") % reach.ndim
    half = reach.shape[dim] // 2
    return reach.windows(dim, torch.arange(2 * half).view(2, half).T, Fraction(1))


def parts(step: Step) -> Reach | None:
    """Real and imaginary part as a new last dim."""
    return None if step.first is None else step.first.viewed((*step.first.shape, 1)).expanded(step.shape)


def from_parts(step: Step) -> Reach | None:
    """A complex number from its parts, the last dim."""
    return None if step.first is None else step.first.reduced([-1], keep=False)


def restrided(step: Step) -> Reach | list[Reach | None] | None:
    """Other strides for the same dims, which torch sets where a length of 1 leaves them open."""
    reach = step.first
    if reach is not None and tuple(step.argument("size")) == reach.shape:
        return reach
    return unknown(step)
