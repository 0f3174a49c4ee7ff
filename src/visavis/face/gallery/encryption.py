"""Encrypting a gallery that is there, and the way back: another file is written, checked, and takes its place.

SQLCipher does the encryption: each page by AES-256 in CBC mode with an initialisation vector of its own, and an
HMAC-SHA512 that tells when it was changed; the keys are made of the user's by PBKDF2-HMAC-SHA512, 256,000 rounds, with
a salt of 16 bytes that begins the file.

A conversion needs the gallery for itself. One that is killed has changed nothing, or all but the last step, which the
next opening takes: what the old file held is written over. That reaches the disk as far as the file system writes in
place; flash memory, snapshots and backups may still hold what was there.
"""

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path
from typing import IO, Any

from visavis.errors import GalleryError, InputError
from visavis.face.gallery.database import (
    APPLICATION_ID,
    FILE_NAME,
    PAGE_BYTES,
    SCHEMA_VERSION,
    Database,
    alone,
    check_key,
    connect,
    driver,
)

__all__ = ["PHOTOS", "clear_remains", "decrypt", "encrypt", "rekey", "wipe"]

PHOTOS = "photos"  # the folder beside a gallery where a server keeps uploads
DRAFT, OLD = ".converted", ".old"
ZEROS = bytes(2**20)
WAIT_MS = 2_000  # for others to let go of the gallery


def encrypt(folder: Path, key: str) -> None:
    """Encrypt a gallery. Whoever loses the key has lost the gallery.

    Raises:
        GalleryError: it is encrypted already, somebody else has it open, it keeps uploaded photos, or there is no room
            for a second one beside it.
        InputError: the key cannot be one.
        MissingExtraError: SQLCipher is not installed.
    """
    check_key(key)
    photos = folder / PHOTOS
    if photos.is_dir() and any(path.is_file() for path in photos.rglob("*")):
        raise GalleryError(
            f"{photos}: expected no uploaded photos, which would stay as they are; move them elsewhere and index them "
            "there"
        )
    _convert(folder, None, key)


def decrypt(folder: Path, key: str) -> None:
    """Make an encrypted gallery one that opens without a key; errors as `encrypt`."""
    _convert(folder, key, None)


def rekey(folder: Path, key: str, new_key: str) -> None:
    """Encrypt an encrypted gallery with another key; errors as `encrypt`."""
    check_key(new_key)
    if new_key == key:
        raise InputError("new_key: expected another key, got the same")
    _convert(folder, key, new_key)


def clear_remains(folder: Path, *, encrypted: bool) -> None:
    """Write over what a conversion that was killed has left; the caller has the gallery open, so none is under way."""
    for path in [*folder.glob(f"{FILE_NAME}.*{DRAFT}"), *folder.glob(f"{FILE_NAME}.*{OLD}")]:
        with contextlib.suppress(FileNotFoundError):  # somebody else opens it, too
            if path.samefile(folder / FILE_NAME):  # killed before the new file took its place
                path.unlink()
            else:
                wipe(path)
    if encrypted:
        for path in (folder / "search").glob("*"):
            wipe(path)


def wipe(path: Path) -> None:
    """Write zeros over a file, and delete it; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            _zero(file)
        path.unlink()


def _zero(file: IO[bytes]) -> None:
    left = file.seek(0, os.SEEK_END)
    file.seek(0)
    while left > 0:
        left -= file.write(ZEROS[:left])
    file.flush()
    os.fsync(file.fileno())


def _convert(folder: Path, key: str | None, new_key: str | None) -> None:
    with contextlib.closing(Database(folder, key)) as database:  # refuses another key, and other than galleries
        if not database.writable:
            raise GalleryError(f"{folder}: expected a writable folder; this gallery is open for reading only")
        clear_remains(folder, encrypted=key is not None)
    path = folder / FILE_NAME
    number = secrets.token_hex(8)
    draft, old = (folder / f"{FILE_NAME}.{number}{suffix}" for suffix in (DRAFT, OLD))
    sqlite = driver(key or new_key)
    try:
        # Files are closed after the connection: closing one drops the locks that SQLite holds on it for this process.
        with alone(folder), contextlib.ExitStack() as files:
            held = [files.enter_context(path.open("r+b"))]
            connection = files.enter_context(
                contextlib.closing(connect(sqlite, f"{path.absolute().as_uri()}?mode=rw", key))
            )
            connection.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
            connection.execute("SELECT count(*) FROM meta").fetchall()  # makes the log, if it was not there
            with contextlib.suppress(FileNotFoundError):
                held.append(files.enter_context(path.with_name(f"{FILE_NAME}-wal").open("r+b")))
            _take(connection)
            if connection.execute("PRAGMA journal_mode").fetchone() != ("delete",):
                raise GalleryError(
                    f"{folder}: expected to have the gallery alone, but somebody has opened it; try again"
                )
            draft.touch(mode=0o600)
            _copy(connection, draft, new_key)
            _finish(sqlite, draft, new_key)
            with contextlib.suppress(OSError):  # where a file can have but one name, it is still held
                os.link(path, old)
            draft.replace(path)
            _sync(folder)
            for file in held:
                _zero(file)
            old.unlink(missing_ok=True)
    except sqlite.DatabaseError as error:
        hint = "end the server or the command that has it open" if "locked" in str(error) else "it is as it was"
        raise GalleryError(f"{folder}: {error}: the gallery cannot be converted; {hint}") from error
    except OSError as error:
        raise GalleryError(f"{folder}: {error.strerror}: the gallery cannot be converted; it is as it was") from error
    finally:
        wipe(draft)
    with contextlib.closing(Database(folder, new_key)):
        clear_remains(folder, encrypted=new_key is not None)


def _take(connection: sqlite3.Connection) -> None:
    """Keep everybody else out; refused, as being locked, while anybody is in."""
    connection.execute("PRAGMA journal_mode = DELETE")  # empties the log, and needs to be alone for it
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")  # which keeps the lock


def _copy(connection: sqlite3.Connection, draft: Path, new_key: str | None) -> None:
    connection.execute(f"PRAGMA cipher_default_page_size = {PAGE_BYTES}")
    connection.execute("ATTACH ? AS fresh KEY ?", (str(draft), new_key or ""))
    connection.execute(f"PRAGMA fresh.page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA fresh.journal_mode = OFF")
    connection.execute("SELECT sqlcipher_export('fresh')").fetchall()
    connection.execute("DELETE FROM fresh.sidecar")  # the search index does not come along
    connection.execute("DETACH fresh")


def _finish(sqlite: Any, draft: Path, new_key: str | None) -> None:
    """What the copy leaves out, and a look at every page."""
    with contextlib.closing(connect(sqlite, f"{draft.absolute().as_uri()}?mode=rw", new_key)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise GalleryError(f"{draft.parent}: expected a whole copy, got {found[0][0]}; the gallery is as it was")
        connection.execute("PRAGMA journal_mode = WAL")


def _sync(folder: Path) -> None:
    """The folder's names, to the disk; where that cannot be said, the file system does it by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
