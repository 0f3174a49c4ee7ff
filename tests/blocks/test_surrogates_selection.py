"""Against torch.quantile and topk when cold, and against scipy's root finder at any temperature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from visavis.blocks.surrogates import exact_median, exact_quantile, exact_top_k, median, quantile, top_k
from visavis.errors import InputError, TensorError

ROWS = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0]) | st.floats(-5, 5), min_size=1, max_size=20)
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)
TEMPERATURES = st.floats(1e-3, 10)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def threshold(values, above, temperature):
    """The t that `above` of the blurred values exceed."""
    x = np.array(values)
    return brentq(
        lambda t: expit((x - t) / temperature).sum() - above,
        x.min() - 60 * temperature,
        x.max() + 60 * temperature,
        xtol=1e-13,
    )


@given(ROWS, SHARES)
def test_the_exact_quantile_is_torchs(values, q):
    torch.testing.assert_close(exact_quantile(tensor(values), q), torch.quantile(tensor(values), q))


@given(ROWS, SHARES, TEMPERATURES)
def test_quantile_by_a_root_finder_and_within_its_bounds(values, q, temperature):
    n, place = len(values), q * (len(values) - 1)
    below = math.floor(place)
    low, high = (threshold(values, n - j - 0.5, temperature) for j in (below, min(below + 1, n - 1)))
    value = quantile(tensor(values), q, temperature=temperature).item()
    assert value == pytest.approx(low + (place - below) * (high - low), abs=1e-9)
    exact = exact_quantile(tensor(values), q).item()
    above = min(below + 1, n - 1)
    assert exact - temperature * math.log(2 * (n - below) - 1) - 1e-9 <= value
    assert value <= exact + temperature * math.log(2 * above + 1) + 1e-9


@given(ROWS, st.integers(1, 20), TEMPERATURES)
def test_mask_sums_to_k_within_its_bounds(values, k, temperature):
    n, k = len(values), min(k, len(values))
    mask = top_k(tensor(values), k, temperature=temperature)
    assert mask.sum().item() == pytest.approx(k, abs=1e-9)
    if k < n:
        t = threshold(values, k, temperature)
        np.testing.assert_allclose(mask, expit((np.array(values) - t) / temperature), atol=1e-9)
        falling = sorted(values, reverse=True)
        bound = max(k, n - k) * math.exp((falling[k] - falling[k - 1]) / (2 * temperature))
        if falling[k - 1] > falling[k]:
            assert (mask - exact_top_k(tensor(values), k)).abs().max() <= bound + 1e-9


@given(ROWS, SHARES, st.integers(1, 20))
def test_cold_it_is_the_exact_value(values, q, k):
    x, k = tensor(values), min(k, len(values))
    assert quantile(x, q, temperature=1e-9).item() == pytest.approx(exact_quantile(x, q).item(), abs=1e-7)
    gaps = np.diff(np.unique(values))
    if not gaps.size or gaps.min() > 1e-6:
        torch.testing.assert_close(top_k(x, k, temperature=1e-9), exact_top_k(x, k), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 1.0, 1e4])
def test_other_precisions(dtype, temperature):
    x = random(3, 40).to(dtype).requires_grad_()
    mask, middle = top_k(x, 7, temperature=temperature), median(x, temperature=temperature)
    assert mask.dtype == middle.dtype == dtype
    ulp = torch.finfo(dtype).eps
    # x / T is off by up to 4 / T half units in the last place, and the sigmoids' slopes are at most 1/4.
    error = 40 * (ulp + torch.finfo(torch.float32).eps / temperature) if temperature > 1e-6 else 40 * ulp
    torch.testing.assert_close(mask.float().sum(1), torch.full((3,), 7.0), rtol=0, atol=error)
    if temperature < 1e-6:
        torch.testing.assert_close(middle, exact_median(x))
    # The weights of the gradient are at most 1, whatever the temperature.
    [gradient] = torch.autograd.grad(middle.sum(), x)
    torch.testing.assert_close(gradient.float().sum(1), torch.ones(3), rtol=0, atol=40 * ulp)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jacfwd
@pytest.mark.parametrize(
    "function",
    [
        lambda v, dim: top_k(v, 2, dim=dim, temperature=0.3),
        lambda v, dim: quantile(v, 0.3, dim=dim, temperature=0.3),
        lambda v, dim: median(v, dim=dim, temperature=0.05),
    ],
    ids=["top_k", "quantile", "median"],
)
def test_derivatives(function):
    x = random(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, 1), x)
    assert torch.autograd.gradgradcheck(lambda v: function(v, 1), x)
    torch.testing.assert_close(torch.vmap(lambda v: function(v, 0))(x), function(x, 1))
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v, 1), x)
    torch.testing.assert_close(torch.func.jacfwd(lambda v: function(v, 1))(x), jacobian)


def test_what_is_left_out_changes_nothing():
    x, junk = random(3, 6), torch.full((3, 2), -math.inf, dtype=torch.float64)
    mask = torch.tensor([True] * 6 + [False] * 2).expand(3, 8)
    padded = torch.cat([x, junk], 1)
    torch.testing.assert_close(top_k(padded, 2, temperature=0.1)[:, :6], top_k(x, 2, temperature=0.1))
    assert (top_k(padded, 6, temperature=0.1) == mask.double()).all()
    torch.testing.assert_close(exact_top_k(padded, 2)[:, :6], exact_top_k(x, 2))
    for row_of in (lambda v, m: quantile(v, 0.3, temperature=0.1, mask=m), lambda v, m: exact_quantile(v, 0.3, mask=m)):
        torch.testing.assert_close(row_of(padded, mask), row_of(x, None))
    ragged = torch.tensor([[True, True, False], [True, True, True]])
    assert exact_median(tensor([[1.0, 3.0, 9.0], [1.0, 3.0, 9.0]]), mask=ragged).tolist() == [2.0, 3.0]
    cold = median(tensor([[1.0, 3.0, 9.0], [1.0, 3.0, 9.0]]), mask=ragged, temperature=1e-3)
    assert cold.tolist() == pytest.approx([2.0, 3.0])


def test_ties_share_the_last_places():
    x = tensor([1.0, 0.5, 0.5, 0.5, 0.0])
    exact = exact_top_k(x, 2)
    torch.testing.assert_close(exact, tensor([1.0, 1 / 3, 1 / 3, 1 / 3, 0.0]))
    torch.testing.assert_close(top_k(x, 2, temperature=1e-3), exact)


@pytest.mark.slow
def test_more_entries_than_torch_takes():
    count = 2**24 + 2
    x = torch.arange(count, dtype=torch.float64).flip(0)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(x, 0.5)
    assert exact_median(x).item() == (count - 1) / 2
    assert median(x, temperature=1.0).item() == pytest.approx((count - 1) / 2)


def test_senseless_input_is_refused():
    x = torch.zeros(2, 3)
    for k in (0, 4):
        with pytest.raises(InputError, match=f"k: expected from 1 to the number of entries of a row, got {k}"):
            top_k(x, k, temperature=0.1)
    with pytest.raises(InputError, match="got 2; are too many masked out?"):
        exact_top_k(torch.tensor([0.0, -math.inf]), 2)
    with pytest.raises(InputError, match="x: expected finite numbers, or minus infinity to leave out"):
        top_k(torch.tensor([0.0, math.nan]), 1, temperature=0.1)
    with pytest.raises(InputError, match=r"q: expected a share in \[0, 1\], got 1.5"):
        exact_quantile(x, 1.5)
    with pytest.raises(InputError, match="x: expected finite numbers, got infinity or NaN; leave out by `mask`"):
        median(torch.tensor([0.0, math.inf]), temperature=0.1)
    with pytest.raises(InputError, match="mask: expected at least one entry that counts in every row"):
        median(x, temperature=0.1, mask=torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(TensorError, match=r"mask: expected bool \[2, 3\], got float32 \[2, 3\]"):
        exact_median(x, mask=x)
    with pytest.raises(InputError, match="temperature: expected a positive number, got nan"):
        median(x, temperature=math.nan)
