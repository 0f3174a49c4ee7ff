"""Temperatures that fall while one trains: from little variance to little bias."""

import math

from visavis.errors import InputError

__all__ = ["exponential_annealing", "linear_annealing"]


def exponential_annealing(step: int, *, start: float = 1.0, end: float = 0.1, steps: int) -> float:
    """``start (end / start)^(step / steps)``, and `end` from then on: the same share less at every step.

    Raises:
        InputError: a temperature that is not positive, fewer than one step, or a step below 0.

    Source: Jang et al., Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144, who fix the rate instead.

    >>> [exponential_annealing(step, start=1.0, end=0.01, steps=2) for step in (0, 1, 2, 3)]
    [1.0, 0.1, 0.01, 0.01]
    """
    share = _share(step, start, end, steps)
    return end if share == 1.0 else start * (end / start) ** share


def linear_annealing(step: int, *, start: float = 1.0, end: float = 0.1, steps: int) -> float:
    """``start + (end - start) step / steps``, and `end` from then on; errors as `exponential_annealing`.

    >>> [linear_annealing(step, start=1.0, end=0.5, steps=2) for step in (0, 1, 2, 3)]
    [1.0, 0.75, 0.5, 0.5]
    """
    share = _share(step, start, end, steps)
    return end if share == 1.0 else start + (end - start) * share


def _share(step: int, start: float, end: float, steps: int) -> float:
    for name, value in (("start", start), ("end", end)):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name}: expected a positive temperature, got {value}")
    if steps < 1 or step < 0:
        raise InputError(f"step, steps: expected a step from 0 on and at least one step, got {step} and {steps}")
    return min(1.0, step / steps)
