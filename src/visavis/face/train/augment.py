"""Varied crops to learn from: mirrored, shifted, turned, scaled and coloured anew each time they are seen.

Every draw is made from (seed, step) alone and for the whole batch, of which a process may then take its share: a run
that goes on after a kill, or on another number of processes, sees the same pixels.

N: crops of a batch, S: their side with the border, px.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from visavis.errors import InputError, expect

__all__ = ["Augmentation", "augment", "generator", "to_input"]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far crops may be varied; each amount is drawn evenly between its limits. All zero: nothing is."""

    mirror: float = 0.5  # the chance to be
    shift: float = 0.03  # of the crop's side, each way, in x and in y
    turn_rad: float = 0.09  # each way
    scale: float = 0.08  # a factor between 1 - scale and 1 + scale
    brightness: float = 0.2  # of the range of a pixel, each way
    contrast: float = 0.25  # a factor on the distance to the crop's mean, as `scale`
    saturation: float = 0.3  # a factor on the distance to the pixel's grey, as `scale`

    def __post_init__(self) -> None:
        limits = {"mirror": 1.0, "shift": 0.5, "turn_rad": math.pi, "scale": 0.9, "brightness": 1.0}
        for name in self.__slots__:
            value, most = getattr(self, name), limits.get(name, 1.0)
            if not 0.0 <= value <= most:  # NaN fails too
                raise InputError(f"{name}: expected an amount in [0, {most:.4g}], got {value}")


def generator(seed: int, *path: int) -> torch.Generator:
    """A source of random numbers for one purpose and step: far apart for paths that differ in one number.

    >>> generator(0, 1, 2).initial_seed() == generator(0, 1, 2).initial_seed() != generator(0, 2, 1).initial_seed()
    True
    """
    state = seed
    for number in path:  # the mixing step of splitmix64 after each
        state = (state ^ number) + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ state >> shift) * factor & (1 << 64) - 1
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


def augment(
    crops: Tensor, how: Augmentation, *, size: int, draw: torch.Generator, share: slice = slice(None), total: int
) -> Tensor:
    """Vary a batch of crops.

    Args:
        crops: uint8 [N, S, S, 3] RGB.
        how: the limits.
        size: of what comes out, px; the middle of a crop where nothing is varied.
        draw: random numbers for the whole batch.
        share: which places of the whole batch these crops have.
        total: crops in the whole batch.

    Returns:
        float32 [N, 3, size, size] as backbones want it, ``(pixel - 127.5) / 127.5``, channels last in memory.

    Raises:
        TensorError: `crops` is no batch of square crops.
    """
    expect("crops", crops, "uint8", None, None, None, 3)
    expect("crops", crops, "uint8", None, crops.shape[1], crops.shape[1], 3)
    even = torch.rand(8, total, generator=draw)[:, share] * 2 - 1  # [8, N] in [-1, 1)
    pixels = _moved(crops, how, even[:5], size)
    grey = pixels.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    saturation, contrast, brightness = (
        amount.view(-1, 1, 1, 1)
        for amount in (1 + how.saturation * even[5], 1 + how.contrast * even[6], how.brightness * even[7])
    )
    # ((pixel - grey) * saturation + grey - mean) * contrast + mean + brightness, with two passes over the pixels.
    grey.mul_(contrast * (1 - saturation)).add_(mean * (1 - contrast) + brightness)
    return pixels.mul_(contrast * saturation).add_(grey).clamp_(-1, 1)


def to_input(crops: Tensor, *, size: int) -> Tensor:
    """The middle of uint8 [N, S, S, 3] crops as backbones want it, as `augment` with nothing varied."""
    border = (crops.shape[1] - size) // 2
    middle = crops[:, border : border + size, border : border + size]
    return middle.permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


def _moved(crops: Tensor, how: Augmentation, even: Tensor, size: int) -> Tensor:
    """Mirrored, shifted, turned, scaled in one interpolation; exactly the middle where nothing is to be."""
    mirrored = (even[0] + 1) / 2 < how.mirror
    if how.shift == how.turn_rad == how.scale == 0:
        pixels = to_input(crops, size=size)
        return torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    zoom = size / crops.shape[1]  # of the coordinates in [-1, 1] that grid_sample counts in
    factor = zoom / (1 + how.scale * even[1])
    turn = how.turn_rad * even[2]
    across = torch.where(mirrored, -1.0, 1.0)
    c, s = factor * turn.cos(), factor * turn.sin()
    shift_x, shift_y = (2 * how.shift * zoom * even[axis] for axis in (3, 4))
    matrix = torch.stack([c * across, -s, shift_x, s * across, c, shift_y], 1).view(-1, 2, 3)
    grid = affine_grid(matrix, [len(crops), 3, size, size], align_corners=False)
    pixels = crops.permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
    # What lies beyond the crop is the black beyond a photo's edge would be: a stripe of its last pixels instead.
    return grid_sample(pixels, grid, padding_mode="border", align_corners=False)
