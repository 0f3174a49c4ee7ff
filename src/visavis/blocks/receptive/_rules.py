"""How each operation moves the fields of its inputs to its outputs.

A rule is a function from a `Step` to the field of the outputs; `RULES` names them by operation, in place or not. An
operation without a rule is taken to read the whole of its inputs, and the step says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from visavis.blocks._trace import Geometry, Graph, Node, Value
from visavis.blocks.receptive._reach import Reach
from visavis.blocks.receptive._windows import adaptive, fractional, resize, sliding, transposed

__all__ = ["Step", "apply"]


@dataclass
class Step:
    """One node, the fields known so far along one axis, and what there is to say about it."""

    graph: Graph
    node: Node
    known: dict[Value, Reach]
    notes: dict[str, None]

    def argument(self, name: str, default: Any = None) -> Any:
        """By its name in the operation's schema."""
        schema = self.node.op._schema.arguments  # type: ignore[attr-defined]
        for place, slot in enumerate(schema):
            if slot.name == name:
                if place < len(self.node.args):
                    return self.node.args[place]
                return self.node.kwargs.get(name, slot.default_value if slot.has_default_value() else default)
        return default

    def reach(self, value: Any) -> Reach | None:
        """Of an argument; None where it depends on no input."""
        return self.known.get(value) if isinstance(value, Value) else None

    @property
    def first(self) -> Reach | None:
        """Of the first argument."""
        return self.reach(self.node.args[0]) if self.node.args else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first output."""
        return self.node.outputs[0].shape

    def note(self, text: str) -> None:
        """Something about this node that a reader of the result has to know."""
        self.notes[f"{self.node.name} in {self.node.modules[-1] or 'the network'}: {text}"] = None


Rule = Callable[[Step], Reach | list[Reach | None] | None]


def apply(step: Step) -> None:
    """Add the fields of the node's outputs to `step.known`."""
    node = step.node
    if not any(value in step.known for value in node.reads):
        return
    rule = RULES.get(_base(node))
    if rule is None and isinstance(node.op, torch._ops.OpOverload):
        tags = node.op.tags
        rule = pointwise if torch.Tag.pointwise in tags else reduction if torch.Tag.reduction in tags else None
    found = (rule or unknown)(step)
    outputs = found if isinstance(found, list) else [found] * len(node.outputs)
    for value, reach in zip(node.outputs, outputs, strict=True):
        if reach is not None:
            step.known[value] = reach


def _base(node: Node) -> str:
    """The name without overload and in-place mark: of aten.relu_.default "relu"."""
    if not isinstance(node.op, torch._ops.OpOverload):
        return node.name
    return str(node.op._schema.name).removeprefix("aten::").rstrip("_")


def _union(reaches: list[Reach | None], shape: tuple[int, ...]) -> Reach | None:
    """Broadcast to one shape, and joined."""
    result: Reach | None = None
    for reach in reaches:
        if reach is not None:
            wide = reach.expanded(shape)
            result = wide if result is None else result.joined(wide)
    return result


def pointwise(step: Step) -> Reach | None:
    """Element by element, broadcast."""
    return _union([step.reach(value) for value in step.node.reads], step.shape)


def unknown(step: Step) -> list[Reach | None]:
    """Everything reads everything."""
    step.note("no rule; taken to read the whole of its inputs")
    return everything(step)


def everything(step: Step) -> list[Reach | None]:
    """Every output reads all of every input."""
    results = []
    for value in step.node.outputs:
        parts = [reach.whole(value.shape) for given in step.node.reads if (reach := step.reach(given)) is not None]
        results.append(_union(list(parts), value.shape))
    return results


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
    """Softmax, sort, FFT: all along `dim` read all along it."""
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
        return _union([_all_of(step, weight)], step.shape)
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
    return _union([reach, _all_of(step, weight), _all_of(step, step.argument("bias"))], step.shape)


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
    dims = len([*step.argument("kernel_size")]) if isinstance(step.argument("kernel_size"), list) else 1
    dims = max(dims, int(_base(step.node).split("_pool")[1][0]))

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
    reach, shape, name = step.first, step.shape, _base(step.node)
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
    name = step.node.name
    training = step.argument("training", step.argument("train", "legit.default" in name and "no_training" not in name))
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
        groups = step.argument("group", step.argument("num_groups"))
        reach = _mixed(reach, groups, reach.shape[1]).spread(list(range(2, reach.ndim)))
    return [reach, *[None] * (len(step.node.outputs) - 1)]


def product(step: Step) -> Reach | None:
    """Matrix products: row i of the one, column j of the other. `addmm` and `baddbmm` add their first argument."""
    name = _base(step.node)
    added = step.node.args[0] if name in ("addmm", "baddbmm", "addbmm", "addmv") else None
    a, b = [step.reach(value) for value in step.node.args[1 if added is not None else 0 :][:2]]
    shape = step.shape
    if a is not None:
        a = a.reduced([a.ndim - 1], keep=name in ("mm", "addmm", "bmm", "baddbmm"))
    if b is not None:
        b = b.reduced([max(b.ndim - 2, 0)], keep=name in ("mm", "addmm", "bmm", "baddbmm"))
    return _union([step.reach(added), a, b], shape)


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
    return [_union(parts, shape), *[None] * (len(step.node.outputs) - 1)]


