"""A gallery as one file, to keep or to carry elsewhere; what comes from elsewhere is not trusted.

The file is a zip of stored (never compressed) members: `manifest.json`; `photos.jsonl`, `people.jsonl` and
`faces.jsonl` with a JSON object a line; `embeddings.npy`, a float32 row a face; `thumbnails.bin`, the faces'
JPEGs end to end. Paths are kept as names only: nothing is read from or written to them.
"""

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError
from visavis.face.gallery.database import Database
from visavis.face.gallery.records import EmbedderId, Imported, NewFace
from visavis.face.gallery.rows import boxes, insert_face, insert_photo, is_among, is_name, is_unit
from visavis.face.records import Detection, Photo

__all__ = ["read", "write"]

FORMAT, VERSION = "visavis gallery", 1
MEMBERS = ("manifest.json", "photos.jsonl", "people.jsonl", "faces.jsonl", "embeddings.npy", "thumbnails.bin")
LINE_BYTES = 1_000_000  # of JSON; a photo with thousands of copies stays below it
THUMBNAIL_BYTES = 1_000_000
JPEG_START = b"\xff\xd8\xff"
READ_BYTES = 2**21  # at a time, the zip's own directory included: of six members it is short
BATCH = 1_000  # faces read from SQLite at a time


def write(database: Database, model: EmbedderId, path: Path) -> None:
    """Export; `path` appears when it is complete, and is replaced if it was there.

    Raises:
        GalleryError: the file cannot be written.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.touch(mode=0o600)
        with database.snapshot(), zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            _write_members(database, model, archive)
        draft.replace(path)
    except OSError as error:
        raise GalleryError(f"{path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_members(database: Database, model: EmbedderId, archive: zipfile.ZipFile) -> None:
    def member(name: str) -> IO[bytes]:
        return archive.open(name, "w", force_zip64=True)

    def lines(name: str, records: Iterator[dict[str, Any]]) -> None:
        with member(name) as stream:
            for record in records:
                stream.write(json.dumps(record).encode() + b"\n")

    [(count,)] = database.rows("SELECT count(*) FROM face")
    identity = {"name": model.name, "sha256": model.sha256, "dim": model.dim}
    lines("manifest.json", iter([{"format": FORMAT, "version": VERSION, "model": identity, "faces": count}]))
    lines("photos.jsonl", _photo_records(database))
    lines("people.jsonl", _people_records(database))
    lines("faces.jsonl", _face_records(database))
    with member("embeddings.npy") as stream:
        stream.write(_npy_header(count, model.dim))
        for (embedding,) in _by_face(database, "embedding", "JOIN vector ON face_id = id"):
            stream.write(embedding)
    with member("thumbnails.bin") as stream:
        for (jpeg,) in _by_face(database, "jpeg", "JOIN thumbnail ON face_id = id"):
            stream.write(jpeg)


def _npy_header(count: int, dim: int) -> bytes:
    """Of a .npy file of version 1.0; always the same bytes, so that a reader need not trust a parser."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _by_face(database: Database, columns: str, join: str) -> Iterator[list[Any]]:
    last = 0
    query = f"SELECT id, {columns} FROM face {join} WHERE id > ? ORDER BY id LIMIT {BATCH}"
    while rows := database.rows(query, (last,)):
        for _, *values in rows:
            yield values
        last = rows[-1][0]


def _photo_records(database: Database) -> Iterator[dict[str, Any]]:
    for number, sha256, width_px, height_px, taken_at, partial in database.rows(
        "SELECT id, sha256, width_px, height_px, taken_at, partial FROM photo ORDER BY id"
    ):
        files = database.rows("SELECT path, size_bytes, mtime_ns FROM file WHERE photo_id = ?", (number,))
        yield {
            "id": number,
            "sha256": sha256,
            "width_px": width_px,
            "height_px": height_px,
            "taken_at": taken_at,
            "partial": bool(partial),
            "files": [[os.fsdecode(path), size_bytes, mtime_ns] for path, size_bytes, mtime_ns in files],
        }


def _people_records(database: Database) -> Iterator[dict[str, Any]]:
    for number, name in database.rows("SELECT id, name FROM person LEFT JOIN name ON person_id = id ORDER BY id"):
        others = database.rows("SELECT person_b FROM separate WHERE person_a = ?", (number,))
        yield {"id": number, "name": name, "separate": [other for (other,) in others]}


def _face_records(database: Database) -> Iterator[dict[str, Any]]:
    columns = """photo_id, box, landmarks, score, residual_px, quality, person_id, pinned, enrolled,
        length(jpeg)"""
    for photo, box, landmarks, score, residual_px, quality, person, pinned, enrolled, size in _by_face(
        database, columns, "JOIN thumbnail ON face_id = id"
    ):
        yield {
            "photo": photo,
            "box": np.frombuffer(box, "<f4").tolist(),
            "landmarks": np.frombuffer(landmarks, "<f4").tolist(),
            "score": score,
            "residual_px": residual_px,
            "quality": quality,
            "person": person,
            "pinned": bool(pinned),
            "enrolled": bool(enrolled),
            "thumbnail_bytes": size,
        }


