"""Aligned crops on disk: each photo is decoded, searched for faces and cut once, however often it is trained on.

A cache is a folder with two files: `crops.u8`, the crops one after the other, and `crops.sqlite`, which says which
photo each is of. A crop counts once its row in the database is committed, and that happens after its bytes are on disk:
a run that was killed loses a few seconds of work and nothing else. Several processes may fill one cache.

S: side of a crop, px. Colours are RGB. Points are (x, y) in pixels of the crop.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError

__all__ = ["CropCache", "Cut", "HashedFile", "Stored"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT);
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS crop (row INTEGER PRIMARY KEY, key TEXT, place INTEGER, landmarks BLOB);
CREATE INDEX IF NOT EXISTS crop_by_key ON crop (key, place);
"""


class Cut(NamedTuple):
    """A face cut out of a photo."""

    crop: NDArray[np.uint8]  # [S, S, 3]
    landmarks: NDArray[np.float32]  # [5, 2]


class HashedFile(NamedTuple):
    """A file, and what was in it."""

    path: Path
    size_bytes: int
    mtime_ns: int
    sha256: str


class Stored(NamedTuple):
    """A crop of the cache."""

    row: int  # where it lies among `CropCache.images`
    landmarks: NDArray[np.float32]  # [5, 2]


class CropCache:
    """Crops of one size, cut in one way; use it in a `with`."""

    def __init__(self, folder: Path, recipe: dict[str, object], side: int) -> None:
        """Open the cache for crops that `recipe` describes, below `folder`; make it when absent.

        Args:
            folder: holds the caches of all recipes.
            recipe: plain values, all that a crop depends on beside the photo; another one gets another cache.
            side: of the crops, px.

        Raises:
            InputError: the folder cannot be written.
        """
        text = json.dumps(recipe, sort_keys=True)
        self.folder = folder / sha256(text.encode()).hexdigest()[:16]
        self._shape = (side, side, 3)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # faces are their owner's alone
            (self.folder / "recipe.json").write_text(text + "\n")
            (self.folder / "crops.u8").open("ab").close()
            self._database = sqlite3.connect(self.folder / "crops.sqlite", timeout=60.0, isolation_level=None)
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"cache: expected a folder that can be written, got {self.folder} ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def sha256(self, path: Path, size_bytes: int, mtime_ns: int) -> str | None:
        """The hash noted of a file whose size and time are the same still."""
        row = self._database.execute(
            "SELECT sha256 FROM file WHERE path = ? AND size = ? AND mtime_ns = ?",
            (os.fsencode(path), size_bytes, mtime_ns),
        ).fetchone()
        return None if row is None else str(row[0])

    def note(self, files: Sequence[HashedFile]) -> None:
        """Keep what files hold, so that they need not be read again; errors as `add`."""
        with self._transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)",
                [(os.fsencode(path), *rest) for path, *rest in files],  # a name need not be text
            )

    def stored(self, key: str) -> list[Stored] | None:
        """The crops added under `key`, in their order; None: nothing was."""
        if self._database.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is None:
            return None
        rows = self._database.execute("SELECT row, landmarks FROM crop WHERE key = ? ORDER BY place", (key,))
        return [Stored(row, np.frombuffer(points, "<f4").reshape(5, 2)) for row, points in rows]

    def add(self, photos: Sequence[tuple[str, Sequence[Cut]]]) -> None:
        """Write the crops of some photos, each under a key, all or none; a key that is there already stays as it is.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        with self._transaction(), (self.folder / "crops.u8").open("r+b") as crops:
            (row,) = self._database.execute("SELECT coalesce(max(row) + 1, 0) FROM crop").fetchone()
            crops.seek(row * int(np.prod(self._shape)))
            for key, cuts in photos:
                fresh = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount
                for place, cut in enumerate(cuts if fresh else ()):
                    crops.write(np.ascontiguousarray(cut.crop).tobytes())
                    points = cut.landmarks.astype("<f4").tobytes()
                    self._database.execute("INSERT INTO crop VALUES (?, ?, ?, ?)", (row, key, place, points))
                    row += 1
            crops.flush()
            os.fsync(crops.fileno())  # before the commit: a row may not promise bytes that a power cut takes

    def images(self) -> NDArray[np.uint8]:
        """uint8 [M, S, S, 3], every crop there is now, read from disk as it is used.

        Raises:
            InputError: somebody has cut the file short.
        """
        (count,) = self._database.execute("SELECT coalesce(max(row) + 1, 0) FROM crop").fetchone()
        if count == 0:
            return np.empty((0, *self._shape), np.uint8)
        path = self.folder / "crops.u8"
        if path.stat().st_size < count * int(np.prod(self._shape)):
            raise InputError(f"cache: expected {count} crops in {path}, got fewer; delete {self.folder}, to cut anew")
        return np.memmap(path, np.uint8, "r", shape=(count, *self._shape))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")  # rows are given out to one process at a time
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"cache: cannot be written: {self.folder} ({error})") from error
