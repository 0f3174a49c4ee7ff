"""Runs a network file on the CPU by OpenVINO, or by ONNX Runtime where OpenVINO is absent.

Batches are float32 [N, 3, height, width]; every network takes any N and, where it is fully convolutional, any size.
"""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visavis.errors import MissingExtraError, ModelError

__all__ = ["Network", "Precision"]

Precision = Literal["float32", "bfloat16"]

# OpenVINO prepares what it needs for NumPy when it is first used, and gives the interpreter's lock away amid that: two
# threads that do so at once may wait for each other, and with them the whole process, for ever.
_FIRST_USE = threading.Lock()


class Network:
    """A loaded network: call it with a batch, get its outputs by name.

    Not for two threads at once; each worker process holds its own.
    """

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        *,
        fixed_size: bool,
        threads: int = 1,
        precision: Precision = "float32",
    ) -> None:
        """Load a network.

        Args:
            source: an .onnx file, an OpenVINO .xml file with its .bin beside it, or the bytes of an ONNX model.
            name: what error messages call it.
            fixed_size: the image size in the file holds; otherwise it is freed along with the batch.
            threads: the most CPU threads to use.
            precision: bfloat16 halves the cost on CPUs that have it and is ignored by others.

        Raises:
            ModelError: the file is not a network the runtime can load.
            MissingExtraError: neither OpenVINO nor ONNX Runtime is installed.
        """
        self._name = name
        self._run: Any
        try:
            import openvino  # noqa: F401
        except ImportError:
            self._load_onnxruntime(source, name, threads, fixed_size)
            return
        try:
            with _FIRST_USE:
                compiled = _compiled(source, fixed_size=fixed_size, threads=threads, precision=precision)
        except RuntimeError as error:
            raise ModelError(f"{name}: OpenVINO cannot load it ({str(error).strip().splitlines()[-1]})") from error
        self.runtime = "openvino"
        names = [output.names for output in compiled.outputs]  # an output may go by several
        request = compiled.create_infer_request()
        used = False

        def run(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            nonlocal used
            with nullcontext() if used else _FIRST_USE:
                results = request.infer([batch], share_inputs=True, share_outputs=False)
            used = True
            return {name: value for aliases, value in zip(names, results.values(), strict=True) for name in aliases}

        self._run = run

    def _load_onnxruntime(self, source: Path | bytes, name: str, threads: int, fixed_size: bool) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError('no runtime for networks: pip install "visavis[face]"') from error
        try:
            model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
            for value in [*model.graph.input, *model.graph.output]:
                dims = value.type.tensor_type.shape.dim
                for axis in range(len(dims)) if not fixed_size else [0]:
                    if axis != 1:
                        dims[axis].dim_param = f"{value.name}_{axis}"
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnx and onnxruntime raise no common class
            raise ModelError(f"{name}: ONNX Runtime cannot load it ({error})") from error
        self.runtime = "onnxruntime"
        names = [output.name for output in session.get_outputs()]
        source = session.get_inputs()[0].name

        def run(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            return dict(zip(names, session.run(names, {source: batch}), strict=True))

        self._run = run

    def __call__(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name.

        Raises:
            ModelError: the network takes no such batch.
        """
        try:
            outputs: dict[str, NDArray[np.float32]] = self._run(batch)
        except Exception as error:  # the runtimes raise no common class
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(f"{self._name}: expected to run on {list(batch.shape)}, got: {reason}") from error
        return outputs


def _compiled(source: Path | bytes, *, fixed_size: bool, threads: int, precision: Precision) -> Any:
    """The network, compiled by OpenVINO; raises RuntimeError."""
    import openvino

    core = openvino.Core()
    model = core.read_model(source)
    shape = model.input(0).partial_shape
    shape[0] = -1
    if not fixed_size:
        shape[2] = shape[3] = -1
    model.reshape(shape)
    # Asked for where the CPU lacks it, OpenVINO would imitate it, slower than float32.
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hint = openvino.Type.bf16 if precision == "bfloat16" and native else openvino.Type.f32
    return core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": hint,
            # What is prepared for a size of input is kept for the next time. Unbounded, that takes 5 MB a size;
            # here the least used goes when there are more than about 25.
            "CPU_RUNTIME_CACHE_CAPACITY": 1000,
        },
    )
