"""Awkward points of the discrete estimators: dtypes, masks, limits, transforms, second derivatives, refusals."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, Uniform

from tests.blocks.discrete_problems import (
    DOUBLE,
    bits_problem,
    each,
    each_one_hot,
    generator,
    leaf,
    one_hot_problem,
)
from visavis.blocks.estimators import (
    ESTIMATORS,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    DisARM,
    GumbelRao,
    GumbelSoftmax,
    NetworkBaseline,
    ReinMax,
    ScoreFunction,
    StraightThrough,
    check,
    expect,
    exponential_annealing,
    gumbel_max,
    linear_annealing,
    sample,
)
from visavis.errors import InputError, MissingExtraError, TensorError

DISCRETE = ("exact", "gumbel_rao", "gumbel_softmax", "gumbel_softmax_hard", "rebar", "reinmax", "rloo")
DISCRETE += ("score_function", "straight_through")
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])


@each
@dtypes
def test_masked_classes_are_never_drawn_and_gradients_are_finite(method, dtype):
    logits = (5 * leaf(64, 6).detach()).to(dtype)
    logits[1, :5] = torch.finfo(dtype).max / 8
    logits[:, 2] = -torch.inf
    logits[0, 1:] = -torch.inf
    logits.requires_grad_()
    draws = method.from_logits(logits, generator=generator())
    assert draws.dtype == dtype
    assert draws.shape == logits.shape
    assert draws[:, 2].eq(0).all()
    torch.testing.assert_close(draws.sum(-1), torch.ones(64, dtype=dtype))
    assert draws[0].tolist() == [1, 0, 0, 0, 0, 0]
    [gradient] = torch.autograd.grad(draws, logits, leaf(64, 6, seed=4, dtype=dtype).detach())
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()
    assert gradient[:, 2].eq(0).all()
    assert gradient[0].eq(0).all()


@each_one_hot
@dtypes
def test_one_hot_draws_are_one_hot_to_the_last_bit(method, dtype):
    draws = method.from_logits(leaf(50, 9, dtype=dtype), generator=generator())
    assert set(draws.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("tau", [1e-2, 1e-6, 1e-30, 1e-44])
@dtypes
def test_a_temperature_that_falls_reaches_the_one_hot_limit(tau, dtype):
    logits = leaf(200, 5, dtype=dtype)
    limit = GumbelSoftmax(tau=0.0).from_logits(logits, generator=generator())
    for method in (GumbelSoftmax(tau=tau), GumbelSoftmax(tau=tau, hard=True)):
        draws = method.from_logits(logits, generator=generator())
        assert (draws - limit).abs().max() < (0.5 if tau == 1e-2 else 1e-6)
        assert torch.autograd.grad(draws, logits, torch.ones_like(draws))[0].isfinite().all()


def test_gumbel_rao_tends_to_reinmax():
    """The mean over noise of the gradient at a low temperature, in the limit's 4.9 standard errors."""
    logits, g = leaf(3), leaf(3, seed=5).detach()
    many = logits.detach().expand(60_000, 3).clone().requires_grad_()
    cold, limit = GumbelRao(tau=0.01, inner=20), ReinMax()
    means, errors = [], []
    for method in (cold, limit):
        draws = method.from_logits(many, generator=generator(2))
        [gradient] = torch.autograd.grad(draws, many, g.expand(60_000, 3))
        means.append(gradient.mean(0))
        errors.append(gradient.var(0) / 60_000)
    # The bias of the cold one is of the order of tau.
    assert ((means[0] - means[1]).abs() < 4.9 * (errors[0] + errors[1]).sqrt() + 0.01 * g.abs().max()).all()


