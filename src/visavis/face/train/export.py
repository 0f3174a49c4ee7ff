"""From a trained network to files that a pack names: ONNX and OpenVINO's IR, both compared with torch first.

What is written is a folder's worth of files with one name: NAME.onnx, NAME.xml with NAME.bin, and NAME.toml, the pack.
The networks are fed ``(pixel - mean) * scale``, as every embedder is; mean and scale are in the TOML. The pack is whole
at every moment or not there at all: it is the last file to appear and the first to go, and everything was verified
before.

N: faces, H, W: of a crop in px, D: features.
"""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visavis.errors import InputError, MissingExtraError, ModelError, expect
from visavis.face.models import Licence, ModelFile, ModelInput, ModelSpec, Pack, PathSource, load_pack, models
from visavis.face.models.writing import pack_toml
from visavis.face.runtime import Network

if TYPE_CHECKING:
    import onnx

__all__ = ["Exported", "check", "described", "export", "fed", "publish", "to_onnx"]

Points = tuple[tuple[float, float], ...]

_LARGEST_DIFFERENCE = 1e-4
_OPSET = 18


class Exported(NamedTuple):
    """A pack on disk, and how far its files' features are from torch's: the largest of ``1 - cosine``."""

    pack: Path  # the TOML
    onnx: Path
    openvino: Path  # the .xml; its .bin is beside it
    onnx_difference: float
    openvino_difference: float


