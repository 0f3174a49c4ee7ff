"""The three ways to fold a module that multiplies and shifts channels: back, ahead, and ahead past a ReLU."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visavis.blocks._trace import Call, Node, Value
from visavis.blocks.bias._layers import LAYERS, Layer
from visavis.blocks.bias._planes import AVERAGES, MOVES, TOLERANCE, Traced, constant, last_module, send, source
from visavis.blocks.bias.remnants import Clamp, Shift

__all__ = ["Affine", "Fold", "LeftError", "ReusedError", "Surgery"]

_RELU = {"aten.relu.default", "aten.relu_.default"}
_CLIP = {"aten.hardtanh.default", "aten.hardtanh_.default"}


class LeftError(Exception):
    """Why it cannot be folded."""


class ReusedError(LeftError):
    """The reason is that a module runs more than once."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One norm or scale that was folded.

    Attributes:
        name: the module's that is gone.
        how: "back": into the layers before it. "ahead": into the layers after it. "clamp": it and the ReLU after it
            became a `Clamp`, the rest went ahead. "shift": it became a `Shift`, its scale went ahead past the ReLU.
        into: the names of the layers that took it up.
    """

    name: str
    how: Literal["back", "ahead", "clamp", "shift"]
    into: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Affine:
    """A module that multiplies and shifts channels: y = scale x + shift, of dimension `dim`."""

    call: Call
    nodes: tuple[Node, ...]
    given: Value
    scale: Tensor  # float64 [C]
    shift: Tensor
    dim: int

    @property
    def made(self) -> Value:
        """What it makes."""
        return self.nodes[-1].outputs[0]


class Surgery:
    """The network and its graph as traced; what is folded is replaced in the one and passed over in the other."""

    def __init__(self, network: nn.Module, traced: Traced) -> None:
        self._network, self._traced, self._graph = network, traced, traced.graph
        self._readers, self._depends = traced.readers, traced.depends
        self._gone: set[Node] = set()
        self._runs = Counter(call.name for call in self._graph.calls)

    def affines(self) -> list[Affine]:
        """The modules that do nothing but multiply and shift channels, once a module, in the order of execution."""
        found: dict[str, Affine] = {}
        for call in sorted(self._graph.calls, key=lambda call: call.nodes.start):
            nodes = [self._graph.nodes[index] for index in call.nodes]
            affine = None
            if isinstance(call.module, _BatchNorm):
                affine = self._batch_norm(call, nodes)
            elif not any(call.module.children()) and any(True for _ in call.module.parameters()):
                affine = self._scale(call, nodes)
            if affine is not None:
                found.setdefault(call.name, affine)
        return list(found.values())

    def _batch_norm(self, call: Call, nodes: list[Node]) -> Affine | None:
        for node in nodes:
            if node.name == "aten.native_batch_norm.default" and node.args[0] in self._depends and not node.args[5]:
                weight, bias, mean, var = (
                    None if value is None else self._graph.evaluate(value) for value in node.args[1:5]
                )
                if mean is None or var is None:
                    return None
                scale = (var.double() + node.args[7]).rsqrt() * (1.0 if weight is None else weight.double())
                shift = (0.0 if bias is None else bias.double()) - scale * mean.double()
                return Affine(call, (node,), node.args[0], scale, shift, 1)
        return None

    def _scale(self, call: Call, nodes: list[Node]) -> Affine | None:
        nodes = [node for node in nodes if set(node.outputs) & self._depends]
        if not nodes or len(call.inputs) != 1 or call.outputs != nodes[-1].outputs:
            return None
        value = call.inputs[0]
        scale, shift = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for node in nodes:
            kind = node.name.removeprefix("aten.").partition(".")[0].rstrip("_")
            if kind not in ("mul", "add") or node.kwargs or value not in node.args:
                return None
            (other,) = [each for each in node.args if each is not value] or [None]
            number = self._graph.evaluate(other) if isinstance(other, Value) else None
            if number is None:
                return None
            if kind == "mul":
                scale, shift = scale * number.double(), shift * number.double()
            else:
                shift = shift + number.double()
            value = node.outputs[0]
        shape = call.inputs[0].shape
        both = (scale + shift).shape
        wide = [dim - len(both) for dim in range(len(both)) if both[dim] > 1]
        if value.shape != shape or len(wide) != 1:
            return None
        dim = len(shape) + wide[0]
        return Affine(
            call, tuple(nodes), call.inputs[0], scale.expand(both).flatten(), shift.expand(both).flatten(), dim
        )

    def back(self, affine: Affine) -> Fold:
        """Into the layers that make what it reads.

        Raises:
            LeftError: why not.
        """
        self._once(affine)
        layers: list[Layer] = []
        path: list[Node] = []
        self._climb(affine.given, affine.nodes[0], layers, path)
        generator = torch.Generator().manual_seed(0)
        numbers = [_labels(layer.node.outputs[0].shape[layer.dim], generator) for layer in layers]
        planes = {
            layer.node.outputs[0]: _plane(layer.node.outputs[0].shape, number, layer.dim)
            for layer, number in zip(layers, numbers, strict=True)
        }
        for node in sorted(set(path), key=self._traced.place):
            planes.update(zip(node.outputs, self._send(node, planes), strict=False))
        channels = _channels(planes[affine.given], affine.dim, torch.cat(numbers))
        if (channels < 0).any() or len(set(channels.tolist())) < len(channels):
            raise LeftError("its channels are not each one channel of the layers before it")
        scale = torch.ones(sum(map(len, numbers)), dtype=torch.float64).index_copy(0, channels, affine.scale)
        shift = torch.zeros(len(scale), dtype=torch.float64).index_copy(0, channels, affine.shift)
        sizes = [len(number) for number in numbers]
        for layer, times, plus in zip(layers, torch.split(scale, sizes), torch.split(shift, sizes), strict=True):
            layer.scale_outputs(times)
            layer.shift_outputs(plus)
        self._remove(affine, None)
        return Fold(affine.call.name, "back", tuple(layer.name for layer in layers))

    def ahead(self, affine: Affine) -> Fold:
        """Into the layers that read what it makes.

        Raises:
            LeftError: why not.
        """
        self._once(affine)
        layers = self._ahead(affine, affine.made, affine.scale, affine.shift)
        self._remove(affine, None)
        return Fold(affine.call.name, "ahead", layers)

    def past_relu(self, affine: Affine) -> Fold:
        """Into the layers behind the ReLU (or ReLU6) that reads what it makes.

        Raises:
            LeftError: why not.
        """
        self._once(affine)
        made, dims = affine.made, len(affine.given.shape)
        nodes = self._readers.get(made, [])
        if len(nodes) != 1 or nodes[0].name not in _RELU | _CLIP or made in self._graph.outputs or affine.dim != 1:
            raise LeftError("not a ReLU alone reads it")
        (relu,) = nodes
        bottom, top = (0.0, math.inf) if relu.name in _RELU else relu.args[1:]
        scale, shift = affine.scale, affine.shift
        dead = scale.abs() < 1e-30
        after = torch.where(dead, shift.clamp(bottom, top), shift)
        safe = torch.where(dead, 1.0, scale)
        ends = torch.stack(((bottom - shift) / safe, (top - shift) / safe)).sort(0).values.masked_fill(dead, 0.0)
        name = self._relu_module(relu)
        dtype = made.dtype
        if name is not None:
            try:
                layers = self._ahead(affine, relu.outputs[0], scale.masked_fill(dead, 0.0), after)
            except ReusedError:
                raise
            except LeftError:
                pass
            else:
                self._remove(affine, Clamp(ends[0].to(dtype), ends[1].to(dtype), dims=dims), relu=name)
                return Fold(affine.call.name, "clamp", layers)
        if relu.name in _CLIP:
            raise LeftError("a clipping that stays reads it")
        layers = self._ahead(affine, relu.outputs[0], safe.abs(), torch.zeros_like(shift))
        by = torch.where(dead, after, shift / safe.abs())
        self._remove(affine, Shift(scale.sign().masked_fill(dead, 0.0).to(dtype), by.to(dtype), dims=dims))
        return Fold(affine.call.name, "shift", layers)

    def _once(self, affine: Affine) -> None:
        if self._runs[affine.call.name] > 1:
            raise ReusedError(f"{affine.call.name}, which runs {self._runs[affine.call.name]} times")

    def _layer(self, node: Node) -> Layer | None:
        """The layer whose product it is; None if it is no layer's.

        Raises:
            LeftError: the layer cannot be changed.
        """
        places = {"aten.convolution.default": (0, 1), "aten.addmm.default": (1, 2), "aten.mm.default": (0, 1)}
        if node.name not in places or not node.modules:
            return None
        name = node.modules[-1]
        module = self._network.get_submodule(name)
        if not isinstance(module, LAYERS):
            return None
        given, weight = (node.args[place] for place in places[node.name])
        found = source(self._graph, weight)
        if found is None or found[0].name != f"{name}.weight":
            raise LeftError(f"the weight of {name} is computed or shared")
        runs = max(len(self._readers[found[0]]), self._runs[name])
        if runs > 1:
            raise ReusedError(f"{name}, which runs {runs} times")
        return Layer(name, module, node, given, found[0])

    def _passes(self, node: Node) -> bool:
        """Whether planes can be sent through it."""
        return node.name in MOVES or node.name in AVERAGES or node in self._gone

    def _send(self, node: Node, planes: dict[Value, Tensor]) -> list[Tensor]:
        if node in self._gone:
            return [next(planes[value] for value in node.inputs if value in planes)]
        return send(node, planes)

    def _climb(self, value: Value, reader: Node, layers: list[Layer], path: list[Node]) -> None:
        """Collect the layers that make a value which `reader` alone reads, and the nodes between."""
        if value in self._graph.outputs or self._readers[value] != [reader]:
            raise LeftError("other layers read what it reads")
        if value.kind != "node":
            raise LeftError("no layer makes what it reads")
        node = self._graph.nodes[value.node]
        layer = self._layer(node)
        if layer is not None:
            layers.append(layer)
        elif self._passes(node):
            if any(other is not value and (other in self._readers) for other in node.outputs):
                raise LeftError("other layers read what it reads")
            path.append(node)
            for each in node.inputs:
                if each in self._depends or node not in self._gone:
                    self._climb(each, node, layers, path)
        else:
            raise LeftError(f"{_operation(node)} makes what it reads")

    def _ahead(self, affine: Affine, start: Value, scale: Tensor, shift: Tensor) -> tuple[str, ...]:
        """Give scale and shift of `start` to all that read it; changes nothing unless all of them can take it."""
        numbers = _labels(len(scale), torch.Generator().manual_seed(0))
        planes = {start: _plane(start.shape, numbers, affine.dim)}
        changes: list[tuple[Layer, Tensor, Tensor]] = []
        for node, held in self._traced.downstream(planes):
            layer = self._layer(node)
            if layer is not None and held == [layer.given]:
                channels = _channels(planes[layer.given], layer.dim, numbers)
                times = torch.where(channels < 0, 1.0, scale[channels])
                plane = _plane(layer.roomy, torch.where(channels < 0, 0.0, shift[channels]), layer.dim)
                plus = layer.product(plane)
                if not constant(plus, tuple(dim for dim in range(plus.ndim) if dim != layer.dim % plus.ndim)):
                    raise LeftError(f"{layer.name} pads with zeros, which are not shifted")
                changes.append((layer, times, plus.movedim(layer.dim, -1).reshape(-1, plus.shape[layer.dim])[0]))
            elif self._passes(node):
                planes.update(zip(node.outputs, self._send(node, planes), strict=False))
            else:
                raise LeftError(f"{_operation(node)} reads what it makes")
        if any(value in planes for value in self._graph.outputs):
            raise LeftError("it is the output")
        if not changes:
            raise LeftError("no layer reads what it makes")
        for layer, times, plus in changes:
            layer.scale_inputs(times)
            layer.shift_outputs(plus)
        return tuple(layer.name for layer, _, _ in changes)

    def _relu_module(self, node: Node) -> str | None:
        """The module that is this ReLU and nothing else, and runs once; None if there is none."""
        index = self._traced.place(node)
        for call in self._graph.calls:
            if call.nodes == range(index, index + 1) and self._runs[call.name] == 1 and call.name == node.modules[-1]:
                return call.name
        return None

    def _remove(self, affine: Affine, instead: nn.Module | None, *, relu: str | None = None) -> None:
        """Replace the module; what else runs inside it (timm's norms run their activation) stays."""
        name = affine.call.name
        parts = [instead] if instead is not None else []
        for call in self._graph.calls:
            inside = call.name.startswith(f"{name}.") and call.name.count(".") == name.count(".") + 1
            if inside and call.name != relu and not isinstance(call.module, nn.Identity):
                parts.append(self._network.get_submodule(call.name))
        if relu is not None and not relu.startswith(f"{name}."):
            self._replace(relu, nn.Identity())
        self._replace(name, parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity())
        if instead is None:
            self._gone.update(affine.nodes)

    def _replace(self, name: str, module: nn.Module) -> None:
        self._network.set_submodule(name, module.eval())


def _operation(node: Node) -> str:
    return f"{node.name.removeprefix('aten.').partition('.')[0].rstrip('_')} in {last_module(node)}"


def _labels(count: int, generator: torch.Generator) -> Tensor:
    """Numbers that tell channels apart: random, as a mixture of channels is then none of them."""
    return torch.randn(count, dtype=torch.float64, generator=generator)


def _plane(shape: tuple[int, ...], numbers: Tensor, dim: int) -> Tensor:
    """One number a channel, over the whole of a value."""
    return numbers.view([-1 if each == dim % len(shape) else 1 for each in range(len(shape))]).expand(shape)


def _channels(plane: Tensor, dim: int, numbers: Tensor) -> Tensor:
    """Which label each position of dimension `dim` shows; int64, -1 for none's zero.

    Raises:
        LeftError: one shows several, or a mixture.
    """
    if not constant(plane, tuple(each for each in range(plane.ndim) if each != dim % plane.ndim)):
        raise LeftError("its channels are not those of the layers beside it")
    found = plane.movedim(dim, -1).reshape(-1, plane.shape[dim])[0]
    distance, index = (found[:, None] - numbers).abs().min(1)
    if ((distance > TOLERANCE) & (found != 0)).any():
        raise LeftError("its channels are mixed on the way")
    return torch.where(found == 0, -1, index)
