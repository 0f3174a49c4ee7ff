"""Two draws that share their noise, for bits: what both agree on cancels.

Shapes: S draws, B: batch shape, E: event shape.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from visavis.blocks.estimators._discrete import refuse_nan, unwrapped
from visavis.blocks.estimators._surrogate import with_gradient
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["ARM", "DisARM"]


class ARM:
    """Antithetic pairs of bits from one uniform u each: ``(f(1[u > s(-a)]) - f(1[u < s(a)])) (u - 1/2)``.

    a are the logits, s the sigmoid. Unbiased for `Bernoulli`, alone or in `Independent`; f is called twice a pair.

    Source: Yin and Zhou, ARM: Augment-REINFORCE-Merge, ICLR 2019, arXiv:1807.11143.
    """

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        base = unwrapped(dist)
        if not isinstance(base, Bernoulli):
            raise InputError(f"dist: expected Bernoulli for {type(self).__name__}, got {type(base).__name__}")
        if samples % 2:
            raise InputError(f"samples: expected an even number, two for each pair, got {samples}")
        logits = base.logits.detach()
        refuse_nan("logits", logits)
        shape = (samples // 2, *logits.shape)
        noise = torch.rand(shape, generator=generator, dtype=torch.float64, device=logits.device)
        probs = logits.double().sigmoid()
        first, second = noise > 1 - probs, noise < probs
        values = evaluate(f, torch.cat([first, second]).to(logits.dtype), dist)
        ahead, behind = values.detach().chunk(2)
        gap = (ahead - behind).reshape(*ahead.shape, *[1] * (logits.ndim - ahead.ndim + 1))
        gradient = gap * self.factor(noise, first, second, logits).to(logits.dtype)
        return with_gradient(values.mean(0), base.logits, gradient.mean(0), type(self).__name__)

    @staticmethod
    def factor(noise: Tensor, first: Tensor, second: Tensor, logits: Tensor) -> Tensor:  # noqa: ARG004
        """What multiplies the difference of both values."""
        return noise - 0.5


class DisARM(ARM):
    """`ARM` with the noise integrated out, given both draws: never more variance, and none where the draws agree.

    ``(f(b) - f(b')) / 2 * (b - b') s(|a|)``.

    Source: Dong, Mnih and Tucker, DisARM, NeurIPS 2020, arXiv:2006.10680, eq. 5; Yin et al., U2G, arXiv:2007.05698.
    """

    @staticmethod
    def factor(noise: Tensor, first: Tensor, second: Tensor, logits: Tensor) -> Tensor:  # noqa: ARG004
        """What multiplies the difference of both values."""
        return (first.double() - second.double()) * logits.double().abs().sigmoid() / 2
