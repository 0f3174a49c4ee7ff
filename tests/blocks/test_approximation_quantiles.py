import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from visavis.blocks.approximation import RunningQuantile, Tail
from visavis.errors import InputError, TensorError

LAWS = {"normal": stats.norm(), "log-normal": stats.lognorm(1), "laplace": stats.laplace()}


def draw(law, seed, *shape):
    random = np.random.default_rng(seed)
    source = {"normal": random.normal, "log-normal": random.lognormal, "laplace": random.laplace}[law]
    return torch.tensor(source(size=shape))


# Of 2000 runs the ratio has a standard error of 3.2 %, so that 1.12 is nearly 4 of them above 1.
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.usefixtures("one_thread")
def test_as_good_as_the_sample_quantile(law, share):
    runs, n = 2000, 4000
    search = RunningQuantile(share, runs)
    for batch in draw(law, 1, n, runs).split(500):
        search.update(batch)
    true = LAWS[law].ppf(share)
    best = share * (1 - share) / LAWS[law].pdf(true) ** 2
    assert n * (search.value - true).square().mean() / best < 1.12
    assert abs(search.density.mean() / LAWS[law].pdf(true) - 1) < 0.1  # a cusp is seen through a window
    low, high = search.interval(0.9)
    assert abs(((low <= true) & (true <= high)).double().mean() - 0.9) < 0.03  # standard error .7 %


@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=20)
def test_scale_and_shift_pass_through(seed, scale, shift):
    x = draw("normal", seed, 500, 2)
    plain, moved = RunningQuantile(0.3, 2).update(x), RunningQuantile(0.3, 2).update(scale * x + shift)
    torch.testing.assert_close(moved.value, scale * plain.value + shift, rtol=1e-4, atol=1e-6)


def test_the_first_rows_are_exact_and_ties_do_no_harm():
    x = draw("normal", 0, 63, 3)
    assert np.allclose(RunningQuantile(0.2, 3).update(x[:20]).update(x[20:]).value, np.quantile(x, 0.2, axis=0))
    assert RunningQuantile(0.5).update(torch.full((1000,), 7.0)).value == pytest.approx(7.0)
    whole = torch.tensor(np.random.default_rng(0).poisson(3.0, 5000), dtype=torch.float64)
    assert abs(RunningQuantile(0.5).update(whole).value - np.median(whole)) < 0.6


def test_quantile_merging_and_checkpoints():
    x = draw("normal", 3, 4000, 500)
    parts = [RunningQuantile(0.5, 500).update(part) for part in (x[:1000], x[1000:])]
    merged = parts[0].merge(parts[1])
    assert merged.count == 4000
    assert 4000 * merged.value.square().mean() / (math.pi / 2) < 1.3  # standard error 6 %
    early, late = RunningQuantile(0.5, 500).update(x[:10]), RunningQuantile(0.5, 500).update(x[10:])
    expected = RunningQuantile(0.5, 500).update(x[10:]).update(x[:10]).value
    assert torch.equal(late.merge(early).value, expected)
    assert torch.equal(early.merge(RunningQuantile(0.5, 500).update(x[10:])).value, expected)
    for length in (30, 1000):
        whole, again = RunningQuantile(0.5, 500).update(x[:length]), RunningQuantile(0.5, 500)
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        file.seek(0)
        again.load_state_dict(torch.load(file))
        assert torch.equal(whole.update(x[length:2000]).value, again.update(x[length:2000]).value)


@given(st.integers(0, 2**31), st.integers(1, 300), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_a_tails_threshold_is_that_of_numpy(seed, n, rate):
    x = draw("normal", seed, n).round(decimals=1)  # with ties
    tail = Tail(200)
    for batch in x.split(37):
        tail.update(batch)
    allowed = math.floor(rate * n + 1e-9)
    exact = np.quantile(x, (n - allowed - 0.5) / n, method="inverted_cdf")  # the half: safe from rounding
    found = tail.threshold(rate)
    assert found.value == exact
    assert found.low <= found.value <= found.high
    assert found.rate == (x > exact).double().mean() <= rate + 1e-12
    halves = Tail(200).update(x[: n // 2]).merge(Tail(200).update(x[n // 2 :]))
    assert halves.threshold(rate) == found


@pytest.mark.parametrize(("n", "rate"), [(5000, 2e-3), (500, 0.05)])
def test_a_tails_interval_covers_and_is_scipys(n, rate):
    x = torch.rand(2000, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [Tail(60).update(row).threshold(rate) for row in x]
    for missed in (sum(one.low > 1 - rate for one in found), sum(one.high < 1 - rate for one in found)):
        assert missed <= 50 + 3 * math.sqrt(50)  # at most 2.5 % of 2000
    first, second = stats.binom.ppf([0.025, 0.975], n, rate)
    ordered = x[0].sort(descending=True).values
    assert found[0].low == ordered[int(second)]
    # The largest j with P(fewer than j) <= 2.5 %, counted from one.
    assert found[0].high == ordered[int(first) - 1]


def test_a_tail_goes_on_to_the_bit_and_may_be_open():
    tail = Tail(5).update(torch.rand(100, generator=torch.Generator().manual_seed(0)))
    again = Tail(5)
    again.load_state_dict(tail.state_dict())
    assert again.threshold(0.01) == tail.threshold(0.01)
    assert tail.threshold(0.01).high == math.inf  # none at all may lie above
    assert tail.threshold(0.04).low == -math.inf  # it would take more scores than are kept


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RunningQuantile(0.0), r"share: expected a number in \(0, 1\), got 0.0"),
        (lambda: RunningQuantile(0.5, 0), "dim: expected positive lengths, got 0"),
        (lambda: RunningQuantile(0.5).value, "update: expected a row before"),
        (lambda: RunningQuantile(0.5).interval(), "update: expected at least 64 rows before the density"),
        (lambda: RunningQuantile(0.5).interval(1.0), r"confidence: expected a share in \(0, 1\), got 1.0"),
        (lambda: RunningQuantile(0.5).update(torch.tensor([math.inf])), "batch: expected finite numbers"),
        (lambda: RunningQuantile(0.5).merge(RunningQuantile(0.4)), "other: expected share 0.5"),
        (lambda: RunningQuantile(0.5).load_state_dict(RunningQuantile(0.4).state_dict()), "state: expected share 0.5"),
        (lambda: Tail(0), "keep: expected at least 1, got 0"),
        (lambda: Tail(5).update(torch.tensor([math.nan])), "scores: expected finite numbers"),
        (lambda: Tail(5).merge(Tail(6)), "other: expected one that keeps 5, got 6"),
        (lambda: Tail(5).load_state_dict(Tail(6).state_dict()), "state: expected one that keeps 5, got 6"),
        (lambda: Tail(5).threshold(0.0), r"rate: expected a share in \(0, 1\), got 0.0"),
        (lambda: Tail(5).update(torch.rand(9)).threshold(0.1, confidence=0.0), "confidence: expected a share"),
        (lambda: Tail(5).update(torch.rand(99)).threshold(0.1), "rate: expected more than 9 scores kept"),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_wrong_shapes_are_refused():
    with pytest.raises(TensorError, match=r"batch: expected float \[any, 2\], got float32 \[4, 3\]"):
        RunningQuantile(0.5, 2).update(torch.ones(4, 3))
    with pytest.raises(TensorError, match=r"scores: expected float \[any\], got int64 \[2\]"):
        Tail(5).update(torch.ones(2, dtype=torch.int64))
