"""Pathwise gradients: the draw is written as a function of the parameters and of noise that has none.

Shapes: S draws, B: batch shape, E: event shape.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._draws import check_parameters, in_float32, rsample
from visavis.blocks.estimators.estimator import Reparameterized
from visavis.errors import InputError

__all__ = ["Pathwise"]


class Pathwise(Reparameterized):
    """The reparameterization trick: ``z = g(noise, theta)``, so that the gradient of f(z) goes through z.

    For every distribution of torch with an `rsample`, transformed and independent ones included: the normal with a
    scale, a covariance, its Cholesky factor, a precision or a low-rank covariance; Gamma, Beta, Dirichlet, StudentT,
    ... Unbiased where f is continuous. Half-precision parameters are computed in float32.

    A generator feeds normal, uniform, exponential, Laplace and Cauchy noise, and what is a transform of these; for the
    other families it seeds torch's global generator, which gets its state back afterwards.

    Source: Kingma and Welling, arXiv:1312.6114; Rezende et al., arXiv:1401.4082.
    """

    def draw(self, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        """[S, *B, *E], differentiable as often as autograd can follow `rsample`.

        Raises:
            InputError: `dist` has no `rsample`, or is discrete.
        """
        if not dist.has_rsample or (dist.support is not None and dist.support.is_discrete):
            name = type(dist).__name__
            raise InputError(
                f"dist: expected a continuous distribution with rsample, got {name}; mixtures and the von Mises "
                "distribution take 'implicit', counts 'polynomial', every distribution 'score_function'"
            )
        check_parameters(dist)
        dist, dtype = in_float32(dist)
        return rsample(dist, torch.Size([samples]), generator).to(dtype)
