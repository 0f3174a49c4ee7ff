import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visavis.blocks.attention import elu_features, linear
from visavis.errors import TensorError


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def features_by_definition(x):
    return torch.where(x > 0, x + 1, x.exp())


def quadratic(q, k, v, features=features_by_definition):
    """The definition: every weight of every query written out, in float64."""
    weights = features(q.double()) @ features(k.double()).transpose(2, 3)
    return weights / weights.sum(3, keepdim=True) @ v.double()


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_is_the_quadratic_form(batch, heads, queries, keys, features, values):
    q, k, v = drawn(batch, heads, queries, features), drawn(batch, heads, keys, features, seed=1, scale=3.0), None
    v = drawn(batch, heads, keys, values, seed=2)
    torch.testing.assert_close(linear(q, k, v), quadratic(q, k, v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    q, k, v = (drawn(2, 2, 300, 16, seed=seed, scale=2.0).to(dtype) for seed in range(3))
    y = linear(q, k, v)
    assert y.dtype == dtype
    eps = max(torch.finfo(dtype).eps, 2e-6)  # in float32 it is the two sums over 300 keys that round
    torch.testing.assert_close(y.double(), quadratic(q, k, v), rtol=eps, atol=eps)


def test_gradients():
    q, k, v = (drawn(1, 2, 4, 3, seed=seed).requires_grad_() for seed in range(3))
    assert torch.autograd.gradcheck(linear, (q, k, v))
    assert torch.autograd.gradcheck(elu_features, (drawn(20).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [-1000.0, -90.0, -30.0, 0.0, 1e4])
def test_value_and_gradient_are_finite_whatever_the_scores(dtype, level):
    q, k, v = (drawn(1, 1, 5, 4, seed=seed).to(dtype) for seed in range(3))
    inputs = [(q + level).requires_grad_(), k.requires_grad_(), v.requires_grad_()]
    for order in (inputs, [inputs[1], inputs[0], inputs[2]]):
        y = linear(*order)
        assert y.isfinite().all()
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.square().sum(), order))


def test_slope_of_the_features_at_zero_is_one():
    x = torch.zeros(1, requires_grad=True)
    elu_features(x).backward()
    assert x.grad == 1


def test_features_keep_their_precision_far_below_zero():
    x = torch.tensor([-60.0, -20.0, -0.0, 20.0])
    torch.testing.assert_close(elu_features(x).double(), features_by_definition(x.double()), rtol=3e-6, atol=0)


def test_a_mean_of_the_values_lies_between_them():
    q, k, v = (drawn(2, 2, 50, 8, seed=seed, scale=5.0) for seed in range(3))
    y = linear(q, k, v)
    assert (y <= v.amax(2, keepdim=True) + 1e-12).all()
    assert (y >= v.amin(2, keepdim=True) - 1e-12).all()
    constant = torch.full((2, 2, 50, 3), 0.7, dtype=torch.float64)
    torch.testing.assert_close(linear(q, k, constant), constant)


def test_order_of_keys_does_not_matter_and_one_key_is_the_answer():
    q, k, v = (drawn(1, 2, 7, 4, seed=seed) for seed in range(3))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(linear(q, k[:, :, order], v[:, :, order]), linear(q, k, v))
    torch.testing.assert_close(linear(q, k[:, :, :1], v[:, :, :1]), v[:, :, :1].expand(-1, -1, 7, -1))


def test_other_features():
    q, k, v = (drawn(1, 1, 6, 4, seed=seed) for seed in range(3))
    torch.testing.assert_close(linear(q, k, v, feature_map=torch.exp), quadratic(q, k, v, torch.exp))


def test_nothing_to_attend_to():
    q = drawn(1, 1, 3, 4)
    assert torch.equal(linear(q, q[:, :, :0], q[:, :, :0]), torch.zeros(1, 1, 3, 4, dtype=torch.float64))
    assert linear(q[:, :, :0], q, q).shape == (1, 1, 0, 4)
    assert linear(q[:0], q[:0], q[:0]).shape == (0, 1, 3, 4)
    assert torch.equal(linear(torch.full_like(q, -1e3), q, q), torch.zeros_like(q))  # exp(-1000) is no weight


def test_nan_stays_visible():
    q, k, v = (drawn(1, 1, 3, 4, seed=seed) for seed in range(3))
    q[0, 0, 1, 2] = math.nan
    assert linear(q, k, v).isnan().any(3).tolist() == [[[False, True, False]]]


def test_time_and_memory_do_not_grow_with_the_square():
    from torch.utils.flop_counter import FlopCounterMode

    def flops(length):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            linear(*(torch.empty(1, 2, length, 8) for _ in range(3)))
        return counter.get_total_flops()

    assert flops(4096) == 16 * flops(256)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 2, 3), (1, 1, 2, 3), (1, 1, 2, 3)), r"q: expected float \[any, any, any, any\], got float64 \[1, 2, 3\]"),
        (((1, 1, 2, 3), (1, 2, 2, 3), (1, 1, 2, 3)), r"k: expected float \[1, 1, any, 3\], got float64 \[1, 2, 2, 3\]"),
        (((1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 5, 3)), r"v: expected float \[1, 1, 2, any\], got float64 \[1, 1, 5, 3\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(TensorError, match=message):
        linear(*(drawn(*shape) for shape in shapes))
