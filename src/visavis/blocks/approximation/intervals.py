"""Confidence intervals: of a share, Wilson's; from the path of an average alone, random scaling.

Of a stochastic approximation whose averaged iterates obey the functional central limit theorem,
``s (xbar_s - x*) / sqrt(n) -> sigma W(s / n)`` with W a Brownian motion, the unknown sigma cancels from

    t = sqrt(n) (xbar_n - x*) / sqrt(V),   V = n^-2 sum_s s^2 (xbar_s - xbar_n)^2

where V tends to sigma^2 times the integral of ``(W(r) - r W(1))^2``.
"""

import math
from statistics import NormalDist

import torch

from visavis.errors import InputError

__all__ = ["random_scaling_quantile", "wilson"]


def random_scaling_quantile(confidence: float) -> float:
    """The c with ``P(|t| <= c) = confidence`` for random scaling's t; 6.747 at 95 %, where a normal law has 1.960.

    A Brownian bridge is independent of W(1), so that ``P(|t| > c) = E erfc(c sqrt(A / 2))`` with A the integral of its
    square, whose Laplace transform is ``E exp(-l A) = sqrt(y / sinh y)`` at ``y = sqrt(2 l)``. Writing
    ``erfc(sqrt z) = 2 / pi * integral from 0 to pi / 2 of exp(-z / cos^2 u) du`` (Craig's formula) gives

        P(|t| > c) = 2 / pi * integral from 0 to pi / 2 of sqrt(y / sinh y) du,   y = c / cos u.

    Args:
        confidence: in (0, 1); at most .9999.

    Raises:
        InputError: outside.

    Source: Lee, Liao, Seo and Shin, AAAI 2022, arXiv:2106.03156, for the use; Kiefer, Vogelsang and Bunzel,
    Econometrica 68(3), 2000, for the law; the integral is ours.

    >>> round(random_scaling_quantile(0.95), 3)
    6.747
    """
    if not 0.0 < confidence <= 0.9999:
        raise InputError(f"confidence: expected a share in (0, .9999], got {confidence}")
    angle = (torch.arange(2000, dtype=torch.float64) + 0.5) * (math.pi / 4000)

    def outside(c: float) -> float:
        y = c / angle.cos()
        return float((0.5 * (y.log() + math.log(2.0) - y - torch.log1p(-(-2 * y).exp()))).exp().mean())

    low, high = 1e-9, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) > 1 - confidence else (low, middle)
    return high


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Both ends of the 95 % interval of a share seen in so many trials; unlike the normal one it holds near 0 and 1.

    They are the p with ``(share - p)^2 = z^2 p (1 - p) / trials`` at z = 1.96.

    Args:
        share: in [0, 1].
        trials: positive; need not be whole.

    Raises:
        InputError: outside.

    Source: Wilson, JASA 22(158), 1927.

    >>> [round(end, 4) for end in wilson(0.5, 10)]
    [0.2366, 0.7634]
    """
    if not (0.0 <= share <= 1.0 and trials > 0):
        raise InputError(f"share: expected one in [0, 1] of a positive number of trials, got {share} of {trials}")
    z = NormalDist().inv_cdf(0.975)
    half = z / (2 * trials)

    def lower(share: float) -> float:
        return (share + z * half - z * math.hypot(math.sqrt(share * (1 - share) / trials), half)) / (1 + 2 * z * half)

    return lower(share), 1 - lower(1 - share)  # this way the ends are never past 0 and 1
