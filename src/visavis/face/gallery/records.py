"""What a gallery takes and hands out: immutable records. Points and boxes as in `visavis.face.records`."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.face.records import Detection

__all__ = [
    "Counts",
    "EmbedderId",
    "Embeddings",
    "FaceRow",
    "FileRow",
    "Imported",
    "NewFace",
    "PersonRow",
    "PhotoRow",
]


@dataclass(frozen=True, slots=True)
class EmbedderId:
    """Embeddings are comparable when all three agree."""

    name: str
    sha256: str  # of all that makes an embedding what it is: weights, crop, pixels; hexadecimal
    dim: int

    def __str__(self) -> str:
        return f"{self.name} (made as {self.sha256[:12]}, {self.dim}-d)"


@dataclass(frozen=True, slots=True, eq=False)
class NewFace:
    detection: Detection
    residual_px: float
    quality: float  # in [0, 1]
    embedding: NDArray[np.float32]  # [D], unit length
    thumbnail: bytes  # JPEG


@dataclass(frozen=True, slots=True)
class FileRow:
    """A path seen on disk: of a photo, or skipped for a reason; `photo_id` or `skipped` is None."""

    path: Path
    photo_id: int | None
    sha256: str | None
    size_bytes: int
    mtime_ns: int
    skipped: str | None


@dataclass(frozen=True, slots=True)
class PhotoRow:
    id: int
    sha256: str  # of the file's bytes, hexadecimal
    width_px: int  # of the upright photo
    height_px: int
    taken_at: datetime | None  # the camera's local time, without a zone
    paths: tuple[Path, ...]  # its copies; none: all are gone, and faces that were enrolled keep it
    faces: int


@dataclass(frozen=True, slots=True, eq=False)
class FaceRow:
    id: int
    photo_id: int
    path: Path | None  # one of the photo's copies
    detection: Detection
    residual_px: float
    quality: float
    person_id: int | None
    person: str | None  # the name
    pinned: bool  # placed by the user: clustering leaves it where it is
    enrolled: bool


@dataclass(frozen=True, slots=True)
class PersonRow:
    id: int
    name: str | None  # None: a cluster without a name
    faces: int
    best_face_id: int | None  # of the highest quality


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Every face at one moment, ordered by id."""

    face_ids: NDArray[np.int64]  # [N]
    vectors: NDArray[np.float32]  # [N, D]
    person_ids: NDArray[np.int64]  # [N], 0: nobody
    pinned: NDArray[np.bool_]  # [N]
    quality: NDArray[np.float32]  # [N]


@dataclass(frozen=True, slots=True)
class Counts:
    photos: int
    files: int
    skipped: int
    faces: int
    people: int
    named: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added."""

    photos: int
    faces: int
    people: int