def export(
    module: nn.Module,
    folder: Path,
    *,
    name: str,
    licence: Licence,
    size: int = 112,
    template: str | Points = "arcface-112",
    detector: ModelSpec | None = None,
    flip: bool = False,
    crops: NDArray[np.uint8] | None = None,
) -> Exported:
    """Write a backbone as a pack; the module itself is left as it is.

    Args:
        module: from float [N, 3, size, size], RGB as ``(pixel - 127.5) / 127.5``, to [N, D].
        folder: made when absent; files of the same name in it are replaced.
        name: of the files and the model, lower-case letters, digits and ``-._``.
        licence: what others may do with the weights. That hangs on the photos they were trained on.
        size: of the crop, px.
        template: where the five landmarks belong in the crop: a name, or (x, y) in px.
        detector: that finds the landmarks; CenterFace when absent.
        flip: the pack's embedder averages each face with its mirror image.
        crops: uint8 [N, size, size, 3] RGB to compare on, beside random ones.

    Raises:
        InputError: a name, size or template that a pack cannot have, or a module that takes no such crops.
        TensorError: `crops` are of another size.
        ModelError: the module cannot be written as ONNX, or a file's features differ from torch's by more than 1e-4.
        MissingExtraError: onnxscript is not installed.
    """
    spec = described(name=name, licence=licence, size=size, template=template, flip=flip)
    frozen = deepcopy(module).eval().cpu().float()

    def reference(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            features: NDArray[np.float32] = frozen(torch.from_numpy(batch)).numpy()
        return features

    try:
        shape = reference(np.zeros((2, 3, size, size), np.float32)).shape
    except (RuntimeError, ValueError) as error:
        raise InputError(f"module: expected to take [N, 3, {size}, {size}], got: {error}") from error
    if len(shape) != 2 or shape[0] != 2:
        raise InputError(f"module: expected features [N, D], got {list(shape)} of two faces")
    return publish(
        to_onnx(frozen, (3, size, size)),
        replace(spec, dim=shape[1]),
        folder,
        detector=detector or models()["centerface"],
        reference=reference,
        crops=crops,
    )


def described(
    *, name: str, licence: Licence, size: int = 112, template: str | Points = "arcface-112", flip: bool = False
) -> ModelSpec:
    """What a backbone will be in its pack, without its files; arguments as `export`, to be checked before training.

    Raises:
        InputError: a name, size or template that a pack cannot have.
    """
    spec = ModelSpec(
        name=name,
        kind="embedder",
        licence=licence,
        input=ModelInput("RGB", size, size, (127.5,) * 3, (1 / 127.5,) * 3),
        variants=(),
        template=template,
        flip=flip,
    )
    check(spec)
    return spec


def check(spec: ModelSpec) -> None:
    """Refuse what no pack can hold, before hours go into a network of that description.

    Raises:
        InputError: the name, size, template or licence is none that `load_pack` takes.
    """
    nothing = ModelFile("none", 1, f"sha256:{'0' * 64}", ())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack.toml"
        toml = pack_toml(Pack("pack", models()["centerface"], replace(spec, variants=((nothing,),))), path.parent)
        path.write_text(toml, encoding="utf-8")
        try:
            load_pack(path)
        except ModelError as error:
            raise InputError(f"name, size, template, licence: expected what a pack can hold, got: {error}") from error


def to_onnx(module: nn.Module, shape: tuple[int, ...]) -> "onnx.ModelProto":
    """A module in evaluation mode as ONNX: from `image` float32 [N, *shape] to `embedding`, any N from 1.

    Raises:
        ModelError: it does something that ONNX has no word for.
        MissingExtraError: onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401 - torch asks for it, but deep inside
    except ImportError as error:
        raise MissingExtraError('onnxscript is missing: pip install "visavis[train]"') from error
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (torch.zeros(2, *shape),),
                dynamo=True,
                input_names=["image"],
                output_names=["embedding"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                opset_version=_OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(f"module: expected one that can be written as ONNX, got: {reason}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def publish(
    model: "onnx.ModelProto",
    spec: ModelSpec,
    folder: Path,
    *,
    detector: ModelSpec,
    reference: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    crops: NDArray[np.uint8] | None = None,
) -> Exported:
    """Write an ONNX embedder as a pack, if it computes what it should.

    Args:
        model: the network; its first output is the features.
        spec: what it is and is fed; its files are put in here.
        folder: made when absent; files of the same name in it are replaced.
        detector: of the pack.
        reference: the features [N, D] that the network should have, of a batch [N, 3, H, W] as it is fed.
        crops: uint8 [N, H, W, 3] RGB to compare on, beside random ones.

    Raises:
        As `export`.
    """
    import openvino

    check(spec)
    height, width = spec.input.height, spec.input.width
    assert height is not None
    assert width is not None
    if crops is not None:
        expect("crops", crops, "uint8", None, height, width, 3)
    random = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)
    probe = random if crops is None else np.concatenate([random, crops])
    folder = Path(folder).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as draft_name:
        draft = Path(draft_name)
        files = [draft / f"{spec.name}{suffix}" for suffix in (".onnx", ".xml", ".bin")]
        try:
            files[0].write_bytes(model.SerializeToString())
            openvino.save_model(openvino.Core().read_model(files[0]), files[1], compress_to_fp16=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"{spec.name}: the network cannot be written ({error})") from error
        toml = draft / f"{spec.name}.toml"
        graph, *ir = (_hashed(file) for file in files)
        spec = replace(spec, variants=((graph,), tuple(ir)))
        calibration = f"{spec.name}.json"
        note = (
            f"# What its similarities mean has to be measured once, on photos of people you know:\n"
            f"# visavis face calibrate PHOTOS --pack {toml.name} --output {calibration}\n"
        )
        toml.write_text(note + pack_toml(Pack(spec.name, detector, spec, draft / calibration), draft), encoding="utf-8")
        batch = fed(probe, spec.input)
        goal = reference(batch)
        differences = (
            _difference(files[0].name, _onnxruntime(files[0]), batch, goal),
            _difference(files[1].name, _openvino(files[1]), batch, goal),
        )
        (folder / toml.name).unlink(missing_ok=True)
        for file in (*files, toml):
            file.replace(folder / file.name)
    return Exported(folder / toml.name, folder / files[0].name, folder / files[1].name, *differences)


_Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _onnxruntime(file: Path) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    return lambda batch: session.run(None, {source: batch})[0]


def _openvino(file: Path) -> _Run:
    network = Network(file, file.name, fixed_size=True)
    return lambda batch: next(iter(network(batch).values()))


def fed(crops: NDArray[np.uint8], how: ModelInput) -> NDArray[np.float32]:
    """Crops as the network is fed them, float32 [N, 3, H, W]."""
    mean, scale = (np.array(v, np.float32)[:, None, None] for v in (how.mean, how.scale))
    pixels = crops.transpose(0, 3, 1, 2)[:, :: -1 if how.colour == "BGR" else 1]
    return np.ascontiguousarray((pixels.astype(np.float32) - mean) * scale)


def _difference(name: str, run: _Run, batch: NDArray[np.float32], goal: NDArray[np.float32]) -> float:
    """The largest ``1 - cosine`` to the features there should be, in one batch and for a face alone."""
    try:
        found = np.concatenate([run(batch), run(batch[:1])])
    except Exception as error:  # the runtimes raise no common class
        raise ModelError(
            f"{name}: expected to run on {list(batch.shape)}, got: {' '.join(str(error).split())}"
        ) from error
    rows = [rows.reshape(len(rows), -1).astype(np.float64) for rows in (found, np.concatenate([goal, goal[:1]]))]
    if rows[0].shape != rows[1].shape:
        raise ModelError(f"{name}: expected features {list(goal.shape)}, got {list(found.shape)}")
    lengths = np.prod([np.linalg.norm(each, axis=1) for each in rows], 0)
    with np.errstate(invalid="ignore"):  # features that vanish have no cosine
        difference = float(np.max(1 - (rows[0] * rows[1]).sum(1) / lengths))
    if not difference <= _LARGEST_DIFFERENCE:  # NaN fails too
        raise ModelError(
            f"{name}: expected the features of the network it was made from, got some with a cosine of "
            f"{1 - difference:.6f} to them"
        )
    return max(difference, 0.0)


def _hashed(file: Path) -> ModelFile:
    content = file.read_bytes()
    return ModelFile(file.name, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}", (PathSource(file),))


def _strip(model: "onnx.ModelProto") -> None:
    """Take out what tells of the machine: torch notes the source lines, with their paths, that made each node."""
    graph = model.graph
    for each in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """While torch exports: it warns of its own deprecations, and that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
