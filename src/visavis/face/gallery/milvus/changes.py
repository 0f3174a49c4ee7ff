"""Changes of several rows on a server without transactions: all of them happen, or none.

What a transaction writes is gathered in memory, seen by its own reads, and sent at its end, while the writer has the
turn (see `lease`):

1. The turn is renewed and the new ids are taken.
2. The journal gets the whole intention: every row to put and every id to delete, vectors and pictures excepted.
3. Vectors and pictures of new faces are put, under ids that nobody else has.
4. The journal gets its last row. From here on the change has happened.
5. The rows are put, the deleted ones deleted, and the journal's rows as well.

Each step may be done twice with the same outcome. Whoever takes the turn of a writer that died reads the journal: with
its last row, step 5 is done again; without, the vectors and pictures of step 3 are deleted. A journal of any other turn
is of a writer that came late, and is undone likewise.
"""

import base64
import json
import zlib
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from visavis.face.gallery.milvus.lease import Lease
from visavis.face.gallery.milvus.tables import Key, Row, Tables, Where

__all__ = ["View", "recover"]

PART_BYTES = 60_000  # of a journal row's payload
PAYLOADS = ("vector", "thumbnail")  # not in the journal
SEPARATE_READS = 16  # of people in one transaction; then all are read


class View:
    """The tables as one transaction sees them: with what it is going to write.

    Nobody else writes meanwhile, so what it has read once it need not read again.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._changed: dict[str, dict[Key, Row | None]] = {}  # None: deleted
        self._read: dict[str, dict[Key, Row | None]] = {}  # by `get`
        self._whole: set[str] = set()  # tables read whole
        self._asked: dict[tuple[str, str, Key], list[Key]] = {}  # by `select` for one value: the ids of the answer
        self._reads = 0

    def get(self, table: str, ids: Iterable[Key]) -> dict[Key, Row]:
        """The rows of these ids that there are."""
        ids = list(ids)
        changed, read = self._changed.get(table, {}), self._read.setdefault(table, {})
        unread = {i for i in ids if i not in changed and i not in read} if table not in self._whole else set()
        if unread and table == "person":
            self._reads += 1
            if self._reads > SEPARATE_READS:
                self.select(table)
                unread = set()
        if unread:
            read |= dict.fromkeys(unread)
            read |= {row["id"]: row for row in self._tables.select(table, Where("id", unread))}
        found = {i: changed[i] if i in changed else read.get(i) for i in ids}
        return {i: row for i, row in found.items() if row is not None}

    def select(self, table: str, where: Where | None = None) -> list[Row]:
        """The rows that meet a condition, or all, by id."""
        read = self._read.setdefault(table, {})
        one = where is not None and len(where.values) == 1
        question = (table, where.field, next(iter(where.values))) if where is not None and one else None
        if question is not None and question in self._asked:
            rows = {i: row for i in self._asked[question] if (row := read[i]) is not None}
        elif table not in self._whole:
            rows = {row["id"]: row for row in self._tables.select(table, where)}
            read |= rows
            if where is None:
                self._whole.add(table)
            if question is not None:
                self._asked[question] = list(rows)
        else:
            rows = {i: row for i, row in read.items() if row is not None and (where is None or where.matches(row))}
        return self._overlaid(table, rows, lambda row: where is None or where.matches(row))

    def _overlaid(self, table: str, rows: dict[Key, Row], matches: Callable[[Row], bool]) -> list[Row]:
        for i, row in self._changed.get(table, {}).items():
            rows.pop(i, None)
            if row is not None and matches(row):
                rows[i] = row
        return sorted(rows.values(), key=lambda row: row["id"])

    def below(self, table: str, prefix: str) -> list[Row]:
        """The rows whose id, in hexadecimal, begins so, by id."""
        expression = f'id >= "{prefix}" and id < "{prefix}g"'
        pages = self._tables.pages(table, expression)
        rows = {row["id"]: row for page in pages for row in page}
        return self._overlaid(table, rows, lambda row: row["id"].startswith(prefix))

    def page(self, table: str, after: int, limit: int) -> list[Row]:
        """The first rows above an id, by id; at most `limit`, -1: all."""
        if limit < 0 or self._changed.get(table):
            return [row for row in self.select(table) if row["id"] > after][: None if limit < 0 else limit]
        rows: list[Row] = []
        for page in self._tables.pages(table, after=after, limit=limit) if limit else ():
            rows += page
            if len(rows) >= limit:
                break
        return rows[:limit]

    def put(self, table: str, *rows: Row) -> None:
        """Write rows when the transaction ends."""
        self._changed.setdefault(table, {}).update({row["id"]: row for row in rows})

    def delete(self, table: str, ids: Iterable[Key]) -> None:
        """Delete rows when the transaction ends."""
        self._changed.setdefault(table, {}).update(dict.fromkeys(ids))

    @property
    def is_changed(self) -> bool:
        return any(self._changed.values())

    def commit(self, lease: Lease) -> None:
        """Write it all; see the module. After an exception the turn is to be abandoned."""
        tables, epoch = self._tables, lease.state.epoch
        puts = {table: [row for row in rows.values() if row is not None] for table, rows in self._changed.items()}
        deletes = {table: [i for i, row in rows.items() if row is None] for table, rows in self._changed.items()}
        intention = {
            "new": [row["id"] for row in puts.get("vector", ())],
            "put": {table: rows for table, rows in puts.items() if table not in PAYLOADS},
            "delete": deletes,
        }
        data = zlib.compress(json.dumps(intention, default=_plain).encode())
        parts = [data[start : start + PART_BYTES * 3 // 4] for start in range(0, len(data), PART_BYTES * 3 // 4)]
        rows = [_journal_row(epoch, len(parts), number, part) for number, part in enumerate([*parts, b""])]
        tables.put("journal", rows[:-1], within_s=lease.left_s)
        tables.together(*(partial(tables.put, table, puts.get(table, ()), within_s=lease.left_s) for table in PAYLOADS))
        tables.put("journal", rows[-1:], within_s=lease.left_s)
        _apply(tables, lease, intention)
        tables.delete("journal", [row["id"] for row in rows], within_s=lease.left_s)


def recover(tables: Tables, lease: Lease, died: int | None) -> None:
    """Finish what the holder of turn `died` had begun, and undo what came late; the turn is ours."""
    journals: dict[int, list[Row]] = {}
    for row in tables.select("journal"):
        journals.setdefault(row["epoch"], []).append(row)
    for epoch, rows in sorted(journals.items()):
        rows.sort(key=lambda row: row["id"])
        parts = [row for row in rows if row["payload"]]
        if len(parts) == rows[0]["parts"]:
            data = b"".join(base64.b64decode(row["payload"]) for row in parts)
            intention = json.loads(zlib.decompress(data))
            if epoch == died and len(rows) > len(parts):
                _apply(tables, lease, intention)
            else:
                for table in PAYLOADS:
                    tables.delete(table, intention["new"], within_s=lease.left_s)
        tables.delete("journal", [row["id"] for row in rows], within_s=lease.left_s)


def _apply(tables: Tables, lease: Lease, intention: dict[str, Any]) -> None:
    deletes: dict[str, Collection[Key]] = intention["delete"]
    tables.together(  # first, so that no search finds a face that is gone
        *(partial(tables.delete, table, deletes.get(table, ()), within_s=lease.left_s) for table in PAYLOADS)
    )
    tables.together(
        *(partial(tables.put, table, rows, within_s=lease.left_s) for table, rows in intention["put"].items()),
        *(partial(tables.delete, table, ids, within_s=lease.left_s) for table, ids in deletes.items() if ids),
    )


def _journal_row(epoch: int, parts: int, number: int, payload: bytes) -> Row:
    text = base64.b64encode(payload).decode()
    return {"id": f"{epoch:012d}.{number:08d}", "epoch": epoch, "parts": parts, "payload": text}


def _plain(value: Any) -> Any:
    return value.tolist()  # of an array