@each
@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ([0.0, torch.nan], "NaN"),
        ([torch.nan, 0.0], "NaN"),
        ([torch.inf, 0.0], "infinity"),
        ([-torch.inf, -torch.inf], "nothing that is allowed, every class is masked,"),
    ],
)
def test_rows_that_are_no_distribution_are_refused_by_number(method, bad, what):
    logits = torch.zeros(2, 3, 2)
    logits[1, 2] = torch.tensor(bad)
    with pytest.raises(InputError, match=rf"logits: .*, got {what} in row \[1, 2\]"):
        method.from_logits(logits)
    with pytest.raises(InputError, match=rf"got {what} in the only row"):
        method.from_logits(torch.tensor(bad))
    with pytest.raises(InputError, match=rf"got {what} in row 1"):
        gumbel_max(torch.stack([torch.zeros(2), torch.tensor(bad)]))


@each
def test_awkward_shapes(method):
    assert method.from_logits(torch.zeros(0, 4)).shape == (0, 4)
    single = leaf(3, 1)
    draws = method.from_logits(single)
    assert draws.tolist() == [[1.0]] * 3
    assert torch.autograd.grad(draws.sum(), single)[0].eq(0).all()
    assert method.from_logits(torch.zeros(300)).sum() == pytest.approx(1.0, abs=1e-5)
    for wrong in (torch.zeros(2, 0), torch.zeros(()), torch.zeros(2, 3, dtype=torch.int64)):
        with pytest.raises(TensorError, match=r"logits: expected float \[..., classes\]"):
            method.from_logits(wrong)


@each
@pytest.mark.parametrize("dim", [0, 1, -1, -3])
def test_any_dim(method, dim):
    logits = leaf(3, 4, 5)
    draws = sample(logits, grad=method, dim=dim, generator=generator())
    moved = method.from_logits(logits.movedim(dim, -1), generator=generator())
    torch.testing.assert_close(draws, moved.movedim(-1, dim))
    torch.testing.assert_close(draws.sum(dim), torch.ones_like(draws.sum(dim)))


