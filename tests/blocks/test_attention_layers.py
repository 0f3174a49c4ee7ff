import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi, kstest
from torch import nn

from visavis.blocks.attention import Hedgehog, LinearAttention, RandomFeatures, convert, delta, distill, linear
from visavis.errors import InputError, TensorError


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def place_by_place(q, k, v, rate, state=None):
    """The delta rule by its definition."""
    S = torch.zeros(*q.shape[:-2], q.shape[-1], v.shape[-1], dtype=torch.float64) if state is None else state
    out = []
    for t in range(q.shape[-2]):
        key, error = k[..., t, :, None], v[..., t, None, :] - k[..., t, None, :] @ S
        S = S + rate[..., t, None, None] * (key @ error)
        out.append((q[..., t, None, :] @ S)[..., 0, :])
    return torch.stack(out, -2), S


def of_delta(*lead, length, features=5, values=3):
    k = nn.functional.normalize(drawn(*lead, length, features, seed=1), dim=-1)
    return (
        drawn(*lead, length, features),
        k,
        drawn(*lead, length, values, seed=2),
        drawn(*lead, length, seed=3).sigmoid(),
    )


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 129, 200, 300])
def test_the_delta_rule_is_its_definition(length):
    inputs = [x.requires_grad_() for x in of_delta(2, length=length)]
    ours, wanted = delta(*inputs, return_state=True), place_by_place(*inputs)
    for mine, theirs in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
    upstream = drawn(*ours[0].shape, seed=9)
    gradients = [torch.autograd.grad(y[0], inputs, upstream) for y in (ours, wanted)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9)


@given(st.lists(st.integers(1, 99), max_size=3))
def test_the_delta_rule_may_be_cut_anywhere(cuts):
    inputs, bounds = of_delta(2, length=100), [0, *sorted(set(cuts)), 100]
    state, parts = None, []
    for start, stop in itertools.pairwise(bounds):
        y, state = delta(*(x[:, start:stop] for x in inputs), state=state, return_state=True)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), place_by_place(*inputs)[0], rtol=1e-9, atol=1e-10)


def test_second_derivatives_of_the_delta_rule():
    inputs = [x.requires_grad_() for x in of_delta(length=4, features=3, values=2)]
    assert torch.autograd.gradcheck(delta, inputs)
    assert torch.autograd.gradgradcheck(delta, inputs)


def test_masked_places_leave_the_memory_as_it_is():
    q, k, v, rate = of_delta(2, length=70)
    mask = torch.arange(70) % 4 > 0
    k[:, ~mask], v[:, ~mask] = math.nan, math.nan
    seen = place_by_place(*(x[:, mask] for x in (q, k, v, rate)))[0]
    torch.testing.assert_close(delta(q, k, v, rate, mask=mask)[:, mask], seen)


def test_half_precision_of_the_delta_rule():
    inputs = [x.bfloat16() for x in of_delta(2, length=200)]
    y = delta(*inputs)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), place_by_place(*(x.double() for x in inputs))[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": torch.ones(2, 5)}, r"rate: expected float \[2, 7\], got float32 \[2, 5\]"),
        ({"k": torch.ones(2, 7, 4)}, r"k: expected float \[2, 7, 5\]"),
        ({"state": torch.ones(2, 5, 3)}, r"state: expected torch.float64 \[2, 5, 3\], got torch.float32"),
        ({"mask": torch.ones(3, dtype=torch.bool)}, r"mask: expected bool that broadcasts to \[2, 7\]"),
        ({"q": torch.ones(7)}, r"q: expected float \[..., length, features\]"),
    ],
)
def test_what_does_not_fit_the_delta_rule(change, message):
    inputs = dict(zip(("q", "k", "v", "rate"), of_delta(2, length=7), strict=True)) | change
    with pytest.raises(TensorError, match=message):
        delta(**inputs)


def test_random_features_are_unbiased_and_orthogonal_ones_the_better():
    """64 draws of 64 features; the mean lies within 5 standard errors, which fails once in a million."""
    q, k = 0.6 * drawn(2, 16)
    wanted = (q @ k / 4).exp()
    generator = torch.Generator().manual_seed(0)
    maps = RandomFeatures(16, 64, generator=generator).double()
    values, apart = [], []
    for _ in range(200):
        maps.redraw(generator=generator)
        values.append(maps(q) @ maps(k))
        w = torch.randn(64, 16, dtype=torch.float64, generator=generator)
        exponents = (w @ (q + k) / 2) - (q.square().sum() + k.square().sum()) / 8
        apart.append(exponents.exp().mean())
    values, apart = torch.stack(values), torch.stack(apart)
    assert abs(values.mean() - wanted) < 5 * values.std() / 200**0.5
    assert abs(apart.mean() - wanted) < 5 * apart.std() / 200**0.5
    assert values.std() < apart.std()


def test_directions_are_orthogonal_in_groups_and_long_as_normal_vectors():
    maps = RandomFeatures(8, 8000, generator=torch.Generator().manual_seed(0))
    products = maps.projection.view(-1, 8, 8) @ maps.projection.view(-1, 8, 8).mT
    lengths = products.diagonal(dim1=1, dim2=2)
    assert (products - torch.diag_embed(lengths)).abs().max() < 1e-4
    assert kstest(lengths.flatten().sqrt().numpy(), chi(8).cdf).pvalue > 1e-6
    assert kstest(maps.projection[:, 3].numpy(), "norm").pvalue > 1e-6
    again = RandomFeatures(8, 8000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(maps.projection, again.projection)


@pytest.mark.parametrize("causal", [False, True])
def test_many_random_features_are_softmax_attention(causal):
    q, k, v = (0.4 * drawn(40, 8, seed=seed) for seed in range(3))
    maps = RandomFeatures(8, 16384, generator=torch.Generator().manual_seed(0)).double()
    wanted = nn.functional.scaled_dot_product_attention(*(x[None] for x in (q, k, v)), is_causal=causal)[0]
    ours = linear(q, k, v, feature_map=maps, causal=causal)
    assert (ours - wanted).norm() < 0.02 * wanted.norm()
    torch.testing.assert_close(linear(q, k, v, feature_map=(maps.queries, maps), causal=causal), ours)


def test_long_queries_do_not_vanish():
    q, k, v = (drawn(5, 8, seed=seed).float() for seed in range(3))
    maps = RandomFeatures(8, 64, generator=torch.Generator().manual_seed(0))
    assert not linear(100 * q, k, v, feature_map=maps).any()
    assert linear(100 * q, k, v, feature_map=(maps.queries, maps)).all()


def test_hedgehog_is_its_formula():
    maps, x = Hedgehog(2, 4).double(), drawn(3, 2, 5, 4)
    y = torch.einsum("hij,bhlj->bhli", maps.weight, x)
    scaled = torch.cat([y.exp() / y.exp().sum(-1, keepdim=True), (-y).exp() / (-y).exp().sum(-1, keepdim=True)], -1)
    torch.testing.assert_close(maps(x), scaled)


@pytest.mark.parametrize("causal", [False, True])
def test_the_layer_decodes(causal):
    layer, x = LinearAttention(12, 3, causal=causal).double(), drawn(2, 30, 12)
    y = layer(x)
    assert y.shape == x.shape
    if causal:
        first, state = layer(x[:, :11], return_state=True)
        torch.testing.assert_close(torch.cat([first, layer(x[:, 11:], state=state)], 1), y)
    mask = torch.arange(30).expand(2, 30) < 20
    torch.testing.assert_close(layer(x, mask=mask)[:, :20], layer(x[:, :20]))


def test_a_layer_with_many_features_is_the_softmax_layer():
    softmax = nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(softmax.in_proj_bias, std=0.1)
    layer, x = convert(softmax), 0.4 * drawn(2, 20, 8)
    maps = RandomFeatures(4, 16384, generator=torch.Generator().manual_seed(0)).double()
    layer.maps = nn.ModuleList([maps, maps])
    wanted = softmax(x, x, x, need_weights=False)[0]
    assert (layer(x) - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("causal", [False, True])
def test_distilling_brings_the_weights_nearer(causal):
    torch.manual_seed(0)
    softmax = nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        softmax.in_proj_weight.mul_(3)
    layer, x = convert(softmax, causal=causal), drawn(8, 20, 16).float()
    frozen = {name: value.clone() for name, value in layer.state_dict().items() if not name.startswith("maps")}
    found = distill(layer, [x[:4], x[4:]], steps=100)
    assert found.after < 0.8 * found.before
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in frozen.items())
    # The divergence of scipy's definition, by hand, for what is left.
    q, k, _ = layer.project(x)
    hidden = torch.full((20, 20), -math.inf).triu(1) if causal else 0
    p = (q @ k.mT / 8**0.5 + hidden).softmax(-1).double()
    table = (layer.maps[0](q) @ layer.maps[1](k).mT).double()
    table = table.tril() if causal else table
    divergence = torch.special.xlogy(p, p) - torch.special.xlogy(p, table / table.sum(-1, keepdim=True))
    assert found.after == pytest.approx(divergence.sum(-1).mean().item(), rel=1e-3)


def test_senseless_layers_are_refused():
    with pytest.raises(InputError, match="dim: expected a positive multiple of heads, got dim 10 and heads 3"):
        LinearAttention(10, 3)
    with pytest.raises(InputError, match="heads, dim: expected positive numbers, got 0 and 4"):
        Hedgehog(0, 4)
    with pytest.raises(InputError, match="dim, features: expected positive numbers, got 4 and 0"):
        RandomFeatures(4, 0)
    with pytest.raises(InputError, match="attention: expected one of q, k, v of one size"):
        convert(nn.MultiheadAttention(8, 2, kdim=4))
    with pytest.raises(InputError, match="attention, inputs, steps: expected feature maps to train"):
        distill(LinearAttention(8, 2), [torch.ones(1, 3, 8)])
    with pytest.raises(TensorError, match=r"mask: expected bool \[2, 3\], got torch.float32 \[2, 3\]"):
        LinearAttention(8, 2)(torch.ones(2, 3, 8), mask=torch.ones(2, 3))
    with pytest.raises(TensorError, match=r"x: expected float \[2, 3, 8\], got float32 \[2, 3, 9\]"):
        LinearAttention(8, 2)(torch.ones(2, 3, 9))
