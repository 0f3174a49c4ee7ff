"""Files that a kill or a full disk leaves whole: written under another name, or line by line.

What follows the last newline of a file of lines was cut by a kill, or is being written: it is no line.
"""

import os
from pathlib import Path
from typing import IO

__all__ = ["append", "cut", "put", "whole_lines", "write_whole"]


def put(stream: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered stream, and wait until it is on the disk; every byte of a trace passes here."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]  # unbuffered: nothing is left behind that a later close would try again
    os.fsync(stream.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write so that under the name `path` there is ever either the old file or the whole new one."""
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb", buffering=0) as stream:
            put(stream, data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk this is the room for a last word elsewhere
        raise


def append(path: Path, line: bytes) -> None:
    """Add a line, its newline with it; a half one before it is removed first."""
    with path.open("a+b", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(end - 1, 0))
        if stream.read() not in (b"", b"\n"):
            stream.seek(0)
            stream.truncate(stream.read(end).rfind(b"\n") + 1)
        put(stream, line)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file; none, if there is no such file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def cut(path: Path) -> None:
    """Take off what is no whole line, if there is such a file."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
