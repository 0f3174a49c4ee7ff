"""Resizing, conventions, shuffles, transposed convolution, unpooling: against torch's layers, PIL, scipy and loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import nn
from torch.nn.functional import conv_transpose2d, grid_sample, interpolate, max_pool2d

from visavis.blocks import receptive, upsampling
from visavis.errors import InputError, TensorError

SIZES = st.integers(1, 9)


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


# conventions


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.booleans())
def test_ways_there_and_back(size_in, size_out, align_corners):
    if align_corners:
        size_in, size_out = size_in + 1, size_out + 1
    position = torch.arange(size_out, dtype=torch.float64)
    there = upsampling.to_input(position, size_in, size_out, align_corners=align_corners)
    back = upsampling.to_output(there, size_in, size_out, align_corners=align_corners)
    torch.testing.assert_close(back, position)
    grid = upsampling.to_grid(position, size_out, align_corners=align_corners)
    torch.testing.assert_close(upsampling.from_grid(grid, size_out, align_corners=align_corners), position)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("size_in", "size_out"), [(5, 10), (5, 7), (7, 5), (2, 9)])
def test_positions_are_those_of_torch_and_of_scipy(size_in, size_out, align_corners):
    row = draw(1, 1, 1, size_in)
    position = upsampling.to_input(torch.arange(size_out).double(), size_in, size_out, align_corners=align_corners)
    expected = map_coordinates(row[0, 0, 0].numpy(), position[None].numpy(), order=1, mode="nearest")
    resized = upsampling.resize(row, (1, size_out), align_corners=align_corners)[0, 0, 0]
    np.testing.assert_allclose(resized.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_grid_of_either_convention_samples_the_same_places(wanted):
    images, grid = draw(2, 3, 5, 8), draw(2, 4, 6, 2, seed=1) * 0.4
    moved = upsampling.regrid(grid, 5, 8, align_corners=wanted)
    assert (moved - grid).abs().max() > 0.01
    torch.testing.assert_close(
        grid_sample(images, moved, align_corners=wanted), grid_sample(images, grid, align_corners=not wanted)
    )


def test_a_box_makes_pil_align_the_corners():
    image = draw(6, 9, dtype=torch.float32)
    rows, columns = upsampling.corner_box(6, 13), upsampling.corner_box(9, 20)
    box = (columns[0], rows[0], columns[1], rows[1])
    pil = Image.fromarray(image.numpy()).resize((20, 13), Image.Resampling.BILINEAR, box=box)
    expected = interpolate(image[None, None], (13, 20), mode="bilinear", align_corners=True)[0, 0]
    np.testing.assert_allclose(np.asarray(pil), expected.numpy(), atol=1e-5)


def test_conventions_refuse_what_has_no_scale():
    with pytest.raises(InputError, match="size: expected at least 1 pixel, got 0"):
        upsampling.to_input(torch.zeros(1), 0, 2)
    with pytest.raises(InputError, match="size_in: expected at least 2 pixels between whose centres"):
        upsampling.to_output(torch.zeros(1), 1, 2, align_corners=True)
    with pytest.raises(InputError, match="size: expected at least 2 pixels with align_corners=True, got 1"):
        upsampling.regrid(torch.zeros(1, 2), 3, 1, align_corners=False)
    with pytest.raises(TensorError, match=r"grid: expected float \[..., 2\], got float32 \[3\]"):
        upsampling.regrid(torch.zeros(3), 3, 3, align_corners=False)
    assert upsampling.to_input(torch.zeros(1), 4, 1, align_corners=True).tolist() == [0.0]


# resizing


@pytest.mark.parametrize("size", [(12, 18), (9, 7), (3, 4), (6, 9), (1, 1)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_is_pils(mode, size):
    image = draw(6, 9, dtype=torch.float32)
    pil = Image.fromarray(image.numpy()).resize(size[::-1], getattr(Image.Resampling, mode.upper()))
    ours = upsampling.resize(image[None, None], size, mode=mode, antialias=True)[0, 0]
    np.testing.assert_allclose(ours.numpy(), np.asarray(pil), atol=2e-5)


@pytest.mark.parametrize("size", [(12, 18), (8, 7), (4, 5)])
def test_nearest_is_pils(size):
    image = draw(6, 9, dtype=torch.float32)
    pil = Image.fromarray(image.numpy()).resize(size[::-1], Image.Resampling.NEAREST)
    ours = upsampling.resize(image[None, None], size, mode="nearest")[0, 0]
    np.testing.assert_array_equal(ours.numpy(), np.asarray(pil))


def test_nearest_where_two_pixels_are_as_near():
    column = torch.arange(6.0).view(1, 1, 6, 1)
    found = upsampling.resize(column, (9, 1), mode="nearest")  # PIL rounds position 5/2 + 1/2 down
    assert found.flatten().tolist() == [(2 * out + 1) * 6 // 18 for out in range(9)]


def test_bilinear_layers_of_torch_disagree_and_ours_says_which():
    image = draw(1, 2, 4, 5)
    fixed, default = nn.UpsamplingBilinear2d(scale_factor=2)(image), nn.Upsample(scale_factor=2, mode="bilinear")(image)
    assert (fixed - default).abs().max() > 0.1
    torch.testing.assert_close(upsampling.resize(image, scale=2), default)
    torch.testing.assert_close(upsampling.Resize(2, align_corners=True)(image), fixed)


def keys(x):
    """Keys' kernel with a = -3/4, as its definition has it."""
    x = abs(x)
    if x <= 1:
        return (1.25 * x - 2.25) * x * x + 1
    return ((-0.75 * x + 3.75) * x - 6) * x + 3 if x < 2 else 0.0


