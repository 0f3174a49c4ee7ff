"""Measure-valued gradients: the derivative of a density is a difference of two densities, and one can draw from both.

``dp/dtheta = c (p_plus - p_minus)``, so that ``dE f/dtheta = c (E f(z_plus) - E f(z_minus))``: f is neither
differentiated nor has to be continuous, and no noise of ``log p`` comes in. Also known as the weak derivative. Shapes:
S draws, B: batch shape, E: event shape, D: the event flattened, of the noise where that is not the draw.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Distribution,
    Exponential,
    Gamma,
    Geometric,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
)

from visavis.blocks.estimators._draws import check_parameters, draw, in_float32, seeded, tensors
from visavis.blocks.estimators._orders import limited
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["MeasureValued"]


@dataclass(frozen=True)
class _Pair:
    """How the expectation changes with one parameter of each coordinate; None stands for the draw itself."""

    parameter: Tensor  # broadcasts with the noise
    weight: Tensor  # c
    plus: Tensor | None
    minus: Tensor | None


@dataclass(frozen=True)
class _Rule:
    """The draws, as a function of noise one coordinate of which is replaced at a time."""

    noise: Tensor  # [S, *B, *E]
    draws: Callable[[Tensor], Tensor]
    pairs: list[_Pair]


class MeasureValued:
    """Replaces one coordinate of a draw after the other by one from either density, and takes the difference of f.

    The pair is coupled: both draws come from the same random numbers, and where the family allows one of them is the
    draw at which the value is taken. Families and parameters, with the pair (torch's parameters; E: a standard
    exponential number):

    | family | parameter | c | plus | minus |
    |---|---|---|---|---|
    | Normal | loc | 1 / (scale sqrt(2 pi)) | loc + scale R, R Rayleigh | loc - scale R |
    | | scale | 1 / scale | loc + scale M, M Maxwell with a random sign | loc + scale M U, U uniform: the draw |
    | Laplace | loc | 1 / (2 scale) | loc + scale E | loc - scale E |
    | | scale | 1 / scale | the draw, scale E' farther from loc | the draw |
    | Exponential | rate | 1 / rate | the draw | the draw + E / rate |
    | Gamma, Chi2 | rate | concentration / rate | the draw | the draw + E / rate |
    | | concentration | B(concentration, 1/2) / sqrt(V) | the draw | (1 - V) the draw, V ~ Beta(1/2, concentration) |
    | Uniform | high | 1 / (high - low) | high | the draw |
    | | low | 1 / (high - low) | the draw | low |
    | Poisson | rate | 1 | the draw + 1 | the draw |
    | Bernoulli | probs | 1 | 1 | 0 |
    | Binomial | probs | total_count | Y + 1, Y of one trial less | Y |
    | NegativeBinomial | probs | (total_count + the draw) / (1 - probs) | the draw + 1 | the draw |
    | Geometric | probs | (1 + the draw) / probs | the draw | the draw + 1 |

    A multivariate normal moves along its Cholesky factor's columns, and a `TransformedDistribution` takes its base's
    pairs, if its transforms have nothing to learn.

    Unbiased for every bounded f. The variance of one derivative has no share in what the other coordinates add to f;
    but f is called at up to ``1 + 2 D`` draws for one parameter and sample (``1 + D`` where one of the pair is the
    draw), all of a kind at once: memory for ``D^2`` numbers a sample.

    A generator seeds torch's global generator, which gets its state back afterwards.

    Source: Pflug, Sampling Derivatives of Probabilities, Computing 42, 1989; Mohamed et al., Monte Carlo Gradient
    Estimation in Machine Learning, JMLR 21, 2020, arXiv:1906.10652, table 1; the coupling of the normal's scale:
    Heidergott et al., European Journal of Operational Research 191, 2008. The pair for a gamma distribution's
    concentration, which the table does not have, and off the diagonal of a Cholesky factor are derived in
    docs/reparameterization.md.
    """

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        """[*B].

        Raises:
            InputError: a family or parameter without a pair.
        """
        check_parameters(dist)
        dist, dtype = in_float32(dist)
        device = next((tensor.device for tensor in tensors(dist)), torch.device("cpu"))
        with seeded(generator, device), torch.no_grad():
            rule = _rule(dist, torch.Size([samples]))
        batch = len(dist.batch_shape)
        values = evaluate(f, rule.draws(rule.noise).to(dtype), dist)
        value = values.mean(0)
        if not torch.is_grad_enabled():
            return value
        linear = torch.zeros_like(value)
        for pair in rule.pairs:
            if pair.parameter.requires_grad:
                with torch.no_grad():
                    sides = [
                        values.detach()[..., None] if side is None else _replaced(f, rule, side, dist, dtype)
                        for side in (pair.plus, pair.minus)
                    ]
                    weight = pair.weight.expand(rule.noise.shape).reshape(*rule.noise.shape[: 1 + batch], -1)
                    gradient = weight * (sides[0] - sides[1])
                parameter = pair.parameter.expand(rule.noise.shape).reshape(gradient.shape)
                linear = linear + (gradient * parameter).sum(-1).mean(0)
        if not linear.requires_grad:
            return value
        why = "create_graph: measure_valued is of the first derivative only"
        return limited(value + (linear - linear.detach()).to(value.dtype), linear, why=why)


def _replaced(f: Integrand, rule: _Rule, side: Tensor, dist: Distribution, dtype: torch.dtype) -> Tensor:
    """What f is with one coordinate of the noise replaced, for each coordinate: [S, *B, D]."""
    batch = len(dist.batch_shape)
    flat = rule.noise.reshape(*rule.noise.shape[: 1 + batch], -1)
    eye = torch.eye(flat.shape[-1], dtype=torch.bool, device=flat.device).reshape(
        -1, *[1] * (1 + batch), flat.shape[-1]
    )
    moved = torch.where(eye, side.expand(rule.noise.shape).reshape(flat.shape), flat)  # [D, S, *B, D]
    draws = rule.draws(moved.reshape(-1, *rule.noise.shape[1:])).to(dtype)
    return evaluate(f, draws, dist).reshape(moved.shape[:-1]).movedim(0, -1)


def _rule(dist: Distribution, shape: torch.Size) -> _Rule:
    """Draws and pairs; called without a graph, so that only what is inside `enable_grad` has one."""
    if isinstance(dist, Independent):
        return _rule(dist.base_dist, shape)
    if isinstance(dist, TransformedDistribution):
        if any(tensor.requires_grad for tensor in tensors(list(dist.transforms))):
            raise InputError("dist: expected transforms without parameters to learn; use 'score_function'")
        inner = _rule(dist.base_dist, shape)

        def draws(noise: Tensor) -> Tensor:
            z = inner.draws(noise)
            for transform in dist.transforms:
                z = transform(z)
            return z

        return _Rule(inner.noise, draws, inner.pairs)
    if isinstance(dist, MultivariateNormal | LowRankMultivariateNormal):
        return _joint_normal(dist, shape)
    for family, make in _FAMILIES.items():
        if isinstance(dist, family):
            full = shape + dist.batch_shape
            noise, pairs = make(dist, full)
            return _Rule(noise, lambda z: z, pairs)
    names = ", ".join(family.__name__ for family in _FAMILIES)
    raise InputError(
        f"dist: expected {names}, a multivariate normal, or a transform of these, got {type(dist).__name__}; "
        "use 'score_function'"
    )


def _exponential(like: Tensor, full: torch.Size) -> Tensor:
    return torch.empty(full, dtype=like.dtype, device=like.device).exponential_()


def _maxwell(like: Tensor, full: torch.Size) -> tuple[Tensor, Tensor]:
    """Maxwell's distribution with a random sign; and standard normal numbers, which are uniform shares of these."""
    size = torch.randn(3, *full, dtype=like.dtype, device=like.device).square().sum(0).sqrt()
    share = 2 * torch.rand(full, dtype=like.dtype, device=like.device) - 1
    sign = torch.where(share < 0, -1.0, 1.0).to(like.dtype)
    return sign * size, share * size


