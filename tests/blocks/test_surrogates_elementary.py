"""Against the mean over logistic or Gumbel noise, integrated by scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit

from visavis.blocks import surrogates
from visavis.errors import InputError, TensorError

NUMBERS = st.floats(-30, 30)
TEMPERATURES = st.floats(1e-3, 5)
ROWS = st.lists(st.floats(-10, 10), min_size=1, max_size=8)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


EXACT = {
    "step": lambda x: float(x > 0),
    "sign": lambda x: float(np.sign(x)),
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda x: math.floor(x + 0.5),
    "clip": lambda x: min(max(x, -0.7), 1.3),
}
NUMBER_FUNCTIONS = {name: getattr(surrogates, name) for name in EXACT} | {
    "clip": lambda x, temperature: surrogates.clip(x, -0.7, 1.3, temperature=temperature)
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("x", [-2.31, -0.5, 0.0, 0.12, 1.0, 3.9])
def test_is_the_mean_over_logistic_noise(name, temperature, x):
    """The jumps are integrated apart: between them, by scipy, the density times a constant or a line."""
    ends = np.unique([*np.arange(math.floor(2 * x) - 92, 2 * x + 92) / 2, -0.7, 1.3])
    cuts = (ends[(ends > x - 45 * temperature) & (ends < x + 45 * temperature)] - x) / temperature
    edges = np.concatenate([[-45.0], np.sort(cuts), [45.0]])
    total = sum(
        quad(lambda z: EXACT[name](x + temperature * z) * expit(z) * expit(-z), a, b, epsabs=1e-12)[0]
        for a, b in itertools.pairwise(edges)
    )
    value = NUMBER_FUNCTIONS[name](tensor([x]), temperature=temperature)
    assert value.item() == pytest.approx(total, abs=1e-8)


@given(NUMBERS, TEMPERATURES)
def test_number_functions_keep_their_bounds(x, temperature):
    rounding = 1e-12
    decay = math.exp(-abs(x) / temperature)
    value = {name: f(tensor([x]), temperature=temperature).item() for name, f in NUMBER_FUNCTIONS.items()}
    assert abs(value["step"] - surrogates.exact_step(tensor([x])).item()) <= decay + rounding
    assert abs(value["sign"] - np.sign(x)) <= 2 * decay + rounding
    for name, shift in (("floor", 0.0), ("ceil", 0.0), ("round", 0.5)):
        distance = abs(x + shift - round(x + shift))
        bound = 2 * math.exp(-distance / temperature) / -math.expm1(-1 / temperature)
        assert abs(value[name] - EXACT[name](x)) <= bound + rounding
    nearer = min(abs(x + 0.7), abs(x - 1.3))
    assert (
        abs(value["clip"] - EXACT["clip"](x))
        <= temperature * min(math.log(2), math.exp(-nearer / temperature)) + rounding
    )


@given(ROWS, TEMPERATURES)
def test_maximum_and_argmax_keep_their_bounds(values, temperature):
    x, n = tensor(values), len(values)
    rounding = 1e-12
    high = surrogates.max(x, temperature=temperature).item()
    low = surrogates.min(x, temperature=temperature).item()
    assert max(values) - rounding <= high <= max(values) + temperature * math.log(n) + rounding
    assert min(values) - temperature * math.log(n) - rounding <= low <= min(values) + rounding
    ordered = sorted(values)
    weights = surrogates.argmax(x, temperature=temperature)
    assert weights.sum().item() == pytest.approx(1.0)
    if n > 1 and ordered[-1] > ordered[-2]:
        bound = (n - 1) * math.exp(-(ordered[-1] - ordered[-2]) / temperature)
        assert (weights - surrogates.exact_argmax(x)).abs().max() <= bound + rounding


def test_half_way_between_two_stairs_hot_and_cold_meet():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    cold, hot = (surrogates.floor(x, temperature=t) for t in (0.25, 0.25 + 1e-12))  # summed by stairs and by waves
    torch.testing.assert_close(cold, hot, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", EXACT)
def test_derivatives_of_number_functions(name):
    x = tensor([-1.2, -0.5, 0.0, 0.3, 2.0]).requires_grad_()
    for temperature in (0.1, 0.6):
        function = lambda v, t=temperature: NUMBER_FUNCTIONS[name](v, temperature=t)  # noqa: E731
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("name", ["max", "min", "argmax"])
def test_derivatives_and_axes_of_row_functions(name):
    function = getattr(surrogates, name)
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, dim=1, temperature=0.3), x)
    assert torch.autograd.gradgradcheck(lambda v: function(v, dim=1, temperature=0.3), x)
    over_last = function(x.movedim(1, -1), temperature=0.3)
    expected = over_last.movedim(-1, 1) if name == "argmax" else over_last
    torch.testing.assert_close(function(x, dim=1, temperature=0.3), expected)
    torch.testing.assert_close(
        torch.vmap(lambda v: function(v, dim=0, temperature=0.3))(x), function(x, dim=1, temperature=0.3)
    )


def test_what_is_masked_out_has_no_weight():
    x = tensor([1.0, -math.inf, 2.0]).requires_grad_()
    weights = surrogates.argmax(x, temperature=1.0)
    torch.testing.assert_close(weights[[0, 2]], tensor([1.0, 2.0]).softmax(0))
    [gradient] = torch.autograd.grad(surrogates.max(x, temperature=1.0), x)
    torch.testing.assert_close(gradient, weights)
    assert surrogates.min(-x, temperature=1.0) == -surrogates.max(x, temperature=1.0)


def test_ties_share():
    assert surrogates.exact_argmax(tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])).tolist() == [
        [0.5, 0.5, 0.0],
        [1.0, 0.0, 0.0],
    ]
    assert surrogates.argmax(tensor([3.0, 3.0]), temperature=1e-300).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_any_temperature_is_finite(dtype):
    x = torch.tensor([-8.0, -0.5, 0.0, 0.25, 9.0], dtype=dtype, requires_grad=True)
    row_functions = [surrogates.max, surrogates.min, surrogates.argmax]
    for function in [*NUMBER_FUNCTIONS.values(), *row_functions]:
        for temperature in (1e-30, 1e-3, 0.24, 1.0, 1e3):
            y = function(x, temperature=temperature)
            assert y.dtype == dtype
            assert y.isfinite().all()
            if temperature >= 1e-3:  # 1 / 4T, the slope of a jump, is beyond float16 far below
                assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_senseless_input_is_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="temperature: expected a positive number, got 0.0"):
        surrogates.step(x, temperature=0.0)
    with pytest.raises(
        InputError, match="low, high: expected two finite numbers, the lower one first, got 1.0 and 0.0"
    ):
        surrogates.clip(x, 1.0, 0.0, temperature=0.1)
    with pytest.raises(InputError, match="x: expected a finite largest entry in every row, .* masked out completely"):
        surrogates.argmax(torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]), temperature=0.1)
    with pytest.raises(InputError, match="got infinity or NaN"):
        torch.vmap(lambda v: surrogates.max(v, temperature=0.1))(torch.tensor([[0.0, math.nan]]))
    with pytest.raises(TensorError, match=r"x: expected float, got int64 \[2\]"):
        surrogates.floor(torch.zeros(2, dtype=torch.int64), temperature=0.1)
    with pytest.raises(TensorError, match=r"x: expected float with something along axis 1, got float32 \[2, 0\]"):
        surrogates.max(torch.zeros(2, 0), dim=1, temperature=0.1)
