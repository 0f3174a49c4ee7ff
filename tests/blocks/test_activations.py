import math

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.special import expit

from visavis.blocks.activations import PReLU, SwiGLU, prelu, swiglu, swiglu_packed
from visavis.errors import InputError, TensorError

WIDE = st.floats(-1e4, 1e4, allow_subnormal=False)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(arrays.arrays(np.float64, (2, 5), elements=WIDE))
def test_is_the_formula(pair):
    gate, value = pair
    found = swiglu(torch.tensor(gate), torch.tensor(value)).numpy()
    np.testing.assert_allclose(found, gate * expit(gate) * value, rtol=1e-12, atol=1e-300)


def test_gradients_first_and_second():
    pair = [drawn(3, 4, seed=seed).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(swiglu, pair)
    assert torch.autograd.gradgradcheck(swiglu, pair)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient_are_finite_far_out(dtype):
    gate = torch.tensor([-200.0, -90.0, 0.0, 90.0, 200.0], dtype=dtype, requires_grad=True)
    value = torch.tensor([3.0, -100.0, 0.0, 100.0, -200.0], dtype=dtype, requires_grad=True)
    y = swiglu(gate, value)
    assert y.dtype == dtype
    assert y.isfinite().all()
    for grad in torch.autograd.grad(y.sum(), (gate, value)):
        assert grad.isfinite().all()
    expected = gate.double() / (1 + (-gate.double()).exp()) * value.double()
    torch.testing.assert_close(y, expected.to(dtype), rtol=3 * torch.finfo(dtype).eps, atol=1e-30)


def kept(run):
    """How many tensors autograd keeps for the backward pass."""
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        run()
    return len(packed)


def test_keeps_two_tensors_where_the_plain_form_keeps_three():
    gate, value = (drawn(3, 4, seed=seed).requires_grad_() for seed in (0, 1))
    assert kept(lambda: swiglu(gate, value)) == 2
    assert kept(lambda: torch.nn.functional.silu(gate) * value) == 3


def test_packed_is_the_two_halves_and_keeps_no_copy_of_them():
    packed = drawn(2, 3, 8).requires_grad_()
    assert torch.equal(swiglu_packed(packed), swiglu(packed[..., :4], packed[..., 4:]))
    storages = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: storages.append(t.untyped_storage().data_ptr()), id):
        swiglu_packed(packed)
    assert set(storages) == {packed.untyped_storage().data_ptr()}


def test_vmap_and_empty():
    gate, value = drawn(4, 3), drawn(4, 3, seed=1)
    assert torch.equal(torch.vmap(swiglu)(gate, value), swiglu(gate, value))
    assert swiglu(torch.empty(0, 3), torch.empty(0, 3)).shape == (0, 3)
    assert swiglu_packed(torch.empty(5, 0)).shape == (5, 0)


def test_nan_stays_visible():
    assert swiglu(torch.tensor([math.nan, 1.0]), torch.tensor([1.0, math.nan])).isnan().all()


def test_module_costs_what_a_plain_layer_four_times_as_wide_does():
    plain = 2 * 384 * 4 * 384
    assert sum(p.numel() for p in SwiGLU(384).parameters()) == plain
    assert SwiGLU(96).down.in_features == 256
    assert SwiGLU(10).down.in_features == 32  # 26.7, rounded up to a multiple of 8
    assert SwiGLU(10, hidden=3).down.in_features == 3


def test_module_is_two_products_and_keeps_the_variance():
    torch.manual_seed(0)
    module = SwiGLU(256)
    x = torch.randn(2000, 256)
    gate, value = (x @ module.up.weight.T).chunk(2, 1)
    torch.testing.assert_close(module(x), (gate * gate.sigmoid() * value) @ module.down.weight.T, rtol=1e-4, atol=1e-4)
    assert 0.9 < module(x).std() < 1.1


def test_what_does_not_fit_is_refused():
    with pytest.raises(TensorError, match=r"value: expected float like gate, torch.float32 \[2, 3\], got"):
        swiglu(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(TensorError, match=r"value: expected float like gate"):
        swiglu(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(TensorError, match=r"value: expected float like gate"):
        swiglu(torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TensorError, match=r"packed: expected float \[..., 2 \* hidden\], got torch.float32 \[2, 3\]"):
        swiglu_packed(torch.zeros(2, 3))
    for features, hidden in ((0, None), (4, 0)):
        with pytest.raises(InputError, match="features, hidden: expected positive sizes, got"):
            SwiGLU(features, hidden=hidden)


SHAPES = [((6, 3), 3), ((4, 3, 5, 5), 3), ((4, 3, 5), 1), ((7,), 1), ((0, 3, 2, 2), 3)]


@pytest.mark.parametrize(("shape", "slopes"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_prelu_is_torchs_in_value_and_gradients(shape, slopes, dtype):
    pairs = []
    for function in (prelu, torch.nn.functional.prelu):
        x = drawn(*shape, seed=2, dtype=dtype)
        x[x.abs() < 0.1] = 0.0  # the kink too
        x.requires_grad_()
        slope = torch.linspace(-0.5, 0.5, slopes, dtype=dtype).requires_grad_()
        y = function(x, slope)
        pairs.append((y, *torch.autograd.grad(y, (x, slope), drawn(*shape, seed=3, dtype=dtype))))
    for mine, torchs in zip(*pairs, strict=True):
        assert (mine.shape, mine.dtype) == (torchs.shape, torchs.dtype)
        torch.testing.assert_close(mine, torchs, rtol=20 * torch.finfo(dtype).eps, atol=20 * torch.finfo(dtype).eps)


def test_prelus_gradients_first_and_second():
    pair = drawn(3, 4, 2, seed=5).requires_grad_(), drawn(4, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(prelu, pair)
    assert torch.autograd.gradgradcheck(prelu, pair)


def test_prelu_keeps_the_layout_and_runs_under_vmap():
    x = drawn(2, 3, 4, 4, dtype=torch.float32).to(memory_format=torch.channels_last).requires_grad_()
    y = PReLU(3)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    [grad] = torch.autograd.grad(y.sum(), x)
    assert grad.is_contiguous(memory_format=torch.channels_last)
    many, slope = drawn(5, 2, 3, 4, seed=7), drawn(3, seed=8)
    each = torch.stack([prelu(one, slope) for one in many])
    torch.testing.assert_close(torch.vmap(prelu, in_dims=(0, None))(many, slope), each)


def test_the_layer_takes_torchs_weights():
    torchs, mine = torch.nn.PReLU(3, init=0.7), PReLU(3)
    mine.load_state_dict(torchs.state_dict())
    x = drawn(2, 3, dtype=torch.float32)
    assert torch.equal(mine(x), torchs(x))
