"""Biases that cannot change a network's output: found by rules that hold for all inputs and weights, then proved."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from visavis.blocks._trace import Graph, Value, trace
from visavis.blocks.bias._planes import MOVES, Traced, send
from visavis.blocks.bias._shift import EscapedError, Follower
from visavis.errors import InputError

__all__ = ["Redundancy", "RedundantBias", "redundant"]

SCALES = (0.01, 1.0, 100.0)


@dataclass(frozen=True, slots=True)
class RedundantBias:
    """One bias, or a part of it, that can be left out.

    Attributes:
        name: the parameter's.
        part: "all"; of a packed bias its elements as "768:1536"; "mean": what all its elements share.
        parameters: how many numbers that is.
        when: "always": no value of it changes the output. "in training": batch statistics subtract it, and in
            evaluation the running mean takes it up, `absorbed_by`. "in evaluation": it changes the output in training
            only. "absorbed": whatever it adds can be added by `absorbed_by` instead, in both modes.
        reason: where it ends, in words.
        absorbed_by: the names of the parameters and buffers that take its place.
        change: the largest change of the output, relative to the largest output, when it was replaced by random
            numbers of standard deviation .01, 1 and 100 (and `absorbed_by` moved accordingly), of both modes.
    """

    name: str
    part: str
    parameters: int
    when: Literal["always", "in training", "in evaluation", "absorbed"]
    reason: str
    absorbed_by: tuple[str, ...]
    change: float = math.nan


@dataclass(frozen=True, slots=True)
class Redundancy:
    """What `redundant` found; printing it gives a line a bias.

    Attributes:
        biases: the redundant ones, in the order of the network's parameters.
        checked: how many biases the network has.
        unproved: found by the rules, but the output changed, or could not be compared as it is not finite.
        dtype: the type the proof was computed in.
    """

    biases: tuple[RedundantBias, ...]
    checked: int
    unproved: tuple[RedundantBias, ...] = ()
    dtype: torch.dtype = torch.float64

    @property
    def parameters(self) -> int:
        """How many numbers can be left out."""
        return sum(bias.parameters for bias in self.biases)

    @property
    def change(self) -> float:
        """The largest change of the output that any of them made, relative; 0 if there is none."""
        return max((bias.change for bias in self.biases), default=0.0)

    def __str__(self) -> str:
        lines = [f"{len(self.biases)} of {self.checked} biases redundant, {self.parameters} parameters"]
        for bias in self.biases:
            part = "" if bias.part == "all" else f"[{bias.part}]"
            lines.append(
                f"{bias.name}{part}: {bias.when}: {bias.reason}; {bias.parameters} parameters, "
                f"output changed by {bias.change:.1e}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Part:
    label: str
    mask: Tensor = field(repr=False)  # bool, of the bias' shape
    shared: bool = False  # one number for all elements

    def draw(self, generator: torch.Generator) -> Tensor:
        count = 1 if self.shared else self.mask.numel()
        return torch.randn(count, dtype=torch.float64, generator=generator).expand(self.mask.shape) * self.mask


@dataclass(frozen=True, slots=True)
class _Found:
    part: _Part
    absorbed: tuple[str, ...]
    ends: dict[str, list[str]]


def redundant(model: nn.Module, example: Tensor | Sequence[Tensor], *, seed: int = 0) -> Redundancy:
    r"""Name every bias that cannot change the output, with the reason and a numerical proof.

    Found by rules: a bias moves what it is added to by the same vector wherever the network looks, and as long as what
    follows is linear, that shift is known without knowing the input. It is gone where an operation ignores it:

    - a BatchNorm with the batch's statistics, an InstanceNorm, a GroupNorm or LayerNorm of equal shifts: they subtract
      the mean;
    - softmax attention, for the key's bias: :math:`q\cdot(k_j + b) = q\cdot k_j + q\cdot b` adds the same to all
      scores of a query; likewise what all classes share before a softmax that is the output;
    - another bias, a positional embedding, a running mean: they can take it up. With a softmax' weights, which sum to
      one, the value's bias passes attention as a constant, so that the output projection's bias takes it up;
    - nothing reads it.

    Weights have random numbers in their place while the rules are applied: a bias is not called redundant because some
    weight happens to be zero. A packed bias (query, key and value in one) is tried by the parts the network cuts it
    into, then by its mean.

    Holds for inputs of the example's shape: on a feature map of one pixel zero padding has no border, for one.

    Proof: on a copy of the network in float64 all of them are replaced at once by random numbers, at three scales, with
    and without training mode; all at once, so that they can also be left out together. One whose change of the output
    exceeds half of the dtype's digits, relative to the largest output, is listed as `unproved` instead. Weight matrices
    that are zero, as of a classifier not yet trained, are random numbers in this copy: they would hide all before them.

    Args:
        model: any network that `visavis.blocks._trace` can run; it is not changed. Its mode does not matter: both
            are looked at.
        example: its input or inputs; with a BatchNorm at least two samples, as training needs them.
        seed: of the random numbers.

    Raises:
        InputError: the network cannot be traced on the example, in either mode; it has no output that depends on it.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    >>> [(bias.name, bias.when, bias.absorbed_by) for bias in redundant(net, torch.randn(2, 3, 8, 8)).biases]
    [('0.bias', 'in training', ('1.running_mean',))]
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    try:
        return _redundant(model, inputs, torch.float64, seed)
    except InputError:  # some networks make float32 tensors of their own, which do not mix with float64
        return _redundant(model, inputs, torch.get_default_dtype(), seed)


