"""Problems and methods that the tests of discrete estimators share."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from visavis.blocks.estimators import GumbelRao, GumbelSoftmax, ReinMax, StraightThrough

DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def leaf(*shape, seed=1, dtype=DOUBLE):
    return torch.randn(*shape, dtype=DOUBLE, generator=generator(seed)).to(dtype).requires_grad_()


def curved(weights):
    """A function of the event that is neither linear nor quadratic."""

    def f(z):
        product = (z * weights.to(z.dtype)).flatten(-weights.ndim).sum(-1)
        return product.square() + (0.7 * product).sin() + 0.3

    return f


def one_hot_problem():
    return curved(leaf(4, seed=2).detach()), OneHotCategorical(logits=leaf(2, 4))


def several_problem():
    return curved(leaf(2, 3, seed=2).detach()), Independent(OneHotCategorical(logits=leaf(2, 2, 3)), 1)


def bits_problem():
    return curved(leaf(3, seed=2).detach()), Independent(Bernoulli(logits=leaf(2, 3)), 1)


RELAXED = [
    GumbelSoftmax(tau=0.5),
    GumbelSoftmax(tau=0.5, hard=True),
    GumbelSoftmax(tau=1.0, precise=True),
    GumbelSoftmax(tau=0.0),
    GumbelSoftmax(tau=0.0, hard=True),
    StraightThrough(),
    StraightThrough(tau=0.7),
    StraightThrough(tau=0.0),
    ReinMax(),
    ReinMax(tau=1.3),
    ReinMax(tau=0.0),
    GumbelRao(tau=0.5, inner=3),
    GumbelRao(tau=0.0),
]
ONE_HOT = [method for method in RELAXED if not isinstance(method, GumbelSoftmax) or method.hard or method.tau == 0]
each = pytest.mark.parametrize("method", RELAXED, ids=lambda method: method.name)
each_one_hot = pytest.mark.parametrize("method", ONE_HOT, ids=lambda method: method.name)
