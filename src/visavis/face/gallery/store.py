"""A gallery: photos, faces, people and vectors in a folder that survives crashes and forgets when asked to.

The folder holds `gallery.sqlite`, the truth, and `search/`, an index made again when it is lost, which an encrypted
gallery has in memory only. A face belongs to a photo and to at most one person; a person without a name is a cluster.
No id is given twice.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError, InputError
from visavis.face.gallery import changes, portable
from visavis.face.gallery.changes import PeopleState
from visavis.face.gallery.checks import check_face, check_path, check_unit
from visavis.face.gallery.claims import FolderClaims
from visavis.face.gallery.copying import FolderRows
from visavis.face.gallery.database import FILE_NAME, Database, create
from visavis.face.gallery.encryption import clear_remains
from visavis.face.gallery.index import Index
from visavis.face.gallery.records import (
    Counts,
    EmbedderId,
    Embeddings,
    FaceRow,
    FileRow,
    Imported,
    NewFace,
    PersonRow,
    PhotoRow,
)
from visavis.face.gallery.rows import (
    boxes,
    delete_faces,
    face_row,
    insert_face,
    insert_photo,
    is_among,
    is_name,
    json_ids,
    photo_row,
    put_file,
    release_photo,
    sweep,
)
from visavis.face.records import Photo

__all__ = ["FolderGallery"]

COMPACT_ROWS = 1_000  # deleted faces, at the least, before their space is given back


class FolderGallery:
    """Open with `FolderGallery.open`; close it, or use it in a `with`.

    One may be used from several threads (calls take turns, scans overlap), and any number of
    processes may open one folder: writers wait for each other, up to 30 s. A change is on disk when its call
    returns or, inside `transaction()`, when that ends. Where SQLite or the file system refuse, a
    GalleryError says so.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        meta = dict(database.rows("SELECT key, value FROM meta"))
        self.model = EmbedderId(meta["model_name"], meta["model_sha256"], int(meta["model_dim"]))
        self._index = Index(database, None if database.encrypted else folder / "search", self.model.dim)

    @classmethod
    def open(cls, folder: Path, *, model: EmbedderId | None = None, key: str | None = None) -> Self:
        """Open a gallery; make it when absent and `model` is given.

        Args:
            folder: opened for reading only when it is not writable.
            model: whose embeddings it must hold; None: whichever it holds.
            key: of an encrypted gallery. A new one is encrypted with it, and lost when it is lost.

        Raises:
            GalleryError: there is no gallery, it is of another model, another key or a newer version, or cannot be
                read.
            InputError: a new gallery's key cannot be one.
            MissingExtraError: there is a key, and SQLCipher is not installed.
        """
        if model is not None:
            meta = {"model_name": model.name, "model_sha256": model.sha256, "model_dim": str(model.dim)}
            if not (folder / FILE_NAME).exists():
                create(folder, meta, key)
        gallery = cls(folder, Database(folder, key))
        if model is not None and model != gallery.model:
            gallery._database.close()
            raise GalleryError(
                f"{folder}: expected embeddings of {model}, got a gallery of {gallery.model}: embeddings "
                "of different models cannot be compared; open it with its own, or index into a new folder"
            )
        if gallery.writable:
            clear_remains(folder, encrypted=gallery.encrypted)
        if gallery.writable and gallery._index.is_behind():  # a crash came between a deletion and its last bytes
            with contextlib.suppress(GalleryError):
                gallery._scrub()
        return gallery

    @property
    def place(self) -> str:
        return str(self.folder)

    @property
    def writable(self) -> bool:
        return self._database.writable

    @property
    def encrypted(self) -> bool:
        return self._database.encrypted

    def close(self) -> None:
        """Write the search index, unless the disk is full, and let go of the files.

        When many faces have been deleted, their space is given back first, unless another process writes.
        """
        if self.writable:
            with contextlib.suppress(GalleryError):
                self._index.save()
            with contextlib.suppress(GalleryError):
                if self._is_wasteful():
                    self._compact()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """As `Gallery.transaction`."""
        with self._database.transaction():
            yield

    def claims(self) -> FolderClaims:
        """For a run that looks at photos, so that no other one looks at the same."""
        return FolderClaims(self._database)

    # Photos and files

    def add_photo(self, photo: Photo, *, size_bytes: int, mtime_ns: int, faces: Sequence[NewFace]) -> list[int]:
        """As `Gallery.add_photo`."""
        check_path(photo.path)
        for number, face in enumerate(faces):
            check_face(f"faces[{number}]", face, self.model.dim)
        with self._database.transaction():
            known = self._database.rows("SELECT id, partial FROM photo WHERE sha256 = ?", (photo.sha256,))
            photo_id, lacks_faces = known[0] if known else (insert_photo(self._database, photo), True)
            put_file(self._database, photo.path, size_bytes, mtime_ns, photo_id=photo_id, skipped=None)
            if not lacks_faces:
                return []
            kept = boxes(self._database, photo_id)
            self._database.change("UPDATE photo SET partial = 0 WHERE id = ?", (photo_id,))
            new = [face for face in faces if not is_among(face.detection.box_xyxy_px, kept)]
            return [insert_face(self._database, photo_id, face) for face in new]

    def add_skipped(self, path: Path, size_bytes: int, mtime_ns: int, reason: str) -> None:
        """As `Gallery.add_skipped`."""
        check_path(path)
        with self._database.transaction():
            put_file(self._database, path, size_bytes, mtime_ns, photo_id=None, skipped=reason)

    def files(self, root: Path | None = None) -> list[FileRow]:
        """As `Gallery.files`."""
        below = (b"", b"\xff")
        if root is not None:
            check_path(root)
            start = os.fsencode(root / "_")[:-1]  # ends with the separator, also for the file system's root
            below = (start, start[:-1] + bytes([start[-1] + 1]))
        rows = self._database.rows(
            """SELECT path, photo_id, sha256, size_bytes, mtime_ns, skipped FROM file
            LEFT JOIN photo ON photo.id = photo_id WHERE path >= ? AND path < ? ORDER BY path""",
            below,
        )
        return [FileRow(Path(os.fsdecode(path)), *rest) for path, *rest in rows]

    def photos(self, *, after: int = 0, limit: int = -1, ids: Sequence[int] | None = None) -> list[PhotoRow]:
        """As `Gallery.photos`."""
        with self._database.snapshot():
            rows = self._database.rows(
                f"""SELECT id, sha256, width_px, height_px, taken_at,
                (SELECT count(*) FROM face WHERE photo_id = photo.id) FROM photo
                WHERE id > ? AND {"1" if ids is None else "id IN (SELECT value FROM json_each(?))"}
                ORDER BY id LIMIT ?""",
                (after, *([] if ids is None else [json_ids(ids)]), limit),
            )
            paths: dict[int, list[Path]] = {row[0]: [] for row in rows}
            for photo_id, path in self._database.rows(
                "SELECT photo_id, path FROM file WHERE photo_id IN (SELECT value FROM json_each(?)) ORDER BY path",
                (json_ids(paths),),
            ):
                paths[photo_id].append(Path(os.fsdecode(path)))
        return [photo_row(*row, paths=tuple(paths[row[0]])) for row in rows]

    def timeline(self) -> list[tuple[int, str | None]]:
        """As `Gallery.timeline`."""
        return self._database.rows(
            """SELECT id, substr(taken_at, 1, 7) FROM photo WHERE EXISTS (SELECT 1 FROM file WHERE photo_id = photo.id)
            ORDER BY taken_at DESC NULLS LAST, id DESC"""
        )

    def remove_file(self, path: Path) -> None:
        """As `Gallery.remove_file`."""
        with self._database.transaction():
            held = self._database.rows("SELECT photo_id FROM file WHERE path = ?", (os.fsencode(path),))
            self._database.change("DELETE FROM file WHERE path = ?", (os.fsencode(path),))
            for (photo_id,) in held:
                release_photo(self._database, photo_id)

    def has_content(self, sha256: str) -> bool:
        """As `Gallery.has_content`."""
        return bool(self._database.rows("SELECT 1 FROM photo WHERE sha256 = ? AND NOT partial", (sha256,)))

    def counts(self) -> Counts:
        [row] = self._database.rows(
            """SELECT (SELECT count(*) FROM photo), (SELECT count(*) FROM file WHERE skipped IS NULL),
            (SELECT count(*) FROM file WHERE skipped IS NOT NULL), (SELECT count(*) FROM face),
            (SELECT count(*) FROM person), (SELECT count(*) FROM name)"""
        )
        return Counts(*row)

    # Faces

    def faces(
        self,
        *,
        person: int | None = None,
        photo: int | None = None,
        ids: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> list[FaceRow]:
        """As `Gallery.faces`."""
        where, parameters = ["1"], list[Any]()
        for condition, value in (("face.person_id = ?", person), ("photo_id = ?", photo)):
            if value is not None:
                where.append(condition)
                parameters.append(value)
        if ids is not None:
            where.append("face.id IN (SELECT value FROM json_each(?))")
            parameters.append(json_ids(ids))
        rows = self._database.rows(
            f"""SELECT face.id, photo_id, (SELECT min(path) FROM file WHERE file.photo_id = face.photo_id),
            box, landmarks, score, residual_px, quality, face.person_id, name, pinned, enrolled
            FROM face LEFT JOIN name ON name.person_id = face.person_id
            WHERE {" AND ".join(where)} ORDER BY face.id""",
            parameters,
        )
        return [face_row(*row) for row in rows]

    def thumbnail(self, face_id: int) -> bytes:
        """As `Gallery.thumbnail`."""
        found = self._database.rows("SELECT jpeg FROM face JOIN thumbnail ON face_id = id WHERE id = ?", (face_id,))
        if not found:
            raise GalleryError(f"face: expected one of the gallery, got {face_id}")
        jpeg: bytes = found[0][0]
        return jpeg

    def embeddings(self, *, people: Sequence[int] | None = None) -> Embeddings:
        """As `Gallery.embeddings`."""
        rows = self._database.rows(
            f"""SELECT id, embedding, coalesce(person_id, 0), pinned, quality
            FROM face JOIN vector ON face_id = id
            WHERE {"1" if people is None else "person_id IN (SELECT value FROM json_each(?))"} ORDER BY id""",
            () if people is None else (json_ids(people),),
        )
        ids, blobs, persons, pinned, quality = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return Embeddings(
            np.array(ids, np.int64),
            np.frombuffer(b"".join(blobs), "<f4").reshape(-1, self.model.dim),
            np.array(persons, np.int64),
            np.array(pinned, np.bool_),
            np.array(quality, np.float32),
        )

    def placements(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """As `Gallery.placements`."""
        rows = self._database.rows("SELECT id, coalesce(person_id, 0), pinned FROM face ORDER BY id")
        ids, persons, pinned = np.array(rows, np.int64).reshape(-1, 3).T
        return ids, persons, pinned.astype(np.bool_)

    def search(
        self, queries: NDArray[np.float32], k: int, *, among: Sequence[int] | NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `Gallery.search`."""
        check_unit("queries", queries, self.model.dim)
        if k < 1:
            raise InputError(f"k: expected at least 1, got {k}")
        chosen = None if among is None else np.asarray(among, np.int64)
        if not len(queries):
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
        return self._index.search(queries, k, chosen)

    # People

    def people(self, *, ids: Sequence[int] | None = None) -> list[PersonRow]:
        """As `Gallery.people`."""
        rows = self._database.rows(
            f"""SELECT person.id, name, count(face.id), face.id, max(quality) FROM person
            LEFT JOIN name ON name.person_id = person.id LEFT JOIN face ON face.person_id = person.id
            WHERE {"1" if ids is None else "person.id IN (SELECT value FROM json_each(?))"}
            GROUP BY person.id ORDER BY count(face.id) DESC, person.id""",
            () if ids is None else (json_ids(ids),),
        )  # SQLite takes the bare face.id from the row of the max()
        return [PersonRow(*row[:4]) for row in rows]

    def find_person(self, name: str) -> int | None:
        """As `Gallery.find_person`."""
        found = self._database.rows("SELECT person_id FROM name WHERE name = ?", (name,))
        return found[0][0] if found else None

    def new_person(self) -> int:
        """As `Gallery.new_person`."""
        with self._database.transaction():
            return self._database.change("INSERT INTO person DEFAULT VALUES")

    def name(self, person: int, name: str) -> None:
        """As `Gallery.name`."""
        if not is_name(name):
            raise InputError(f"name: expected printable text, got {name!r}")
        with self._database.transaction():
            self._check_people(person)
            other = self.find_person(name)
            if other not in (None, person):
                raise GalleryError(
                    f"name: expected one nobody has, got {name!r}, person {other}: merge the two instead"
                )
            self._database.change(
                "INSERT INTO name VALUES (?, ?) ON CONFLICT (person_id) DO UPDATE SET name = excluded.name",
                (person, name),
            )
            self._database.change("UPDATE face SET pinned = 1 WHERE person_id = ?", (person,))

    def enroll(self, face_ids: Sequence[int], name: str) -> int:
        """As `Gallery.enroll`."""
        with self._database.transaction():
            person = self.find_person(name)
            if person is None:
                person = self.new_person()
                self.name(person, name)
            self.assign(face_ids, person, pinned=True)
            self._database.change_many("UPDATE face SET enrolled = 1 WHERE id = ?", [(int(i),) for i in face_ids])
            return person

    def assign(self, face_ids: Sequence[int] | NDArray[np.int64], person: int | None, *, pinned: bool) -> int:
        """As `Gallery.assign`."""
        with self._database.transaction():
            self._check_people(*([] if person is None else [person]))
            ids = json_ids(face_ids)
            which = "id IN (SELECT value FROM json_each(?))"
            before = self._database.rows(f"SELECT id, person_id, pinned FROM face WHERE {which}", (ids,))
            if len(before) != len(set(json.loads(ids))):
                raise GalleryError("face_ids: expected faces of the gallery, got one that is not")
            moved = [(i, old) for i, old, held in before if old != person and (pinned or not held)]
            self._database.change(
                f"UPDATE face SET person_id = ?, pinned = ? WHERE {which} AND pinned <= ?",
                (person, int(pinned), ids, int(pinned)),
            )
            sweep(self._database, {old for _, old in moved})
            return len(moved)

    def has_unsorted_faces(self) -> bool:
        """As `Gallery.has_unsorted_faces`."""
        [(unsorted,)] = self._database.rows(
            """SELECT coalesce(max(id), 0) > coalesce((SELECT CAST(value AS INTEGER) FROM meta
            WHERE key = 'sorted_to'), 0) FROM face"""
        )
        return bool(unsorted)

    def mark_sorted(self, face_id: int) -> None:
        """As `Gallery.mark_sorted`."""
        with self._database.transaction():
            self._database.change(
                """INSERT INTO meta VALUES ('sorted_to', ?1) ON CONFLICT (key) DO UPDATE
                SET value = max(CAST(value AS INTEGER), CAST(?1 AS INTEGER))""",
                (str(face_id),),
            )

    def merge(self, into: int, others: Sequence[int]) -> None:
        """As `Gallery.merge`."""
        everyone = {into, *others}
        with self._database.transaction():
            self._check_people(*everyone)
            names = [self._database.rows("SELECT name FROM name WHERE person_id = ?", (i,)) for i in (into, *others)]
            apart = {a if b in everyone else b for a, b in self.separated() if (a in everyone) != (b in everyone)}
            for person in everyone:
                self._database.change("UPDATE face SET person_id = ?, pinned = 1 WHERE person_id = ?", (into, person))
            self._database.change_many("DELETE FROM person WHERE id = ?", [(i,) for i in everyone - {into}])
            self._database.change_many(
                "INSERT OR IGNORE INTO separate VALUES (?, ?)", [(min(into, i), max(into, i)) for i in apart]
            )
            first = next((found[0][0] for found in names if found), None)
            if first is not None:
                self.name(into, first)

    def split(self, face_ids: Sequence[int]) -> int:
        """As `Gallery.split`."""
        with self._database.transaction():
            chosen = self.faces(ids=face_ids)
            owners = {row.person_id for row in chosen}
            old = owners.pop() if len(owners) == 1 and len(chosen) == len(set(face_ids)) else None
            if old is None:
                raise GalleryError("face_ids: expected faces of one person, got others")
            if len(chosen) == len(self.faces(person=old)):
                raise GalleryError(f"face_ids: expected some of the person's faces, got all {len(chosen)}")
            new = self.new_person()
            self._database.change("UPDATE face SET pinned = 1 WHERE person_id = ?", (old,))
            self.assign(face_ids, new, pinned=True)
            self.separate(old, new)
            return new

    def separate(self, person: int, other: int) -> None:
        """As `Gallery.separate`."""
        if person == other:
            raise InputError(f"other: expected someone else than person {person}")
        with self._database.transaction():
            self._check_people(person, other)
            pair = (min(person, other), max(person, other))
            self._database.change("INSERT OR IGNORE INTO separate VALUES (?, ?)", pair)

    def separated(self) -> set[tuple[int, int]]:
        """As `Gallery.separated`."""
        return set(self._database.rows("SELECT person_a, person_b FROM separate"))

    def people_state(self, people: Collection[int], *, faces: Collection[int] = ()) -> PeopleState:
        """As `Gallery.people_state`."""
        return changes.capture(self._database, people, faces)

    def restore(self, before: PeopleState, after: PeopleState) -> None:
        """As `Gallery.restore`."""
        with self._database.transaction():
            changes.restore(self._database, before, after)

    def forget(self, person: int) -> int:
        """Delete a person with all faces, embeddings, thumbnails and the name, down to the bytes on disk.

        The photos stay known, also when their files go and come again, so that no index brings the faces back.

        Returns:
            The number of faces deleted.

        Raises:
            GalleryError: no such person, or a process still reads the old bytes, which go when it ends.
        """
        self._database.expect_no_transaction("forget")
        with self._database.transaction():
            self._check_people(person)
            ids = [row.id for row in self.faces(person=person)]
            self._database.change(  # whole by decree: nobody is to look for the missing faces
                """UPDATE photo SET partial = 0, settled = 1
                WHERE id IN (SELECT photo_id FROM face WHERE person_id = ?)""",
                (person,),
            )
            delete_faces(self._database, ids)
            names = self._database.rows("SELECT person_id, name FROM name WHERE person_id <> ?", (person,))
            self._database.change("DELETE FROM person WHERE id = ?", (person,))
            # Emptied and filled again, for an index on names moves them about; see database.py.
            self._database.change("DELETE FROM name")
            self._database.change_many("INSERT INTO name VALUES (?, ?)", names)
        self._scrub()
        return len(ids)

    # The whole

    def rows(self) -> FolderRows:
        """As `Gallery.rows`."""
        return FolderRows(self._database)

    def export_to(self, path: Path, *, plain: bool = False) -> None:
        """As `Gallery.export_to`."""
        if self.encrypted and not plain:
            raise GalleryError(
                f"{path}: expected to be told that the export of an encrypted gallery may be plain, for it is; "
                "to keep it encrypted copy its folder"
            )
        portable.write(self._database, self.model, path)

    def import_from(self, path: Path) -> Imported:
        """As `Gallery.import_from`."""
        return portable.read(self._database, self.model, path)

    def _compact(self) -> None:
        """Give the space of deleted faces back to the disk; it needs the gallery's size again while it runs.

        Raises:
            GalleryError: another process writes, or the disk is full. All is as before, or only its space is kept.
        """
        with self._database.transaction(wait_ms=0):
            for table, column in (("vector", "embedding"), ("thumbnail", "jpeg")):  # copied, for rows must not move
                self._database.change(
                    f"CREATE TABLE living (face_id INTEGER PRIMARY KEY, {column} BLOB NOT NULL) STRICT"
                )
                self._database.change(
                    f"INSERT INTO living SELECT face_id, {column} FROM face JOIN {table} ON face_id = id ORDER BY id"
                )
                self._database.change(f"DROP TABLE {table}")
                self._database.change(f"ALTER TABLE living RENAME TO {table}")
            self._database.change(
                """INSERT INTO meta SELECT 'compacted_to', max(seq) FROM gone
                WHERE true ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
            )
        if not self.encrypted:  # it would all be in memory: encrypted, the space is kept for faces to come
            self._database.vacuum()
        self._database.truncate_log()

    def _is_wasteful(self) -> bool:
        """Whether deleted faces, wiped but not yet compacted, are many and a fifth of all."""
        [(dead, living)] = self._database.rows(
            """SELECT coalesce(max(seq), 0) - coalesce((SELECT CAST(value AS INTEGER) FROM meta
            WHERE key = 'compacted_to'), 0), (SELECT count(*) FROM face) FROM gone"""
        )
        return bool(dead >= COMPACT_ROWS and dead * 4 >= living)

    def _scrub(self) -> None:
        self._index.save()
        self._database.truncate_log()

    def _check_people(self, *people: int) -> None:
        for person in people:
            if not self._database.rows("SELECT 1 FROM person WHERE id = ?", (person,)):
                raise GalleryError(f"person: expected one of the gallery, got {person}")
