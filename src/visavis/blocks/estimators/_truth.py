"""The true value of ``E f(z)``, with a graph that gives the true gradient: by enumeration or by quadrature.

Shapes: N states or nodes, B: batch shape, E: event shape.
"""

from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import unwrapped
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.blocks.estimators.exact import enumerate_states
from visavis.errors import InputError


def truth(f: Integrand, dist: Distribution) -> tuple[Tensor, str]:
    """The value [*B], and where it comes from."""
    base = unwrapped(dist)
    if base.has_enumerate_support:
        states = enumerate_states(dist)
        value = (dist.log_prob(states).exp() * evaluate(f, states, dist)).sum(0)
        return value, f"enumeration of {len(states)} states"
    raise InputError(f"dist: expected a support to enumerate, got {type(base).__name__}")