def test_bicubic_is_keys_kernel():
    row = draw(1, 1, 1, 5)
    expected = []
    for out in range(10):
        at = (out + 0.5) / 2 - 0.5
        taps = range(int(np.floor(at)) - 1, int(np.floor(at)) + 3)
        expected.append(sum(keys(at - tap) * row[0, 0, 0, min(max(tap, 0), 4)].item() for tap in taps))
    ours = upsampling.resize(row, scale=(1, 2), mode="bicubic")[0, 0, 0]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


def test_scales_that_give_whole_sizes_and_others():
    image = torch.zeros(1, 1, 10, 15)
    assert upsampling.resize(image, scale=1.2).shape[2:] == (12, 18)
    assert upsampling.resize(image, scale=(0.1, 1 / 3)).shape[2:] == (1, 5)
    for scale in (1.25, 0.01, 0.05):
        with pytest.raises(InputError, match=f"scale: expected a whole number of pixels, got 1. x {scale}"):
            upsampling.resize(image, scale=scale)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size, scale: expected one of them"),
        ({"size": (2, 2), "scale": 2}, "size, scale: expected one of them"),
        ({"size": (0, 2)}, "size: expected a whole number of at least 1, got 0"),
        ({"scale": -1.0}, "scale: expected a positive number"),
        ({"scale": float("nan")}, "scale: expected a positive number"),
        ({"scale": 2, "mode": "linear"}, "mode: expected nearest, bilinear or bicubic, got linear"),
        ({"scale": 2, "mode": "nearest", "antialias": True}, "mode: expected bilinear or bicubic"),
        ({"scale": 2, "antialias": True, "align_corners": True}, "antialias: expected align_corners=False"),
    ],
)
def test_resize_refuses(options, message):
    with pytest.raises(InputError, match=message):
        upsampling.resize(torch.zeros(1, 1, 4, 4), **options)


# shuffles


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), SIZES, SIZES, st.integers(1, 4))
def test_shuffle_is_torchs_and_unshuffle_its_inverse(N, C, H, W, factor):
    packed = draw(N, C * factor**2, H, W)
    spread = upsampling.pixel_shuffle(packed, factor)
    assert torch.equal(spread, torch.pixel_shuffle(packed, factor))
    assert torch.equal(upsampling.pixel_unshuffle(spread, factor), packed)
    if N:  # torch's unshuffle gives an empty batch its old shape
        assert torch.equal(upsampling.pixel_unshuffle(spread, factor), torch.pixel_unshuffle(spread, factor))


def test_shuffles_of_several_tiles_and_layouts():
    packed = draw(3, 128, 96, 80, dtype=torch.bfloat16)
    for images in (packed, channels_last(packed)):
        assert torch.equal(upsampling.pixel_shuffle(images, 2), torch.pixel_shuffle(packed, 2))
    spread = torch.pixel_shuffle(packed, 2)
    assert torch.equal(upsampling.pixel_unshuffle(spread, 2), packed)


def test_gradients_of_shuffles():
    packed, spread = draw(2, 8, 3, 2).requires_grad_(), draw(2, 2, 6, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: upsampling.pixel_shuffle(x, 2), packed)
    assert torch.autograd.gradgradcheck(lambda x: upsampling.pixel_unshuffle(x, 2).square(), spread)


def test_icnr_begins_as_nearest_upsampling_and_torch_does_not():
    torch.manual_seed(0)
    layer, images = upsampling.SubPixel2d(4, 3, 3).double(), draw(2, 4, 5, 6)
    each = nn.functional.conv2d(images, layer.conv.weight[::9], layer.conv.bias[::9], padding=1)
    torch.testing.assert_close(layer(images), interpolate(each, scale_factor=3, mode="nearest"))
    plain = nn.Sequential(nn.Conv2d(4, 27, 3, padding=1), nn.PixelShuffle(3))
    assert not upsampling.checkerboard(plain, 4).free
    upsampling.icnr_(plain[0].weight, 3)
    assert not upsampling.checkerboard(plain, 4).free  # torch draws its bias at random
    upsampling.icnr_(plain[0].bias, 3, nn.init.zeros_)
    assert upsampling.checkerboard(plain, 4).free
    assert upsampling.checkerboard(layer, 4).free


def test_shuffles_refuse():
    with pytest.raises(TensorError, match="images: expected channels in groups of 4 for factor 2"):
        upsampling.pixel_shuffle(torch.zeros(1, 6, 2, 2), 2)
    with pytest.raises(TensorError, match="images: expected sides that 2 divides"):
        upsampling.pixel_unshuffle(torch.zeros(1, 6, 2, 3), 2)
    with pytest.raises(TensorError, match=r"weight: expected float \[4 C, ...\], got float32 \[6, 1\]"):
        upsampling.icnr_(torch.zeros(6, 1), 2)
    with pytest.raises(InputError, match="factor: expected a whole number of at least 1, got 1.5"):
        upsampling.pixel_shuffle(torch.zeros(1, 4, 2, 2), 1.5)
    with pytest.raises(InputError, match="kernel: expected an odd size"):
        upsampling.SubPixel2d(1, 1, kernel=2)


# transposed convolution


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5), SIZES, SIZES, st.integers(1, 4), st.integers(1, 4))
def test_patches_are_torchs(N, C, K, H, W, kh, kw):
    images, weight, bias = draw(N, C, H, W), draw(C, K, kh, kw, seed=1), draw(K, seed=2)
    expected = conv_transpose2d(images, weight, bias, stride=(kh, kw))
    torch.testing.assert_close(upsampling.patch_transpose2d(images, weight, bias), expected)
    torch.testing.assert_close(upsampling.patch_transpose2d(channels_last(images), weight, bias), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 16, 128, 100), (40, 16, 12, 10)])  # rows of an image; several images
def test_tiles_and_their_gradients_are_torchs(shape, dtype):
    images, weight, bias = draw(*shape), draw(16, 24, 2, 2, seed=1) / 8, draw(24, seed=2)
    grad = draw(shape[0], 24, 2 * shape[2], 2 * shape[3], seed=3)
    leaves = [leaf.to(dtype).requires_grad_() for leaf in (images, weight, bias)]
    out = upsampling.patch_transpose2d(*leaves)
    found = [out, *torch.autograd.grad(out, leaves, grad.to(dtype))]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = conv_transpose2d(*exact, stride=2)
    for one, other in zip(
        found, [expected, *torch.autograd.grad(expected, exact, grad.to(dtype).double())], strict=True
    ):
        # at most some roundings of the largest partial sums; bfloat16 rounds each tile's product once, and the end
        error = (one.double() - other).abs().max() / other.abs().max()
        assert error < {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 8e-3}[dtype]


def test_patches_differentiate_twice_and_by_finite_differences():
    leaves = [x.requires_grad_() for x in (draw(2, 2, 3, 2), draw(2, 3, 2, 1, seed=1), draw(3, seed=2))]
    assert torch.autograd.gradcheck(upsampling.patch_transpose2d, leaves)
    assert torch.autograd.gradgradcheck(upsampling.patch_transpose2d, leaves)
    weight_only = torch.autograd.grad(
        upsampling.patch_transpose2d(leaves[0].detach(), leaves[1]).square().sum(), leaves[1]
    )
    assert weight_only[0].shape == leaves[1].shape


def test_a_state_dict_of_torch_loads_and_gives_the_same():
    torch.manual_seed(0)
    theirs, ours = nn.ConvTranspose2d(5, 3, 4, stride=4), upsampling.PatchTranspose2d(5, 3, 4)
    assert upsampling.checkerboard(ours, 5).free
    assert not upsampling.checkerboard(theirs, 5).free
    ours.load_state_dict(theirs.state_dict())
    images = draw(2, 5, 6, 7, dtype=torch.float32)
    torch.testing.assert_close(ours(images), theirs(images))
    assert upsampling.PatchTranspose2d(5, 3, bias=False).bias is None


def test_patches_under_vmap_autocast_and_without_contiguity():
    images, weight = draw(3, 2, 4, 5, 6, dtype=torch.float32), draw(4, 3, 2, 2, dtype=torch.float32)
    expected = conv_transpose2d(images.flatten(0, 1), weight, stride=2).unflatten(0, (3, 2))
    mapped = torch.func.vmap(lambda x: upsampling.patch_transpose2d(x, weight))(images)
    torch.testing.assert_close(mapped, expected)
    turned = images[0].mT
    torch.testing.assert_close(upsampling.patch_transpose2d(turned, weight), conv_transpose2d(turned, weight, stride=2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert upsampling.patch_transpose2d(images[0], weight).dtype == torch.bfloat16


@pytest.mark.slow
def test_layers_compile():
    layers = nn.Sequential(
        upsampling.PatchTranspose2d(4, 8), upsampling.Carafe(8), upsampling.DySample(8), upsampling.SubPixel2d(8, 2)
    )
    images = draw(1, 4, 3, 4, dtype=torch.float32)
    torch.testing.assert_close(torch.compile(layers, fullgraph=True, backend="aot_eager")(images), layers(images))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("groups", [1, 3])
def test_bilinear_weights_interpolate(stride, groups):
    kernel = 2 * stride - stride % 2
    layer = nn.ConvTranspose2d(
        3, 3, kernel, stride=stride, padding=(stride - stride % 2) // 2, groups=groups, bias=False
    )
    upsampling.bilinear_(layer.weight, stride)
    images = draw(1, 3, 6, 7, dtype=torch.float32)
    inside = (slice(None), slice(None), slice(stride, -stride), slice(stride, -stride))
    out = layer(images)[inside]
    torch.testing.assert_close(out, upsampling.resize(images, scale=stride)[inside])


def test_transposed_convolutions_refuse():
    images = torch.zeros(1, 2, 3, 3)
    with pytest.raises(TensorError, match=r"images: expected float \[any, any, any, any\], got float32 \[2, 3, 3\]"):
        upsampling.patch_transpose2d(images[0], torch.zeros(2, 1, 2, 2))
    with pytest.raises(TensorError, match=r"images: expected channels and pixels, got \[1, 2, 0, 3\]; was it cropped"):
        upsampling.patch_transpose2d(images[:, :, :0], torch.zeros(2, 1, 2, 2))
    with pytest.raises(TensorError, match=r"weight: expected float \[2, any, any, any\]"):
        upsampling.patch_transpose2d(images, torch.zeros(3, 1, 2, 2))
    with pytest.raises(TensorError, match="weight: expected channels and a kernel"):
        upsampling.patch_transpose2d(images, torch.zeros(2, 1, 0, 2))
    with pytest.raises(TensorError, match=r"bias: expected float \[1\]"):
        upsampling.patch_transpose2d(images, torch.zeros(2, 1, 2, 2), torch.zeros(2))
    with pytest.raises(TensorError, match=r"weight: expected float \[any, any, 4, 4\]"):
        upsampling.bilinear_(torch.zeros(2, 2, 3, 3), 2)
    with pytest.raises(TensorError, match="weight: expected as many channels out as in"):
        upsampling.bilinear_(torch.zeros(4, 2, 4, 4), 2)
    with pytest.raises(InputError, match="stride: expected a whole number of at least 1, got 0"):
        upsampling.PatchTranspose2d(2, 2, 0)


# unpooling


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))
def test_unpooling_is_torchs_where_windows_do_not_overlap(C, H, W):
    values, indices = max_pool2d(draw(2, C, H, W), 2, return_indices=True)
    expected = nn.functional.max_unpool2d(values, indices, 2, output_size=(H, W))
    assert torch.equal(upsampling.max_unpool2d(values, indices, (H, W)), expected)


def test_unpooling_is_the_adjoint_of_taking_the_maxima_where_they_do():
    image = draw(2, 3, 7, 8)
    values, indices = max_pool2d(image, 3, stride=1, padding=1, return_indices=True)
    other = draw(*values.shape, seed=1).requires_grad_()
    out = upsampling.max_unpool2d(other, indices, (7, 8))
    taken = image.flatten(2).gather(2, indices.flatten(2)).view_as(values)
    torch.testing.assert_close((out * image).sum(), (other * taken).sum())
    assert torch.autograd.gradcheck(lambda x: upsampling.max_unpool2d(x, indices, (7, 8)), other)


def test_unpooling_refuses():
    values, indices = max_pool2d(draw(1, 1, 6, 6), 2, return_indices=True)
    with pytest.raises(InputError, match=r"indices: expected \[0, 16\) in a map of 4 x 4, got \d+ to \d+; is `size`"):
        upsampling.max_unpool2d(values, indices + 10, (4, 4))
    with pytest.raises(TensorError, match=r"indices: expected int64 \[1, 1, 3, 3\], got int32"):
        upsampling.max_unpool2d(values, indices.int(), (6, 6))
    assert upsampling.max_unpool2d(values[:0], indices[:0], (6, 6)).shape == (0, 1, 6, 6)


def test_other_families_can_trace_the_layers():
    """A tracer sees one operation that it knows, not the tiles."""
    for layer in (upsampling.PatchTranspose2d(4, 4, 2), upsampling.SubPixel2d(4, 4, kernel=1)):
        found = receptive.fields(nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), layer), (4, 64, 64))
        assert [(phase.size, phase.offset) for phase in found.output.axes[0].phases] == [(3, -1), (3, -1)]
