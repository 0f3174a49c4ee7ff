"""What a gallery asks of what it is given, wherever it is kept."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect
from visavis.face.gallery.records import NewFace
from visavis.face.gallery.rows import is_unit

__all__ = ["check_face", "check_path", "check_unit"]


def check_face(name: str, face: NewFace, dim: int) -> None:
    """Raises InputError or TensorError for a face that no stage gives."""
    check_unit(f"{name}.embedding", face.embedding[None], dim)
    box, points = face.detection.box_xyxy_px, face.detection.landmarks_xy_px
    expect(f"{name}.box_xyxy_px", box, "float", 4)
    expect(f"{name}.landmarks_xy_px", points, "float", 5, 2)
    if not (np.isfinite(box).all() and np.isfinite(points).all() and 0 <= face.residual_px < np.inf):
        raise InputError(f"{name}: expected finite points, got {box}, {points}, {face.residual_px}")
    if not (0 <= face.detection.score <= 1 and 0 <= face.quality <= 1):
        got = f"{face.detection.score}, {face.quality}"
        raise InputError(f"{name}: expected score and quality in [0, 1], got {got}")


def check_unit(name: str, vectors: NDArray[np.float32], dim: int) -> None:
    """Raises InputError or TensorError unless `vectors` are [N, dim] float32 of unit length."""
    expect(name, vectors, "float", None, dim)
    if not is_unit(vectors):
        lengths = np.linalg.norm(vectors, axis=1)
        raise InputError(f"{name}: expected float32 of unit length, got {vectors.dtype} of {lengths.round(3)}")


def check_path(path: Path) -> None:
    """Raises InputError for a relative path."""
    if not path.is_absolute():
        raise InputError(f"path: expected an absolute one, got {str(path)!r}")
