"""`examine`: what a network costs and sees, layer by layer, and what of it does nothing or is better done otherwise.

The network runs on fake tensors, which compute nothing: once without gradients for the graph, once with them for what
autograd keeps. Only which biases and norms it can do without is proved by running it on numbers. Everything is of one
image; a multiplication and an addition are two FLOPs.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from visavis.blocks import bias, receptive
from visavis.blocks._trace import Graph, Node, Value, overlay, trace

__all__ = [
    "LINEAR_PAYS_FROM",
    "Attention",
    "Finding",
    "Inspection",
    "Own",
    "Row",
    "amount",
    "examine",
    "field_text",
    "marks_text",
    "memory",
    "shape_text",
]

# Places from which linear attention was quicker than softmax attention, forward and backward, with 64 features a head
# on a CPU: benchmarks/results/attention--*.json, drawn and told in docs/attention.md. The ratio of the two
# costs' leading terms is places over features, so with more features a head it is as many times later.
LINEAR_PAYS_FROM = 256
MEASURED_FEATURES = 64
NAMED = 3  # layers that a finding names; JSON has all

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_SOFTMAX = ("aten._softmax.default", "aten._safe_softmax.default")
_PRODUCTS = ("aten.bmm.default", "aten.baddbmm.default")
_THROUGH = {  # between a product of queries and keys and its softmax, beside what is pointwise
    *("aten.view.default", "aten._unsafe_view.default", "aten.expand.default", "aten.reshape.default"),
    *("aten.clone.default", "aten._to_copy.default", "aten.masked_fill.Scalar", "aten.masked_fill_.Scalar"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reader should know first.

    Attributes:
        kind: what it is about, for programs.
        level: "mend": something to change; "know": a fact worth knowing; "unknown": what could not be told.
        text: one sentence.
        layers: the names it is about, in order.
    """

    kind: str
    level: Literal["mend", "know", "unknown"]
    text: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attention:
    """One product of queries with keys: `places` queries, `keys` keys, `features` of each head."""

    layer: str
    places: int
    keys: int
    features: int

    @property
    def pays_from(self) -> int:
        """Places from which the linear form is the quicker one; see `LINEAR_PAYS_FROM`."""
        return LINEAR_PAYS_FROM * max(1, math.ceil(self.features / MEASURED_FEATURES))


@dataclass(frozen=True, slots=True)
class Row:
    """A module, with all that is inside it.

    Attributes:
        calls: how often it ran; 0: not at all.
        leaf: whether there are no modules inside it.
        shape: of the last call's first output, with the batch of 1; () where it gave none.
        parameters: a number shared with an earlier module is counted there.
        flops: of products and convolutions; the rest is small beside them and is not counted.
        activation_bytes: what one forward writes, views and operations in place left out.
        saved_bytes: what autograd keeps for the backward of a training step, an image; None: it did not run.
        field: input positions that reach an output position, an axis of the image each; None: the whole image. Empty
            where the output does not depend on the image.
        stride: input positions an output position, an axis each; None where there is no even pattern.
        own: flops, parameters, bytes and saved bytes that are no module's inside it.
        marks: kinds of the findings that ask for a change, with how many modules they name, it and those inside.
    """

    name: str
    kind: str
    depth: int
    calls: int
    leaf: bool
    shape: tuple[int, ...]
    parameters: int
    flops: int
    activation_bytes: int
    saved_bytes: int | None
    field: tuple[int | None, ...]
    stride: tuple[float | None, ...]
    own: "Own"
    marks: dict[str, int]


