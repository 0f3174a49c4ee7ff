"""What light, lens and file do to a photo of a face: uint8 [H, W, 3] RGB to the same, one effect a function."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect
from visavis.face.process.pose import Points, fit_pose

__all__ = ["blur", "coarsen", "compress", "motion_blur", "occlude", "relight", "tint"]

Pixels = NDArray[np.uint8]


def relight(crop: Pixels, landmarks: Points, *, direction: Sequence[float], ambient: float = 0.4) -> Pixels:
    """Light from one direction on the mean head's surface, where before it was even; the brightness of the face stays.

    Args:
        crop: the image.
        landmarks: [5, 2] in its pixels.
        direction: three numbers, towards the light: to the image's right, down, towards the viewer.
        ambient: share of the light that comes from everywhere, in [0, 1].

    Raises:
        TensorError: not an image and five points.
        LandmarkError: points that fix no pose.
        InputError: no direction, or a share out of range.
    """
    import torch

    from visavis.face.process.render import normals, shade

    expect("crop", crop, "uint8", None, None, 3)
    towards = np.array(direction, np.float64)
    if towards.shape != (3,) or not 0 < np.linalg.norm(towards) < math.inf:
        raise InputError(f"direction: expected three numbers that are not all 0, got {direction}")
    _within("ambient", ambient, 0, 1, "a share")
    surface, there = normals([fit_pose(landmarks)], *crop.shape[:2])
    gain = shade(surface, there, torch.from_numpy(towards[None]).float(), torch.tensor([ambient]))
    return _rounded(crop * gain[0].permute(1, 2, 0).numpy())


def tint(crop: Pixels, *, gains: Sequence[float] = (1, 1, 1), gamma: float = 1.0) -> Pixels:
    """Exposure, white balance and contrast: ``255 * (gain * value / 255) ** gamma`` for red, green and blue.

    Raises:
        TensorError: not an image.
        InputError: gains or gamma out of (0, 10].
    """
    expect("crop", crop, "uint8", None, None, 3)
    if len(gains) != 3:
        raise InputError(f"gains: expected three, got {len(gains)}")
    for name, value in [("gamma", gamma), *(("gains", gain) for gain in gains)]:
        if not 0 < value <= 10:
            raise InputError(f"{name}: expected numbers in (0, 10], got {value}")
    values = np.arange(256) / 255
    tables = [_rounded(255 * (gain * values) ** gamma) for gain in gains]
    return np.stack([table[crop[..., channel]] for channel, table in enumerate(tables)], axis=-1)


def blur(crop: Pixels, *, sigma_px: float) -> Pixels:
    """Out of focus: a Gaussian's blur, by three box filters.

    Raises:
        TensorError: not an image.
        InputError: `sigma_px` out of [0, 100].
    """
    from PIL import Image, ImageFilter

    expect("crop", crop, "uint8", None, None, 3)
    _within("sigma_px", sigma_px, 0, 100, "pixels")
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).filter(ImageFilter.GaussianBlur(sigma_px)))


def motion_blur(crop: Pixels, *, length_px: float, angle_rad: float) -> Pixels:
    """Moved while the shutter was open: the mean along a line of that length, about each pixel.

    Args:
        crop: the image.
        length_px: in [0, 100].
        angle_rad: direction of the movement, from the image's right clockwise, in [-pi, pi].

    Raises:
        TensorError: not an image.
        InputError: length or angle out of range.
    """
    expect("crop", crop, "uint8", None, None, 3)
    _within("length_px", length_px, 0, 100, "pixels")
    _within("angle_rad", angle_rad, -math.pi, math.pi, "radians")
    reach = math.ceil(length_px / 2) + 1
    steps = np.linspace(-0.5, 0.5, 2 * math.ceil(length_px) + 1) * length_px
    kernel: dict[tuple[int, int], float] = {}
    for x, y in zip(steps * math.cos(angle_rad), steps * math.sin(angle_rad), strict=True):
        column, row = math.floor(x), math.floor(y)
        for at_x, share_x in ((column, column + 1 - x), (column + 1, x - column)):
            for at_y, share_y in ((row, row + 1 - y), (row + 1, y - row)):
                kernel[at_y, at_x] = kernel.get((at_y, at_x), 0.0) + share_x * share_y / len(steps)
    padded = np.pad(crop, ((reach, reach), (reach, reach), (0, 0)), mode="edge").astype(np.float32)
    height, width = crop.shape[:2]
    total = np.zeros(crop.shape, np.float32)
    for (row, column), weight in kernel.items():
        if weight > 0:
            total += np.float32(weight) * padded[reach + row :, reach + column :][:height, :width]
    return _rounded(total)


def compress(crop: Pixels, *, quality: int) -> Pixels:
    """Through a JPEG file of `quality` 1..100 and back, colours at half the resolution.

    Raises:
        TensorError: not an image.
        InputError: `quality` out of range.
    """
    import simplejpeg

    expect("crop", crop, "uint8", None, None, 3)
    _within("quality", quality, 1, 100, "a JPEG quality")
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(crop), quality=int(quality), colorsubsampling="420")
    pixels: Pixels = simplejpeg.decode_jpeg(data)
    return pixels


def coarsen(crop: Pixels, *, factor: float) -> Pixels:
    """As if seen from farther away: reduced by `factor` in [1, 100], then enlarged again.

    Raises:
        TensorError: not an image.
        InputError: `factor` out of range.
    """
    from PIL import Image

    expect("crop", crop, "uint8", None, None, 3)
    _within("factor", factor, 1, 100, "a factor")
    height, width = crop.shape[:2]
    small = max(1, round(width / factor)), max(1, round(height / factor))
    reduced = Image.fromarray(np.ascontiguousarray(crop)).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BILINEAR))


def occlude(crop: Pixels, *, box_xyxy_px: Sequence[int], colour: Sequence[int]) -> Pixels:
    """Something in front of the face: a box, the last column and row not included, of one colour.

    Raises:
        TensorError: not an image.
        InputError: a box that is empty or beside the image, or a colour that is not three values of 0..255.
    """
    expect("crop", crop, "uint8", None, None, 3)
    height, width = crop.shape[:2]
    if len(box_xyxy_px) != 4 or len(colour) != 3:
        raise InputError(f"box_xyxy_px, colour: expected four and three numbers, got {box_xyxy_px} and {colour}")
    left, top, right, bottom = box_xyxy_px
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(f"box_xyxy_px: expected a box within {width} x {height} px, got {box_xyxy_px}")
    if not all(0 <= value <= 255 for value in colour):
        raise InputError(f"colour: expected values of 0..255, got {colour}")
    covered = crop.copy()
    covered[top:bottom, left:right] = colour
    return covered


def _within(name: str, value: float, low: float, high: float, what: str) -> None:
    if not low <= value <= high:  # NaN fails too
        raise InputError(f"{name}: expected {what} in [{low:.4g}, {high:.4g}], got {value}")


def _rounded(values: NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
