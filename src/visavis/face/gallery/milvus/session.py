"""A process's way to one gallery on Milvus: what it reads, and its transactions."""

import json
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from visavis.errors import GalleryError
from visavis.face.gallery.milvus.address import Address
from visavis.face.gallery.milvus.changes import View, recover
from visavis.face.gallery.milvus.lease import Lease
from visavis.face.gallery.milvus.tables import FORMAT, VERSION, Row, Server, Tables, Where
from visavis.face.gallery.records import EmbedderId

__all__ = ["Session"]


class Session:
    """A connection to a gallery; make it when absent and `model` is given.

    The gallery is a collection of its name, whose description tells its model and the name of its tables. That
    collection gets its name last, when all is ready, and of several makers one.

    Raises:
        GalleryError: there is no server or no gallery, or it is another program's or of a newer version.
    """

    def __init__(self, address: Address, model: EmbedderId | None) -> None:
        self.server = Server(address)
        try:
            about = _about(self.server)
            if about is None and model is not None:
                _create(self.server, model)
                about = _about(self.server)
            if about is None:
                raise GalleryError(f"{address.place}: expected a gallery, found none")
            self.model = EmbedderId(*(about["model"][key] for key in ("name", "sha256", "dim")))
            prefix = _prefix(self.server, about["id"])
        except BaseException:
            self.server.close()
            raise
        self.lease = Lease(self.server, prefix)
        self.tables = Tables(self.server, prefix, self.model.dim, self._seen)
        self._turn = threading.RLock()  # of this process's writers
        self._view: View | None = None  # of the transaction that runs
        self._writer: int | None = None  # the thread that runs it
        self._unsure = False  # whether it may have to see writes of which the lock does not tell
        self._ids: dict[str, int] = {}  # the next ones
        self._touched: set[int] = set()  # people whose faces are to be counted again
        self._left: set[int] = set()  # people whom a face has left

    def close(self) -> None:
        self.tables.close()
        self.server.close()

    def is_left_behind(self) -> bool:
        """Whether the journal tells of a change that is under way, or whose writer has died."""
        self._unsure = True
        try:
            return self.tables.count("journal") > 0
        finally:
            self._unsure = False

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside one."""
        return self._writer == threading.get_ident()

    def reading(self) -> View:
        """What is stored, and inside a transaction what that is going to write."""
        if self.in_transaction:
            assert self._view is not None
            return self._view
        return View(self.tables)

    @contextmanager
    def changing(self, *, recovering: bool = False) -> Iterator[View]:
        """All or nothing, stored when it returns; inside another it joins that.

        Args:
            recovering: look for what writers have left, even when the last one was seen to end.
        """
        if self.in_transaction:
            yield self.reading()
            return
        with self._turn:
            died = self.lease.acquire()
            state = self.lease.state
            self._ids = {"photo": state.photo, "face": state.face, "person": state.person}
            self._view, self._writer = View(self.tables), threading.get_ident()
            self._unsure = died is not None or recovering
            whole, written = False, 0  # whether others find nothing half done
            try:
                if self._unsure:
                    recover(self.tables, self.lease, died)
                    self.lease.caught_up()
                whole = True
                yield self._view
                self.settle()
                if self._view.is_changed:
                    self.lease.take(**self._ids)
                    whole = False
                    self._view.commit(self.lease)
                whole = False
                written = self.tables.last_write(self.lease.left_s)
                whole = True
            finally:
                self._view = self._writer = None
                self._unsure = False
                self._touched, self._left = set(), set()
                if whole:
                    self.lease.release(written)
                else:
                    self.lease.abandon()

    def take(self, table: str) -> int:
        """An id that nobody had."""
        self._ids[table] += 1
        return self._ids[table] - 1

    def give(self, ids: dict[str, int]) -> None:
        """Give no id below these; what is given meanwhile is above them, too."""
        self._ids = {table: max(following, ids[table]) for table, following in self._ids.items()}
        self.lease.take(**self._ids)

    def count_people(self) -> None:
        """Count everybody's faces, when the transaction ends."""
        self._touched |= {row["id"] for row in self.reading().select("person")}

    def person(self, person: int) -> Row:
        """Raises GalleryError for one who is not here."""
        found = self.reading().get("person", [int(person)])
        if not found:
            raise GalleryError(f"person: expected one of the gallery, got {person}")
        return found[int(person)]

    def moved(self, left: Iterable[int], into: int | None) -> None:
        """Faces have left people, who vanish if that leaves them neither face nor name, and come to another."""
        self._left |= set(left) - {0}
        self._touched |= {into} if into else set()

    def delete_people(self, people: Iterable[int]) -> None:
        """With what was said of them; their faces are elsewhere or gone."""
        view, people = self.reading(), set(people)
        for side in ("person_a", "person_b") if people else ():
            view.delete("separate", [row["id"] for row in view.select("separate", Where(side, people))])
        view.delete("person", people)

    def settle(self) -> None:
        """Count the faces of people whom faces have left or joined, and let those vanish who have none left."""
        view, people = self.reading(), self._touched | self._left
        if not people:
            return
        counted = dict.fromkeys(people, 0)
        best: dict[int, tuple[float, int]] = {}  # quality, and the face's id less than zero: of equals the first
        for face in view.select("face", Where("person_id", people)):
            person = face["person_id"]
            counted[person] += 1
            best[person] = max(best.get(person, (-1.0, 0)), (face["quality"], -face["id"]))
        rows = view.get("person", people)
        gone = {i for i, row in rows.items() if i in self._left and not counted[i] and not row["name"]}
        self.delete_people(gone)
        kept = [row for i, row in rows.items() if i not in gone]
        view.put("person", *(row | _count(counted[row["id"]], best.get(row["id"])) for row in kept))
        self._touched, self._left = set(), set()

    def _seen(self) -> int:
        """The time on the server that a read must have reached to see all that is done; 0: now."""
        if self._unsure:
            return 0
        return self.lease.state.seen if self.in_transaction else self.lease.peek().seen


def _count(faces: int, best: tuple[float, int] | None) -> dict[str, int]:
    return {"faces": faces, "best_face": 0 if best is None else -best[1]}


def _prefix(server: Server, gallery_id: str) -> str:
    return f"{server.address.name}__{gallery_id}"


def _about(server: Server) -> dict[str, Any] | None:
    """What the gallery's own collection tells; None: there is none of that name."""
    name = server.address.name
    if name not in server.names():
        return None
    with server.errors():
        text = server.client.describe_collection(name)["description"]
    try:
        about: dict[str, Any] = json.loads(text)
        version = about["version"] if about["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError):
        version = None
    if version is None:
        raise GalleryError(f"{server.address.place}: expected a gallery, but {name} is another program's collection")
    if version != VERSION:
        raise GalleryError(f"{server.address.place}: expected gallery version {VERSION}, got {version}: update visavis")
    return about


def _create(server: Server, model: EmbedderId) -> None:
    gallery_id = secrets.token_hex(6)
    prefix = _prefix(server, gallery_id)
    tables, lease = Tables(server, prefix, model.dim, lambda: 0), Lease(server, prefix)
    try:
        tables.create()
        lease.create()
        identity = {"name": model.name, "sha256": model.sha256, "dim": model.dim}
        about = {"format": FORMAT, "version": VERSION, "id": gallery_id, "model": identity}
        server.create_empty(f"{prefix}_about", json.dumps(about))
        try:
            server.rename(f"{prefix}_about", server.address.name)
        finally:
            if f"{prefix}_about" in server.names():  # another was first
                server.drop(f"{prefix}_about")
                tables.drop()
                lease.drop()
    finally:
        tables.close()