@dataclass(frozen=True, slots=True)
class Own:
    """What a module itself costs, without the modules inside it."""

    parameters: int
    flops: int
    activation_bytes: int
    saved_bytes: int | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Findings, the most useful first, and the modules in the order in which they first ran; the first row is all."""

    model: str
    input_shape: tuple[int, ...]
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    attentions: tuple[Attention, ...]

    @property
    def total(self) -> Row:
        return self.rows[0]

    def shown(self, depth: int) -> list[Row]:
        """Modules down to a depth: those at it and leaves above it, and what modules above compute beside these.

        Together they hold all parameters and FLOPs; what costs nothing is left out.
        """
        found = []
        for row in self.rows:
            if row.depth == depth or (row.leaf and row.depth < depth):
                if row.parameters or row.flops or row.activation_bytes or row.saved_bytes:
                    found.append(row)
            elif row.depth < depth and (row.own.parameters or row.own.flops):
                found.append(replace(row, **asdict(row.own), name=f"{row.name or row.kind} itself", marks={}))
        return found

    def depth_for(self, lines: int) -> int:
        """The greatest depth that gives no more lines; at least 1."""
        deepest = max(row.depth for row in self.rows)
        return max((d for d in range(1, deepest + 1) if len(self.shown(d)) <= lines), default=1)

    def to_json(self) -> dict[str, Any]:
        """All of it as lists, numbers and texts."""
        return asdict(self)


def examine(model: nn.Module, input_shape: tuple[int, ...], *, name: str = "", prove: bool = True) -> Inspection:
    """What a network costs and sees, and what of it does nothing.

    Args:
        model: any network of one image; it and its modes are left as they are.
        input_shape: (C, length), (C, H, W) or (C, D, H, W), without the batch.
        name: of the network, for the report.
        prove: look for redundant biases and foldable norms too, which runs the network on random numbers a few times.

    Raises:
        InputError: the network does not run on this shape, or looks at its input's numbers; names the layer.

    >>> found = examine(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 1, 3, stride=2)), (3, 8, 8))
    >>> found.total.parameters, found.total.flops, found.total.field
    (149, 10368, (4, 4))
    >>> found.findings[0].kind
    'checkerboard'
    """
    with _modes_kept(model):
        fields = receptive.fields(model, input_shape)
        model.eval()
        graph = trace(model, _example(model, (1, *input_shape)))
        saved, refused = _saved(model, input_shape)
        biases, norms = (_biases(model, input_shape), _norms(model, input_shape)) if prove else ([], [])
    attentions = _attentions(graph)
    findings = [
        *biases,
        *_checkerboards(graph),
        *_narrow(fields),
        *_quadratic(attentions),
        *norms,
        *_idle(model, graph),
        *_training(saved, refused),
        *(Finding("assumed", "unknown", note) for note in fields.notes),
    ]
    rows = _rows(model, graph, fields, saved, findings)
    order = ("mend", "unknown", "know")
    findings = sorted([*findings, *_heaviest(rows)], key=lambda finding: order.index(finding.level))
    return Inspection(name or type(model).__name__, tuple(input_shape), tuple(findings), rows, attentions)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _example(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """An empty input of the type of the network's weights."""
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _batch(model: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    """Two random images: training with a BatchNorm needs two."""
    example = _example(model, (2, *input_shape))
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)


def _biases(model: nn.Module, input_shape: tuple[int, ...]) -> list[Finding]:
    try:
        found = bias.redundant(model, _batch(model, input_shape)).biases
    except Exception as error:  # whatever the network raises
        return [Finding("bias", "unknown", f"biases were not looked at: {type(error).__name__}: {_line(error)}")]
    idle = [each for each in found if each.when in ("always", "in training")]
    whole = [each for each in idle if each.part != "mean"]
    mean = [each for each in idle if each.part == "mean"]
    absorbed = [each for each in found if each.when == "absorbed"]
    groups: list[tuple[list[bias.RedundantBias], Literal["mend", "know"], str]] = [
        (whole, "mend", f"{_count(whole, 'bias does', 'biases do')} nothing"),
        (absorbed, "know", f"{_count(absorbed, 'bias', 'biases')} can be taken up by other parameters"),
        (mean, "know", f"the mean of {_count(mean, 'bias', 'biases')} does nothing"),
    ]
    findings = []
    for biases, level, what in groups:
        if biases:
            names = [each.name if each.part in ("all", "mean") else f"{each.name}[{each.part}]" for each in biases]
            text = f"{what} ({amount(sum(each.parameters for each in biases))} parameters): {_names(names)}; "
            text += f"the first {biases[0].reason}"
            layers = tuple(dict.fromkeys(each.name.rpartition(".")[0] for each in biases))
            findings.append(Finding("bias", level, text, layers))
    return findings


def _norms(model: nn.Module, input_shape: tuple[int, ...]) -> list[Finding]:
    try:
        _, report = bias.fold(model.eval(), _batch(model, input_shape), leave_reused=True)
    except Exception as error:  # whatever the network raises
        return [Finding("norm", "unknown", f"norms were not looked at: {type(error).__name__}: {_line(error)}")]
    if not report.folded:
        return []
    names = tuple(each.name for each in report.folded)
    total = len(report.folded) + len(report.left)
    text = (
        f"{len(names)} of {_count(range(total), 'norm or scale', 'norms and scales')} can be folded into other layers "
    )
    text += f"once trained (visavis.blocks.bias.fold), outputs differ by {report.error:.0e}: {_names(names)}"
    return [Finding("norm", "mend", text, names)]


