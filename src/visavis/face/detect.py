"""Face detection: boxes and five landmarks from photos of any size.

Images are uint8 [height, width, 3] RGB; boxes and landmarks come back in pixels of the image given.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, ModelError, expect
from visavis.face.models import ModelSpec
from visavis.face.records import Detection
from visavis.face.runtime import Network

__all__ = ["Detector", "resize", "suppress"]

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]
_Candidates = tuple[Values, Values, Values]  # scores [N], boxes [N, 4], landmarks [N, 5, 2]
_Seen = tuple[int, Pixels, Values]  # which view, as the network sees it, pixels of the view per pixel of that

_SMALL_PX = 192  # smaller photos are enlarged to this long side: their faces would fall below the networks' reach
_TILE_OVERLAP_PX = 128
_BATCH, _BATCH_AREA = 4, 512 * 512  # beyond this canvas a batch is no quicker


class Detector:
    """Finds faces with a loaded network of kind CenterFace (arXiv:1911.03599) or YuNet (Machine Intelligence Research
    20, 2023).
    """

    def __init__(self, network: Network, spec: ModelSpec) -> None:
        """`spec` is the model that `network` was loaded from."""
        self._network, self._name = network, spec.name
        self._read: Callable[[dict[str, Values], int, float], _Candidates]
        self._read = {"centerface": _read_centerface, "yunet": _read_yunet}[spec.kind]
        self._channels = slice(None, None, -1) if spec.input.colour == "BGR" else slice(None)
        self._mean, self._scale = (np.array(v, np.float32)[:, None, None] for v in (spec.input.mean, spec.input.scale))

    def __call__(
        self,
        images: Sequence[Pixels],
        *,
        min_score: float = 0.5,
        min_size_px: float | Sequence[float] = 16.0,
        long_side_px: int = 1024,
        tiles: bool = False,
    ) -> list[list[Detection]]:
        """Detect the faces of each image, the surest first; the images may differ in size.

        Args:
            images: uint8 [H, W, 3] RGB each.
            min_score: keep detections with at least this score, in [0, 1].
            min_size_px: drop faces whose box is narrower or lower than this; one for all images, or one for each.
            long_side_px: larger images are shrunk to at most this long side for detection; tiny ones are enlarged.
            tiles: look also at overlapping tiles of `long_side_px`, unshrunk: finds small faces in large photos, at
                the cost of one pass a tile.

        Raises:
            TensorError: an image is not uint8 [H, W, 3].
            InputError: a threshold out of range.
            ModelError: the network is of another kind.
        """
        if not 0.0 <= min_score <= 1.0:
            raise InputError(f"min_score: expected a score in [0, 1], got {min_score}")
        if long_side_px < 2 * _TILE_OVERLAP_PX:
            raise InputError(f"long_side_px: expected at least {2 * _TILE_OVERLAP_PX}, got {long_side_px}")
        for image in images:
            expect("image", image, "uint8", None, None, 3)
        found = [[whole] for whole in self._look([(image, long_side_px) for image in images], min_score)]
        missed = [index for index, [(scores, _, _)] in enumerate(found) if len(scores) == 0]
        # A face that fills the photo is found only when it is smaller.
        smaller = [(images[index], min(long_side_px, max(images[index].shape)) // 2) for index in missed]
        for index, candidates in zip(missed, self._look(smaller, min_score), strict=True):
            found[index].append(candidates)
        for image, parts in zip(images if tiles else (), found, strict=False):
            parts += self._look_at_tiles(image, min_score, long_side_px)
        sizes_px = np.broadcast_to(min_size_px, len(images))
        return [_chosen(parts, size_px) for parts, size_px in zip(found, sizes_px, strict=True)]

    def _look_at_tiles(self, image: Pixels, min_score: float, side_px: int) -> list[_Candidates]:
        """Candidates in pixels of the image, but those that a tile's edge cuts."""
        height, width = image.shape[:2]
        if max(height, width) <= side_px:
            return []
        corners = list(_tile_corners(height, width, side_px))
        tiles = [image[top : top + side_px, left : left + side_px] for top, left in corners]
        looks = zip(self._look([(tile, side_px) for tile in tiles], min_score), tiles, corners, strict=True)
        return [_inside(candidates, tile, image, left, top) for candidates, tile, (top, left) in looks]

    def _look(self, views: Sequence[tuple[Pixels, int]], min_score: float) -> list[_Candidates]:
        """Candidates in each (image, long side at most), in pixels of that image.

        Views that need the same canvas take turns together, as changing its size takes a runtime time.
        """
        nothing = np.empty(0, np.float32), np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32)
        results: list[_Candidates] = [nothing] * len(views)
        canvases: dict[tuple[int, int], list[_Seen]] = {}
        for index, (image, long_side_px) in enumerate(views):
            if min(image.shape[:2]) > 0:
                seen, step_xy = _fit(image, long_side_px)
                size = _canvas_side(seen.shape[0]), _canvas_side(seen.shape[1])
                canvases.setdefault(size, []).append((index, seen, step_xy))
        for size, members in canvases.items():
            for batch in _batches(members, _BATCH if size[0] * size[1] <= _BATCH_AREA else 1):
                outputs = self._network(self._canvas([seen for _, seen, _ in batch], size))
                for row, (index, _, step_xy) in enumerate(batch):
                    # YuNet's file stacks the cells of a batch on the second axis.
                    of_one = {name: v.reshape(len(batch), -1, *v.shape[2:])[row] for name, v in outputs.items()}
                    try:
                        scores, boxes, landmarks = self._read(of_one, size[1], min_score)
                    except KeyError as error:
                        names = ", ".join(outputs)
                        raise ModelError(f"{self._name}: expected an output {error}, got {names}") from error
                    # Networks count from the corner of the first pixel; ours are centres, hence the half pixel.
                    results[index] = scores, boxes * np.tile(step_xy, 2) - 0.5, landmarks * step_xy - 0.5
        return results

    def _canvas(self, images: Sequence[Pixels], size: tuple[int, int]) -> Values:
        """[N, 3, *size]: images as the network wants them, each at the top left of zeros."""
        canvas = np.zeros((len(images), 3, *size), np.float32)
        for place, image in zip(canvas, images, strict=True):
            filled = place[:, : image.shape[0], : image.shape[1]]
            filled[...] = image.transpose(2, 0, 1)[self._channels]
            filled -= self._mean
            filled *= self._scale
        return canvas


