"""Resizing without anything learned: nearest, bilinear, bicubic, with or without a low-pass before shrinking.

Shapes: images [N, C, H, W]. torch's `interpolate` does the arithmetic; what is ours is one convention, half-pixel, for
all modes, and sizes that are never guessed.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import interpolate

from visavis.blocks.upsampling._checks import positive, refuse_empty
from visavis.errors import InputError

__all__ = ["Mode", "Resize", "resize"]

Mode = Literal["nearest", "bilinear", "bicubic"]


def resize(
    images: Tensor,
    size: tuple[int, int] | None = None,
    *,
    scale: float | tuple[float, float] | None = None,
    mode: Mode = "bilinear",
    antialias: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Resize images to a size or by a scale.

    ``nearest`` is torch's ``nearest-exact``: the pixel at ``floor((position + 1/2) / scale)``, which is half-pixel like
    the other modes; torch's ``nearest`` takes ``floor(position / scale)`` and moves a shrunk image by half a pixel.
    Bicubic is Keys' kernel with a = -0.75 (with `antialias` -0.5, as PIL), which overshoots next to edges.

    Args:
        images: float [N, C, H, W].
        size: (height, width) of the output; or else
        scale: of both axes, or (vertical, horizontal); H and W times it must be whole numbers, as there would be two
            answers otherwise: the scale asked for or the one that the rounded size has.
        mode: the interpolation.
        antialias: widen the kernel by the factor of shrinking, so that no pixel is passed over; without effect on
            an axis that grows. Not with nearest.
        align_corners: the other convention, to read what was trained with it (see `conventions`). Not with
            nearest or `antialias`.

    Returns:
        [N, C, *size], dtype and memory format of `images`.

    Raises:
        TensorError: `images` is not float [N, C, H, W], or has no channels or pixels.
        InputError: both or neither of `size` and `scale`, a size below 1, a scale that gives no whole size, an
            unknown mode, or an option that the mode does not have.

    Source: Keys, IEEE ASSP 29(6), 1981.

    >>> import torch
    >>> resize(torch.tensor([[[[0.0, 4.0]]]]), scale=(1, 2))
    tensor([[[[0., 1., 3., 4.]]]])
    >>> resize(torch.tensor([[[[0.0, 4.0]]]]), (1, 3), align_corners=True)
    tensor([[[[0., 2., 4.]]]])
    """
    refuse_empty("images", images)
    if mode not in ("nearest", "bilinear", "bicubic"):
        raise InputError(f"mode: expected nearest, bilinear or bicubic, got {mode}")
    if mode == "nearest" and (antialias or align_corners):
        raise InputError("mode: expected bilinear or bicubic with antialias or align_corners, got nearest")
    if antialias and align_corners:
        raise InputError("antialias: expected align_corners=False with it, got True; torch would ignore one of them")
    height, width = _target(images.shape[2], images.shape[3], size, scale)
    if mode == "nearest":
        return interpolate(images, (height, width), mode="nearest-exact")
    return interpolate(images, (height, width), mode=mode, align_corners=align_corners, antialias=antialias)


class Resize(nn.Module):
    """`resize` by a fixed scale, as a layer; arguments and errors as there.

    >>> import torch
    >>> Resize(2)(torch.zeros(1, 3, 5, 7)).shape
    torch.Size([1, 3, 10, 14])
    """

    def __init__(
        self,
        scale: float | tuple[float, float],
        *,
        mode: Mode = "bilinear",
        antialias: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.mode, self.antialias, self.align_corners = scale, mode, antialias, align_corners

    def forward(self, images: Tensor) -> Tensor:
        return resize(
            images, scale=self.scale, mode=self.mode, antialias=self.antialias, align_corners=self.align_corners
        )

    def extra_repr(self) -> str:
        return f"{self.scale}, mode={self.mode!r}, antialias={self.antialias}, align_corners={self.align_corners}"


def _target(
    height: int, width: int, size: tuple[int, int] | None, scale: float | tuple[float, float] | None
) -> tuple[int, int]:
    """The output's height and width."""
    if size is not None and scale is None:
        return positive("size", size[0]), positive("size", size[1])
    if scale is None or size is not None:
        raise InputError(f"size, scale: expected one of them, got size={size} and scale={scale}")
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    found = []
    for length, factor in zip((height, width), scales, strict=True):
        if not 0.0 < factor < math.inf:
            raise InputError(f"scale: expected a positive number, got {factor}")
        wanted = length * factor
        if round(wanted) < 1 or abs(wanted - round(wanted)) > 1e-6 * wanted:
            raise InputError(f"scale: expected a whole number of pixels, got {length} x {factor}; give `size` instead")
        found.append(round(wanted))
    return found[0], found[1]
