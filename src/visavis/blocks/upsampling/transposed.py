"""Transposed convolution whose kernel is its stride, and initialisations without a checkerboard.

Shapes: images [N, C, H, W], weight [C, K, kh, kw], output [N, K, kh H, kw W].

Where kernel and stride are equal no two pixels reach the same output pixel: pixel (h, w) alone fills the kh x kw patch
at (kh h, kw w). The layer is one matrix product from C to kh kw K channels and an interleave of the kh kw phases.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from visavis.blocks.upsampling._checks import by_tiles, positive, refuse_empty
from visavis.errors import TensorError, expect

__all__ = ["PatchTranspose2d", "bilinear_", "patch_transpose2d"]

_TILE = 1 << 19  # elements of the product in flight: 2 MiB in float32, what a core's cache holds


def patch_transpose2d(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.conv_transpose2d` with stride equal to the kernel.

    ``out[n, k, kh h + i, kw w + j] = bias[k] + sum over c of weight[c, k, i, j] images[n, c, h, w]``

    On a CPU and in NCHW, where torch is slow, the product is made in tiles that stay in the cache, and each is written
    to its places in the output at once: the product as a whole never exists. The backward pass reads the gradient
    in the same tiles, for both of its products. In channels-last, on other devices, under `torch.func`, autocast and
    `torch.compile` it is torch's own kernel, which is as fast there.

    Args:
        images: float [N, C, H, W].
        weight: float [C, K, kh, kw], as `torch.nn.ConvTranspose2d` keeps it.
        bias: float [K], or none.

    Returns:
        [N, K, kh H, kw W]. Differentiable any number of times.

    Raises:
        TensorError: shapes or types other than these, or no channels or pixels.

    >>> patch_transpose2d(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0]]]]))
    tensor([[[[ 1., 10.,  2., 20.]]]])
    """
    refuse_empty("images", images)
    expect("weight", weight, "float", images.shape[1], None, None, None)
    if 0 in weight.shape:
        raise TensorError(f"weight: expected channels and a kernel, got {list(weight.shape)}")
    if bias is not None:
        expect("bias", bias, "float", weight.shape[1])
    tiled = (
        by_tiles(images) and len(images) > 0 and images.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")
    )
    if not tiled:
        return conv_transpose2d(images, weight, bias, stride=(weight.shape[2], weight.shape[3]))
    out: Tensor = _Patches.apply(images, weight, bias)  # type: ignore[no-untyped-call]  # torch's
    return out


class PatchTranspose2d(nn.Module):
    """`patch_transpose2d` as a layer; parameters, their names and shapes as `nn.ConvTranspose2d(..., stride, stride)`.

    It starts without a checkerboard: all phases of an output channel have one weight, as if the pixels of a 1 x 1
    convolution were repeated (ICNR for this layer). ``load_state_dict`` takes torch's.

    Args:
        in_channels: C.
        out_channels: K.
        stride: of both axes; the kernel too.
        bias: whether to add one.

    Raises:
        InputError: a count below 1.

    >>> PatchTranspose2d(8, 4, 2)(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 4, 10, 14])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, *, bias: bool = True) -> None:
        super().__init__()
        positive("in_channels", in_channels), positive("out_channels", out_channels), positive("stride", stride)
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, stride, stride))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1 / sqrt(C), as torch's 1 x 1 convolution, the same for all phases."""
        bound = 1 / math.sqrt(self.weight.shape[0])
        with torch.no_grad():
            self.weight.copy_(self.weight[:, :, :1, :1].uniform_(-bound, bound).clone())
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        return patch_transpose2d(images, self.weight, self.bias)

    def extra_repr(self) -> str:
        channels = f"{self.weight.shape[0]}, {self.weight.shape[1]}"
        return f"{channels}, stride={self.stride}, bias={self.bias is not None}"


@torch.no_grad()
def bilinear_(weight: Tensor, stride: int) -> Tensor:
    """Make a transposed convolution begin as bilinear interpolation, each channel from the one of its own number.

    A tap at distance d from the middle of the kernel weighs ``max(0, 1 - |d| / stride)`` along each axis. The kernel
    must be ``2 stride - stride % 2``, padding ``(stride - stride % 2) / 2``; away from the border the layer is then
    `resize` with half-pixel positions, and its phases sum to 1 each, though for odd strides they have unlike numbers of
    taps.

    Args:
        weight: float [C, C or 1, k, k] of `nn.ConvTranspose2d` (1: with groups=C).
        stride: the layer's.

    Returns:
        `weight`, filled in place.

    Raises:
        TensorError: `weight` is not float [C, C or 1, k, k] with that k.
        InputError: `stride` below 1.

    Source: Long et al., Fully Convolutional Networks, CVPR 2015, arXiv:1411.4038; torch.nn has no such initialisation.

    >>> layer = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)
    >>> bilinear_(layer.weight, 2).detach()[0, 0, 0] * 4
    tensor([0.2500, 0.7500, 0.7500, 0.2500])
    """
    kernel = 2 * positive("stride", stride) - stride % 2
    expect("weight", weight, "float", None, None, kernel, kernel)
    channels, others = weight.shape[:2]
    if others not in (1, channels):
        raise TensorError(f"weight: expected as many channels out as in, or groups=C, got {list(weight.shape)}")
    distance = torch.arange(kernel, dtype=torch.float64, device=weight.device) - (kernel - 1) / 2
    axis = (1 - distance.abs() / stride).clamp_min(0)
    kernel_2d = (axis[:, None] * axis).to(weight.dtype)
    weight.zero_()
    each = torch.arange(channels, device=weight.device)
    weight[each, each if others == channels else 0] = kernel_2d
    return weight


def _tiles(count: int, height: int, width: int, channels: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows whose product has about `_TILE` elements: several whole images, or some rows of one."""
    rows = max(1, _TILE // (channels * width))
    images = max(1, rows // height)
    for first in range(0, count, images):
        for row in range(0, height, rows):
            yield slice(first, min(first + images, count)), slice(row, min(row + rows, height))


class _Patches(torch.autograd.Function):
    """The tiled product and interleave, for contiguous tensors on a CPU."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        N, C, H, W = images.shape
        _, K, kh, kw = weight.shape
        by_phase = weight.permute(2, 3, 1, 0).reshape(1, kh * kw * K, C)
        shift = None if bias is None else bias.repeat(kh * kw)[None, :, None]
        out = images.new_empty(N, K, H, kh, W, kw)
        flat = images.view(N, C, H * W)
        for some, rows in _tiles(N, H, W, kh * kw * K):
            pixels = flat[some, :, rows.start * W : rows.stop * W]
            weights = by_phase.expand(len(pixels), -1, -1)
            made = torch.bmm(weights, pixels) if shift is None else torch.baddbmm(shift, weights, pixels)
            out[some, :, rows].copy_(made.view(-1, kh, kw, K, rows.stop - rows.start, W).permute(0, 3, 4, 1, 5, 2))
        return out.view(N, K, H * kh, W * kw)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        [grad] = grads
        images, weight = ctx.saved_tensors  # type: ignore[attr-defined]  # there, but not in torch's stubs
        wants_images, wants_weight, wants_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        N, C, H, W = images.shape
        _, K, kh, kw = weight.shape
        to_bias = grad.sum((0, 2, 3)) if wants_bias else None
        if torch.is_grad_enabled():  # to be differentiated again
            to_images = conv2d(grad, weight, stride=(kh, kw)) if wants_images else None
            patches = grad.reshape(N, K, H, kh, W, kw)
            return to_images, torch.einsum("nchw,nkhiwj->ckij", images, patches) if wants_weight else None, to_bias
        by_phase = weight.permute(0, 2, 3, 1).reshape(1, C, kh * kw * K)
        to_images = torch.empty_like(images) if wants_images else None
        # sums of many tiles: at least float32
        sums = torch.promote_types(weight.dtype, torch.float32)
        to_weight = weight.new_zeros(kh * kw * K, C, dtype=sums) if wants_weight else None
        patches = grad.reshape(N, K, H, kh, W, kw)
        for some, rows in _tiles(N, H, W, kh * kw * K):
            part = slice(rows.start * W, rows.stop * W)
            tile = patches[some, :, rows].permute(0, 3, 5, 1, 2, 4).reshape(-1, kh * kw * K, part.stop - part.start)
            if to_images is not None:
                to_images.view(N, C, H * W)[some, :, part] = by_phase.expand(len(tile), -1, -1) @ tile
            if to_weight is not None:
                to_weight += (tile @ images.view(N, C, H * W)[some, :, part].mT).sum(0)
        if to_weight is not None:
            to_weight = to_weight.view(kh, kw, K, C).permute(3, 2, 0, 1).to(weight.dtype).contiguous()
        return to_images, to_weight, to_bias
