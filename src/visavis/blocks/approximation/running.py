"""Statistics of a stream in one object: mean, variance, covariance, quantiles; weighted, forgetting, mergeable.

Shapes: N rows of a batch, ``*S`` the shape of one observation, D its number of entries.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor

from visavis.blocks.approximation import _moments
from visavis.blocks.approximation._sketch import Sketch
from visavis.errors import InputError, TensorError

__all__ = ["Running"]


class Running:
    """Mean, variance and, when asked for, covariance and quantiles of rows that come batch by batch.

    The n-th row moves the mean by ``w_n / W_n`` of its distance, ``W_n`` the sum of weights so far: Robbins and
    Monro's scheme with f(m) = x - m and steps 1/n. Batches are summed first and then united by Chan's formula, so that
    order and batch size change the result by rounding only, and two objects that saw two parts of a stream merge into
    the one that saw it whole. Sums are kept in float64 and centred before they are squared: rows of float32 around
    10^4 with deviation 1 lose nothing.

    `half_life` makes it an exponential average: a row counts one half of the row `half_life` later. That is a
    weighted mean whose weights happen to be a geometric series, so it needs no correction of a start at 0 (the bias
    correction of Adam is exactly the division by the sum of weights), and has a variance and quantiles as well. Merging
    then means that the other's rows came after ours.

    Quantiles come from a summary of fixed size that keeps ranks, not values. They are exact below 2048 rows; beyond,
    the error in rank has a deviation of at most .3 % of the rows, for every order of the stream, sorted ones included.
    For one quantile in constant memory, of a stream in random order, see `RunningQuantile`.

    Args:
        dim: the shape of one observation: a length, a tuple, or () for scalars.
        covariance: keep all products, [D, D], rather than D squares.
        quantiles: keep the summary for `quantile` and `cdf`.
        half_life: in rows; None forgets nothing.
        seed: of the draws of the summary.
        device: of what is kept; batches must be there.

    Raises:
        InputError: `dim` or `half_life` is not positive.

    Source: Welford, Technometrics 4(3), 1962; Chan, Golub and LeVeque, COMPSTAT 1982, for the union; see
    `_sketch.py` for the quantiles.

    >>> stats = Running(dim=2).update(torch.tensor([[1.0, 10.0], [3.0, 10.0]]))
    >>> stats.merge(Running(dim=2).update(torch.tensor([[8.0, 10.0]]))).mean
    tensor([ 4., 10.], dtype=torch.float64)
    >>> stats.variance()
    tensor([13.,  0.], dtype=torch.float64)
    """

    def __init__(
        self,
        dim: int | tuple[int, ...] = (),
        *,
        covariance: bool = False,
        quantiles: bool = False,
        half_life: float | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape = (dim,) if isinstance(dim, int) else tuple(dim)
        if any(length < 1 for length in self.shape):
            raise InputError(f"dim: expected positive lengths, got {dim}")
        if half_life is not None and not 0.0 < half_life < math.inf:
            raise InputError(f"half_life: expected a positive number of rows, got {half_life}")
        self.half_life = half_life
        self.count = 0
        self._columns = math.prod(self.shape)
        self._moments = _moments.empty(self._columns, covariance=covariance, device=torch.device(device))
        generator = torch.Generator(device).manual_seed(seed)
        self._sketch = Sketch(self._columns, generator=generator) if quantiles else None

    @torch.no_grad()
    def update(self, batch: Tensor, weights: Tensor | None = None) -> Self:
        """Take rows in.

        Args:
            batch: float [N, *S]; N may be 0.
            weights: [N], finite and not negative; how much a row counts (importance, not repetition: see `variance`).

        Returns:
            Itself.

        Raises:
            TensorError: a shape or dtype other than these.
            InputError: a value or weight that is not finite, or a negative weight.
        """
        if not batch.is_floating_point() or batch.ndim == 0 or tuple(batch.shape[1:]) != self.shape:
            dtype = str(batch.dtype).removeprefix("torch.")
            wanted = ", ".join(["any", *map(str, self.shape)])
            raise TensorError(f"batch: expected float [{wanted}], got {dtype} {list(batch.shape)}")
        if weights is not None:
            if weights.shape != batch.shape[:1]:
                raise TensorError(f"weights: expected [{len(batch)}], one a row, got {list(weights.shape)}")
            if not bool((weights >= 0).all()) or not bool(weights.isfinite().all()):
                raise InputError("weights: expected finite numbers that are not negative, got others")
        if len(batch) == 0:
            return self
        rows = batch.reshape(len(batch), -1)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        covariance = self._moments.scatter.ndim == 2
        scale = 1.0
        if self.half_life is not None:
            scale = 2.0 ** (-len(rows) / self.half_life)
            ages = torch.arange(len(rows) - 1, -1, -1, dtype=torch.float64, device=rows.device)
            recency = (-ages / self.half_life).exp2()
            weights = recency if weights is None else recency * weights
        new = _moments.of_rows(rows, None if weights is None else weights.to(rows.dtype), covariance=covariance)
        if not bool(new.mean.isfinite().all()):
            raise InputError("batch: expected finite numbers, got infinity or NaN; did the training diverge?")
        self._join(new, scale)
        self.count += len(rows)
        if self._sketch is not None:
            self._sketch.fade(scale)
            self._sketch.add(rows, weights, size=self.effective_count)
        return self

    @torch.no_grad()
    def merge(self, other: Self) -> Self:
        """Take in what another object saw; with a half-life, after what this one saw. `other` stays as it is.

        Raises:
            InputError: the two are of different shapes or options.
        """
        mine, theirs = self._options(), other._options()
        if mine != theirs:
            raise InputError(f"other: expected the options {mine}, got {theirs}")
        scale = 1.0 if self.half_life is None else 2.0 ** (-other.count / self.half_life)
        self._join(other._moments, scale)
        self.count += other.count
        if self._sketch is not None and other._sketch is not None:
            self._sketch.fade(scale)
            self._sketch.merge(other._sketch)
        return self

    @property
    def weight(self) -> float:
        """The sum of the weights; the number of rows when all weigh 1."""
        return float(self._moments.weight)

    @property
    def effective_count(self) -> float:
        """Kish's effective number of rows, ``(sum w)^2 / sum w^2``: as many of equal weight tell the mean as well."""
        squares = float(self._moments.squares)
        return self.weight**2 / squares if squares else 0.0

    @property
    def mean(self) -> Tensor:
        """float64 [*S].

        Raises:
            InputError: nothing has been seen.
        """
        self._expect_rows()
        return self._moments.mean.view(self.shape).clone()

    def variance(self, *, correction: float = 1.0) -> Tensor:
        """float64 [*S]: ``sum w (x - mean)^2 / (W - correction * sum w^2 / W)``.

        With weights 1 that is the usual n - 1; with other weights it is unbiased when they say how precise a row is.
        `correction=0` is the variance of the rows themselves.

        Raises:
            InputError: too little has been seen to divide by.
        """
        scatter = self._moments.scatter
        diagonal = scatter.diagonal() if scatter.ndim == 2 else scatter
        return (diagonal / self._divisor(correction)).view(self.shape)

    def covariance(self, *, correction: float = 1.0) -> Tensor:
        """float64 [D, D], symmetric; divisor as in `variance`.

        Raises:
            InputError: it is not kept, or too little has been seen.
        """
        if self._moments.scatter.ndim != 2:
            raise InputError("covariance: expected an object made with covariance=True, got one without")
        scatter = self._moments.scatter
        return (scatter + scatter.T) / (2 * self._divisor(correction))

    def quantile(self, share: float) -> Tensor:
        """[*S] values of the stream: the smallest with at least `share` of the weight at or below it.

        Raises:
            InputError: `share` is outside [0, 1], quantiles are not kept, or nothing has been seen.
        """
        if not 0.0 <= share <= 1.0:
            raise InputError(f"share: expected a number in [0, 1], got {share}")
        ordered, sums = self._ordered()
        # Sums of weights are rounded: a share that is reached but for rounding counts as reached.
        place = torch.searchsorted(sums, torch.full_like(sums[:, :1], share * (1 - 1e-12)))
        return ordered.gather(1, place.clamp_max(ordered.shape[1] - 1)).view(self.shape)

    def cdf(self, value: Tensor | float) -> Tensor:
        """float64 [*S]: the share of the weight at or below `value`, which is a number or has shape [*S].

        Raises:
            InputError: quantiles are not kept, or nothing has been seen.
        """
        ordered, sums = self._ordered()
        asked = torch.as_tensor(value, dtype=ordered.dtype, device=ordered.device).expand(self.shape).reshape(-1, 1)
        place = torch.searchsorted(ordered, asked.contiguous(), right=True)
        return torch.cat([torch.zeros_like(sums[:, :1]), sums], 1).gather(1, place).view(self.shape)

    def state_dict(self) -> dict[str, Any]:
        """Everything, in tensors, numbers and lists of them; `torch.save` takes it. Goes on to the bit when loaded."""
        return {
            "options": self._options(),
            "count": self.count,
            "moments": {name: part.clone() for name, part in self._moments._asdict().items()},
            "sketch": None if self._sketch is None else self._sketch.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the object that `state` was taken of.

        Raises:
            InputError: that one is of other options.
        """
        if state["options"] != self._options():
            raise InputError(f"state: expected the options {self._options()}, got {state['options']}")
        self.count = state["count"]
        device = self._moments.mean.device
        self._moments = _moments.Moments(**{name: part.to(device) for name, part in state["moments"].items()})
        if self._sketch is not None:
            self._sketch.load(state["sketch"])

    def _options(self) -> dict[str, Any]:
        return {
            "dim": list(self.shape),
            "covariance": self._moments.scatter.ndim == 2,
            "quantiles": self._sketch is not None,
            "half_life": self.half_life,
        }

    def _join(self, new: _moments.Moments, scale: float) -> None:
        old = self._moments
        old = _moments.Moments(old.weight * scale, old.squares * scale**2, old.mean, old.scatter * scale)
        pair = (new, old) if self.count == 0 else (old, new)  # the union counts from the first one's mean
        self._moments = _moments.union(_moments.Moments(*(torch.stack(both) for both in zip(*pair, strict=True))))

    def _expect_rows(self) -> None:
        if self.weight <= 0.0:
            raise InputError("update: expected a row with a positive weight before anything is asked, got none")

    def _divisor(self, correction: float) -> float:
        self._expect_rows()
        divisor = self.weight - correction * float(self._moments.squares) / self.weight
        if not divisor > 1e-12 * self.weight:
            raise InputError(
                f"correction: expected more rows than are taken off, got {self.effective_count:.3g} rows "
                f"and a correction of {correction}"
            )
        return divisor

    def _ordered(self) -> tuple[Tensor, Tensor]:
        if self._sketch is None:
            raise InputError("quantiles: expected an object made with quantiles=True, got one without")
        self._expect_rows()
        return self._sketch.sorted()
