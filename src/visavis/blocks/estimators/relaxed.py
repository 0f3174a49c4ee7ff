"""Discrete draws that autograd can go through: relaxed, or one-hot with a gradient that is an approximation.

Shapes: S draws, B: batch shape, K classes.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import check_logits, discrete_logits, draw_indices, one_hot
from visavis.blocks.estimators.estimator import Reparameterized

__all__ = ["Relaxed", "StraightThrough"]


class Relaxed(Reparameterized):
    """What the one-hot methods share: they turn logits [*, K] into draws [*, K]."""

    def from_logits(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def draw(self, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        logits, binary = discrete_logits(dist, type(self).__name__)
        check_logits(logits)
        draws = self.from_logits(logits.expand(samples, *logits.shape), generator)
        return draws[..., 1] if binary else draws


class StraightThrough(Relaxed):
    """One-hot draws with the gradient of the probabilities: as if the draw were its mean.

    Source: Bengio et al., arXiv:1308.3432.
    """

    def from_logits(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        probs = logits.softmax(-1)
        draw = one_hot(draw_indices(probs.detach(), 1, generator)[0], probs)
        return draw + (probs - probs.detach())
