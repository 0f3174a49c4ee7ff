"""The log of who asked about whom: a JSON object a line. People are in it by number, and leave it when forgotten."""

import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Audit"]

FILE_NAME, OLDER_NAME = "audit.jsonl", "audit.1.jsonl"
ROTATE_BYTES = 10 * 2**20


class Audit:
    """The log in a folder: a file and, once that is full, one older. Any number of processes may write and forget."""

    def __init__(self, folder: Path) -> None:
        self._path, self._older = folder / FILE_NAME, folder / OLDER_NAME
        self._lock = threading.Lock()
        self._left_out = set[int]()

    def leave_out(self, person: int) -> None:
        """Take a person out and log it no more: what is under way may still name it, and no number is given twice."""
        with self._lock:
            self._left_out.add(person)
        self.forget(person)

    def note(self, client: str, action: str, people: Iterable[int] = ()) -> None:
        """Log that a client did something, and the people that it was shown or that it changed."""
        with self._lock:
            entry = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": client,
                "action": action,
                "people": sorted(set(people) - self._left_out),
            }
            with suppress(FileNotFoundError):
                if self._path.stat().st_size >= ROTATE_BYTES:
                    self._path.replace(self._older)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # for the owner alone
            with open(descriptor, "ab") as file:  # noqa: PTH123  a descriptor, not a path
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def forget(self, person: int) -> int:
        """Take a person out of every line; returns out of how many.

        Lines keep their length and place, spaces fill them: so no old byte stays on the disk, and what another process
        appends meanwhile is not lost.
        """
        count = 0
        with self._lock:
            for path in (self._older, self._path):
                with suppress(FileNotFoundError), path.open("r+b") as file:
                    place = 0
                    for line in file.read().splitlines(keepends=True):
                        text = line.rstrip(b"\n")
                        left = _without(text, person)
                        if left is not None:
                            file.seek(place)
                            file.write(left.ljust(len(text)))
                            count += 1
                        place += len(line)
                    file.flush()
                    os.fsync(file.fileno())
        return count


def _without(text: bytes, person: int) -> bytes | None:
    """A line that the person is no more in; None: it is not in it."""
    if not text.strip():
        return None
    try:
        entry = json.loads(text)
    except ValueError:  # half a line, of a crash: whom it held nobody knows, so it goes
        return b""
    if person not in entry["people"]:
        return None
    entry["people"] = [number for number in entry["people"] if number != person]
    return json.dumps(entry).encode()