def read(database: Database, model: EmbedderId, path: Path) -> Imported:
    """Import everything, or nothing.

    A photo known with all its faces is left as it is, so that nothing is doubled and nobody forgotten comes back;
    one known in part gets the faces it lacks. A person whose name is known is taken to be the same.

    Raises:
        GalleryError: the file is of another model or version, is damaged, or holds what no export would.
    """
    try:
        with _Sparing(path) as file, database.transaction(), zipfile.ZipFile(file) as archive:
            return _Reader(database, model, archive, path.stat().st_size).read()
    except (OSError, ArithmeticError, EOFError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, GalleryError):
            raise GalleryError(f"{path}: {error}") from error
        raise GalleryError(f"{path}: expected a gallery's export, whole: {error}") from error


class _Sparing(io.FileIO):
    """A file that is not read in one piece, whatever its directory says."""

    def read(self, size: int | None = -1, /) -> Any:
        if size is not None and size > READ_BYTES:
            raise zipfile.BadZipFile(f"expected a directory of {len(MEMBERS)} members, got {size} bytes of it")
        return super().read(size)


class _Reader:
    """One import: fields are checked as they are read; the caller's transaction undoes what came before."""

    def __init__(self, database: Database, model: EmbedderId, archive: zipfile.ZipFile, size_bytes: int) -> None:
        self._database, self._model, self._archive = database, model, archive
        infos = archive.infolist()
        if sorted(info.filename for info in infos) != sorted(MEMBERS):
            raise GalleryError(f"members: expected {', '.join(MEMBERS)}, got others")
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in infos)
        if not stored or sum(info.file_size for info in infos) > size_bytes:  # neither bombs nor overlaps
            raise GalleryError("members: expected stored ones, side by side, got others")
        self._photos: dict[int, int | None] = {}  # id in the file: id here, or None when known with all its faces
        self._kept: dict[int, list[NDArray[np.float32]]] = {}  # id here: boxes of the faces known before
        self._names: dict[int, str | None] = {}
        self._people: dict[int, int] = {}  # id in the file: id here, from the first face on
        self._added = {"photos": 0, "faces": 0, "people": 0}

    def read(self) -> Imported:
        [manifest] = self._records("manifest.json")
        if (manifest("format", str), manifest("version", int)) != (FORMAT, VERSION):
            raise GalleryError(f"manifest.json: expected {FORMAT} {VERSION}, got another format or version")
        theirs = _Record(manifest("model", dict), "manifest.json: model")
        identity = EmbedderId(theirs("name", str), theirs("sha256", str), theirs("dim", int))
        if identity != self._model:
            raise GalleryError(f"model: expected embeddings of {self._model}, got {identity}")
        for record in self._records("photos.jsonl"):
            self._read_photo(record)
        apart = []
        for record in self._records("people.jsonl"):
            name = record("name", str | None, lambda name: name is None or is_name(name))
            number = record("id", int)
            self._names[number] = name
            apart += [(number, other) for other in record("separate", list)]
        self._read_faces(manifest("faces", int, lambda count: count >= 0))
        pairs = [sorted((self._people[a], self._people[b])) for a, b in apart if {a, b} <= self._people.keys()]
        self._database.change_many(
            "INSERT OR IGNORE INTO separate VALUES (?, ?)", [pair for pair in pairs if pair[0] != pair[1]]
        )
        return Imported(**self._added)

    def _read_photo(self, record: "_Record") -> None:
        sha256 = record("sha256", str, lambda text: re.fullmatch("[0-9a-f]{64}", text))
        taken_at = record("taken_at", str | None)
        photo = Photo(
            Path(),
            sha256,
            record("width_px", int, lambda px: 0 < px < 2**31),
            record("height_px", int, lambda px: 0 < px < 2**31),
            None if taken_at is None else datetime.fromisoformat(taken_at),
        )
        partial = record("partial", bool)
        known = self._database.rows("SELECT id, partial FROM photo WHERE sha256 = ?", (sha256,))
        photo_id, lacks_faces = known[0] if known else (insert_photo(self._database, photo), True)
        self._photos[record("id", int)] = photo_id if lacks_faces else None
        self._added["photos"] += not known
        if lacks_faces:
            self._kept[photo_id] = boxes(self._database, photo_id)
            self._database.change("UPDATE photo SET partial = ? WHERE id = ?", (int(partial), photo_id))
        for entry in record("files", list, lambda files: all(isinstance(file, list) and not partial for file in files)):
            file = _Record(dict(zip(("path", "size_bytes", "mtime_ns"), entry, strict=True)), record.where)
            path = file("path", str, lambda text: text and "\0" not in text)
            size_bytes = file("size_bytes", int, lambda size: 0 <= size < 2**63)
            mtime_ns = file("mtime_ns", int, lambda time: abs(time) < 2**63)
            self._database.change(  # a path known here keeps what it has here
                "INSERT OR IGNORE INTO file VALUES (?, ?, ?, ?, NULL)",
                (os.fsencode(path), photo_id, size_bytes, mtime_ns),
            )

    def _read_faces(self, count: int) -> None:
        with ExitStack() as stack:
            vectors = stack.enter_context(self._archive.open("embeddings.npy"))
            thumbnails = stack.enter_context(self._archive.open("thumbnails.bin"))
            header = _npy_header(count, self._model.dim)
            if vectors.read(len(header)) != header:
                raise GalleryError(f"embeddings.npy: expected float32 [{count}, {self._model.dim}], got another header")
            seen = 0
            for record in self._records("faces.jsonl"):
                self._read_face(record, vectors, thumbnails)
                seen += 1
            if seen != count or vectors.read(1) or thumbnails.read(1):
                raise GalleryError(f"faces.jsonl: expected {count} faces and no more of anything, got {seen}")

    def _read_face(self, record: "_Record", vectors: IO[bytes], thumbnails: IO[bytes]) -> None:
        embedding = np.frombuffer(vectors.read(4 * self._model.dim), "<f4")
        size = record("thumbnail_bytes", int, lambda size: 0 <= size <= THUMBNAIL_BYTES)
        thumbnail = thumbnails.read(size)
        if len(embedding) != self._model.dim or not is_unit(embedding[None]):
            raise GalleryError(f"{record.where}: expected an embedding of unit length, got another")
        if len(thumbnail) != size or not thumbnail.startswith(JPEG_START):
            raise GalleryError(f"{record.where}: expected a thumbnail of {size} bytes of JPEG, got others")
        face = NewFace(
            Detection(
                _floats(record("box", list, lambda box: len(box) == 4)),
                _floats(record("landmarks", list, lambda points: len(points) == 10)).reshape(5, 2),
                record("score", float, lambda score: 0 <= score <= 1),
            ),
            record("residual_px", float, lambda px: 0 <= px < math.inf),
            record("quality", float, lambda quality: 0 <= quality <= 1),
            embedding,
            thumbnail,
        )
        number = record("photo", int, lambda photo: photo in self._photos)
        person = record("person", int | None, lambda person: person is None or person in self._names)
        flags = int(record("pinned", bool)), int(record("enrolled", bool))
        photo_id = self._photos[number]
        if photo_id is None or is_among(face.detection.box_xyxy_px, self._kept[photo_id]):
            return
        face_id = insert_face(self._database, photo_id, face)
        self._database.change(
            "UPDATE face SET person_id = ?, pinned = ?, enrolled = ? WHERE id = ?",
            (None if person is None else self._person(person), *flags, face_id),
        )
        self._added["faces"] += 1

    def _person(self, number: int) -> int:
        """The person here for one of the file: of the same name, else new."""
        if number not in self._people:
            name = self._names[number]
            held = self._database.rows("SELECT person_id FROM name WHERE name = ?", (name,))
            if held:
                self._people[number] = held[0][0]
            else:
                self._people[number] = self._database.change("INSERT INTO person DEFAULT VALUES")
                self._added["people"] += 1
                if name is not None:
                    self._database.change("INSERT INTO name VALUES (?, ?)", (self._people[number], name))
        return self._people[number]

    def _records(self, name: str) -> Iterator["_Record"]:
        with self._archive.open(name) as stream:
            number = 0
            while line := stream.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    raise GalleryError(f"{name} line {number}: expected at most {LINE_BYTES} bytes, got more")
                yield _Record(json.loads(line), f"{name} line {number}")


class _Record:
    """A JSON object whose fields are read as ``record(key, type, check)``."""

    def __init__(self, fields: Any, where: str) -> None:
        self.where = where
        if not isinstance(fields, dict):
            raise GalleryError(f"{where}: expected an object, got {type(fields).__name__}")
        self._fields: dict[str, Any] = fields

    def __call__(self, key: str, kind: Any, check: Callable[[Any], object] = lambda _: True) -> Any:
        value = self._fields.get(key)
        wrong_kind = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        if key not in self._fields or wrong_kind or not check(value):
            raise GalleryError(f"{self.where}: {key}: expected another value, got {str(value)[:60]!r}")
        return value


def _floats(values: list[Any]) -> NDArray[np.float32]:
    array = np.array(values, np.float32)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise GalleryError(f"points: expected finite numbers, got {str(values)[:60]}")
    return array
