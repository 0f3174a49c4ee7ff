"""A network's computation as a graph of aten operations, recorded while the network runs once.

The network runs as it is, in eager mode, under a dispatch mode that sees every operation: control flow, hooks and
layers written by hand need no support of their own, as symbolic tracing would. By default it runs on fake tensors,
which have a shape and a type but no memory: a graph of any network costs milliseconds and no arithmetic.

Values are immutable here, though tensors are not. An operation in place gives a new value, and whoever reads another
view of the memory it wrote to reads an `overlay` of the two, a node that the recorder puts in.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from visavis.errors import InputError

__all__ = ["Call", "Geometry", "Graph", "Node", "Value", "overlay", "trace"]

_NO_TENSOR = {"prim.device.default", "aten.sym_size.int"}
_SHAPE_ONLY = {  # these look at their first argument's shape and type only
    *("aten::new_empty", "aten::new_zeros", "aten::new_ones", "aten::new_full", "aten::new_empty_strided"),
    *("aten::empty_like", "aten::zeros_like", "aten::ones_like", "aten::full_like"),
    *("aten::rand_like", "aten::randn_like", "aten::randint_like"),
    *("aten::copy_", "aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_", "aten::bernoulli_"),
}


class Geometry(NamedTuple):
    """Where a tensor lies in its storage, in elements."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def addresses(self) -> Tensor:
        """Of every element; int64 of shape `size`."""
        addresses = torch.full(self.size, self.offset)
        for dim, (size, stride) in enumerate(zip(self.size, self.stride, strict=True)):
            addresses += (torch.arange(size) * stride).view(-1, *[1] * (len(self.size) - dim - 1))
        return addresses

    def span(self) -> range:
        """From the first address to the last."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        return range(self.offset, last + 1) if 0 not in self.size else range(0)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor at one moment.

    Attributes:
        kind: "node": made by an operation; "constant": a tensor that was there before and is neither input nor state.
        name: of an input its number, of a parameter or buffer its name in the network.
        node: the index of the node that made it.
        tensor: the actual tensor of a parameter, buffer or constant.
    """

    kind: Literal["input", "parameter", "buffer", "constant", "node"]
    shape: tuple[int, ...]
    dtype: torch.dtype
    name: str = ""
    node: int = -1
    tensor: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation; `args` and `kwargs` are what it was called with, with values in the place of tensors.

    Attributes:
        op: an aten operation as `torch.ops.aten.relu.default`, or `overlay`.
        outputs: what it returned, then what it wrote to and did not return.
        modules: the names of the modules that were active, outermost first; the network's own is "".
    """

    op: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """As "aten.relu.default", or "overlay"."""
        return str(self.op) if isinstance(self.op, torch._ops.OpOverload) else self.op.__name__

    @property
    def inputs(self) -> list[Value]:
        """The values among the arguments, in order."""
        return [leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, Value)]

    @property
    def reads(self) -> list[Value]:
        """The inputs whose numbers matter: of `zeros_like` and `fill_` not the first, of which only the shape does."""
        shape_only = isinstance(self.op, torch._ops.OpOverload) and self.op._schema.name in _SHAPE_ONLY
        return self.inputs[1:] if shape_only else self.inputs


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a module: `nodes` are the indices of what ran inside it."""

    name: str
    module: nn.Module = field(repr=False)
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: range


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """What `trace` recorded, in the order of execution; calls in the order in which they ended."""

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    calls: tuple[Call, ...]

    def depends(self) -> set[Value]:
        """All values that depend on an input."""
        reached = set(self.inputs)
        for node in self.nodes:
            if any(value in reached for value in node.reads):
                reached.update(node.outputs)
        return reached

    def evaluate(self, value: Value) -> Tensor | None:
        """The actual numbers of a value that depends on parameters, buffers and constants only.

        None where it depends on an input, a random draw or a tensor without memory (device "meta").
        """
        if value.kind != "node":
            return None if value.tensor is None or value.tensor.is_meta else value.tensor.detach()
        node = self.nodes[value.node]
        if isinstance(node.op, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.op.tags:
            return None
        known: dict[Value, Tensor | None]
        known = {value: torch.zeros(value.shape, dtype=value.dtype) for value in node.inputs}
        known |= {value: self.evaluate(value) for value in node.reads}
        if any(tensor is None for tensor in known.values()):
            return None
        # Copies, as an operation may write to what it is given.
        args, kwargs = tree_map(
            lambda leaf: _copy(known[leaf]) if isinstance(leaf, Value) else leaf,  # type: ignore[arg-type]
            (node.args, node.kwargs),
        )
        with torch.no_grad():
            returned = [leaf for leaf in tree_flatten(node.op(*args, **kwargs))[0] if isinstance(leaf, Tensor)]
        place = node.outputs.index(value)
        return returned[place] if place < len(returned) else None


def _copy(tensor: Tensor) -> Tensor:
    """With the same strides, unlike a clone of a slice."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def overlay(below: Tensor, above: Tensor, below_geometry: Geometry, above_geometry: Geometry) -> Tensor:
    """`below`, with `above` where both lie at the same address of one storage.

    >>> rows = Geometry(0, (2, 3), (3, 1))
    >>> overlay(torch.zeros(2, 3), torch.tensor([5.0, 6.0]), rows, Geometry(1, (2,), (3,)))
    tensor([[0., 5., 0.],
            [0., 6., 0.]])
    """
    here, there = below_geometry.addresses().flatten(), above_geometry.addresses().flatten()
    memory = below.new_empty(int(max(here.max(), there.max())) + 1)
    memory[here] = below.flatten()
    memory[there] = above.flatten()
    return memory.as_strided(below_geometry.size, below_geometry.stride, below_geometry.offset)


def trace(model: nn.Module, *inputs: Tensor, fake: bool = True) -> Graph:
    """Run `model(*inputs)` once, without gradients, and record what it computes.

    Multi-head attention runs as its single operations, not as torch's fused fast path, so that they are seen.

    Args:
        model: any network, in the mode (training or not) that it is in; its state is not changed when `fake`.
        inputs: tensors of the shapes and types wanted; with `fake` their numbers are not looked at.
        fake: run on fake tensors. False computes for real: for a network whose control flow looks at its input.

    Raises:
        InputError: the network cannot run on these inputs, or looks at numbers, which fake tensors do not have; the
            message names the layer at which it stopped.

    >>> graph = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), torch.empty(1, 3, 8, 8))
    >>> [(node.name, node.modules[-1]) for node in graph.nodes]
    [('aten.convolution.default', '0'), ('aten.relu_.default', '1')]
    >>> [value.name for value in graph.nodes[0].inputs]
    ['0', '0.weight', '0.bias']
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
    recorder = _Recorder(model, mode)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_separate_attention())
        taken = tuple(mode.from_tensor(tensor) if mode else tensor for tensor in inputs)
        values = tuple(recorder.leaf(tensor, "input", str(number)) for number, tensor in enumerate(taken))
        if mode:
            stack.enter_context(mode)
        stack.enter_context(recorder.hooks())
        stack.enter_context(recorder)
        try:
            result = model(*taken)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise InputError(
                "model: expected a network that runs without looking at its input's numbers, got "
                f"{error.func} in {recorder.where()}; nothing from there on was traced"
            ) from error
        except Exception as error:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
            reason = str(error).strip().split("\n", 1)[0]
            raise InputError(
                f"model: expected a network that runs on {shapes}, got {type(error).__name__} in {recorder.where()}: "
                f"{reason}; nothing from there on was traced"
            ) from error
        outputs = tuple(recorder.read(leaf) for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))
    return Graph(tuple(recorder.nodes), values, outputs, tuple(recorder.calls))


