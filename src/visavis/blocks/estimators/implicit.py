"""Implicit reparameterization: gradients of draws whose distribution function is known, and its inverse is not.

A draw z has the probability ``u = F(z; theta)``. Held at u while theta changes, z moves by
``dz/dtheta = -(dF/dtheta) / p(z)``: however z was drawn, its gradient needs no inverse of F.
Shapes: S draws, B: batch shape, E: event shape, K components, D: the event flattened.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, MixtureSameFamily, VonMises

from visavis.blocks.estimators import _von_mises
from visavis.blocks.estimators._discrete import unwrapped
from visavis.blocks.estimators._draws import check_parameters, draw, in_float32
from visavis.blocks.estimators._orders import limited
from visavis.blocks.estimators.estimator import Reparameterized
from visavis.errors import InputError

__all__ = ["Implicit"]


class Implicit(Reparameterized):
    """Draws of a mixture, a von Mises distribution, or of anything with a distribution function, and their gradient.

    A `MixtureSameFamily` in one dimension, or in several with components that are `Independent` along them, where each
    coordinate is conditioned on those before: ``F(z_d | z_1, ..., z_(d-1)) = sum over k of w_k F_k(z_d)``, w being the
    components' share in the density of the coordinates before (the distributional transform). A density that is not a
    mixture may have independent coordinates.

    The gradient is unbiased where f is continuous (and, on the circle, periodic). Its variance depends on the density
    between two components: to change their weights, draws are moved across the gap, the faster the emptier it is. With
    components well apart, compare it with the score function by `check`.

    The draw itself is torch's; a generator seeds torch's global generator, which gets its state back afterwards. Second
    derivatives are exact where F has them: not with respect to the concentration of Gamma and von Mises distributions.

    Source: Figurnov, Mohamed and Mnih, Implicit Reparameterization Gradients, NeurIPS 2018, arXiv:1805.08498; Graves,
    Stochastic Backpropagation through Mixture Density Distributions, arXiv:1607.05690. The integrals of the von Mises
    distribution are ours.
    """

    def draw(self, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        """[S, *B, *E].

        Raises:
            InputError: no distribution function is known, or the components of a mixture do not factorise.
        """
        check_parameters(dist)
        dist, dtype = in_float32(dist)
        base, shape = unwrapped(dist), torch.Size([samples])
        inner = unwrapped(base.component_distribution) if isinstance(base, MixtureSameFamily) else base
        _check(inner)
        if isinstance(base, VonMises):
            return _von_mises_draw(base, shape, generator).to(dtype)
        z = start = draw(dist, shape, generator)
        if torch.is_grad_enabled():
            goal = None
            for _ in range(2):  # one of Newton's steps makes the first derivative of the root right, another the second
                if isinstance(base, MixtureSameFamily):
                    value, step = _mixture(base, z, goal)
                else:
                    value, step = _univariate(base, z, goal)
                goal = value.detach() if goal is None else goal
                z = z - step
            if z.requires_grad:
                z = limited(
                    start + (z - z.detach()), z, orders=2, why="create_graph: implicit draws have two derivatives"
                )
        return z.to(dtype)


def _check(dist: Distribution) -> None:
    """Discrete draws cannot move."""
    if dist.support is not None and dist.support.is_discrete:
        name = type(dist).__name__
        raise InputError(f"dist: expected a continuous distribution, got {name}; counts take 'polynomial'")


def _univariate(dist: Distribution, z: Tensor, goal: Tensor | None) -> tuple[Tensor, Tensor]:
    """F(z), and the step of Newton's method to where it is `goal`."""
    value = _cdf(dist, z)
    with torch.no_grad():
        density = dist.log_prob(z).exp()
    return value, (value - (value.detach() if goal is None else goal)) / density


