"""The normal distribution's own gradient: Bonnet's and Price's theorems.

Shapes: S draws, B: batch shape, D: the event flattened.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution, LowRankMultivariateNormal, MultivariateNormal, Normal

from visavis.blocks.estimators._discrete import unwrapped
from visavis.blocks.estimators._draws import check_parameters, in_float32, rsample
from visavis.blocks.estimators._orders import limited
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["BonnetPrice"]


class BonnetPrice:
    """The mean learns from the slope of f, the covariance from its curvature.

    For z normal, ``dE f/dmean = E f'(z)`` (Bonnet) and ``dE f/dcovariance = 1/2 E f''(z)`` (Price). The pathwise
    gradient has the same mean for the first and, for a scale s, ``E f'(z) noise`` where this has ``s E f''(z)``: of a
    quadratic f a number without any noise.

    f must have a second derivative, and its first must not jump: a network of ReLUs has the curvature zero nearly
    everywhere, and the gradient of its scales would be lost. Costs one more backward pass through f for each of the D
    coordinates, if the covariance asks for a gradient. Half precision is computed in float32.

    Source: Bonnet, Annales des Telecommunications 19, 1964; Price, IRE Transactions on Information Theory 4, 1958;
    Rezende et al., arXiv:1401.4082, eq. 7 and 8.
    """

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        """[*B].

        Raises:
            InputError: `dist` is not normal, or f is not differentiable.
        """
        check_parameters(dist)
        dist, dtype = in_float32(dist)
        base = unwrapped(dist)
        if not isinstance(base, Normal | MultivariateNormal | LowRankMultivariateNormal):
            raise InputError(f"dist: expected a normal distribution, got {type(base).__name__}")
        with torch.no_grad():
            z = rsample(dist, torch.Size([samples]), generator).to(dtype)
        joint = not isinstance(base, Normal)
        if joint and len(dist.event_shape) > 1:
            raise InputError("dist: expected a multivariate normal that is not part of an Independent")
        covariance = base.scale.square() if isinstance(base, Normal) else base.covariance_matrix
        if not torch.is_grad_enabled() or not (base.loc.requires_grad or covariance.requires_grad):
            return evaluate(f, z, dist).mean(0)
        values, slope, curvature = _derivatives(f, z, dist, covariance.requires_grad, joint)
        value, batch = values.mean(0), dist.batch_shape
        linear = (slope.mean(0) * base.loc).reshape(*batch, -1).sum(-1)
        linear = linear + (0.5 * curvature.mean(0) * covariance).reshape(*batch, -1).sum(-1)
        linear = linear.to(value.dtype)
        why = "create_graph: bonnet_price is of the first derivative only"
        return limited(value + (linear - linear.detach()), linear, why=why)


def _derivatives(
    f: Integrand, z: Tensor, dist: Distribution, second: bool, joint: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What f is, [S, *B], with a graph; f', of the shape of z; f'', of the same shape or, if `joint`, [S, *B, E, E]."""
    at = z.detach().requires_grad_()
    values = evaluate(f, at, dist)
    slope = None
    if values.requires_grad:
        [slope] = torch.autograd.grad(values.sum(), at, create_graph=second, retain_graph=True, allow_unused=True)
    if slope is None:
        raise InputError("f: expected a differentiable function of the draws, got one without a gradient")
    count = dist.event_shape.numel()
    rows = torch.zeros(count, *z.shape, dtype=z.dtype, device=z.device)  # of the Hessian
    if second and slope.requires_grad:
        for row, part in zip(rows, slope.reshape(-1, count).unbind(-1), strict=True):
            if (found := torch.autograd.grad(part.sum(), at, retain_graph=True, allow_unused=True)[0]) is not None:
                row.copy_(found)
    if joint:
        return values, slope.detach(), rows.movedim(0, -1)
    own = rows.reshape(count, -1, count).diagonal(dim1=0, dim2=2).reshape(z.shape)
    return values, slope.detach(), own
