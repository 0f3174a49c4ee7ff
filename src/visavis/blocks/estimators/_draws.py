"""Draws from torch.distributions that a generator can repeat.

Shapes: S draws, B: batch shape, E: event shape.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Cauchy,
    Distribution,
    Exponential,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Transform,
    TransformedDistribution,
    Uniform,
)

from visavis.errors import InputError

__all__ = ["check_parameters", "draw", "in_float32", "rsample", "seeded", "tensors"]

_Generator = torch.Generator | None
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def seeded(generator: _Generator, device: torch.device) -> Iterator[None]:
    """Inside, torch's global generators run from a seed that `generator` draws; after it they are as they were.

    For the samplers of torch that take no generator: a result that can be repeated, at the price of touching global
    state for a moment, so that another thread that draws meanwhile disturbs and is disturbed.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _noise(like: Tensor, shape: torch.Size) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _device(dist: Distribution) -> torch.device:
    return next((tensor.device for tensor in tensors(dist)), torch.device("cpu"))


def rsample(dist: Distribution, shape: torch.Size, generator: _Generator) -> Tensor:
    """`dist.rsample(shape)` with a generator: [*shape, *B, *E].

    Where the noise is normal, uniform, exponential, or a transform of these, it is drawn from the generator itself;
    the others (Gamma, Beta, Dirichlet, StudentT, Wishart, ...) by torch's sampler inside `seeded`.
    """
    if generator is None:
        return dist.rsample(shape)
    full = shape + dist.batch_shape + dist.event_shape
    z: Tensor
    if isinstance(dist, Independent):
        z = rsample(dist.base_dist, shape, generator)
    elif isinstance(dist, TransformedDistribution) and type(dist).rsample is TransformedDistribution.rsample:
        z = rsample(dist.base_dist, shape, generator)
        for transform in dist.transforms:
            z = transform(z)
    elif isinstance(dist, Normal):
        z = dist.loc + dist.scale * _noise(dist.loc, full).normal_(generator=generator)
    elif isinstance(dist, MultivariateNormal):
        noise = _noise(dist.loc, full).normal_(generator=generator)
        z = dist.loc + (dist._unbroadcasted_scale_tril @ noise[..., None])[..., 0]
    elif isinstance(dist, LowRankMultivariateNormal):
        factor = dist._unbroadcasted_cov_factor
        common = _noise(dist.loc, full[:-1] + factor.shape[-1:]).normal_(generator=generator)
        own = _noise(dist.loc, full).normal_(generator=generator)
        z = dist.loc + (factor @ common[..., None])[..., 0] + dist._unbroadcasted_cov_diag.sqrt() * own
    elif isinstance(dist, Uniform):
        z = dist.low + (dist.high - dist.low) * _noise(dist.low, full).uniform_(generator=generator)
    elif isinstance(dist, Exponential):
        z = _noise(dist.rate, full).exponential_(generator=generator) / dist.rate
    elif isinstance(dist, Laplace):
        size = _noise(dist.loc, full).exponential_(generator=generator)
        sign = _noise(dist.loc, full).bernoulli_(0.5, generator=generator) * 2 - 1
        z = dist.loc + dist.scale * sign * size
    elif isinstance(dist, Cauchy):
        z = dist.loc + dist.scale * _noise(dist.loc, full).cauchy_(generator=generator)
    else:
        with seeded(generator, _device(dist)):
            z = dist.rsample(shape)
    return z


def draw(dist: Distribution, shape: torch.Size, generator: _Generator) -> Tensor:
    """`dist.sample(shape)` with a generator; without a gradient: [*shape, *B, *E]."""
    with torch.no_grad():
        if generator is not None and dist.has_rsample:
            return rsample(dist, shape, generator)
        with seeded(generator, _device(dist)):
            return dist.sample(shape)


def check_parameters(dist: Distribution) -> None:
    """Refuse parameters out of their range, whatever torch was told of validation: some of its samplers never end.

    Raises:
        InputError: a parameter is out of its range, infinite or NaN.
    """
    if isinstance(dist, Independent | TransformedDistribution):
        check_parameters(dist.base_dist)
    elif isinstance(dist, MixtureSameFamily):
        check_parameters(dist.component_distribution)
    else:
        for name, constraint in dist.arg_constraints.items():
            value = vars(dist).get(name)
            if isinstance(value, Tensor):
                fits = constraint.check(value)  # type: ignore[no-untyped-call]
                if not bool(fits.all() and value.isfinite().all()):
                    wanted = str(constraint).removesuffix("()")
                    raise InputError(
                        f"{name}: expected finite parameters of {type(dist).__name__} that satisfy {wanted}, "
                        "got others; did the training diverge?"
                    )


def in_float32(dist: Distribution) -> tuple[Distribution, torch.dtype]:
    """The same distribution with half-precision parameters in float32, and the dtype that draws are to have.

    Gradients flow back to the half-precision parameters. torch lacks most of what is needed in half precision.
    """
    dtypes = {tensor.dtype for tensor in tensors(dist) if tensor.is_floating_point()}
    if not dtypes & set(_HALF):
        return dist, max(dtypes, key=lambda dtype: torch.finfo(dtype).bits, default=torch.get_default_dtype())
    [dtype, *others] = sorted(dtypes, key=lambda dtype: torch.finfo(dtype).bits)
    return _converted(dist, {}), others[-1] if others else dtype


def tensors(thing: object, _seen: set[int] | None = None) -> Iterator[Tensor]:
    """Every tensor a distribution holds, those of its parts and transforms included."""
    seen = set() if _seen is None else _seen
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from tensors(part, seen)
    elif isinstance(thing, Distribution | Transform) and id(thing) not in seen:  # inverses know each other
        seen.add(id(thing))
        for part in vars(thing).values():
            yield from tensors(part, seen)


def _converted(thing: Any, copies: dict[int, Any]) -> Any:
    if isinstance(thing, Tensor):
        return thing.float() if thing.dtype in _HALF else thing
    if type(thing) in (list, tuple):
        return type(thing)(_converted(part, copies) for part in thing)
    if not isinstance(thing, Distribution | Transform):
        return thing
    if id(thing) not in copies:
        copies[id(thing)] = copy = object.__new__(type(thing))
        for name, value in vars(thing).items():
            setattr(copy, name, _converted(value, copies))
    return copies[id(thing)]