def _fit(image: Pixels, long_side_px: int) -> tuple[Pixels, Values]:
    """The image as a network is to see it, and its pixels per pixel of that, [2] x and y."""
    from PIL import Image

    height, width = image.shape[:2]
    long = max(height, width)
    zoom = min(max(1.0, _SMALL_PX / long), long_side_px / long)
    if zoom == 1.0:
        return image, np.ones(2, np.float32)
    whole = -(-long // long_side_px)
    if whole > 1 and whole <= min(height, width) and whole * zoom < 1.1:  # a little smaller, and much quicker
        part = image[: height // whole * whole, : width // whole * whole]
        return np.asarray(Image.fromarray(np.ascontiguousarray(part)).reduce(whole)), np.full(2, whole, np.float32)
    columns, rows = max(1, round(width * zoom)), max(1, round(height * zoom))
    return resize(image, columns, rows), np.array([width / columns, height / rows], np.float32)


def _batches(members: Sequence[_Seen], most: int) -> Iterator[Sequence[_Seen]]:
    """Full batches, then one by one: of batch sizes, too, a runtime prepares, and keeps, each it meets."""
    full = len(members) // most * most
    for start in range(0, full, most):
        yield members[start : start + most]
    for member in members[full:]:
        yield [member]


def _chosen(parts: Sequence[_Candidates], min_size_px: float) -> list[Detection]:
    """One detection a face, from what several looks at a photo have found."""
    scores, boxes, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= min_size_px)
    keep = large[suppress(boxes[large], scores[large])]
    return [Detection(boxes[i], landmarks[i], float(scores[i])) for i in keep]


def _canvas_side(length: int) -> int:
    """A multiple of 64, above 512 of 128: few enough, as a runtime prepares, and keeps, each size it meets."""
    step = 64 if length <= 512 else 128
    return -(-length // step) * step


def resize(image: Pixels, width: int, height: int) -> Pixels:
    """Resize uint8 [H, W, 3]; when shrinking, means of squares, then a triangle filter, keep aliasing out."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))


def suppress(boxes: Values, scores: Values, *, overlap: float = 0.4) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of the boxes kept, the highest score first.

    A box goes when it shares more than `overlap` of the union with a better one, or lies almost wholly (0.8 of its
    area) inside one: the second face that tiles and close-ups tend to report.
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        corner_low = np.maximum(boxes[best, :2], boxes[rest, :2])
        corner_high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(corner_high - corner_low, 0), axis=1)
        union = areas[best] + areas[rest] - shared
        order = rest[(shared <= overlap * union) & (shared <= 0.8 * areas[rest])]
    return np.array(keep, np.int64)


def _tile_corners(height: int, width: int, side: int) -> Iterator[tuple[int, int]]:
    """(top, left) of tiles that cover the image and overlap by at least `_TILE_OVERLAP_PX`."""

    def starts(length: int) -> NDArray[np.int64]:
        count = max(1, -(-(length - _TILE_OVERLAP_PX) // (side - _TILE_OVERLAP_PX)))
        return np.linspace(0, max(0, length - side), count).astype(np.int64)

    for top in starts(height):
        for left in starts(width):
            yield int(top), int(left)


def _inside(found: _Candidates, tile: Pixels, image: Pixels, left: int, top: int) -> _Candidates:
    """From a tile's pixels to the image's, without what the tile's edge has cut: boxes that reach it where the image
    goes on.
    """
    scores, boxes, landmarks = found
    shift = np.array([left, top, left, top], np.float32)
    boxes, landmarks = boxes + shift, landmarks + shift[:2]
    bottom, right = top + tile.shape[0], left + tile.shape[1]
    cut = (boxes[:, 0] < left) & (left > 0) | (boxes[:, 1] < top) & (top > 0)
    cut |= (boxes[:, 2] > right - 1) & (right < image.shape[1]) | (boxes[:, 3] > bottom - 1) & (bottom < image.shape[0])
    return scores[~cut], boxes[~cut], landmarks[~cut]


def _read_centerface(outputs: dict[str, Values], _columns_px: int, min_score: float) -> _Candidates:
    """Peaks of the heat map; sizes are logarithms of cells, landmarks fractions of the box; (y, x) order throughout."""
    heat, size_yx, offset_yx, points = (outputs[name] for name in ("537", "538", "539", "540"))
    row, column = np.nonzero(heat[0] >= min_score)
    size = np.exp(size_yx[:, row, column][::-1].T) * 4  # [N, 2] width, height in px
    centre = np.stack([column, row], 1) + offset_yx[:, row, column][::-1].T + 0.5
    low = centre * 4 - size / 2
    landmarks = points[:, row, column].T.reshape(-1, 5, 2)[:, :, ::-1] * size[:, None] + low[:, None]
    boxes = np.concatenate([low, low + size], 1)
    return heat[0, row, column], boxes.astype(np.float32), landmarks.astype(np.float32)


def _read_yunet(outputs: dict[str, Values], columns_px: int, min_score: float) -> _Candidates:
    """Anchor-free heads at strides 8, 16 and 32; the score is the geometric mean of class and objectness."""
    parts = []
    for stride in (8, 16, 32):
        heads = (outputs[f"{head}_{stride}"] for head in ("cls", "obj", "bbox", "kps"))
        classes, objectness, sizes, points = heads
        scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objectness[:, 0], 0, 1))
        index = np.flatnonzero(scores >= min_score)
        cell = np.stack([index % (columns_px // stride), index // (columns_px // stride)], 1)  # [N, 2] column, row
        centre = (cell + sizes[index, :2]) * stride
        half = np.exp(sizes[index, 2:]) * stride / 2
        landmarks = (points[index].reshape(-1, 5, 2) + cell[:, None]) * stride
        boxes = np.concatenate([centre - half, centre + half], 1)
        parts.append((scores[index], boxes.astype(np.float32), landmarks.astype(np.float32)))
    scores, boxes, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return scores, boxes, landmarks
