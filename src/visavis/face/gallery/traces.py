"""Bytes by which a deleted face or name would be known, wherever on the disk they had stayed.

Pieces are looked for, not wholes: where SQLite has moved a row, a part of its old place may have been written over.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["face_pieces", "name_pieces"]

LENGTH, STEP = 16, 64  # bytes of a piece, and from one to the next
DISTINCT = 10  # different bytes in a piece of a JPEG: flat parts of two pictures are coded alike
SCAN = b"\xff\xda"  # what a JPEG's pixels follow; the tables before are the same in all


def face_pieces(embedding: NDArray[np.float32], row: NDArray[np.int8], jpeg: bytes) -> list[bytes]:
    """Pieces of a face: of its embedding, of its row in the search index, and of its picture."""
    pixels = jpeg[jpeg.rfind(SCAN) + 12 :]
    picture = [piece for piece in _pieces(pixels) if len(set(piece)) >= DISTINCT] or [jpeg]
    return [*_pieces(embedding.astype("<f4").tobytes()), *_pieces(row.tobytes()), *picture]


def name_pieces(name: str) -> list[bytes]:
    """A name as a row of its table, as one of its index, and as JSON; its letters alone may be part of a photo's path.

    Source: https://sqlite.org/fileformat2.html#record_format.
    """
    text = name.encode()
    kind = 2 * len(text) + 13
    varint = bytes([kind]) if kind < 128 else bytes([kind >> 7 | 128, kind & 127])
    head = bytes([2 + len(varint)])
    numbers = (bytes([code]) for code in (1, 2, 3, 4, 5, 6, 8, 9))  # how long the person's number is
    quoted = b'"' + text + b'"'
    records = [head + b"\0" + varint + text, *(head + varint + code + text for code in numbers)]
    return records + ([quoted] if len(quoted) > 3 else [])


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + LENGTH] for start in range(0, len(data) - LENGTH + 1, STEP)]
