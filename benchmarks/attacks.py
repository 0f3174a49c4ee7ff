"""Presentation attacks drawn from photos: a print, a screen and a cut-out face, as a camera would see them.

They are caricatures with known parameters, not recordings: what a detector does to them bounds nothing on real ones.
Each takes a photo, uint8 [H, W, 3] RGB, the face's box in it and a random generator, and gives a photo in which the
face has about as many pixels as before. `camera` alone, on the photo itself, is the control: what is common to both is
the camera's, and a detector that calls that an attack has learnt the camera.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["ATTACKS", "blurred", "camera", "cut_out", "printed", "printed_close", "screen", "screen_close"]

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]
Box = NDArray[np.float32]

_FINE = 4  # pixels of the drawn medium per pixel of the photo
_GAMMA = 2.2
_ANGLES_DEG = {"cyan": 15.0, "magenta": 75.0, "yellow": 0.0}  # of the usual halftone screens


def camera(image: Pixels, _box: Box, random: np.random.Generator) -> Pixels:
    """The photo itself, through the camera of the attacks: the control."""
    return _seen(_linear(_enlarged(image)), image.shape[:2], random)


def printed(image: Pixels, _box: Box, random: np.random.Generator) -> Pixels:
    """A print held in front of a room, white edge and all."""
    sheet = _framed(_ink_on_paper(image, random), colour=0.85, share=random.uniform(0.03, 0.08))
    return _in_room(sheet, random)


def printed_close(image: Pixels, _box: Box, random: np.random.Generator) -> Pixels:
    """A print that fills the photo: nothing but its texture tells."""
    return _seen(_ink_on_paper(image, random), image.shape[:2], random)


def screen(image: Pixels, _box: Box, random: np.random.Generator) -> Pixels:
    """A telephone or tablet held in front of a room, with its bezel."""
    device = _framed(_lit_pixels(image, random), colour=0.01, share=random.uniform(0.04, 0.1))
    return _in_room(device, random)


def screen_close(image: Pixels, _box: Box, random: np.random.Generator) -> Pixels:
    """A screen that fills the photo: nothing but pixel grid, moire and glare tell."""
    return _seen(_lit_pixels(image, random), image.shape[:2], random)


def cut_out(image: Pixels, box: Box, random: np.random.Generator) -> Pixels:
    """A printed head cut along its outline, before a room, with a shadow at the cut."""
    paper = _ink_on_paper(image, random)
    rows, columns = np.ogrid[: paper.shape[0], : paper.shape[1]]
    left, top, right, bottom = (float(v) * _FINE for v in box)
    across, down = (right - left) * 0.56, (bottom - top) * 0.6
    x, y = (left + right) / 2, (top + bottom) / 2 - 0.05 * (bottom - top)
    inside = ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 < 1
    shadow = _blur(inside.astype(np.float32)[..., None], 2.5 * _FINE)
    room = _room(paper.shape[:2], random) * (1 - 0.45 * shadow)
    return _seen(np.where(inside[..., None], paper, room), image.shape[:2], random)


ATTACKS: dict[str, Callable[[Pixels, Box, np.random.Generator], Pixels]] = {
    "print": printed,
    "print, no edge": printed_close,
    "screen": screen,
    "screen, no edge": screen_close,
    "cut-out": cut_out,
}


def blurred(image: Pixels, sigma_px: float) -> Pixels:
    """Out of focus."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))


def _ink_on_paper(image: Pixels, random: np.random.Generator) -> Values:
    """Linear light off a halftone of three inks that reach neither black nor full colour, on grained paper."""
    wanted = _linear(_enlarged(image))
    grey = wanted.mean(2, keepdims=True)
    wanted = grey + random.uniform(0.6, 0.85) * (wanted - grey)  # the inks' smaller gamut
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[: wanted.shape[0], : wanted.shape[1]])
    pitch = random.uniform(1.0, 1.8) * _FINE
    light = np.empty_like(wanted)
    for channel, angle in enumerate(_ANGLES_DEG.values()):
        turn = math.radians(angle)
        u = (columns * math.cos(turn) + rows * math.sin(turn)) * (2 * math.pi / pitch)
        v = (rows * math.cos(turn) - columns * math.sin(turn)) * (2 * math.pi / pitch)
        dots = (np.cos(u) + np.cos(v)) / 4 + 0.5  # thresholds in [0, 1]
        covered = 1 / (1 + np.exp(-(1 - wanted[..., channel] - dots) / 0.06))  # soft: ink spreads
        light[..., channel] = 1 - 0.94 * covered
    paper = np.float32([0.85, 0.83, 0.8])
    grain = _blur(random.standard_normal((*light.shape[:2], 1), np.float32), 0.6 * _FINE) * 0.05
    bend = 1 + 0.15 * np.cos(columns / columns.shape[1] * math.pi + random.uniform(0, math.pi))[..., None]
    return np.clip(light * paper * bend * (1 + grain), 0, 1)