@each
def test_a_generator_repeats_and_nothing_else_is_drawn_from(method):
    logits = leaf(4, 6)
    before = torch.get_rng_state()
    first, second = (method.from_logits(logits, generator=generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, method.from_logits(logits, generator=generator(4)))


@each
def test_vmap_draws_differently_for_each_and_gives_the_same_gradient_of_a_mean(method):
    logits = leaf(2000, 3)[:1].detach().expand(2000, 3)
    g = leaf(3, seed=6).detach()
    found = torch.func.vmap(torch.func.grad(lambda x: (method.from_logits(x) * g).sum()), randomness="different")(
        logits
    )
    many = logits.clone().requires_grad_()
    [plain] = torch.autograd.grad(method.from_logits(many, generator=generator()), many, g.expand(2000, 3))
    assert len(found.unique(dim=0)) > 1 or method.tau == 0 or isinstance(method, StraightThrough)
    error = ((found.var(0) + plain.var(0)) / 2000).sqrt()
    assert ((found.mean(0) - plain.mean(0)).abs() <= 4.9 * error + 1e-12).all()


@each
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # out of torch's own compiler
def test_torch_compile_takes_it_whole(method):
    torch.compiler.reset()
    compiled = torch.compile(method.from_logits, fullgraph=True, backend="aot_eager")
    logits = leaf(6, 5, dtype=torch.float32)
    g = leaf(6, 5, seed=7, dtype=torch.float32).detach()
    draws = compiled(logits)
    torch.testing.assert_close(draws.sum(-1), torch.ones(6))
    [gradient] = torch.autograd.grad(draws, logits, g)
    assert gradient.isfinite().all()
    if isinstance(method, ReinMax) and method.tau == 1:
        p, own = logits.softmax(-1), (g * draws).sum(-1, keepdim=True)
        expected = (p * (g - own) - draws * (p * (g - own)).sum(-1, keepdim=True)) / 2
        torch.testing.assert_close(gradient, expected)


@each
def test_second_derivatives_are_those_of_the_first(method):
    """The noise put back by the generator, the gradient is a function of logits and cotangent."""
    logits = leaf(2, 4)
    g = leaf(2, 4, seed=5)

    def draw(x):
        return method.from_logits(x, generator=generator(1))

    if isinstance(method, GumbelRao) and method.tau > 0:
        # Differences would move its noise, which depends on the logits given the winner. Held fixed by hand:
        _, soft = draw(logits).grad_fn.saved_tensors
        perturbed = soft.log()

        def gradient(x, c):
            y = (perturbed + (x - logits.detach()) / method.tau).softmax(-1)
            return (y * (c - (y * c).sum(-1, keepdim=True))).mean(0) / method.tau

        first = torch.autograd.grad(draw(logits), logits, g, create_graph=True)[0]
        by_hand = gradient(logits, g)
        torch.testing.assert_close(first, by_hand)
        both = (torch.autograd.grad(one.square().sum(), (logits, g)) for one in (first, by_hand))
        torch.testing.assert_close(*both)
        return
    assert torch.autograd.gradgradcheck(draw, logits, g)


def test_half_precision_of_a_second_derivative():
    logits = leaf(3, 4, dtype=torch.bfloat16)
    for method in (GumbelSoftmax(), ReinMax(), StraightThrough(), GumbelRao()):
        [first] = torch.autograd.grad(method.from_logits(logits).square().sum(), logits, create_graph=True)
        [second] = torch.autograd.grad(first.square().sum(), logits)
        assert second.dtype == torch.bfloat16
        assert second.isfinite().all()


@pytest.mark.parametrize("method", [ScoreFunction(), RLOO()], ids=["score_function", "rloo"])
def test_the_score_functions_second_derivative_is_unbiased(method):
    """Every entry of the Hessian, those that mix a parameter of f included; 4.9 standard errors, 1e-6 each."""
    logits, shift = leaf(3), torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    weights = leaf(3, seed=3).detach()

    def hessian(value):
        [first] = torch.autograd.grad(value, logits, create_graph=True)
        rows = [
            torch.cat([part.reshape(-1) for part in torch.autograd.grad(one, (logits, shift), retain_graph=True)])
            for one in first
        ]
        return torch.stack(rows)

    def f(z):
        return (z @ weights + shift).square()

    dist = OneHotCategorical(logits=logits)
    true = hessian(expect(f, dist, grad="exact"))
    random = generator(4)
    found = torch.stack([hessian(method(f, dist, samples=30, generator=random)) for _ in range(400)])
    assert ((found.mean(0) - true).abs() < 4.9 * found.std(0) / 400**0.5).all()


@pytest.mark.parametrize("method", [DisARM(), VIMCO(), REBAR()], ids=lambda method: type(method).__name__)
def test_second_derivatives_that_are_not_defined_are_refused(method):
    f, dist = bits_problem()
    [first] = torch.autograd.grad(expect(f, dist, grad=method, samples=2), dist.base_dist.logits, create_graph=True)
    with pytest.raises(
        InputError, match=f"grad: expected one derivative of {type(method).__name__}, which has no second"
    ):
        torch.autograd.grad(first.sum(), dist.base_dist.logits)


@pytest.mark.parametrize("name", ["disarm", "arm", *DISCRETE])
def test_parameters_of_f_get_the_gradient_of_the_mean(name):
    _, dist = bits_problem()
    scale = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    value = expect(lambda z: scale * z.sum(-1), dist, grad=name, samples=4, generator=generator())
    torch.testing.assert_close(torch.autograd.grad(value, scale)[0] * 2, value.detach())


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_estimators_at_awkward_points(name, dtype, monkeypatch):
    # torch's validation fails on an empty batch, and refuses NaN before we do.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    logits = leaf(3, 4, dtype=dtype).detach()
    logits[0, 1:] = -torch.inf
    logits[1, 2] = -torch.inf
    logits.requires_grad_()
    value = expect(
        lambda z: z[..., 0].square() + z[..., 3],
        OneHotCategorical(logits=logits),
        grad=name,
        samples=3,
        generator=generator(),
    )
    [gradient] = torch.autograd.grad(value, logits)
    assert value.dtype == dtype
    assert gradient.isfinite().all()
    assert gradient[0].abs().max() < 1e-2  # nothing to choose; to the rounding of bfloat16
    for batch, classes in ((0, 4), (2, 1)):
        few = leaf(batch, classes)
        out = ESTIMATORS[name]()(lambda z: z[..., 0], OneHotCategorical(logits=few), samples=2, generator=generator())
        assert out.shape == (batch,)
        assert torch.autograd.grad(out.sum(), few)[0].abs().sum() < 1e-12
    nothing = torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], requires_grad=True)
    if name != "exact":
        with pytest.raises(InputError, match="expected a finite entry and no NaN"):
            expect(lambda z: z[..., 0], OneHotCategorical(logits=nothing), grad=name, samples=2)


