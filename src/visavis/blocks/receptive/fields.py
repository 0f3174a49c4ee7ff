"""`fields`: the receptive field of every layer of a network, at every position, along every axis of its input.

Positions are in input pixels, counted from 0. C: channels of the input, then its spatial axes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from visavis.blocks._trace import Graph, Value, trace
from visavis.blocks.receptive._reach import FAR, NOTHING, Reach, period_of
from visavis.blocks.receptive._rules import apply
from visavis.blocks.receptive._step import Step
from visavis.blocks.receptive.chains import Window
from visavis.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from visavis.blocks.receptive.oracle import Verification

__all__ = ["Axis", "Fields", "Layer", "Phase", "fields"]


@dataclass(frozen=True)
class Phase:
    """Output positions ``phase, phase + period, ...`` have fields of `size`; the first one's starts at `offset`."""

    size: int
    offset: int


@dataclass(frozen=True, eq=False)
class Axis:
    """A layer's fields along one axis of the input.

    Attributes:
        length: of the image along the axis.
        low: int64, for every output position the first input position that reaches it; dims are those of the output
            along which fields move: [H] or [W] of a map, [tokens] of a sequence, [windows, tokens] of windows.
        high: the last one; below `low` where nothing reaches.
        open_low: as `low`, of an image without an edge: what lies in the padding is counted.
        open_high: the last one.
        phases: by output position modulo their number; () when the fields follow no pattern, or are the whole image.
        stride: input positions an output position; None when there is no even pattern.
    """

    length: int
    low: Tensor = field(repr=False)
    high: Tensor = field(repr=False)
    open_low: Tensor = field(repr=False)
    open_high: Tensor = field(repr=False)
    phases: tuple[Phase, ...]
    stride: Fraction | None

    @property
    def whole(self) -> bool:
        """Whether every position sees the whole image, whatever its length: through a global operation."""
        return bool((self.open_high >= FAR // 2).all()) and self.open_high.numel() > 0

    @property
    def size(self) -> int | None:
        """Of the largest phase's field, padding included; of the middle position's where there is no pattern.

        None: the whole image.
        """
        if self.phases:
            return max(phase.size for phase in self.phases)
        sizes = (self.open_high - self.open_low + 1).flatten()
        if not len(sizes):
            return 0
        middle = int(sizes[len(sizes) // 2])
        return None if middle > FAR // 2 else max(middle, 0)

    @property
    def padding(self) -> Tensor:
        """For every output position the share of its field that lies outside the image; float in [0, 1]."""
        size = (self.open_high - self.open_low + 1).clamp(min=1).double()
        inside = (self.open_high.clamp(max=self.length - 1) - self.open_low.clamp(min=0) + 1).clamp(min=0)
        return torch.where(self.open_high >= FAR // 2, 0.0, 1 - inside / size)


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a module: its name, its class, its output's shape, and one `Axis` an axis of the input."""

    name: str
    kind: str
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    leaf: bool


class _Place(NamedTuple):
    """A layer's output: its value, its number among the tensors returned, and the dims along each axis."""

    value: Value
    number: int
    dims: tuple[list[int], ...]


@dataclass(frozen=True, eq=False)
class Fields(Mapping[str, Layer]):
    """The layers by name, in the order in which they end; "" is the network; "name:2" the second call of a module.

    Attributes:
        notes: what had to be assumed; an operation without a rule is named here, and only here is a field an upper
            bound instead of exact.
    """

    model: nn.Module = field(repr=False)
    input_shape: tuple[int, ...]
    layers: dict[str, Layer] = field(repr=False)
    notes: tuple[str, ...]
    training: bool
    _graph: Graph = field(repr=False)
    _places: dict[str, "_Place"] = field(repr=False)

    def __getitem__(self, name: str) -> Layer:
        """A layer.

        Raises:
            KeyError: no module of that name ran, or its output depends on no input.
        """
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def output(self) -> Layer:
        """The network's own output."""
        return self.layers[""]

    def sets(self, name: str = "") -> tuple[Tensor, ...]:
        """The exact input positions, gaps included, where `low` and `high` are their hull: dilation leaves gaps.

        Returns:
            One bool tensor an axis: [*positions as in `Axis.low`, length].
        """
        value, _, dims = self._places[name]
        reaches = [_propagated(self._graph, axis, {}, masks=True)[value] for axis in range(len(dims))]
        return tuple(
            _along_positions(reach.closed, reach.shape, along).bool()
            for reach, along in zip(reaches, dims, strict=True)
        )

    def first(self, size: int, *, axis: int = 0) -> str | None:
        """The first layer whose field along `axis` is at least `size`; None when no layer's is."""
        for name, layer in self.layers.items():
            found = layer.axes[axis].size
            if layer.leaf and (found is None or found >= size):
                return name
        return None

    def chain(self, *, axis: int = 0) -> list[Window]:
        """The network as a chain of windows along `axis`, for `top_down` and `bottom_up`.

        Raises:
            InputError: it is no chain: it branches, upsamples, or looks at the whole image; names the operation.
        """
        reached, windows, last = self._graph.depends(), list[Window](), self._graph.inputs[0]
        for node in self._graph.nodes:
            used = [value for value in node.reads if value in reached]
            if not used:
                continue
            step = Step(self._graph, node, {}, {})
            plain = isinstance(node.op, torch._ops.OpOverload) and (
                torch.Tag.pointwise in node.op.tags or "batch_norm" in node.name
            )
            windowed = "convolution" in node.name or ("pool" in node.name and "adaptive" not in node.name)
            if used != [last] or not (plain or (windowed and not step.argument("transposed", False))):
                place = node.modules[-1] or "the network"
                raise InputError(
                    f"model: expected a chain of windows, got {node.name} in {place}, which ends the chain"
                )
            last = node.outputs[0]
            if windowed:
                weight = step.argument("weight")
                kernel = list(weight.shape[2:]) if weight is not None else list(step.argument("kernel_size"))
                stride = list(step.argument("stride") or kernel)
                dilation = list(step.argument("dilation", [1]))
                each = [values[axis % len(values)] for values in (kernel, stride, dilation)]
                windows.append(Window(*each))
        return windows

    def verify(self, *, forwards: int = 20, seed: int = 0) -> "Verification":
        """Compare with the network itself, run with NaNs in a part of its input; see `oracle.verify`."""
        from visavis.blocks.receptive.oracle import verify

        return verify(self, forwards=forwards, seed=seed)

    def draw(self, photo: Tensor | None = None, *, layers: list[str] | None = None) -> "Figure":
        """The field of the middle position of each layer on a photo; see `drawing.draw`."""
        from visavis.blocks.receptive.drawing import draw

        return draw(self, photo, layers=layers)

    def __str__(self) -> str:
        """A table: a line a layer and axis; axes that are alike share one."""
        head: tuple[str, ...] = ("layer", "kind", "output", "axis", "size", "stride", "offset", "padding")
        rows = [head]
        for layer in self.layers.values():
            if not layer.leaf and layer.name:
                continue
            lines = [_row(axis) for axis in layer.axes]
            shape = "x".join(map(str, layer.shape[1:]))
            if len({line[:3] for line in lines}) == 1:
                shares = dict.fromkeys(line[3] for line in lines)
                lines = [(*lines[0][:3], "/".join(shares))]
            for number, line in enumerate(lines):
                place = "all" if len(lines) < len(layer.axes) else str(number)
                rows.append((layer.name or "(output)", layer.kind, shape, place, *line))
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        text = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )
        return "\n".join([text, *self.notes])


def fields(model: nn.Module, input_shape: tuple[int, ...], *, training: bool = False) -> Fields:
    """The receptive field of every layer, exactly, without computing anything: the network runs once on fake tensors.

    Every operation that the network runs moves intervals: a window takes the union over its taps, a branch or a sum
    the union of its inputs, a view the same elements under another shape, a mean over an axis the whole image. So
    fields are exact for any graph, and per position: after upsampling neighbours have different fields.

    "Can reach" means that the operation reads it: a tap whose weight is zero counts, as it does for a NaN.

    Args:
        model: any network of one image; weights may be on device "meta".
        input_shape: (C, length), (C, H, W) or (C, D, H, W), without the batch.
        training: as in training, where BatchNorm reads all positions. The network's own mode is left as it is.

    Raises:
        InputError: a shape that is none, a network that cannot run on it or looks at its input's numbers, or one
            whose output does not depend on its input.

    Source: the recursion of Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural Networks,
    Distill 2019, carried out on intervals for every position instead of on sizes.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Upsample(scale_factor=2, mode="bilinear"))
    >>> axis = fields(model, (3, 32, 32)).output.axes[0]
    >>> axis.size, axis.stride, axis.phases
    (5, Fraction(1, 1), (Phase(size=5, offset=-3), Phase(size=5, offset=-1)))
    >>> axis.low[:4].tolist(), axis.high[:4].tolist()
    ([0, 0, 0, 1], [3, 3, 3, 5])
    """
    if len(input_shape) not in (2, 3, 4) or min(input_shape) < 1:
        raise InputError(
            f"input_shape: expected (channels, length), (channels, height, width) or (channels, depth, height, width), "
            f"each at least 1, without the batch, got {tuple(input_shape)}"
        )
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
    example = torch.empty(1, *input_shape, dtype=like.dtype, device=like.device)
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        graph = trace(model, example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    notes: dict[str, None] = {}  # in order, each once
    found = [_propagated(graph, axis, notes) for axis in range(len(input_shape) - 1)]
    layers: dict[str, Layer] = {}
    places: dict[str, _Place] = {}
    parents = {name[:end] for name in {call.name for call in graph.calls} for end in _ends(name)}
    calls: Counter[str] = Counter()
    for call in graph.calls:
        calls[call.name] += 1
        number = next((number for number, value in enumerate(call.outputs) if value in found[0]), None)
        if number is not None:
            name = call.name if calls[call.name] == 1 else f"{call.name}:{calls[call.name]}"
            value = call.outputs[number]
            reaches = [known[value] for known in found]
            axes = tuple(_axis(reach, length) for reach, length in zip(reaches, input_shape[1:], strict=True))
            layers[name] = Layer(name, type(call.module).__name__, value.shape, axes, call.name not in parents)
            places[name] = _Place(value, number, tuple(_moving(reach) for reach in reaches))
    if "" not in layers:
        raise InputError("model: expected an output that depends on the input, got one that does not")
    return Fields(model, tuple(input_shape), layers, tuple(notes), training, graph, places)


def _ends(name: str) -> list[int]:
    """Where the names of the modules around it end: of "a.b.c" those of "", "a" and "a.b"."""
    return [end for end, letter in enumerate(name) if letter == "." or end == 0]


def _propagated(graph: Graph, axis: int, notes: dict[str, None], *, masks: bool = False) -> dict[Value, Reach]:
    """The reach of every value along one axis; adds to the notes."""
    (image,) = graph.inputs
    dim, length = 2 + axis, image.shape[2 + axis]
    places = torch.arange(length)
    closed = torch.eye(length, dtype=torch.uint8) if masks else torch.stack([-places, places], -1)
    closed = closed.view(*[1] * dim, length, *[1] * (len(image.shape) - dim - 1), closed.shape[-1])
    start = Reach(image.shape, closed, None if masks else closed, {dim: Fraction(1)}, 0 if masks else NOTHING)
    known = {image: start}
    for node in graph.nodes:
        apply(Step(graph, node, known, notes))
    return known


def _moving(reach: Reach) -> list[int]:
    """The dims along which positions lie."""
    return [dim for dim in sorted(reach.steps) if reach.shape[dim] > 0]


def _along_positions(tensor: Tensor, shape: tuple[int, ...], dims: list[int]) -> Tensor:
    """The union over all other dims; [*lengths of `dims`, K]."""
    others = [dim for dim in range(len(shape)) if dim not in dims]
    tensor = tensor.amax(others, keepdim=True) if others else tensor
    for dim in dims:
        if tensor.shape[dim] == 1:
            tensor = tensor.expand(*tensor.shape[:dim], shape[dim], *tensor.shape[dim + 1 :])
    return tensor.reshape(*(shape[dim] for dim in dims), tensor.shape[-1])


def _axis(reach: Reach, length: int) -> Axis:
    """What a reader wants to know of a reach."""
    assert reach.open is not None
    dims = _moving(reach)
    closed = _along_positions(reach.closed, reach.shape, dims)
    opened = _along_positions(reach.open, reach.shape, dims)
    phases: tuple[Phase, ...] = ()
    stride = None
    if len(dims) == 1 and not bool((opened.abs() >= FAR // 2).any()):
        n = len(opened)
        period, jump = period_of(opened, 0) if n > 1 else (0, opened)
        if period:
            stride = Fraction(int(jump.flatten()[1]), period)
            even = int(jump.flatten()[0]) == -int(jump.flatten()[1])
        else:
            stride, period, even = reach.steps[dims[0]], 1, n == 1
        if even:
            phases = tuple(Phase(int(a + b) + 1, -int(a)) for a, b in opened[:period])
        else:
            stride = None
    low, high = -closed[..., 0], closed[..., 1]
    return Axis(length, low, high, -opened[..., 0], opened[..., 1], phases, stride)


def _row(axis: Axis) -> tuple[str, ...]:
    """Size, stride, offset and padding share as text."""
    size = "whole image" if axis.size is None else str(axis.size)
    if len({phase.size for phase in axis.phases}) > 1:
        size = "/".join(str(phase.size) for phase in axis.phases)
    offset = "/".join(str(phase.offset) for phase in axis.phases)
    share = axis.padding
    padding = f"{100 * float(share.mean()):.0f}%" if share.numel() else ""
    return size, "" if axis.stride is None else str(axis.stride), offset, padding
