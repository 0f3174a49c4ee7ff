"""The gradient itself, by enumeration, where the support is small.

Shapes: N states, S draws, B: batch shape, E: event shape.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import unwrapped
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["Exact", "enumerate_states"]


class Exact:
    """``sum over z of p(z) f(z)``: no variance, all orders of derivatives, one call of f on every state.

    `limit` is the most states it agrees to enumerate; `samples` and `generator` have no say.
    """

    def __init__(self, *, limit: int = 65_536) -> None:
        self.limit = limit

    def __call__(
        self,
        f: Integrand,
        dist: Distribution,
        *,
        samples: int,  # noqa: ARG002
        generator: torch.Generator | None,  # noqa: ARG002
    ) -> Tensor:
        states = enumerate_states(dist, limit=self.limit)
        return (dist.log_prob(states).exp() * evaluate(f, states, dist)).sum(0)


def enumerate_states(dist: Distribution, *, limit: int = 65_536) -> Tensor:
    """Every value a draw can have, [N, *B, *E]; of `Independent` parts, every combination.

    Raises:
        InputError: the support cannot be enumerated, or has more states than `limit`.

    >>> from torch.distributions import Bernoulli, Independent
    >>> enumerate_states(Independent(Bernoulli(logits=torch.zeros(2)), 1))
    tensor([[0., 0.],
            [0., 1.],
            [1., 0.],
            [1., 1.]])
    """
    base = unwrapped(dist)
    if not base.has_enumerate_support:
        raise InputError(f"dist: expected a support that can be enumerated, got {type(base).__name__}")
    states = base.enumerate_support(expand=False)  # [n, 1, ..., *event of base]
    states = states.reshape(len(states), *base.event_shape)
    parts = dist.event_shape[: len(dist.event_shape) - len(base.event_shape)]
    count = math.prod(parts)
    total = len(states) ** count
    if total > limit:
        raise InputError(f"dist: expected at most {limit} states to enumerate, got {len(states)} ** {count} = {total}")
    digits = torch.arange(total, device=states.device)[:, None]
    powers = len(states) ** torch.arange(count - 1, -1, -1, device=states.device)
    combined = states[digits // powers % len(states)]  # [N, count, *event of base]
    combined = combined.reshape(total, *[1] * len(dist.batch_shape), *dist.event_shape)
    return combined.expand(total, *dist.batch_shape, *dist.event_shape)
