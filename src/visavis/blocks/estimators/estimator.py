"""What a gradient estimator and a differentiable draw are, and what all of them share.

Shapes: S draws, B: the batch shape of a distribution, E: its event shape.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.errors import InputError, TensorError

__all__ = ["Estimator", "Integrand", "Reparameterized", "Sampler", "evaluate"]

Integrand = Callable[[Tensor], Tensor]
"""f of L(theta) = E f(z): takes draws [S, *B, *E], returns one value for each draw and batch element, [S, *B]."""


class Estimator(Protocol):
    """One way to estimate the gradient of ``E f(z)``, z drawn from `dist`, with respect to the parameters of `dist`.

    The value is the mean of f over the draws, [*B]; its backward pass is the estimator. What f itself depends on
    receives the gradient of that mean.
    """

    def __call__(
        self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None
    ) -> Tensor: ...


@runtime_checkable
class Sampler(Protocol):
    """Draws with a gradient: [S, *B, *E]."""

    def draw(self, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor: ...


class Reparameterized:
    """The estimator that a differentiable draw gives: the mean of f over such draws, and autograd does the rest."""

    def draw(self, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        return evaluate(f, self.draw(dist, samples=samples, generator=generator), dist).mean(0)


def evaluate(f: Integrand, draws: Tensor, dist: Distribution) -> Tensor:
    """The values of f, one for each draw and batch element, [S, *B].

    Raises:
        TensorError: f returned another shape; a mean over the batch inside f is the usual cause.
        InputError: f returned no tensor.
    """
    values = f(draws)
    if not isinstance(values, Tensor):
        raise InputError(f"f: expected a tensor of values, got {type(values).__name__}")
    wanted = draws.shape[:1] + dist.batch_shape
    if values.shape != wanted:
        raise TensorError(
            f"f: expected one value for each draw and batch element, {list(wanted)}, got {list(values.shape)}; "
            "f must not reduce over draws or batch"
        )
    return values
