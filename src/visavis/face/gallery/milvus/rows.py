"""Rows of the tables on Milvus as a gallery's records, and single steps on them, inside a transaction."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visavis.errors import InputError
from visavis.face.gallery.milvus.tables import Row, Where
from visavis.face.gallery.records import FaceRow, FileRow, NewFace, PersonRow, PhotoRow
from visavis.face.records import Detection, Photo

if TYPE_CHECKING:
    from visavis.face.gallery.milvus.session import Session

__all__ = [
    "add_face",
    "add_photo",
    "delete_faces",
    "face_row",
    "file_key",
    "file_path",
    "file_row",
    "hexadecimal",
    "pair",
    "person_row",
    "photo_row",
    "put_file",
    "release_photo",
    "text",
]

THUMBNAIL_BYTES = 49_000  # what fits into a text of Milvus, in base64
PATH_BYTES = 32_000  # what fits in hexadecimal
REASON_CHARACTERS = 10_000


def hexadecimal(name: str) -> str:
    """A text that may stand in an expression."""
    return name.encode("utf-8", "surrogatepass").hex()


def text(digits: str) -> str | None:
    """What `hexadecimal` was made of; None for nothing."""
    return bytes.fromhex(digits).decode("utf-8", "surrogatepass") or None


def file_key(path: Path) -> str:
    """The id of a path's row, in the order of paths.

    Raises:
        InputError: the path is longer than any system takes.
    """
    encoded = os.fsencode(path)
    if len(encoded) > PATH_BYTES:
        raise InputError(f"path: expected at most {PATH_BYTES} bytes, got {len(encoded)}")
    return encoded.hex()


def file_path(key: str) -> Path:
    """The path of a row."""
    return Path(os.fsdecode(bytes.fromhex(key)))


def file_row(row: Row, photo: Row | None) -> FileRow:
    """As the gallery hands it out."""
    sha256 = None if photo is None else photo["sha256"]
    numbers = row["size_bytes"], row["mtime_ns"]
    return FileRow(file_path(row["id"]), row["photo_id"] or None, sha256, *numbers, row["skipped"] or None)


def photo_row(row: Row, paths: Iterable[Path], faces: int) -> PhotoRow:
    """As the gallery hands it out."""
    taken_at = datetime.fromisoformat(row["taken_at"]) if row["taken_at"] else None
    return PhotoRow(row["id"], row["sha256"], row["width_px"], row["height_px"], taken_at, tuple(paths), faces)


def person_row(row: Row) -> PersonRow:
    """As the gallery hands it out."""
    return PersonRow(row["id"], text(row["name"]), row["faces"], row["best_face"] or None)


def face_row(row: Row, person: Row | None, path: str | None) -> FaceRow:
    """As the gallery hands it out; `path`: the id of a file's row."""
    box, points = row["geometry"][:4], row["geometry"][4:].reshape(5, 2)
    return FaceRow(
        row["id"],
        row["photo_id"],
        None if path is None else file_path(path),
        Detection(box, points, row["score"]),
        row["residual_px"],
        row["quality"],
        row["person_id"] or None,
        None if person is None else text(person["name"]),
        row["pinned"],
        row["enrolled"],
    )


def pair(person: int, other: int) -> Row:
    """The row that says: two different people."""
    a, b = min(person, other), max(person, other)
    return {"id": f"{a}-{b}", "person_a": a, "person_b": b}


def add_photo(session: "Session", photo: Photo) -> Row:
    """A photo without faces yet."""
    row = {
        "id": session.take("photo"),
        "sha256": photo.sha256,
        "width_px": photo.width_px,
        "height_px": photo.height_px,
        "taken_at": "" if photo.taken_at is None else photo.taken_at.isoformat(),
        "partial": False,
        "settled": False,
    }
    session.reading().put("photo", row)
    return row


def put_file(
    session: "Session", path: Path, size_bytes: int, mtime_ns: int, *, photo_id: int = 0, skipped: str = ""
) -> None:
    """Write what is at a path now, a photo or a reason; the photo that was there before may lose its last file."""
    view, key = session.reading(), file_key(path)
    before = view.get("file", [key])
    reason = skipped.encode("utf-8", "backslashreplace").decode()[:REASON_CHARACTERS]
    row = {"id": key, "photo_id": photo_id, "size_bytes": size_bytes, "mtime_ns": mtime_ns, "skipped": reason}
    view.put("file", row)
    for old in before.values():
        if old["photo_id"] != photo_id:
            release_photo(session, old["photo_id"])


def release_photo(session: "Session", photo_id: int) -> None:
    """Drop a photo that has no file left; one with enrolled faces keeps those, a settled one stays known."""
    view = session.reading()
    if not photo_id or view.select("file", Where("photo_id", {photo_id})):
        return
    faces = view.select("face", Where("photo_id", {photo_id}))
    delete_faces(session, [face for face in faces if not face["enrolled"]])
    photo = view.get("photo", [photo_id])[photo_id]
    if photo["settled"]:
        return
    if any(face["enrolled"] for face in faces):
        view.put("photo", photo | {"partial": True})
    else:
        view.delete("photo", [photo_id])


def add_face(session: "Session", photo_id: int, face: NewFace) -> int:
    """A new face of nobody; returns its id.

    Raises:
        InputError: its thumbnail is larger than any we make.
    """
    if len(face.thumbnail) > THUMBNAIL_BYTES:
        raise InputError(f"thumbnail: expected at most {THUMBNAIL_BYTES} bytes on Milvus, got {len(face.thumbnail)}")
    detection, view, face_id = face.detection, session.reading(), session.take("face")
    geometry = np.concatenate([detection.box_xyxy_px, detection.landmarks_xy_px.ravel()]).astype(np.float32)
    row = {"id": face_id, "photo_id": photo_id, "geometry": geometry, "score": float(detection.score)}
    row |= {"residual_px": float(face.residual_px), "quality": float(face.quality)}
    view.put("face", row | {"person_id": 0, "pinned": False, "enrolled": False})
    view.put("vector", {"id": face_id, "embedding": face.embedding.astype(np.float32)})
    view.put("thumbnail", {"id": face_id, "jpeg": face.thumbnail})
    return face_id


def delete_faces(session: "Session", faces: Sequence[Row]) -> None:
    """With their vectors and thumbnails; people without faces and name vanish with them."""
    view = session.reading()
    for table in ("face", "vector", "thumbnail"):
        view.delete(table, [face["id"] for face in faces])
    session.moved((face["person_id"] for face in faces), None)
