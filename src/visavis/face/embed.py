"""Face embeddings: from aligned crops to unit vectors, near for one person and far for two."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.errors import LandmarkError, ModelError, expect
from visavis.face import dlib_format
from visavis.face.align import TEMPLATES, align
from visavis.face.models import ModelSpec
from visavis.face.records import AlignedFace
from visavis.face.runtime import Network, Precision

__all__ = ["Embedder"]

_BATCH = 16


class Embedder:
    """Cuts faces out as its network wants them, and embeds them."""

    def __init__(self, spec: ModelSpec, path: Path, *, threads: int = 1, precision: Precision = "float32") -> None:
        """Load the network that `spec` describes from `path`; errors as `Network`."""
        self._name = spec.name
        source: Path | bytes = path
        if spec.kind == "dlib-resnet":
            source = dlib_format.to_onnx(dlib_format.read(path)).SerializeToString()
        self._network = Network(source, path.name, fixed_size=True, threads=threads, precision=precision)
        self._output = spec.outputs[0] if spec.outputs else None
        template = spec.template
        self._template = TEMPLATES[template] if isinstance(template, str) else np.array(template)
        if spec.input.width is None or spec.input.height is None:
            raise ModelError(f"{spec.name}: expected an embedder with a fixed input size, got any size")
        self._width, self._height = spec.input.width, spec.input.height
        self._channels = slice(None, None, -1) if spec.input.colour == "BGR" else slice(None)
        self._mean, self._scale = (np.array(v, np.float32)[:, None, None] for v in (spec.input.mean, spec.input.scale))
        self.dim = self._features(np.zeros((1, self._height, self._width, 3), np.uint8)).shape[1]
        if spec.dim not in (None, self.dim):
            raise ModelError(f"{spec.name}: expected embeddings of {spec.dim} numbers, got {self.dim}")

    def align(self, image: NDArray[np.uint8], landmarks_xy_px: NDArray[np.float32]) -> AlignedFace:
        """Cut the face at five landmarks out of uint8 [H, W, 3] RGB; errors as `visavis.face.align.align`."""
        return align(image, landmarks_xy_px, self._template, width=self._width, height=self._height)

    def __call__(
        self, crops: NDArray[np.uint8], *, flip: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed aligned crops.

        Args:
            crops: uint8 [N, height, width, 3] RGB, as `align` cuts them.
            flip: average with the mirrored crop's features, for twice the cost.

        Returns:
            float32 [N, D] of unit length, and float32 [N], the length of the features before.

        Raises:
            TensorError: `crops` are of another size or dtype.
            LandmarkError: a crop has no features at all.
        """
        expect("crops", crops, "uint8", None, self._height, self._width, 3)
        if flip:
            both = self._features(np.concatenate([crops, crops[:, :, ::-1]]))
            features = (both[: len(crops)] + both[len(crops) :]) / np.float32(2)
        else:
            features = self._features(crops)
        norms = np.linalg.norm(features, axis=1)
        if not (norms > 0).all():  # NaN fails too
            raise LandmarkError("crops: expected faces, got a crop whose features vanish")
        return features / norms[:, None], norms

    def _features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [np.empty((0, self.dim), np.float32)] if len(crops) == 0 else []
        for start in range(0, len(crops), _BATCH):
            some = crops[start : start + _BATCH].transpose(0, 3, 1, 2)
            pixels = np.empty(some.shape, np.float32)
            pixels[...] = some[:, self._channels]
            pixels -= self._mean
            pixels *= self._scale
            outputs = self._network(pixels)
            if self._output is not None and self._output not in outputs:
                raise ModelError(f"{self._name}: expected an output {self._output}, got {', '.join(outputs)}")
            features = next(iter(outputs.values())) if self._output is None else outputs[self._output]
            parts.append(features.reshape(len(pixels), -1))
        return np.concatenate(parts)
