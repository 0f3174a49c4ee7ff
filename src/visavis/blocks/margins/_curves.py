"""What the margins of this folder share: checks at the door, the true class's place in a matrix, and falling cosines.

N: samples, C: classes. Angles are radians.
"""

import math

import torch
from torch import Tensor

from visavis.errors import InputError, expect

__all__ = [
    "angle",
    "check_angle",
    "check_labels",
    "check_number",
    "check_scale",
    "falling",
    "pick",
    "put",
    "shift",
    "sine",
    "unit",
    "wide",
]


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside [low, high], and NaN.

    Raises:
        InputError: it is.
    """
    if not low <= value <= high:
        raise InputError(f"{name}: expected a number in [{low:g}, {high:g}], got {value}")


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


def check_labels(labels: Tensor, samples: int, classes: int) -> None:
    """Refuse labels that are not int64 [samples] in [0, classes).

    The range is looked at on a CPU only: a look would stall a GPU, whose gather refuses such a label anyway.

    Raises:
        TensorError: another dtype or shape.
        InputError: a label outside the range.
    """
    expect("labels", labels, "int64", samples)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and samples > 0:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise InputError(f"labels: expected classes in [0, {classes}), got {wrong}; do they start at 0?")


def wide(values: Tensor) -> Tensor:
    """Half precision as float32, all else as it is: a curve through an angle needs the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def pick(cosines: Tensor, labels: Tensor) -> Tensor:
    """Every sample's cosine to its own class, [N] `wide` out of [N, C], after a look at both.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: a label outside [0, C).
    """
    expect("cosines", cosines, "float", None, None)
    check_labels(labels, *cosines.shape)
    return wide(cosines.gather(1, labels[:, None]).squeeze(1))


def put(cosines: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """`cosines` [N, C] with every sample's true class replaced by `target` [N]."""
    return cosines.scatter(1, labels[:, None], target.to(cosines.dtype)[:, None])


def sine(cosines: Tensor) -> Tensor:
    """The sine of the angle in [0, pi] that has this cosine.

    Its slope is infinite at both ends; there, and only there, we give it the slope 0. That is right: from a class
    centre a feature may leave in every direction, and the mean of what they say is 0.
    """
    return ((1.0 - cosines) * (1.0 + cosines)).clamp_min(torch.finfo(cosines.dtype).tiny).sqrt()


def angle(cosines: Tensor) -> Tensor:
    """The angle in [0, pi] that has this cosine; its slope, ``-1 / sin t``, is 0 at both ends, as that of `sine` is."""
    return torch.atan2(sine(cosines), cosines)


def falling(angles: Tensor) -> Tensor:
    """The cosine made to fall for ever: ``(-1)^k cos a - 2 k`` with ``k = floor(a / pi)``, of slope ``-|sin a|``."""
    turns = (angles / math.pi).detach().floor()
    return (1.0 - 2.0 * turns.remainder(2.0)) * angles.cos() - 2.0 * turns


def shift(cosines: Tensor, margin: Tensor | float) -> Tensor:
    """``falling(t + margin)`` from ``cos t`` and without t: a margin in [-pi, pi], one for all or one a sample.

    Where ``t + margin`` leaves [0, pi] this is ``-2 - cos(t + margin)`` above and ``2 - cos(t + margin)`` below. Where
    such a continuation ends, at ``t = 0`` or ``pi``, its slope is 0, as that of `sine` is.
    """
    margin = torch.as_tensor(margin, dtype=cosines.dtype)
    cos_margin = margin.cos()
    shifted = cosines * cos_margin - sine(cosines) * margin.sin()
    turned = torch.where(cosines.abs() < 1.0, shifted, shifted.detach())
    above = (margin > 0) & (cosines < -cos_margin)
    below = (margin < 0) & (cosines > cos_margin)
    return torch.where(above, -2.0 - turned, torch.where(below, 2.0 - turned, shifted))


def unit(vectors: Tensor) -> Tensor:
    """[N, D] vectors at length 1, `wide`; one of length 0 stays as it is, with the gradient of one of length 1.

    `torch.nn.functional.normalize` divides such a one by 1e-12, and its gradient too.
    """
    vectors = wide(vectors)
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(norms > 0.0, norms, 1.0)
