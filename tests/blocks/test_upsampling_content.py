"""CARAFE, DySample and the checkerboard: against loops over pixels, enumeration and the layers themselves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visavis.blocks import upsampling
from visavis.errors import InputError, TensorError


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


# CARAFE


def loop_reassemble(features, kernels, s):
    N, C, H, W = features.shape
    k = math.isqrt(kernels.shape[1])
    out = torch.zeros(N, C, s * H, s * W, dtype=torch.float64)
    for y in range(s * H):
        for x in range(s * W):
            for i in range(k):
                for j in range(k):
                    row, column = y // s + i - k // 2, x // s + j - k // 2
                    if 0 <= row < H and 0 <= column < W:
                        out[:, :, y, x] += kernels[:, i * k + j, y, x][:, None] * features[:, :, row, column]
    return out


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5]),
)
def test_reassembly_is_the_sum_over_neighbours(N, C, H, W, factor, kernel):
    features, kernels = draw(N, C, H, W), draw(N, kernel**2, factor * H, factor * W, seed=1)
    found = upsampling.reassemble(features, kernels, factor)
    torch.testing.assert_close(found, loop_reassemble(features, kernels, factor))


def test_gradients_of_reassembly():
    features, kernels = draw(1, 2, 2, 1).requires_grad_(), draw(1, 9, 4, 2, seed=1).requires_grad_()
    function = lambda a, b: upsampling.reassemble(a, b, 2)  # noqa: E731  # to be passed twice
    assert torch.autograd.gradcheck(function, (features, kernels))
    assert torch.autograd.gradgradcheck(function, (features, kernels))


def test_carafe_keeps_constants_inside_and_weighs_to_one():
    torch.manual_seed(0)
    layer = upsampling.Carafe(3, 2)
    with torch.no_grad():
        layer.encode.weight.mul_(1000)  # as if it had been trained
    out = layer(torch.full((1, 3, 12, 12), 0.7))
    torch.testing.assert_close(out[:, :, 4:-4, 4:-4], torch.full((1, 3, 16, 16), 0.7))
    assert upsampling.checkerboard(layer, 3).free


# DySample


def bilinear(image, y, x):
    """[C], at a place in pixels, the border repeated."""
    H, W = image.shape[1:]
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    top, left = math.floor(y), math.floor(x)
    out = 0
    for row, weight_y in ((top, 1 - (y - top)), (min(top + 1, H - 1), y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (min(left + 1, W - 1), x - left)):
            out = out + weight_y * weight_x * image[:, row, column]
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_dysample_samples_at_the_moved_places(N, groups, H, W, factor):
    features, offsets = draw(N, 2 * groups, H, W), draw(N, groups, 2, factor * H, factor * W, seed=1)
    found = upsampling.dysample(features, offsets, factor)
    for n in range(N):
        for g in range(groups):
            for y in range(factor * H):
                for x in range(factor * W):
                    dx, dy = offsets[n, g, :, y, x].tolist()
                    at = (y + 0.5) / factor - 0.5 + dy, (x + 0.5) / factor - 0.5 + dx
                    expected = bilinear(features[n, 2 * g : 2 * g + 2], *at)
                    torch.testing.assert_close(found[n, 2 * g : 2 * g + 2, y, x], expected)


def test_gradients_of_dysample():
    features, offsets = draw(1, 4, 3, 4).requires_grad_(), (0.1 * draw(1, 2, 2, 6, 8, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: upsampling.dysample(a, b, 2), (features, offsets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [2, 3])
def test_dysample_without_offsets_is_bilinear(factor, dtype):
    features = draw(1, 4, 33, 300, dtype=dtype)  # places beyond 256, which bfloat16 cannot tell apart
    found = upsampling.dysample(features, torch.zeros(1, 2, 2, 33 * factor, 300 * factor, dtype=dtype), factor)
    expected = upsampling.resize(features.double(), scale=factor)
    assert found.dtype == dtype
    # grid coordinates of a row of 300 pixels are good to 300 eps of a pixel; bfloat16 rounds the result
    atol = 4 * (300 * torch.finfo(torch.float32).eps + (torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol * 2)


def test_static_and_dynamic_scope_begin_alike_and_differ_when_learned():
    torch.manual_seed(0)
    static, dynamic = upsampling.DySample(8), upsampling.DySample(8, dynamic_scope=True)
    dynamic.offset.load_state_dict(static.offset.state_dict())
    features = draw(1, 8, 5, 6, dtype=torch.float32)
    torch.testing.assert_close(static(features), dynamic(features))
    with torch.no_grad():
        static.offset.weight.normal_()
        dynamic.offset.weight.copy_(static.offset.weight)
        dynamic.scope.weight.normal_()
    assert (static(features) - dynamic(features)).abs().max() > 0.1
    offsets = torch.pixel_shuffle(static.offset(features) / 4, 2).view(1, 4, 2, 10, 12)
    torch.testing.assert_close(static(features), upsampling.dysample(features, offsets, 2))


def test_content_aware_layers_refuse():
    features = torch.zeros(1, 4, 3, 3)
    with pytest.raises(TensorError, match=r"kernels: expected float \[1, any, 6, 6\], got float32 \[1, 9, 3, 3\]"):
        upsampling.reassemble(features, torch.zeros(1, 9, 3, 3), 2)
    with pytest.raises(TensorError, match="kernels: expected weights for 1, 9, 25, ... neighbours, got 4 of them"):
        upsampling.reassemble(features, torch.zeros(1, 4, 6, 6), 2)
    with pytest.raises(TensorError, match="kernels: expected the features' torch.float32"):
        upsampling.reassemble(features, torch.zeros(1, 9, 6, 6).double(), 2)
    with pytest.raises(TensorError, match="offsets: expected a number of groups that divides 4 channels, got 3"):
        upsampling.dysample(features, torch.zeros(1, 3, 2, 6, 6), 2)
    with pytest.raises(TensorError, match="offsets: expected the features' torch.float32"):
        upsampling.dysample(features, torch.zeros(1, 2, 2, 6, 6).double(), 2)
    with pytest.raises(InputError, match="groups: expected a divisor of 6 channels, got 4"):
        upsampling.DySample(6)
    with pytest.raises(InputError, match="kernel: expected an odd size"):
        upsampling.Carafe(6, kernel=4)
    for layer in (upsampling.Carafe(4), upsampling.DySample(4)):
        with pytest.raises(TensorError, match="features: expected channels and pixels"):
            layer(features[:, :, :, :0])


# checkerboards


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
def test_overlap_counts_the_taps_that_reach_a_pixel(kernel, stride, dilation):
    ones = torch.ones(1, 1, 1, 60, dtype=torch.float64)
    reached = nn.functional.conv_transpose2d(
        ones, torch.ones(1, 1, 1, kernel).double(), stride=(1, stride), dilation=(1, dilation)
    )
    middle = reached[0, 0, 0, stride * 30 : stride * 31]
    assert upsampling.overlap(kernel, stride, dilation=dilation) == middle.int().tolist()
    if math.gcd(stride, dilation) == 1:
        assert (len(set(middle.tolist())) == 1) == (kernel % stride == 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(0, 999))
def test_from_weights_and_from_responses_the_same_phases(kernel, stride, padding, dilation, seed):
    padding = min(padding, (dilation * (kernel - 1)) // 2)
    missing = (stride - 1 + 2 * padding - dilation * (kernel - 1)) % stride  # so that the size is a multiple
    layer = nn.ConvTranspose2d(
        2, 3, kernel, stride=stride, padding=padding, dilation=dilation, output_padding=missing, bias=False
    ).double()
    with torch.no_grad():
        layer.weight.copy_(draw(2, 3, kernel, kernel, seed=seed))
    found = upsampling.checkerboard(layer, 2, period=stride, size=48)
    sums = upsampling.phase_sums(layer.weight.detach(), stride, padding=padding, dilation=dilation)
    torch.testing.assert_close(found.phases[1:], sums)
    assert found.spread == pytest.approx((sums.amax((2, 3)) - sums.amin((2, 3))).max().item())
    assert found.free == bool(sums.flatten(2).diff().abs().le(1e-12).all())


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resizing_before_a_convolution_is_free_whatever_the_weights(mode):
    torch.manual_seed(0)
    module = nn.Sequential(upsampling.Resize(3, mode=mode), nn.Conv2d(2, 4, 3, padding=1))
    assert upsampling.checkerboard(module, 2).free


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_suggestions_hold_for_the_layers_they_name(scale):
    found = upsampling.suggest(scale)
    assert {one.kernel for one in found} >= ({scale, 2 * scale} if scale > 1 else {1, 3})
    for one in found:
        layer = nn.ConvTranspose2d(
            1, 1, one.kernel, stride=scale, padding=one.padding, output_padding=one.output_padding, bias=False
        ).double()
        assert layer(torch.zeros(1, 1, 5, 5).double()).shape[2:] == (5 * scale, 5 * scale)
        nn.init.ones_(layer.weight)
        response = upsampling.checkerboard(layer, 1).phases[1, 0]
        torch.testing.assert_close(response, torch.tensor(one.taps).double()[:, None] * torch.tensor(one.taps))
        assert one.even == ("constant" in one.even_with) == (one.kernel % scale == 0)
        if one.kernel == 2 * scale - scale % 2:
            upsampling.bilinear_(layer.weight, scale)
            assert upsampling.checkerboard(layer, 1).free
            assert "bilinear" in one.even_with


def test_a_report_is_told_and_drawn():
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    report = upsampling.checkerboard(layer.train(), 1)
    assert layer.training
    assert str(report).startswith("checkerboard: 2 x 2 phases differ by 3")
    assert report.spread == pytest.approx(3.0)
    pytest.importorskip("matplotlib")
    [axis] = report.draw(repeats=3).axes
    assert axis.images[0].get_array().shape == (6, 6)
    [axis] = upsampling.checkerboard(nn.Upsample(scale_factor=2), 1).draw().axes
    assert float(axis.images[0].get_array().std()) == 0.0


def test_a_network_that_shrinks_first_repeats_itself_less_often():
    torch.manual_seed(0)
    unet = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 4, stride=4))
    with pytest.raises(InputError, match="the module's period is another"):
        upsampling.checkerboard(unet, 1)
    assert upsampling.checkerboard(unet, 1, period=4).phases.shape == (2, 1, 4, 4)


def test_the_detector_refuses():
    wide = nn.Sequential(nn.Conv2d(1, 1, 41, padding=20), nn.Upsample(scale_factor=2))
    with pytest.raises(InputError, match="the border reaches the middle of 32 pixels"):
        upsampling.checkerboard(wide, 1)
    with pytest.raises(InputError, match="module: expected an output larger by a whole factor"):
        upsampling.checkerboard(nn.Upsample(scale_factor=1.5), 1)
    with pytest.raises(InputError, match="size: expected more than 1 pixels"):
        upsampling.checkerboard(nn.Upsample(scale_factor=2), 1, size=1)
    with pytest.raises(InputError, match="module: expected float32 or float64, got torch.bfloat16"):
        upsampling.checkerboard(nn.ConvTranspose2d(1, 1, 2, 2).bfloat16(), 1)
    with pytest.raises(TensorError, match=r"module: expected it to return \[B, K, height, width\], got \[2, 1024\]"):
        upsampling.checkerboard(nn.Flatten(), 1)
    with pytest.raises(TensorError, match=r"constants: expected float \[any, 1\]"):
        upsampling.checkerboard(nn.Upsample(scale_factor=2), 1, constants=torch.zeros(2))
    with pytest.raises(InputError, match="largest: expected a whole number of at least 3, got 2"):
        upsampling.suggest(3, largest=2)
    with pytest.raises(InputError, match="kernel: expected a whole number of at least 1, got 0"):
        upsampling.overlap(0, 1)
