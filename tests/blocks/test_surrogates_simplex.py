"""Against thresholds found by scipy's root finder, and sparsemax's by its sorted formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from visavis.blocks.surrogates import entmax, entmax15, exact_argmax, sparsemax
from visavis.errors import InputError, TensorError

ROWS = st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.1, 0.5, 1.0, 4.0]) | st.floats(-5, 5), min_size=1, max_size=40)
ALPHAS = st.sampled_from([1.05, 1.3, 1.5, 2.0, 2.5, 4.0])


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_root(values, alpha):
    x, power = np.array(values) * (alpha - 1), 1 / (alpha - 1)

    def weights(t):
        return np.maximum(x - t, 0) ** power

    return weights(brentq(lambda t: weights(t).sum() - 1, x.max() - 1 - 1e-9, x.max(), xtol=1e-15, rtol=1e-15))


def by_sorting(values):
    """Martins and Astudillo, algorithm 1."""
    falling = np.sort(values)[::-1]
    sums, count = np.cumsum(falling), np.arange(1, len(values) + 1)
    k = count[1 + count * falling > sums].max()
    return np.maximum(np.array(values) - (sums[k - 1] - 1) / k, 0)


@given(ROWS, ALPHAS)
def test_value_by_a_root_finder(values, alpha):
    y = entmax(torch.tensor(values, dtype=torch.float64), alpha=alpha)
    assert y.sum().item() == pytest.approx(1.0, abs=1e-12)
    # Above 2 the power below 1 turns a last bit of the threshold, 1e-16, into its root at the edge of the support.
    np.testing.assert_allclose(y, by_root(values, alpha), atol=1e-9 if alpha <= 2 else 1e-15 ** (1 / (alpha - 1)))


@given(ROWS)
def test_sparsemax_by_sorting(values):
    np.testing.assert_allclose(sparsemax(torch.tensor(values, dtype=torch.float64)), by_sorting(values), atol=1e-13)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000, 1003])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_long_rows_of_any_length(n, scale):
    """Rows are looked at in groups of 16."""
    x = random(4, n, seed=n) * scale
    for row, y, y15 in zip(x.numpy(), sparsemax(x), entmax15(x), strict=True):
        np.testing.assert_allclose(y, by_sorting(row), atol=1e-12)
        np.testing.assert_allclose(y15, by_root(row, 1.5), atol=1e-9)


@given(ROWS, ALPHAS, st.floats(0.01, 3))
def test_one_hot_once_the_first_is_ahead_enough(values, alpha, temperature):
    ahead = max(values) + temperature / (alpha - 1) * (1 + 1e-9)
    x = torch.tensor([*values, ahead], dtype=torch.float64)
    torch.testing.assert_close(entmax(x / temperature, alpha=alpha), exact_argmax(x), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jacfwd
@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0, 3.0])
def test_derivatives(alpha):
    x = random(2, 6, 3, seed=1).requires_grad_()
    function = lambda v: entmax(v, alpha=alpha, dim=1)  # noqa: E731
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    torch.testing.assert_close(torch.vmap(lambda v: entmax(v, alpha=alpha, dim=0))(x), function(x))
    jacobian = torch.func.jacrev(function)(x)
    torch.testing.assert_close(torch.func.jacfwd(function)(x), jacobian)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(function, x))


def test_where_nothing_is_left_the_second_derivative_is_finite():
    x = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    [first] = torch.autograd.grad(entmax15(x)[0], x, create_graph=True)
    assert torch.autograd.grad(first.sum(), x)[0].tolist() == [0.0, 0.0, 0.0]


def test_softmax_at_one_end():
    x = random(3, 7)
    torch.testing.assert_close(entmax(x, alpha=1.0), x.softmax(-1))
    torch.testing.assert_close(entmax(x, alpha=1.0001), x.softmax(-1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("function", [sparsemax, entmax15])
def test_what_is_masked_out_is_zero(function):
    x = random(2, 5, dtype=torch.float32)
    masked = torch.cat([x, torch.full((2, 3), -math.inf)], 1)
    torch.testing.assert_close(function(masked), torch.cat([function(x), torch.zeros(2, 3)], 1))
    leaf = masked.clone().requires_grad_()
    gradient = torch.autograd.grad(function(leaf)[:, 0].sum(), leaf)[0]
    assert gradient.isfinite().all()
    assert (gradient[:, 5:] == 0).all()


@pytest.mark.parametrize("function", [sparsemax, entmax15])
def test_ties_and_a_large_offset(function):
    torch.testing.assert_close(function(torch.full((3, 8), 1e4)), torch.full((3, 8), 1 / 8))
    x = random(4, 100, dtype=torch.float32).mul(64).round().div(64)  # so that adding 1024 is exact
    torch.testing.assert_close(function(x + 1024), function(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = random(3, 50).to(dtype)
    assert torch.equal(entmax15(x), entmax15(x.float()).to(dtype))


def test_no_rows():
    assert sparsemax(torch.zeros(0, 4)).shape == (0, 4)


def test_senseless_input_is_refused():
    for bad in (math.inf, math.nan):
        with pytest.raises(InputError, match="x: expected a finite largest entry in every row, got infinity or NaN"):
            sparsemax(torch.tensor([0.0, bad]))
    with pytest.raises(InputError, match="is a row masked out completely?"):
        torch.vmap(entmax15)(torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]))
    with pytest.raises(InputError, match="alpha: expected at least 1, got 0.5"):
        entmax(torch.zeros(2), alpha=0.5)
    with pytest.raises(TensorError, match=r"x: expected float with something along axis -1, got int64 \[2\]"):
        sparsemax(torch.tensor([1, 2]))
