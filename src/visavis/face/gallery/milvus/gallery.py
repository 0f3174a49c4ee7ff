"""A gallery on Milvus, from one server to a cluster: `MilvusGallery`, as a folder's to whoever uses it."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError, InputError
from visavis.face.gallery.changes import PeopleState, expect_unchanged
from visavis.face.gallery.checks import check_face, check_path, check_unit
from visavis.face.gallery.milvus import search, whole
from visavis.face.gallery.milvus.address import Address
from visavis.face.gallery.milvus.claims import MilvusClaims
from visavis.face.gallery.milvus.rows import (
    add_face,
    add_photo,
    delete_faces,
    face_row,
    file_key,
    file_path,
    file_row,
    hexadecimal,
    pair,
    person_row,
    photo_row,
    put_file,
    release_photo,
    text,
)
from visavis.face.gallery.milvus.session import Session
from visavis.face.gallery.milvus.tables import Row, Server, Where
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
from visavis.face.gallery.rows import is_among, is_name
from visavis.face.records import Photo

__all__ = ["MilvusGallery"]

FORGETTING = ("vector", "thumbnail", "face", "person", "separate", "journal")  # tables that told of a person


class MilvusGallery:
    """Open with `MilvusGallery.open`; see `Gallery` for what it does.

    Milvus has no transactions; how changes are kept whole all the same is told in `lease` and `changes`. What differs
    from a folder: who only reads may for a moment see a change in part, `search` inside a transaction does not see
    what that will write, and bytes of what was deleted leave the servers when these compact and collect, see
    docs/store.md.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.model = session.model

    @classmethod
    def open(cls, address: Address, *, model: EmbedderId | None = None) -> Self:
        """Open a gallery; make it when absent and `model` is given.

        Finishes first what a writer that died has begun.

        Raises:
            GalleryError: there is no server or no gallery, or it is of another model or a newer version.
        """
        session = Session(address, model)
        try:
            if model is not None and model != session.model:
                raise GalleryError(
                    f"{address.place}: expected embeddings of {model}, got a gallery of {session.model}: embeddings "
                    "of different models cannot be compared; open it with its own, or index into a new gallery"
                )
            if session.is_left_behind():
                with session.changing(recovering=True):
                    pass
        except BaseException:
            session.close()
            raise
        return cls(session)

    @staticmethod
    def exists(address: Address) -> bool:
        """Whether there is one."""
        server = Server(address)
        try:
            return address.name in server.names()
        finally:
            server.close()

    @property
    def place(self) -> str:
        return self._session.server.address.place

    @property
    def writable(self) -> bool:
        return True

    @property
    def encrypted(self) -> bool:
        return False

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As `Gallery.transaction`."""
        with self._session.changing():
            yield

    def claims(self) -> MilvusClaims:
        """As `Gallery.claims`."""
        return MilvusClaims(self._session)

    # Photos and files

    def add_photo(self, photo: Photo, *, size_bytes: int, mtime_ns: int, faces: Sequence[NewFace]) -> list[int]:
        """As `Gallery.add_photo`; a thumbnail may have 49,000 bytes."""
        check_path(photo.path)
        for number, face in enumerate(faces):
            check_face(f"faces[{number}]", face, self.model.dim)
        with self._session.changing() as view:
            known = view.select("photo", Where("sha256", {photo.sha256}))
            row = known[0] if known else add_photo(self._session, photo)
            put_file(self._session, photo.path, size_bytes, mtime_ns, photo_id=row["id"])
            if known and not row["partial"]:
                return []
            kept = view.select("face", Where("photo_id", {row["id"]})) if known else []
            view.put("photo", row | {"partial": False})
            boxes = [face["geometry"][:4] for face in kept]
            new = [face for face in faces if not is_among(face.detection.box_xyxy_px, boxes)]
            return [add_face(self._session, row["id"], face) for face in new]

    def add_skipped(self, path: Path, size_bytes: int, mtime_ns: int, reason: str) -> None:
        """As `Gallery.add_skipped`."""
        check_path(path)
        with self._session.changing():
            put_file(self._session, path, size_bytes, mtime_ns, skipped=reason)

    def files(self, root: Path | None = None) -> list[FileRow]:
        """As `Gallery.files`."""
        view, below = self._session.reading(), ""
        if root is not None:
            check_path(root)
            below = os.fsencode(root / "_")[:-1].hex()  # ends with the separator, also for the file system's root
        rows = view.select("file") if not below else view.below("file", below)
        photos = view.get("photo", {row["photo_id"] for row in rows if row["photo_id"]})
        return [file_row(row, photos.get(row["photo_id"])) for row in rows]

    def photos(self, *, after: int = 0, limit: int = -1, ids: Sequence[int] | None = None) -> list[PhotoRow]:
        """As `Gallery.photos`."""
        view = self._session.reading()
        if ids is not None:
            rows = sorted(view.get("photo", map(int, ids)).values(), key=lambda row: row["id"])
            rows = [row for row in rows if row["id"] > after][: None if limit < 0 else limit]
        else:
            rows = view.page("photo", after, limit)
        shown = {row["id"] for row in rows}
        faces, paths = dict.fromkeys(shown, 0), {i: list[Path]() for i in shown}
        for face in view.select("face", Where("photo_id", shown)) if shown else ():
            faces[face["photo_id"]] += 1
        for file in view.select("file", Where("photo_id", shown)) if shown else ():
            paths[file["photo_id"]].append(file_path(file["id"]))
        return [photo_row(row, paths[row["id"]], faces[row["id"]]) for row in rows]

    def timeline(self) -> list[tuple[int, str | None]]:
        """As `Gallery.timeline`."""
        view = self._session.reading()
        held = {row["photo_id"] for row in view.select("file")}
        rows = [row for row in view.select("photo") if row["id"] in held]
        rows.sort(key=lambda row: (row["taken_at"], row["id"]), reverse=True)
        return [(row["id"], row["taken_at"][:7] or None) for row in rows]

    def remove_file(self, path: Path) -> None:
        """As `Gallery.remove_file`."""
        with self._session.changing() as view:
            held = view.get("file", [file_key(path)])
            view.delete("file", held)
            for row in held.values():
                release_photo(self._session, row["photo_id"])

    def has_content(self, sha256: str) -> bool:
        """As `Gallery.has_content`."""
        return any(not row["partial"] for row in self._session.reading().select("photo", Where("sha256", {sha256})))

    def counts(self) -> Counts:
        """As `Gallery.counts`."""
        if self._session.in_transaction:
            view = self._session.reading()
            files = view.select("file")
            skipped = sum(not row["photo_id"] for row in files)
            people = view.select("person")
            named = sum(bool(row["name"]) for row in people)
            photos, faces = len(view.select("photo")), len(view.select("face"))
            return Counts(photos, len(files) - skipped, skipped, faces, len(people), named)
        asked = (
            ("photo", ""),
            ("file", "photo_id > 0"),
            ("file", "photo_id == 0"),
            ("face", ""),
            ("person", ""),
            ("person", 'name != ""'),
        )
        tables = self._session.tables
        return Counts(*tables.together(*(partial(tables.count, *one) for one in asked)))

    # Faces

    def faces(
        self,
        *,
        person: int | None = None,
        photo: int | None = None,
        ids: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> list[FaceRow]:
        """As `Gallery.faces`."""
        view = self._session.reading()
        if ids is not None:
            rows = sorted(view.get("face", map(int, ids)).values(), key=lambda row: row["id"])
        else:
            by_person = None if person is None else Where("person_id", {person})
            rows = view.select("face", by_person if photo is None else Where("photo_id", {photo}))
        rows = [row for row in rows if person in (None, row["person_id"]) and photo in (None, row["photo_id"])]
        rows = [row for row in rows if person != 0]
        names = view.get("person", {row["person_id"] for row in rows if row["person_id"]})
        paths: dict[int, str] = {}
        photos = {row["photo_id"] for row in rows}
        for file in view.select("file", Where("photo_id", photos)) if photos else ():
            paths[file["photo_id"]] = min(file["id"], paths.get(file["photo_id"], file["id"]))
        return [face_row(row, names.get(row["person_id"]), paths.get(row["photo_id"])) for row in rows]

    def thumbnail(self, face_id: int) -> bytes:
        """As `Gallery.thumbnail`."""
        found = self._session.reading().get("thumbnail", [int(face_id)])
        if not found:
            raise GalleryError(f"face: expected one of the gallery, got {face_id}")
        jpeg: bytes = found[int(face_id)]["jpeg"]
        return jpeg

    def embeddings(self, *, people: Sequence[int] | None = None) -> Embeddings:
        """As `Gallery.embeddings`."""
        view = self._session.reading()
        rows = view.select("face", None if people is None else Where("person_id", {int(i) for i in people} - {0}))
        vectors = {
            row["id"]: row["embedding"]
            for row in view.select("vector", None if people is None else Where("id", {row["id"] for row in rows}))
        }
        rows = [row for row in rows if row["id"] in vectors]  # others come or go at this moment
        matrix = np.array([vectors[row["id"]] for row in rows], np.float32).reshape(-1, self.model.dim)
        quality = np.array([row["quality"] for row in rows], np.float32)
        return Embeddings(_column(rows, "id"), matrix, _column(rows, "person_id"), _flags(rows), quality)

    def placements(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """As `Gallery.placements`."""
        rows = self._session.reading().select("face")
        return _column(rows, "id"), _column(rows, "person_id"), _flags(rows)

    def search(
        self, queries: NDArray[np.float32], k: int, *, among: Sequence[int] | NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `Gallery.search`; `k` at most 16,000. Inside a transaction: of what was there before."""
        check_unit("queries", queries, self.model.dim)
        if k < 1:
            raise InputError(f"k: expected at least 1, got {k}")
        if not len(queries):
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
        return search.nearest(self._session.tables, queries, k, None if among is None else np.asarray(among, np.int64))

    # People

    def people(self, *, ids: Sequence[int] | None = None) -> list[PersonRow]:
        """As `Gallery.people`."""
        if self._session.in_transaction:
            self._session.settle()
        view = self._session.reading()
        rows = view.select("person") if ids is None else list(view.get("person", map(int, ids)).values())
        rows.sort(key=lambda row: (-row["faces"], row["id"]))
        return [person_row(row) for row in rows]

    def find_person(self, name: str) -> int | None:
        """As `Gallery.find_person`."""
        found = self._session.reading().select("person", Where("name", {hexadecimal(name)})) if name else []
        return found[0]["id"] if found else None

    def new_person(self) -> int:
        """As `Gallery.new_person`."""
        with self._session.changing() as view:
            person = self._session.take("person")
            view.put("person", {"id": person, "name": "", "faces": 0, "best_face": 0})
            return person

    def name(self, person: int, name: str) -> None:
        """As `Gallery.name`."""
        if not is_name(name):
            raise InputError(f"name: expected printable text, got {name!r}")
        with self._session.changing() as view:
            row = self._session.person(person)
            other = self.find_person(name)
            if other not in (None, person):
                raise GalleryError(
                    f"name: expected one nobody has, got {name!r}, person {other}: merge the two instead"
                )
            view.put("person", row | {"name": hexadecimal(name)})
            view.put("face", *(face | {"pinned": True} for face in view.select("face", Where("person_id", {person}))))

    def enroll(self, face_ids: Sequence[int], name: str) -> int:
        """As `Gallery.enroll`."""
        with self._session.changing() as view:
            person = self.find_person(name)
            if person is None:
                person = self.new_person()
                self.name(person, name)
            self.assign(face_ids, person, pinned=True)
            faces = view.get("face", map(int, face_ids))
            view.put("face", *(face | {"enrolled": True} for face in faces.values()))
            return person

    def assign(self, face_ids: Sequence[int] | NDArray[np.int64], person: int | None, *, pinned: bool) -> int:
        """As `Gallery.assign`."""
        with self._session.changing() as view:
            if person is not None:
                self._session.person(person)
            ids = {int(i) for i in face_ids}
            faces = view.get("face", ids)
            if len(faces) != len(ids):
                raise GalleryError("face_ids: expected faces of the gallery, got one that is not")
            free = [face for face in faces.values() if pinned or not face["pinned"]]
            moved = [face for face in free if face["person_id"] != (person or 0)]
            view.put("face", *(face | {"person_id": person or 0, "pinned": pinned} for face in free))
            self._session.moved((face["person_id"] for face in moved), person)
            return len(moved)

    def has_unsorted_faces(self) -> bool:
        """As `Gallery.has_unsorted_faces`."""
        view = self._session.reading()
        marked = view.get("mark", ["sorted_to"])
        sorted_to = int(marked["sorted_to"]["value"]) if marked else 0
        return bool(view.page("face", sorted_to, 1))

    def mark_sorted(self, face_id: int) -> None:
        """As `Gallery.mark_sorted`."""
        with self._session.changing() as view:
            marked = view.get("mark", ["sorted_to"])
            before = int(marked["sorted_to"]["value"]) if marked else 0
            view.put("mark", {"id": "sorted_to", "value": str(max(before, int(face_id)))})

    def merge(self, into: int, others: Sequence[int]) -> None:
        """As `Gallery.merge`."""
        everyone = {into, *others}
        with self._session.changing() as view:
            rows = {person: self._session.person(person) for person in (into, *others)}
            apart = {a if b in everyone else b for a, b in self.separated() if (a in everyone) != (b in everyone)}
            faces = view.select("face", Where("person_id", everyone))
            view.put("face", *(face | {"person_id": into, "pinned": True} for face in faces))
            self._session.delete_people(everyone - {into})
            view.put("separate", *(pair(into, other) for other in apart))
            self._session.moved((), into)
            named = [row for row in rows.values() if row["name"]]
            if named:
                view.put("person", rows[into] | {"name": named[0]["name"]})

    def split(self, face_ids: Sequence[int]) -> int:
        """As `Gallery.split`."""
        with self._session.changing() as view:
            ids = {int(i) for i in face_ids}
            chosen = view.get("face", ids)
            owners = {face["person_id"] for face in chosen.values()}
            old = owners.pop() if len(owners) == 1 and len(chosen) == len(ids) else 0
            if not old:
                raise GalleryError("face_ids: expected faces of one person, got others")
            faces = view.select("face", Where("person_id", {old}))
            if len(chosen) == len(faces):
                raise GalleryError(f"face_ids: expected some of the person's faces, got all {len(chosen)}")
            new = self.new_person()
            view.put("face", *(face | {"pinned": True} for face in faces))
            self.assign(sorted(ids), new, pinned=True)
            self.separate(old, new)
            return new

    def separate(self, person: int, other: int) -> None:
        """As `Gallery.separate`."""
        if person == other:
            raise InputError(f"other: expected someone else than person {person}")
        with self._session.changing() as view:
            for one in (person, other):
                self._session.person(one)
            view.put("separate", pair(person, other))

    def separated(self) -> set[tuple[int, int]]:
        """As `Gallery.separated`."""
        return {(row["person_a"], row["person_b"]) for row in self._session.reading().select("separate")}

    def people_state(self, people: Collection[int], *, faces: Collection[int] = ()) -> PeopleState:
        """As `Gallery.people_state`."""
        view, everyone = self._session.reading(), {int(i) for i in people}
        rows = {face["id"]: face for face in view.select("face", Where("person_id", everyone))} if everyone else {}
        rows |= view.get("face", map(int, faces))
        pairs = {(a, b) for a, b in self.separated() if {a, b} & everyone}
        return PeopleState(
            {row["id"]: text(row["name"]) for row in view.get("person", everyone).values()},
            {face["id"]: (face["person_id"] or None, face["pinned"]) for face in rows.values()},
            frozenset(pairs),
        )

    def restore(self, before: PeopleState, after: PeopleState) -> None:
        """As `Gallery.restore`."""
        with self._session.changing() as view:
            made = after.names.keys() - before.names.keys()
            everyone = before.names.keys() | after.names.keys()
            now = self.people_state(everyone, faces=after.faces)
            owners = {self.find_person(name) for name in before.names.values() if name is not None}
            expect_unchanged(now, before, after, {owner for owner in owners if owner is not None})
            faces = view.get("face", before.faces)
            for i, (person, pinned) in before.faces.items():
                if i in faces:
                    view.put("face", faces[i] | {"person_id": person or 0, "pinned": pinned})
            self._session.delete_people(made)
            there = view.get("person", before.names)
            for i, name in before.names.items():
                row = there.get(i, {"id": i, "faces": 0, "best_face": 0})
                view.put("person", row | {"name": hexadecimal(name or "")})
                self._session.moved((), i)
            owners_then = {person or 0 for person, _ in before.faces.values()}
            self._session.moved(owners_then, None)  # of some all faces may have been deleted since
            view.delete("separate", [pair(a, b)["id"] for a, b in after.separate - before.separate])
            pairs = before.separate - after.separate
            known = view.get("person", {i for two in pairs for i in two})
            view.put("separate", *(pair(a, b) for a, b in pairs if {a, b} <= known.keys()))

    def forget(self, person: int) -> int:
        """As `Gallery.forget`: at once for all who ask, from the servers' disks when they collect what is deleted."""
        if self._session.in_transaction:
            raise GalleryError("forget: expected to be outside a transaction, got called inside one")
        with self._session.changing() as view:
            self._session.person(person)
            faces = view.select("face", Where("person_id", {person}))
            photos = view.get("photo", {face["photo_id"] for face in faces})
            view.put("photo", *(row | {"partial": False, "settled": True} for row in photos.values()))
            delete_faces(self._session, faces)
            self._session.delete_people([person])
        self._session.tables.purge(FORGETTING)
        return len(faces)

    # The whole

    def rows(self) -> whole.MilvusRows:
        """As `Gallery.rows`."""
        return whole.MilvusRows(self._session)

    def export_to(self, path: Path, *, plain: bool = False) -> None:  # noqa: ARG002  it is plain here, too
        """As `Gallery.export_to`; it stands in a folder for private files meanwhile."""
        whole.write(self._session, path)

    def import_from(self, path: Path) -> Imported:
        """As `Gallery.import_from`; all that comes in is held in memory until it is complete."""
        return whole.read(self._session, path)


def _column(rows: Sequence[Row], field: str) -> NDArray[np.int64]:
    return np.array([row[field] for row in rows], np.int64)


def _flags(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row["pinned"] for row in rows], np.bool_)