def _mixture(dist: MixtureSameFamily, z: Tensor, goal: Tensor | None) -> tuple[Tensor, Tensor]:
    """The conditional distribution functions of all coordinates, [S, *B, D], and Newton's step, [S, *B, *E]."""
    parts = dist.component_distribution
    base, event = unwrapped(parts), dist.event_shape
    if len(base.event_shape):
        raise InputError(
            "dist: expected components of independent coordinates, such as Independent(Normal(...), 1), "
            f"got {type(base).__name__}; 'score_function' takes them as they are"
        )
    lead = z.shape[: z.ndim - len(event)]
    count = parts.batch_shape[-1]
    each = z.unsqueeze(len(lead)).expand(*lead, count, *event)
    value = _cdf(base, each).reshape(*lead, count, -1)  # F_k
    log_density, slope = _log_density(base, each)
    log_density, slope = log_density.reshape(*lead, count, -1), slope.reshape(*lead, count, -1)
    before = torch.cat([torch.zeros_like(log_density[..., :1]), log_density[..., :-1].cumsum(-1)], -1)
    share = (dist.mixture_distribution.logits[..., None] + before).softmax(-2)  # w_k of each coordinate
    mean = (share * value).sum(-2)
    with torch.no_grad():
        density = (share * log_density.exp()).sum(-2)
        spread = share * (value - mean.unsqueeze(-2))
        jacobian = torch.einsum("...kd,...kj->...dj", spread, slope).tril(-1) + density.diag_embed()
    short = (mean - (mean.detach() if goal is None else goal))[..., None]
    step = torch.linalg.solve_triangular(jacobian, short, upper=False)[..., 0]
    return mean, step.reshape(z.shape)


def _log_density(base: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    """The log of p(z), and its derivative by z without a graph."""

    def log_density(at: Tensor) -> Tensor:
        if not isinstance(base, VonMises):
            return base.log_prob(at)
        angle, concentration = _from_mean(base, at)
        return _von_mises.log_density(angle, concentration).to(at.dtype)

    with torch.enable_grad():
        at = z.detach().requires_grad_()
        total = log_density(at).sum()
        slope = torch.autograd.grad(total, at)[0] if total.requires_grad else torch.zeros_like(at)
    return log_density(z), slope


def _cdf(dist: Distribution, z: Tensor) -> Tensor:
    """F(z), differentiable by z and by the parameters."""
    if isinstance(dist, VonMises):
        return _circular_cdf(dist, z)
    if isinstance(dist, Gamma):
        x = dist.rate * z
        value: Tensor = _GammaCdf.apply(dist.concentration.expand(x.shape), x)  # type: ignore[no-untyped-call]
        return value
    try:
        return dist.cdf(z)
    except NotImplementedError as error:
        name = type(dist).__name__
        raise InputError(
            f"dist: expected a distribution with a cdf, got {name}; use 'pathwise' or 'score_function'"
        ) from error


def _from_mean(dist: VonMises, z: Tensor) -> tuple[Tensor, Tensor]:
    """The angle from the mean, in [-pi, pi], and the concentration; float64, of one shape."""
    away = z.double() - dist.loc.double()
    away = away - 2 * math.pi * (away.detach() / (2 * math.pi)).round()
    return away, dist.concentration.double().expand(away.shape)


def _circular_cdf(dist: VonMises, z: Tensor) -> Tensor:
    """The probability of [-pi, z]: of all angles the draws of torch lie on [-pi, pi)."""

    def turns(at: Tensor) -> Tensor:  # counts whole turns as 1, so that it is continuous
        angle, concentration = _from_mean(dist, at)
        whole = ((at.double() - dist.loc.double()).detach() / (2 * math.pi)).round()
        return whole + _von_mises.cdf(angle, concentration)

    return (turns(z) - turns(torch.full_like(z, -math.pi))).to(z.dtype)


def _von_mises_draw(dist: VonMises, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """``loc + noise`` on [-pi, pi), the noise moving with the concentration."""
    loc, concentration = dist.loc.double(), dist.concentration.double()
    with torch.no_grad():
        noise = draw(VonMises(torch.zeros_like(loc), concentration, validate_args=False), shape, generator)
    z = loc + noise
    if torch.is_grad_enabled() and concentration.requires_grad:
        moving = _von_mises.velocity(noise, concentration.expand_as(noise)) * (concentration - concentration.detach())
        z = z + limited(moving, concentration, why=_von_mises.ONCE)
    lowest = -math.pi
    z = z - 2 * math.pi * ((z.detach() - lowest) / (2 * math.pi)).floor()
    return z.to(dist.loc.dtype)


class _GammaCdf(torch.autograd.Function):
    """The regularised lower incomplete gamma function, with the derivative by the concentration, which torch lacks."""

    @staticmethod
    def forward(ctx: Any, concentration: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(concentration, x)
        value: Tensor = torch.special.gammainc(concentration, x)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        concentration, x = ctx.saved_tensors
        by_x = grad * ((concentration - 1) * x.log() - x - concentration.lgamma()).exp()
        if not ctx.needs_input_grad[0]:
            return torch.zeros_like(concentration), by_x
        slope = -by_x * torch._standard_gamma_grad(concentration, x.detach())
        why = "create_graph: a draw from a gamma distribution can be differentiated only once by its concentration"
        return limited(slope, concentration, orders=0, why=why) if torch.is_grad_enabled() else slope, by_x
