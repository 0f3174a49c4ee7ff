"""A trained embedder as it stands, to put new layers behind: its network as ONNX, and its features of many crops.

Features are computed once and kept on disk, for the network does not change while the layers behind it learn.

N: faces, V: views of each, F: features.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, ModelError
from visavis.face import dlib_format
from visavis.face.align import TEMPLATES
from visavis.face.models import ModelSpec, pull
from visavis.face.process import augment
from visavis.face.runtime import Network
from visavis.face.train.data import Crops

if TYPE_CHECKING:
    import onnx

__all__ = ["Frozen", "Graph", "extended", "features_of", "frozen", "template_of"]

Features = NDArray[np.float32]
Progress = Callable[[int, int | None], None]

_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """An embedder, cut where new layers begin."""

    spec: ModelSpec
    model: "onnx.ModelProto"  # float32 [N, 3, height, width] to features, its only output
    weight: Features | None  # [F, D] of the linear layer that was cut off; None: nothing was
    bias: Features | None  # [D] of that layer, where it has one

    @property
    def output(self) -> str:
        return str(self.model.graph.output[0].name)

    @property
    def key(self) -> str:
        """Tells these features from all others."""
        return f"{self.spec.digest} {self.output}"

    def network(self) -> Callable[[Features], Features]:
        """Loaded: from a batch as it is fed to features [N, F]. Not for two threads at once."""
        loaded = Network(self.model.SerializeToString(), self.spec.name, fixed_size=True)
        return lambda batch: loaded(batch)[self.output].reshape(len(batch), -1)


def frozen(spec: ModelSpec, *, head: bool, accept_licence: bool = False) -> Frozen:
    """The network of an embedder, pulled when it is not there.

    Args:
        spec: of the embedder.
        head: cut off the linear layer that it ends in.
        accept_licence: where it is for research only.

    Raises:
        ModelError: it cannot be had, is not at hand as ONNX, or does not end in a linear layer though `head`.
        InputError: its crops are not square.
    """
    if spec.input.width != spec.input.height:
        raise InputError(
            f"{spec.name}: expected an embedder of square crops, got {spec.input.width} x {spec.input.height} px"
        )
    model = _model(spec, pull(spec, accept_licence=accept_licence))
    graph = model.graph
    output = spec.outputs[0] if spec.outputs else graph.output[0].name
    weight, bias = None, None
    if head:
        output, weight, bias = _cut_linear(spec, model, output)
    del graph.output[:]
    graph.output.add().name = output
    graph.output[0].type.tensor_type.elem_type = 1  # float32, of a shape that the runtime works out
    del graph.value_info[:]  # holds shapes of one batch size
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return Frozen(spec, model, weight, bias)


def template_of(spec: ModelSpec) -> NDArray[np.float64]:
    """Where the five landmarks belong in an embedder's crop, [5, 2] px."""
    return TEMPLATES[spec.template] if isinstance(spec.template, str) else np.array(spec.template, np.float64)


