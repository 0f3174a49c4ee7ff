"""The rows of a gallery's folder as those on Milvus are, so that either can be copied to the other, row for row.

A row is a dict; texts that are ids or names stand in it in hexadecimal, see `milvus.rows`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from visavis.face.gallery.database import Database
from visavis.face.gallery.milvus.rows import hexadecimal, text
from visavis.face.gallery.milvus.tables import Key, Row
from visavis.face.gallery.rows import delete_faces, json_ids

__all__ = ["COPIED", "PAGE", "FolderRows", "Rows", "pages"]

COPIED = ("photo", "person", "separate", "file", "face", "vector", "thumbnail", "mark")  # each after what it names
PAGE = 4_096  # rows


class Rows(Protocol):
    """A gallery's rows, to copy them."""

    def still(self) -> AbstractContextManager[None]:
        """Nobody else's changes are seen inside."""

    def writing(self) -> AbstractContextManager[None]:
        """Nobody else writes inside."""

    def page(self, table: str, after: Key | None, limit: int) -> list[Row]:
        """The first rows above an id, by id."""

    def count(self, table: str) -> int:
        """How many rows there are."""

    def put(self, table: str, rows: list[Row]) -> None:
        """Write rows in place of those of the same ids."""

    def delete(self, table: str, ids: list[Key]) -> None:
        """Delete rows."""

    def origin(self) -> str | None:
        """The place of the gallery that this one is becoming a copy of."""

    def set_origin(self, place: str | None) -> None:
        """Inside `writing`; None: the copy is whole."""

    def next_ids(self) -> dict[str, int]:
        """The next id of photos, faces and people."""

    def set_next_ids(self, ids: dict[str, int]) -> None:
        """Give no id below these, and count what is told twice."""