def view(step: Step) -> Reach | None:
    return None if step.first is None else step.first.viewed(step.shape)


def permute(step: Step) -> Reach | None:
    """Dims in another order."""
    reach, name = step.first, _base(step.node)
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
    dim, name = step.argument("dim") % reach.ndim, _base(step.node)
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
    lengths = [value.shape[dim] for value in values]
    if _base(step.node) == "stack":
        shape = (*step.shape[:dim], 1, *step.shape[dim + 1 :])
        reaches = [None if reach is None else reach.viewed(shape) for reach in reaches]
        lengths = [1] * len(values)
    known = next(reach for reach in reaches if reach is not None)
    return known.cat_with(reaches, lengths, dim)


def pad(step: Step) -> Reach | None:
    """Zeros around, reflected, replicated or cut off."""
    reach, name = step.first, _base(step.node)
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
        return everything(step)
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


def fft(step: Step) -> Reach | None:
    """Every frequency reads every position."""
    reach = step.first
    return None if reach is None else _resized(reach.spread(list(step.argument("dim"))), step.shape)


def restrided(step: Step) -> Reach | list[Reach | None] | None:
    """Other strides for the same dims, which torch sets where a length of 1 leaves them open."""
    reach = step.first
    if reach is not None and tuple(step.argument("size")) == reach.shape:
        return reach
    return unknown(step)


def unpool(step: Step) -> list[Reach | None]:
    """Where a value goes is decided by the input itself."""
    step.note("places depend on the input's numbers; taken to read the whole of its inputs")
    return everything(step)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("hardswish", "prelu", "_prelu_kernel", "rrelu_with_noise", "rrelu_with_noise_functional"), pointwise
    ),
    **dict.fromkeys(
        ("_to_copy", "alias", "detach", "lift_fresh", "contiguous", "native_dropout", "complex"), pointwise
    ),
    **dict.fromkeys(("conj", "_conj", "real", "hardtanh"), pointwise),
    **dict.fromkeys(("mean", "sum", "linalg_vector_norm", "norm", "amax", "amin", "argmax", "argmin"), reduction),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "logsumexp", "prod", "any", "all", "max", "min"), reduction),
    **dict.fromkeys(("_softmax", "_log_softmax", "sort", "topk", "_safe_softmax", "argsort"), along),
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"), cumulative),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys((f"{kind}_pool{dims}d" for kind in ("max", "avg") for dims in (1, 2, 3)), pool),
    **dict.fromkeys((f"max_pool{dims}d_with_indices" for dims in (1, 2, 3)), pool),
    **dict.fromkeys((f"_adaptive_avg_pool{dims}d" for dims in (2, 3)), adaptive_pool),
    **dict.fromkeys((f"adaptive_{kind}_pool{dims}d" for kind in ("max", "avg") for dims in (1, 2, 3)), adaptive_pool),
    **dict.fromkeys(("fractional_max_pool2d", "fractional_max_pool3d"), fractional_pool),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), upsample),
    **dict.fromkeys(("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"), upsample),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"), upsample
    ),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa"), upsample),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"), batch_norm
    ),
    **dict.fromkeys(("_batch_norm_with_update", "cudnn_batch_norm", "_batch_norm_no_update"), batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), layer_norm),
    **dict.fromkeys(("native_group_norm", "group_norm"), group_norm),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv"), product),
    **dict.fromkeys(("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"), attention),
    **dict.fromkeys(("_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math"), attention),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "_reshape_alias", "flatten"), view),
    **dict.fromkeys(("permute", "transpose", "t", "numpy_T"), permute),
    **dict.fromkeys(("slice", "select", "narrow"), cut),
    **dict.fromkeys(("split", "split_with_sizes", "unbind", "chunk", "unsafe_split", "unsafe_chunk"), split),
    **dict.fromkeys(("cat", "stack"), cat),
    **dict.fromkeys(
        ("constant_pad_nd", *(f"{kind}_pad{d}d" for kind in ("reflection", "replication") for d in (1, 2, 3))), pad
    ),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "repeat"), moved),
    **dict.fromkeys(("tril", "triu", "diagonal", "rot90", "view_as_real"), moved),
    **dict.fromkeys(("index", "index_select", "gather", "take", "_unsafe_index", "embedding"), index),
    **dict.fromkeys(("_fft_r2c", "_fft_c2r", "_fft_c2c"), fft),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d", "grid_sampler_2d", "grid_sampler_3d"), unpool),
    "as_strided": restrided,
    "expand": expand,
    "roll": roll,
    "flip": flip,
    "overlay": overlaid,
    "copy": copied,
    "im2col": columns,
    "unfold": unfolded,
    "glu": glu,
}