def features_of(
    crops: Crops,
    embed: Callable[[NDArray[np.uint8]], Features],
    folder: Path,
    *,
    key: str,
    views: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Features:
    """Features of every crop and its mirror image, and of `views` changed copies and theirs.

    What was computed before for the same crops is read from `folder`; a run that was killed goes on where it was.

    Args:
        crops: N of them, cut by the template of the embedder.
        embed: from uint8 [n, size, size, 3] RGB, without a border, to float32 [n, F].
        folder: of the cache, made when absent.
        key: tells this embedder from all others.
        views: changed copies of a crop: turned, lit, coloured, blurred and so on, see `visavis.face.process.augment`.
        seed: of the changes.
        progress: called with the number of crops done and their total.

    Returns:
        float32 [N, 2 + 2 * views, F], on disk.

    Raises:
        ModelError: features that are not finite.
    """
    wide = embed(np.zeros((1, crops.size, crops.size, 3), np.uint8)).shape[1]
    facts = {"key": key, "views": views, "seed": seed if views else 0, "border": crops.border}
    named = hashlib.sha256(json.dumps(facts).encode())
    for start in range(0, len(crops), 256):
        named.update(crops.images(slice(start, start + 256)).tobytes())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"features-{named.hexdigest()[:16]}.npy"
    if not path.exists():
        draft = path.with_suffix(".part")
        fresh = np.lib.format.open_memmap(draft, "w+", np.float32, (len(crops), 2 + 2 * views, wide))
        fresh[:] = np.nan  # not computed yet
        fresh.flush()
        draft.replace(path)
    kept: Features = np.lib.format.open_memmap(path, "r+")
    for start in range(0, len(crops), _BATCH):
        some = slice(start, min(start + _BATCH, len(crops)))
        if not np.isfinite(kept[some]).all():
            draw = np.random.default_rng([seed, start])
            for place, images in enumerate(_views(crops, some, views, draw)):
                kept[some, place] = embed(images)
            if not np.isfinite(kept[some]).all():
                raise ModelError(f"embedder: expected features that are finite, got others near {crops.paths[start]}")
        if progress:
            progress(some.stop, len(crops))
    return kept


def extended(base: Frozen, layers: Callable[["Graph", str], str], name: str) -> "onnx.ModelProto":
    """The embedder with layers behind it, as one ONNX model with one output.

    Args:
        base: the embedder.
        layers: adds them to a graph behind the features [N, F] of that name, and returns the name of theirs.
        name: of the graph.
    """
    from onnx import ModelProto, checker

    model = ModelProto()
    model.CopyFrom(base.model)
    model.graph.name = name
    graph = Graph(model)
    output = layers(graph, graph.node("Flatten", base.output, axis=1))
    del model.graph.output[:]
    declared = model.graph.output.add()
    declared.name = output
    declared.type.tensor_type.elem_type = 1
    for size in ("N", "D"):
        declared.type.tensor_type.shape.dim.add().dim_param = size
    checker.check_model(model)
    return model


class Graph:
    """Adds layers to the end of an ONNX model, which may have been extended before: all names it makes are new."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self._graph = model.graph
        self._taken = {name for node in self._graph.node for name in (*node.input, *node.output)}
        self._taken.update(each.name for each in self._graph.initializer)

    def constant(self, value: NDArray[np.float32]) -> str:
        from onnx import numpy_helper

        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, axis: int | None = None) -> str:
        from onnx import helper

        name = self._name()
        made = helper.make_node(kind, inputs, [name])
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        self._graph.node.append(made)
        return name

    def _name(self) -> str:
        name = next(name for number in itertools.count(1) if (name := f"added.{number}") not in self._taken)
        self._taken.add(name)
        return name


def _model(spec: ModelSpec, path: Path) -> "onnx.ModelProto":
    import onnx

    if spec.kind == "dlib-resnet":
        return dlib_format.to_onnx(dlib_format.read(path))
    if path.suffix != ".onnx":
        raise ModelError(f"{spec.name}: expected it as an ONNX file to put layers behind, got {path.name}")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf and onnx raise no common class
        raise ModelError(f"{path.name}: expected an ONNX file, got one that cannot be read ({error})") from error


def _cut_linear(spec: ModelSpec, model: "onnx.ModelProto", output: str) -> tuple[str, Features, Features | None]:
    """Take the last layer out of the graph: the name of its input, its weight [F, D] and its bias."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    last = next((node for node in graph.node if output in node.output), None)
    if last is None or last.op_type not in ("MatMul", "Gemm") or not all(n in constants for n in last.input[1:]):
        kind = "nothing" if last is None else last.op_type
        raise ModelError(f"{spec.name}: expected a network that ends in a linear layer, got {kind}; adapt it by others")
    options = {each.name: each for each in last.attribute}
    weight, *rest = (numpy_helper.to_array(constants[name]).astype(np.float32) for name in last.input[1:])
    if "transB" in options and options["transB"].i:
        weight = weight.T
    gains = [options[name].f if name in options else 1.0 for name in ("alpha", "beta")]
    if "transA" in options and options["transA"].i:
        raise ModelError(f"{spec.name}: expected a linear layer with a face a row, got it transposed")
    graph.node.remove(last)
    return str(last.input[0]), weight * np.float32(gains[0]), rest[0] * np.float32(gains[1]) if rest else None


def _views(crops: Crops, some: slice, views: int, draw: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Batches of one kind each, in the order that `features_of` tells."""
    images, landmarks = crops.images(some), crops.landmarks[some]
    middle = slice(crops.border, crops.border + crops.size)
    for view in range(views + 1):
        shown = (augment(images, landmarks, draw) if view else images)[:, middle, middle]
        yield shown
        yield shown[:, :, ::-1]