# --- The verbs


def test_sample_by_name_and_from_a_distribution():
    logits = leaf(3, 4)
    draw = sample(OneHotCategorical(logits=logits), grad="reinmax", generator=generator())
    assert draw.shape == (3, 4)
    bits = sample(Bernoulli(logits=logits), grad="straight_through", generator=generator())
    [gradient] = torch.autograd.grad(bits.sum(), logits)
    p = logits.detach().sigmoid()
    torch.testing.assert_close(gradient, p * (1 - p))
    with pytest.raises(InputError, match="grad: expected what draws with a gradient, got 'rloo'"):
        sample(logits, grad="rloo")
    with pytest.raises(InputError, match="grad: expected one of arm, .*, got 'reinmacks'"):
        sample(logits, grad="reinmacks")
    with pytest.raises(InputError, match="OneHotCategorical or Bernoulli for ReinMax, got Categorical; OneHot"):
        sample(Categorical(logits=logits), grad="reinmax")


def test_expect_is_the_mean_over_draws_and_batch():
    f, dist = one_hot_problem()
    for name in ("rloo", "score_function", "reinmax", "rebar"):
        value = expect(f, dist, grad=name, samples=5, generator=generator())
        per_element = ESTIMATORS[name]()(f, dist, samples=5, generator=generator())
        assert per_element.shape == (2,)
        torch.testing.assert_close(value, per_element.mean())
    with pytest.raises(InputError, match="samples: expected at least 1, got 0"):
        expect(f, dist, grad="rloo", samples=0)
    with pytest.raises(InputError, match="samples: expected at least 2, so that each draw has others, got 1"):
        expect(f, dist, grad="rloo")
    with pytest.raises(TensorError, match=r"f: expected one value .* batch element, \[3, 2\], got \[3\]"):
        expect(lambda z: f(z).mean(1), dist, grad="rloo", samples=3)
    with pytest.raises(InputError, match="f: expected a tensor of values, got float"):
        expect(lambda _: 0.0, dist, grad="score_function")


def test_coupled_draws_are_for_bits_and_pairs():
    f, dist = bits_problem()
    with pytest.raises(InputError, match="samples: expected an even number, two for each pair, got 3"):
        expect(f, dist, grad="disarm", samples=3)
    with pytest.raises(InputError, match="dist: expected Bernoulli for ARM, got Normal"):
        expect(f, Normal(0.0, 1.0), grad="arm", samples=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GumbelSoftmax(tau=-1.0), "tau: expected a finite temperature, at least 0, got -1.0"),
        (lambda: ReinMax(tau=float("nan")), "tau: expected a finite temperature"),
        (lambda: GumbelRao(inner=0), "inner: expected at least 1, got 0"),
        (lambda: RELAX(tau=0.0), "tau: expected a positive temperature, got 0.0"),
        (lambda: linear_annealing(0, start=0.0, steps=3), "start: expected a positive temperature, got 0.0"),
        (lambda: exponential_annealing(-1, steps=3), "expected a step from 0 on and at least one step, got -1 and 3"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_network_of_another_shape_is_refused():
    f, dist = one_hot_problem()
    with pytest.raises(TensorError, match=r"net: expected \[2\], one value a batch element, got \[2, 4\]"):
        expect(f, dist, grad=ScoreFunction(NetworkBaseline(torch.nn.Identity())))


def test_check_finds_the_leaves_behind_any_parameter_and_touches_none_of_their_gradients():
    base = torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE, requires_grad=True)
    scale = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    dist = Independent(OneHotCategorical(probs=(scale * base.expand(2, 3)).softmax(-1)), 1)
    values = torch.tensor([1.0, 3.0, 2.0], dtype=DOUBLE)
    report = check(lambda z: (z @ values).prod(-1), dist, grad="exact", draws=3)
    assert report.rows[0].bias < 1e-25
    assert report.truth == "enumeration of 9 states"
    assert base.grad is None
    assert scale.grad is None


