"""Roots of functions that can only be observed with noise: Robbins and Monro's scheme, which finds its own step size.

Shapes: ``*S`` any shape of the unknown, T steps. A function rises through its root; one that falls is given as -f.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from visavis.blocks.approximation.intervals import random_scaling_quantile
from visavis.blocks.approximation.projections import Within, projection
from visavis.blocks.approximation.steps import Conditions, Steps, conditions
from visavis.errors import InputError, TensorError

__all__ = ["Root", "RootSearch", "Trace", "robbins_monro"]

_EXPONENT = 2 / 3
_SHRINK, _GROW = 0.1, 0.375  # of the logarithm of the step while its size is sought
_SETTLE, _SETTLED = 25, 100  # agreements of sign after which the size is read, and is done
_PATIENCE = 1000  # steps after which the size is taken as it is
_STATE = (
    *("value", "square", "agreement", "flips", "agreed", "read", "log_sum", "point_sum"),  # of the search for the size
    *("step", "k", "weight", "mean", "mean_y", "xx", "xy", "yy"),  # of the average and the regression
    *("origin", "path_0", "path_1", "path_2"),  # of random scaling
)
_WARM_UP = 10.0  # iterates; the k-th weighs k / (k + 10)


class Trace(NamedTuple):
    """Every step of a search."""

    points: Tensor  # [T, *S]: where the function was observed
    values: Tensor  # [T, *S]: what was seen there
    steps: Tensor  # [T, *S]: the factor of the value in the move that followed


class Root(NamedTuple):
    """A root, and how sure it is."""

    value: Tensor  # float64 [*S]
    interval: Tensor  # float64 [2, *S]: lower and upper end, each entry for itself
    confidence: float
    conditions: Conditions  # what the steps are known to meet
    trace: Trace


class RootSearch:
    """Robbins and Monro's scheme as an object that is asked where to look and told what was seen there.

    ``x <- x - a_k y`` with y the noisy value at x, entry by entry. With `steps` given, a_k is theirs. Without, the size
    is found in two stages, for each entry by itself and whatever the units of x and y:

    1. A search for the order of magnitude, about 2 % of 10^4 steps. In a linear function of slope b with steps a,
       successive values have correlation ``-a b / 2``, and far from the root they agree in sign. So the step grows
       while values agree (twice in a row, so that jumping to and fro over the root never looks like progress) and
       shrinks when they alternate: it settles where about 6 of 10 successive signs differ, which is ``a b`` near 1/2.
    2. ``a_k = 2 a k^(-2/3)`` and the average of the iterates, which needs the order of magnitude only (Polyak and
       Ruppert). The slope b of the values on the points comes with it, and the average is moved to where that line is
       zero, ``xbar - ybar / b``: by then the iterates lie near the root, and the way still to go is taken out. Where
       the slope is not 4 standard errors above zero, the average stands.

    Args:
        start: float [*S]; the search goes on in float64.
        steps: a_k for k = 1, 2, ...; None: found as above.
        scale: a distance in x that is neither tiny nor huge; the first move. Wrong by a factor of 100 it costs
            a few dozen steps.
        within: a pair (low, high), or a callable that projects onto the set that holds the root.

    Raises:
        TensorError: `start` is not float.
        InputError: `scale` is not positive, or `start` is not finite.

    Source: Robbins and Monro, Annals of Mathematical Statistics 22(3), 1951; Polyak and Juditsky, SIAM J. Control
    Optim. 30(4), 1992; Lai and Robbins, Annals of Statistics 7(6), 1979, for the regression; stage 1 is ours, after
    Kesten, Annals of Mathematical Statistics 29(1), 1958.
    """

    def __init__(
        self, start: Tensor, *, steps: Steps | None = None, scale: float = 1.0, within: Within | None = None
    ) -> None:
        if not start.is_floating_point():
            raise TensorError(f"start: expected float, got {str(start.dtype).removeprefix('torch.')}")
        if not bool(start.isfinite().all()):
            raise InputError("start: expected finite numbers, got infinity or NaN")
        if not 0.0 < scale < math.inf:
            raise InputError(f"scale: expected a positive distance, got {scale}")
        self._steps = steps
        self._scale = scale
        self._project = projection(within)
        self.count = 0
        point = self._project(start.detach().double())
        self._state = {name: torch.zeros_like(point) for name in _STATE}
        self._state["point"] = point
        self._state["log_step"] = torch.full_like(point, math.log(scale))
        self._state["seeking"] = torch.full_like(point, steps is None, dtype=torch.bool)

    @property
    def point(self) -> Tensor:
        """float64 [*S]: where the function is to be observed next."""
        return self._state["point"]

    def tell(self, value: Tensor) -> Tensor:
        """Take in what was seen at `point`, and move on.

        Returns:
            The factor of the value in the move, [*S].

        Raises:
            TensorError: the shape is not that of `start`.
            InputError: a value is not finite.
        """
        s = self._state
        point = s["point"]
        if value.shape != point.shape:
            raise TensorError(f"value: expected {list(point.shape)}, like the point, got {list(value.shape)}")
        y = value.detach().to(point)
        if not bool(y.isfinite().all()):
            raise InputError("value: expected finite numbers, got infinity or NaN; does the function hold there?")
        self.count += 1
        moving = ~s["seeking"]
        if bool(moving.any()):
            self._average(point, y, moving)
        seek = self._seek(point, y) if self._steps is None and not bool(moving.all()) else torch.zeros_like(y)
        if self._steps is None:
            step = torch.where(moving, s["step"] * s["k"].clamp_min(1.0) ** -_EXPONENT, seek)
        else:
            step = torch.full_like(y, self._steps(self.count))
        settled = moving ^ ~s["seeking"]  # from now on: start over from the mean of the places where it was read
        start = s["point_sum"] / s["read"].clamp_min(1.0)
        s["point"] = self._project(torch.where(settled & (s["read"] > 0), start, point - step * y))
        s["value"] = y
        return step

    @property
    def value(self) -> Tensor:
        """float64 [*S]: the root as far as is known."""
        s = self._state
        slope, error = self._slope()
        moved = s["mean"] - s["mean_y"] / slope
        spread = (s["xx"] / s["weight"].clamp_min(1.0)).sqrt()
        sure = (slope > 4 * error) & ((moved - s["mean"]).abs() <= 2 * spread) & (s["k"] >= 50)
        average = torch.where(s["weight"] > 0, s["mean"], s["point"])
        return self._project(torch.where(sure, moved, average) if self._steps is None else average)

    def interval(self, confidence: float = 0.95) -> Tensor:
        """float64 [2, *S]: the two ends, by random scaling; infinite before the search has settled.

        Each entry is covered with that confidence as the number of steps grows, whatever slope and noise; with a finite
        number it is covered a little less often.

        Raises:
            InputError: `confidence` is out of range.
        """
        s = self._state
        n = s["path_0"]
        away = s["mean"] - s["origin"]
        squares = s["path_2"] - 2 * away * s["path_1"] + away.square() * n * (n + 1) * (2 * n + 1) / 6
        half = random_scaling_quantile(confidence) * (squares.clamp_min(0.0) / n.clamp_min(1.0) ** 3).sqrt()
        half = torch.where(n >= 2, half, math.inf)
        return torch.stack([self.value - half, self.value + half])

    def state_dict(self) -> dict[str, Any]:
        """Everything but `steps`, `scale` and `within`; goes on to the bit when loaded."""
        return {"count": self.count, **{name: tensor.clone() for name, tensor in self._state.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the search that `state` was taken of.

        Raises:
            InputError: it is of another shape.
        """
        if state["point"].shape != self.point.shape:
            raise InputError(f"state: expected {list(self.point.shape)}, got {list(state['point'].shape)}")
        self.count = state["count"]
        self._state = {name: state[name].to(tensor) for name, tensor in self._state.items()}

    def _seek(self, point: Tensor, y: Tensor) -> Tensor:
        """Stage 1: the steps of the entries that still look for their size."""
        s = self._state
        s["square"] = s["square"] + (y.square() - s["square"]) / min(self.count, 50)
        if self.count == 1:
            s["log_step"] = s["log_step"] - y.abs().clamp_min(1e-30).log()
        agreement = torch.where(s["square"] > 0, (y * s["value"] / s["square"]).clamp(-1.0, 1.0), 0.0)
        twice = (agreement > 0) & (s["agreement"] > 0)
        s["flips"] += agreement < 0
        s["agreed"] += (agreement > 0) & (s["flips"] > 0)
        rate = (1 + s["agreed"] / 40).rsqrt()
        change = rate * torch.where(twice, _GROW * agreement, _SHRINK * agreement.clamp_max(0.0))
        change = torch.where(s["flips"] == 0, math.log(2.0) * (agreement > 0), change)
        seeking = s["seeking"]
        s["log_step"] = torch.where(seeking, s["log_step"] + change, s["log_step"])
        s["agreement"] = agreement
        read = seeking & ((s["agreed"] >= _SETTLE) | (self.count >= _PATIENCE))
        s["read"] += read
        s["log_sum"] += torch.where(read, s["log_step"], 0.0)
        s["point_sum"] += torch.where(read, point, 0.0)
        settled = seeking & ((s["agreed"] >= _SETTLED) | (self.count >= _PATIENCE))
        s["step"] = torch.where(settled, 2 * (s["log_sum"] / s["read"].clamp_min(1.0)).exp(), s["step"])
        s["seeking"] = seeking & ~settled
        return s["log_step"].exp()

    def _average(self, point: Tensor, y: Tensor, moving: Tensor) -> None:
        """Stage 2: means, the sums of the regression, and those of random scaling."""
        s = self._state
        first = moving & (s["k"] == 0)
        s["k"] += moving
        k = s["k"]
        weight = moving * k / (k + _WARM_UP)
        s["weight"] += weight
        share = torch.where(s["weight"] > 0, weight / s["weight"].clamp_min(1e-300), 0.0)
        dx, dy = point - s["mean"], y - s["mean_y"]
        s["mean"] = s["mean"] + share * dx
        s["mean_y"] = s["mean_y"] + share * dy
        s["xx"] += weight * dx * (point - s["mean"])
        s["xy"] += weight * dx * (y - s["mean_y"])
        s["yy"] += weight * dy * (y - s["mean_y"])
        s["origin"] = torch.where(first, point, s["origin"])
        away = s["mean"] - s["origin"]
        s["path_0"] += moving
        s["path_1"] += moving * k.square() * away
        s["path_2"] += moving * k.square() * away.square()

    def _slope(self) -> tuple[Tensor, Tensor]:
        """Least squares' slope of the values on the points, and its standard error."""
        s = self._state
        tiny = torch.finfo(torch.float64).tiny
        slope = s["xy"] / s["xx"].clamp_min(tiny)
        rest = (s["yy"] - slope * s["xy"]).clamp_min(0.0) / (s["k"] - 2).clamp_min(1.0)
        slope = torch.where(slope == 0, math.inf, slope)
        return slope, (rest / s["xx"].clamp_min(tiny)).sqrt()


