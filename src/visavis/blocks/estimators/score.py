"""The score function: the gradient of ``E f(z)`` from the values of f alone, for any distribution with a density.

``grad E f(z) = E (f(z) - b) grad log p(z)``, for a baseline b that does not depend on z, because ``E grad log p = 0``.
Shapes: S draws, B: batch shape.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from visavis.blocks.approximation import update_mean
from visavis.blocks.estimators._discrete import drawn, unwrapped
from visavis.blocks.estimators._surrogate import with_gradient
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError, TensorError

__all__ = ["RLOO", "VIMCO", "Baseline", "NetworkBaseline", "RunningBaseline", "ScoreFunction"]

Baseline = Callable[[Tensor, Distribution], Tensor]
"""Takes f's values [S, *B], detached, and the distribution; returns what to subtract, which broadcasts with them."""


class ScoreFunction:
    """REINFORCE, with a baseline or without.

    Written with ``w = p(z) / stop(p(z))``, which is 1 and whose gradient is that of log p: the mean of
    ``(f - b) w + b`` has the value of f, the gradient above, and unbiased derivatives of every higher order, those that
    mix parameters of f and of the distribution included.

    Source: Williams, Machine Learning 8, 1992; w: Foerster et al., DiCE, ICML 2018, arXiv:1802.05098.
    """

    def __init__(self, baseline: Baseline | None = None) -> None:
        self.baseline = baseline

    @property
    def name(self) -> str:
        learned = isinstance(self.baseline, nn.Module)
        return f"{type(self).__name__}, {type(self.baseline).__name__}" if learned else type(self).__name__

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        draws = drawn(dist, samples, generator)
        values = evaluate(f, draws, dist)
        log_prob = dist.log_prob(draws)
        weight = (log_prob - log_prob.detach()).exp()
        if self.baseline is None:
            return (values * weight).mean(0)
        base = self.baseline(values.detach(), dist)
        average = ((values - base.detach()) * weight + base.detach()).mean(0)
        if not base.requires_grad:
            return average
        loss = (values.detach() - base).square().mean(0)
        return average + (loss - loss.detach())


class RLOO(ScoreFunction):
    """The score function whose baseline is the mean over the other draws; at least two.

    Source: Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.
    """

    def __init__(self) -> None:
        super().__init__(_of_the_others)


class RunningBaseline(nn.Module):
    """The mean of f so far, or with a `rate` its exponential average; of earlier calls only, hence no bias."""

    mean: Tensor
    count: Tensor

    def __init__(self, *, rate: float | None = None) -> None:
        """`rate`: share of the newest mean, in (0, 1]; None for the exact mean.

        Raises:
            InputError: `rate` is outside (0, 1].
        """
        super().__init__()
        if rate is not None and not 0.0 < rate <= 1.0:
            raise InputError(f"rate: expected a share in (0, 1], got {rate}")
        self.rate = rate
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, values: Tensor, _: Distribution) -> Tensor:
        before = self.mean.to(values.dtype)
        if values.numel():
            self.count += 1
            exact = 1.0 / int(self.count)
            self.mean = update_mean(
                self.mean, values.double().mean(), exact if self.rate is None else max(self.rate, exact)
            )
        return before


class NetworkBaseline(nn.Module):
    """A network that predicts f's value from the distribution's parameters, and learns to as the loss is minimised.

    The gradient of its squared error arrives in its parameters together with the estimator's in everybody else's, so
    that one optimizer, or two, may hold both. To predict from the input of a model instead, hand over a module that
    remembers that input.
    """

    def __init__(self, net: nn.Module) -> None:
        """`net`: from [*B, P], the parameters of the distribution side by side and detached, to [*B] or [*B, 1]."""
        super().__init__()
        self.net = net

    def forward(self, values: Tensor, dist: Distribution) -> Tensor:
        """[*B].

        Raises:
            TensorError: the network returned another shape.
        """
        predicted = cast("Tensor", self.net(_parameters(dist)))
        if predicted.shape == (*dist.batch_shape, 1):
            predicted = predicted[..., 0]
        if predicted.shape != dist.batch_shape:
            raise TensorError(
                f"net: expected {list(dist.batch_shape)}, one value a batch element, got {list(predicted.shape)}"
            )
        return predicted.to(values.dtype)


class VIMCO:
    """For ``E log(1/S sum exp f(z_s))``, the bound of importance-weighted inference; f is a log weight.

    Not an estimator of ``E f``: the value is the bound's. The baseline of each draw is the bound with its weight
    replaced by the geometric mean of the others'. At least two draws.

    Source: Mnih and Rezende, Variational Inference for Monte Carlo Objectives, ICML 2016, arXiv:1602.06725.
    """

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        draws = drawn(dist, samples, generator)
        values = evaluate(f, draws, dist)
        fixed = values.detach()
        geometric = _of_the_others(fixed, dist)
        bound = values.logsumexp(0) - math.log(samples)
        own = torch.eye(samples, dtype=torch.bool, device=fixed.device).view(samples, samples, *[1] * (fixed.ndim - 1))
        replaced = torch.where(own, geometric, fixed)  # [S, S, *B]: row s without the weight of s
        learned = bound.detach() - (replaced.logsumexp(1) - math.log(samples))
        log_prob = dist.log_prob(draws)
        return with_gradient(bound, log_prob.movedim(0, -1), learned.movedim(0, -1), "VIMCO")


def _of_the_others(values: Tensor, _: Distribution) -> Tensor:
    if len(values) < 2:
        raise InputError(f"samples: expected at least 2, so that each draw has others, got {len(values)}")
    return (values.sum(0) - values) / (len(values) - 1)


def _parameters(dist: Distribution) -> Tensor:
    """[*B, P], detached; of parameterizations that say the same, one."""
    base = unwrapped(dist)
    names = set(base.arg_constraints)
    for kept, same in (("logits", ("probs",)), ("scale_tril", ("covariance_matrix", "precision_matrix"))):
        if kept in names:
            names.difference_update(same)
    if not names:
        raise InputError(f"dist: expected parameters of its own for NetworkBaseline, got {type(base).__name__}")
    parts = [getattr(base, name).detach() for name in sorted(names)]
    return torch.cat([part.reshape(*dist.batch_shape, -1) for part in parts], -1)