def _redundant(model: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype, seed: int) -> Redundancy:
    inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
    network = copy.deepcopy(model).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():  # it would hide what lies before it from the proof
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    graphs = {}
    for training in (True, False):
        try:  # on a copy, as some networks keep tensors that they made
            graphs[training] = Traced(trace(copy.deepcopy(network).train(training), *inputs))
        except InputError as error:
            few = "more than 1 value per channel" in str(error)
            raise InputError(f"{error}{'; training with BatchNorm needs two samples' if few else ''}") from error
        if graphs[training].depends.isdisjoint(graphs[training].graph.outputs):
            raise InputError("model: expected an output that depends on the example, got none")
    if _alike(graphs[True].graph, graphs[False].graph):
        del graphs[True]
    shifts = {
        (training, absorb): Follower(
            traced, absorb=absorb, weights=False, generator=torch.Generator().manual_seed(seed)
        )
        for training, traced in graphs.items()
        for absorb in (False, True)
    }
    checked, found = 0, []
    for name, parameter in network.named_parameters():
        if parameter.ndim != 1 or not _is_bias(name, graphs):
            continue
        checked += 1
        found += _parts_found(name, parameter, graphs, shifts, seed)
    biases, unproved = _prove(network, inputs, graphs, found, dtype, seed)
    return Redundancy(biases, checked, unproved, dtype)


def _alike(training: Graph, evaluation: Graph) -> bool:
    """Whether the network computes the same in both modes: no BatchNorm, no dropout."""
    names = [[node.name for node in graph.nodes] for graph in (training, evaluation)]
    return names[0] == names[1] and "aten.native_batch_norm.default" not in names[0]


def _is_bias(name: str, graphs: dict[bool, Traced]) -> bool:
    """Whether it is added, in the places where it is first used; unused ones by their name."""
    slots = {
        **{f"aten.{name}.Tensor": (0, 1) for name in ("add", "add_", "sub", "sub_")},
        "aten.addmm.default": (0,),
        "aten.convolution.default": (2,),
        "aten.native_batch_norm.default": (2,),
        "aten.native_group_norm.default": (2,),
        "aten.native_layer_norm.default": (3,),
    }
    used = False
    for graph in graphs.values():
        value = graph.parameters.get(name)
        waiting = [] if value is None else [value]
        while waiting:
            value, used = waiting.pop(), True
            for node in graph.readers.get(value, ()):
                if node.name in MOVES:
                    waiting += node.outputs
                elif not any(
                    place < len(node.args) and node.args[place] is value for place in slots.get(node.name, ())
                ):
                    return False
    return used or name.rpartition(".")[2].endswith("bias")


