"""What the stages of the face system hand to one another: immutable records.

Points are (x, y) in pixels of the upright photo and pixel centres are integers: the top-left pixel is (0, 0).
Landmarks are five, in this order: the eye, nose tip and mouth corner seen in the image from left to right, that is
left eye, right eye, nose tip, left mouth corner, right mouth corner.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["AlignedFace", "Detection", "Face", "Live", "Photo"]


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    path: Path
    sha256: str  # of the file's bytes, hexadecimal
    width_px: int  # of the upright photo
    height_px: int
    taken_at: datetime | None  # the camera's local time, without a zone


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    box_xyxy_px: NDArray[np.float32]  # [4] left, top, right, bottom; may reach past the photo's edge
    landmarks_xy_px: NDArray[np.float32]  # [5, 2]
    score: float  # in [0, 1]


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    crop: NDArray[np.uint8]  # [height, width, 3] RGB, black outside the photo
    matrix: NDArray[np.float64]  # [2, 3], photo pixels to crop pixels
    residual_px: float  # root mean square landmark error in the crop; large: doubt the landmarks


@dataclass(frozen=True, slots=True)
class Live:
    """Whether a face was before the camera or on paper or a screen. Both are None where it is too small to tell."""

    score: float | None  # in [0, 1], higher: more like a face before the camera; no probability
    live: bool | None  # whether the score reaches the model's threshold


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    id: int | None  # None: not in a gallery
    photo: Photo
    detection: Detection
    quality: float  # in [0, 1], calibrated: the expected share of right matches at the model's default threshold
    embedding: NDArray[np.float32]  # [D], unit length
    person: str | None  # the name, or None when unknown or unnamed
    liveness: Live | None = None  # None: not asked for