class FolderRows:
    """The rows of a folder's gallery."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def still(self) -> AbstractContextManager[None]:
        """A snapshot; others may write meanwhile."""
        return self._database.snapshot()

    def writing(self) -> AbstractContextManager[None]:
        """One transaction."""
        return self._database.transaction()

    def page(self, table: str, after: Key | None, limit: int) -> list[Row]:
        """As `Rows.page`."""
        query, start, row = _READ[table]
        first: Key | bytes = start if after is None else after
        if table == "file":
            first = bytes.fromhex(str(first))
        return [row(*values) for values in self._database.rows(query, (first, limit))]

    def count(self, table: str) -> int:
        """As `Rows.count`."""
        name, condition = ("meta", "key = 'sorted_to'") if table == "mark" else (table, "1")
        name = "face" if table in ("vector", "thumbnail") else name  # of the deleted an empty row may remain
        [(count,)] = self._database.rows(f"SELECT count(*) FROM {name} WHERE {condition}")
        return int(count)

    def put(self, table: str, rows: list[Row]) -> None:
        """As `Rows.put`, inside `writing`."""
        for statement, values in _WRITE[table]:
            self._database.change_many(statement, [values(row) for row in rows])

    def delete(self, table: str, ids: list[Key]) -> None:
        """As `Rows.delete`, inside `writing`; vectors and thumbnails go with their faces."""
        if table == "face":
            delete_faces(self._database, [int(i) for i in ids])
        elif table == "file":
            self._database.change_many("DELETE FROM file WHERE path = ?", [(bytes.fromhex(str(i)),) for i in ids])
        elif table == "separate":
            pairs = [str(i).split("-") for i in ids]
            self._database.change_many("DELETE FROM separate WHERE person_a = ? AND person_b = ?", pairs)
        elif table in ("photo", "person"):
            these = (json_ids(int(i) for i in ids),)
            self._database.change(f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))", these)

    def origin(self) -> str | None:
        """As `Rows.origin`."""
        found = self._database.rows("SELECT value FROM meta WHERE key = 'copy_of'")
        return found[0][0] if found else None

    def set_origin(self, place: str | None) -> None:
        """As `Rows.set_origin`."""
        self._database.change("DELETE FROM meta WHERE key = 'copy_of'")
        if place is not None:
            self._database.change("INSERT INTO meta VALUES ('copy_of', ?)", (place,))

    def next_ids(self) -> dict[str, int]:
        """As `Rows.next_ids`."""
        given = dict(self._database.rows("SELECT name, seq FROM sqlite_sequence"))
        return {table: given.get(table, 0) + 1 for table in ("photo", "face", "person")}

    def set_next_ids(self, ids: dict[str, int]) -> None:
        """As `Rows.set_next_ids`, inside `writing`."""
        given = self.next_ids()
        for table, following in ids.items():
            self._database.change("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            last = max(following, given[table]) - 1
            self._database.change("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))


def _photo(i: int, sha256: str, width_px: int, height_px: int, taken_at: str, partial: int, settled: int) -> Row:
    row = {"id": i, "sha256": sha256, "width_px": width_px, "height_px": height_px, "taken_at": taken_at}
    return row | {"partial": bool(partial), "settled": bool(settled)}


def _file(path: bytes, photo_id: int, size_bytes: int, mtime_ns: int, skipped: str) -> Row:
    row = {"id": path.hex(), "photo_id": photo_id, "size_bytes": size_bytes, "mtime_ns": mtime_ns}
    return row | {"skipped": skipped}


def _face(i: int, photo_id: int, box: bytes, points: bytes, *rest: Any) -> Row:
    names = ("score", "residual_px", "quality", "person_id", "pinned", "enrolled")
    row = dict(zip(names, rest, strict=True))
    row |= {"pinned": bool(row["pinned"]), "enrolled": bool(row["enrolled"])}
    return {"id": i, "photo_id": photo_id, "geometry": np.frombuffer(box + points, "<f4")} | row


_Read = tuple[str, Key, Callable[..., Row]]
_READ: dict[str, _Read] = {  # query, a value below all ids, how a row is made
    "photo": (
        """SELECT id, sha256, width_px, height_px, coalesce(taken_at, ''), partial, settled FROM photo
        WHERE id > ? ORDER BY id LIMIT ?""",
        -1,
        _photo,
    ),
    "person": (
        "SELECT id, coalesce(name, '') FROM person LEFT JOIN name ON person_id = id WHERE id > ? ORDER BY id LIMIT ?",
        -1,
        lambda i, name: {"id": i, "name": hexadecimal(name)},
    ),
    "separate": (
        """SELECT person_a || '-' || person_b AS pair, person_a, person_b FROM separate
        WHERE pair > ? ORDER BY pair LIMIT ?""",
        "",
        lambda i, a, b: {"id": i, "person_a": a, "person_b": b},
    ),
    "file": (
        """SELECT path, coalesce(photo_id, 0), size_bytes, mtime_ns, coalesce(skipped, '') FROM file
        WHERE path > ? ORDER BY path LIMIT ?""",
        "",
        _file,
    ),
    "face": (
        """SELECT id, photo_id, box, landmarks, score, residual_px, quality, coalesce(person_id, 0), pinned, enrolled
        FROM face WHERE id > ? ORDER BY id LIMIT ?""",
        -1,
        _face,
    ),
    "vector": (
        "SELECT id, embedding FROM face JOIN vector ON face_id = id WHERE id > ? ORDER BY id LIMIT ?",
        -1,
        lambda i, embedding: {"id": i, "embedding": np.frombuffer(embedding, "<f4")},
    ),
    "thumbnail": (
        "SELECT id, jpeg FROM face JOIN thumbnail ON face_id = id WHERE id > ? ORDER BY id LIMIT ?",
        -1,
        lambda i, jpeg: {"id": i, "jpeg": jpeg},
    ),
    "mark": (
        "SELECT key, value FROM meta WHERE key > ? AND key = 'sorted_to' LIMIT ?",
        "",
        lambda key, value: {"id": key, "value": value},
    ),
}

_Write = list[tuple[str, Callable[[Row], tuple[Any, ...]]]]
_WRITE: dict[str, _Write] = {
    "photo": [
        (
            """INSERT INTO photo (id, sha256, width_px, height_px, taken_at, indexed_at, partial, settled)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE
            SET sha256 = ?2, width_px = ?3, height_px = ?4, taken_at = ?5, partial = ?7, settled = ?8""",
            lambda row: (
                *(row[name] for name in ("id", "sha256", "width_px", "height_px")),
                row["taken_at"] or None,
                datetime.now(UTC).isoformat(timespec="seconds"),
                int(row["partial"]),
                int(row["settled"]),
            ),
        )
    ],
    "person": [
        ("INSERT OR IGNORE INTO person VALUES (?)", lambda row: (row["id"],)),
        ("DELETE FROM name WHERE person_id = ?", lambda row: (row["id"],)),
        ("INSERT INTO name SELECT ?1, ?2 WHERE ?2 IS NOT NULL", lambda row: (row["id"], text(row["name"]))),
    ],
    "separate": [("INSERT OR IGNORE INTO separate VALUES (?, ?)", lambda row: (row["person_a"], row["person_b"]))],
    "file": [
        (
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)",
            lambda row: (
                bytes.fromhex(row["id"]),
                row["photo_id"] or None,
                row["size_bytes"],
                row["mtime_ns"],
                row["skipped"] or None,
            ),
        )
    ],
    "face": [
        (
            """INSERT INTO face VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE
            SET photo_id = ?2, box = ?3, landmarks = ?4, score = ?5, residual_px = ?6, quality = ?7, person_id = ?8,
            pinned = ?9, enrolled = ?10""",
            lambda row: (
                row["id"],
                row["photo_id"],
                row["geometry"][:4].astype("<f4").tobytes(),
                row["geometry"][4:].astype("<f4").tobytes(),
                *(row[name] for name in ("score", "residual_px", "quality")),
                row["person_id"] or None,
                int(row["pinned"]),
                int(row["enrolled"]),
            ),
        )
    ],
    "vector": [
        (
            "INSERT INTO vector VALUES (?1, ?2) ON CONFLICT (face_id) DO UPDATE SET embedding = ?2",
            lambda row: (row["id"], row["embedding"].astype("<f4").tobytes()),
        )
    ],
    "thumbnail": [
        (
            "INSERT INTO thumbnail VALUES (?1, ?2) ON CONFLICT (face_id) DO UPDATE SET jpeg = ?2",
            lambda row: (row["id"], row["jpeg"]),
        )
    ],
    "mark": [
        (
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
            lambda row: (row["id"], row["value"]),
        )
    ],
}


def pages(rows: Rows, table: str) -> Iterator[list[Row]]:
    """All rows of a table by id."""
    after: Key | None = None
    while found := rows.page(table, after, PAGE):
        yield found
        after = found[-1]["id"]
