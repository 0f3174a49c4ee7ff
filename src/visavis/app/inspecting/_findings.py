"""What a reader should know first, a function a kind of finding."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from visavis.app.inspecting._runs import batch, first_line
from visavis.app.inspecting.records import Attention, Finding, Row
from visavis.app.inspecting.texts import amount, count, names_text, shape_text
from visavis.blocks import bias, receptive
from visavis.blocks._trace import Graph, Node
from visavis.blocks.upsampling import overlap

__all__ = [
    "checkerboards",
    "foldable_norms",
    "heaviest",
    "idle_parameters",
    "narrow_fields",
    "quadratic",
    "quadratic_attentions",
    "redundant_biases",
    "refused_training",
]

_SOFTMAX = ("aten._softmax.default", "aten._safe_softmax.default")
_PRODUCTS = ("aten.bmm.default", "aten.baddbmm.default")
_THROUGH = {  # between a product of queries and keys and its softmax, beside what is pointwise
    *("aten.view.default", "aten._unsafe_view.default", "aten.expand.default", "aten.reshape.default"),
    *("aten.clone.default", "aten._to_copy.default", "aten.masked_fill.Scalar", "aten.masked_fill_.Scalar"),
}


def redundant_biases(model: nn.Module, input_shape: tuple[int, ...]) -> list[Finding]:
    try:
        found = bias.redundant(model, batch(model, input_shape)).biases
    except Exception as error:  # whatever the network raises
        return [Finding("bias", "unknown", f"biases were not looked at: {type(error).__name__}: {first_line(error)}")]
    idle = [each for each in found if each.when in ("always", "in training")]
    whole = [each for each in idle if each.part != "mean"]
    mean = [each for each in idle if each.part == "mean"]
    absorbed = [each for each in found if each.when == "absorbed"]
    groups: list[tuple[list[bias.RedundantBias], Literal["mend", "know"], str]] = [
        (whole, "mend", f"{count(whole, 'bias does', 'biases do')} nothing"),
        (absorbed, "know", f"{count(absorbed, 'bias', 'biases')} can be taken up by other parameters"),
        (mean, "know", f"the mean of {count(mean, 'bias', 'biases')} does nothing"),
    ]
    findings = []
    for biases, level, what in groups:
        if biases:
            names = [each.name if each.part in ("all", "mean") else f"{each.name}[{each.part}]" for each in biases]
            size = sum(each.parameters for each in biases)
            text = f"{what} ({amount(size)} {'parameter' if size == 1 else 'parameters'}): {names_text(names)}; "
            text += f"the first {biases[0].reason}"
            layers = tuple(dict.fromkeys(each.name.rpartition(".")[0] for each in biases))
            findings.append(Finding("bias", level, text, layers))
    return findings


def foldable_norms(model: nn.Module, input_shape: tuple[int, ...]) -> list[Finding]:
    try:
        _, report = bias.fold(model.eval(), batch(model, input_shape), leave_reused=True)
    except Exception as error:  # whatever the network raises
        return [Finding("norm", "unknown", f"norms were not looked at: {type(error).__name__}: {first_line(error)}")]
    if not report.folded:
        return []
    names = tuple(each.name for each in report.folded)
    total = len(report.folded) + len(report.left)
    text = (
        f"{len(names)} of {count(range(total), 'norm or scale', 'norms and scales')} can be folded into other layers "
    )
    text += f"once trained (visavis.blocks.bias.fold), outputs differ by {report.error:.0e}: {names_text(names)}"
    return [Finding("norm", "mend", text, names)]


def checkerboards(graph: Graph) -> list[Finding]:
    """Transposed convolutions whose output positions get different numbers of taps."""
    prone: dict[str, str] = {}
    for node in graph.nodes:
        if node.name != "aten.convolution.default" or not node.args[6]:
            continue
        kernel, stride, dilation = node.args[1].shape[2:], node.args[3], node.args[5]
        uneven = [
            (taps, step)
            for taps, step, gap in zip(kernel, stride, dilation, strict=True)
            if len(set(overlap(taps, step, dilation=gap))) > 1
        ]
        if uneven:
            prone[node.modules[-1]] = "kernel {} at stride {}".format(*uneven[0])
    if not prone:
        return []
    text = f"{count(prone, 'transposed convolution')} may draw a checkerboard, as output positions get different "
    text += f"numbers of taps: {names_text([f'{name} ({why})' for name, why in prone.items()])}; "
    text += "take a kernel that is a multiple of the stride"
    return [Finding("checkerboard", "mend", text, tuple(prone))]


def narrow_fields(fields: receptive.Fields) -> list[Finding]:
    """What the last stage sees: the last layer before a head that sees everything, if it has no positions left.

    Where positions that are still many see everything, as after attention, nothing is missed; a module may do that
    itself, beside the layers inside it.
    """
    lengths = fields.input_shape[1:]
    layers = [layer for layer in fields.layers.values() if layer.leaf]
    short: dict[int, tuple[str, int]] = {}
    for number in range(len(lengths)):
        sizes = [(layer, layer.axes[number].size) for layer in layers]
        seen = [(layer.name, size) for layer, size in sizes if size is not None]
        spread = any(
            layer.axes[number].size is None and math.prod(layer.shape[2:]) > 1 for layer in fields.layers.values()
        )
        if seen and not spread:
            name, size = seen[-1]
            if size < lengths[number]:
                short[number] = name, size
    if short:
        missed = dict.fromkeys(f"{size} of {lengths[number]}" for number, (_, size) in short.items())
        names = tuple(dict.fromkeys(name for name, _ in short.values()))
        text = f"the last stage sees only {' x '.join(missed)} px: {names_text(names)}"
        return [Finding("field", "mend", text, names)]
    for layer in layers:
        sees = [axis.size is None or axis.size >= length for axis, length in zip(layer.axes, lengths, strict=True)]
        if all(sees):
            by = "" if any(axis.size is not None for axis in layer.axes) else ", by a global operation"
            text = f"{layer.name or 'the network'} is the first layer to see all of {shape_text(lengths)} px{by}"
            return [Finding("field", "know", text, (layer.name,))]
    return []


def quadratic_attentions(graph: Graph) -> tuple[Attention, ...]:
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


def quadratic(attentions: tuple[Attention, ...]) -> list[Finding]:
    groups: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for each in attentions:
        groups[each.places, each.keys, each.pays_from].append(each.layer)
    found = []
    for (places, keys, pays_from), layers in groups.items():
        over = f"{keys:,}" if places == keys else f"{places:,} x {keys:,}"
        text = f"{count(layers, 'attention')} with cost quadratic in {over} places: {names_text(layers)}; "
        if min(places, keys) >= pays_from:
            text += f"the linear form pays from about {pays_from:,} on (visavis.blocks.attention)"
        else:
            text += f"softmax is the quicker form here, the linear one pays from about {pays_from:,} on"
        level: Literal["mend", "know"] = "mend" if min(places, keys) >= pays_from else "know"
        found.append(Finding("attention", level, text, tuple(dict.fromkeys(layers))))
    return found


def idle_parameters(model: nn.Module, graph: Graph) -> list[Finding]:
    """Parameters that nothing reads when the network does not train."""
    read = {value for node in graph.nodes for value in node.reads} | set(graph.outputs)
    names = {value.name for value in read if value.kind == "parameter"}
    idle = {name: tensor.numel() for name, tensor in model.named_parameters() if name not in names}
    if not idle:
        return []
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in idle))
    tops = list(dict.fromkeys(name.partition(".")[0] for name in layers))
    text = f"{amount(sum(idle.values()))} parameters do nothing outside of training: {names_text(tops)}"
    return [Finding("idle", "know", text, layers)]


def refused_training(saved: dict[str, float] | None, refused: str) -> list[Finding]:
    if saved is None:
        return [Finding("training", "unknown", f"memory for training is unknown, as a training step fails: {refused}")]
    return []


def heaviest(rows: tuple[Row, ...]) -> list[Finding]:
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
