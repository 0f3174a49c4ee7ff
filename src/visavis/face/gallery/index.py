"""Exact nearest faces by a scan of int8 vectors on disk, made again from SQLite when lost or damaged.

Each embedding x is stored as x ~ scale * v with v int8 and a scale of its own (its largest magnitude / 127),
together with the length of what that leaves out, error = |x - scale * v|. A query q is split into two int8
levels, so that it loses almost nothing. By Cauchy-Schwarz the true similarity then lies within

    scale * <v, levels>  +-  (error * |q| + |scale * v| * |q - levels|)

and a face whose upper end stays below the k-th best lower end cannot be among the best k. All others, a few
dozen in a million, are compared again in full precision: the answer is exact by proof, whatever the vectors.

A fixed column of weights rides along with the queries, so every scan checks every row it reads.

Shapes: N faces, D dimensions, Q queries. Rows are ordered by face id.
"""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError
from visavis.face.gallery.database import BUSY_MS, Database

__all__ = ["Index", "quantise"]

CHUNK = 16_384  # rows a step: 4 MB at 256-d, and few steps a million
BATCH = 16_384  # rows read from SQLite and appended at a time
SAVE_ROWS = 4_096  # faces held in memory before they are written to disk
QUERIES = 15  # queries a scan: two columns each and the checksum; the kernel works in fours of columns
ROUNDING = np.float32(2e-6)  # of the float32 operations between the integer product and the two ends
ROW = np.dtype([("id", "<i8"), ("scale", "<f4"), ("error", "<f4"), ("check", "<u4")])

Vectors = NDArray[np.int8]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
_Hits = tuple[NDArray[np.intp], Ids, Floats, Floats]  # query number, face id, lower and upper end


def quantise(embeddings: Floats) -> tuple[Vectors, Floats]:
    """[N, D] as int8 and the [N] scales that make it what it was, nearly."""
    scales: Floats = np.abs(embeddings).max(axis=1, initial=0) / np.float32(127)
    vectors: Vectors = np.rint(embeddings / scales[:, None]).astype(np.int8)
    return vectors, scales


class _Stale(Exception):  # noqa: N818  not an error: look again
    """The rows no longer are what the database says."""


class _State(NamedTuple):
    """The row `sidecar` of the database: what of the index is on disk."""

    generation: str
    rows: int
    last_id: int
    gone_seq: int


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some rows of the index, by id; a deleted row's error is -inf, so that its upper end passes no floor."""

    vectors: Vectors  # [N, D], memory-mapped or not
    ids: Ids  # [N]
    scales: Floats  # [N]
    errors: Floats  # [N]
    sums: NDArray[np.int32]  # [N] what the checksum's column must give

    @classmethod
    def quantised(cls, ids: Ids, embeddings: Floats) -> "_Part":
        vectors, scales = quantise(embeddings)
        left_out = embeddings - vectors * scales[:, None]
        errors = np.linalg.norm(left_out, axis=1) * np.float32(1.001)  # the float32 rounding of the line above
        sums: NDArray[np.int32] = np.matmul(vectors, _weights(vectors.shape[1]).astype(np.int32), dtype=np.int32)
        return cls(vectors, ids, scales, errors, sums)

    @classmethod
    def stored(cls, vectors: Vectors, rows: NDArray[np.void]) -> "_Part":
        """Raises ValueError when the rows cannot be ours."""
        ids, scales, errors = (rows[name].copy() for name in ("id", "scale", "error"))
        if not ((np.diff(ids) > 0).all() and (scales >= 0).all() and (errors >= 0).all()):
            raise ValueError("rows out of order")
        errors[scales == 0] = -np.inf
        return cls(vectors, ids, scales, errors, (rows["check"] - _salt(rows)).view(np.int32))

    def rows(self) -> NDArray[np.void]:
        rows = np.zeros(len(self.ids), ROW)
        rows["id"], rows["scale"], rows["error"] = self.ids, self.scales, self.errors
        rows["check"] = self.sums.view(np.uint32) + _salt(rows)
        return rows

    def take(self, where: NDArray[Any] | slice) -> "_Part":
        return _Part(*(column[where] for column in self._columns()))

    @staticmethod
    def joined(parts: "list[_Part]") -> "_Part":
        """All rows, in this order."""
        if len(parts) == 1:
            return parts[0]
        return _Part(*map(np.concatenate, zip(*(part._columns() for part in parts), strict=True)))

    def positions(self, ids: Ids) -> NDArray[np.intp]:
        """Where those of the given ids that are here are, ascending."""
        ids = np.sort(ids)
        ids = ids[np.diff(ids, prepend=-1) > 0]  # np.unique takes ten times as long
        places: NDArray[np.intp] = np.searchsorted(self.ids, ids)
        inside = places < len(self.ids)
        places, ids = places[inside], ids[inside]
        found: NDArray[np.bool_] = self.ids[places] == ids
        return places[found]

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.vectors, self.ids, self.scales, self.errors, self.sums


