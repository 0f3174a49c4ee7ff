"""Minima of functions that can only be observed with noise: SPSA, which finds its own gains.

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

__all__ = ["Optimum", "spsa"]

_REPEATS = 8  # looks at the start, for the noise
_DIRECTIONS = 4  # a curvature is the mean over as many
_CLEAR = 16.0  # deviations of the noise that make a curvature clear
_DOUBLINGS = 12


class Optimum(NamedTuple):
    """Where a minimum is, and how it was found."""

    value: Tensor  # float64 [*S]
    points: Tensor  # float64 [K, *S]
    evaluations: int
    radius: float  # the distance at which the function was looked at, in each entry


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
    and h come from a few dozen looks at the start, which count as evaluations.

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
    if not 0.0 < radius < math.inf:
        raise InputError(f"radius: expected a positive distance, got {radius}")
    project = projection(within)
    x = project(x0.detach().double())
    used = 0

    def look(point: Tensor) -> float:
        nonlocal used
        used += 1
        seen = float(f(point))
        if not math.isfinite(seen):
            raise InputError(f"f: expected a finite scalar, got {seen}")
        return seen

    def signs() -> Tensor:
        return torch.randint(2, x.shape, generator=generator, device=x.device).double() * 2 - 1

    first = [look(x) for _ in range(_REPEATS)]
    level = sum(first) / _REPEATS
    noise = math.sqrt(sum((y - level) ** 2 for y in first) / (_REPEATS - 1))
    bar = _CLEAR * noise * math.sqrt(2 / _DIRECTIONS + 4 / _REPEATS)  # a mean of second differences, level in common

    def second(c: float) -> float:
        found = 0.0
        for _ in range(_DIRECTIONS):
            move = c * signs()
            found += (look(x + move) + look(x - move) - 2 * level) / _DIRECTIONS
        return abs(found)

    c, bend = radius, second(radius)
    clear = bend > bar
    for _ in range(_DOUBLINGS if noise > 0 else 0):
        other = c / 2 if clear else c * 2
        bent = second(other)
        if clear and bent <= bar:
            break
        c, bend = other, bent
        if not clear and bent > bar:
            break
    gain = c**2 / max(bend, 1e-300)

    iterations = (evaluations - used) // 2
    early = iterations / 10
    points, mean = [], x
    for k in range(1, iterations + 1):
        direction = signs()
        distance = c * (1 + k / early) ** -0.101
        slope = (look(x + distance * direction) - look(x - distance * direction)) / (2 * distance)
        x = project(x - gain * (1 + k / early) ** (-2 / 3) * slope * direction)
        points.append(x)
        mean = update_mean(mean, x, 1 / max(1, k - iterations // 4))
    return Optimum(mean, torch.stack(points), used, c)
