"""One operation of a network, and the fields known when it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from visavis.blocks._trace import Graph, Node, Value
from visavis.blocks.receptive._reach import Reach

__all__ = ["Rule", "Step", "anywhere", "base_name", "everything", "union", "unknown"]


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


def union(reaches: list[Reach | None], shape: tuple[int, ...]) -> Reach | None:
    """Broadcast to one shape, and joined."""
    result: Reach | None = None
    for reach in reaches:
        if reach is not None:
            wide = reach.expanded(shape)
            result = wide if result is None else result.joined(wide)
    return result


def everything(step: Step) -> list[Reach | None]:
    """Every output reads all of every input."""
    results = []
    for value in step.node.outputs:
        parts = [reach.whole(value.shape) for given in step.node.reads if (reach := step.reach(given)) is not None]
        results.append(union(list(parts), value.shape))
    return results


def unknown(step: Step) -> list[Reach | None]:
    """Everything reads everything."""
    step.note("no rule; taken to read the whole of its inputs")
    return everything(step)


def anywhere(step: Step) -> list[Reach | None]:
    """Where a value goes is decided by the input itself."""
    step.note("places depend on the input's numbers; taken to read the whole of its inputs")
    return everything(step)


def base_name(node: Node) -> str:
    """The name without overload and in-place mark: of aten.relu_.default "relu"."""
    if not isinstance(node.op, torch._ops.OpOverload):
        return node.name
    return str(node.op._schema.name).removeprefix("aten::").rstrip("_")