@contextmanager
def _separate_attention() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Entry(NamedTuple):
    """What a tensor stands for, as of the first `writes` writes to its storage."""

    value: Value
    writes: int


class _Write(NamedTuple):
    geometry: Geometry
    value: Value


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps no tensor alive, so that a real run frees its memory as it always would."""

    def __init__(self, model: nn.Module, mode: FakeTensorMode | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.calls: list[Call] = []
        self._model = model
        self._mode = mode
        self._active: list[str] = []
        self._starts: list[tuple[int, tuple[Value, ...]]] = []
        self._entries = WeakTensorKeyDictionary()
        self._writes: dict[int, list[_Write]] = {}
        for name, tensor in model.named_buffers():
            self.leaf(tensor, "buffer", name)
        for name, tensor in model.named_parameters():
            self.leaf(tensor, "parameter", name)

    def leaf(self, tensor: Tensor, kind: Literal["input", "parameter", "buffer", "constant"], name: str = "") -> Value:
        """Make a tensor known that no node made."""
        value = Value(kind, tuple(tensor.shape), tensor.dtype, name, tensor=None if kind == "input" else tensor)
        self._entries[tensor] = _Entry(value, len(self._log(tensor)))
        return value

    def read(self, tensor: Tensor) -> Value:
        """The value of a tensor now: what was written to other views of its memory included."""
        if tensor not in self._entries:
            return self.leaf(tensor, "constant")
        entry: _Entry = self._entries[tensor]
        log, value = self._log(tensor), entry.value
        for write in log[entry.writes :]:
            here = _geometry(tensor)
            if write.geometry == here:
                value = write.value
            elif max(write.geometry.span().start, here.span().start) < min(
                write.geometry.span().stop, here.span().stop
            ):
                value = self._overlay(value, write, here)
        self._entries[tensor] = _Entry(value, len(log))
        return value

    def where(self) -> str:
        """The innermost module that runs."""
        name = self._active[-1] if self._active else ""
        return f"{name or 'the network'} ({type(self._model.get_submodule(name)).__name__})"

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow which modules run."""
        handles = []
        for name, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ARG001
            self._active.append(name)
            start = len(self.nodes)
            self._starts.append((start, self._read_all((args, kwargs))))

        return hook

    def _leave(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:  # noqa: ARG001
            outputs = self._read_all(result)
            start, inputs = self._starts.pop()
            self.calls.append(Call(name, module, inputs, outputs, range(start, len(self.nodes))))
            self._active.pop()

        return hook

    def _read_all(self, tree: Any) -> tuple[Value, ...]:
        return tuple(self.read(leaf) for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if str(func) in _NO_TENSOR:
            return func(*args, **kwargs)
        given = tree_map(lambda leaf: self.read(leaf) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        written = _written(func, args, kwargs)
        if self._mode and any(not isinstance(tensor, FakeTensor) for tensor in written):  # the network's own state
            fakes = {id(tensor): self._mode.from_tensor(tensor) for tensor in written}
            result = func(*tree_map(lambda leaf: fakes.get(id(leaf), leaf), args), **kwargs)
        else:
            result = func(*args, **kwargs)
        returned = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        in_place = sum(bool(slot.alias_info and slot.alias_info.is_write) for slot in func._schema.returns)
        made = [self._made(tensor) for tensor in (*returned, *written[in_place:])]
        if made:
            self.nodes.append(Node(func, given[0], given[1], tuple(made), tuple(self._active)))
        for tensor, value in zip(written, [*made[:in_place], *made[len(returned) :]], strict=True):
            self._log(tensor).append(_Write(_geometry(tensor), value))
            self._entries[tensor] = _Entry(value, len(self._log(tensor)))
        for tensor, value in zip(returned, made, strict=False):
            self._entries[tensor] = _Entry(value, len(self._log(tensor)))
        return result

    def _made(self, tensor: Tensor) -> Value:
        return Value("node", tuple(tensor.shape), tensor.dtype, node=len(self.nodes))

    def _overlay(self, below: Value, write: _Write, here: Geometry) -> Value:
        value = Value("node", below.shape, below.dtype, node=len(self.nodes))
        args = (below, write.value, here, write.geometry)
        self.nodes.append(Node(overlay, args, {}, (value,), tuple(self._active)))
        return value

    def _log(self, tensor: Tensor) -> list[_Write]:
        """The writes to the tensor's storage; a sparse tensor has none and shares none."""
        if tensor.layout != torch.strided:
            return []
        return self._writes.setdefault(tensor.untyped_storage()._cdata, [])


def _geometry(tensor: Tensor) -> Geometry:
    return Geometry(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that the operation writes to, in the order of its schema."""
    tensors = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            tensors += [leaf for leaf in tree_flatten(given)[0] if isinstance(leaf, Tensor)]
    return tensors
