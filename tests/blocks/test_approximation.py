import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from visavis.blocks.approximation import (
    Ball,
    Box,
    Constant,
    Geometric,
    Power,
    RootSearch,
    Running,
    conditions,
    diagnose,
    random_scaling_quantile,
    robbins_monro,
    wilson,
)
from visavis.errors import InputError, TensorError

SEEDS = st.integers(0, 2**31)


def draw(seed, rows, columns=3, offset=0.0):
    return torch.tensor(np.random.default_rng(seed).normal(offset, 1.0, (rows, columns)))


def close(ours, theirs):
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-9, atol=1e-10)


@given(SEEDS, st.integers(2, 60), st.integers(1, 20))
def test_moments_are_those_of_numpy_for_any_weights(seed, rows, size):
    x = draw(seed, rows)
    weights = torch.tensor(np.random.default_rng(seed + 1).uniform(0.1, 2.0, rows))
    stats = Running(3, covariance=True)
    for batch, weight in zip(x.split(size), weights.split(size), strict=True):
        stats.update(batch, weight)
    close(stats.mean, np.average(x, axis=0, weights=weights))
    close(stats.covariance(), np.cov(x.T, aweights=weights))
    close(stats.variance(), np.cov(x.T, aweights=weights).diagonal().copy())
    assert stats.count == rows


@given(SEEDS, st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(lambda n: sum(n) > 1))
def test_merging_is_associative_and_equal_to_one_pass(seed, sizes):
    x = draw(seed, sum(sizes))
    a, b, c = (lambda part=part: Running(3).update(part) for part in x.split(sizes))
    left, right = a().merge(b()).merge(c()), a().merge(b().merge(c()))
    for stats in (left, right):
        close(stats.mean, x.mean(0))
        close(stats.variance(), x.var(0))


