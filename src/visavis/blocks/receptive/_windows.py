"""Which input positions a window reads along one axis: int64 [out, taps] of positions, NO_TAP where a tap is missing.

Positions outside 0..n-1 lie in the padding.
"""

import math

import torch
from torch import Tensor

from visavis.blocks.receptive._reach import NO_TAP

__all__ = ["adaptive", "fractional", "resize", "sliding", "transposed"]


def sliding(out: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Convolution and pooling.

    >>> sliding(3, 3, 2, 1, 1)
    tensor([[-1,  0,  1],
            [ 1,  2,  3],
            [ 3,  4,  5]])
    """
    return (torch.arange(out) * stride - padding)[:, None] + torch.arange(kernel) * dilation


def transposed(out: int, n: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Transposed convolution: input i writes to ``i * stride - padding + k * dilation`` for every k.

    Positions up to a kernel's length outside the input are kept, for the field of an image without an edge.

    >>> transposed(4, 2, 2, 2, 0, 1) == torch.tensor([[0, NO_TAP], [NO_TAP, 0], [1, NO_TAP], [NO_TAP, 1]])
    tensor([[True, True],
            [True, True],
            [True, True],
            [True, True]])
    """
    numerator = torch.arange(out)[:, None] + padding - torch.arange(kernel) * dilation
    taps = numerator.div(stride, rounding_mode="floor")
    near = (taps >= -kernel * dilation) & (taps < n + kernel * dilation)
    return torch.where((numerator % stride == 0) & near, taps, NO_TAP)


def _spans(first: Tensor, last: Tensor) -> Tensor:
    taps = first[:, None] + torch.arange(int((last - first).max()) + 1)
    return torch.where(taps <= last[:, None], taps, NO_TAP)


def adaptive(n: int, out: int) -> Tensor:
    """Adaptive pooling: from ``floor(i n / out)`` to ``ceil((i + 1) n / out) - 1``."""
    places = torch.arange(out)
    return _spans(places * n // out, -(-(places + 1) * n // out) - 1)


def fractional(n: int, out: int, kernel: int) -> Tensor:
    """Fractional pooling: from ``floor((i + u) a) - floor(u a)``, a = (n - kernel) / (out - 1), for any u in [0, 1)."""
    if out == 1:
        return _spans(torch.tensor([n - kernel]), torch.tensor([n - 1]))
    step = (n - kernel) / (out - 1)
    first = [math.floor(i * step + 1e-9) for i in range(out)]
    last = [min(math.ceil(i * step - 1e-9), n - kernel) + kernel - 1 for i in range(out)]
    first[-1] = n - kernel  # the last window is not drawn
    return _spans(torch.tensor(first), torch.tensor(last))


def resize(name: str, n: int, out: int, scale: float | None, *, corners: bool) -> tuple[Tensor, Tensor]:
    """Interpolation, in the float32 arithmetic of torch's kernels, so that no position is off by a rounding.

    Returns:
        What the operation reads, which at the edge reads positions inside; what it would read without an edge.
    """
    places = torch.arange(out, dtype=torch.float32)
    if n == out and "_aa" not in name and "bicubic" not in name:
        same = torch.arange(out)[:, None]
        return same, same
    ratio = torch.tensor(n / out if not scale or scale <= 0 else 1.0 / scale, dtype=torch.float32)
    if corners:
        ratio = torch.tensor((n - 1) / (out - 1) if out > 1 else 0.0, dtype=torch.float32)
    if "nearest" in name:
        source = (places + 0.5) * ratio if "exact" in name else places * ratio
        taps = source.floor().to(torch.int64)[:, None]
    elif "_aa" in name:
        reach = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}[name.split("_")[2].removesuffix("2d")]
        support = reach * ratio if ratio >= 1 else torch.tensor(reach)
        centre = ratio * (places + 0.5)
        taps = _spans((centre - support + 0.5).floor().to(torch.int64), (centre + support + 0.5).to(torch.int64) - 1)
    else:
        source = places * ratio if corners else (places + 0.5) * ratio - 0.5
        first = source.floor().to(torch.int64)[:, None]
        if "bicubic" not in name:  # a source left of the first position is moved there, before its neighbour is added
            return (first.clamp(min=0) + torch.arange(2)).clamp(max=n - 1), first + torch.arange(2)
        taps = first + torch.arange(-1, 3)
    return torch.where(taps == NO_TAP, NO_TAP, taps.clamp(0, n - 1)), taps
