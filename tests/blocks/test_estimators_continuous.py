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

from visavis.blocks.estimators import (
    BonnetPrice,
    Implicit,
    MeasureValued,
    Pathwise,
    PolynomialPathwise,
    ScoreFunction,
    check,
    expect,
    polynomial_weight,
    sample,
)
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
        return integrate.quad(
            lambda x: law.pdf(x) * f(x), low, high, points=breaks, epsabs=1e-12, epsrel=1e-12, limit=500
        )[0]

    at = parameters[which]
    near, far = (mean(at + step) - mean(at - step)) / 2, (mean(at + 2 * step) - mean(at - 2 * step)) / 4
    return (4 * near - far) / (3 * step)


def gradients(estimator, make, parameters, f, count=COUNT, seed=0):
    """Independent single-sample gradients of each parameter, [count, parameters], one from each batch element."""
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


def covariance():
    factor = torch.tensor([[0.9, 0.0, 0.0], [-0.4, 0.6, 0.0], [0.3, 0.5, 0.7]], dtype=torch.float64)
    return factor @ factor.T


def low_rank(loc, theta):
    """A rank of one and a diagonal, 3 parameters each."""
    return td.LowRankMultivariateNormal(loc, theta[..., 0, :, None], theta[..., 1, :].square())


NORMALS = {
    "diagonal": (lambda loc, s: td.Independent(td.Normal(loc, s), 1), torch.tensor([0.5, 0.8, 1.1]).double()),
    "covariance": (lambda loc, c: td.MultivariateNormal(loc, (c + c.mT) / 2), covariance()),
    "precision": (lambda loc, p: td.MultivariateNormal(loc, precision_matrix=(p + p.mT) / 2), covariance().inverse()),
    "scale_tril": (lambda loc, t: td.MultivariateNormal(loc, scale_tril=t.tril()), torch.linalg.cholesky(covariance())),
    "low rank": (low_rank, torch.tensor([[0.5, -0.3, 0.4], [0.7, 0.9, 0.6]]).double()),
}


@pytest.mark.parametrize(
    "estimator", [Pathwise(), ScoreFunction(), MeasureValued(), BonnetPrice()], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("form", NORMALS)
def test_every_form_of_the_normal(form, estimator):
    """E of a quadratic, a product and a cosine: closed forms in mean and covariance, differentiated by autograd."""
    make, theta = NORMALS[form]
    loc = torch.tensor([0.2, -0.4, 0.6], dtype=torch.float64)
    wave = torch.tensor([0.5, 0.4, -0.3], dtype=torch.float64)

    def f(z):
        return z[..., 0] * z[..., 1] + z[..., 2] ** 2 + 2 * torch.cos(z @ wave)

    fixed = [loc.clone().requires_grad_(), theta.clone().requires_grad_()]
    dist = make(*fixed)
    spread = dist.base_dist.scale.square().diag() if form == "diagonal" else dist.covariance_matrix
    m = fixed[0]
    closed = m[0] * m[1] + spread[0, 1] + m[2] ** 2 + spread[2, 2]
    closed = closed + 2 * torch.cos(m @ wave) * torch.exp(-wave @ spread @ wave / 2)
    true = torch.cat([g.flatten() for g in torch.autograd.grad(closed, fixed)])

    leaves = [x.expand(COUNT, *x.shape).clone().requires_grad_() for x in (loc, theta)]
    value = estimator(f, make(*leaves), samples=1, generator=torch.Generator().manual_seed(4))
    assert_mean(value.detach()[:, None], [closed.item()])
    found = torch.cat([g.flatten(1) for g in torch.autograd.grad(value.sum(), leaves)], 1)
    assert_mean(found, true)


def test_of_a_quadratic_the_curvature_has_no_noise():
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    value = BonnetPrice()(lambda z: 3 * z**2, td.Normal(torch.zeros(2).double(), scale), samples=1, generator=None)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), scale)[0], 6 * scale.detach())


def test_a_network_of_relus_has_no_curvature():
    """What the docs warn of: E|z| grows with the scale, and Price's theorem sees nothing of it."""
    scale = torch.ones(100, requires_grad=True)
    value = BonnetPrice()(torch.abs, td.Normal(0.0, scale), samples=10, generator=None)
    assert torch.autograd.grad(value.sum(), scale)[0].abs().max() == 0


