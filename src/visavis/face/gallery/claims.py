"""What the runs that index into one gallery are at work on, so that no two look at the same photo.

A run claims a file before it is looked at, in the transaction that finds neither it nor its content stored or claimed,
and gives the claim back in the transaction that stores what was found. Its claims end with its process, however that
ends: a lock on a file tells whether it lives.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import IO, Any, Protocol

from visavis.errors import GalleryError
from visavis.face.gallery.database import CLAIMS, Database

__all__ = ["Claims", "FolderClaims", "Taken", "sha256_of"]


class Taken(Enum):
    """What is to be done with a file."""

    HERE = auto()  # look at it
    STORED = auto()  # nothing: it has been since this run began
    COPY = auto()  # nothing but to note its path: its content is stored
    LATER = auto()  # ask again: another run, or this one, is at work on it or on a copy of it


class Claims(Protocol):
    """Of one run; closed at its end."""

    def take(self, path: Path, size_bytes: int, mtime_ns: int) -> tuple[Taken, str | None]:
        """What to do with a file, and the SHA-256 of a copy, or why a stored one was skipped."""

    def release(self, paths: Iterable[Path]) -> None:
        """What was found in them is stored, in the transaction around."""

    def close(self) -> None:
        """Give up all claims."""


class FolderClaims:
    """Of one run on a gallery in a folder."""

    def __init__(self, database: Database) -> None:
        self._database, self._run = database, secrets.token_hex(8)
        self._folder = database.folder / "indexing"
        with database.transaction():
            for statement in CLAIMS:  # of a gallery made before there were any
                database.change(statement)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._alive = self._path(self._run).open("wb")
        _lock(self._alive)

    def take(self, path: Path, size_bytes: int, mtime_ns: int) -> tuple[Taken, str | None]:
        """As `Claims.take`."""
        key = os.fsencode(path)
        with self._database.transaction():
            for (skipped,) in self._database.rows(
                "SELECT skipped FROM file WHERE path = ? AND size_bytes = ? AND mtime_ns = ?",
                (key, size_bytes, mtime_ns),
            ):
                return Taken.STORED, skipped
            for (run,) in self._database.rows("SELECT run FROM claim WHERE path = ?", (key,)):
                if not self._is_dead(run):
                    return Taken.LATER, None
            sha256 = None
            if self._database.rows(
                """SELECT 1 FROM claim WHERE size_bytes = ?1
                UNION ALL SELECT 1 FROM file WHERE size_bytes = ?1 AND photo_id IS NOT NULL LIMIT 1""",
                (size_bytes,),
            ):  # only a file as large as a known one can be its copy, so no other is hashed
                sha256 = sha256_of(path)
                if self._database.rows("SELECT 1 FROM photo WHERE sha256 = ? AND NOT partial", (sha256,)):
                    return Taken.COPY, sha256
                if self._is_claimed(size_bytes, sha256):
                    return Taken.LATER, None
            self._database.change("INSERT INTO claim VALUES (?, ?, ?, ?)", (key, size_bytes, sha256, self._run))
        return Taken.HERE, None

    def release(self, paths: Iterable[Path]) -> None:
        """As `Claims.release`."""
        self._database.change_many("DELETE FROM claim WHERE path = ?", [(os.fsencode(path),) for path in paths])

    def close(self) -> None:
        """As `Claims.close`."""
        with suppress(GalleryError), self._database.transaction():  # a full disk: who meets them finds the run ended
            self._database.change("DELETE FROM claim WHERE run = ?", (self._run,))
        self._alive.close()
        self._path(self._run).unlink(missing_ok=True)

    def _is_claimed(self, size_bytes: int, sha256: str | None) -> bool:
        """Whether a living run is at work on this content under another path."""
        found = False
        for key, known, run in self._database.rows(
            "SELECT path, sha256, run FROM claim WHERE size_bytes = ?", (size_bytes,)
        ):
            theirs = known or sha256_of(Path(os.fsdecode(key)))
            self._database.change("UPDATE claim SET sha256 = ? WHERE path = ?", (theirs, key))
            found |= theirs == sha256 and not self._is_dead(run)
        return found

    def _is_dead(self, run: str) -> bool:
        """Whether a run's process has ended; then its claims are gone."""
        if run == self._run:
            return False
        with suppress(FileNotFoundError), self._path(run).open("r+b") as file:
            if not _lock(file):
                return False
        self._path(run).unlink(missing_ok=True)
        self._database.change("DELETE FROM claim WHERE run = ?", (run,))
        return True

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.lock"


def sha256_of(path: Path) -> str | None:
    """Of a file's content; None where it cannot be read: whoever looks at it will tell why."""
    with suppress(OSError), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    return None


def _lock(file: IO[Any]) -> bool:
    """Lock a file until it is closed; False where somebody else has."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
    except OSError:
        return False
    return True
