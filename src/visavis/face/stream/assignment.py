"""Who is whom: the one-to-one assignment of least cost, of which pairs that cost too much are left out."""

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect

__all__ = ["assign"]


def assign(costs: NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Pairs of rows and columns, none in two pairs, for which the sum of ``limit - cost`` is largest.

    A pair of a cost at or above the limit is never made: leaving both alone is as good.

    Args:
        costs: [rows, columns]; infinity forbids a pair.
        limit: finite.

    Returns:
        (row, column), by row.

    Raises:
        InputError: a cost is no number, or the limit is not finite.

    Source:
        Jonker & Volgenant (1987), "A shortest augmenting path algorithm for dense and sparse linear assignment
        problems"; here row by row, with every row's own dummy column for leaving it alone.
    """
    expect("costs", costs, "float", None, None)
    if np.isnan(costs).any() or not np.isfinite(limit):
        raise InputError(f"costs, limit: expected numbers, got NaN or a limit of {limit}")
    gains = np.maximum(limit - costs, 0.0)
    if np.isinf(gains).any():
        raise InputError("costs: expected numbers above minus infinity, got that")
    wanted = gains > 0
    pairs = []
    # Most rows want one column that wants nobody else.
    alone = wanted & (wanted.sum(1, keepdims=True) == 1) & (wanted.sum(0, keepdims=True) == 1)
    for row, column in np.argwhere(alone):
        pairs.append((int(row), int(column)))
    rows = np.flatnonzero(wanted.any(1) & ~alone.any(1))
    columns = np.flatnonzero(wanted.any(0) & ~alone.any(0))
    if len(rows):
        for row, column in _augmented(-gains[np.ix_(rows, columns)]):
            if wanted[rows[row], columns[column]]:
                pairs.append((int(rows[row]), int(columns[column])))
    return sorted(pairs)


def _augmented(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The complete assignment of least cost, costs at most 0: each row gets a column, or one of its own at cost 0."""
    count, width = costs.shape
    costs = np.concatenate([costs, np.full((count, count), np.inf)], 1)
    costs[np.arange(count), width + np.arange(count)] = 0.0
    row_price, column_price = np.zeros(count), np.zeros(width + count)
    row_of = np.full(width + count, -1)
    for first in range(count):
        distance = np.full(width + count, np.inf)
        before = np.full(width + count, -1)  # the column a path came from
        done = np.zeros(width + count, bool)
        row, column, reached = first, -1, 0.0
        while True:
            through = reached + costs[row] - row_price[row] - column_price
            nearer = ~done & (through < distance)
            distance[nearer], before[nearer] = through[nearer], column
            column = int(np.where(done, np.inf, distance).argmin())
            reached = distance[column]
            if row_of[column] < 0:
                break
            done[column] = True
            row = row_of[column]
        row_price[row_of[done]] += reached - distance[done]
        row_price[first] += reached
        column_price[done] -= reached - distance[done]
        while column >= 0:  # along the path each row takes the column after it
            previous = int(before[column])
            row_of[column] = row_of[previous] if previous >= 0 else first
            column = previous
    return [(int(row_of[column]), column) for column in range(width) if row_of[column] >= 0]
