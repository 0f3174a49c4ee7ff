"""A confidence interval from the path of an average alone: random scaling.

Of a stochastic approximation whose averaged iterates obey the functional central limit theorem,
``s (xbar_s - x*) / sqrt(n) -> sigma W(s / n)`` with W a Brownian motion, the unknown sigma cancels from

    t = sqrt(n) (xbar_n - x*) / sqrt(V),   V = n^-2 sum_s s^2 (xbar_s - xbar_n)^2

where V tends to sigma^2 times the integral of ``(W(r) - r W(1))^2``.
"""

import math

import torch

from visavis.errors import InputError

__all__ = ["random_scaling_quantile"]


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
