"""The true value of ``E f(z)``, with a graph that gives the true gradient: by enumeration or by quadrature.

Shapes: N states or nodes, M combinations of them, B: batch shape, E: event shape.
"""

import math

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Geometric,
    LowRankMultivariateNormal,
    MultivariateNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
    VonMises,
)

from visavis.blocks.estimators._discrete import unwrapped
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.blocks.estimators.exact import enumerate_states
from visavis.errors import InputError

__all__ = ["truth"]

_NODES = {1: 2001, 2: 401}  # along each of so many dimensions


def truth(f: Integrand, dist: Distribution) -> tuple[Tensor, str]:
    """The value [*B], and where it comes from.

    Raises:
        InputError: the support is too large to enumerate, or of too many dimensions to integrate over.
    """
    base = unwrapped(dist)
    if base.has_enumerate_support:
        states = enumerate_states(dist)
        value = (dist.log_prob(states).exp() * evaluate(f, states, dist)).sum(0)
        return value, f"enumeration of {len(states)} states"
    with torch.no_grad():
        if isinstance(base, MultivariateNormal | LowRankMultivariateNormal) and dist is base:
            points, weights = _combined(*_standard_nodes(base))
            points = base.mean + (base.scale_tril @ points[..., None])[..., 0]
            weights = weights * base.scale_tril.diagonal(dim1=-2, dim2=-1).prod(-1)
            source = f"quadrature with {len(points)} nodes"
        elif base.event_shape:
            raise InputError(f"dist: expected a support to enumerate or to integrate over, got {type(base).__name__}")
        elif isinstance(base, Poisson | Geometric | NegativeBinomial):
            last = int((base.mean + 40 * base.stddev).max()) + 50
            states = torch.arange(last, dtype=base.mean.dtype, device=base.mean.device)
            points = states.view(-1, *[1] * base.mean.ndim).expand(last, *base.mean.shape)
            points, weights = _for_events(points, torch.ones_like(points), dist)
            source = f"enumeration of {len(points)} states, all but a tail"
        else:
            points, weights = _for_events(*_line_nodes(base, _per_dimension(dist.event_shape.numel())), dist)
            source = f"quadrature with {len(points)} nodes"
    return (weights * dist.log_prob(points).exp() * evaluate(f, points, dist)).sum(0), source


def _per_dimension(dimensions: int) -> int:
    if dimensions not in _NODES:
        raise InputError(f"dist: expected at most 2 dimensions to integrate over, got {dimensions}")
    return _NODES[dimensions]


def _standard_nodes(dist: Distribution) -> tuple[Tensor, Tensor]:
    """Nodes [N, *B, n] in units of standard deviations and their weights, by the trapezoidal rule."""
    dimensions = dist.event_shape.numel()
    count = _per_dimension(dimensions)
    mean = dist.mean
    nodes = torch.linspace(-12, 12, count, dtype=mean.dtype, device=mean.device)
    nodes = nodes.view(-1, *[1] * mean.ndim).expand(count, *mean.shape)
    return nodes, torch.full_like(nodes, 24 / (count - 1))


def _line_nodes(base: Distribution, count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights [N, *B] for integrals over the support of a distribution of one dimension.

    The trapezoidal rule after a substitution that takes the whole line to the support: its error falls exponentially
    with the number of nodes where f is smooth, and with their distance where it is not.
    """
    support = base.support
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in (low, high)):
        raise InputError(f"dist: expected a support that stays, got {type(base).__name__}, whose bounds are parameters")
    try:
        center, spread = base.mean, base.stddev
    except NotImplementedError as problem:
        raise InputError(f"dist: expected a known mean and variance, got {type(base).__name__}") from problem

    def line(start: float, stop: float) -> tuple[Tensor, float]:
        t = torch.linspace(start, stop, count, dtype=center.dtype, device=center.device)
        return t.view(-1, *[1] * center.ndim), (stop - start) / (count - 1)

    if isinstance(base, VonMises):
        t, step = line(-math.pi, math.pi)
        ends = torch.where(t.abs() == math.pi, 0.5, 1.0)  # one and the same point
        return base.loc + t, (step * ends).expand(count, *center.shape)
    if low is None:
        heavy = isinstance(base, StudentT) or not bool((center.isfinite() & spread.isfinite()).all())
        t, step = line(-16, 16) if heavy else line(-4.5, 4.5)
        if heavy:
            center, spread = (
                getattr(base, "loc", torch.zeros_like(spread)),
                getattr(base, "scale", torch.ones_like(spread)),
            )
        return center + spread * t.sinh(), step * spread * t.cosh()
    if high is None:
        t, step = line(-60, 15)
        return low + spread * t.exp(), step * spread * t.exp()
    t, step = line(-30, 30)
    share = t.sigmoid()
    return (low + (high - low) * share).expand(count, *center.shape), (
        step * (high - low) * share * t.neg().sigmoid()
    ).expand(count, *center.shape)


def _for_events(points: Tensor, weights: Tensor, dist: Distribution) -> tuple[Tensor, Tensor]:
    """Nodes [N, *B, *E] and their weights for each coordinate, as combinations [M, *B, *E] with weights [M, *B]."""
    if not dist.event_shape:
        return points, weights
    shape = (len(points), *dist.batch_shape, -1)
    points, weights = _combined(points.reshape(shape), weights.reshape(shape))
    return points.reshape(len(points), *dist.batch_shape, *dist.event_shape), weights


def _combined(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """All combinations of the nodes [N, *B, n] of n coordinates: [M, *B, n], and their weights' products [M, *B]."""
    count, dimensions = len(points), points.shape[-1]
    if count**dimensions > 250_000:
        raise InputError(f"dist: expected at most 250000 combinations, got {count} states ** {dimensions}")
    chosen = torch.cartesian_prod(*[torch.arange(count, device=points.device)] * dimensions).view(-1, dimensions)
    columns = range(dimensions)
    return (
        torch.stack([points[chosen[:, column], ..., column] for column in columns], -1),
        torch.stack([weights[chosen[:, column], ..., column] for column in columns], -1).prod(-1),
    )
