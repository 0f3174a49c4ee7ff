"""The three verbs, and every discrete estimator in one battery.

A z-test of P parameters fails an unbiased estimator when its largest |z| is beyond the normal quantile for ALARM / P;
with the seeds fixed the outcome repeats. There are about 40 such tests, so that one choice of seeds in 2500 fails one.
"""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Geometric,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    VonMises,
)

from tests.blocks.discrete_problems import (
    DOUBLE,
    ONE_HOT,
    bits_problem,
    generator,
    leaf,
    one_hot_problem,
    several_problem,
)
from visavis.blocks.estimators import (
    ARM,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    DisARM,
    Exact,
    GumbelRao,
    GumbelSoftmax,
    NetworkBaseline,
    ReinMax,
    RunningBaseline,
    ScoreFunction,
    StraightThrough,
    check,
    enumerate_states,
    gumbel_max,
    gumbel_top_k,
)
from visavis.blocks.estimators._noise import gumbel
from visavis.blocks.estimators.checking import _leaves
from visavis.errors import InputError

ALARM = 1e-5
MEANS = torch.tensor([-1.0, 2.0], dtype=DOUBLE)
pytestmark = pytest.mark.usefixtures("one_thread")


def network(inputs):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(inputs, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()


class OfEvents(torch.nn.Module):
    """[S, *B, *E] to [S, *B]."""

    def __init__(self, dims, size):
        super().__init__()
        self.dims, self.net = dims, network(size)

    def forward(self, z):
        return self.net(z.flatten(-self.dims))[..., 0]


PROBLEMS = {"one-hot": one_hot_problem, "several": several_problem, "bits": bits_problem}
SIZES = {"one-hot": (1, 4), "several": (2, 6), "bits": (1, 3)}
UNBIASED = {
    "score_function": lambda _: ScoreFunction(),
    "rloo": lambda _: RLOO(),
    "running mean": lambda _: ScoreFunction(RunningBaseline()),
    "exponential mean": lambda _: ScoreFunction(RunningBaseline(rate=0.1)),
    "network": lambda p: ScoreFunction(NetworkBaseline(network(SIZES[p][1]))),
    "rebar": lambda _: REBAR(),
    "rebar, learning": lambda _: REBAR(eta=0.7, tau=0.3, learn=True),
    "relax": lambda p: RELAX(OfEvents(*SIZES[p]), tau=0.7),
    "arm": lambda _: ARM(),
    "disarm": lambda _: DisARM(),
}


# --- The true gradient


def by_hand(f, dist):
    """sum of p f, from softmax and sigmoid alone."""
    base = dist.base_dist if isinstance(dist, Independent) else dist
    states = enumerate_states(dist)
    if isinstance(base, Bernoulli):
        p = base.logits.sigmoid()
        each = torch.where(states == 1, p, 1 - p)
    else:
        each = (states * base.logits.softmax(-1)).sum(-1)
    weights = each.prod(-1) if isinstance(dist, Independent) else each
    return (weights * f(states)).sum(0)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_enumeration_is_the_sum_by_hand(problem):
    f, dist = PROBLEMS[problem]()
    [parameter] = _leaves(dist)
    value = Exact()(f, dist, samples=1, generator=None)
    torch.testing.assert_close(value, by_hand(f, dist))
    ours, theirs = (torch.autograd.grad(v.sum(), parameter, retain_graph=True)[0] for v in (value, by_hand(f, dist)))
    torch.testing.assert_close(ours, theirs)


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(InputError, match="dist: expected a support that can be enumerated, got Normal"):
        enumerate_states(Normal(0.0, 1.0))
    with pytest.raises(InputError, match=r"at most 65536 states to enumerate, got 2 \*\* 17 = 131072"):
        enumerate_states(Independent(Bernoulli(logits=torch.zeros(17)), 1))


@pytest.mark.parametrize(
    ("make", "f", "expected"),
    [
        (lambda a, b: Normal(a, b.exp()), lambda z: z.square(), lambda a, b: a**2 + (2 * b).exp()),
        (lambda a, b: Gamma(a.exp(), b.exp()), lambda z: z, lambda a, b: (a - b).exp()),
        (lambda a, b: Beta(a.exp(), b.exp()), lambda z: z, lambda a, b: a.exp() / (a.exp() + b.exp())),
        (lambda a, b: StudentT(5.0, a, b.exp()), lambda z: z.square(), lambda a, b: a**2 + (2 * b).exp() * 5 / 3),
        (
            lambda a, _: Poisson(a.exp()),
            lambda z: z.square(),
            lambda a, b: a.exp() + (2 * a).exp() + 0 * b,
        ),
        (lambda a, _: Geometric(logits=a), lambda z: z, lambda a, b: (-a).exp() + 0 * b),
        (
            lambda a, b: VonMises(a, b.exp()),
            lambda z: z.cos(),
            lambda a, b: a.cos() * torch.special.i1(b.exp()) / torch.special.i0(b.exp()),
        ),
        (
            lambda a, b: Independent(Normal(torch.stack([a, b]), torch.ones(2, dtype=DOUBLE)), 1),
            lambda z: z.prod(-1).square(),
            lambda a, b: (1 + a**2) * (1 + b**2),
        ),
        (
            lambda a, b: MultivariateNormal(torch.stack([a, a]), torch.eye(2, dtype=DOUBLE) + 0.3 * b.exp()),
            lambda z: z.prod(-1),
            lambda a, b: a**2 + 0.3 * b.exp(),
        ),
        (
            lambda a, b: MixtureSameFamily(Categorical(logits=torch.stack([a, b])), Normal(MEANS, 1.0)),
            lambda z: z,
            lambda a, b: 3 * (b - a).sigmoid() - 1,
        ),
    ],
    ids=[
        "normal",
        "gamma",
        "beta",
        "student",
        "poisson",
        "geometric",
        "von mises",
        "two normals",
        "joint normal",
        "mixture",
    ],
)
def test_the_truth_by_quadrature_is_the_closed_form(make, f, expected):
    """`check` sees no bias in the closed form's gradient, and a bias in one that is 1e-5 off."""
    a, b = torch.tensor(0.4, dtype=DOUBLE, requires_grad=True), torch.tensor(-0.3, dtype=DOUBLE, requires_grad=True)
    closed = expected(a, b)
    rows = check(f, make(a, b), grad=[lambda *_, **__: closed, lambda *_, **__: closed * (1 + 1e-5)], draws=3).rows
    assert rows[0].bias < 1e-14  # torch's Bessel functions are good to 1e-7
    assert rows[1].bias == pytest.approx(1e-10, rel=0.05)


# --- Unbiased


@pytest.mark.parametrize(
    ("name", "problem"), [(n, p) for n in UNBIASED for p in PROBLEMS if "arm" not in n or p == "bits"]
)
def test_unbiased(name, problem):
    f, dist = PROBLEMS[problem]()
    [row] = check(f, dist, grad=UNBIASED[name](problem), samples=20, draws=300, generator=generator(5)).rows
    assert row.p > ALARM
    assert row.bias_error < 0.3  # so that the test has power
    assert row.calls == (60 if name.startswith(("rebar", "relax")) else 20)


@pytest.mark.parametrize("method", [ScoreFunction(), RLOO()])
def test_unbiased_for_categories(method):
    values = leaf(5, seed=3).detach()
    [row] = check(
        lambda z: values[z], Categorical(logits=leaf(3, 5)), grad=method, samples=30, draws=300, generator=generator()
    ).rows
    assert row.p > ALARM


def test_disarm_has_less_variance_than_arm_and_rebar_less_than_the_score_function():
    f, dist = bits_problem()
    arm, disarm, plain, rebar = check(
        f, dist, grad=["arm", "disarm", "score_function", "rebar"], samples=2, draws=600, generator=generator()
    ).rows
    assert disarm.variance < arm.variance
    assert rebar.variance < 0.7 * plain.variance


def test_vimco_is_the_gradient_of_the_bound():
    weights = leaf(3, seed=4).detach()
    logits = leaf(3)
    dist = OneHotCategorical(logits=logits)

    def f(z):
        return (z * weights).sum(-1) + z.select(-1, 0) - dist.log_prob(z)

    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    log_w = weights + torch.eye(3, dtype=DOUBLE)[0] - logits.log_softmax(-1)
    p = logits.softmax(-1)
    bound = (p[pairs].prod(-1) * (log_w[pairs].logsumexp(-1) - math.log(2))).sum()
    [true] = torch.autograd.grad(bound, logits, retain_graph=True)
    many = logits.detach().expand(8000, 3).clone().requires_grad_()
    dist = OneHotCategorical(logits=many)
    value = VIMCO()(f, dist, samples=2, generator=generator(7))
    [gradient] = torch.autograd.grad(value.sum(), many)
    for found, wanted in ((value.detach()[:, None], bound.detach()), (gradient, true)):
        z = (found.mean(0) - wanted).abs() / (found.std(0) / 8000**0.5)
        assert z.max() < 4.9  # a normal variable is beyond with probability 1e-6


def test_relax_learns_a_control_variate():
    f, dist = one_hot_problem()
    relax = RELAX(OfEvents(1, 4), eta=0.0)
    optimizer = torch.optim.Adam(relax.parameters(), lr=0.05)
    random = generator()
    before = check(f, dist, grad=relax, draws=200, generator=random).rows[0].variance
    for _ in range(80):
        optimizer.zero_grad()
        relax(f, dist, samples=4, generator=random).sum().backward(retain_graph=True)
        optimizer.step()
    after = check(f, dist, grad=relax, draws=200, generator=random).rows[0].variance
    assert after < 0.5 * before


def test_the_network_learns_the_expectation():
    f, dist = one_hot_problem()
    baseline = NetworkBaseline(network(4))
    method = ScoreFunction(baseline)
    optimizer = torch.optim.Adam(baseline.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        method(f, dist, samples=16, generator=generator()).sum().backward(retain_graph=True)
        optimizer.step()
    learned = baseline(torch.zeros(1, 2, dtype=DOUBLE), dist)
    # The generator gives the same 16 draws every time, whose mean is what can be learned.
    torch.testing.assert_close(learned, method(f, dist, samples=16, generator=generator()).detach(), rtol=0, atol=0.02)


def test_the_running_mean_is_the_mean_of_earlier_calls():
    baseline = RunningBaseline()
    dist = Normal(torch.zeros(2), 1.0)
    seen = [baseline(torch.full((3, 2), value), dist).item() for value in (1.0, 2.0, 6.0, 0.0)]
    assert seen == pytest.approx([0.0, 1.0, 1.5, 3.0])
    assert baseline(torch.zeros(0, 2), dist).item() == pytest.approx(2.25)
    assert int(baseline.count) == 4
    with pytest.raises(InputError, match="rate: expected a share"):
        RunningBaseline(rate=0.0)


# --- Biased by as much as published


def softmax_jacobian(q):
    return q.diag() - q.outer(q)


def reinmax_jacobian(p, d, p_tau):
    return 2 * softmax_jacobian((p_tau + torch.eye(len(p), dtype=DOUBLE)[d]) / 2) - softmax_jacobian(p) / 2


def sharpened(p):
    """At tau = 1/2."""
    return p**2 / (p**2).sum()


@pytest.mark.parametrize(
    ("method", "jacobian_of"),
    [
        (StraightThrough(), lambda p, _: softmax_jacobian(p)),
        (StraightThrough(tau=0.5), lambda p, _: softmax_jacobian(sharpened(p)) / 0.5),
        (ReinMax(), lambda p, d: reinmax_jacobian(p, d, p)),
        (ReinMax(tau=0.5), lambda p, d: reinmax_jacobian(p, d, sharpened(p))),
        (GumbelRao(tau=0.0), lambda p, d: reinmax_jacobian(p, d, p)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_gradient_of_every_draw_is_the_papers(method, jacobian_of):
    logits, g = leaf(5), leaf(5, seed=9).detach()
    random, seen = generator(), set()
    for _ in range(200):
        draw = method.from_logits(logits, generator=random)
        d = int(draw.argmax())
        seen.add(d)
        [gradient] = torch.autograd.grad(draw, logits, g)
        torch.testing.assert_close(gradient, jacobian_of(logits.detach().softmax(-1), d) @ g)
    assert seen == set(range(5))


def test_reinmax_is_exact_for_a_quadratic_and_straight_through_for_a_linear_function():
    weights = leaf(4, seed=2).detach()
    dist = OneHotCategorical(logits=leaf(2, 4))
    square = check(
        lambda z: (z @ weights).square(),
        dist,
        grad=["reinmax", "straight_through"],
        samples=20,
        draws=300,
        generator=generator(),
    )
    assert square.rows[0].p > ALARM
    assert square.rows[1].p < 1e-20
    [linear] = check(lambda z: z @ weights, dist, grad="straight_through", draws=30, generator=generator()).rows
    assert linear.bias < 1e-20
    assert linear.variance < 1e-20


def test_the_softmax_gets_the_gradient_of_its_own_noise():
    """With the generator put back, the soft draw is a function of the logits, to be differentiated by differences."""
    for tau in (0.3, 1.0, 5.0):
        assert torch.autograd.gradcheck(
            lambda x, t=tau: GumbelSoftmax(tau=t).from_logits(x, generator=generator()), leaf(3, 4)
        )


def test_hard_has_the_gradient_of_soft():
    logits, g = leaf(3, 4), leaf(3, 4, seed=8).detach()
    soft, hard = (
        GumbelSoftmax(tau=0.4, hard=hard).from_logits(logits, generator=generator()) for hard in (False, True)
    )
    assert torch.equal(hard, torch.nn.functional.one_hot(soft.argmax(-1), 4).double())
    torch.testing.assert_close(*(torch.autograd.grad(draw, logits, g)[0] for draw in (soft, hard)))


def test_gumbel_rao_averages_the_hard_gradient_given_the_draw():
    """Against hard Gumbel-softmax draws sorted by their winner; 4.9 standard errors, 1e-6 a comparison."""
    logits, g = leaf(3), leaf(3, seed=8).detach()
    many = logits.detach().expand(40_000, 3).clone().requires_grad_()
    rao, hard = GumbelRao(tau=0.5, inner=5), GumbelSoftmax(tau=0.5, hard=True)
    for winner in range(3):
        found = []
        for method in (rao, hard):
            draws = method.from_logits(many, generator=generator(3))
            [gradient] = torch.autograd.grad(draws, many, g.expand(40_000, 3))
            found.append(gradient[draws[:, winner] == 1])
        error = sum(part.var(0) / len(part) for part in found).sqrt()
        assert ((found[0].mean(0) - found[1].mean(0)).abs() / error).max() < 4.9
        assert (found[0].var(0) < found[1].var(0)).all()


# --- The law of the draws


LAW = torch.tensor([0.3, -torch.inf, 1.2, -1.0, 0.0, -4.0], dtype=DOUBLE)


@pytest.mark.parametrize(
    "draw",
    [
        lambda logits, g: gumbel_max(logits, generator=g),
        lambda logits, g: gumbel_max(logits.float(), precise=False, generator=g),
        lambda logits, g: gumbel_top_k(logits, 2, generator=g).indices[:, 0],
        lambda logits, g: gumbel_top_k(logits, 2, replacement=True, generator=g).indices[:, 1],
        *[
            lambda logits, g, m=m: m.from_logits(logits, generator=g).argmax(-1)
            for m in (*ONE_HOT, GumbelSoftmax(tau=0.5))
        ],
        lambda logits, g: GumbelSoftmax(tau=1e6, hard=True).from_logits(logits.float(), generator=g).argmax(-1),
        lambda logits, g: GumbelSoftmax().from_logits(logits.half(), generator=g).argmax(-1),
    ],
)
def test_draws_have_the_law_of_the_softmax(draw):
    """Chi-square; 1e-5 a test."""
    count = 30_000
    classes = draw(LAW.expand(count, 6), generator(11))
    found = torch.bincount(classes, minlength=6)
    assert found[1] == 0
    allowed = LAW.isfinite()
    assert chisquare(found[allowed], (count * LAW.softmax(-1))[allowed]).pvalue > ALARM


def test_many_classes_have_the_law_of_the_softmax():
    """The blocks of the quick paths, of even and odd lengths; 1e-5 a test."""
    for classes in (400, 401, 10_007):
        logits = torch.randn(classes, generator=generator(2))
        groups = torch.arange(classes) % 20
        expected = torch.zeros(20, dtype=DOUBLE).index_add_(0, groups, logits.double().softmax(-1))
        for method in (GumbelSoftmax(hard=True), ReinMax()):
            rows = logits.expand(2001, classes)
            draws = method.from_logits(rows, generator=generator(3))
            assert torch.equal(draws.sum(-1), torch.ones(2001))
            found = torch.bincount(groups[draws.argmax(-1)], minlength=20)
            assert chisquare(found, 2001 * expected).pvalue > ALARM


def test_precise_noise_goes_beyond_the_grid_of_float32():
    """The least exponential variable of plain noise is 2^-24; of 2e7, precise noise has less in two of three seeds."""
    largest = [gumbel(torch.empty(20_000_000), precise=p, generator=generator(1)).max() for p in (False, True)]
    assert largest[0] < 16.64 < largest[1]


def test_top_k_is_plackett_and_luces_law():
    logits = leaf(4)
    count = 30_000
    drawn = gumbel_top_k(logits.expand(count, 4), 2, generator=generator(5))
    codes = drawn.indices[:, 0] * 4 + drawn.indices[:, 1]
    p = logits.detach().softmax(-1)
    law = (p[:, None] * p[None, :] / (1 - p[:, None])).fill_diagonal_(0).flatten()
    found = torch.bincount(codes, minlength=16)
    assert chisquare(found[law > 0], count * law[law > 0]).pvalue > ALARM
    torch.testing.assert_close(drawn.log_prob.detach(), law[codes].log())
    everything = gumbel_top_k(logits, 4, generator=generator())
    assert sorted(everything.indices.tolist()) == [0, 1, 2, 3]
    assert everything.log_prob.isfinite()
    assert torch.autograd.gradcheck(lambda x: gumbel_top_k(x, 3, generator=generator()).log_prob, logits)


@pytest.mark.parametrize("replacement", [False, True])
def test_top_k_along_another_dim(replacement):
    logits = leaf(5, 3)
    drawn = gumbel_top_k(logits, 2, dim=0, replacement=replacement, generator=generator())
    assert drawn.indices.shape == (2, 3)
    assert drawn.log_prob.shape == (3,)
    assert gumbel_max(logits, dim=0, generator=generator()).shape == (3,)


def test_top_k_refuses_more_than_there_are():
    with pytest.raises(InputError, match="k: expected at least 1, got 0"):
        gumbel_top_k(torch.zeros(3), 0)
    with pytest.raises(InputError, match="k: expected at most the 3 classes without replacement, got 4"):
        gumbel_top_k(torch.zeros(3), 4)
    with pytest.raises(InputError, match="k: expected at most the classes that are not masked, got 3"):
        gumbel_top_k(torch.tensor([0.0, -torch.inf, 0.0]), 3)
    with pytest.raises(InputError, match="logits: .* got NaN in the only row"):
        gumbel_top_k(torch.tensor([0.0, torch.nan]), 1, replacement=True)