def _parts(graph: Traced, parameter: Value) -> Iterator[_Part]:
    """The parts into which the network cuts what the bias was added to."""
    labels = torch.arange(parameter.shape[0], dtype=torch.float64)
    planes = {parameter: labels}
    seen: set[tuple[int, ...]] = {tuple(range(len(labels)))}
    for node, held in graph.downstream(planes):
        if node.name in MOVES:
            if node.name in ("aten.cat.default", "aten.stack.default") or len(node.inputs) > 1:
                filler = {value: torch.full(value.shape, -1.0, dtype=torch.float64) for value in node.inputs}
                sent = send(node, filler | {value: planes[value] for value in held})
            else:
                sent = send(node, planes)
        elif node.name == "aten.addmm.default" and node.args[0] in planes:
            sent = [planes[node.args[0]].expand(node.outputs[0].shape)]
        elif node.name == "aten.convolution.default" and node.args[2] in planes:
            plane = planes[node.args[2]]
            sent = [plane.view(1, -1, *[1] * (len(node.outputs[0].shape) - 2)).expand(node.outputs[0].shape)]
        elif node.name in ("aten.add.Tensor", "aten.add_.Tensor") and len(held) == 1:
            sent = [planes[held[0]].expand(node.outputs[0].shape)]
        else:
            continue
        for value, plane in zip(node.outputs, sent, strict=False):
            planes[value] = plane
            members = tuple(sorted({int(label) for label in _distinct(plane).flatten().tolist() if label >= 0}))
            if members and members not in seen:
                seen.add(members)
                mask = torch.zeros(len(labels), dtype=torch.bool)
                mask[list(members)] = True
                first, last = members[0], members[-1] + 1
                label = f"{first}:{last}" if last - first == len(members) else f"{len(members)} elements from {first}"
                yield _Part(label, mask)


def _distinct(plane: Tensor) -> Tensor:
    """Without the dimensions along which it is merely repeated in memory."""
    for dim, stride in enumerate(plane.stride()):
        if stride == 0:
            plane = plane.narrow(dim, 0, 1)
    return plane


def _outcome(
    name: str, part: _Part, graph: Traced, shifts: dict[tuple[bool, bool], Follower], training: bool, seed: int
) -> _Found | None:
    """What becomes of a part in one mode: it ends, or else is absorbed, or else None."""
    value = graph.parameters.get(name)
    if value is None:
        return _Found(part, (), {"nothing reads it": []})
    for absorb in (False, True):
        shift = shifts[training, absorb]
        try:
            shift.follow(value, part.draw(torch.Generator().manual_seed(seed)))
        except EscapedError:
            continue
        ends = shift.ends or ({} if shift.absorbed else {"reaches no output": []})
        return _Found(part, tuple(each.name for each in shift.absorbed), ends)
    return None


def _parts_found(
    name: str, parameter: Tensor, graphs: dict[bool, Traced], shifts: dict[tuple[bool, bool], Follower], seed: int
) -> list[tuple[str, dict[bool, _Found | None], RedundantBias]]:
    """The largest parts of one bias that are redundant."""
    everything = torch.ones(parameter.shape, dtype=torch.bool)
    value = graphs[False].parameters.get(name)
    found: list[tuple[str, dict[bool, _Found | None], RedundantBias]] = []
    covered = torch.zeros_like(everything)

    def attempt(part: _Part) -> bool:
        outcomes = {mode: _outcome(name, part, graph, shifts, mode, seed) for mode, graph in graphs.items()}
        outcomes.setdefault(True, outcomes[False])
        bias = _describe(name, part, outcomes)
        if bias is not None:
            found.append((name, outcomes, bias))
            covered.logical_or_(part.mask)
        return bias is not None

    if attempt(_Part("all", everything)):
        return found
    if value is not None:
        for part in _parts(graphs[False], value):
            if not (part.mask & covered).any():
                attempt(part)
    if not found and parameter.numel() > 1:
        attempt(_Part("mean", everything, shared=True))
    return found