def robbins_monro(
    f: Callable[[Tensor], Tensor],
    x0: Tensor | float,
    *,
    steps: int = 10_000,
    schedule: Steps | None = None,
    scale: float = 1.0,
    within: Within | None = None,
    confidence: float = 0.95,
) -> Root:
    """The root of a function seen with noise of mean zero, from `steps` looks at it.

    f is to rise through its root in every entry. For entries that depend on each other it is enough that f is the
    gradient of something convex. Several roots of one kind are found in one call, side by side. The step size is found,
    unless `schedule` gives it: then the conditions of convergence are in `conditions`, and the value is the plain
    average of the iterates. See `RootSearch` for how.

    Args:
        f: from float64 [*S] to a noisy value, [*S].
        x0: where to start; a number stands for shape [].
        steps: how often f is called; at least 1.
        schedule: the step of n = 1, 2, ..., such as `Power(1.0, exponent=2 / 3)`.
        scale: the first move, in units of x.
        within: (low, high), or a projection.
        confidence: of `interval`, for each entry by itself.

    Returns:
        A `Root`: value, interval, trace.

    Raises:
        TensorError: f returns another shape.
        InputError: f returns something that is not finite, or an option is out of range.

    Source: as `RootSearch`.

    >>> draw = torch.Generator().manual_seed(0)
    >>> def above(x):  # one observation at a time: is it below x? Its mean is P(X < x) - 1/2, whose root is the median
    ...     return (torch.randn(x.shape, generator=draw) + 3 < x).double() - 0.5
    >>> root = robbins_monro(above, 0.0)
    >>> bool(root.interval[0] < 3 < root.interval[1]), bool((root.value - 3).abs() < 0.05)
    (True, True)
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    start = torch.as_tensor(x0, dtype=torch.float64) if isinstance(x0, int | float) else x0
    search = RootSearch(start, steps=schedule, scale=scale, within=within)
    points, values, sizes = [], [], []
    for _ in range(steps):
        points.append(search.point)
        value = f(search.point)
        sizes.append(search.tell(value))
        values.append(value.detach().to(search.point))
    own = Conditions(True, True, f"steps fall as n^-{_EXPONENT:.2f} once their size is found")
    return Root(
        search.value,
        search.interval(confidence),
        confidence,
        own if schedule is None else conditions(schedule),
        Trace(torch.stack(points), torch.stack(values), torch.stack(sizes)),
    )