def _saved(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, float] | None, str]:
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
        example = fake.from_tensor(_example(model, (2, *input_shape)))
        stack.enter_context(fake)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        try:
            torch.func.functional_call(model, state, (example,))
        except Exception as error:  # whatever the network raises
            return None, f"{type(error).__name__} in {(active[-1] if active else '') or 'the network'}: {_line(error)}"
    return saved, ""


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


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


def _rows(
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
        own = Own(parameters[name], flops[name], written[name], None if saved is None else round(saved.get(name, 0.0)))
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


def _checkerboards(graph: Graph) -> list[Finding]:
    """Transposed convolutions whose output positions get different numbers of taps."""
    prone: dict[str, str] = {}
    for node in graph.nodes:
        if node.name != "aten.convolution.default" or not node.args[6]:
            continue
        kernel, stride, dilation = node.args[1].shape[2:], node.args[3], node.args[5]
        uneven = [
            (taps, step)
            for taps, step, gap in zip(kernel, stride, dilation, strict=True)
            if len({sum(tap * gap % step == phase for tap in range(taps)) for phase in range(step)}) > 1
        ]
        if uneven:
            prone[node.modules[-1]] = "kernel {} at stride {}".format(*uneven[0])
    if not prone:
        return []
    text = f"{_count(prone, 'transposed convolution')} may draw a checkerboard, as output positions get different "
    text += f"numbers of taps: {_names([f'{name} ({why})' for name, why in prone.items()])}; "
    text += "take a kernel that is a multiple of the stride"
    return [Finding("checkerboard", "mend", text, tuple(prone))]


def _narrow(fields: receptive.Fields) -> list[Finding]:
    """What the last stage sees: the last layer before a head that sees everything, if it has no positions left.

    Where positions that are still many see everything, as after attention, nothing is missed.
    """
    lengths = fields.input_shape[1:]
    layers = [layer for layer in fields.layers.values() if layer.leaf]
    short: dict[int, tuple[str, int]] = {}
    for number in range(len(lengths)):
        sizes = [(layer, layer.axes[number].size) for layer in layers]
        seen = [(layer.name, size) for layer, size in sizes if size is not None]
        if seen and not any(size is None and math.prod(layer.shape[2:]) > 1 for layer, size in sizes):
            name, size = seen[-1]
            if size < lengths[number]:
                short[number] = name, size
    if short:
        missed = dict.fromkeys(f"{size} of {lengths[number]}" for number, (_, size) in short.items())
        names = tuple(dict.fromkeys(name for name, _ in short.values()))
        text = f"the last stage sees only {' x '.join(missed)} px: {_names(names)}"
        return [Finding("field", "mend", text, names)]
    for layer in layers:
        sees = [axis.size is None or axis.size >= length for axis, length in zip(layer.axes, lengths, strict=True)]
        if all(sees):
            by = "" if any(axis.size is not None for axis in layer.axes) else ", by a global operation"
            text = f"{layer.name or 'the network'} is the first layer to see all of {shape_text(lengths)} px{by}"
            return [Finding("field", "know", text, (layer.name,))]
    return []


def _attentions(graph: Graph) -> tuple[Attention, ...]:
    """Fused attention, and softmax over a batched product that is not fused."""
    found = []
    for node in graph.nodes:
        place = node.modules[-1] if node.modules else ""
        if "_scaled_dot_product" in node.name:
            query, key = (value.shape for value in node.inputs[:2])
            found.append(Attention(place, query[-2], key[-2], query[-1]))
        elif node.name in _SOFTMAX and node.args[1] in (-1, len(node.args[0].shape) - 1):
            product = _product_before(graph, node)
            if product is not None:
                features = product.inputs[-2].shape[-1]  # of bmm and baddbmm alike the two last are multiplied
                places, keys = node.args[0].shape[-2:]
                found.append(Attention(place, places, keys, features))
    return tuple(found)


def _product_before(graph: Graph, node: Node) -> Node | None:
    """The batched product whose scores reach this softmax, scaled, shifted, masked and reshaped."""
    value = node.inputs[0]
    while value.kind == "node":
        before = graph.nodes[value.node]
        if before.name in _PRODUCTS:
            return before
        plain = isinstance(before.op, torch._ops.OpOverload) and torch.Tag.pointwise in before.op.tags
        if not (plain or before.name in _THROUGH) or not before.inputs:
            return None
        value = max(before.inputs, key=lambda each: math.prod(each.shape))  # the scores, not a bias or a mask
    return None


def _quadratic(attentions: tuple[Attention, ...]) -> list[Finding]:
    groups: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for each in attentions:
        groups[each.places, each.keys, each.pays_from].append(each.layer)
    found = []
    for (places, keys, pays_from), layers in groups.items():
        over = f"{keys:,}" if places == keys else f"{places:,} x {keys:,}"
        text = f"{_count(layers, 'attention')} with cost quadratic in {over} places: {_names(layers)}; "
        if min(places, keys) >= pays_from:
            text += f"the linear form pays from about {pays_from:,} on (visavis.blocks.attention)"
        else:
            text += f"softmax is the quicker form here, the linear one pays from about {pays_from:,} on"
        level: Literal["mend", "know"] = "mend" if min(places, keys) >= pays_from else "know"
        found.append(Finding("attention", level, text, tuple(dict.fromkeys(layers))))
    return found


def _idle(model: nn.Module, graph: Graph) -> list[Finding]:
    """Parameters that nothing reads when the network does not train."""
    read = {value for node in graph.nodes for value in node.reads} | set(graph.outputs)
    names = {value.name for value in read if value.kind == "parameter"}
    idle = {name: tensor.numel() for name, tensor in model.named_parameters() if name not in names}
    if not idle:
        return []
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in idle))
    tops = list(dict.fromkeys(name.partition(".")[0] for name in layers))
    text = f"{amount(sum(idle.values()))} parameters do nothing outside of training: {_names(tops)}"
    return [Finding("idle", "know", text, layers)]


