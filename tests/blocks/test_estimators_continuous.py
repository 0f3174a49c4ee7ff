"""Continuous distributions and counts: every estimator against an expectation that scipy integrates or sums.

Unless said otherwise a mean over independent gradients is compared with the truth at 4.5 standard errors: one such
comparison fails by chance once in 150,000 times; all of this file, some 200, once in 750 reseedings. Seeds are fixed.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import distributions as td

from visavis.blocks.estimators import BonnetPrice, MeasureValued, Pathwise, PolynomialPathwise, ScoreFunction, expect, sample
from visavis.errors import InputError

Z_LIMIT = 4.5
COUNT = 20_000


def smooth(z):
    return 1 / (1 + (z - 0.3) ** 2) + 0.1 * z


def jumping(z):
    return (z > 0.7) * 1.0 + 0.1 * z


def rounded(z):
    """For counts: any function of whole numbers."""
    return 1 / (1 + (z - 2.0) ** 2) + 0.1 * z


def truth(make, parameters, f, which, step=1e-3):
    """dE f/dparameter by a five-point difference of scipy's integral or sum: its error is of the order of step^4."""

    def mean(value):
        moved = list(parameters)
        moved[which] = value
        law = make(*moved)
        if hasattr(law, "pmf"):
            support = np.arange(0, law.ppf(1 - 1e-15) + 50)
            return (law.pmf(support) * f(support)).sum()
        low, high = law.support()
        low, high = max(low, law.ppf(1e-16)), min(high, law.isf(1e-16))
        breaks = [x for x in (0.7, law.mean()) if low < x < high]
        return integrate.quad(lambda x: law.pdf(x) * f(x), low, high, points=breaks, epsabs=1e-12, epsrel=1e-12, limit=500)[0]

    at = parameters[which]
    near, far = (mean(at + step) - mean(at - step)) / 2, (mean(at + 2 * step) - mean(at - 2 * step)) / 4
    return (4 * near - far) / (3 * step)


def gradients(estimator, make, parameters, f, count=COUNT, seed=0):
    """Independent single-sample gradients of each parameter, [count, parameters]: the batch has a parameter of its own each."""
    leaves = [torch.full((count,), float(value), dtype=torch.float64, requires_grad=True) for value in parameters]
    random = torch.Generator().manual_seed(seed)
    value = estimator(f, make(*leaves), samples=1, generator=random)
    assert value.shape == (count,)
    return torch.stack(torch.autograd.grad(value.sum(), leaves), 1)


def assert_mean(found, true):
    error = found.std(0) / len(found) ** 0.5
    z = (found.mean(0) - torch.as_tensor(true)) / (error + 1e-7)
    assert z.abs().max() < Z_LIMIT, f"{found.mean(0).tolist()} +- {error.tolist()}, expected {true}"


CONTINUOUS = {
    "normal": (td.Normal, stats.norm, (0.4, 0.8)),
    "laplace": (td.Laplace, stats.laplace, (0.4, 0.8)),
    "exponential": (td.Exponential, lambda rate: stats.expon(scale=1 / rate), (1.3,)),
    "gamma": (td.Gamma, lambda a, rate: stats.gamma(a, scale=1 / rate), (1.7, 1.3)),
    "gamma, peaked at 0": (td.Gamma, lambda a, rate: stats.gamma(a, scale=1 / rate), (0.4, 0.6)),
    "uniform": (td.Uniform, lambda low, high: stats.uniform(low, high - low), (-0.5, 1.2)),
    "log-normal": (td.LogNormal, lambda m, s: stats.lognorm(s, scale=math.exp(m)), (0.1, 0.5)),
}
RSAMPLE = CONTINUOUS | {
    "beta": (td.Beta, stats.beta, (1.5, 2.5)),
    "student": (lambda df, loc, scale: td.StudentT(df, loc, scale), stats.t, (5.0, 0.2, 0.7)),
    "gumbel": (td.Gumbel, stats.gumbel_r, (0.2, 0.7)),
    "weibull": (td.Weibull, lambda scale, k: stats.weibull_min(k, scale=scale), (1.2, 1.6)),
    "half-normal": (td.HalfNormal, lambda scale: stats.halfnorm(scale=scale), (0.9,)),
    "inverse gamma": (td.InverseGamma, lambda a, b: stats.invgamma(a, scale=b), (4.0, 2.0)),
    "kumaraswamy": (
        lambda a: td.Kumaraswamy(a, torch.ones_like(a)),
        lambda a: stats.beta(a, 1.0),
        (1.7,),
    ),
}
COUNTS = {
    "poisson": (td.Poisson, stats.poisson, (1.7,)),
    "bernoulli": (lambda p: td.Bernoulli(probs=p), stats.bernoulli, (0.3,)),
    "binomial": (lambda p: td.Binomial(5, probs=p), lambda p: stats.binom(5, p), (0.3,)),
    "one trial": (lambda p: td.Binomial(1, probs=p), lambda p: stats.binom(1, p), (0.3,)),
    "negative binomial": (lambda p: td.NegativeBinomial(2.5, probs=p), lambda p: stats.nbinom(2.5, 1 - p), (0.4,)),
    "geometric": (lambda p: td.Geometric(probs=p), lambda p: stats.geom(p, loc=-1), (0.4,)),
}


def assert_unbiased(estimator, case, f, **options):
    make, law, parameters = case
    true = [truth(law, parameters, f, which) for which in range(len(parameters))]
    assert_mean(gradients(estimator, make, parameters, f, **options), true)


@pytest.mark.parametrize("family", RSAMPLE)
def test_pathwise(family):
    assert_unbiased(Pathwise(), RSAMPLE[family], smooth)


def test_pathwise_cauchy():
    """Two Cauchy densities convolved are one whose widths add: E 1 / (1 + z^2) = (1 + s) / ((1 + s)^2 + m^2)."""
    m, s = 0.3, 0.4
    total = (1 + s) ** 2 + m**2
    true = [-2 * m * (1 + s) / total**2, 1 / total - 2 * (1 + s) ** 2 / total**2]
    assert_mean(gradients(Pathwise(), td.Cauchy, (m, s), lambda z: 1 / (1 + z * z)), true)


@pytest.mark.parametrize("family", [name for name in CONTINUOUS if name != "uniform"])  # whose support moves
def test_score_function(family):
    assert_unbiased(ScoreFunction(), CONTINUOUS[family], jumping)


@pytest.mark.parametrize("f", [smooth, jumping])
@pytest.mark.parametrize("family", CONTINUOUS)
def test_measure_valued(family, f):
    assert_unbiased(MeasureValued(), CONTINUOUS[family], f)


@pytest.mark.parametrize("family", COUNTS)
def test_measure_valued_of_counts(family):
    assert_unbiased(MeasureValued(), COUNTS[family], rounded)


def test_bonnet_and_price():
    assert_unbiased(BonnetPrice(), CONTINUOUS["normal"], smooth)


def test_a_wrong_estimator_is_found():
    """The pathwise gradient of a function that jumps misses the jump: the comparison must see it."""
    with pytest.raises(AssertionError, match="expected"):
        assert_unbiased(Pathwise(), CONTINUOUS["normal"], jumping)
