"""Weighted mean and centred second moment of rows, block by block, and the union of two such summaries.

Shapes: N rows, D columns. A `Moments` holds float64 whatever the rows are, so that unions lose nothing to rounding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 65_536  # numbers a block: small enough for the cache and for sums in float32

__all__ = ["Moments", "empty", "of_rows", "union"]


class Moments(NamedTuple):
    """What is left of rows: their weight, their mean, and the sum of products of their distances from it."""

    weight: Tensor  # scalar: sum of the weights
    squares: Tensor  # scalar: sum of the squared weights
    mean: Tensor  # [D]
    scatter: Tensor  # [D], or [D, D]: sum over rows of w (x - mean) (x - mean)^T


def empty(columns: int, *, covariance: bool, device: torch.device) -> Moments:
    """Of no rows at all."""
    shape = (columns, columns) if covariance else (columns,)
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return Moments(
        zero,
        zero.clone(),
        torch.zeros(columns, dtype=torch.float64, device=device),
        torch.zeros(shape, dtype=torch.float64, device=device),
    )


def of_rows(rows: Tensor, weights: Tensor | None, *, covariance: bool) -> Moments:
    """Of float [N, D] with N > 0, weights [N] or all 1.

    Each block is centred on its own mean before anything is squared: with mean m and deviation s the naive
    ``E x^2 - m^2`` loses ``2 log10(m / s)`` digits, the centred sum none. What rounding leaves of the block's mean is
    the mean of the centred rows, and is taken out again.
    """
    length = max(1, _BLOCK // rows.shape[1])
    blocks = [
        _of_block(
            rows[start : start + length],
            None if weights is None else weights[start : start + length],
            covariance=covariance,
        )
        for start in range(0, len(rows), length)
    ]
    return union(Moments(*(torch.stack(parts) for parts in zip(*blocks, strict=True))))


def union(parts: Moments) -> Moments:
    """Of the rows of all parts together, stacked along a first axis: Chan's formula for many parts at once."""
    weight = parts.weight.sum()
    share = parts.weight / weight.clamp_min(torch.finfo(torch.float64).tiny)
    # Differences from one of the means first: of parts with equal means the union has that mean to the last bit.
    offset = parts.mean - parts.mean[0]
    mean = share @ offset
    apart = offset - mean
    full = parts.scatter.ndim == 3
    between = apart.T @ (parts.weight[:, None] * apart) if full else parts.weight @ apart.square()
    return Moments(weight, parts.squares.sum(), parts.mean[0] + mean, parts.scatter.sum(0) + between)


def _of_block(block: Tensor, weights: Tensor | None, *, covariance: bool) -> Moments:
    columns = block.shape[1]
    if weights is None:
        total = torch.tensor(float(len(block)), dtype=torch.float64, device=block.device)
        squares, middle = total, block.mean(0)
    else:
        total, squares = weights.sum(dtype=torch.float64), weights.square().sum(dtype=torch.float64)
        middle = (weights @ block) / weights.sum().clamp_min(torch.finfo(block.dtype).tiny)
    centred = block - middle
    scaled = centred if weights is None else centred * weights[:, None]
    rest = scaled.sum(0).double() / total.clamp_min(torch.finfo(torch.float64).tiny)
    if covariance:
        scatter = (centred.T @ scaled).double() - total * rest[:, None] * rest
    elif columns == 1:
        scatter = torch.dot(centred[:, 0], scaled[:, 0]).double()[None] - total * rest.square()
    else:
        scatter = (centred * scaled).sum(0).double() - total * rest.square()
    return Moments(total, squares, middle.double() + rest, scatter)