def test_check_tells_what_is_off():
    """An estimator with a known bias and variance: the true gradient, a tenth too long, with noise."""
    f, dist = one_hot_problem()
    random = generator(8)

    def off(f, dist, *, samples, generator):
        value = ESTIMATORS["exact"]()(f, dist, samples=samples, generator=generator)
        noise = torch.randn(dist.logits.shape, dtype=DOUBLE, generator=random)
        logits = leaves[0]
        return 1.1 * value + 0.05 * ((logits - logits.detach()) * noise).sum(-1)

    leaves = [dist.logits.grad_fn.next_functions[0][0].variable]
    value = ESTIMATORS["exact"]()(f, dist, samples=1, generator=None).mean()
    length2 = torch.autograd.grad(value, leaves, retain_graph=True)[0].square().sum().item()
    row = check(f, dist, grad=off, draws=800).rows[0]
    assert row.name == "off"
    assert row.bias == pytest.approx(0.01, abs=4.9 * row.bias_error)
    assert row.p < 1e-6
    expected = 8 * (0.05 / 2) ** 2 / length2  # halved by the mean over the batch of two
    assert row.variance == pytest.approx(expected, rel=4.9 * (2 / (8 * 800)) ** 0.5)
    assert row.calls == 4


def test_check_refuses_what_it_cannot_compare():
    f, dist = one_hot_problem()
    with pytest.raises(InputError, match="draws: expected at least 3"):
        check(f, dist, grad="rloo", draws=2)
    with pytest.raises(InputError, match="dist: expected parameters that require a gradient, got none"):
        check(f, OneHotCategorical(logits=torch.zeros(3)), grad="rloo")
    with pytest.raises(InputError, match="f: expected a true gradient that is finite and not zero"):
        check(lambda z: z.sum(-1), dist, grad="score_function")
    with pytest.raises(InputError, match="expected a support that stays, got Uniform, whose bounds are parameters"):
        check(lambda z: z, Uniform(torch.tensor(0.0, requires_grad=True), 1.0), grad="score_function")
    with pytest.raises(InputError, match="expected at most 2 dimensions to integrate over, got 3"):
        check(lambda z: z.sum(-1), Independent(Normal(leaf(3), 1.0), 1), grad="score_function")


def test_the_report_is_a_table_and_a_plot(tmp_path, monkeypatch):
    f, dist = one_hot_problem()
    report = check(
        f, dist, grad=["rloo", "exact", GumbelSoftmax(tau=0.25, hard=True)], samples=2, draws=50, generator=generator()
    )
    lines = report.table().splitlines()
    assert [line.split("  ")[0] for line in lines[:4]] == ["estimator", "rloo", "exact", "hard GumbelSoftmax, tau 0.25"]
    assert lines[4] == "truth: enumeration of 4 states; 2 samples, 50 repetitions"
    assert len({len(line) for line in lines[:4]}) == 1
    pytest.importorskip("matplotlib")
    figure = report.plot()
    figure.savefig(tmp_path / "report.png")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "rloo",
        "hard GumbelSoftmax, tau 0.25",
    ]  # exact: no variance
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'visavis\[plots\]'"):
        report.plot()
