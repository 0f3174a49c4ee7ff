"""A gallery on Milvus as one file and back, by way of a folder that only its owner may read, gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.face.gallery.copying import COPIED, FolderRows, pages
from visavis.face.gallery.milvus.changes import View
from visavis.face.gallery.milvus.rows import pair
from visavis.face.gallery.milvus.session import Session
from visavis.face.gallery.milvus.tables import Key, Row, Where
from visavis.face.gallery.records import Imported
from visavis.face.gallery.rows import is_among
from visavis.face.gallery.store import FolderGallery

__all__ = ["MilvusRows", "read", "write"]

_ONLY = 'id == "sorted_to"'  # of the marks; others are the server's own
Floats = NDArray[np.float32]


class MilvusRows:
    """The rows of a gallery on Milvus; people without the counts that follow from their faces."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @contextmanager
    def still(self) -> Iterator[None]:
        """Others wait to write meanwhile."""
        with self._session.changing():
            yield

    def writing(self) -> AbstractContextManager[None]:
        """The turn to write."""
        return self.still()

    def page(self, table: str, after: Key | None, limit: int) -> list[Row]:
        """As `Rows.page`."""
        fields = ["name"] if table == "person" else None
        only = _ONLY if table == "mark" else ""
        return next(self._session.tables.pages(table, only, after=after, limit=limit, fields=fields), [])

    def count(self, table: str) -> int:
        """As `Rows.count`."""
        return self._session.tables.count(table, _ONLY if table == "mark" else "")

    def put(self, table: str, rows: list[Row]) -> None:
        """As `Rows.put`, inside `writing`; at once."""
        if table == "person":
            rows = [{"faces": 0, "best_face": 0} | row for row in rows]
        self._session.tables.put(table, rows, within_s=self._session.lease.left_s)

    def delete(self, table: str, ids: list[Key]) -> None:
        """As `Rows.delete`, inside `writing`; at once."""
        self._session.tables.delete(table, ids, within_s=self._session.lease.left_s)

    def origin(self) -> str | None:
        """As `Rows.origin`."""
        found = self._session.reading().get("mark", ["copy_of"])
        return found["copy_of"]["value"] if found else None

    def set_origin(self, place: str | None) -> None:
        """As `Rows.set_origin`."""
        view = self._session.reading()
        if place is None:
            view.delete("mark", ["copy_of"])
        else:
            view.put("mark", {"id": "copy_of", "value": place})

    def next_ids(self) -> dict[str, int]:
        """As `Rows.next_ids`."""
        state = self._session.lease.peek()
        return {"photo": state.photo, "face": state.face, "person": state.person}

    def set_next_ids(self, ids: dict[str, int]) -> None:
        """As `Rows.set_next_ids`."""
        self._session.give(ids)
        self._session.count_people()


def write(session: Session, path: Path) -> None:
    """As `Gallery.export_to`."""
    source = MilvusRows(session)
    with _folder(session) as folder:
        target = folder.rows()
        with source.still(), target.writing():
            for table in COPIED:
                for page in pages(source, table):
                    target.put(table, page)
        folder.export_to(path)


def read(session: Session, path: Path) -> Imported:
    """As `Gallery.import_from`."""
    with _folder(session) as folder:
        folder.import_from(path)  # refuses what no export would hold
        with session.changing() as view:
            return _Reader(session, view, folder.rows()).read()


@contextmanager
def _folder(session: Session) -> Iterator[FolderGallery]:
    with (
        tempfile.TemporaryDirectory(prefix="visavis-") as parent,
        FolderGallery.open(Path(parent) / "gallery", model=session.model) as folder,
    ):
        yield folder


class _Reader:
    """Takes in the rows of a folder's gallery, inside a transaction."""

    def __init__(self, session: Session, view: View, source: FolderRows) -> None:
        self._session, self._view, self._source = session, view, source
        self._photos: dict[int, int] = {}  # id there: id here
        self._lacking: dict[int, list[Floats]] = {}  # id here of a photo without all its faces: boxes of those known
        self._names: dict[int, str] = {}
        self._people: dict[int, int] = {}  # id there: id here, from the first face on
        self._added = {"photos": 0, "faces": 0, "people": 0}

    def read(self) -> Imported:
        for page in pages(self._source, "photo"):
            self._read_photos(page)
        for page in pages(self._source, "file"):
            known = self._view.get("file", [row["id"] for row in page])
            new = [row for row in page if row["id"] not in known]  # a path known here keeps what it has here
            self._view.put("file", *(row | {"photo_id": self._photos[row["photo_id"]]} for row in new))
        self._names = {row["id"]: row["name"] for page in pages(self._source, "person") for row in page}
        for faces, vectors, thumbnails in zip(
            *(pages(self._source, table) for table in ("face", "vector", "thumbnail")), strict=True
        ):
            for face, vector, thumbnail in zip(faces, vectors, thumbnails, strict=True):
                self._read_face(face, vector, thumbnail)
        for row in (row for page in pages(self._source, "separate") for row in page):
            if {row["person_a"], row["person_b"]} <= self._people.keys():
                one, other = self._people[row["person_a"]], self._people[row["person_b"]]
                if one != other:
                    self._view.put("separate", pair(one, other))
        return Imported(**self._added)

    def _read_photos(self, page: list[Row]) -> None:
        hashes = {row["sha256"] for row in page}
        known = {row["sha256"]: row for row in self._view.select("photo", Where("sha256", hashes))}
        for theirs in page:
            ours = known.get(theirs["sha256"])
            photo_id = self._session.take("photo") if ours is None else ours["id"]
            self._photos[theirs["id"]] = photo_id
            self._added["photos"] += ours is None
            if ours is None or ours["partial"]:
                self._view.put("photo", (ours or theirs) | {"id": photo_id, "partial": theirs["partial"]})
                self._lacking[photo_id] = []
        partial = {ours["id"] for ours in known.values() if ours["partial"]}
        for face in self._view.select("face", Where("photo_id", partial)) if partial else ():
            self._lacking[face["photo_id"]].append(face["geometry"][:4])

    def _read_face(self, face: Row, vector: Row, thumbnail: Row) -> None:
        photo_id = self._photos[face["photo_id"]]
        kept = self._lacking.get(photo_id)
        if kept is None or is_among(face["geometry"][:4], kept):
            return
        person = self._person(face["person_id"]) if face["person_id"] else 0
        face_id = self._session.take("face")
        self._view.put("face", face | {"id": face_id, "photo_id": photo_id, "person_id": person})
        self._view.put("vector", vector | {"id": face_id})
        self._view.put("thumbnail", thumbnail | {"id": face_id})
        self._session.moved((), person)
        self._added["faces"] += 1

    def _person(self, number: int) -> int:
        """The person here for one of the file: of the same name, else new."""
        if number not in self._people:
            name = self._names[number]
            held = self._view.select("person", Where("name", {name})) if name else []
            self._people[number] = held[0]["id"] if held else self._session.take("person")
            if not held:
                self._added["people"] += 1
                self._view.put("person", {"id": self._people[number], "name": name, "faces": 0, "best_face": 0})
        return self._people[number]
