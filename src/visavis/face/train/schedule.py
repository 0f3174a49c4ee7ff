"""Learning rates over a run, as shares of the highest one: functions from the share of the run done to that share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from visavis.errors import InputError

__all__ = ["Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rise from near 0, evenly, then a fall.

    The share of the highest rate, with u the share of the fall that is done:

    - cosine: ``(1 + cos(pi u)) / 2``;
    - polynomial: ``(1 - u) ** power``;
    - step: ``factor ** k`` after k of the `milestones`.

    Source: Loshchilov and Hutter, SGDR, arXiv:1608.03983 (cosine); Goyal et al., arXiv:1706.02677, section 2.2 (the
    rise).

    >>> [round(Schedule(warmup=0.5)(step, steps=4), 3) for step in range(4)]
    [0.333, 0.667, 1.0, 0.5]
    """

    kind: Literal["cosine", "polynomial", "step"] = "cosine"
    warmup: float = 0.05  # share of the run, in [0, 1)
    power: float = 2.0  # of the polynomial
    milestones: Sequence[float] = (0.5, 0.75, 0.9)  # of the steps, rising shares of the run
    factor: float = 0.1  # at each milestone

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup < 1.0:  # NaN fails too
            raise InputError(f"warmup: expected a share of the run in [0, 1), got {self.warmup}")
        if not (0.0 < self.power < math.inf and 0.0 < self.factor < 1.0):
            raise InputError(f"power, factor: expected > 0 and in (0, 1), got {self.power} and {self.factor}")
        if not all(low < high for low, high in pairwise((0.0, *self.milestones, 1.0))):
            raise InputError(f"milestones: expected rising shares of the run in (0, 1), got {list(self.milestones)}")
        if self.kind not in ("cosine", "polynomial", "step"):
            raise InputError(f"kind: expected cosine, polynomial or step, got {self.kind!r}")

    def __call__(self, step: int, *, steps: int) -> float:
        """The share of the highest rate for step 0, 1, ... of `steps`, in (0, 1]."""
        rise = round(self.warmup * steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        fallen = (step - rise) / (steps - rise)
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * fallen)) / 2
        if self.kind == "polynomial":
            return float((1 - fallen) ** self.power)
        return float(self.factor ** sum(step >= milestone * steps for milestone in self.milestones))
