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
        base, batch = unwrapped(dist), len(dist.batch_shape)
        if not isinstance(base, Normal | MultivariateNormal | LowRankMultivariateNormal):
            raise InputError(f"dist: expected a normal distribution, got {type(base).__name__}")
        with torch.no_grad():
            z = rsample(dist, torch.Size([samples]), generator).to(dtype)
        joint = not isinstance(base, Normal)
        covariance = base.scale.square() if isinstance(base, Normal) else base.covariance_matrix
        if not torch.is_grad_enabled() or not (base.loc.requires_grad or covariance.requires_grad):
            return evaluate(f, z, dist).mean(0)
        slope, curvature, values = _derivatives(f, z, dist, covariance.requires_grad, joint)
        linear = (
            (slope.mean(0) * base.loc).flatten(batch).sum(-1) if batch < base.loc.ndim else slope.mean(0) * base.loc
        )
        if covariance.requires_grad:
            pull = 0.5 * curvature.mean(0) * covariance
            linear = linear + (pull.flatten(batch).sum(-1) if batch < pull.ndim else pull)
        value = values.mean(0)
        return limited(
            value + (linear - linear.detach()).to(value.dtype),
            linear,
            why="bonnet_price is of the first derivative only",
        )


def _derivatives(
    f: Integrand, z: Tensor, dist: Distribution, second: bool, joint: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The slope f' [S, *B, *E]; f'', of the same shape or, if `joint`, [S, *B, E, E]; and f, with a graph."""
    at = z.detach().requires_grad_()
    values = evaluate(f, at, dist)
    if not values.requires_grad:
        raise InputError("f: expected a differentiable function of the draws, got one without a gradient")
    [slope] = torch.autograd.grad(values.sum(), at, create_graph=second, retain_graph=True)
    lead = z.ndim - len(dist.event_shape)
    count = z[(0,) * lead].numel()
    curvature = torch.zeros_like(z)
    if joint:
        curvature = torch.zeros(*z.shape, z.shape[-1], dtype=z.dtype, device=z.device)
    if not second or not slope.requires_grad:
        return slope.detach(), curvature, values
    flat = slope.reshape(*z.shape[:lead], count)
    for d in range(count):
        [row] = torch.autograd.grad(flat[..., d].sum(), at, retain_graph=True, allow_unused=True)
        if row is not None:
            if joint:
                curvature[..., d] = row
            else:
                curvature.reshape(*z.shape[:lead], count)[..., d] = row.reshape(*z.shape[:lead], count)[..., d]
    return slope.detach(), curvature, values
