"""Liveness: whether a photo shows a face before the camera, or a print or a screen that shows one.

One photo cannot prove life. What the networks here tell is a hint about paper and screens; masks, deep fakes and video
fed in past the camera are beyond them. docs/liveness.md has what was measured, and it is sobering.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, ModelError, expect
from visavis.face.models import ModelSpec, Pack, pull
from visavis.face.photos import Decoded
from visavis.face.records import Detection, Live
from visavis.face.runtime import Network

__all__ = ["MIN_FACE_PX", "Liveness", "surroundings"]

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels; right and bottom exclusive

MIN_FACE_PX = 64  # the box's longer side; of a smaller face nothing is said, as the grain of paper or screen is gone
_BATCH = 8


class Liveness:
    """A loaded network that tells faces from pictures of faces. Not for two threads at once."""

    def __init__(self, pack: Pack, *, threads: int = 1, accept_licence: bool = False) -> None:
        """Load the pack's liveness model, pulling it if it is not in the model store yet.

        Raises:
            ModelError: the pack has none, or it cannot be had or loaded.
        """
        spec = pack.liveness
        if spec is None:
            raise ModelError(
                f'pack {pack.name}: expected a liveness model, got none; add `liveness = "..."` to its TOML'
            )
        path = pull(spec, accept_licence=accept_licence)
        self.spec: ModelSpec = spec
        self._axes, self._read = _KINDS[spec.kind]
        self._network = Network(path, path.name, fixed_size=True, threads=threads)
        if spec.input.width is None or spec.input.height is None or spec.threshold is None:
            raise ModelError(
                f"{spec.name}: expected a liveness model with a fixed input size and a threshold, got none"
            )
        self._size, self._threshold = (spec.input.width, spec.input.height), spec.threshold
        self._mean, self._scale = (np.array(v, np.float32) for v in (spec.input.mean, spec.input.scale))

    def __call__(self, faces: Sequence[tuple[Pixels, NDArray[np.float32]]]) -> list[Live]:
        """Judge faces, of one photo or of many.

        Args:
            faces: for each its photo, uint8 [H, W, 3] RGB, and its box, [4] left, top, right, bottom in pixels of it.

        Raises:
            TensorError: a photo or a box is of another shape or type.
            InputError: a box or a photo without an area.
            ModelError: the network is of another kind.
        """
        parts: list[tuple[Pixels, Rectangle]] = []
        large: list[int] = []
        for place, (image, box) in enumerate(faces):
            expect("image", image, "uint8", None, None, 3)
            expect("box", box, "float", 4)
            rectangle = surroundings(box, self.spec, image.shape[1], image.shape[0])
            if max(box[2] - box[0], box[3] - box[1]) >= MIN_FACE_PX:
                parts.append((image, rectangle))
                large.append(place)
        results = [Live(None, None)] * len(faces)
        for place, score in zip(large, self._scores(parts), strict=True):
            results[place] = Live(score, score >= self._threshold)
        return results

    def of_photo(self, photo: Decoded, detections: Sequence[Detection]) -> list[Live]:
        """Judge the faces of a decoded photo; detections are in pixels of the upright photo, as the system's are."""
        return self([(photo.pixels, (d.box_xyxy_px + np.float32(0.5)) * photo.scale - 0.5) for d in detections])

    def _cut(self, image: Pixels, rectangle: Rectangle) -> Values:
        """A part of the photo as the network wants it, [height, width, 3] in its colour order.

        Shrunk without a filter, by the nearest four pixels of each point, as the sources do: what that leaves of a
        pattern too fine for the crop is a part of what the networks look for.
        """
        from PIL import Image

        left, top, right, bottom = rectangle
        part = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
        seen = part.transform(self._size, Image.Transform.EXTENT, (0, 0, *part.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(seen, np.float32)
        return ((pixels[..., ::-1] if self.spec.input.colour == "BGR" else pixels) - self._mean) * self._scale

    def _scores(self, parts: Sequence[tuple[Pixels, Rectangle]]) -> list[float]:
        scores: list[float] = []
        for start in range(0, len(parts), _BATCH):
            batch = np.stack([self._cut(*part) for part in parts[start : start + _BATCH]]).transpose(self._axes)
            outputs = self._network(np.ascontiguousarray(batch))
            try:
                found = self._read([outputs[name] for name in self.spec.outputs or outputs])
            except (KeyError, ValueError, IndexError) as error:
                shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
                raise ModelError(
                    f"{self.spec.name}: expected the outputs of a {self.spec.kind}, got {shapes}"
                ) from error
            scores += [float(score) for score in np.clip(found, 0, 1)]
        return scores


def surroundings(box: NDArray[np.float32], spec: ModelSpec, width_px: int, height_px: int) -> Rectangle:
    """What of a photo the network is to see: (left, top, right, bottom), whole pixels, right and bottom exclusive.

    The box `spec.crop` times as wide and high, moved into the photo where it reaches beyond; where the photo is
    smaller than that, the largest part of the same shape. MiniFASNet takes it in the box's shape, squeezed to a square
    later; the deep tree takes a square.

    Raises:
        InputError: a box without an area, or a photo without one.

    Source: src/generate_patches.py of Silent-Face-Anti-Spoofing; its rounding differs by a pixel.
    """
    left, top, right, bottom = (float(value) for value in box)
    if not (0 < right - left < np.inf and 0 < bottom - top < np.inf):
        raise InputError(f"box: expected left < right and top < bottom, got {[left, top, right, bottom]}")
    if width_px < 1 or height_px < 1:
        raise InputError(f"image: expected at least a pixel, got {width_px} x {height_px}")
    wide, high = right - left, bottom - top
    if spec.kind == "deep-tree":
        wide = high = max(wide, high)
    assert spec.crop is not None  # as for any liveness model
    zoom = min(spec.crop, width_px / wide, height_px / high)
    found = []
    for centre, side, limit in (((left + right) / 2, wide, width_px), ((top + bottom) / 2, high, height_px)):
        length = min(max(round(side * zoom), 1), limit)
        start = round(centre + 0.5 - length / 2)  # 0.5: a pixel's corner lies so far before its centre
        start = min(max(start, 0), limit - length)
        found.append((start, start + length))
    (left_px, right_px), (top_px, bottom_px) = found
    return left_px, top_px, right_px, bottom_px


def _read_minifasnet(outputs: Sequence[Values]) -> Values:
    """[N] the share of class 1 of three; the other two are attacks."""
    (logits,) = outputs
    powers = np.exp(logits - logits.max(1, keepdims=True))
    live: Values = powers[:, 1] / powers.sum(1)
    return live


def _read_deep_tree(outputs: Sequence[Values]) -> Values:
    """[N] what the tree's leaves, each a judge of other attacks, on average leave to 1.

    The source hears only the leaf that a face was led to; in the weights there are, the leaf that most faces are led
    to takes most for attacks.
    """
    (leaves,) = outputs
    attack: Values = np.abs(leaves).mean(1)
    return 1 - attack


# How a network of the kind wants its batch's axes, from [N, height, width, 3], and how its outputs are read.
_KINDS: dict[str, tuple[tuple[int, ...], Callable[[Sequence[Values]], Values]]] = {
    "deep-tree": ((0, 1, 2, 3), _read_deep_tree),
    "minifasnet": ((0, 3, 1, 2), _read_minifasnet),
}