class Index:
    """The search index of one gallery: one part mapped from disk, one of newer faces in memory.

    Args:
        database: SQLite, the truth.
        folder: where the index lives; made when needed. None: in memory only, for vectors that must not lie on disk
            as they are; it is then read from SQLite anew by each process that searches.
        dim: D.
    """

    def __init__(self, database: Database, folder: Path | None, dim: int) -> None:
        self._database, self._folder, self._dim = database, folder, dim
        self._mapped = False
        self._state: _State | None = None  # what `_base` shows
        self._refused: str | None = None  # a generation not to be read again
        self._base = self._tail = self._empty()
        self._gone_seq = 0

    def search(self, queries: Floats, k: int, among: Ids | None) -> tuple[Ids, Floats]:
        """As Gallery.search, its arguments checked."""
        for attempt in range(4):
            parts = self._refresh()
            try:
                blocks = [
                    self._search_block(parts, queries[start : start + QUERIES], k, among)
                    for start in range(0, len(queries), QUERIES)
                ]
            except _Stale:
                if attempt:  # following the database did not help: the rows themselves are wrong
                    with self._database.locked():
                        self._restart()
                continue
            ids, similarities = zip(*blocks, strict=True)
            return np.concatenate(ids), np.concatenate(similarities)
        raise GalleryError(
            f"{self._database.folder}: expected rows that agree with the database, got others once rebuilt"
        )

    def save(self) -> None:
        """Write what is new and zero what was deleted.

        Raises:
            GalleryError: the folder cannot be written.
        """
        if self._folder is None:
            return
        with self._database.locked():
            [(behind,)] = self._database.rows(
                "SELECT coalesce(max(id), 0) > coalesce((SELECT last_id FROM sidecar), 0) FROM face"
            )
            if behind or self.is_behind():
                self._refresh()
                self._write(BUSY_MS)

    def is_behind(self) -> bool:
        """Whether vectors of deleted faces remain on disk."""
        if self._folder is None:
            return False
        [(behind,)] = self._database.rows(
            "SELECT coalesce(max(seq), 0) > coalesce((SELECT gone_seq FROM sidecar), 0) FROM gone"
        )
        return bool(behind)

    # Following the database

    def _refresh(self) -> list[_Part]:
        with self._database.locked():
            if not self._mapped:
                self._map(self._read_state())
            parts = [self._tail]
            while added := self._database.rows(
                "SELECT id, embedding FROM face JOIN vector ON face_id = id WHERE id > ? ORDER BY id LIMIT ?",
                (max(self._last_id(self._base), self._last_id(parts[-1])), BATCH),
            ):
                ids = np.array([row[0] for row in added], np.int64)
                embeddings = np.frombuffer(b"".join(row[1] for row in added), "<f4").reshape(-1, self._dim)
                parts.append(_Part.quantised(ids, embeddings))
                if self._folder and self._database.writable and sum(len(part.ids) for part in parts) >= SAVE_ROWS:
                    self._tail = _Part.joined(parts)
                    with contextlib.suppress(GalleryError):  # another writer, a full disk: memory serves
                        self._write(wait_ms=50)
                    parts = [self._tail]
            self._tail = _Part.joined(parts)
            self._bury()
            # What is seen inside a transaction may yet be rolled back, and its ids be given again.
            self._mapped = not self._database.in_transaction
            return [part for part in (self._base, self._tail) if len(part.ids)]

    def _bury(self) -> None:
        gone = self._database.rows("SELECT seq, face_id FROM gone WHERE seq > ? ORDER BY seq", (self._gone_seq,))
        if gone:
            ids = np.array([face_id for _, face_id in gone], np.int64)
            for part in (self._base, self._tail):
                part.errors[part.positions(ids)] = -np.inf
            self._gone_seq = gone[-1][0]

    def _map(self, state: _State | None) -> None:
        """Show what is on disk as `state` says, or nothing when that is missing or damaged."""
        self._state, self._gone_seq = None, 0
        self._base = self._tail = self._empty()
        self._mapped = True
        if state is None or state.generation == self._refused:
            return
        try:
            rows = np.fromfile(self._path(state, "rows"), ROW, state.rows)
            if len(rows) < state.rows:
                raise ValueError("rows missing")
            if state.rows:
                vectors = np.memmap(self._path(state, "vectors"), np.int8, "r", shape=(state.rows, self._dim))
                self._base = _Part.stored(vectors.view(np.ndarray), rows)
        except (OSError, ValueError):  # the latter also when a file is shorter than its map
            self._refused = state.generation
            return
        self._state, self._gone_seq = state, state.gone_seq
        self._bury()
        [(held,)] = self._database.rows("SELECT count(*) FROM face WHERE id <= ?", (self._last_id(self._base),))
        if np.isfinite(self._base.errors).sum() < held:  # of another history, such as a database restored
            self._restart()

    def _restart(self) -> None:
        if self._state is not None:
            self._refused = self._state.generation
        self._map(None)

    def _read_state(self) -> _State | None:
        if self._folder is None:
            return None
        found = self._database.rows("SELECT generation, rows, last_id, gone_seq FROM sidecar")
        return _State(*found[0]) if found else None

    # Writing

    def _write(self, wait_ms: int) -> None:
        """Append the tail and zero the rows deleted since the last time, then show the result.

        The database's write lock makes one process the writer, and its commit makes the new rows count: what
        a crash leaves beyond them is written over.
        """
        if self._folder is None or self._database.in_transaction:
            return
        try:
            with self._database.transaction(wait_ms=wait_ms):
                current = self._read_state()
                if current != self._state and (current is None or current.generation != self._refused):
                    self._map(current)  # another process wrote; what it left out will be read again
                self._bury()
                old = self._state or _State(secrets.token_hex(8), 0, 0, 0)
                last_id = max(self._last_id(self._base), self._last_id(self._tail), old.last_id)
                rows = self._write_files(self._folder, old)
                new = _State(old.generation, rows, last_id, self._gone_seq)
                self._database.change("DELETE FROM sidecar")
                self._database.change("INSERT INTO sidecar VALUES (?, ?, ?, ?)", new)
        except OSError as error:
            raise GalleryError(f"{self._folder}: {error.strerror}: the search index cannot be written") from error
        self._map(new)
        if np.isneginf(self._base.errors).sum() * 4 > len(self._base.ids):
            self._restart()  # a quarter is dead: the next generation holds the living

    def _write_files(self, folder: Path, state: _State) -> int:
        """Bring the files of `state` up to date; returns the rows they then have."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in folder.iterdir():
            if state.generation not in path.name:
                path.unlink()
        tail = self._tail.take(np.isfinite(self._tail.errors))
        gone = self._database.rows("SELECT face_id FROM gone WHERE seq > ?", (state.gone_seq,))
        dead = self._base.positions(np.array(gone, np.int64).ravel())
        rows = np.zeros(len(dead), ROW)
        rows["id"] = self._base.ids[dead]
        rows["check"] = _salt(rows)
        _patch(
            self._path(state, "vectors"),
            np.zeros((len(dead), self._dim), np.int8),
            dead,
            tail.vectors,
            state.rows,
        )
        _patch(self._path(state, "rows"), rows, dead, tail.rows(), state.rows)
        return state.rows + len(tail.ids)

    def _path(self, state: _State, kind: str) -> Path:
        assert self._folder is not None, "what is in memory only has no state"
        return self._folder / f"{state.generation}.{kind}"

    def _empty(self) -> _Part:
        return _Part.quantised(np.zeros(0, np.int64), np.zeros((0, self._dim), np.float32))

    @staticmethod
    def _last_id(part: _Part) -> int:
        return int(part.ids[-1]) if len(part.ids) else 0

    # Searching

    def _search_block(self, parts: list[_Part], queries: Floats, k: int, among: Ids | None) -> tuple[Ids, Floats]:
        which, ids, lower, upper = _scan(parts, queries, k, among) if parts else _no_hits()
        vectors = self._vectors(np.unique(ids))
        found = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        for q, query in enumerate(queries.astype(np.float64)):
            mine = which == q
            candidates = ids[mine]
            exact = np.array([vectors[i] for i in candidates.tolist()]).reshape(-1, self._dim) @ query
            if ((exact < lower[mine]) | (exact > upper[mine])).any():
                raise _Stale
            best = np.lexsort((candidates, -exact))[:k]
            found[q, : len(best)], similarities[q, : len(best)] = candidates[best], exact[best]
        return found, similarities

    def _vectors(self, ids: Ids) -> dict[int, Floats]:
        found = self._database.rows(
            """SELECT id, embedding FROM face JOIN vector ON face_id = id
            WHERE id IN (SELECT value FROM json_each(?))""",
            (json.dumps(ids.tolist()),),
        )
        if len(found) < len(ids):
            raise _Stale  # deleted since
        return {face_id: np.frombuffer(blob, "<f4") for face_id, blob in found}


def _scan(parts: list[_Part], queries: Floats, k: int, among: Ids | None) -> _Hits:
    """All faces that may be among the best k of a query: query number, face id, lower and upper end."""
    import numkong

    k = min(k, sum(len(part.ids) for part in parts))
    coarse, fine, step, residue = _two_levels(queries)
    weights = _weights(queries.shape[1])[None]
    columns = np.concatenate([coarse, fine, weights])
    columns = np.pad(columns, ((0, -len(columns) % 4), (0, 0)))  # the kernel is quickest on whole fours
    packed = numkong.dots_pack(columns)
    norms = np.linalg.norm(queries, axis=1)
    count = len(queries)
    best = np.full((count, k), np.finfo(np.float32).min)  # the best lower ends so far; their least is the floor
    floor = best.min(axis=1)
    hits: list[_Hits] = []
    for chunk in _chunks(parts, among):
        products = np.asarray(numkong.dots_packed(chunk.vectors, packed))  # [n, columns] int32
        wrong = products[:, 2 * count] != chunk.sums
        if wrong.any() and np.isfinite(chunk.errors[wrong]).any():
            raise _Stale
        middle = np.multiply(products[:, :count], np.float32(254), dtype=np.float32)
        middle += products[:, count : 2 * count]
        middle *= step
        middle *= chunk.scales[:, None]
        reach = chunk.errors[:, None] * norms
        reach += residue
        upper = middle + reach
        flat = np.flatnonzero(upper >= floor)
        rows, which = np.divmod(flat, count)
        ends = middle.ravel()[flat] - reach.ravel()[flat]
        for q in np.flatnonzero(np.bincount(which, minlength=count)):
            best[q] = np.partition(np.concatenate([best[q], ends[which == q]]), -k)[-k:]
        floor = best.min(axis=1)
        hits.append((which, chunk.ids[rows], ends, upper.ravel()[flat]))
    if not hits:
        return _no_hits()
    which, ids, lower, upper = map(np.concatenate, zip(*hits, strict=True))
    keep = upper >= floor[which]
    return which[keep], ids[keep], lower[keep], upper[keep]


def _no_hits() -> _Hits:
    return np.zeros(0, np.intp), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32)


def _chunks(parts: list[_Part], among: Ids | None) -> Iterator[_Part]:
    for part in parts:
        if among is None:
            for start in range(0, len(part.ids), CHUNK):
                yield part.take(slice(start, start + CHUNK))
        else:
            positions = part.positions(among)
            for start in range(0, len(positions), CHUNK):
                yield part.take(positions[start : start + CHUNK])


def _two_levels(queries: Floats) -> tuple[Vectors, Vectors, Floats, Floats]:
    """Split queries into ``step * (254 * coarse + fine)``; the last bounds what is lost."""
    tops: Floats = np.abs(queries).max(axis=1, keepdims=True) / np.float32(127)
    coarse = np.rint(queries / tops)
    steps = tops / np.float32(254)
    fine = np.rint((queries - coarse * tops) / steps)
    left_out: Floats = np.linalg.norm(queries - steps * (254 * coarse + fine), axis=1)
    residue = np.float32(1.1) * left_out + ROUNDING  # |scale * v| < 1.1
    return coarse.astype(np.int8), fine.astype(np.int8), steps[:, 0], residue


def _weights(dim: int) -> Vectors:
    """Fixed for ever, for the checksums on disk are made with them."""
    return (np.arange(dim) * 37 % 127 + 1).astype(np.int8)


def _salt(rows: NDArray[np.void]) -> NDArray[np.uint32]:
    """A number from the rest of the row, so that the checksum covers it too."""
    salt: NDArray[np.uint32] = (
        rows["id"].astype(np.uint32) * np.uint32(2_654_435_761)
        + rows["scale"].view(np.uint32) * np.uint32(2_246_822_519)
        + rows["error"].view(np.uint32) * np.uint32(3_266_489_917)
    )
    return salt


def _patch(path: Path, dead: NDArray[Any], positions: NDArray[np.intp], new: NDArray[Any], rows: int) -> None:
    """Write `dead` over the rows at `positions` and `new` after the first `rows`; on disk when it returns."""
    path.touch(mode=0o600)
    size = new.itemsize * math.prod(new.shape[1:])
    with path.open("r+b") as file:
        for position, row in zip(positions.tolist(), dead, strict=True):
            file.seek(position * size)
            file.write(row.tobytes())
        file.seek(rows * size)
        file.write(new.tobytes())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
