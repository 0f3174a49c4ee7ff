"""Upsampling that looks at the content: CARAFE predicts the weights of each output pixel, DySample its place.

Shapes: features [N, C, H, W]; factor s; output [N, C, s H, s W].
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, pad

from visavis.blocks.upsampling._checks import positive, refuse_empty
from visavis.blocks.upsampling.conventions import to_grid, to_input
from visavis.blocks.upsampling.shuffle import pixel_shuffle, pixel_unshuffle
from visavis.errors import InputError, TensorError, expect

__all__ = ["Carafe", "DySample", "dysample", "reassemble"]


def reassemble(features: Tensor, kernels: Tensor, factor: int) -> Tensor:
    """Each output pixel a weighted sum of the k x k input pixels around the one that it lies in.

    ``out[n, c, y, x] = sum over i, j of kernels[n, i k + j, y, x] features[n, c, y // s + i - r, x // s + j - r]``

    with r = k // 2 and zeros outside the map. The sum runs over the k^2 taps, phase by phase, and
    autograd keeps the features and the kernels, not k^2 shifted copies.

    Args:
        features: float [N, C, H, W].
        kernels: float [N, k^2, s H, s W], k odd; the same type. Weights that sum to 1 keep constants.
        factor: s.

    Returns:
        [N, C, s H, s W].

    Raises:
        TensorError: shapes or types other than these, or k^2 not the square of an odd number.
        InputError: `factor` below 1.

    Source: Wang et al., CARAFE, ICCV 2019, arXiv:1905.02188, eq. 5.

    >>> reassemble(torch.tensor([[[[3.0]]]]), torch.tensor([[[[1.0, 2.0], [0.0, 1.0]]]]), 2)
    tensor([[[[3., 6.],
              [0., 3.]]]])
    """
    positive("factor", factor)
    refuse_empty("features", features)
    N, _, H, W = features.shape
    expect("kernels", kernels, "float", N, None, factor * H, factor * W)
    side = round(kernels.shape[1] ** 0.5)
    if side**2 != kernels.shape[1] or side % 2 == 0:
        raise TensorError(f"kernels: expected weights for 1, 9, 25, ... neighbours, got {kernels.shape[1]} of them")
    if kernels.dtype != features.dtype:
        raise TensorError(f"kernels: expected the features' {features.dtype}, got {kernels.dtype}")
    padded = pad(features, [side // 2] * 4)[:, :, None]
    taps = pixel_unshuffle(kernels, factor).view(N, side**2, 1, factor**2, H, W).unbind(1)
    out = features.new_zeros(())
    for tap, weights in enumerate(taps):
        row, column = divmod(tap, side)
        shifted = padded[..., row : row + H, column : column + W]
        out = torch.addcmul(out, shifted, weights)  # [N, C, s^2, H, W], a slice for each phase
    return pixel_shuffle(out.flatten(1, 2), factor)


class Carafe(nn.Module):
    """CARAFE: kernels predicted from the features, normalised by a softmax, then `reassemble`.

    A 1 x 1 convolution compresses to `compressed` channels, an `encoder_kernel`-wide one makes s^2 k^2 of them, a pixel
    shuffle spreads them over the output.

    Args:
        channels: C.
        factor: s.
        kernel: k, odd.
        encoder_kernel: odd; the authors find k - 2 right.
        compressed: channels the kernels are predicted from.

    Raises:
        InputError: a count below 1, or an even kernel.

    Source: Wang et al., CARAFE, ICCV 2019, arXiv:1905.02188.

    >>> Carafe(8)(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 8, 10, 14])
    """

    def __init__(
        self, channels: int, factor: int = 2, *, kernel: int = 5, encoder_kernel: int = 3, compressed: int = 64
    ) -> None:
        super().__init__()
        positive("channels", channels), positive("factor", factor), positive("compressed", compressed)
        for name, size in (("kernel", kernel), ("encoder_kernel", encoder_kernel)):
            if positive(name, size) % 2 == 0:
                raise InputError(f"{name}: expected an odd size, which has a middle, got {size}")
        self.factor = factor
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, (factor * kernel) ** 2, encoder_kernel, padding=encoder_kernel // 2)
        nn.init.normal_(self.encode.weight, std=0.001)  # kernels begin near the mean of the neighbours
        assert self.encode.bias is not None
        nn.init.zeros_(self.encode.bias)

    def forward(self, features: Tensor) -> Tensor:
        refuse_empty("features", features)
        kernels = pixel_shuffle(self.encode(self.compress(features)), self.factor).softmax(dim=1)
        return reassemble(features, kernels, self.factor)


def dysample(features: Tensor, offsets: Tensor, factor: int) -> Tensor:
    """Bilinear samples at the places of half-pixel upsampling, each moved by its own offset.

    ``out[n, c, y, x] = features[n, c]((y + 1/2) / s - 1/2 + dy, (x + 1/2) / s - 1/2 + dx)``

    Places outside the map take its border. With zero offsets it is `resize`, bilinear.

    Args:
        features: float [N, C, H, W].
        offsets: float [N, G, 2, s H, s W], the second of each pair down and the first to the right, in pixels of the
            input; G divides C, and C / G neighbouring channels share a group's offsets.
        factor: s.

    Returns:
        [N, C, s H, s W].

    Raises:
        TensorError: shapes or types other than these.
        InputError: `factor` below 1.

    Source: Liu et al., Learning to Upsample by Learning to Sample, ICCV 2023, arXiv:2308.15085.

    >>> row = torch.tensor([[[[0.0, 4.0]]]])
    >>> dysample(row, torch.zeros(1, 1, 2, 2, 4), 2)[0, 0, 0]
    tensor([0., 1., 3., 4.])
    """
    positive("factor", factor)
    refuse_empty("features", features)
    N, C, H, W = features.shape
    expect("offsets", offsets, "float", N, None, 2, factor * H, factor * W)
    groups = offsets.shape[1]
    if not groups or C % groups:
        raise TensorError(f"offsets: expected a number of groups that divides {C} channels, got {groups}")
    if offsets.dtype != features.dtype:
        raise TensorError(f"offsets: expected the features' {features.dtype}, got {offsets.dtype}")
    # A place in bfloat16 is good to whole pixels only at 256: the places, and so the sampling, are in float32 at least.
    dtype = torch.promote_types(features.dtype, torch.float32)
    moves = offsets.flatten(0, 1).to(dtype)
    rows, columns = (
        to_input(torch.arange(factor * size, device=features.device, dtype=dtype), size, factor * size)
        for size in (H, W)
    )
    grid = torch.stack([to_grid(columns + moves[:, 0], W), to_grid(rows[:, None] + moves[:, 1], H)], dim=-1)
    by_group = features.reshape(N * groups, C // groups, H, W).to(dtype)
    out = grid_sample(by_group, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.view(N, C, factor * H, factor * W).to(features.dtype)


class DySample(nn.Module):
    """DySample ("lp": a linear layer, then pixel shuffle): offsets from a 1 x 1 convolution, then `dysample`.

    ``offset = 1/4 linear(x)``, or with a dynamic scope ``1/2 sigmoid(scope(x)) linear(x)``, which begins the same. In
    pixels of the input a quarter is half the distance between two outputs for s = 2: neighbours' places can just meet.

    Args:
        channels: C.
        factor: s.
        groups: sets of offsets; divides C.
        dynamic_scope: learn how far a place may move, for each place.

    Raises:
        InputError: a count below 1, or groups that do not divide the channels.

    Source: Liu et al., Learning to Upsample by Learning to Sample, ICCV 2023, arXiv:2308.15085.

    >>> DySample(8, groups=2, dynamic_scope=True)(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 8, 10, 14])
    """

    def __init__(self, channels: int, factor: int = 2, *, groups: int = 4, dynamic_scope: bool = False) -> None:
        super().__init__()
        positive("channels", channels), positive("factor", factor), positive("groups", groups)
        if channels % groups:
            raise InputError(f"groups: expected a divisor of {channels} channels, got {groups}")
        self.factor, self.groups = factor, groups
        self.offset = nn.Conv2d(channels, 2 * groups * factor**2, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.scope = nn.Conv2d(channels, 2 * groups * factor**2, 1, bias=False) if dynamic_scope else None
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def forward(self, features: Tensor) -> Tensor:
        refuse_empty("features", features)
        offsets = self.offset(features)
        offsets = offsets * (0.25 if self.scope is None else 0.5 * self.scope(features).sigmoid())
        spread = pixel_shuffle(offsets, self.factor)
        N, _, height, width = spread.shape
        return dysample(features, spread.view(N, self.groups, 2, height, width), self.factor)
