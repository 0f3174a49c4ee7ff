"""Exact nearest faces from a server that computes in float32 and breaks ties as it likes.

The server is asked for some more than are wanted, and those are compared again in float64. Where one that it left out
could still belong to the best, within what float32 can be wrong by, it is asked for more.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError
from visavis.face.gallery.milvus.tables import PAGE, Tables, Where

__all__ = ["MOST", "nearest"]

MOST = 16_000  # hits of one query; Milvus gives 16,384
MARGIN = 16  # more than are wanted
VECTORS = 8_192  # in one answer, of all queries
ROUNDING = 1e-5  # of a float32 product of unit vectors, generously

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


def nearest(tables: Tables, queries: Floats, k: int, among: Ids | None) -> tuple[Ids, Floats]:
    """As `Gallery.search`, its arguments checked.

    Raises:
        InputError: `k` above what Milvus gives.
    """
    if k > MOST:
        raise InputError(f"k: expected at most {MOST} of a gallery on Milvus, got {k}")
    ids = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    expressions = [""] if among is None else list(Where("id", set(among.tolist())).expressions())
    for rows in _blocks(len(queries), k + MARGIN):
        found: list[list[tuple[float, int]]] = [[] for _ in rows]
        for expression in expressions:
            for best, more in zip(found, _search(tables, queries[rows], k, k + MARGIN, expression), strict=True):
                best += more
        for row, hits in zip(rows, found, strict=True):
            best = sorted(hits)[:k]
            ids[row, : len(best)] = [face_id for _, face_id in best]
            similarities[row, : len(best)] = [-less for less, _ in best]
    return ids, similarities


def _search(tables: Tables, queries: Floats, k: int, limit: int, expression: str) -> Iterator[list[tuple[float, int]]]:
    """Of each query (-cosine, id) of all hits that may be among the best k."""
    for query, hits in zip(queries, tables.search(queries, limit, expression), strict=True):
        vectors = np.array([vector for _, vector, _ in hits], np.float64).reshape(-1, tables.dim)
        exact = vectors @ query.astype(np.float64)
        floor = np.sort(exact)[-k] if len(exact) >= k else -np.inf
        if len(hits) == limit < PAGE and hits[-1][2] + ROUNDING >= floor:
            yield from _search(tables, query[None], k, min(4 * limit, PAGE), expression)
        else:
            yield [(-cosine, face_id) for cosine, (face_id, _, _) in zip(exact.tolist(), hits, strict=True)]


def _blocks(count: int, limit: int) -> Iterator[range]:
    size = max(1, VECTORS // limit)
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
