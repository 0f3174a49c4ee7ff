"""The log of who asked about whom: a JSON object a line. People are in it by number, and leave it when forgotten."""

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from visavis.app.server.files import append_private, write_private

__all__ = ["Audit"]

FILE_NAME, OLDER_NAME = "audit.jsonl", "audit.1.jsonl"
ROTATE_BYTES = 10 * 2**20


class Audit:
    """The log of one gallery: a file and, once that is full, one older."""

    def __init__(self, folder: Path) -> None:
        self._path, self._older = folder / FILE_NAME, folder / OLDER_NAME
        self._lock = threading.Lock()

    def note(self, client: str, action: str, people: Iterable[int] = ()) -> None:
        """Log that a client did something, and the people that it was shown or that it changed."""
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": client,
            "action": action,
            "people": sorted(set(people)),
        }
        with self._lock:
            with suppress(FileNotFoundError):
                if self._path.stat().st_size >= ROTATE_BYTES:
                    self._path.replace(self._older)
            append_private(self._path, json.dumps(entry).encode() + b"\n")

    def forget(self, person: int) -> None:
        """Take a person out of every line."""
        with self._lock:
            for path in (self._path, self._older):
                if not path.exists():
                    continue
                lines = []
                for line in path.read_bytes().splitlines():
                    with suppress(ValueError):  # half a line, of a crash: whom it held nobody knows, so it goes
                        entry = json.loads(line)
                        entry["people"] = [number for number in entry["people"] if number != person]
                        lines.append(json.dumps(entry).encode() + b"\n")
                write_private(path, b"".join(lines))
