"""What every module of a network costs."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from visavis.app.inspecting._runs import example, first_line
from visavis.app.inspecting.records import Finding, Own, Row
from visavis.blocks import receptive
from visavis.blocks._trace import Graph, Node, Value, overlay

__all__ = ["module_rows", "saved_bytes"]

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


def saved_bytes(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, float] | None, str]:
    """Bytes an image that each module's own operations keep for backward, in training; or why it does not train.

    A batch of two is run, as BatchNorm refuses a single value a channel. A tensor counts where it is kept first.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    actual = (*model.named_parameters(), *model.named_buffers())
    state: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in actual}
    counted = {tensor.untyped_storage()._cdata for tensor in state.values()}
    kept: list[Tensor] = []  # alive, so that no storage's number is given out twice
    active: list[str] = []
    saved: dict[str, float] = defaultdict(float)

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in counted:
            counted.add(storage._cdata)
            kept.append(tensor)
            saved[active[-1] if active else ""] += storage.nbytes() / 2
        return tensor

    def enter(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: active.append(name)  # noqa: ARG005 - as hooks are called

    def leave(module: nn.Module, args: Any, result: Any) -> None:  # noqa: ARG001 - as hooks are called
        active.pop()

    model.train()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(enter(name)).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        images = fake.from_tensor(example(model, (2, *input_shape)))
        stack.enter_context(fake)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        try:
            torch.func.functional_call(model, state, (images,))
        except Exception as error:  # whatever the network raises
            return (
                None,
                f"{type(error).__name__} in {(active[-1] if active else '') or 'the network'}: {first_line(error)}",
            )
    return saved, ""


def _flops(node: Node) -> int:
    """By torch's own formulas; 0 for what has none."""
    if node.op is overlay:
        return 0
    if node.op is _CPU_ATTENTION:
        query, key, value = (list(value.shape) for value in node.inputs[:3])
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]
    formula = flop_registry.get(node.op.overloadpacket)  # type: ignore[attr-defined]  # an OpOverload, as `overlay` is out
    if formula is None:
        return 0
    args, kwargs = tree_map(
        lambda leaf: torch.empty(leaf.shape, dtype=leaf.dtype, device="meta") if isinstance(leaf, Value) else leaf,
        (node.args, node.kwargs),
    )
    result = torch.empty(node.outputs[0].shape, device="meta")
    return int(formula(*args, **kwargs, out_val=result))


def _written(node: Node) -> int:
    """Bytes that an operation writes to new memory: none where it returns a view, or its argument."""
    if node.op is overlay:
        return 0
    slots = node.op._schema.returns  # type: ignore[attr-defined]  # an OpOverload
    fresh = [value for value, slot in zip(node.outputs, slots, strict=False) if slot.alias_info is None]
    return sum(math.prod(value.shape) * value.dtype.itemsize for value in fresh)


def module_rows(
    model: nn.Module,
    graph: Graph,
    fields: receptive.Fields,
    saved: dict[str, float] | None,
    findings: Iterable[Finding],
) -> tuple[Row, ...]:
    flops: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for node in graph.nodes:
        place = node.modules[-1] if node.modules else ""
        flops[place] += _flops(node)
        written[place] += _written(node)
    parameters: Counter[str] = Counter()
    for name, tensor in model.named_parameters():
        parameters[name.rpartition(".")[0]] += tensor.numel()
    marks: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        for layer in finding.layers if finding.level == "mend" else ():
            marks[layer].add(finding.kind)
    runs = Counter(call.name for call in graph.calls)
    shapes = {call.name: call.outputs[0].shape for call in graph.calls if call.outputs}
    modules = dict(model.named_modules())
    rows = []
    for name, module in modules.items():
        inside = [each for each in modules if not name or each == name or each.startswith(f"{name}.")]
        own = Own(
            parameters=parameters[name],
            flops=flops[name],
            activation_bytes=written[name],
            saved_bytes=None if saved is None else round(saved.get(name, 0.0)),
            marks=dict.fromkeys(sorted(marks[name]), 1),
        )
        row = Row(
            name=name,
            kind=type(module).__name__,
            depth=name.count(".") + 1 if name else 0,
            calls=runs[name],
            leaf=len(inside) == 1,
            shape=shapes.get(name, ()),
            parameters=sum(parameters[each] for each in inside),
            flops=sum(flops[each] for each in inside),
            activation_bytes=sum(written[each] for each in inside),
            saved_bytes=None if saved is None else round(sum(saved.get(each, 0.0) for each in inside)),
            field=tuple(axis.size for axis in _axes(fields, name, runs[name])),
            stride=tuple(
                None if axis.stride is None else float(axis.stride) for axis in _axes(fields, name, runs[name])
            ),
            own=own,
            marks=dict(Counter(mark for each in inside for mark in sorted(marks[each]))),
        )
        if row.calls or row.parameters:
            rows.append(row)
    key = _order(graph, list(modules))
    return tuple(sorted(rows, key=lambda row: key(row.name)))


def _order(graph: Graph, names: list[str]) -> Callable[[str], list[tuple[int, int]]]:
    """A key to sort modules by their first run, each after the one around it.

    One that does not run, as a list of modules, stands before the first inside it and does not keep them together.
    """
    first: dict[str, int] = {}
    for call in graph.calls:
        first[call.name] = min(first.get(call.name, len(graph.nodes)), call.nodes.start)
    number = {name: place for place, name in enumerate(names)}

    def key(name: str) -> list[tuple[int, int]]:
        ends = [end for end, letter in enumerate(name) if letter == "."]
        around = [name[:end] for end in ends if name[:end] in first]
        start = first.get(name)
        if start is None:
            inside = [first[each] for each in first if each.startswith(f"{name}.")]
            start = min(inside, default=len(graph.nodes))
        return [(first[each], number[each]) for each in around] + ([(start, number[name])] if name else [])

    return key


def _axes(fields: receptive.Fields, name: str, calls: int) -> tuple[receptive.Axis, ...]:
    """Of a module's last call whose output depends on the image."""
    for number in range(calls, 0, -1):
        layer = fields.layers.get(name if number == 1 else f"{name}:{number}")
        if layer is not None:
            return layer.axes
    return ()
