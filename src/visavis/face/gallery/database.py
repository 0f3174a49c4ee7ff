"""A gallery's SQLite file: schema, connection, transactions, and errors in the user's words.

The tables are built so that deletion is exact. SQLite overwrites what it deletes (`secure_delete`), but when
it rebalances a page it may leave an old copy of a row that merely moved. Rows of `vector` and `thumbnail`
therefore never move: they are appended in the order of their ids and wiped by a same-sized overwrite in
place, never deleted; compaction copies the living into a new table. Names, which do move, live in a small
table that is emptied and filled again when a person is forgotten.

With a key the file is SQLCipher's: every page of it and of its write-ahead log is encrypted, and what SQLite sorts
aside stays in memory. All else is the same.
"""

import contextlib
import errno
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visavis.errors import GalleryError, InputError, MissingExtraError

__all__ = [
    "APPLICATION_ID",
    "BUSY_MS",
    "CLAIMS",
    "FILE_NAME",
    "PAGE_BYTES",
    "SCHEMA_VERSION",
    "Database",
    "alone",
    "check_key",
    "connect",
    "create",
    "driver",
    "needs_key",
]

FILE_NAME = "gallery.sqlite"
BUSY_MS = 30_000
PAGE_BYTES = 16_384
KEY_LENGTH = 8  # letters at the least
APPLICATION_ID = 0x76767667  # "vvvg"
SCHEMA_VERSION = 1
CLAIMS = (
    """CREATE TABLE IF NOT EXISTS claim (  -- files that a run of indexing is at work on
        path BLOB PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        sha256 TEXT,              -- once another file of this size has come
        run TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS claim_size ON claim (size_bytes)",
    "CREATE INDEX IF NOT EXISTS file_size ON file (size_bytes)",
)
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE photo (              -- one row a content
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 TEXT NOT NULL UNIQUE,
    width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL,
    taken_at TEXT,
    indexed_at TEXT NOT NULL,
    partial INTEGER NOT NULL,     -- 1: every file is gone and only enrolled faces were kept
    settled INTEGER NOT NULL DEFAULT 0  -- 1: somebody in it was forgotten: known for good, never looked at again
) STRICT;
CREATE TABLE file (               -- a path on disk; two copies of a photo are two files
    path BLOB PRIMARY KEY,        -- os.fsencode
    photo_id INTEGER REFERENCES photo (id),
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    skipped TEXT,                 -- why it is no photo
    CHECK ((photo_id IS NULL) <> (skipped IS NULL))
) STRICT;
CREATE INDEX file_photo ON file (photo_id);
CREATE TABLE person (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;
CREATE TABLE name (
    person_id INTEGER PRIMARY KEY REFERENCES person (id) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE separate (           -- the user said: two different people
    person_a INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    person_b INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    PRIMARY KEY (person_a, person_b),
    CHECK (person_a < person_b)
) STRICT, WITHOUT ROWID;
CREATE INDEX separate_b ON separate (person_b);
CREATE TABLE face (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    photo_id INTEGER NOT NULL REFERENCES photo (id),
    box BLOB NOT NULL,            -- 4 float32: left, top, right, bottom
    landmarks BLOB NOT NULL,      -- 10 float32: x, y of five points
    score REAL NOT NULL,
    residual_px REAL NOT NULL,
    quality REAL NOT NULL,
    person_id INTEGER REFERENCES person (id),
    pinned INTEGER NOT NULL,      -- 1: placed by the user, 0: by clustering
    enrolled INTEGER NOT NULL
) STRICT;
CREATE INDEX face_photo ON face (photo_id);
CREATE INDEX face_person ON face (person_id, quality);
CREATE TABLE vector (face_id INTEGER PRIMARY KEY, embedding BLOB NOT NULL) STRICT;
CREATE TABLE thumbnail (face_id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL) STRICT;
CREATE TABLE gone (               -- deleted faces, for the search index to follow
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    face_id INTEGER NOT NULL
) STRICT;
CREATE TABLE sidecar (            -- what of the search index is on disk; at most one row
    generation TEXT NOT NULL,
    rows INTEGER NOT NULL,
    last_id INTEGER NOT NULL,     -- of the faces it has seen
    gone_seq INTEGER NOT NULL     -- of the deletions it has followed
) STRICT;
{"; ".join(CLAIMS)};
"""


# Two libraries of SQLite in one process do not know of each other's locks, and closing a file by any other way than a
# library's drops the locks it holds on it. So it is known which galleries are open here, and how.
_File = tuple[int, int, bool]  # device, number, encrypted
_opening = threading.RLock()
_open: Counter[_File] = Counter()


class Database:
    """One connection, usable from several threads: every statement and transaction holds a lock.

    Args:
        folder: the gallery's; when it is not writable the connection only reads.
        key: of an encrypted gallery.

    Raises:
        GalleryError: there is no gallery, it is of a newer schema, the key is not its key, or the file is
            something else.
        MissingExtraError: there is a key, and SQLCipher is not installed.
    """

    def __init__(self, folder: Path, key: str | None = None) -> None:
        self.folder = folder
        path = folder / FILE_NAME
        if not path.exists():
            raise GalleryError(f"{folder}: expected a gallery, found none")
        self._lock = threading.RLock()
        self.encrypted = key is not None
        self._sqlite = driver(key)
        with _opening:
            if needs_key(folder) != self.encrypted:
                raise GalleryError(
                    f"{folder}: expected a key, got none: the gallery is encrypted, or the file is not a database"
                    if key is None
                    else f"{folder}: expected an encrypted gallery, got a key for one that is not: encrypt it first"
                )
            self.writable = os.access(folder, os.W_OK) and os.access(path, os.W_OK)
            mode = "rw" if self.writable else "ro"
            # SQLite reads a write-ahead log only beside its -shm file; without a log, immutable asks for neither.
            log = path.with_name(f"{FILE_NAME}-wal")
            if not self.writable and not (log.exists() and log.stat().st_size):
                mode += "&immutable=1"
            with self._errors():
                self._connection = connect(self._sqlite, f"{_uri(path)}?mode={mode}", key)
            self._file: _File | None = (*_file_of(folder), self.encrypted)
            _open[self._file] += 1
        try:
            self._check_schema()
            if self.writable:
                self.rows("PRAGMA journal_mode = WAL")  # which only a conversion that was killed has left
        except BaseException:
            self.close()
            raise

    def rows(self, sql: str, parameters: Any = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock, self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, parameters: Any = ()) -> int:
        """Run one statement inside a transaction; returns the id of the row inserted last."""
        with self._errors():
            return self._connection.execute(sql, parameters).lastrowid or 0

    def change_many(self, sql: str, parameters: Any) -> int:
        """Run a statement for each row of parameters inside a transaction; returns the rows changed."""
        with self._errors():
            return self._connection.executemany(sql, parameters).rowcount

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def locked(self) -> threading.RLock:
        """For `with`: keeps out this process's other threads; a transaction keeps out other processes."""
        return self._lock

    @contextmanager
    def transaction(self, *, wait_ms: int = BUSY_MS) -> Iterator[None]:
        """All or nothing, on disk when it returns; a transaction inside another joins it.

        Raises:
            GalleryError: the gallery is read-only, the disk is full, or others held the lock for `wait_ms`.
        """
        with self._lock, self._errors():
            if self._connection.in_transaction:
                yield
                return
            if not self.writable:
                raise GalleryError(f"{self.folder}: expected a writable folder; this gallery is open for reading only")
            self._connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it by itself
                    self._connection.execute("ROLLBACK")
                raise

    def expect_no_transaction(self, what: str) -> None:
        """For what must reach the disk at once; another thread's transaction is waited for."""
        with self._lock:
            if self._connection.in_transaction:
                raise GalleryError(f"{what}: expected to be outside a transaction, got called inside one")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._lock, self._errors():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def truncate_log(self) -> None:
        """Move the write-ahead log into the database and empty it, so that no deleted byte stays in it."""
        busy, _, _ = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        if busy:
            raise GalleryError(
                f"{self.folder}: expected to empty the write-ahead log, but another process is reading it: "
                "the data is deleted and leaves the disk when that process ends"
            )

    def vacuum(self) -> None:
        """Rewrite the file without its unused space, unless another process writes."""
        with self._lock, self._errors():
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                self._connection.execute("VACUUM")
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def close(self) -> None:
        with self._lock, _opening:
            self._connection.close()
            if self._file is not None:
                _open[self._file] -= 1
            self._file = None

    def _check_schema(self) -> None:
        [(application,)] = self.rows("PRAGMA application_id")
        [(version,)] = self.rows("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise GalleryError(f"{self.folder}: expected a gallery, but {FILE_NAME} is another program's database")
        if version != SCHEMA_VERSION:
            raise GalleryError(
                f"{self.folder}: expected gallery version {SCHEMA_VERSION}, got {version}: update visavis"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._sqlite.Error as error:
            if self.encrypted and str(error) == "file is not a database":
                raise GalleryError(
                    f"{self.folder}: expected the key that this gallery was encrypted with, got another, or its file "
                    "is damaged; without the key nobody can read it"
                ) from None
            hint = {
                "database is locked": "another process is writing for longer than we wait; try again",
                "database or disk is full": "free some space; nothing committed is lost",
                "disk I/O error": "the disk may be full or failing; nothing committed is lost on one that is full",
            }.get(str(error), "the file may be damaged; restore a copy or an export")
            raise GalleryError(f"{self.folder}: {error}: {hint}") from error


def needs_key(folder: Path) -> bool:
    """Whether the gallery in a folder is encrypted; of a damaged file that is all that can be said."""
    with _opening:
        for encrypted in (False, True):
            if _open[*_file_of(folder), encrypted]:
                return encrypted
        uri = f"{_uri(folder / FILE_NAME)}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            try:
                connection.execute("PRAGMA user_version")
            except sqlite3.DatabaseError as error:
                return str(error) == "file is not a database"
    return False


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody opens a gallery in this process meanwhile.

    Raises:
        GalleryError: somebody has this one open here.
    """
    with _opening:
        if any(_open[*_file_of(folder), encrypted] for encrypted in (False, True)):
            raise GalleryError(
                f"{folder}: expected to have the gallery alone, but it is open in this process; close it"
            )
        yield


def _file_of(folder: Path) -> tuple[int, int]:
    """What tells a gallery's file from others, however its folder is called."""
    status = (folder / FILE_NAME).stat()
    return status.st_dev, status.st_ino


def check_key(key: str) -> None:
    """Refuse what cannot be a key.

    Raises:
        InputError: it is too short, or holds what cannot be typed.
    """
    if len(key) < KEY_LENGTH or not key.isprintable():  # never shown
        raise InputError(f"key: expected at least {KEY_LENGTH} printable letters, got {len(key)} or others")


def create(folder: Path, meta: dict[str, str], key: str | None = None) -> None:
    """Make an empty gallery unless there is one; two processes may try at once.

    A new folder and the file are readable by their owner alone, for they will hold biometric data.

    Raises:
        GalleryError: the folder cannot be made or written.
        InputError: the key cannot be one.
    """
    path = folder / FILE_NAME
    draft = folder / f"{FILE_NAME}.{secrets.token_hex(8)}.new"
    sqlite = driver(key)
    if key is not None:
        check_key(key)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return
        try:
            draft.touch(mode=0o600)  # SQLite would let others read it; its -wal and -shm files follow suit
            with contextlib.closing(connect(sqlite, f"{_uri(draft)}?mode=rw", key)) as connection:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(SCHEMA)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            _rename_unless_taken(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, sqlite.Error) as error:
        raise GalleryError(f"{folder}: expected a place for a new gallery: {error}") from error


def _rename_unless_taken(draft: Path, path: Path) -> None:
    """Of two makers the second leaves the gallery of the first as it is."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        lock = path.with_name(f"{FILE_NAME}.lock")  # FAT and its like know no hard links
        lock.touch(mode=0o600, exist_ok=False)
        try:
            if not path.exists():
                draft.rename(path)
        finally:
            lock.unlink()


def _uri(path: Path) -> str:
    return path.absolute().as_uri()


def driver(key: str | None) -> Any:
    """Python's own SQLite, or SQLCipher's, which looks the same."""
    if key is None:
        return sqlite3
    try:
        from sqlcipher3 import dbapi2  # type: ignore[import-untyped]  # typed as sqlite3, whose interface it has
    except ImportError:
        raise MissingExtraError(
            'sqlcipher3: expected it to be installed, as the gallery is encrypted; pip install "visavis[encryption]"'
        ) from None
    return dbapi2


def connect(sqlite: Any, uri: str, key: str | None) -> sqlite3.Connection:
    """A connection that deletes for good, and encrypts with a key."""
    opened = sqlite.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection: sqlite3.Connection = opened
    if key is not None:
        connection.execute("PRAGMA cipher_log_level = NONE")  # else it writes to standard error what we raise
        connection.execute(f"PRAGMA cipher_default_page_size = {PAGE_BYTES}")
        opened.set_key(key)
        connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection
