"""Against scikit-learn's isotonic regression, and against all n! corners: the certificate of a projection."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.isotonic import isotonic_regression

from visavis.blocks.surrogates import _isotonic, exact_rank, rank, sort
from visavis.errors import InputError, TensorError

# Few distinct scores, so that ties are the rule, and any.
ROWS = st.lists(st.sampled_from([-1.0, 0.0, 0.3, 0.5, 2.0]) | st.floats(-3, 3), min_size=1, max_size=30)
FEW = st.lists(st.floats(-3, 3), min_size=1, max_size=5)
STRENGTHS = st.floats(1e-3, 20)
DERIVATIVES = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's jacfwd


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def projected(z, w):
    """The l2 projection of z onto the hull of all orders of w, which falls."""
    order = np.argsort(-z, kind="stable")
    y = np.empty(len(z))
    y[order] = z[order] - isotonic_regression(z[order] - w, increasing=False)
    return y


@given(ROWS, STRENGTHS, st.booleans())
def test_ranks_by_another_isotonic_regression(values, strength, descending):
    sign = -1 if descending else 1
    expected = projected(sign * np.array(values) / strength, np.arange(len(values), 0, -1.0))
    found = rank(tensor(values), strength=strength, descending=descending)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 + 1e-12 / strength)


@given(ROWS, STRENGTHS, st.booleans())
def test_sorting_by_another_isotonic_regression(values, strength, descending):
    expected = projected(np.arange(len(values), 0, -1) / strength, np.sort(values)[::-1])
    found = sort(tensor(values), strength=strength, descending=descending)
    np.testing.assert_allclose(found, expected if descending else expected[::-1], rtol=0, atol=1e-9 + 1e-12 / strength)


@given(FEW, st.floats(0.05, 5), st.sampled_from(["l2", "entropic"]))
def test_nothing_in_the_hull_is_nearer(values, strength, regularization):
    """``<gradient at y, corner - y> >= 0`` for every corner says that y, in the hull, is the nearest point of it."""
    n = len(values)
    for z, w, y in (
        (np.array(values) / strength, np.arange(1.0, n + 1), rank),
        (np.arange(1.0, n + 1) / strength, np.sort(values), sort),
    ):
        found = y(tensor(values), strength=strength, regularization=regularization).numpy()
        point, corners = (found, w) if regularization == "l2" else (np.exp(found), np.exp(w))
        gradient = found - z  # of the squared distance or of the Kullback-Leibler divergence
        # In the hull: no k largest sum to more than the k largest of a corner, all to the same.
        sums, most = np.cumsum(np.sort(point)[::-1]), np.cumsum(np.sort(corners)[::-1])
        scale = most.max() if n else 1.0
        assert (sums <= most + 1e-9 * abs(scale) + 1e-9).all()
        assert sums[-1] == pytest.approx(most[-1], rel=1e-9, abs=1e-9)
        for corner in itertools.permutations(corners):
            assert gradient @ (np.array(corner) - point) >= -1e-8 * (1 + abs(scale)) * (1 + abs(gradient).max())


@given(ROWS, STRENGTHS)
def test_exact_as_soon_as_the_gaps_are_wide_enough(values, strength):
    spaced = np.sort(np.unique(values))
    x = tensor(spaced + strength * 1.001 * np.arange(len(spaced)))
    torch.testing.assert_close(rank(x, strength=strength), exact_rank(x), rtol=0, atol=1e-9)
    close = x / (x.diff().max() * strength * 1.001) if len(x) > 1 else x  # gaps below 1 / strength
    torch.testing.assert_close(sort(close, strength=strength), close, rtol=0, atol=1e-9)


@given(ROWS, STRENGTHS)
def test_ranks_keep_sum_order_and_range(values, strength):
    x, n = tensor(values), len(values)
    ranks = rank(x, strength=strength)
    assert ranks.sum().item() == pytest.approx(n * (n + 1) / 2)
    assert ranks.min() >= 1 - 1e-9
    assert ranks.max() <= n + 1e-9
    order = x.argsort()
    assert (ranks[order].diff() >= -1e-9).all()
    torch.testing.assert_close(rank(x, strength=strength, descending=True), n + 1 - ranks, rtol=0, atol=1e-8)
    # Where the projection is not the corner itself, it costs no more than what was taken off: its length.
    lost = (x * (exact_rank(x) - ranks)).sum().item()
    assert (
        -1e-9
        <= lost
        <= strength / 2 * (exact_rank(x).square().sum() - ranks.square().sum()).item() + 1e-7 + strength * n**3 / 1e9
    )


@given(ROWS, st.booleans())
def test_the_exact_twin_is_scipys(values, descending):
    expected = rankdata(-np.array(values) if descending else values)
    assert exact_rank(tensor(values), descending=descending).tolist() == expected.tolist()


@pytest.mark.parametrize("regularization", ["l2", "entropic"])
def test_cold_it_is_the_exact_value(regularization):
    x = random(5, 20)
    # The gaps are wider than 1e-4, and e^(-gap / strength) is what the entropic one leaves.
    cold = rank(x, strength=1e-6, regularization=regularization)
    torch.testing.assert_close(cold, exact_rank(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        sort(x, strength=1e-3, regularization=regularization), x.sort(-1).values, rtol=0, atol=1e-6
    )


def bell(n):
    return random(4, n, seed=1)


def cascade(n):
    """For strength 1: only the first pair violates, and every merge of its block makes the next pair do so."""
    place = torch.arange(n, dtype=torch.float64)
    violating = torch.where(place == 0, -1.0, -(place - 1) / n**2)
    return (violating + n - place).expand(3, n)


@pytest.mark.parametrize("rounds", [0, 1, 2, 20])
@pytest.mark.parametrize("make", [bell, cascade])
@pytest.mark.parametrize("strength", [1.0, 0.01, 1e-3])
def test_however_many_rounds_are_left_to_the_list(rounds, make, strength, monkeypatch):
    x = make(400)
    monkeypatch.setattr(_isotonic, "_ROUNDS", rounds)
    for row, found in zip(x.numpy(), rank(x, strength=strength), strict=True):
        np.testing.assert_allclose(found, projected(row / strength, np.arange(400, 0, -1.0)), rtol=0, atol=1e-7)
    entropic = rank(x, strength=strength, regularization="entropic")
    monkeypatch.setattr(_isotonic, "_ROUNDS", 1000)
    torch.testing.assert_close(entropic, rank(x, strength=strength, regularization="entropic"))


@DERIVATIVES
@pytest.mark.parametrize("regularization", ["l2", "entropic"])
@pytest.mark.parametrize("function", [rank, sort])
@pytest.mark.parametrize("strength", [0.05, 0.5, 5.0])
def test_derivatives(function, regularization, strength):
    x = random(2, 6, 3, seed=2).requires_grad_()
    over = lambda v, dim: function(v, dim=dim, strength=strength, regularization=regularization)  # noqa: E731
    assert torch.autograd.gradcheck(lambda v: over(v, 1), x)
    assert torch.autograd.gradgradcheck(lambda v: over(v, 1).square(), x)
    torch.testing.assert_close(torch.vmap(lambda v: over(v, 0))(x), over(x, 1))
    torch.testing.assert_close(torch.vmap(torch.vmap(lambda v: over(v, 0), 1, 1))(x), over(x, 1))
    jacobian = torch.autograd.functional.jacobian(lambda v: over(v, 1), x)
    torch.testing.assert_close(torch.func.jacrev(lambda v: over(v, 1))(x), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(lambda v: over(v, 1))(x), jacobian)


def test_the_second_derivative_that_others_lose():
    """d2/dx2 of the sum of squares of ranks within one block: twice the squared centring, not 0."""
    x = tensor([0.0, 0.1, 0.2]).requires_grad_()
    [first] = torch.autograd.grad(rank(x, strength=1.0).square().sum(), x, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(part, x, retain_graph=True)[0] for part in first])
    torch.testing.assert_close(hessian, 2 * (torch.eye(3, dtype=torch.float64) - 1 / 3))


def test_entropic_gradients_are_finite_where_exponentials_are_not():
    x = torch.tensor([1e4, -1e4, 0.0, 0.0, 3.0], requires_grad=True)
    for function in (rank, sort):
        for strength in (1e-4, 1.0, 1e4):
            y = function(x, strength=strength, regularization="entropic")
            assert y.isfinite().all()
            assert torch.autograd.grad(y.square().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("regularization", ["l2", "entropic"])
def test_what_is_infinite_sorts_last_and_leaves_the_rest_alone(regularization):
    x, options = random(3, 5), {"strength": 0.7, "regularization": regularization}
    low, high = torch.full((3, 2), -math.inf, dtype=torch.float64), torch.full((3, 1), math.inf, dtype=torch.float64)
    masked = torch.cat([low, x], 1).requires_grad_()
    ranks = rank(masked, descending=True, **options)
    torch.testing.assert_close(ranks[:, 2:], rank(x, descending=True, **options))
    torch.testing.assert_close(ranks[:, 0], ranks[:, 1])
    if regularization == "l2":
        assert (ranks[:, :2] == 6.5).all()  # of ranks 6 and 7
    assert (torch.autograd.grad(ranks[:, 3].sum(), masked)[0][:, :2] == 0).all()
    ordered = sort(torch.cat([high, x, low], 1), **options)
    torch.testing.assert_close(ordered, torch.cat([low, sort(x, **options), high], 1))
    assert rank(torch.full((4,), -math.inf), strength=1.0).tolist() == [2.5] * 4
    assert rank(torch.tensor([-math.inf, math.inf]), strength=100.0).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = random(2, 30).to(dtype)
    for function in (rank, sort):
        assert torch.equal(function(x, strength=0.3), function(x.float(), strength=0.3).to(dtype))


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_float32_is_as_exact_as_its_input(strength):
    x = random(2, 3000, dtype=torch.float32)
    # x / strength is rounded; a rank moves by as much.
    error = 4 * x.abs().max().item() / strength * torch.finfo(torch.float32).eps + 3000 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(
        rank(x, strength=strength).double(), rank(x.double(), strength=strength), rtol=0, atol=error
    )


def test_one_entry_no_rows_and_zeros_of_both_signs():
    assert rank(torch.tensor([[3.0]]), strength=0.1).tolist() == [[1.0]]
    assert sort(torch.tensor([3.0]), strength=0.1).tolist() == [3.0]
    assert rank(torch.zeros(0, 3), strength=0.1).shape == (0, 3)
    assert sort(torch.zeros(3, 0, 2), dim=0, strength=0.1).shape == (3, 0, 2)
    assert exact_rank(torch.tensor([0.0, -0.0])).tolist() == [1.5, 1.5]
    assert rank(torch.tensor([0.0, -0.0]), strength=0.1).tolist() == [1.5, 1.5]


def test_senseless_input_is_refused():
    for function in (rank, sort):
        with pytest.raises(InputError, match="expected numbers to sort, got NaN; did the training diverge?"):
            function(torch.tensor([0.0, math.nan, 1.0]), strength=0.1)
        with pytest.raises(InputError, match="strength: expected a positive number, got -1"):
            function(torch.zeros(2), strength=-1)
        with pytest.raises(InputError, match="regularization: expected 'l2' or 'entropic', got 'kl'"):
            function(torch.zeros(2), strength=1.0, regularization="kl")
        with pytest.raises(TensorError, match=r"expected float with something along axis -1, got int64 \[2\]"):
            function(torch.zeros(2, dtype=torch.int64), strength=0.1)
