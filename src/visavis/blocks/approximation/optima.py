"""Minima of functions that can only be observed with noise: Kiefer-Wolfowitz and SPSA, which find their own gains.

Shapes: ``*S`` any shape of the unknown, d its number of entries, K iterations.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from visavis.blocks.approximation.means import update_mean
from visavis.blocks.approximation.projections import Within, projection
from visavis.errors import InputError

__all__ = ["Optimum", "kiefer_wolfowitz", "spsa"]

_REPEATS = 8  # looks at the start, for the noise
_DIRECTIONS = 4  # a curvature is the mean over as many
_FALL, _NARROW = 2 / 3, 0.101  # exponents of the gain and of the distance
_CLEAR = 16.0  # deviations of the noise that make a curvature clear
_DOUBLINGS = 12
_LEAST_LOOKS = 60  # an entry, for Kiefer-Wolfowitz: what its distance may cost, and as much to move by


class Optimum(NamedTuple):
    """Where a minimum is, and how it was found."""

    value: Tensor  # float64 [*S]
    points: Tensor  # float64 [K, *S]
    evaluations: int
    radius: Tensor  # float64, broadcasts with `value`: how far on both sides the function was looked at


def spsa(
    f: Callable[[Tensor], Tensor],
    x0: Tensor,
    *,
    evaluations: int = 2000,
    radius: float = 1.0,
    within: Within | None = None,
    generator: torch.Generator | None = None,
) -> Optimum:
    """Simultaneous perturbation: two looks at f an iteration, whatever the number of entries; no gains to choose.

    Along a random direction D of signs, f is looked at on both sides, ``y+- = f(x +- c D)``. With slope
    ``s = (y+ - y-) / 2c`` and curvature ``h = D^T H D``, whose mean is the trace of H, the move ``-(s / h) D`` goes to
    the bottom of the parabola in that direction, and is the largest that is safe for every H of that trace. So the gain
    is ``1 / h``, in whatever units x and f are. It stays for the first tenth of the iterations, then falls with
    exponent 2/3, and the iterates after the first quarter are averaged (Polyak and Ruppert).

    c is the smallest ``radius * 2^j`` at which the second difference stands 16 deviations of the noise above zero: on a
    parabola every c is unbiased and a larger one less noisy. It falls with exponent .101 as in Spall's practice. Noise
    and h come from a few dozen looks at the start, which count as evaluations. Where the curvature is far less at the
    minimum than at the start, the gain is too small: start again from what was found.

    Args:
        f: from float64 [*S] to a scalar with noise of mean zero.
        x0: float [*S], where to start.
        evaluations: calls of f in all; at least 300.
        radius: a distance over which f changes; off by a factor of 1000 it costs some looks.
        within: (low, high), or a projection, for the iterates; f is looked at up to c outside.
        generator: of the signs.

    Raises:
        InputError: `evaluations` or `radius` out of range, or f returns something that is not a finite scalar.

    Source: Spall, IEEE Trans. Automatic Control 37(3), 1992; the choice of gains is ours.

    >>> draw = torch.Generator().manual_seed(0)
    >>> noisy = lambda x: (x - 3).square().sum() + torch.randn((), generator=draw)
    >>> bool((spsa(noisy, torch.zeros(5), generator=draw).value - 3).abs().max() < 0.2)
    True
    """
    if evaluations < 300:
        raise InputError(f"evaluations: expected at least 300, got {evaluations}")
    looks = _Looks(f, x0, radius=radius, within=within)
    x = looks.start

    def signs() -> Tensor:
        return torch.randint(2, x.shape, generator=generator, device=x.device).double() * 2 - 1

    def second(c: float) -> float:
        return sum(looks.second(x, c * signs()) for _ in range(_DIRECTIONS)) / _DIRECTIONS

    c, gain = looks.distance(second, looks.noise * math.sqrt(2 / _DIRECTIONS + 4 / _REPEATS))

    iterations = (evaluations - looks.used) // 2
    early = iterations / 10
    points, mean = [], x
    for k in range(1, iterations + 1):
        direction = signs()
        distance = c * (1 + k / early) ** -_NARROW
        slope = looks.slope(x, distance * direction) / distance
        x = looks.project(x - gain * (1 + k / early) ** -_FALL * slope * direction)
        points.append(x)
        mean = update_mean(mean, x, 1 / max(1, k - iterations // 4))
    return Optimum(mean, torch.stack(points), looks.used, torch.tensor(c, dtype=torch.float64))


def kiefer_wolfowitz(
    f: Callable[[Tensor], Tensor],
    x0: Tensor,
    *,
    evaluations: int = 2000,
    radius: float = 1.0,
    within: Within | None = None,
) -> Optimum:
    """Finite differences, one entry after the other: two looks at f on both sides along an entry, then a move of it.

    ``x_i <- x_i - a_k (f(x + c_k e_i) - f(x - c_k e_i)) / 2 c_k``. Kiefer and Wolfowitz had one unknown and Blum moved
    all of d at once, after 2 d looks; one after the other each gain may be one over the curvature of its own entry,
    ``1 / h_i``, safe for every convex f (it is a Gauss-Seidel sweep), and units may differ from entry to entry.
    c_i and h_i are found at the start as in `spsa`, for each entry, and so do gains, distances and the average fall.

    `spsa` needs two looks for a move of all entries at once, along a random direction; on a round parabola a sweep of
    2 d looks does what d of its moves do. Entries of very different curvature or units are this one's.

    Args:
        f: from float64 [*S] to a scalar with noise of mean zero.
        x0: float [*S], where to start.
        evaluations: calls of f in all; at least 60 an entry.
        radius: a distance over which f changes; off by a factor of 1000 it costs some looks.
        within: (low, high), or a projection, for the iterates; f is looked at up to c outside.

    Raises:
        InputError: `evaluations` or `radius` out of range, or f returns something that is not a finite scalar.

    Source: Kiefer and Wolfowitz, Annals of Mathematical Statistics 23(3), 1952; Blum, 25(4), 1954, for vectors.

    >>> draw = torch.Generator().manual_seed(0)
    >>> noisy = lambda x: (x - 3).square().sum() + torch.randn((), generator=draw)
    >>> bool((kiefer_wolfowitz(noisy, torch.zeros(2)).value - 3).abs().max() < 0.2)
    True
    """
    least = _LEAST_LOOKS * x0.numel()
    if evaluations < least:
        raise InputError(f"evaluations: expected at least {least}, {_LEAST_LOOKS} an entry, got {evaluations}")
    looks = _Looks(f, x0, radius=radius, within=within)
    x = looks.start
    units = torch.eye(x.numel(), dtype=x.dtype, device=x.device).view(-1, *x.shape)
    noise = looks.noise * math.sqrt(2 + 4 / _REPEATS)
    start = x
    found = []
    for unit in units:

        def second(c: float, unit: Tensor = unit) -> float:
            return looks.second(start, c * unit)

        found.append(looks.distance(second, noise))

    sweeps = (evaluations - looks.used) // (2 * len(units))
    early = sweeps / 10
    points, mean = [], x
    for k in range(1, sweeps + 1):
        for unit, (c, gain) in zip(units, found, strict=True):
            distance = c * (1 + k / early) ** -_NARROW
            slope = looks.slope(x, distance * unit) / distance
            x = looks.project(x - gain * (1 + k / early) ** -_FALL * slope * unit)
        points.append(x)
        mean = update_mean(mean, x, 1 / max(1, k - sweeps // 4))
    distances = torch.tensor([c for c, _ in found], dtype=torch.float64, device=x.device).view(x.shape)
    return Optimum(mean, torch.stack(points), looks.used, distances)


class _Looks:
    """A function, its noise where the search starts, and how far from there its curvature is clear."""

    def __init__(self, f: Callable[[Tensor], Tensor], x0: Tensor, *, radius: float, within: Within | None) -> None:
        if not 0.0 < radius < math.inf:
            raise InputError(f"radius: expected a positive distance, got {radius}")
        self.f = f
        self.radius = radius
        self.project = projection(within)
        self.start = self.project(x0.detach().double())
        self.used = 0
        first = [self.look(self.start) for _ in range(_REPEATS)]
        self.level = sum(first) / _REPEATS
        self.noise = math.sqrt(sum((y - self.level) ** 2 for y in first) / (_REPEATS - 1))

    def look(self, point: Tensor) -> float:
        self.used += 1
        seen = float(self.f(point))
        if not math.isfinite(seen):
            raise InputError(f"f: expected a finite scalar, got {seen}")
        return seen

    def slope(self, x: Tensor, move: Tensor) -> float:
        """Half the central difference along `move`."""
        return (self.look(x + move) - self.look(x - move)) / 2

    def second(self, x: Tensor, move: Tensor) -> float:
        """The second difference along `move`, with the level in common."""
        return self.look(x + move) + self.look(x - move) - 2 * self.level

    def distance(self, second: Callable[[float], float], noise: float) -> tuple[float, float]:
        """The smallest ``radius * 2^j`` at which the second difference is clear, and ``c^2`` over that difference."""
        c, bend = self.radius, abs(second(self.radius))
        clear = bend > _CLEAR * noise
        for _ in range(_DOUBLINGS if noise > 0 else 0):
            other = c / 2 if clear else c * 2
            bent = abs(second(other))
            if clear and bent <= _CLEAR * noise:
                break
            c, bend = other, bent
            if not clear and bent > _CLEAR * noise:
                break
        return c, c**2 / max(bend, 1e-300)
