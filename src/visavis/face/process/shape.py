"""A mean head in three dimensions, drawn from formulas: its surface, the five landmarks on it, its depth from any side.

Units are interocular distances (IOD), the distance between the pupils. x points to the image's right, y down and z
out of the image towards the viewer; the origin lies midway between the pupils, in the plane of the corneas.

Where the numbers come from: published means of adults, of women and men alike, rounded to 5 mm and divided by an
interpupillary distance of 63 mm. Breadth of the head 150 mm, length 190, bizygomatic 140, bigonial 115, sellion to
menton 120, sellion to subnasale 50, nose breadth 35 and protrusion 20, width of the mouth 50 (Zhuang and Bradtmiller,
J Occup Environ Hyg 2(11), 2005); menton to vertex 225 and intercanthal 30 (Farkas, Anthropometry of the Head and Face,
1994); the pupils at half the height of the head; corneas 15 mm before the outer corners of the eyes (exophthalmometry).
Superellipsoids and bell curves in between are ours. Nothing was fitted to photos or scans of anybody.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["CENTRE", "LANDMARKS", "MAP_SIDE", "MAP_STEP", "REACH", "depth_map", "front", "rotation"]

Array = NDArray[np.float64]

_HALF_BREADTH = 1.14  # between the head's 150 mm and the cheek bones' 140
_UP, _DOWN = 1.75, 1.85  # from the pupils to the vertex and to the menton
_MIDDLE_Z = -1.4  # where the head is broadest, a little before the ears
_FRONT, _BACK = 1.52, 1.5  # from there to the glabella and to the occiput
_FLAT_UP, _FLAT_DOWN = 2.5, 6.0  # powers: a forehead recedes, a face stands upright down to the chin
_OUTLINE_UP, _OUTLINE_DOWN = 2.3, 2.0  # powers of the head's outline seen from the front

# Bell curves on the front: x, y, width, height of the bell, IOD; each but those on the midline stands on both sides.
_BELLS = (
    (0.26, -0.01, 0.13, 0.13, -0.17),  # inner corners of the eyes
    (0.70, 0.00, 0.13, 0.12, -0.05),  # outer corners
    (0.50, 0.01, 0.13, 0.10, 0.08),  # eyeballs
    (0.45, -0.33, 0.28, 0.10, 0.05),  # brows
    (0.62, 0.62, 0.26, 0.24, 0.05),  # cheeks
    (0.22, 0.66, 0.09, 0.08, 0.07),  # wings of the nose
    (0.00, 0.96, 0.24, 0.07, 0.05),  # upper lip
    (0.00, 1.14, 0.20, 0.07, 0.05),  # lower lip
    (0.00, 1.34, 0.26, 0.08, -0.04),  # fold above the chin
    (0.00, 1.60, 0.25, 0.16, 0.13),  # chin
)
_NOSE_FROM, _NOSE_TIP, _NOSE_TO = -0.06, 0.58, 0.78  # sellion, pronasale, subnasale
_NOSE_HEIGHT = 0.34  # above the head without it, at the tip

_STEP, _CELLS = 0.02, 200  # of the grid on which the surface is kept, and cells from its middle to its edges
REACH = 2.4  # a depth map shows the view plane from -REACH to REACH in both directions
MAP_SIDE = 97  # samples of a depth map a side
MAP_STEP = 2 * REACH / (MAP_SIDE - 1)  # .05 IOD, less than two pixels of a crop of 112
# The point that stays in place as the head turns in a depth map.
CENTRE: Array = np.array([0.0, 0.0, -1.2])


def front(x: Array, y: Array) -> Array:
    """Height z of the head's front over the plane of the face; where the head is not, `NaN`."""
    vertical = np.abs(y) / np.where(y < 0, _UP, _DOWN)
    outline = np.where(y < 0, _OUTLINE_UP, _OUTLINE_DOWN)
    inside = (np.abs(x) / _HALF_BREADTH) ** outline + vertical**outline < 1
    power = np.where(y < 0, _FLAT_UP, _FLAT_DOWN)
    bulge = np.sqrt(np.clip(1 - (x / _HALF_BREADTH) ** 2 - vertical**power, 0, None))
    z = _MIDDLE_Z + _FRONT * bulge
    for mid_x, mid_y, width, height, rise in _BELLS:
        for side in (mid_x,) if mid_x == 0 else (-mid_x, mid_x):
            z = z + rise * np.exp(-(((x - side) / width) ** 2 + ((y - mid_y) / height) ** 2) / 2)
    return np.where(inside, z + _nose(x, y), np.nan)


def _nose(x: Array, y: Array) -> Array:
    """A ridge that rises from the sellion to the tip and falls to the lip, and widens on the way."""
    along = np.clip((y - _NOSE_FROM) / (_NOSE_TIP - _NOSE_FROM), 0, 1)
    below = np.clip((_NOSE_TO - y) / (_NOSE_TO - _NOSE_TIP), 0, 1)
    rise = along**1.15 * np.sqrt(1 - (1 - below) ** 2)
    width = 0.09 + 0.07 * along
    return _NOSE_HEIGHT * rise * np.exp(-((x / width) ** 2) / 2)


def _landmark(x: float, y: float) -> list[float]:
    return [x, y, float(front(np.array(x), np.array(y)))]


# [5, 3]: left eye, right eye, nose tip, left and right corner of the mouth, as the image shows them.
LANDMARKS: Array = np.array(
    [_landmark(-0.5, 0.0), _landmark(0.5, 0.0), _landmark(0.0, 0.57), _landmark(-0.41, 1.07), _landmark(0.41, 1.07)]
)


def rotation(yaw: float, pitch: float, roll: float = 0.0) -> Array:
    """[3, 3] that turns the head: first pitch (down), then yaw (to the image's right), then roll (clockwise); radians.

    >>> nose = rotation(math.pi / 2, 0.0) @ [0.0, 0.0, 1.0]
    >>> np.round(nose, 6).tolist()
    [1.0, 0.0, 0.0]
    """
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: Array = tilt @ turn @ nod
    return turned


@cache
def _grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Front and back of the head on a grid over the plane of the face; where it is not, both at its middle."""
    ticks = np.arange(-_CELLS, _CELLS + 1) * _STEP
    x, y = np.meshgrid(ticks, ticks)
    z = front(x, y)
    bulge = np.sqrt(np.clip(1 - (x / _HALF_BREADTH) ** 2 - (np.abs(y) / np.where(y < 0, _UP, _DOWN)) ** 2, 0, None))
    # Under the ears there is the neck: no head behind the angle of the jaw.
    back = _MIDDLE_Z - _BACK * bulge * np.clip(1.6 - y, 0, 1)
    outside = np.isnan(z)
    return (
        np.where(outside, -np.inf, z).astype(np.float32),
        np.where(outside, np.inf, np.minimum(back, z)).astype(np.float32),
    )


def depth_map(yaw: float, pitch: float) -> NDArray[np.float32]:
    """[MAP_SIDE, MAP_SIDE] how near the viewer the turned head's surface is about `CENTRE`; `NaN` where it is not.

    Rays run from the viewer until they are inside the head, a tenth of an IOD a step; then the last step is halved.
    So of several surfaces on a ray the nearest counts, as in a z-buffer.
    """
    ahead, behind = _grid()
    ticks = np.linspace(-REACH, REACH, MAP_SIDE, dtype=np.float32)
    x, y = (plane.ravel() for plane in np.meshgrid(ticks, ticks))
    turned = rotation(yaw, pitch).astype(np.float32)
    base = np.stack([x, y], 1) @ turned[:2] + CENTRE.astype(np.float32)  # [P, 3], in the face's own frame

    def inside(pixels: NDArray[np.intp], depth: NDArray[np.float32]) -> NDArray[np.bool_]:
        points = base[pixels] + depth[:, None] * turned[2]
        cell = np.clip(np.rint(points[:, :2] / _STEP).astype(np.intp) + _CELLS, 0, 2 * _CELLS)
        z = points[:, 2]
        hit: NDArray[np.bool_] = (z <= ahead[cell[:, 1], cell[:, 0]]) & (z >= behind[cell[:, 1], cell[:, 0]])
        return hit

    found = np.full(len(x), np.nan, np.float32)
    seeking = np.flatnonzero(np.hypot(x, y) < REACH)
    step = np.float32(0.1)
    for depth in np.arange(2.2, -2.0, -step, dtype=np.float32):
        hit = inside(seeking, np.full(len(seeking), depth))
        found[seeking[hit]] = depth
        seeking = seeking[~hit]
    pixels = np.flatnonzero(~np.isnan(found))
    for _ in range(6):
        step /= 2
        nearer = found[pixels] + step
        found[pixels] = np.where(inside(pixels, nearer), nearer, found[pixels])
    return found.reshape(MAP_SIDE, MAP_SIDE)