def _lit_pixels(image: Pixels, random: np.random.Generator) -> Values:
    """Linear light of a screen: stripes of red, green and blue, a wrong gamma, a cold white, glare."""
    wanted = _linear(_enlarged(image)) ** random.uniform(0.85, 1.2)
    height, width = wanted.shape[:2]
    pitch = random.uniform(1.0, 1.8) * _FINE
    columns, rows = np.arange(width) / pitch % 1, np.arange(height) / pitch % 1
    light = np.empty_like(wanted)
    for channel in range(3):
        lit = np.abs((columns - (channel + 0.5) / 3 + 0.5) % 1 - 0.5) < 0.15
        light[..., channel] = wanted[..., channel] * np.outer(rows < 0.85, lit)
    light *= np.float32(random.uniform(0.7, 1.0) / 0.255) * np.float32([0.94, 1.0, 1.08])  # 0.255: of the area is lit
    x, y = random.uniform(0, width), random.uniform(0, height)
    reach = random.uniform(0.15, 0.4) * max(height, width)
    across, down = np.arange(width, dtype=np.float32) - x, np.arange(height, dtype=np.float32)[:, None] - y
    distance = np.hypot(across, down)
    glare = random.uniform(0.1, 0.5) * np.exp(-((distance / reach) ** 2))
    return light + glare[..., None]


def _framed(plane: Values, *, colour: float, share: float) -> Values:
    edge = round(share * max(plane.shape[:2]))
    return np.pad(plane, ((edge, edge), (edge, edge), (0, 0)), constant_values=colour)


def _in_room(plane: Values, random: np.random.Generator) -> Pixels:
    """Before a room, with a tenth to a third of the plane's size to see on each side."""
    beyond = [round(random.uniform(0.1, 0.33) * side) for side in plane.shape[:2]]
    size = tuple(side + 2 * margin for side, margin in zip(plane.shape[:2], beyond, strict=True))
    room = _room(size, random)
    room[beyond[0] : beyond[0] + plane.shape[0], beyond[1] : beyond[1] + plane.shape[1]] = plane
    return _seen(room, (size[0] // _FINE, size[1] // _FINE), random)


def _room(size: tuple[int, ...], random: np.random.Generator) -> Values:
    """Blotches of other colours: linear light."""
    coarse = random.uniform(0.05, 0.6, (7, 7, 1)) * random.uniform(0.8, 1.2, (1, 1, 3))
    tile = Image.fromarray((np.clip(coarse, 0, 1) * 255).astype(np.uint8))
    return np.asarray(tile.resize((size[1], size[0]), Image.Resampling.BICUBIC)) / np.float32(255)


def _seen(plane: Values, size: tuple[int, int], random: np.random.Generator) -> Pixels:
    """Photographed: turned a little, summed over each sensor pixel, a soft lens, noise, JPEG."""
    height, width = size
    turn, zoom = math.radians(random.uniform(-3, 3)), random.uniform(0.94, 1.0)
    fine = 3  # samples per sensor pixel and axis
    step = plane.shape[1] / width / fine * zoom
    cos, sin = step * math.cos(turn), step * math.sin(turn)
    middle_x, middle_y = plane.shape[1] / 2, plane.shape[0] / 2
    start_x = middle_x - cos * width * fine / 2 + sin * height * fine / 2
    start_y = middle_y - sin * width * fine / 2 - cos * height * fine / 2
    channels, size_fine = [], (width * fine, height * fine)
    for channel in range(3):
        light = Image.fromarray(np.pad(plane[..., channel], 64, mode="edge").astype(np.float32, copy=False))
        affine = (cos, -sin, start_x + 64, sin, cos, start_y + 64)
        sampled = light.transform(size_fine, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        channels.append(np.asarray(sampled).reshape(height, fine, width, fine).mean((1, 3)))
    light = _blur(np.stack(channels, 2), random.uniform(0.3, 0.6))
    light = np.clip(light + random.normal(size=light.shape) * np.sqrt(1e-5 + 4e-4 * np.clip(light, 0, 1)), 0, 1)
    file = io.BytesIO()
    Image.fromarray((light ** (1 / _GAMMA) * 255).round().astype(np.uint8)).save(
        file, "JPEG", quality=int(random.integers(80, 96))
    )
    return np.asarray(Image.open(file))


def _enlarged(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width * _FINE, height * _FINE), Image.Resampling.BICUBIC))


def _linear(image: Pixels) -> Values:
    return (image / np.float32(255)) ** np.float32(_GAMMA)


def _blur(values: Values, sigma: float) -> Values:
    """A Gaussian along rows and columns."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, (sigma, sigma, 0))
