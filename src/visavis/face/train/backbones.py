"""Networks that turn an aligned face into features, from scratch.

Each is an nn.Module from float [N, 3, S, S], RGB as ``(pixel - 127.5) / 127.5``, to [N, dim], not normalised. The
crop's side S is fixed when it is built, for the last layer weighs every place of the face by itself. `width` scales the
channels: 1 is the published network, 0.25 and the like train on a CPU. No layer before a batch normalisation has a
bias, which that would take away again.

Parameters and multiply-adds are told for S = 112 and width 1; tests count them.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from visavis.blocks import attention
from visavis.blocks.activations import PReLU, SwiGLU
from visavis.errors import InputError

__all__ = ["iresnet", "mobilefacenet", "vit"]

_SLOPE = 0.25  # where torch starts a PReLU
_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


def mobilefacenet(*, dim: int = 128, width: float = 1.0, size: int = 112) -> nn.Module:
    """MobileFaceNet: 1.00 M parameters (published: 0.99 M), 221 M multiply-adds.

    Inverted residual bottlenecks; in the end a depthwise convolution as large as the map instead of a mean, so that
    the middle of the face and its corners weigh differently.

    Args:
        dim: features of a face.
        width: scales the channels, rounded to multiples of 8.
        size: the crop's side, px, a multiple of 16.

    Raises:
        InputError: a size that does not fit.

    Source: Chen et al., MobileFaceNets, arXiv:1804.07573, table 1.
    """
    last = _last_map(dim, width, size)
    stem, middle, end = _scaled(64, width), _scaled(128, width), _scaled(512, width)
    layers: list[nn.Module] = [*_convolution(3, stem, 3, stride=2), *_convolution(stem, stem, 3, groups=stem)]
    channels = stem
    for expansion, out, blocks, stride in ((2, stem, 5, 2), (4, middle, 1, 2), (2, middle, 6, 1), (4, middle, 1, 2)):
        for index in range(blocks):
            layers.append(_Bottleneck(channels, out, expansion, stride if index == 0 else 1))
            channels = out
    layers += [_Bottleneck(channels, channels, 2, 1) for _ in range(2)]
    layers += _convolution(channels, end, 1)
    layers += _convolution(end, end, last, groups=end, padding=0, linear=True)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(end, dim, bias=False), nn.BatchNorm1d(dim))
    return _drawn(network)


def iresnet(depth: Literal[18, 34, 50, 100], *, dim: int = 512, width: float = 1.0, size: int = 112) -> nn.Module:
    """The residual network of ArcFace with `depth` layers, of blocks BN-conv-BN-PReLU-conv-BN.

    ===== ============ =============
    depth parameters   multiply-adds
    ===== ============ =============
    18    24.0 M       2.6 G
    34    34.1 M       4.5 G
    50    43.6 M       6.3 G
    100   65.2 M       12.1 G
    ===== ============ =============

    Args:
        depth: of the network; it names one of the four published.
        dim: features of a face.
        width: scales the channels, rounded to multiples of 8.
        size: the crop's side, px, a multiple of 16.

    Raises:
        InputError: another depth, or a size that does not fit.

    Source: Deng et al., ArcFace, arXiv:1801.07698, section 3.2; Han et al., arXiv:1610.02915 (the block).
    """
    if depth not in _BLOCKS:
        raise InputError(f"depth: expected {', '.join(map(str, _BLOCKS))}, got {depth}")
    last = _last_map(dim, width, size)
    channels = _scaled(64, width)
    layers: list[nn.Module] = _convolution(3, channels, 3)
    for blocks, out in zip(_BLOCKS[depth], (_scaled(c, width) for c in (64, 128, 256, 512)), strict=True):
        for index in range(blocks):
            layers.append(_Residual(channels, out, 2 if index == 0 else 1))
            channels = out
    layers.append(nn.BatchNorm2d(channels))
    flat = channels * last**2
    return _drawn(nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, dim, bias=False), nn.BatchNorm1d(dim)))


def vit(
    *, dim: int = 512, size: int = 112, patch: int = 8, depth: int = 12, width: int = 256, heads: int = 8
) -> nn.Module:
    """A vision transformer with linear attention and SwiGLU: 9.7 M parameters, 1.9 G multiply-adds as it stands.

    Layers are normalised before they act, as trains without a warm-up of its own; the features are a linear map of the
    tokens' mean. The tokens know their place by a learned vector each.

    Args:
        dim: features of a face.
        size: the crop's side, px, a multiple of `patch`.
        patch: a token's side, px.
        depth: pairs of attention and gated layer.
        width: features of a token, a multiple of `heads`.
        heads: of the attention.

    Raises:
        InputError: a size that does not fit.

    Source: Dosovitskiy et al., An Image Is Worth 16x16 Words, arXiv:2010.11929; attention and gated layer as in
    `visavis.blocks.attention` and `visavis.blocks.activations`.
    """
    if min(dim, size, patch, depth, width, heads) < 1 or size % patch or width % heads:
        raise InputError(
            "size, width: expected multiples of patch and heads, all of them positive, "
            f"got size {size}, patch {patch}, width {width}, heads {heads}, depth {depth}, dim {dim}"
        )
    return _ViT(dim, size // patch, patch, depth, width, heads)


def _last_map(dim: int, width: float, size: int) -> int:
    """The side of the last map, after four halvings."""
    if dim < 1:
        raise InputError(f"dim: expected a positive number of features, got {dim}")
    if not 0 < width < 100:  # NaN fails too
        raise InputError(f"width: expected a factor near 1, got {width}")
    if size < 32 or size % 16:
        raise InputError(f"size: expected a multiple of 16 from 32 px, got {size}")
    return size // 16


def _scaled(channels: int, width: float) -> int:
    return max(8, round(channels * width / 8) * 8)


def _convolution(
    channels: int,
    out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
    linear: bool = False,
) -> list[nn.Module]:
    """Convolution and normalisation, and unless `linear` a PReLU."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return layers if linear else [*layers, PReLU(out, init=_SLOPE)]


def _drawn(network: nn.Sequential) -> nn.Module:
    """Draw the weights so that each layer keeps the variance of its inputs, however many there are.

    A branch that is added to its own input starts as nothing: sums do not grow with the depth.

    Source: He et al., arXiv:1502.01852, eq. 15; Goyal et al., arXiv:1706.02677, section 5.1.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, _SLOPE if isinstance(layer, nn.Conv2d) else 1.0)
        if isinstance(layer, (_Bottleneck, _Residual)) and layer.alike:
            last = layer.branch[-1]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)
    return network


class _Bottleneck(nn.Module):
    """Widen by 1 x 1, filter each channel, narrow by 1 x 1; added to its input where the two are alike."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.branch = nn.Sequential(
            *_convolution(channels, wide, 1),
            *_convolution(wide, wide, 3, stride=stride, groups=wide),
            *_convolution(wide, out, 1, linear=True),
        )
        self.alike = channels == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.alike else branch


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels),
            *_convolution(channels, out, 3),
            *_convolution(out, out, 3, stride=stride, linear=True),
        )
        self.alike = channels == out and stride == 1
        # An empty row of layers hands on what it is given.
        self.shortcut = nn.Sequential(*([] if self.alike else _convolution(channels, out, 1, linear=True)))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # Not a stride of the convolution: torch 2.13 writes beyond its memory in the backward pass of one from 8 to 8
        # channels, on a CPU, channels last.
        y: Tensor = self.shortcut(x[:, :, :: self.stride, :: self.stride]) + self.branch(x)
        return y


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.qkv.weight, std=width**-0.5)
        nn.init.normal_(self.out.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y: Tensor = self.out(attention.linear(q, k, v).transpose(1, 2).flatten(2))
        return y


class _Block(nn.Module):
    """Attention between the tokens, then a gated layer in each; both are added to their input."""

    def __init__(self, width: int, heads: int, branches: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), _Attention(width, heads))
        self.gated = nn.Sequential(nn.LayerNorm(width), SwiGLU(width))
        # So many branches are added up in the network: each starts that much smaller, so that their sum stays near 1.
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    weight.div_(branches**0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        y: Tensor = x + self.gated(x)
        return y


class _ViT(nn.Module):
    def __init__(self, dim: int, side: int, patch: int, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.place = nn.Parameter(torch.empty(side * side, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, 2 * depth) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim))
        nn.init.kaiming_normal_(self.patches.weight, 1.0)
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        nn.init.normal_(self.place, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.place  # [N, tokens, width]
        features: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return features
