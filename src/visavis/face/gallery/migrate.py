"""Copies a gallery to another place, row for row: folder to Milvus, back, or to another folder.

All ids stay as they are, so the target must be new or what an earlier run has left. A run compares each page of rows
with what the target has below the same ids, and writes what differs: one that was killed is finished by the next. While
it lasts the target tells whose copy it will be, and does not open as a gallery. At the end every row is read from both
sides again, and both are searched alike.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visavis.errors import GalleryError, InputError
from visavis.face.gallery.copying import COPIED, PAGE, Rows, pages
from visavis.face.gallery.milvus import is_address
from visavis.face.gallery.milvus.tables import Key, Row
from visavis.face.gallery.opening import gallery_exists, open_gallery
from visavis.face.gallery.protocol import Gallery
from visavis.face.gallery.records import Counts

__all__ = ["Migrated", "migrate"]

SEARCHES = 32  # compared at the end
K = 10
TOLERANCE = 1e-6  # of similarities; both sides compare in float64


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done, and proven."""

    counts: Counts
    written: int  # rows; a finished run that is done again writes none
    rows: dict[str, int]  # by table
    checksum: str  # SHA-256 of all rows, hexadecimal, the same on both sides
    searches: int  # compared


def migrate(
    source: str | Path,
    target: str | Path,
    *,
    key: str | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Migrated:
    """Copy a gallery, whole.

    Nobody changes the source meanwhile, or, of a folder, what is changed meanwhile stays behind.

    Args:
        source: the place of a gallery.
        target: another place: of nothing, or of the copy that an earlier run has begun or finished.
        key: of an encrypted source; the target, a folder then, is encrypted with it, too.
        progress: called with the number of rows done and their total; each is copied and then compared.

    Raises:
        GalleryError: the target holds another gallery, or differs from the source in the end.
        InputError: an encrypted gallery would go to a server, in plain.
    """
    source, target = (place if is_address(place) else Path(place).absolute() for place in (source, target))
    if source == target:
        raise GalleryError(f"target: expected another place than {source}")
    if key is not None and is_address(target):
        raise InputError("target: expected a folder for an encrypted gallery, got a server, where it would be plain")
    with open_gallery(source, key=key) as here:
        began = gallery_exists(target)
        with open_gallery(target, model=here.model, key=key, unfinished=True) as there:
            one, other = here.rows(), there.rows()
            with one.still():
                copy = _Copy(one, other, progress)
                origin = other.origin()
                if origin not in (None, here.place):
                    raise GalleryError(f"{there.place}: expected a copy of {here.place}, got a part of one of {origin}")
                if began and origin is None and _holds(other) and not copy.is_same():
                    raise GalleryError(f"{there.place}: expected a new place, got another gallery")
                with other.writing():
                    other.set_origin(here.place)
                written = copy.write()
                checksum = copy.compare()
                searches = _search_alike(here, there)
                with other.writing():
                    other.set_origin(None)
            return Migrated(there.counts(), written, copy.rows, checksum, searches)


def _holds(rows: Rows) -> bool:
    """Whether there is anything."""
    return any(rows.count(table) for table in COPIED)


class _Copy:
    """The rows of two galleries, page by page."""

    def __init__(self, source: Rows, target: Rows, progress: Callable[[int, int | None], None]) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._done = 0
        self.rows: dict[str, int] = {}

    def write(self) -> int:
        """Make the target's rows those of the source; returns how many were written or deleted."""
        written = 0
        total = 2 * sum(self._source.count(table) for table in COPIED)
        for table in reversed(COPIED) if _holds(self._target) else ():  # what is named by others goes after them
            for page, there in self._beside(table):
                gone = [row["id"] for row in there if row["id"] not in {row["id"] for row in page}]
                if gone:
                    with self._target.writing():
                        self._target.delete(table, gone)
                written += len(gone)
        for table in COPIED:
            for page, there in self._beside(table):
                held = {row["id"]: _text(row) for row in there}
                new = [row for row in page if held.get(row["id"]) != _text(row)]
                if new:
                    with self._target.writing():
                        self._target.put(table, new)
                written += len(new)
                self._advance(len(page), total)
        with self._target.writing():
            self._target.set_next_ids(self._source.next_ids())
        return written

    def compare(self) -> str:
        """The checksum of all rows.

        Raises:
            GalleryError: the two sides differ.
        """
        total = 2 * sum(self._source.count(table) for table in COPIED)
        sums = []
        for side in (self._source, self._target):
            checksum = hashlib.sha256()
            for table in COPIED:
                count = 0
                for page in pages(side, table):
                    for row in page:
                        checksum.update(_text(row))
                    count += len(page)
                    if side is self._target:
                        self._advance(len(page), total)
                checksum.update(f"{table} {count}".encode())
                self.rows[table] = count
            sums.append(checksum.hexdigest())
        if sums[0] != sums[1]:
            raise GalleryError("target: expected the rows of the source, got others; run it again")
        return sums[0]

    def is_same(self) -> bool:
        """Whether all rows agree."""
        return all(
            [_text(row) for row in page] == [_text(row) for row in there]
            for table in COPIED
            for page, there in self._beside(table)
        )

    def _advance(self, rows: int, total: int) -> None:
        self._done += rows
        self._progress(min(self._done, total), total)

    def _beside(self, table: str) -> Iterator[tuple[list[Row], list[Row]]]:
        """Pages of the source, each with what the target has from the page before to its end; at last all beyond."""
        there, ended = pages(self._target, table), False
        held: list[Row] = []
        after: Key | None = None
        while True:
            page = self._source.page(table, after, PAGE)
            last = page[-1]["id"] if page else None
            while not ended and (last is None or not held or held[-1]["id"] < last):
                found = next(there, None)
                ended = found is None
                held += found or ()
            beside = [row for row in held if last is None or row["id"] <= last]
            held = held[len(beside) :]
            yield page, beside
            if not page:
                return
            after = last


def _text(row: Row) -> bytes:
    """A row, every bit of it."""
    return json.dumps(row, sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> str:
    data: bytes = value if isinstance(value, bytes) else np.asarray(value, "<f4").tobytes()
    return data.hex()


def _search_alike(here: Gallery, there: Gallery) -> int:
    """Raises GalleryError where the two answer differently; returns how many searches were compared."""
    ids, _, _ = here.placements()
    chosen = ids[np.linspace(0, len(ids) - 1, min(SEARCHES, len(ids))).astype(np.intp)] if len(ids) else ids
    if not len(chosen):
        return 0
    vectors = {
        row["id"]: row["embedding"] for face in chosen.tolist() for row in here.rows().page("vector", face - 1, 1)
    }
    asked = np.array([vectors[face] for face in chosen.tolist()], np.float32)
    (ids, cosines), (found, similar) = here.search(asked, K), there.search(asked, K)
    cosines, similar = np.maximum(cosines, -2), np.maximum(similar, -2)  # where there are fewer faces they are -inf
    close = np.isclose(cosines, similar, rtol=0, atol=TOLERANCE)
    apart = np.abs(np.diff(cosines, axis=1, append=-3)) > TOLERANCE  # from the next; others may change places
    certain = apart & np.roll(apart, 1, axis=1)
    certain[:, 0] = apart[:, 0]
    certain[:, -1] = False  # one as near may not be among them
    if not close.all() or (ids[certain] != found[certain]).any():
        raise GalleryError("target: expected the answers of the source to searches, got others")
    return len(asked)
