"""Single steps on a gallery's tables, each inside its caller's transaction."""

import json
import os
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.face.gallery.database import Database
from visavis.face.gallery.records import FaceRow, NewFace, PhotoRow
from visavis.face.records import Detection, Photo

__all__ = [
    "boxes",
    "delete_faces",
    "face_row",
    "insert_face",
    "insert_photo",
    "is_among",
    "is_name",
    "is_unit",
    "json_ids",
    "photo_row",
    "put_file",
    "release_photo",
    "sweep",
]

SAME_BOX = 0.25  # of its width: how far the box of a face found twice in one photo may differ
UNIT_TOLERANCE = 1e-3


def is_name(text: str) -> bool:
    """Whether a person may be called so: printable, which lone surrogates are not, and not blank."""
    return bool(text.strip()) and text.isprintable()


def is_unit(vectors: NDArray[np.float32]) -> bool:
    """Whether all of [N, D] float32 have unit length; NaN has not."""
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors.dtype == np.float32 and bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all())


def json_ids(ids: Iterable[int]) -> str:
    """For `IN (SELECT value FROM json_each(?))`, which takes any number of ids."""
    return json.dumps([int(i) for i in ids])


def photo_row(
    photo_id: int,
    sha256: str,
    width_px: int,
    height_px: int,
    taken_at: str | None,
    faces: int,
    *,
    paths: tuple[Path, ...],
) -> PhotoRow:
    """A row of the table as the gallery hands it out."""
    taken = None if taken_at is None else datetime.fromisoformat(taken_at)
    return PhotoRow(photo_id, sha256, width_px, height_px, taken, paths, faces)


def insert_photo(database: Database, photo: Photo) -> int:
    """A photo without faces yet."""
    taken_at = None if photo.taken_at is None else photo.taken_at.isoformat()
    indexed_at = datetime.now(UTC).isoformat(timespec="seconds")
    return database.change(
        """INSERT INTO photo (sha256, width_px, height_px, taken_at, indexed_at, partial)
        VALUES (?, ?, ?, ?, ?, 0)""",
        (photo.sha256, photo.width_px, photo.height_px, taken_at, indexed_at),
    )


def put_file(
    database: Database,
    path: Path,
    size_bytes: int,
    mtime_ns: int,
    *,
    photo_id: int | None,
    skipped: str | None,
) -> None:
    """Write what is at a path now; the photo that was there before may lose its last file."""
    key = os.fsencode(path)
    before = database.rows("SELECT photo_id FROM file WHERE path = ?", (key,))
    database.change(
        "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (key, photo_id, size_bytes, mtime_ns, skipped)
    )
    for (old,) in before:
        if old != photo_id:
            release_photo(database, old)


def release_photo(database: Database, photo_id: int | None) -> None:
    """Drop a photo that has no file left; one with enrolled faces keeps those, a settled one stays known."""
    if photo_id is None or database.rows("SELECT 1 FROM file WHERE photo_id = ? LIMIT 1", (photo_id,)):
        return
    faces = database.rows("SELECT id, enrolled FROM face WHERE photo_id = ?", (photo_id,))
    delete_faces(database, [face_id for face_id, enrolled in faces if not enrolled])
    if database.rows("SELECT 1 FROM photo WHERE id = ? AND settled", (photo_id,)):
        return
    if any(enrolled for _, enrolled in faces):
        database.change("UPDATE photo SET partial = 1 WHERE id = ?", (photo_id,))
    else:
        database.change("DELETE FROM photo WHERE id = ?", (photo_id,))


def boxes(database: Database, photo_id: int) -> list[NDArray[np.float32]]:
    """Where the faces known in a photo are, [4] float32 each."""
    rows = database.rows("SELECT box FROM face WHERE photo_id = ?", (photo_id,))
    return [np.frombuffer(box, "<f4") for (box,) in rows]


def is_among(box: NDArray[np.float32], others: Iterable[NDArray[np.float32]]) -> bool:
    """Whether a box is of a face that is at one of the others, found again."""
    return any(np.abs(box - other).max() < SAME_BOX * (box[2] - box[0]) for other in others)


def insert_face(database: Database, photo_id: int, face: NewFace) -> int:
    """A new face of nobody; its numbers as little-endian float32."""
    detection = face.detection
    face_id = database.change(
        """INSERT INTO face
        (photo_id, box, landmarks, score, residual_px, quality, person_id, pinned, enrolled)
        VALUES (?, ?, ?, ?, ?, ?, NULL, 0, 0)""",
        (
            photo_id,
            detection.box_xyxy_px.astype("<f4").tobytes(),
            detection.landmarks_xy_px.astype("<f4").tobytes(),
            float(detection.score),
            float(face.residual_px),
            float(face.quality),
        ),
    )
    database.change("INSERT INTO vector VALUES (?, ?)", (face_id, face.embedding.astype("<f4").tobytes()))
    database.change("INSERT INTO thumbnail VALUES (?, ?)", (face_id, face.thumbnail))
    return face_id


def delete_faces(database: Database, face_ids: Collection[int]) -> None:
    """Delete faces and wipe their vectors and thumbnails in place; see database.py for why."""
    ids = (json_ids(face_ids),)
    these = "IN (SELECT value FROM json_each(?))"
    people = database.rows(f"SELECT DISTINCT person_id FROM face WHERE id {these}", ids)
    database.change(f"UPDATE vector SET embedding = zeroblob(length(embedding)) WHERE face_id {these}", ids)
    database.change(f"UPDATE thumbnail SET jpeg = zeroblob(length(jpeg)) WHERE face_id {these}", ids)
    database.change(f"DELETE FROM face WHERE id {these}", ids)
    database.change("INSERT INTO gone (face_id) SELECT value FROM json_each(?)", ids)
    sweep(database, {person for (person,) in people})


def sweep(database: Database, people: Collection[int | None]) -> None:
    """Of these people, those without faces and without a name vanish."""
    database.change_many(
        """DELETE FROM person WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM face WHERE person_id = ?1)
        AND NOT EXISTS (SELECT 1 FROM name WHERE person_id = ?1)""",
        [(person,) for person in people if person is not None],
    )


def face_row(
    face_id: int,
    photo_id: int,
    path: bytes | None,
    box: bytes,
    landmarks: bytes,
    score: float,
    residual_px: float,
    quality: float,
    person_id: int | None,
    person: str | None,
    pinned: int,
    enrolled: int,
) -> FaceRow:
    """A row of the query in `Gallery.faces` as a record."""
    points: NDArray[np.float32] = np.frombuffer(landmarks, "<f4").reshape(5, 2)
    return FaceRow(
        face_id,
        photo_id,
        None if path is None else Path(os.fsdecode(path)),
        Detection(np.frombuffer(box, "<f4"), points, score),
        residual_px,
        quality,
        person_id,
        person,
        bool(pinned),
        bool(enrolled),
    )