def _normal(dist: Normal, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    loc, scale = dist.loc, dist.scale
    maxwell, noise = _maxwell(loc, full)
    away = scale * (2 * _exponential(loc, full)).sqrt()  # Rayleigh
    return loc + scale * noise, [
        _Pair(loc, 1 / (scale * math.sqrt(2 * math.pi)), loc + away, loc - away),
        _Pair(scale, 1 / scale, loc + scale * maxwell, None),
    ]


def _joint_normal(dist: MultivariateNormal | LowRankMultivariateNormal, shape: torch.Size) -> _Rule:
    """With L the Cholesky factor: noise n, draws ``loc + L n``, and ``L (I + A)`` as the factor that learns.

    The derivative by an element ``A_ij`` below the diagonal is that of a shift of ``n_i`` by ``n_j``, for which the
    pair of the mean serves; on the diagonal it is that of the scale of ``n_i``.
    """
    factor = dist.scale_tril
    fixed, loc = factor.detach(), dist.loc.detach()
    maxwell, noise = _maxwell(loc, shape + dist.batch_shape + dist.event_shape)
    away = (2 * _exponential(loc, noise.shape)).sqrt()
    with torch.enable_grad():
        relative = torch.linalg.solve_triangular(fixed, factor, upper=False)  # I + A
        mean = torch.linalg.solve_triangular(fixed, dist.loc[..., None], upper=False)[..., 0]
        shift = mean + (relative.tril(-1) @ noise[..., None])[..., 0]
        scale = relative.diagonal(dim1=-2, dim2=-1)
    one = torch.ones_like(loc)
    pairs = [_Pair(shift, one / math.sqrt(2 * math.pi), away, -away), _Pair(scale, one, maxwell, None)]
    return _Rule(noise, lambda n: loc + (fixed @ n[..., None])[..., 0], pairs)


def _laplace(dist: Laplace, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    loc, scale = dist.loc, dist.scale
    size, more = scale * _exponential(loc, full), scale * _exponential(loc, full)
    sign = torch.where(torch.rand_like(size) < 0.5, -1.0, 1.0).to(loc.dtype)
    return loc + sign * size, [
        _Pair(loc, 0.5 / scale, loc + more, loc - more),
        _Pair(scale, 1 / scale, loc + sign * (size + more), None),
    ]


def _exponential_family(dist: Exponential, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    z = _exponential(dist.rate, full) / dist.rate
    return z, [_Pair(dist.rate, 1 / dist.rate, None, z + _exponential(dist.rate, full) / dist.rate)]


def _gamma(dist: Gamma, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    """The concentration a: ``dE f/da = integral over u in [0, 1] of u^(a-1) / (1 - u) E (f(z) - f(u z))``."""
    shape, rate = dist.concentration, dist.rate
    z = draw(dist, full[: len(full) - len(dist.batch_shape)], None)
    half = torch.randn_like(z).square() / 2  # Gamma(1/2)
    other = torch._standard_gamma(shape.expand(full))
    away = half / (half + other)
    beta = (shape.lgamma() + math.lgamma(0.5) - (shape + 0.5).lgamma()).exp()
    tiny = torch.finfo(z.dtype).tiny
    return z, [
        _Pair(rate, shape / rate, None, z + _exponential(rate, full) / rate),
        _Pair(shape, beta * away.clamp_min(tiny).rsqrt(), None, z - away * z),
    ]


def _uniform(dist: Uniform, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    width = dist.high - dist.low
    z = dist.low + width * torch.rand(full, dtype=width.dtype, device=width.device)
    return z, [_Pair(dist.high, 1 / width, dist.high, None), _Pair(dist.low, 1 / width, None, dist.low)]


def _poisson(dist: Poisson, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    z = torch.poisson(dist.rate.expand(full))
    return z, [_Pair(dist.rate, torch.ones_like(dist.rate), z + 1, None)]


def _bernoulli(dist: Bernoulli, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    probs = dist.probs
    z = torch.bernoulli(probs.detach().expand(full))
    return z, [_Pair(probs, torch.ones_like(probs), torch.ones_like(z), torch.zeros_like(z))]


def _binomial(dist: Binomial, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    probs = dist.probs
    count, chance = dist.total_count, probs.detach()
    fewer = torch.binomial((count - 1).clamp_min(0).expand(full).contiguous(), chance.expand(full).contiguous())
    z = fewer + torch.bernoulli(chance.expand(full)) * (count > 0)
    return z, [_Pair(probs, count, torch.minimum(fewer + 1, count.expand(full)), fewer)]


def _negative_binomial(dist: NegativeBinomial, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    if dist.total_count.requires_grad:
        raise InputError("total_count: expected no gradient; the pair is of probs, use 'score_function'")
    probs = dist.probs
    z = draw(dist, full[: len(full) - len(dist.batch_shape)], None)
    return z, [_Pair(probs, (dist.total_count + z) / (1 - probs.detach()), z + 1, None)]


def _geometric(dist: Geometric, full: torch.Size) -> tuple[Tensor, list[_Pair]]:
    probs = dist.probs
    z = draw(dist, full[: len(full) - len(dist.batch_shape)], None)
    return z, [_Pair(probs, (1 + z) / probs.detach(), None, z + 1)]


_FAMILIES: dict[type[Distribution], Callable[..., tuple[Tensor, list[_Pair]]]] = {
    Normal: _normal,
    Laplace: _laplace,
    Exponential: _exponential_family,
    Gamma: _gamma,
    Uniform: _uniform,
    Poisson: _poisson,
    Bernoulli: _bernoulli,
    Binomial: _binomial,
    NegativeBinomial: _negative_binomial,
    Geometric: _geometric,
}
