"""How far a bias moves every value of a network, whatever the input: followed until it is gone, or might be seen.

The shift of a value is a plane. A linear operation maps shifts to shifts. A factor that depends on the input has random
numbers in its place, as do the weights unless told otherwise, so that what is found to vanish vanishes for all inputs
and weights, with probability 1. An operation that ignores what is constant along some dimensions (a normalisation, a
softmax) ends a shift that is; anything else that is not linear lets it escape.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from visavis.blocks._trace import Node, Value
from visavis.blocks.bias._planes import AVERAGES, MOVES, TOLERANCE, Traced, constant, last_module, send, source

__all__ = ["EscapedError", "Follower"]

_BATCH_NORM, _LAYER_NORM = "aten.native_batch_norm.default", "aten.native_layer_norm.default"
_GROUP_NORM = "aten.native_group_norm.default"
_SOFTMAX = {"aten._softmax.default", "aten._log_softmax.default"}
_SCALAR = {"aten.mul.Scalar", "aten.div.Scalar", "aten.neg.default", "aten.sum.dim_IntList", "aten.mul_.Scalar"}
_FACTORS = {"aten.mul.Tensor", "aten.mul_.Tensor", "aten.mm.default", "aten.bmm.default"}
_QUOTIENTS = {"aten.div.Tensor", "aten.div_.Tensor", "aten.div_.Scalar"}
_SUMS = {
    **{f"aten.{name}.{kind}": 1.0 for name in ("add", "add_") for kind in ("Tensor", "Scalar")},
    **{f"aten.{name}.{kind}": -1.0 for name in ("sub", "sub_") for kind in ("Tensor", "Scalar")},
}
_SPREADS = {"aten.var.correction", "aten.std.correction", "aten.var_mean.correction"}


class EscapedError(Exception):
    """The shift may reach the output."""


class Follower:
    """Follows the shift of one parameter through a graph.

    Attributes:
        absorbed: of each parameter or buffer that takes a shift up, by how much it must move the other way.
        ends: what ended the shift, in words, and the modules where.
    """

    def __init__(self, traced: Traced, *, absorb: bool, weights: bool, generator: torch.Generator) -> None:
        self.absorbed: dict[Value, Tensor] = {}
        self.ends: dict[str, list[str]] = {}
        self._traced, self._graph = traced, traced.graph
        self._absorb, self._weights, self._generator = absorb, weights, generator
        self._planes: dict[Value, Tensor] = {}
        self._parameter: Value | None = None

    def follow(self, parameter: Value, by: Tensor) -> None:
        """Move `parameter` by `by`, float64 of its shape.

        Raises:
            EscapedError: it may be seen in the output.
        """
        self.absorbed, self.ends = {}, {}
        self._planes, self._parameter = {parameter: by}, parameter
        scale = float(by.abs().max())
        for node, moved in self._traced.downstream(self._planes):
            if self._traced.live.isdisjoint(node.outputs) or not set(moved) & set(node.reads):
                continue
            for value, plane in zip(node.outputs, self._step(node), strict=False):
                if plane is None or value not in self._traced.live:
                    continue
                if float(plane.abs().max()) <= TOLERANCE * scale:
                    self._end(node, "cancels out")
                elif value in self._graph.outputs:
                    raise EscapedError
                else:
                    self._planes[value] = plane

    def _end(self, node: Node, what: str) -> None:
        self.ends.setdefault(what, []).append(last_module(node))

    def _step(self, node: Node) -> list[Tensor | None]:
        """The shifts of a node's outputs; None where there is none."""
        name = node.name
        if name in MOVES or name in AVERAGES or name in _SCALAR:
            planes = [*send(node, self._planes)]
            return [plane if plane.any() else None for plane in planes]
        rules: dict[str, Callable[[Node], list[Tensor | None]]] = {
            **dict.fromkeys(_SUMS, self._sum),
            **dict.fromkeys(_FACTORS, self._product),
            **dict.fromkeys(_QUOTIENTS, self._quotient),
            **dict.fromkeys(_SOFTMAX, self._softmax),
            **dict.fromkeys(_SPREADS, self._spread),
            "aten.constant_pad_nd.default": self._pad,
            "aten.addmm.default": self._linear,
            "aten.convolution.default": self._convolution,
            "aten._scaled_dot_product_flash_attention_for_cpu.default": self._attention,
            _BATCH_NORM: self._batch_norm,
            _LAYER_NORM: self._norm,
            _GROUP_NORM: self._norm,
        }
        if name not in rules:
            raise EscapedError
        return rules[name](node)

    def _plane(self, value: Any) -> Tensor | None:
        return self._planes.get(value) if isinstance(value, Value) else None

    def _other(self, value: Any) -> Any:
        """Numbers in the place of a factor: a weight's own if asked for, of a softmax random shares, else random."""
        if not isinstance(value, Value):
            return value
        if self._weights and value not in self._traced.depends:
            known = self._graph.evaluate(value)
            if known is not None:
                return known.double()
        if value.kind == "node":
            node = self._graph.nodes[value.node]
            if node.name == "aten._softmax.default":
                return self._random(value).softmax(node.args[1])
            if node.name in MOVES and len(node.inputs) == 1:
                return send(node, {node.inputs[0]: self._other(node.inputs[0])})[node.outputs.index(value)]
        return self._random(value)

    def _random(self, value: Value) -> Tensor:
        return torch.randn(value.shape, dtype=torch.float64, generator=self._generator)

    def _take(self, plane: Tensor, value: Any) -> bool:
        """Let an added parameter, or a running mean, take the shift up, if there is one that can."""
        found = source(self._graph, value) if self._absorb else None
        if found is None or found[0] is self._parameter:
            return False
        parameter, path = found
        if any(len(self._traced.readers[each]) > 1 for each in (parameter, *(node.outputs[0] for node in path))):
            return False  # moving it would be seen elsewhere as well
        labels = torch.arange(parameter.tensor.numel(), dtype=torch.float64).view(parameter.shape)  # type: ignore[union-attr]
        shown = labels
        for node in path:
            (shown,) = send(node, {node.inputs[0]: shown})
        fits = zip(reversed(shown.shape), reversed(plane.shape), strict=False)
        if shown.ndim > plane.ndim or any(have not in (1, want) for have, want in fits):
            return False
        index = shown.expand(plane.shape).long().flatten()
        by = torch.zeros(labels.numel(), dtype=torch.float64)
        by[index] = plane.flatten()
        if (by[index] - plane.flatten()).abs().max() > TOLERANCE * plane.abs().max():
            return False
        self.absorbed[parameter] = by.view(parameter.shape)
        return True

    def _sum(self, node: Node) -> list[Tensor | None]:
        left, right = (self._plane(value) for value in node.args[:2])
        sign = _SUMS[node.name] * node.kwargs.get("alpha", 1)
        if right is None and left is not None:
            if sign == 1 and self._take(left.expand(node.outputs[0].shape), node.args[1]):
                return [None]
            return [left.expand(node.outputs[0].shape)]
        assert right is not None
        if left is None:
            if sign == 1 and self._take(right.expand(node.outputs[0].shape), node.args[0]):
                return [None]
            return [(sign * right).expand(node.outputs[0].shape)]
        return [left + sign * right]

    def _product(self, node: Node) -> list[Tensor | None]:
        values = list(node.args[:2])
        planes = [self._plane(value) for value in values]
        if planes[0] is not None and planes[1] is not None:
            raise EscapedError
        side = 0 if planes[1] is None else 1
        if values[side] not in self._traced.depends and values[1 - side] in self._traced.depends:
            raise EscapedError  # a weight, not a bias
        factors = [
            plane if plane is not None else self._other(value) for plane, value in zip(planes, values, strict=True)
        ]
        if node.name.startswith("aten.mul"):
            return [factors[0] * factors[1]]
        return [_matmul(*factors)]

    def _quotient(self, node: Node) -> list[Tensor | None]:
        plane = self._plane(node.args[0])
        if plane is None or self._plane(node.args[1]) is not None:
            raise EscapedError
        return [plane / self._other(node.args[1])]

    def _pad(self, node: Node) -> list[Tensor | None]:
        return [torch.constant_pad_nd(self._planes[node.args[0]], node.args[1])]

    def _linear(self, node: Node) -> list[Tensor | None]:
        bias, rows, weight = node.args[:3]
        if self._plane(weight) is not None or set(node.kwargs.values()) - {1}:
            raise EscapedError
        plane = self._plane(bias)
        if plane is not None:
            plane = plane.expand(node.outputs[0].shape)
        if self._plane(rows) is not None:
            product = _matmul(self._planes[rows], self._other(weight))
            if plane is None and self._take(product, bias):
                return [None]
            plane = product if plane is None else plane + product
        return [plane]

    def _convolution(self, node: Node) -> list[Tensor | None]:
        given, weight, bias, *rest = node.args
        if self._plane(weight) is not None:
            raise EscapedError
        plane, total = self._plane(given), None
        if plane is not None:
            total = torch.ops.aten.convolution.default(plane, self._other(weight), None, *rest)
            if self._plane(bias) is None and self._take_channels(total, bias):
                return [None]
        if self._plane(bias) is not None:
            spread = self._planes[bias].view(1, -1, *[1] * (len(node.outputs[0].shape) - 2))
            total = spread.expand(node.outputs[0].shape) if total is None else total + spread
        return [total]

    def _take_channels(self, plane: Tensor, value: Any) -> bool:
        """`_take` of a parameter or buffer that lies along dimension 1."""
        return self._take(plane.movedim(1, -1), value)

    def _attention(self, node: Node) -> list[Tensor | None]:
        query, key, value = (self._plane(each) for each in node.args[:3])
        dropout = node.args[3] if len(node.args) > 3 else 0.0
        if query is not None or (value is not None and (dropout or not constant(value, (-2,)))):
            raise EscapedError
        if key is not None:
            if not constant(key, (-2,)):
                raise EscapedError
            self._end(node, "adds the same to all scores of a query, which their softmax ignores,")
        if value is None:
            return [None]
        return [value[..., :1, :].expand(node.outputs[0].shape)]  # the weights of a query sum to one

    def _softmax(self, node: Node) -> list[Tensor | None]:
        if not constant(self._planes[node.args[0]], (node.args[1],)):
            raise EscapedError
        self._end(node, "adds the same to all entries of a softmax, which it ignores,")
        return [None]

    def _spread(self, node: Node) -> list[Tensor | None]:
        plane, dims = self._planes[node.args[0]], node.args[1] if len(node.args) > 1 else None
        if not constant(plane, tuple(dims if dims is not None else range(plane.ndim))):
            raise EscapedError
        keep = node.kwargs.get("keepdim", False)
        return [None, *([plane.mean(dims, keepdim=keep)] if "mean" in node.name else [])]

    def _batch_norm(self, node: Node) -> list[Tensor | None]:
        given, weight, bias, mean, var, training, _, eps = node.args
        plane, total = self._plane(given), None
        if self._plane(weight) is not None:
            raise EscapedError
        if self._plane(bias) is not None:
            shape = node.outputs[0].shape
            total = self._planes[bias].view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
        if plane is None:
            return [total]
        if training:
            if not constant(plane, tuple(dim for dim in range(plane.ndim) if dim != 1)):
                raise EscapedError
            self._end(
                node, "is subtracted with the batch's mean" if mean is not None else "is subtracted with the mean"
            )
            return [total]
        if self._take_channels(plane, mean):
            return [total]
        scale = self._other(var).abs().add(eps).rsqrt()
        scale = scale if weight is None else scale * self._other(weight)
        scaled = plane * scale.view(1, -1, *[1] * (plane.ndim - 2))
        return [scaled if total is None else total + scaled]

    def _norm(self, node: Node) -> list[Tensor | None]:
        """LayerNorm and GroupNorm: what is constant over what they normalise is subtracted with its mean."""
        layer = node.name == _LAYER_NORM
        given, weight, bias = (node.args[0], *node.args[2:4]) if layer else node.args[:3]
        plane, total = self._plane(given), None
        if self._plane(weight) is not None:
            raise EscapedError
        if self._plane(bias) is not None:
            shape = node.outputs[0].shape
            spread = self._planes[bias] if layer else self._planes[bias].view(1, -1, *[1] * (len(shape) - 2))
            total = spread.expand(shape)
        if plane is not None:
            if layer:
                flat, dims = plane, tuple(range(-len(node.args[1]), 0))
            else:
                flat, dims = plane.reshape(plane.shape[0], node.args[6], -1), (-1,)
            if not constant(flat, dims):
                raise EscapedError
            self._end(node, "is subtracted with the mean")
        return [total]


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """Of a plane whose rows are alike one row is enough."""
    if constant(left, (-2,)):
        return (left[..., :1, :] @ right).expand(*left.shape[:-1], right.shape[-1])
    return left @ right
