"""One quantile of a stream by Robbins and Monro's scheme, in constant memory, many streams side by side.

Shapes: N rows of a batch, ``*S`` the shape of one observation.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor

from visavis.errors import InputError, TensorError

__all__ = ["RunningQuantile"]

_LEAST_PILOT = 64
_TAIL = 16  # rows that the pilot has, on average, beyond the quantile
_BLOCK = 16  # a block is at most the 16th part of what came before


class RunningQuantile:
    """The q-quantile of rows that come in random order: ``x <- x - (share of the block at or below x - q) / (k f) n``.

    The root of ``P(X <= x) - q`` has as slope the density f there, and steps ``1 / (k f)`` are efficient: ``k Var``
    tends to ``q (1 - q) / f^2``, that of the sample quantile of all k rows. Three things make it so in practice:

    1. The first rows, 64 or as many as leave 16 beyond the quantile, are kept and give the start exactly.
    2. f is learnt on the way, from how many rows fall within a window of half-width ``w`` around x: the sum of those
       over the sum of ``2 w``. The window is to hold the share ``min(q, 1 - q) k^(-1/5)`` by the f known so far, so
       that it neither sees a cusp's flanks nor stays empty. An f wrong by the factor r costs ``r^2 / (2 r - 1)`` in
       variance, 1 % for a tenth.
    3. n rows at once move x by n steps; of a batch, blocks of at most k / 16 rows are taken in one after the other.

    Rows must come in random order: `Running` with ``quantiles=True`` takes any, and every quantile at once.

    Args:
        share: q in (0, 1).
        dim: the shape of one observation, as for `Running`.

    Raises:
        InputError: `share` or `dim` is out of range.

    Source: Robbins and Monro, Annals of Mathematical Statistics 22(3), 1951; Venter, Annals of Mathematical
    Statistics 38(1), 1967, for a slope learnt on the way. The pilot and the self-set window are ours.

    >>> x = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).exp()
    >>> median = RunningQuantile(0.5).update(x)
    >>> bool((median.value - 1).abs() < 0.03), bool(median.interval()[0] < 1 < median.interval()[1])
    (True, True)
    """

    def __init__(self, share: float, dim: int | tuple[int, ...] = ()) -> None:
        if not 0.0 < share < 1.0:
            raise InputError(f"share: expected a number in (0, 1), got {share}")
        self.share = share
        self.shape = (dim,) if isinstance(dim, int) else tuple(dim)
        if any(length < 1 for length in self.shape):
            raise InputError(f"dim: expected positive lengths, got {dim}")
        self.count = 0
        self._tail = min(share, 1 - share)
        self._pilot: Tensor | None = torch.zeros(0, *self.shape, dtype=torch.float64)  # None: its rows are used
        self._value = torch.zeros(self.shape, dtype=torch.float64)
        self._inside, self._width = torch.zeros_like(self._value), torch.zeros_like(self._value)

    @torch.no_grad()
    def update(self, batch: Tensor) -> Self:
        """Take float [N, *S] in; N may be 0.

        Raises:
            TensorError: another shape or dtype.
            InputError: a value that is not finite.
        """
        if not batch.is_floating_point() or batch.ndim == 0 or tuple(batch.shape[1:]) != self.shape:
            dtype = str(batch.dtype).removeprefix("torch.")
            wanted = ", ".join(["any", *map(str, self.shape)])
            raise TensorError(f"batch: expected float [{wanted}], got {dtype} {list(batch.shape)}")
        if not bool(batch.isfinite().all()):
            raise InputError("batch: expected finite numbers, got infinity or NaN")
        rows = batch.to(self._value)
        if self._pilot is not None:
            size = max(_LEAST_PILOT, math.ceil(_TAIL / self._tail))
            taken = rows[: size - len(self._pilot)]
            rows = rows[len(taken) :]
            self._pilot = torch.cat([self._pilot, taken])
            self.count = len(self._pilot)
            if self.count == size:
                self._start(self._pilot)
                self._pilot = None
        while len(rows):
            block = rows[: max(1, self.count // _BLOCK)]
            rows = rows[len(block) :]
            self._move(block)
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another saw: the mean of both, weighted by their rows; `other` stays as it is.

        Raises:
            InputError: it is of another share or shape.
        """
        if (self.share, self.shape) != (other.share, other.shape):
            raise InputError(
                f"other: expected share {self.share} and shape {list(self.shape)}, "
                f"got {other.share} and {list(other.shape)}"
            )
        if other._pilot is not None:
            return self.update(other._pilot)
        if self._pilot is not None:
            waiting = self._pilot
            self.load_state_dict(other.state_dict())
            return self.update(waiting)
        self._value = self._value + (other._value - self._value) * (other.count / (self.count + other.count))
        self._inside, self._width = self._inside + other._inside, self._width + other._width
        self.count += other.count
        return self

    @property
    def value(self) -> Tensor:
        """float64 [*S].

        Raises:
            InputError: nothing has been seen.
        """
        if self.count == 0:
            raise InputError("update: expected a row before anything is asked, got none")
        return self._value.clone() if self._pilot is None else torch.quantile(self._pilot, self.share, dim=0)

    @property
    def density(self) -> Tensor:
        """float64 [*S]: of the rows, at the quantile.

        Raises:
            InputError: fewer rows than the pilot needs have been seen.
        """
        if self._pilot is not None:
            needed = max(_LEAST_PILOT, math.ceil(_TAIL / self._tail))
            raise InputError(f"update: expected at least {needed} rows before the density is asked, got {self.count}")
        return self._inside / self._width

    def interval(self, confidence: float = 0.95) -> Tensor:
        """float64 [2, *S], the two ends: ``value +- z sqrt(q (1 - q) / k) / f``, for each entry by itself.

        Raises:
            InputError: `confidence` is outside (0, 1), or too few rows have been seen.
        """
        if not 0.0 < confidence < 1.0:
            raise InputError(f"confidence: expected a share in (0, 1), got {confidence}")
        z = math.sqrt(2) * float(torch.special.erfinv(torch.tensor(confidence, dtype=torch.float64)))
        half = z * math.sqrt(self.share * (1 - self.share) / self.count) / self.density if self.count else self.density
        return torch.stack([self.value - half, self.value + half])

    def state_dict(self) -> dict[str, Any]:
        """Everything; goes on to the bit when loaded."""
        return {
            "share": self.share,
            "count": self.count,
            "pilot": None if self._pilot is None else self._pilot.clone(),
            "value": self._value.clone(),
            "inside": self._inside.clone(),
            "width": self._width.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the object that `state` was taken of.

        Raises:
            InputError: it is of another share or shape.
        """
        shape = tuple(state["value"].shape)
        if (state["share"], shape) != (self.share, self.shape):
            raise InputError(
                f"state: expected share {self.share} and shape {list(self.shape)}, "
                f"got {state['share']} and {list(shape)}"
            )
        self.count = state["count"]
        self._pilot = None if state["pilot"] is None else state["pilot"].clone()
        self._value, self._inside, self._width = (state[name].clone() for name in ("value", "inside", "width"))

    def _start(self, rows: Tensor) -> None:
        """The pilot's own quantile, and the density from the rows on both sides that hold half the tail."""
        self._value = torch.quantile(rows, self.share, dim=0)
        spread = torch.quantile(rows, self.share + self._tail / 2, dim=0)
        spread = spread - torch.quantile(rows, self.share - self._tail / 2, dim=0)
        least = torch.finfo(torch.float64).eps * self._value.abs() + torch.finfo(torch.float64).tiny
        self._inside = torch.full_like(self._value, self._tail * len(rows))
        self._width = torch.maximum(spread, least) * len(rows)  # of ties alone: as good as no width

    def _move(self, block: Tensor) -> None:
        n, x = len(block), self._value
        self.count += n
        density = self._inside / self._width
        window = 0.5 * self._tail * self.count**-0.2 / density
        below = (block <= x).double().mean(0)
        self._value = x - (n / self.count) * (below - self.share) / density
        self._inside = self._inside + ((block - x).abs() <= window).sum(0)
        self._width = self._width + 2 * n * window
