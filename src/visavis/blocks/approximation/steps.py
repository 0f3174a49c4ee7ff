"""Step sizes a_n, n = 1, 2, ..., that know whether they meet Robbins and Monro's two conditions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from visavis.errors import InputError

__all__ = ["Conditions", "Constant", "Geometric", "Power", "Steps", "conditions"]


class Conditions(NamedTuple):
    """What is known of a sequence of steps; None: a finite look cannot tell."""

    sum_diverges: bool | None  # sum a_n = inf: any distance can be travelled
    squares_converge: bool | None  # sum a_n^2 < inf: the noise let in is finite, so that it averages out
    reason: str

    @property
    def converges(self) -> bool | None:
        """Whether both hold; then Robbins-Monro converges with probability 1 where the function allows it."""
        both = (self.sum_diverges, self.squares_converge)
        return False if False in both else None if None in both else True


class Steps(Protocol):
    """A callable from n = 1, 2, ... to the n-th step; one with a method `conditions` knows what it meets."""

    def __call__(self, n: int, /) -> float: ...


@dataclass(frozen=True)
class Power:
    """``scale / (n + offset) ** exponent``. Both conditions hold for exponents above 1/2 and at most 1.

    With exponent 1 the last iterate is efficient if `scale` is one over the function's slope, and arbitrarily slow if
    it is less than half of that; with an exponent between 1/2 and 1 the average of the iterates is efficient for every
    scale (Polyak and Ruppert), which is what `robbins_monro` returns.

    >>> Power(1.0)(4), Power(1.0, exponent=0.5).conditions().converges
    (0.25, False)
    """

    scale: float
    exponent: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.scale < math.inf and 0.0 <= self.exponent < math.inf and 0.0 <= self.offset < math.inf):
            raise InputError(
                "scale, exponent, offset: expected a positive scale and numbers that are not negative, "
                f"got {self.scale}, {self.exponent} and {self.offset}"
            )

    def __call__(self, n: int) -> float:
        """The n-th step."""
        return float(self.scale / (n + self.offset) ** self.exponent)

    def conditions(self) -> Conditions:
        """By comparison with the integral of ``x ** -exponent``."""
        p = self.exponent
        far, quiet = p <= 1.0, p > 0.5
        first, second = "diverges" if far else "converges", "converges" if quiet else "diverges"
        why = f"sum n^-{p:g} {first}, sum n^-{2 * p:g} {second}"
        return Conditions(far, quiet, why)


@dataclass(frozen=True)
class Constant:
    """The same step for ever: follows what moves, and keeps a noise whose variance is proportional to it."""

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < math.inf:
            raise InputError(f"rate: expected a positive number, got {self.rate}")

    def __call__(self, n: int) -> float:  # noqa: ARG002
        """The n-th step."""
        return self.rate

    def conditions(self) -> Conditions:
        """The squares of equal steps sum to infinity."""
        return Conditions(True, False, "equal steps: the noise they let in never averages out")


@dataclass(frozen=True)
class Geometric:
    """``scale * ratio ** (n - 1)``: the steps sum to ``scale / (1 - ratio)``, and nothing farther is ever reached."""

    scale: float
    ratio: float

    def __post_init__(self) -> None:
        if not (0.0 < self.scale < math.inf and 0.0 < self.ratio < 1.0):
            raise InputError(
                f"scale, ratio: expected a positive number and one in (0, 1), got {self.scale} and {self.ratio}"
            )

    def __call__(self, n: int) -> float:
        """The n-th step."""
        return float(self.scale * self.ratio ** (n - 1))

    def conditions(self) -> Conditions:
        """Both sums converge."""
        return Conditions(
            False, True, f"the steps sum to {self.scale / (1 - self.ratio):g}: a root beyond is not reached"
        )


def conditions(steps: Steps | Callable[[int], float]) -> Conditions:
    """Which of Robbins and Monro's conditions a sequence of steps meets: its own word, or that nobody can know.

    >>> conditions(Constant(0.1)).squares_converge
    False
    >>> conditions(lambda n: 1 / n).converges is None
    True
    """
    own = getattr(steps, "conditions", None)
    if own is None:
        return Conditions(None, None, "a callable: no finite number of its values tells what its sums do")
    found: Conditions = own()
    return found
