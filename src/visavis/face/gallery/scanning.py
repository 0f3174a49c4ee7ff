"""Looks for pieces of what was deleted in all files of a folder. Run as a script, it reads an order from its input.

It is a process of its own because SQLite's locks on a file are gone for the whole process that opens and closes it by
another way; so it imports nothing of ours.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["scan", "search"]

CHUNK = 2**23  # bytes looked at at a time
BITS = 22  # of the table that tells most places of a chunk to be of no interest
PREFIX = 4  # bytes of a piece that are looked up; none is shorter


def scan(folder: Path, pieces: Iterable[bytes], *, leave_out: Iterable[str] = ()) -> tuple[int, int, list[bytes]]:
    """Look for pieces of 4 bytes and more in all files below a folder, but for some of its subfolders.

    Returns:
        The number of files, of bytes, and each piece that was found, as often as it was.

    Raises:
        OSError: a file cannot be read.
    """
    order = pickle.dumps((str(folder), sorted(set(pieces)), set(leave_out)))
    run = subprocess.run([sys.executable, "-P", __file__], input=order, capture_output=True, check=False)
    if run.returncode:
        raise OSError(run.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "the process ended")
    files, size, found = json.loads(run.stdout)
    return files, size, [bytes.fromhex(piece) for piece in found]


def search(stream: BinaryIO, pieces: list[bytes]) -> Iterator[bytes]:
    """Each piece in a stream, as often as it is there."""
    if not pieces:
        return
    longest = max(map(len, pieces))
    by_prefix: dict[int, list[bytes]] = {}
    for piece in pieces:
        by_prefix.setdefault(int.from_bytes(piece[:PREFIX], "little"), []).append(piece)
    prefixes = np.array(sorted(by_prefix), np.uint32)
    table = np.zeros(2**BITS, np.bool_)
    table[_hash(prefixes)] = True
    data, more = b"", b"\0"
    while more:
        more = stream.read(CHUNK)
        data += more
        until = max(0, len(data) - longest + 1) if more else len(data)  # what begins later is met with the next chunk
        for place in _places(data, prefixes, table):
            if place < until:
                prefix = int.from_bytes(data[place : place + PREFIX], "little")
                yield from (piece for piece in by_prefix[prefix] if data.startswith(piece, place))
        data = data[until:]


def _places(data: bytes, prefixes: NDArray[np.uint32], table: NDArray[np.bool_]) -> Iterator[int]:
    for shift in range(min(PREFIX, len(data))):
        words = np.frombuffer(data, "<u4", (len(data) - shift) // PREFIX, shift)
        likely = np.flatnonzero(table[_hash(words)])
        for place in likely[np.isin(words[likely], prefixes)].tolist():
            yield place * PREFIX + shift


def _hash(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    hashed: NDArray[np.uint32] = (words * np.uint32(2_654_435_761)) >> np.uint32(32 - BITS)
    return hashed


def _main() -> None:
    folder, pieces, leave_out = pickle.load(sys.stdin.buffer)  # noqa: S301  of the process that has started this one
    files = size = 0
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        if place == folder:
            folders[:] = [name for name in folders if name not in leave_out]
        for path in (Path(place) / name for name in names):
            if path.is_file() and not path.is_symlink():
                with suppress(FileNotFoundError), path.open("rb", buffering=0) as stream:  # a log may have gone
                    found += [piece.hex() for piece in search(stream, pieces)]
                    size += stream.seek(0, os.SEEK_END)
                files += 1
    json.dump((files, size, found), sys.stdout)


if __name__ == "__main__":
    _main()
