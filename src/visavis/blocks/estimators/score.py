"""The score function: the gradient of ``E f(z)`` from the values of f alone, for any distribution with a density.

``grad E f(z) = E (f(z) - b) grad log p(z)``, for a baseline b that does not depend on z, because ``E grad log p = 0``.
Shapes: S draws, B: batch shape.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import drawn
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["RLOO", "ScoreFunction"]

Baseline = Callable[[Tensor, Distribution], Tensor]


class ScoreFunction:
    """REINFORCE, with a baseline or without.

    Written with ``w = p(z) / stop(p(z))``, which is 1 and whose gradient is that of log p: the mean of
    ``(f - b) w + b`` has the value of f, the gradient above, and unbiased derivatives of every higher order, those that
    mix parameters of f and of the distribution included.

    Source: Williams, Machine Learning 8, 1992; w: Foerster et al., DiCE, ICML 2018, arXiv:1802.05098.
    """

    def __init__(self, baseline: Baseline | None = None) -> None:
        """`baseline` takes f's values [S, *B], detached, and the distribution; returns what broadcasts with them."""
        self.baseline = baseline

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        draws = drawn(dist, samples, generator)
        values = evaluate(f, draws, dist)
        log_prob = dist.log_prob(draws)
        weight = (log_prob - log_prob.detach()).exp()
        if self.baseline is None:
            return (values * weight).mean(0)
        base = self.baseline(values.detach(), dist)
        return ((values - base) * weight + base).mean(0)


class RLOO(ScoreFunction):
    """The score function whose baseline is the mean over the other draws; at least two.

    Source: Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.
    """

    def __init__(self) -> None:
        super().__init__(_of_the_others)


def _of_the_others(values: Tensor, _: Distribution) -> Tensor:
    if len(values) < 2:
        raise InputError(f"samples: expected at least 2, so that each draw has others, got {len(values)}")
    return (values.sum(0) - values) / (len(values) - 1)
