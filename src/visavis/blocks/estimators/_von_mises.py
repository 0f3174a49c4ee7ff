"""The von Mises distribution function, and how a draw moves with the concentration.

For an angle x in [-pi, pi] measured from the mean, density ``p(x) = exp(kappa cos x) / (2 pi I0(kappa))``. The draw
whose probability F(x) is kept while kappa grows moves by

    ``dx/dkappa = -(dF/dkappa) / p(x) = -integral from 0 to x of exp(kappa (cos t - cos x)) (cos t - A) dt``,

where ``A = I1 / I0`` is the mean of cos. From 0 to pi that integral is zero, so that it is also the one from x to pi,
with the other sign. The integrand is positive where ``cos t > A`` and negative beyond: for a small x the first form,
for a large x the second adds numbers of one sign only, and nothing cancels, whatever the concentration. The ranges are
cut where the exponential has fallen by ``exp(-40)``, and Gauss and Legendre's rule does the rest. All in float64.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from visavis.blocks.estimators._orders import limited

__all__ = ["cdf", "log_density", "velocity"]

_CUT = 20.0  # half of the exponent at which the integrand is as good as zero
_NODES = 40
# 1 - A(kappa) = sum of c / kappa^n for a large kappa; the first terms left out are below 1e-15 of the sum.
_DEFICIT = (1 / 2, 1 / 8, 1 / 8, 25 / 128, 13 / 32, 1073 / 1024)
_SERIES_FROM = 300.0


@cache
def _rule() -> tuple[list[float], list[float]]:
    """Nodes and weights on [0, 1]: eigenvalues and eigenvectors of Golub and Welsch's matrix."""
    n = torch.arange(1, _NODES, dtype=torch.float64)
    side = n / (4 * n * n - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(side.diag(1) + side.diag(-1))
    return ((nodes + 1) / 2).tolist(), vectors[0].square().tolist()


def _half_sine2(x: Tensor) -> Tensor:
    """``(1 - cos x) / 2``, without cancellation."""
    return (x / 2).sin().square()


def _deficit(kappa: Tensor) -> Tensor:
    """``1 - I1(kappa) / I0(kappa)``."""
    direct = 1 - torch.special.i1e(kappa) / torch.special.i0e(kappa)
    inverse = kappa.clamp_min(_SERIES_FROM).reciprocal()
    series = torch.zeros_like(kappa)
    for coefficient in reversed(_DEFICIT):
        series = (series + coefficient) * inverse
    return torch.where(kappa < _SERIES_FROM, direct, series)


def _end(x: Tensor, kappa: Tensor) -> Tensor:
    """Where the integrals from x on may stop."""
    return 2 * (_half_sine2(x) + _CUT / kappa).clamp_max(1.0).sqrt().asin()


def _upper_tail(x: Tensor, kappa: Tensor) -> Tensor:
    """The probability of [x, pi], for x in [0, pi]."""
    width, start = _end(x, kappa) - x, _half_sine2(x)
    total = torch.zeros_like(x)
    for node, weight in zip(*_rule(), strict=True):
        total += weight * (2 * kappa * (start - _half_sine2(x + node * width))).exp()
    return total * width * log_density(x, kappa).exp()


def velocity(x: Tensor, kappa: Tensor) -> Tensor:
    """``dx/dkappa`` of a draw, float64 of one shape; an odd function of x. Not differentiable."""
    x, kappa = x.detach(), kappa.detach()
    size, deficit = x.abs(), _deficit(kappa)
    start = _half_sine2(size)
    near = 2 * start <= deficit
    low = torch.where(near, 0.0, size)
    width = torch.where(near, size, _end(size, kappa)) - low
    total = torch.zeros_like(size)
    for node, weight in zip(*_rule(), strict=True):
        here = _half_sine2(low + node * width)
        total += weight * (2 * kappa * (start - here)).exp() * (deficit - 2 * here)
    return x.sign() * width * torch.where(near, -total, total)


def log_density(x: Tensor, kappa: Tensor) -> Tensor:
    """The log of p(x), differentiable, and exact in float64 where torch's is good to seven digits."""
    scaled: Tensor = torch.special.i0e(kappa)
    return -2 * kappa * _half_sine2(x) - (2 * math.pi * scaled).log()


class _Cdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kappa: Tensor) -> Tensor:
        ctx.save_for_backward(x, kappa)
        return 0.5 + x.sign() * (0.5 - _upper_tail(x.abs(), kappa))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, kappa = ctx.saved_tensors
        by_x = grad * log_density(x, kappa).exp()
        slope = -by_x * velocity(x, kappa)
        return by_x, limited(slope, kappa, orders=0, why=ONCE) if torch.is_grad_enabled() else slope


ONCE = "create_graph: a draw from a von Mises distribution can be differentiated only once by its concentration"


def cdf(x: Tensor, kappa: Tensor) -> Tensor:
    """F(x), the probability of [-pi, x], float64 of one shape; differentiable, by `kappa` once."""
    value: Tensor = _Cdf.apply(x, kappa)  # type: ignore[no-untyped-call]
    return value