def _describe(name: str, part: _Part, outcomes: dict[bool, _Found | None]) -> RedundantBias | None:
    training, evaluation = outcomes[True], outcomes[False]
    if training is None and evaluation is None:
        return None
    when: Literal["always", "in training", "in evaluation", "absorbed"]
    if training and not training.absorbed:
        when = "in training" if evaluation is None or evaluation.absorbed else "always"
    elif evaluation and not evaluation.absorbed:
        when = "in evaluation"
    elif training and evaluation:
        when = "absorbed"
    else:
        return None  # taken up in one mode only, by a parameter: of no use
    absorbed = tuple(dict.fromkeys(each for found in outcomes.values() if found for each in found.absorbed))
    told = training if when == "in training" else evaluation
    assert told is not None
    reasons = [f"{what} in {_names(modules)}" if modules else what for what, modules in told.ends.items()]
    reasons += [f"{_names(absorbed)} can take it up"] if absorbed else []
    parameters = 1 if part.shared else int(part.mask.sum())
    return RedundantBias(name, part.label, parameters, when, ", ".join(reasons), absorbed)


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _prove(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    graphs: dict[bool, Traced],
    found: list[tuple[str, dict[bool, _Found | None], RedundantBias]],
    dtype: torch.dtype,
    seed: int,
) -> tuple[tuple[RedundantBias, ...], tuple[RedundantBias, ...]]:
    """Replace them by random numbers and measure the output."""
    changes = [0.0] * len(found)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    allowed = math.sqrt(torch.finfo(dtype).eps)
    for training, graph in graphs.items():
        indices = [index for index, (_, outcomes, _) in enumerate(found) if outcomes[training] is not None]
        if not indices:
            continue
        network.train(training)
        generator = torch.Generator().manual_seed(seed)
        moves = {index: _moves(graph, *found[index][:2], training, generator) for index in indices}
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()} if training else {}
        touched = {name for index in indices for name in moves[index]}
        before |= {name: tensors[name].detach().clone() for name in touched}
        base = _run(network, inputs, tensors, before, seed)
        groups = [indices]
        while groups:
            group = groups.pop()
            worst = _change(network, inputs, tensors, before, [moves[index] for index in group], base, seed)
            if worst <= allowed or len(group) == 1:
                for index in group:
                    changes[index] = max(changes[index], worst)
            else:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
        _set(tensors, before)
    told = [replace(bias, change=change) for (_, _, bias), change in zip(found, changes, strict=True)]
    return tuple(bias for bias in told if bias.change <= allowed), tuple(
        bias for bias in told if not bias.change <= allowed
    )


def _change(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    tensors: dict[str, Tensor],
    before: dict[str, Tensor],
    moves: list[dict[str, Tensor]],
    base: list[Tensor],
    seed: int,
) -> float:
    """The largest change of the output at any scale, relative to the largest output."""
    worst = 0.0
    for scale in SCALES:
        values = dict(before)
        for each in moves:
            for name, by in each.items():
                values[name] = values[name] + scale * by.to(values[name].dtype)
        outputs = _run(network, inputs, tensors, values, seed)
        changes = [float((new - old).abs().max()) for new, old in zip(outputs, base, strict=True)]
        if any(math.isnan(change) for change in changes):
            return math.inf
        worst = max(worst, *changes)
    return worst / (max(float(output.abs().max()) for output in base) or 1.0)


def _moves(
    graph: Traced, name: str, outcomes: dict[bool, _Found | None], training: bool, generator: torch.Generator
) -> dict[str, Tensor]:
    """A random shift of the bias, and the shifts of what takes it up, with the network's own weights."""
    found = outcomes[training]
    assert found is not None
    by = found.part.draw(generator)
    value = graph.parameters.get(name)
    moves = {name: by}
    if value is not None and found.absorbed:
        shift = Follower(graph, absorb=True, weights=True, generator=generator)
        shift.follow(value, by)
        for taker, amount in shift.absorbed.items():
            sign = 1.0 if taker.kind == "buffer" else -1.0  # a running mean is subtracted
            moves[taker.name] = moves.get(taker.name, 0.0) + sign * amount
    return moves


def _set(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in values.items():
            tensors[name].copy_(tensor)


def _run(
    network: nn.Module, inputs: tuple[Tensor, ...], tensors: dict[str, Tensor], values: dict[str, Tensor], seed: int
) -> list[Tensor]:
    """The outputs with these values in place of parameters and buffers, which keep them."""
    _set(tensors, values)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        outputs = tree_flatten(network(*(tensor.clone() for tensor in inputs)))[0]
    return [leaf for leaf in outputs if isinstance(leaf, Tensor) and leaf.is_floating_point()]