def test_the_coupled_pair_beats_the_score_function_in_many_dimensions():
    """Variance by the mean of one coordinate, f being a sum over the coordinates."""
    spread = {}
    for estimator in (MeasureValued(), ScoreFunction()):
        loc = torch.zeros(2000, 40, dtype=torch.float64, requires_grad=True)
        dist = td.Independent(td.Normal(loc, torch.ones_like(loc)), 1)
        value = estimator(lambda z: z.sum(-1), dist, samples=1, generator=torch.Generator().manual_seed(0))
        spread[type(estimator)] = torch.autograd.grad(value.sum(), loc)[0].var(0).mean().item()
    # (W+ - W-)^2 has the mean 4 E W^2 = 8 of Rayleigh numbers: variance 8 / (2 pi) - 1. The score's: 40 + 1.
    assert spread[MeasureValued] == pytest.approx(4 / math.pi - 1, rel=0.1)
    assert spread[ScoreFunction] == pytest.approx(41, rel=0.1)


EVERY = {
    "pathwise": (Pathwise(), lambda m: td.Normal(m, 0.7)),
    "score_function": (ScoreFunction(), lambda m: td.Normal(m, 0.7)),
    "measure_valued": (MeasureValued(), lambda m: td.Normal(m, 0.7)),
    "bonnet_price": (BonnetPrice(), lambda m: td.Normal(m, 0.7)),
    "implicit": (Implicit(), lambda m: td.Normal(m, 0.7)),
    "polynomial": (PolynomialPathwise(), lambda m: td.Poisson(m.exp())),
}


@pytest.mark.parametrize("name", EVERY)
def test_values_names_and_what_f_depends_on(name):
    estimator, make = EVERY[name]
    theta = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    slope = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    seen = []

    def f(z):
        seen.append(z.detach())
        return slope * z**2

    random = torch.Generator().manual_seed(1)
    value = estimator(f, make(theta), samples=5, generator=random)
    assert value.shape == (2, 3)
    torch.testing.assert_close(value, 1.5 * seen[0].square().mean(0))
    by_slope, by_theta = torch.autograd.grad(value.sum(), [slope, theta])
    torch.testing.assert_close(by_slope, seen[0].square().mean(0).sum())
    again = expect(f, make(theta), grad=name, samples=5, generator=torch.Generator().manual_seed(1))
    assert again.item() == pytest.approx(value.mean().item())
    torch.testing.assert_close(torch.autograd.grad(again, theta)[0], by_theta / 6)
    other = expect(f, make(theta), grad=name, samples=5, generator=random)
    assert other != again


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", EVERY)
def test_dtypes(name, dtype):
    """Half precision has the gradient of float32, rounded; the draws it sees are rounded as well."""
    estimator, make = EVERY[name]
    found = []
    for kind in (dtype, torch.float32):
        theta = torch.tensor([0.5, -0.25], dtype=kind, requires_grad=True)

        def f(z, kind=kind):
            assert z.dtype == kind
            return z.float().sin()

        value = estimator(f, make(theta), samples=200, generator=torch.Generator().manual_seed(0))
        found.append(torch.autograd.grad(value.sum(), theta)[0])
        assert found[-1].dtype == kind
    torch.testing.assert_close(found[0].float(), found[1], rtol=0, atol=0.05 if dtype != torch.float32 else 0)