def _training(saved: dict[str, float] | None, refused: str) -> list[Finding]:
    if saved is None:
        return [Finding("training", "unknown", f"memory for training is unknown, as a training step fails: {refused}")]
    return []


def _heaviest(rows: tuple[Row, ...]) -> list[Finding]:
    """Where most of the cost is; a module that holds nearly all of it says little, so look inside it then."""
    found = []
    costs: list[tuple[str, str, Callable[[Row], int]]] = [
        ("flops", "FLOPs", lambda row: row.flops),
        ("saved", "memory saved for backward", lambda row: row.saved_bytes or 0),
    ]
    for kind, noun, cost in costs:
        total, inside = cost(rows[0]), [row for row in rows if row.depth == 1]
        while inside and total:
            top = max(inside, key=cost)
            if cost(top) < 0.9 * total:
                if cost(top) >= 0.2 * total:
                    text = f"most {noun}: {100 * cost(top) / total:.0f} % in {top.name} ({top.kind})"
                    found.append(Finding(kind, "know", text, (top.name,)))
                break
            inside = _inside(rows, top)
    return found


def _inside(rows: tuple[Row, ...], around: Row) -> list[Row]:
    return [row for row in rows if row.depth == around.depth + 1 and row.name.startswith(f"{around.name}.")]


def _count(things: Sized, one: str, many: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"


def _names(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name or "the network" for name in names[:NAMED]) + more


def amount(number: float) -> str:
    """A count for people.

    >>> amount(25_557_032), amount(8.178e9), amount(999), amount(0)
    ('25.6 M', '8.18 G', '999', '0')
    """
    for unit, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}" if number < 1000 * unit else f"{number / unit:.0f}{letter}"
    return f"{number:.0f}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape for people.

    >>> shape_text((3, 224, 224))
    '3x224x224'
    """
    return "x".join(map(str, shape))


def field_text(field: Sequence[int | None]) -> str:
    """A receptive field for people, its axes once where they are alike.

    >>> field_text((427, 427)), field_text((5, None)), field_text((None, None)), field_text(())
    ('427', '5 x all', 'all', '-')
    """
    sizes = ["all" if size is None else str(size) for size in field]
    return " x ".join(sizes if len(set(sizes)) > 1 else sizes[:1]) or "-"


def marks_text(row: Row) -> str:
    """The marks of a module: how many modules inside it, if it is not one layer."""
    return ", ".join(mark if row.leaf else f"{count} {mark}" for mark, count in row.marks.items())


def memory(number: int | None) -> str:
    """Bytes for people, in the decimal units of `doctor`.

    >>> memory(12_345_678), memory(512), memory(None)
    ('12.3 MB', '512 B', '-')
    """
    if number is None:
        return "-"
    return f"{amount(number)}B" if number >= 1000 else f"{number} B"
