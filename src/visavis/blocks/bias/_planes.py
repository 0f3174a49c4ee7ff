"""What every part of this family computes with: planes of numbers sent through the operations of a traced network.

A plane has the shape of a value of the graph and holds what is asked about it: how far a bias moves it, or which
channel each of its elements came from. All planes are float64.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from visavis.blocks._trace import Graph, Node, Value

__all__ = ["AVERAGES", "MOVES", "TOLERANCE", "Traced", "constant", "last_module", "send", "source"]

TOLERANCE = 1e-9  # of planes of float64, relative: half-way between their rounding and the numbers they hold

MOVES = {  # elements are moved, repeated or left out, never mixed
    *("aten.view.default", "aten._unsafe_view.default", "aten.permute.default", "aten.transpose.int"),
    *("aten.t.default", "aten.expand.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"),
    *("aten.unsqueeze.default", "aten.slice.Tensor", "aten.select.int", "aten.split.Tensor"),
    *("aten.split_with_sizes.default", "aten.unbind.int", "aten.cat.default", "aten.stack.default"),
    *("aten.clone.default", "aten.alias.default", "aten.detach.default", "aten.roll.default", "aten.flip.default"),
    *("aten.repeat.default", "aten.pixel_shuffle.default", "aten.pixel_unshuffle.default", "overlay"),
    *("aten._to_copy.default", "aten.channel_shuffle.default", "aten.native_channel_shuffle.default"),
    *("aten.reshape.default", "aten.im2col.default", "aten.unfold.default", "aten.lift_fresh.default"),
    *("aten._reshape_alias.default",),
}
AVERAGES = {  # linear in one tensor, and a constant stays that constant, except at a padded border
    *("aten.mean.dim", "aten.mean.default", "aten.avg_pool1d.default", "aten.avg_pool2d.default"),
    *("aten.avg_pool3d.default", "aten._adaptive_avg_pool2d.default", "aten._adaptive_avg_pool3d.default"),
    *("aten.adaptive_avg_pool1d.default", "aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default"),
    *("aten.upsample_nearest3d.default", "aten.upsample_bilinear2d.default", "aten.upsample_trilinear3d.default"),
    *("aten.upsample_nearest2d.vec", "aten.upsample_bilinear2d.vec", "aten.reflection_pad2d.default"),
    *("aten.replication_pad2d.default", "aten.reflection_pad1d.default", "aten.replication_pad1d.default"),
}


def send(node: Node, planes: Mapping[Value, Tensor]) -> list[Tensor]:
    """Run a node of `MOVES` or `AVERAGES` on planes, with zeros for what is not among them; one result an output."""
    args, kwargs = tree_map(
        lambda leaf: (
            planes.get(leaf, torch.zeros((), dtype=torch.float64).expand(leaf.shape))
            if isinstance(leaf, Value)
            else leaf
        ),
        (node.args, node.kwargs),
    )
    if node.name in ("aten.view.default", "aten._unsafe_view.default", "aten._reshape_alias.default"):
        return [args[0].reshape(args[1])]  # the plane need not lie in memory as the value did
    if node.name in ("aten._to_copy.default", "aten.lift_fresh.default"):
        return [args[0]]
    return [leaf for leaf in tree_flatten(node.op(*args, **kwargs))[0] if isinstance(leaf, Tensor)]


def constant(plane: Tensor, dims: tuple[int, ...]) -> bool:
    """Whether it does not vary along these dimensions."""
    if not plane.numel() or not dims:
        return True
    return bool((plane.amax(dims) - plane.amin(dims)).max() <= TOLERANCE * plane.abs().max())


class Traced:
    """A graph with what is looked up in it over and over.

    Attributes:
        readers: of every value the nodes that read it.
        parameters: of every parameter that is read its value, by name.
        depends: the values that depend on the input.
        live: the values that the output depends on.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[Value, list[Node]] = {}
        self.parameters: dict[str, Value] = {}
        self.depends = graph.depends()
        self.live = set(graph.outputs)
        self._places: dict[Node, int] = {}
        inputs = [node.inputs for node in graph.nodes]
        for place, (node, values) in enumerate(zip(graph.nodes, inputs, strict=True)):
            self._places[node] = place
            for value in dict.fromkeys(values):
                self.readers.setdefault(value, []).append(node)
                if value.kind == "parameter":
                    self.parameters[value.name] = value
        for node, values in zip(reversed(graph.nodes), reversed(inputs), strict=True):
            if not self.live.isdisjoint(node.outputs):
                self.live.update(values)

    def place(self, node: Node) -> int:
        """Its place in the order of execution."""
        return self._places[node]

    def downstream(self, planes: Mapping[Value, Tensor]) -> Iterator[tuple[Node, list[Value]]]:
        """The nodes that read something among the planes, in order, and what; new planes are taken into account."""
        waiting: list[int] = []
        seen: set[int] = set()

        def add(values: Iterable[Value]) -> None:
            for value in values:
                for node in self.readers.get(value, ()):
                    if value in planes and self._places[node] not in seen:
                        seen.add(self._places[node])
                        heapq.heappush(waiting, self._places[node])

        add(list(planes))
        while waiting:
            node = self.graph.nodes[heapq.heappop(waiting)]
            yield node, [value for value in node.inputs if value in planes]
            add(node.outputs)


def source(graph: Graph, value: Any) -> tuple[Value, list[Node]] | None:
    """The parameter or buffer that a value shows through moves alone, and these moves in order; else None."""
    path: list[Node] = []
    while isinstance(value, Value) and value.kind == "node":
        node = graph.nodes[value.node]
        if node.name not in MOVES or len(node.inputs) != 1 or len(node.outputs) != 1:
            return None
        path.insert(0, node)
        value = node.inputs[0]
    return (value, path) if isinstance(value, Value) and value.kind in ("parameter", "buffer") else None


def last_module(node: Node) -> str:
    """The module that ran it, for people."""
    return (node.modules[-1] if node.modules else "") or "the network"
