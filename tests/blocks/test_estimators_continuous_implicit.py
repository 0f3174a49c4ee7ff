"""Implicit reparameterization: derivatives of draws against differences of scipy's distribution functions."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import distributions as td

from visavis.blocks.estimators import Implicit, _von_mises, expect, sample
from visavis.errors import InputError

LOGITS, LOC, SCALE = [0.3, -0.5, 0.1], [-1.0, 0.4, 2.0], [0.5, 0.8, 0.6]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def leaves(*values, dtype=torch.float64):
    return [torch.tensor(value, dtype=dtype, requires_grad=True) for value in values]


def mixture(logits, *parameters, family=td.Normal, **options):
    parts = family(*parameters, **options)
    if parameters[0].ndim > 1:
        parts = td.Independent(parts, parameters[0].ndim - 1)
    return td.MixtureSameFamily(td.Categorical(logits=logits), parts)


def shares(logits):
    powers = np.exp(logits - np.max(logits))
    return powers / powers.sum()


FAMILIES = {
    "normal": (td.Normal, lambda x, m, s: stats.norm.cdf(x, m, s), (LOC, SCALE)),
    "laplace": (td.Laplace, lambda x, m, s: stats.laplace.cdf(x, m, s), (LOC, SCALE)),
    "log-normal": (td.LogNormal, lambda x, m, s: stats.lognorm.cdf(x, s, scale=np.exp(m)), (LOC, SCALE)),
    "gamma": (td.Gamma, lambda x, a, b: stats.gamma.cdf(x, a, scale=1 / b), ([0.7, 2.0, 9.0], [1.0, 2.0, 0.8])),
    "exponential": (td.Exponential, lambda x, r: stats.expon.cdf(x, scale=1 / r), ([0.7, 2.0, 9.0],)),
    "von mises": (
        td.VonMises,
        lambda x, m, k: stats.vonmises.cdf(x, k, loc=m) - stats.vonmises.cdf(-math.pi, k, loc=m),
        ([-2.9, 0.4, 2.0], [0.3, 4.0, 40.0]),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_keep_their_probability(family):
    """dz/dtheta against -(dF/dtheta) / (dF/dz), both by differences of scipy's F."""
    make, cdf, values = FAMILIES[family]
    parameters = leaves(LOGITS, *values)
    z = Implicit().draw(mixture(parameters[0], *parameters[1:], family=make), samples=20, generator=generator())
    numbers = [np.array(value) for value in (LOGITS, *values)]

    def probability(x, *theta):
        return (shares(theta[0]) * cdf(x, *theta[1:])).sum()

    # torch's derivative of a gamma draw by its concentration is an approximation, good to about 1e-3.
    tolerance = 2e-3 if family == "gamma" else 1e-6
    step = 1e-5
    for draw in z:
        found = torch.autograd.grad(draw, parameters, retain_graph=True)
        x = draw.item()
        density = (probability(x + step, *numbers) - probability(x - step, *numbers)) / (2 * step)
        for which, number in enumerate(numbers):
            for k in range(len(number)):
                above, below = [[n.copy() for n in numbers] for _ in range(2)]
                above[which][k] += step
                below[which][k] -= step
                slope = (probability(x, *above) - probability(x, *below)) / (2 * step)
                assert found[which][k].item() == pytest.approx(-slope / density, rel=tolerance, abs=tolerance / 10)


def test_second_derivative_of_a_draw():
    """Against roots of F(z; theta) = u found anew at displaced parameters."""
    parameters = leaves(LOGITS, LOC, SCALE)
    z = Implicit().draw(mixture(*parameters), samples=5, generator=generator())
    numbers = np.concatenate([LOGITS, LOC, SCALE])

    def probability(x, theta):
        logits, loc, scale = np.split(theta, 3)
        return (shares(logits) * stats.norm.cdf(x, loc, scale)).sum()

    def moved(u, theta):
        return optimize.brentq(lambda x: probability(x, theta) - u, -20, 20, xtol=1e-15, rtol=1e-15)

    step = 1e-3
    for draw in z:
        u = probability(draw.item(), numbers)
        first = torch.cat(torch.autograd.grad(draw, parameters, create_graph=True))
        for i, j in [(0, 0), (0, 4), (3, 3), (4, 7), (7, 7), (1, 8)]:
            second = torch.cat(torch.autograd.grad(first[i], parameters, retain_graph=True))[j].item()
            e, g = np.eye(9)[i] * step, np.eye(9)[j] * step
            corners = [moved(u, numbers + a * e + b * g) * a * b for a in (1, -1) for b in (1, -1)]
            assert second == pytest.approx(sum(corners) / (4 * step**2), rel=2e-4, abs=2e-4)


