"""Pairs of faces, and their similarities.

Shapes: N faces, P pairs, D embedding length.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError

__all__ = ["NO_FACE", "all_pairs", "similarities_of"]

NO_FACE = -1.0  # the similarity of a pair of which a photo gave no face: the lowest
_BLOCK = 65_536  # pairs whose embeddings are held at once


def similarities_of(embeddings: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """[P] cosines of the pairs; -1 where a row is zero. Embeddings float [N, D], pairs int64 [P, 2] of rows."""
    found: NDArray[np.bool_] = np.any(embeddings, axis=1)
    values = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        first, second = pairs[start : start + _BLOCK].T
        products = np.einsum("pd,pd->p", embeddings[first], embeddings[second])
        values[start : start + _BLOCK] = np.where(found[first] & found[second], products, NO_FACE)
    return values


def all_pairs(people: NDArray[Any], *, max_pairs: int = 1_000_000, seed: int = 0) -> NDArray[np.int64]:
    """int64 [P, 2]: the pairs of [N] faces, each once, those of one person first.

    Where there are more than `max_pairs` of one person, or of two people, so many of these are drawn, each as likely.

    Raises:
        InputError: no pair of one person, or none of two people.
    """
    random = np.random.default_rng(seed)
    names, numbers, sizes = np.unique(people, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise InputError(f"people: expected two or more, got {len(names)}; one person alone has no pairs of strangers")
    of_one = sizes * (sizes - 1) // 2
    if not of_one.any():
        raise InputError("people: expected one with two faces or more, got one face each")
    rows = np.argsort(numbers, kind="stable")
    starts, ends = np.cumsum(sizes) - sizes, np.cumsum(of_one)
    index = _distinct(int(ends[-1]), max_pairs, random)
    person = np.searchsorted(ends, index, side="right")
    genuine = rows[_pair(index - (ends - of_one)[person]) + starts[person, None]]
    every = len(numbers) * (len(numbers) - 1) // 2
    strangers = every - int(ends[-1])
    # Of so many pairs drawn from all, enough are of strangers, but for bad luck; then more are drawn.
    wanted = min(max_pairs, strangers)
    count = every if strangers <= max_pairs else int(wanted * every / strangers * 1.01) + 1000
    while True:
        pairs = _pair(_distinct(every, count, random))
        pairs = pairs[numbers[pairs[:, 0]] != numbers[pairs[:, 1]]]
        if len(pairs) >= wanted:
            break
        count *= 2
    pairs = pairs[np.sort(random.permutation(len(pairs))[:wanted])]
    return np.concatenate([genuine, pairs]).astype(np.int64)


def _distinct(total: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """So many different numbers in [0, total), rising; all of them when there are no more."""
    if count >= total:
        return np.arange(total)
    if total <= 8 * count:
        return np.sort(random.permutation(total)[:count])
    numbers = np.unique(random.integers(total, size=count + count // 4))
    while len(numbers) < count:
        numbers = np.unique(np.concatenate([numbers, random.integers(total, size=count)]))
    return np.sort(random.permutation(numbers)[:count])


def _pair(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index-th pair i < j in the order (0, 1), (0, 2), (1, 2), (0, 3), ...; [P, 2]."""
    second = ((1 + np.sqrt(1.0 + 8.0 * index)) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > index  # the root may be off by a rounding
    second += (second + 1) * second // 2 <= index
    return np.stack([index - second * (second - 1) // 2, second], axis=1)
