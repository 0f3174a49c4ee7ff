"""Pixel shuffle: resolution out of channels, and the initialisation that starts it without a checkerboard.

Shapes: images [N, C r^2, H, W] <-> [N, C, r H, r W], r the factor.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from visavis.blocks.upsampling._checks import by_tiles, positive, refuse_empty
from visavis.errors import InputError, TensorError

__all__ = ["SubPixel2d", "icnr_", "pixel_shuffle", "pixel_unshuffle"]

_TILE = 1 << 19  # elements read before they are written: 2 MiB in float32


def pixel_shuffle(images: Tensor, factor: int) -> Tensor:
    """Channel ``c r^2 + i r + j`` of pixel (h, w) becomes channel c of pixel ``(r h + i, r w + j)``.

    As `torch.nn.functional.pixel_shuffle`; for contiguous tensors on a CPU some channels at a time, so that what is
    read in strides stays in the cache.

    Args:
        images: float [N, C r^2, H, W].
        factor: r, at least 1.

    Returns:
        [N, C, r H, r W].

    Raises:
        TensorError: `images` is not float of that shape, or has no channels or pixels.
        InputError: `factor` below 1, or not whole.

    Source: Shi et al., CVPR 2016, arXiv:1609.05158.

    >>> pixel_shuffle(torch.arange(4.0).view(1, 4, 1, 1), 2)
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    positive("factor", factor)
    refuse_empty("images", images)
    if images.shape[1] % factor**2:
        raise TensorError(
            f"images: expected channels in groups of {factor**2} for factor {factor}, got {list(images.shape)}"
        )
    if not by_tiles(images):
        return torch.pixel_shuffle(images, factor)
    out: Tensor = _Shuffle.apply(images, factor)  # type: ignore[no-untyped-call]  # torch's
    return out


def pixel_unshuffle(images: Tensor, factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: [N, C, r H, r W] to [N, C r^2, H, W]; arguments and errors as there.

    >>> pixel_unshuffle(torch.arange(4.0).view(1, 1, 2, 2), 2).flatten()
    tensor([0., 1., 2., 3.])
    """
    positive("factor", factor)
    refuse_empty("images", images)
    if images.shape[2] % factor or images.shape[3] % factor:
        raise TensorError(f"images: expected sides that {factor} divides, got {list(images.shape)}; pad them first")
    if not by_tiles(images):
        return torch.pixel_unshuffle(images, factor)
    out: Tensor = _Unshuffle.apply(images, factor)  # type: ignore[no-untyped-call]  # torch's
    return out


@torch.no_grad()
def icnr_(weight: Tensor, factor: int, initializer: Callable[[Tensor], object] = nn.init.kaiming_uniform_) -> Tensor:
    """Initialise a convolution before `pixel_shuffle` as if it were followed by nearest upsampling instead.

    The r^2 filters that fill one output channel's phases begin equal, so that the shuffled map begins without a
    checkerboard. The same function fits the convolution's bias, which must be equal too, and which torch draws at
    random: ``icnr_(conv.bias, r, nn.init.zeros_)``.

    Args:
        weight: float [C r^2, ...], filled in place.
        factor: r of the shuffle.
        initializer: fills a tensor [C, ...] in place.

    Returns:
        `weight`.

    Raises:
        TensorError: no channels in groups of r^2.
        InputError: `factor` below 1.

    Source: Aitken et al., Checkerboard artifact free sub-pixel convolution, 2017, arXiv:1707.02937.

    >>> weight = icnr_(torch.empty(8, 3, 1, 1), 2)
    >>> bool((weight[:4] == weight[0]).all()), bool((weight[4] == weight[0]).all())
    (True, False)
    """
    positive("factor", factor)
    if not weight.is_floating_point() or weight.ndim < 1 or not len(weight) or len(weight) % factor**2:
        dtype = str(weight.dtype).removeprefix("torch.")
        raise TensorError(f"weight: expected float [{factor**2} C, ...], got {dtype} {list(weight.shape)}")
    each = torch.empty_like(weight[:: factor**2], memory_format=torch.contiguous_format)
    initializer(each)
    return weight.copy_(each.repeat_interleave(factor**2, dim=0))


class SubPixel2d(nn.Module):
    """A convolution and `pixel_shuffle`, weight and bias initialised by `icnr_`: x`factor` without a checkerboard.

    Args:
        in_channels: of the input.
        out_channels: of the output; the convolution makes `factor`^2 as many.
        factor: r.
        kernel: of the convolution, odd, padded so that the size stays.

    Raises:
        InputError: a count below 1, or an even kernel.

    >>> SubPixel2d(8, 3, 2)(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 3, 10, 14])
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, *, kernel: int = 3) -> None:
        super().__init__()
        positive("in_channels", in_channels), positive("out_channels", out_channels), positive("factor", factor)
        if positive("kernel", kernel) % 2 == 0:
            raise InputError(f"kernel: expected an odd size, which has a middle, got {kernel}")
        self.factor = factor
        self.conv = nn.Conv2d(in_channels, out_channels * factor**2, kernel, padding=kernel // 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight and bias as torch draws them for a convolution, once per output channel."""
        icnr_(self.conv.weight, self.factor, lambda weight: nn.init.kaiming_uniform_(weight, a=math.sqrt(5)))
        assert self.conv.bias is not None
        bound = 1 / math.sqrt(self.conv.weight[0].numel())
        icnr_(self.conv.bias, self.factor, lambda bias: nn.init.uniform_(bias, -bound, bound))

    def forward(self, images: Tensor) -> Tensor:
        return pixel_shuffle(self.conv(images), self.factor)


class _Shuffle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, images: Tensor, factor: int) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]  # this is how a context keeps what is no tensor
        N, channels, H, W = images.shape
        count = N * channels // factor**2  # images and channels alike
        parts = images.view(count, factor, factor, H, W)
        out = images.new_empty(count, H, factor, W, factor)
        step = max(1, _TILE // (factor**2 * H * W))
        for first in range(0, count, step):
            out[first : first + step].copy_(parts[first : first + step].permute(0, 3, 1, 4, 2))
        return out.view(N, channels // factor**2, H * factor, W * factor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return pixel_unshuffle(grads[0], ctx.factor), None  # type: ignore[attr-defined]


class _Unshuffle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, images: Tensor, factor: int) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        N, channels, height, width = images.shape
        H, W = height // factor, width // factor
        parts = images.view(N * channels, H, factor, W, factor)
        out = images.new_empty(N * channels, factor, factor, H, W)
        step = max(1, _TILE // (height * width))
        for first in range(0, N * channels, step):
            out[first : first + step].copy_(parts[first : first + step].permute(0, 2, 4, 1, 3))
        return out.view(N, channels * factor**2, H, W)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return pixel_shuffle(grads[0], ctx.factor), None  # type: ignore[attr-defined]