def test_third_derivatives_are_refused():
    parameters = leaves(LOGITS, LOC, SCALE)
    z = Implicit().draw(mixture(*parameters), samples=1, generator=generator())
    [first] = torch.autograd.grad(z.sum(), parameters[1], create_graph=True)
    [second] = torch.autograd.grad(first.sum(), parameters[1], create_graph=True)
    with pytest.raises(InputError, match="create_graph: implicit draws have two derivatives"):
        torch.autograd.grad(second.sum(), parameters[1])


@pytest.mark.parametrize("family", [td.VonMises, td.Gamma])
def test_where_the_second_derivative_is_unknown_it_is_refused(family):
    for dist, concentration in [
        (lambda a, b: family(a, b), 1 if family is td.VonMises else 0),
        (lambda a, b: mixture(torch.zeros(3), a, b, family=family), 1 if family is td.VonMises else 0),
    ]:
        parameters = leaves([0.5, 1.0, 2.0], [0.5, 1.0, 2.0])
        z = Implicit().draw(dist(*parameters), samples=1, generator=generator())
        [first] = torch.autograd.grad(z.square().sum(), parameters[concentration], create_graph=True)
        with pytest.raises(InputError, match="only once by its concentration"):
            torch.autograd.grad(first.sum(), parameters[concentration])


@pytest.mark.parametrize("make", [td.Normal, td.Laplace, td.Gamma, td.LogNormal])
def test_where_rsample_exists_the_gradients_agree(make):
    parameters = leaves([0.4, 3.0], [0.8, 1.3])
    expected = make(*parameters).rsample(torch.Size([50]))
    by_rsample = [torch.autograd.grad(x, parameters, retain_graph=True) for x in expected[:, 0]]

    class Fixed(make):
        def sample(self, shape):  # noqa: ARG002
            return expected.detach()

        has_rsample = False

    z = Implicit().draw(Fixed(*parameters), samples=50, generator=None)
    for x, want in zip(z[:, 0], by_rsample, strict=True):
        for one, other in zip(torch.autograd.grad(x, parameters, retain_graph=True), want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_several_dimensions_by_quadrature():
    """E f for f of two coordinates: the gradient's mean against the derivative of a sum over a fine grid."""
    logits = [0.2, -0.4]
    loc, scale = [[-0.5, 0.3], [0.8, -0.6]], [[0.6, 0.9], [0.7, 0.5]]

    def f(z):
        return torch.sin(z[..., 0] + 2 * z[..., 1]) + z[..., 0] * z[..., 1] ** 2

    parameters = leaves(logits, loc, scale)
    axis = torch.linspace(-7, 7, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    value = (mixture(*parameters).log_prob(grid).exp() * f(grid)).sum() * 0.02**2
    true = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])

    count = 40_000
    many = [p.detach().expand(count, *p.shape).clone().requires_grad_() for p in parameters]
    dist = td.MixtureSameFamily(td.Categorical(logits=many[0]), td.Independent(td.Normal(*many[1:]), 1))
    value = Implicit()(f, dist, samples=1, generator=generator())
    found = torch.cat([g.flatten(1) for g in torch.autograd.grad(value.sum(), many)], 1)
    z = (found.mean(0) - true) / (found.std(0) / count**0.5)
    assert z.abs().max() < 4.5  # 10 comparisons: 1 in 15,000 fails by chance


