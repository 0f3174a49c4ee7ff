"""The stages in a row: from a decoded photo to its faces, each with landmarks, quality and embedding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visavis.errors import LandmarkError
from visavis.face import quality
from visavis.face.detect import Detector, resize
from visavis.face.embed import Embedder
from visavis.face.match import Calibration, calibration_of
from visavis.face.models import Pack, pull
from visavis.face.photos import Decoded
from visavis.face.records import Detection
from visavis.face.runtime import Network, Precision

__all__ = ["AnalyzedFace", "Analyzer", "thumbnail"]

_THUMBNAIL_PX = 112


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzedFace:
    detection: Detection  # in pixels of the upright photo
    residual_px: float  # of the aligned crop
    measures: NDArray[np.float64]  # [M] what the quality is made of, see `quality.MEASURES`
    quality: float
    embedding: NDArray[np.float32]  # [D] unit length
    thumbnail: bytes  # JPEG, upright, the face with some surroundings


class Analyzer:
    """Detector, aligner, quality and embedder of one pack, loaded. Not for two threads at once."""

    def __init__(
        self,
        pack: Pack,
        *,
        calibration: Calibration | None = None,
        threads: int = 1,
        precision: Precision = "bfloat16",
        accept_licence: bool = False,
    ) -> None:
        """Load the pack's networks, pulling what is not in the model store yet.

        Raises:
            ModelError: a model cannot be had or loaded, or no calibration is known for the pack.
        """
        self.pack = pack
        self.calibration = calibration or calibration_of(pack)
        path = pull(pack.detector, accept_licence=accept_licence)
        # In float32: a fifth of a percent on profiles hangs on how exact the landmarks are, and little time.
        network = Network(path, path.name, fixed_size=False, threads=threads)
        self.detector = Detector(network, pack.detector)
        path = pull(pack.embedder, accept_licence=accept_licence)
        self.embedder = Embedder(pack.embedder, path, threads=threads, precision=precision)

    def __call__(
        self,
        photos: Sequence[Decoded],
        *,
        min_score: float = 0.5,
        min_size_px: float = 16.0,
        long_side_px: int = 1024,
        tiles: bool = False,
        thumbnails: bool = True,
    ) -> list[list[AnalyzedFace]]:
        """The faces of each photo, the surest first; options as `Detector`, sizes in pixels of the upright photo."""
        detections = self.detector(
            [photo.pixels for photo in photos],
            min_score=min_score,
            min_size_px=[min_size_px * photo.scale for photo in photos],
            long_side_px=long_side_px,
            tiles=tiles,
        )
        faces = []
        for index, (photo, found) in enumerate(zip(photos, detections, strict=True)):
            for detection in found:
                try:
                    faces.append((index, detection, self.embedder.align(photo.pixels, detection.landmarks_xy_px)))
                except LandmarkError:  # landmarks on one spot: whatever was detected, it is no face
                    continue
        results: list[list[AnalyzedFace]] = [[] for _ in photos]
        if not faces:
            return results
        crops = np.stack([aligned.crop for _, _, aligned in faces])
        embeddings, norms = self.embedder(crops, flip=self.pack.embedder.flip)
        measures = np.stack(
            [
                quality.measure(detection, aligned, norm)
                for (_, detection, aligned), norm in zip(faces, norms, strict=True)
            ]
        )
        scores = self.calibration.quality(measures)
        for row, (index, detection, aligned) in enumerate(faces):
            face = AnalyzedFace(
                _to_photo(detection, photos[index].scale),
                aligned.residual_px,
                measures[row],
                float(scores[row]),
                embeddings[row],
                thumbnail(photos[index].pixels, detection) if thumbnails else b"",
            )
            results[index].append(face)
        return results


def _to_photo(detection: Detection, scale: float) -> Detection:
    """From pixels of the decoded photo to pixels of the photo: between the centres of pixels of different size."""
    return replace(
        detection,
        box_xyxy_px=(detection.box_xyxy_px + 0.5) / scale - 0.5,
        landmarks_xy_px=(detection.landmarks_xy_px + 0.5) / scale - 0.5,
    )


def thumbnail(image: NDArray[np.uint8], detection: Detection) -> bytes:
    """A square around the face, half as wide again as the box, as JPEG."""
    import simplejpeg

    left, top, right, bottom = (float(v) for v in detection.box_xyxy_px)
    half = 0.75 * max(right - left, bottom - top, 2.0)
    x, y = (left + right) / 2, (top + bottom) / 2
    height, width = image.shape[:2]
    # At least a row and a column of the photo, even when the box lies beside it.
    rows = slice(max(0, min(round(y - half), height - 1)), max(round(y + half), 1))
    columns = slice(max(0, min(round(x - half), width - 1)), max(round(x + half), 1))
    patch = image[rows, columns]
    shrink = min(1.0, _THUMBNAIL_PX / max(patch.shape[:2]))
    if shrink < 1.0:
        patch = resize(patch, max(1, round(patch.shape[1] * shrink)), max(1, round(patch.shape[0] * shrink)))
    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(patch), quality=80, colorsubsampling="420")
    return data