@given(SEEDS, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_scale_and_shift_pass_through_and_order_does_not_matter(seed, scale, shift):
    x = draw(seed, 40)
    plain, moved = Running(3).update(x), Running(3).update((scale * x + shift).flip(0))
    torch.testing.assert_close(moved.mean, scale * plain.mean + shift, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved.variance(), scale**2 * plain.variance(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("columns", [1, 4])
def test_float32_far_from_zero(columns):
    x = draw(0, 200_000, columns, offset=1e4).float()
    stats = Running(columns)
    for batch in x.split(4096):
        stats.update(batch)
    torch.testing.assert_close(stats.variance(), x.double().var(0), rtol=1e-5, atol=0)
    assert (x.square().mean(0) - x.mean(0).square() - 1).abs().max() > 0.5  # the naive formula has lost everything


def test_half_life_is_a_weighted_mean_with_variance_and_quantiles():
    x = draw(3, 300)
    weights = 0.5 ** (np.arange(299, -1, -1) / 20)
    stats = Running(3, half_life=20, quantiles=True)
    for batch in x.split(7):
        stats.update(batch)
    close(stats.mean, np.average(x, axis=0, weights=weights))
    close(stats.variance(), np.cov(x.T, aweights=weights).diagonal().copy())
    ordered = np.argsort(x[:, 0].numpy())
    place = np.searchsorted(np.cumsum(weights[ordered]) / weights.sum(), 0.3)
    assert stats.quantile(0.3)[0] == x[ordered[place], 0]
    halves = Running(3, half_life=20).update(x[:100]).merge(Running(3, half_life=20).update(x[100:]))
    close(halves.mean, stats.mean)
    first = Running(half_life=50).update(torch.tensor([5.0]))
    assert first.mean == 5  # no start at zero to be corrected


@given(SEEDS, st.integers(1, 2000), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
@settings(max_examples=50)
def test_quantiles_of_short_streams_are_exact(seed, rows, share):
    x = draw(seed, rows, 2)
    stats = Running(2, quantiles=True)
    for batch in x.split(333):
        stats.update(batch)
    assert np.array_equal(stats.quantile(share), np.quantile(x, share, axis=0, method="inverted_cdf"))
    close(stats.cdf(0.1), (x <= 0.1).double().mean(0))


# The deviation of a rank is at most .3 %, so that 1 % is beyond 3 deviations: of one look in 400, at the median only.
@pytest.mark.parametrize("order", ["random", "sorted", "reversed", "zigzag"])
@pytest.mark.parametrize("merged", [False, True])
def test_ranks_within_one_percent_in_every_order(order, merged):
    rows = 600_000
    x = torch.arange(float(rows))
    if order == "random":
        x = x[torch.randperm(rows, generator=torch.Generator().manual_seed(0))]
    elif order == "reversed":
        x = x.flip(0)
    elif order == "zigzag":
        x = torch.stack([x[: rows // 2], x[rows // 2 :].flip(0)], 1).flatten()
    parts = [Running(quantiles=True, seed=seed) for seed in range(4 if merged else 1)]
    for stats, part in zip(parts, x.chunk(len(parts)), strict=True):
        for batch in part.split(10_000):
            stats.update(batch)
    for other in parts[1:]:
        parts[0].merge(other)
    for share in (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999):
        assert abs(parts[0].quantile(share).item() / rows - share) < 0.01
    assert len(parts[0].state_dict()["sketch"]["buffers"]) < 20


def test_weighted_ranks():
    x = torch.arange(300_000.0)
    stats = Running(quantiles=True)
    for batch in x.split(5000):
        stats.update(batch, batch)  # weights rise along the line: the share below v is (v / n)^2
    for share in (0.1, 0.5, 0.9):
        assert abs((stats.quantile(share).item() / 300_000) ** 2 - share) < 0.01


@pytest.mark.parametrize("half_life", [None, 5000.0])
def test_a_checkpoint_goes_on_to_the_bit(half_life):
    x = draw(5, 30_000, 2).float()
    options = {"covariance": True, "quantiles": True, "half_life": half_life}
    whole = Running(2, seed=1, **options)
    for batch in x[:20_000].split(700):
        whole.update(batch)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    again = Running(2, seed=99, **options)
    again.load_state_dict(torch.load(file))
    for stats in (whole, again):
        for batch in x[20_000:].split(700):
            stats.update(batch)
    assert torch.equal(whole.covariance(), again.covariance())
    assert all(torch.equal(whole.quantile(q), again.quantile(q)) for q in (0.0, 0.3, 1.0))
    with pytest.raises(InputError, match="state: expected the options"):
        Running(2).load_state_dict(whole.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Running(0), "dim: expected positive lengths, got 0"),
        (lambda: Running(half_life=0.0), "half_life: expected a positive number of rows, got 0.0"),
        (lambda: Running().mean, "update: expected a row with a positive weight"),
        (lambda: Running().update(torch.tensor([math.nan])), "batch: expected finite numbers"),
        (lambda: Running().update(torch.ones(2), torch.tensor([1.0, -1.0])), "weights: expected finite numbers"),
        (lambda: Running().update(torch.ones(1)).variance(), "correction: expected more rows"),
        (lambda: Running().update(torch.ones(1)).covariance(), "covariance: expected an object made with"),
        (lambda: Running().update(torch.ones(1)).quantile(0.5), "quantiles: expected an object made with"),
        (lambda: Running(quantiles=True).quantile(1.5), r"share: expected a number in \[0, 1\], got 1.5"),
        (lambda: Running(2).merge(Running(3)), "other: expected the options"),
        (lambda: robbins_monro(lambda x: x, 0.0, steps=0), "steps: expected at least 1, got 0"),
        (lambda: robbins_monro(lambda x: x * math.nan, 1.0), "value: expected finite numbers"),
        (lambda: RootSearch(torch.zeros(1), scale=0.0), "scale: expected a positive distance, got 0.0"),
        (lambda: RootSearch(torch.tensor([math.inf])), "start: expected finite numbers"),
        (lambda: Power(-1.0), "scale, exponent, offset: expected"),
        (lambda: Constant(0.0), "rate: expected a positive number, got 0.0"),
        (lambda: Geometric(1.0, 1.0), "scale, ratio: expected"),
        (lambda: Box(1.0, 0.0), "low, high: expected low <= high"),
        (lambda: Ball(0.0), "radius: expected a positive number, got 0.0"),
        (lambda: diagnose(robbins_monro(lambda x: x, 0.0, steps=199)), "root: expected a trace of at least 200"),
        (lambda: random_scaling_quantile(1.0), "confidence: expected a share"),
        (lambda: wilson(0.5, 0), "share: expected one in"),
        (lambda: wilson(1.5, 3), "share: expected one in"),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_wrong_shapes_are_refused():
    with pytest.raises(TensorError, match=r"batch: expected float \[any, 2\], got float32 \[4, 3\]"):
        Running(2).update(torch.ones(4, 3))
    with pytest.raises(TensorError, match=r"weights: expected \[4\], one a row, got \[3\]"):
        Running(2).update(torch.ones(4, 2), torch.ones(3))
    with pytest.raises(TensorError, match=r"value: expected \[2\], like the point, got \[\]"):
        robbins_monro(lambda x: x.sum(), torch.zeros(2))
    with pytest.raises(TensorError, match="start: expected float, got int64"):
        RootSearch(torch.tensor([1]))


def noise(kind, generator, count):
    z = torch.randn(count, generator=generator, dtype=torch.float64)
    if kind == "normal":
        return z
    if kind == "log-normal":
        return z.exp()
    u = torch.rand(count, generator=generator, dtype=torch.float64) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


# n Var over its optimum 1 / (4 f(m)^2), from 2000 runs: a standard error of 3.2 %. With this seed it is 1.04, 1.08 and
# 1.16; 6000 runs with another gave 1.12, 1.15 and 1.18 (2 %). So the bounds guard against a loss, and are not the goal
# of 1.1, which log-normal and Laplace noise do not reach. The true median is subtracted: bias counts.
@pytest.mark.parametrize(
    ("kind", "median", "best", "bound"),
    [("normal", 0.0, math.pi / 2, 1.15), ("log-normal", 1.0, math.pi / 2, 1.18), ("laplace", 0.0, 1.0, 1.25)],
)
@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_median_without_being_told_the_slope(kind, median, best, bound):
    generator = torch.Generator().manual_seed(1)
    runs, n = 2000, 10_000
    search = RootSearch(torch.full((runs,), 2.0))
    for _ in range(n):
        search.tell((noise(kind, generator, runs) <= search.point).double() - 0.5)
    assert n * (search.value - median).square().mean() / best < bound
    low, high = search.interval(0.95)
    # Random scaling is exact for n -> inf only; .9 is what is promised here (standard error .7 %).
    assert ((low <= median) & (median <= high)).double().mean() > 0.90


@pytest.mark.parametrize(("start", "unit"), [(100.0, 1.0), (0.0, 100.0), (0.0, 0.01)])
@pytest.mark.usefixtures("one_thread")
def test_neither_a_far_start_nor_another_unit_matters(start, unit):
    generator = torch.Generator().manual_seed(2)
    search = RootSearch(torch.full((1000,), start))
    for _ in range(3000):
        search.tell((unit * noise("normal", generator, 1000) <= search.point).double() - 0.5)
    assert 3000 * (search.value / unit).square().mean() / (math.pi / 2) < 1.6


def test_a_vector_whose_entries_depend_on_each_other():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    goal = torch.tensor([1.0, -2.0], dtype=torch.float64)

    def f(x):
        return matrix @ (x - goal) + torch.randn(2, generator=generator, dtype=torch.float64)

    root = robbins_monro(f, torch.zeros(2))
    best = torch.linalg.inv(matrix @ matrix).diagonal() / 10_000  # of every scheme, asymptotically
    assert ((root.value - goal).abs() < 5 * best.sqrt()).all()
    assert root.trace.points.shape == root.trace.values.shape == root.trace.steps.shape == (10_000, 2)
    moved = root.trace.points[-2] - root.trace.steps[-2] * root.trace.values[-2]
    torch.testing.assert_close(moved, root.trace.points[-1])


def test_given_steps_are_taken_and_judged():
    root = robbins_monro(lambda x: x - 5, 0.0, steps=3, schedule=Power(1.0))
    assert root.trace.steps.tolist() == [1.0, 0.5, 1 / 3]
    assert root.conditions.converges
    assert robbins_monro(lambda x: x, 1.0, steps=3, schedule=Constant(0.1)).conditions.squares_converge is False


def noisy_line(slope, generator):
    return lambda x: slope * (x - 5) + torch.randn(x.shape, generator=generator, dtype=torch.float64)


def test_a_diagnosis_measures_what_was_put_in():
    generator = torch.Generator().manual_seed(0)
    found = diagnose(robbins_monro(noisy_line(2.0, generator), torch.zeros(4), schedule=Power(1.0, exponent=0.7)))
    torch.testing.assert_close(found.exponent, torch.full((4,), 0.7, dtype=torch.float64))
    assert ((found.drift - 2).abs() < 4 * found.drift_error + 0.05).all()  # the root is known but for its own error
    assert (found.noise - 1).abs().max() < 5 * math.sqrt(2 / 2500)
    assert found.correlation.abs().max() < 5 / math.sqrt(5000)
    torch.testing.assert_close(found.reach, found.drift * sum(n**-0.7 for n in range(1, 10_001)))
    assert found.warnings == []


@pytest.mark.parametrize(
    ("slope", "schedule", "growth", "warned"),
    [
        (1.0, Power(0.1, exponent=0.5), 0.0, []),  # n^-1/2 lets just too much in: no finite trace can tell from .5001
        (1.0, Power(0.5, exponent=0.3), 0.0, ["exponent: at most 1/2"]),
        (1.0, Power(0.1, exponent=1.5), 0.0, ["exponent: above 1"]),
        (1.0, Geometric(0.1, 0.99), 0.0, ["exponent: above 1"]),
        (1.0, Power(0.01, exponent=0.7), 0.0, ["reach: more than"]),
        (0.0, Power(0.1, exponent=0.7), 0.0, ["drift: no clear pull"]),
        (1.0, Power(0.5, exponent=0.7), 1.0, ["noise: its variance grows"]),
    ],
)
def test_a_diagnosis_warns_of_what_is_broken(slope, schedule, growth, warned):
    generator, looks = torch.Generator().manual_seed(0), iter(range(10_000))

    def f(x):
        noise = torch.randn((), generator=generator, dtype=torch.float64)
        return slope * (x - 5) + math.exp(growth * next(looks) / 1000) * noise

    found = diagnose(robbins_monro(f, 0.0, steps=2000, schedule=schedule)).warnings
    assert bool(found) == bool(warned)
    assert all(any(text.startswith(start) for text in found) for start in warned)


def test_the_set_is_never_left():
    root = robbins_monro(lambda x: x - 5, torch.zeros(3), steps=200, within=(-1.0, 2.0))
    assert (root.trace.points <= 2).all()
    torch.testing.assert_close(root.value, torch.full((3,), 2.0, dtype=torch.float64), rtol=0, atol=0.05)
    assert robbins_monro(lambda x: x - 5, torch.zeros(3), steps=200, within=Ball(1.0)).value.norm() <= 1 + 1e-12


def test_a_search_goes_on_to_the_bit():
    a = RootSearch(torch.zeros(3))
    for _ in range(700):
        a.tell(a.point - 1 + torch.sin(1e4 * a.point + a.count))
    b = RootSearch(torch.ones(3))
    b.load_state_dict(a.state_dict())
    for search in (a, b):
        for _ in range(100):
            search.tell(search.point - 1 + torch.sin(1e4 * search.point + search.count))
    assert torch.equal(a.value, b.value)
    assert torch.equal(a.interval(), b.interval())


@pytest.mark.parametrize("exponent", [0.0, 0.4, 0.5, 0.51, 1.0, 1.01, 2.0])
def test_conditions_against_sums(exponent):
    steps = Power(1.0, exponent=exponent)
    n = np.arange(1, 2**20, dtype=float)
    a = n**-exponent
    for values, known in ((a, steps.conditions().sum_diverges), (a**2, not steps.conditions().squares_converge)):
        late, later = values[2**18 : 2**19].sum(), values[2**19 :].sum()
        assert (later > 0.999 * late) == known  # of p-series the blocks grow, or stay, exactly when the sum diverges
    assert steps(7) == pytest.approx(7**-exponent)


def test_conditions_of_the_others():
    assert conditions(Geometric(1.0, 0.5)).sum_diverges is False
    assert sum(Geometric(1.0, 0.5)(n) for n in range(1, 60)) == pytest.approx(2.0)
    assert conditions(Constant(0.1)).converges is False
    assert conditions(lambda n: 1 / n).converges is None


def test_random_scaling_by_simulation():
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(20_000, 400, generator=generator).cumsum(1)
    n = torch.arange(1, 401)
    spread = (walk - n / 400 * walk[:, -1:]).square().mean(1)
    t = walk[:, -1].abs() / spread.sqrt()
    for confidence in (0.5, 0.9, 0.95):
        error = math.sqrt(confidence * (1 - confidence) / 20_000)
        inside = (t <= random_scaling_quantile(confidence)).double().mean().item()
        assert abs(inside - confidence) < 4 * error + 0.003  # 400 steps stand for a continuous path


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(successes, trials):
    successes = min(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes / trials, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)