@pytest.mark.parametrize("family", RSAMPLE | COUNTS)
def test_a_generator_repeats_and_leaves_the_global_state_alone(family):
    make, _, parameters = (RSAMPLE | COUNTS)[family]
    dist = make(*(torch.full((6,), float(value)) for value in parameters))
    estimators = [Pathwise()] if family in RSAMPLE else [MeasureValued()]
    state = torch.get_rng_state()
    for estimator in estimators:
        first, second, third = [
            estimator(lambda z: z, dist, samples=1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        ]
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("family", RSAMPLE)
def test_draws_follow_the_law(family):
    make, law, parameters = RSAMPLE[family]
    dist = make(*(torch.tensor(value, dtype=torch.float64) for value in parameters))
    z = Pathwise().draw(dist, samples=5000, generator=torch.Generator().manual_seed(8))
    assert stats.kstest(z.numpy(), law(*parameters).cdf).pvalue > 1e-4


def test_a_low_rank_draw_has_its_covariance():
    dist = low_rank(torch.zeros(3).double(), NORMALS["low rank"][1])
    z = Pathwise().draw(dist, samples=200_000, generator=torch.Generator().manual_seed(0))
    products = (z[:, :, None] * z[:, None, :]).flatten(1)
    assert_mean(products, dist.covariance_matrix.flatten())


def test_second_derivatives():
    """d2/dm2 E sin z = -E sin z: pathwise, score function and implicit know it, the others say that they do not."""
    for name in ("pathwise", "score_function", "implicit"):
        estimator, make = EVERY[name]
        theta = torch.full((COUNT,), 0.5, dtype=torch.float64, requires_grad=True)
        value = estimator(torch.sin, make(theta), samples=1, generator=torch.Generator().manual_seed(0))
        [first] = torch.autograd.grad(value.sum(), theta, create_graph=True)
        [second] = torch.autograd.grad(first.sum(), theta)
        assert_mean(second[:, None], [-math.sin(0.5) * math.exp(-(0.7**2) / 2)])
    for name in ("measure_valued", "bonnet_price", "polynomial"):
        estimator, make = EVERY[name]
        theta = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
        value = estimator(torch.sin, make(theta), samples=1, generator=None)
        [first] = torch.autograd.grad(value.sum(), theta, create_graph=True)
        with pytest.raises(InputError, match="create_graph: .* first derivative"):
            torch.autograd.grad(first.sum(), theta)


def test_without_gradients_the_value_alone():
    for estimator, make in EVERY.values():
        theta = torch.zeros(2, requires_grad=True)
        with torch.no_grad():
            assert not estimator(torch.sin, make(theta), samples=3, generator=None).requires_grad
        assert not estimator(torch.sin, make(theta.detach()), samples=3, generator=None).requires_grad


ONE = torch.tensor(1.0, requires_grad=True)


@pytest.mark.parametrize(
    ("name", "dist", "words"),
    [
        ("pathwise", td.VonMises(ONE, ONE), "rsample, got VonMises; mixtures and the von Mises .* take 'implicit'"),
        ("pathwise", td.Poisson(ONE), "counts 'polynomial'"),
        ("pathwise", td.OneHotCategoricalStraightThrough(logits=torch.zeros(3)), "expected a continuous distribution"),
        ("measure_valued", td.StudentT(ONE), "got StudentT; use 'score_function'"),
        ("measure_valued", td.NegativeBinomial(ONE, probs=torch.tensor(0.5)), "total_count: expected no gradient"),
        (
            "measure_valued",
            td.TransformedDistribution(td.Normal(0.0, 1.0), td.AffineTransform(ONE, 2.0)),
            "transforms without parameters to learn",
        ),
        ("bonnet_price", td.Gamma(ONE, ONE), "expected a normal distribution, got Gamma"),
        ("polynomial", td.Normal(ONE, ONE), "expected Poisson, Binomial or NegativeBinomial, got Normal"),
        ("polynomial", td.Poisson(ONE * 0), "rate: expected a positive number, got 0"),
        ("polynomial", td.Binomial(3, probs=ONE), "probs: expected a share in .*; give logits instead, got 1"),
        ("polynomial", td.Binomial(3, probs=ONE * 0), "probs: expected a share in .*; give logits instead, got 0"),
        ("polynomial", td.NegativeBinomial(ONE, logits=torch.tensor(0.0)), "total_count: expected no gradient"),
        ("measure_valued", td.Normal(ONE, ONE * math.nan, validate_args=False), "scale: expected finite"),
        ("pathwise", td.Normal(ONE * math.inf, ONE, validate_args=False), "loc: expected finite"),
        ("bonnet_price", td.Normal(ONE, -ONE, validate_args=False), "scale: expected finite"),
    ],
)
def test_refused(name, dist, words):
    with pytest.raises(InputError, match=words):
        expect(lambda z: z, dist, grad=name)


def test_a_degree_is_at_least_one():
    with pytest.raises(InputError, match="degree: expected at least 1, got 0"):
        PolynomialPathwise(degree=0)


def test_bonnet_and_price_need_a_gradient():
    with pytest.raises(InputError, match="f: expected a differentiable function"):
        expect(lambda z: z.detach(), td.Normal(ONE, ONE), grad="bonnet_price")


FAMILIES = {
    "poisson": (lambda t: td.Poisson(t.exp()), lambda t: stats.poisson(math.exp(t)), math.inf),
    "binomial, logits": (lambda t: td.Binomial(6, logits=t), lambda t: stats.binom(6, 1 / (1 + math.exp(-t))), 7),
    "binomial, probs": (
        lambda t: td.Binomial(6, probs=t.sigmoid()),
        lambda t: stats.binom(6, 1 / (1 + math.exp(-t))),
        7,
    ),
    "one trial": (lambda t: td.Binomial(1, logits=t), lambda t: stats.binom(1, 1 / (1 + math.exp(-t))), 2),
    "negative binomial": (
        lambda t: td.NegativeBinomial(2.5, logits=t),
        lambda t: stats.nbinom(2.5, 1 / (1 + math.exp(t))),
        math.inf,
    ),
}
SCORE = {  # d log p / dt, of the parameter t above
    "poisson": lambda z, t: z - math.exp(t),
    "binomial": lambda z, t: z - 6 / (1 + math.exp(-t)),
    "one trial": lambda z, t: z - 1 / (1 + math.exp(-t)),
    "negative binomial": lambda z, t: (z - 2.5 * math.exp(t)) / (1 + math.exp(t)),
}


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("theta", [-1.2, 0.3, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_polynomials_is_exact(family, theta, degree):
    """``sum of p(z) w(z) dz^k/dz`` is ``sum of p(z) score(z) z^k`` for k up to the degree, and not for the next."""
    make, law, highest = FAMILIES[family]
    law = law(theta)
    support = (
        np.arange(0, law.ppf(1 - 1e-16) + 400 * (highest == math.inf)) if highest == math.inf else np.arange(highest)
    )
    at = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    dist, z = make(at), torch.tensor(support, dtype=torch.float64)
    [chain] = torch.autograd.grad(dist.rate if family == "poisson" else dist.logits, at)
    weighted = law.pmf(support) * polynomial_weight(dist, z, degree=degree).numpy() * chain.item()
    score = law.pmf(support) * SCORE[family.partition(",")[0]](support, theta)
    for k in range(1, min(degree, highest) + 2):
        found, true = (weighted * k * support ** (k - 1.0)).sum(), (score * support ** float(k)).sum()
        if k <= min(degree, highest):
            assert found == pytest.approx(true, rel=1e-9)
        else:
            assert abs(found / true - 1) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_draw_carries_its_weight(family):
    make = FAMILIES[family][0]
    theta = torch.full((8,), 0.4, dtype=torch.float64, requires_grad=True)
    dist = make(theta)
    z = sample(dist, grad="polynomial", generator=torch.Generator().manual_seed(0))
    assert torch.equal(z, z.detach().round())
    [found] = torch.autograd.grad(z.sum(), theta, retain_graph=True)
    by = dist.rate if family == "poisson" else dist.logits
    [chain] = torch.autograd.grad(by.sum(), theta)
    torch.testing.assert_close(found, polynomial_weight(dist, z.detach(), degree=3) * chain)


def test_the_known_weights_of_poisson():
    rate = torch.tensor([0.3, 1.0, 7.0], dtype=torch.float64)
    z = torch.arange(12.0, dtype=torch.float64)[:, None]
    dist = td.Poisson(rate)
    torch.testing.assert_close(rate * polynomial_weight(dist, z, degree=2), (z + rate) / 2)
    known = 5 * rate / 12 + (8 * rate + 1) * z / (12 * rate) - z**2 / (12 * rate)
    torch.testing.assert_close(rate * polynomial_weight(dist, z, degree=3), known)


def test_no_trials_no_gradient():
    theta = torch.zeros(2, requires_grad=True)
    dist = td.Binomial(torch.tensor([0.0, 4.0]), logits=theta)
    for name in ("polynomial", "measure_valued"):
        [gradient] = torch.autograd.grad(expect(lambda z: z, dist, grad=name, samples=9), theta, retain_graph=True)
        assert gradient[0] == 0
        assert gradient[1] > 0


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("implicit", lambda t: td.VonMises(t, 1 + t * t)),
        (
            "implicit",
            lambda t: td.MixtureSameFamily(
                td.Categorical(logits=torch.stack([t, -t], -1)), td.Normal(torch.stack([t, 1 - t], -1), 0.7)
            ),
        ),
        ("pathwise", lambda t: td.Gamma(t, t + 1)),
        ("measure_valued", lambda t: td.Gamma(t, t + 1)),
        ("bonnet_price", lambda t: td.Normal(t, t.exp())),
        ("polynomial", lambda t: td.Poisson(t.exp())),
    ],
)
def test_check_finds_no_bias(name, make):
    """Against the quadrature or enumeration of `check`; f is a polynomial on the counts, periodic on the circle."""
    theta = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    f = (lambda z: z**3 - z) if name == "polynomial" else (lambda z: (z + 0.4).sin())
    report = check(f, make(theta.expand(50)), grad=name, draws=60, generator=torch.Generator().manual_seed(0))
    assert report.rows[0].p > 1e-5


def test_check_finds_the_bias_of_a_degree_that_is_too_low():
    theta = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    methods = [PolynomialPathwise(degree=1), PolynomialPathwise(degree=2)]
    dist = td.Poisson(theta.exp().expand(100))
    low, enough = check(torch.square, dist, grad=methods, draws=100, generator=torch.Generator().manual_seed(0)).rows
    assert low.p < 1e-6
    assert enough.p > 1e-5


def test_several_events_in_one_batch():
    """Event [2, 3], batch [4]: no batch element has a say in another's gradient."""
    for estimator in (Pathwise(), MeasureValued(), BonnetPrice(), Implicit()):
        loc = torch.zeros(4, 2, 3, requires_grad=True)
        dist = td.Independent(td.Normal(loc, 1 + loc * loc), 2)
        value = estimator(lambda z: (z**3).sum((-2, -1)), dist, samples=3, generator=None)
        assert value.shape == (4,)
        [gradient] = torch.autograd.grad(value[1], loc)
        assert (gradient[1] != 0).all()
        assert (gradient[[0, 2, 3]] == 0).all()