def test_several_dimensions_keep_their_conditional_probabilities():
    parameters = leaves([0.2, -0.4], [[-0.5, 0.3, 1.0], [0.8, -0.6, 0.0]], [[0.6, 0.9, 0.4], [0.7, 0.5, 0.8]])
    z = Implicit().draw(mixture(*parameters), samples=4, generator=generator())
    numbers = np.concatenate([p.detach().numpy().ravel() for p in parameters])

    def probabilities(x, theta):
        logits, loc, scale = theta[:2], theta[2:8].reshape(2, 3), theta[8:].reshape(2, 3)
        share, found = shares(logits), []
        for d in range(3):
            found.append((share * stats.norm.cdf(x[d], loc[:, d], scale[:, d])).sum())
            share = share * stats.norm.pdf(x[d], loc[:, d], scale[:, d])
            share = share / share.sum()
        return np.array(found)

    step = 1e-5
    for draw in z:
        x = draw.detach().numpy()
        rows = [torch.cat([g.flatten() for g in torch.autograd.grad(c, parameters, retain_graph=True)]) for c in draw]
        found = torch.stack(rows).numpy()
        by_x = np.stack([probabilities(x + d, numbers) - probabilities(x - d, numbers) for d in np.eye(3) * step], 1)
        by_theta = np.stack(
            [probabilities(x, numbers + d) - probabilities(x, numbers - d) for d in np.eye(14) * step], 1
        )
        np.testing.assert_allclose(found, -np.linalg.solve(by_x, by_theta), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kappa", [1e-6, 1e-3, 0.3, 1.0, 4.0, 30.0, 299.0, 301.0, 1e4, 1e8])
def test_von_mises_against_forty_digits(kappa):
    mpmath.mp.dps = 40
    k = mpmath.mpf(kappa)
    mean = mpmath.besseli(1, k) / mpmath.besseli(0, k)
    total = 2 * mpmath.pi * mpmath.besseli(0, k) * mpmath.exp(-k)
    width = min(1.0, kappa**-0.5)
    for x in [x for x in np.array([0.003, 0.2, 0.9, 1.1, 2.0, 3.0, 6.0]) * width if x < math.pi] + [math.pi / 2] * (
        kappa < 50
    ):
        points = sorted({0.0, *(min(x, width * j) for j in (0.5, 1.0, 2.0, 4.0)), x})
        slope = -mpmath.quad(lambda t: mpmath.exp(k * (mpmath.cos(t) - mpmath.cos(x))) * (mpmath.cos(t) - mean), points)  # noqa: B023
        share = mpmath.mpf(1) / 2 + mpmath.quad(lambda t: mpmath.exp(k * (mpmath.cos(t) - 1)), points) / total
        angle, concentration = (
            torch.tensor([x, -x], dtype=torch.float64),
            torch.tensor([kappa, kappa], dtype=torch.float64),
        )
        velocity = _von_mises.velocity(angle, concentration)
        assert velocity[0].item() == pytest.approx(float(slope), rel=1e-12, abs=0)
        assert velocity[1] == -velocity[0]
        cdf = _von_mises.cdf(angle, concentration)
        assert cdf[0].item() == pytest.approx(float(share), abs=1e-14)
        assert cdf[1].item() == pytest.approx(1 - float(share), abs=1e-14)


@pytest.mark.parametrize("kappa", [0.01, 0.5, 3.0, 40.0, 2000.0])
def test_von_mises_against_scipy(kappa):
    angles = torch.linspace(-3.0, 3.0, 13).double() * min(1.0, 1.5 / kappa**0.5)
    cdf = _von_mises.cdf(angles, torch.full_like(angles, kappa))
    np.testing.assert_allclose(cdf, stats.vonmises.cdf(angles.numpy(), kappa), atol=2e-8)  # scipy's own error


@pytest.mark.parametrize("kappa", [0.05, 1.0, 20.0, 5e3])
def test_von_mises_gradient_is_unbiased(kappa):
    count = 40_000
    loc = torch.full((count,), 0.7, dtype=torch.float64, requires_grad=True)
    concentration = torch.full((count,), kappa, dtype=torch.float64, requires_grad=True)

    def f(z):
        return (z - 0.2).sin() + (2 * z).cos()

    value = Implicit()(f, td.VonMises(loc, concentration), samples=1, generator=generator(3))
    found = torch.stack(torch.autograd.grad(value.sum(), [loc, concentration]), 1)

    def mean(m, k):
        def term(t):
            z = m + t
            return math.exp(k * (math.cos(t) - 1)) * (math.sin(z - 0.2) + math.cos(2 * z))

        edge = min(math.pi, 9 / k**0.5)
        total = integrate.quad(lambda t: math.exp(k * (math.cos(t) - 1)), -edge, edge, epsabs=1e-12, epsrel=1e-12)[0]
        return integrate.quad(term, -edge, edge, epsabs=1e-12, epsrel=1e-12)[0] / total

    h, g = 1e-4, 1e-3 * kappa
    true = torch.tensor(
        [
            (mean(0.7 + h, kappa) - mean(0.7 - h, kappa)) / (2 * h),
            (mean(0.7, kappa + g) - mean(0.7, kappa - g)) / (2 * g),
        ]
    )
    z = (found.mean(0) - true) / (found.std(0) / count**0.5)
    assert z.abs().max() < 4.5  # 2 comparisons: 1 in 70,000 fails by chance


def test_the_von_mises_draws_are_von_mises():
    z = sample(
        td.VonMises(torch.tensor(2.5).expand(20_000), torch.tensor(1.5)), grad="implicit", generator=generator(1)
    )
    assert z.min() >= -math.pi
    assert z.max() < math.pi
    away = (z - 2.5 + math.pi) % (2 * math.pi) - math.pi
    assert stats.kstest(away.numpy(), stats.vonmises(1.5).cdf).pvalue > 1e-4


def test_a_generator_repeats_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    for dist in (mixture(*leaves(LOGITS, LOC, SCALE)), td.VonMises(*leaves(LOC, SCALE))):
        random = generator(5)
        first, second = [sample(dist, grad="implicit", generator=random) for _ in range(2)]
        assert torch.equal(first, sample(dist, grad="implicit", generator=generator(5)))
        assert not torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype):
    """The gradient at the same draw, against float64."""
    for make in (lambda a, b, c: mixture(a, b, c), lambda a, b, c: td.VonMises(b + 0 * a, c)):
        parameters = leaves(LOGITS, LOC, SCALE, dtype=dtype)
        z = Implicit().draw(make(*parameters), samples=8, generator=generator(2))
        assert z.dtype == dtype
        gradients = torch.autograd.grad(z.sum(), parameters)
        assert all(g.dtype == dtype and g.isfinite().all() for g in gradients)
    reference = [p.detach().double().requires_grad_() for p in parameters]
    again = Implicit().draw(make(*reference), samples=8, generator=generator(2))  # the noise of the circle is float64
    torch.testing.assert_close(z.double(), again, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    for one, other in zip(gradients, torch.autograd.grad(again.sum(), reference), strict=True):
        torch.testing.assert_close(
            one.double(), other, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
        )


def test_batch_and_event_shapes():
    loc = torch.randn(4, 5, 3, 2, 6, generator=generator()).requires_grad_()  # batch 4, 5; three components; event 2, 6
    dist = td.MixtureSameFamily(td.Categorical(logits=torch.zeros(4, 5, 3)), td.Independent(td.Normal(loc, 1.0), 2))
    z = Implicit().draw(dist, samples=7, generator=generator())
    assert z.shape == (7, 4, 5, 2, 6)
    z[0, 1, 2].sum().backward()
    assert loc.grad[1, 2].abs().sum() > 0
    loc.grad[1, 2] = 0
    assert (loc.grad == 0).all()  # no other batch element has a say


def test_without_a_gradient_it_is_a_plain_draw():
    dist = mixture(*leaves(LOGITS, LOC, SCALE))
    with torch.no_grad():
        plain = sample(dist, grad="implicit", generator=generator(9))
    moving = sample(dist, grad="implicit", generator=generator(9))
    assert not plain.requires_grad
    assert torch.equal(plain, moving)


def test_training_a_mixture():
    """A mixture is pulled onto another one by the reverse Kullback-Leibler divergence, whose gradient needs draws."""
    target = mixture(*(p.detach() for p in leaves([0.7, -0.7], [-1.0, 1.5], [0.6, 0.8])))
    parameters = leaves([0.0, 0.0], [-0.3, 0.3], [1.0, 1.0])
    optimizer, random = torch.optim.Adam(parameters, lr=0.03), generator()
    for _ in range(400):
        mine = mixture(*parameters)
        loss = expect(
            lambda z, mine=mine: mine.log_prob(z) - target.log_prob(z),
            mine,
            grad="implicit",
            samples=64,
            generator=random,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    axis = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    gap = mixture(*parameters).log_prob(axis) - target.log_prob(axis)
    assert (mixture(*parameters).log_prob(axis).exp() * gap).sum() * 0.004 < 0.01


@pytest.mark.parametrize(
    ("dist", "words"),
    [
        (td.StudentT(torch.tensor(3.0)), "dist: expected a distribution with a cdf, got StudentT"),
        (td.MultivariateNormal(torch.zeros(2), torch.eye(2)), "got MultivariateNormal"),
        (
            td.MixtureSameFamily(
                td.Categorical(logits=torch.zeros(2)), td.MultivariateNormal(torch.zeros(2, 2), torch.eye(2))
            ),
            "expected components of independent coordinates.* got MultivariateNormal",
        ),
        (mixture(torch.zeros(2), torch.tensor([3.0, 4.0]), family=td.StudentT), "got StudentT"),
        (td.Poisson(torch.tensor(3.0)), "dist: expected a continuous distribution, got Poisson"),
        (mixture(torch.zeros(2), torch.ones(2), family=td.Poisson), "got Poisson"),
        (td.VonMises(torch.tensor(0.0), torch.tensor(math.nan), validate_args=False), "concentration: expected"),
        (td.VonMises(torch.tensor(math.inf), torch.tensor(1.0), validate_args=False), "loc: expected"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_refused(dist, words):
    with pytest.raises(InputError, match=words):
        sample(dist, grad="implicit")
