"""What the margins of this folder share: checks at the door, the true class's place in a matrix, and falling cosines.

N: samples, C: classes. Angles are radians.
"""

import math

import torch
from torch import Tensor

from visavis.errors import InputError, expect

__all__ = ["check_angle", "check_number", "check_scale", "pick", "put", "shift", "sine"]


def check_number(name: str, value: float, low: float, high: float, what: str = "a number") -> None:
    """Refuse a setting outside [low, high], and NaN.

    Raises:
        InputError: it is.
    """
    if not low <= value <= high:
        raise InputError(f"{name}: expected {what} in [{low:g}, {high:g}], got {value}")


def check_angle(name: str, value: float) -> None:
    """Refuse what is no angle in [0, pi/2]; degrees are the usual cause.

    Raises:
        InputError: it is none.
    """
    if not 0.0 <= value <= math.pi / 2:
        cause = f"; {value:g} degrees are {math.radians(value):.4g} radians" if 0 < value <= 90 else ""
        raise InputError(f"{name}: expected radians in [0, pi/2], got {value}{cause}")


def check_scale(scale: float) -> None:
    """Refuse a gain that is not positive and finite.

    Raises:
        InputError: it is not.
    """
    if not 0.0 < scale < math.inf:
        raise InputError(f"scale: expected a positive gain, got {scale}")


def pick(cosines: Tensor, labels: Tensor) -> Tensor:
    """Every sample's cosine to its own class, [N] out of [N, C], after a look at both.

    Half precision becomes float32: these are N numbers, and a curve through an angle needs the digits.
    The range of the labels is looked at on a CPU only: a look would stall a GPU, and the gather refuses them there.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: a label outside [0, C).
    """
    expect("cosines", cosines, "float", None, None)
    expect("labels", labels, "int64", len(cosines))
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= cosines.shape[1]:
            wrong = low if low < 0 else high
            raise InputError(f"labels: expected classes in [0, {cosines.shape[1]}), got {wrong}; do labels start at 0?")
    target = cosines.gather(1, labels[:, None]).squeeze(1)
    return target.float() if target.dtype in (torch.float16, torch.bfloat16) else target


def put(cosines: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """`cosines` [N, C] with every sample's true class replaced by `target` [N]."""
    return cosines.scatter(1, labels[:, None], target.to(cosines.dtype)[:, None])


def sine(cosines: Tensor) -> Tensor:
    """The sine of the angle in [0, pi] that has this cosine.

    Its slope is infinite at both ends; there, and only there, we give it the slope 0. That is right: from a class
    centre a feature may leave in every direction, and the mean of what they say is 0.
    """
    return ((1.0 - cosines) * (1.0 + cosines)).clamp_min(torch.finfo(cosines.dtype).tiny).sqrt()


def shift(cosines: Tensor, margin: Tensor | float) -> Tensor:
    """``cos(t + margin)`` from ``cos t``, falling in t from 0 to pi, for a margin in [-pi, pi] (one, or one a sample).

    Where ``t + margin`` leaves [0, pi] the cosine would turn round. It goes on as the cosine turned about that point
    instead, ``-2 - cos(t + margin)`` above and ``2 - cos(t + margin)`` below: value and slope stay continuous.
    Where such a continuation ends, in an angle of exactly 0 or pi, its slope is 0, as that of `sine` is.
    """
    margin = torch.as_tensor(margin, dtype=cosines.dtype)
    cos_margin = margin.cos()
    shifted = cosines * cos_margin - sine(cosines) * margin.sin()
    above = (margin > 0) & (cosines < -cos_margin)
    below = (margin < 0) & (cosines > cos_margin)
    turned = torch.where(cosines.abs() < 1.0, shifted, shifted.detach())
    return torch.where(above, -2.0 - turned, torch.where(below, 2.0 - turned, shifted))
