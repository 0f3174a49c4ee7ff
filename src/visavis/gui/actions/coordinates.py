"""From the numbers a model says a place with to a pixel of the screenshot, and back.

Sizes are (width, height). A pixel p of a screenshot W wide covers [p, p + 1), so a model whose images are U units wide
and who says x means pixel floor(x W / U); the right and bottom edge itself, x = U, is the last pixel. All of it is
done in fractions: in floating point, 9 / 1000 * 3000 falls short of pixel 27.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from visavis.errors import InputError
from visavis.gui.actions.space import Point

__all__ = ["ABSOLUTE", "RELATIVE", "Coordinates", "Size", "smart_resize", "to_screen", "to_screenshot"]

Size = tuple[int, int]  # width, height

FACTOR = 28  # a vision transformer's patches of 14 pixels, merged two by two
MOST_ASPECT = 200


def smart_resize(size: Size, *, min_pixels: int, max_pixels: int, factor: int = FACTOR) -> Size:
    """The size a Qwen2-VL or Qwen2.5-VL processor gives an image: multiples of `factor`, pixels within the limits.

    Halves round to even, as Python's `round` does: a side of 70 becomes 56, and one of 98 becomes 112. Small images
    grow to the least that `min_pixels` allows: 210 x 160 becomes 336 x 252.

    Raises:
        InputError: a side of no pixels, or one more than 200 times the other.

    Source: Wang et al., Qwen2-VL, 2024.

    >>> smart_resize((210, 160), min_pixels=100 * 28 * 28, max_pixels=16384 * 28 * 28)
    (336, 252)
    """
    width, height = size
    if min(size) < 1 or max(size) > MOST_ASPECT * min(size):
        raise InputError(
            f"size: expected sides of at least 1 px, one at most {MOST_ASPECT} times the other, got {width} x {height}"
        )
    w, h = (max(factor, round(side / factor) * factor) for side in size)
    if w * h > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        w, h = (max(factor, math.floor(side / shrink / factor) * factor) for side in size)
    elif w * h < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        w, h = (math.ceil(side * grow / factor) * factor for side in size)
    return w, h


@dataclass(frozen=True, slots=True)
class Coordinates:
    """How a model counts places, and the size of the image that it is to be given."""

    units: int | None  # the screenshot is so many wide, and as many high; None: pixels of the image given
    min_pixels: int = 100 * FACTOR**2
    max_pixels: int = 16384 * FACTOR**2

    def image_size(self, size: Size) -> Size:
        """The size to give a screenshot of `size` to the model in; errors as `smart_resize`."""
        return smart_resize(size, min_pixels=self.min_pixels, max_pixels=self.max_pixels)

    def extent(self, size: Size) -> Size:
        """What the model calls the right and the bottom edge of a screenshot of `size`."""
        return self.image_size(size) if self.units is None else (self.units, self.units)

    def to_pixel(self, place: tuple[Fraction, Fraction], size: Size) -> Point:
        """The pixel of a screenshot of `size` in which a place lies.

        Raises:
            InputError: the place is outside of the screenshot.

        >>> RELATIVE.to_pixel((Fraction(500), Fraction(1000)), (1920, 1080))
        (960, 1079)
        """
        extent = self.extent(size)
        for name, value, edge in zip("xy", place, extent, strict=True):
            if not 0 <= value <= edge:
                raise InputError(f"{name}: expected 0 to {edge}, got {float(value):g}")
        x, y = (
            min(math.floor(value * side / edge), side - 1)
            for value, side, edge in zip(place, size, extent, strict=True)
        )
        return x, y

    def to_text(self, point: Point, size: Size) -> tuple[str, str]:
        """The shortest decimal numbers that `to_pixel` takes for this pixel, near its centre.

        Whole ones wherever a unit is no more than a pixel.

        >>> RELATIVE.to_text((960, 1), (1920, 4000))
        ('500', '0.3')
        """
        x, y = (_shortest(place, side, edge) for place, side, edge in zip(point, size, self.extent(size), strict=True))
        return x, y


RELATIVE = Coordinates(1000)
ABSOLUTE = Coordinates(None)


def _shortest(pixel: int, side: int, edge: int) -> str:
    """The decimal n / 10^d of fewest digits d with `pixel` <= n / 10^d * side / edge < `pixel` + 1."""
    digits, scale = 0, 1
    while True:
        lowest = -(-pixel * edge * scale // side)
        n = max(lowest, (2 * pixel + 1) * edge * scale // (2 * side))
        if n * side < (pixel + 1) * edge * scale:
            whole, rest = divmod(n, scale)
            return f"{whole}.{rest:0{digits}}" if digits else str(whole)
        digits, scale = digits + 1, scale * 10


def to_screen(point: Point, *, scale: float = 1.0, origin: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Where a pixel of a screenshot is in the screen's own coordinates.

    Args:
        point: of a screenshot of one monitor.
        scale: pixels of the screenshot per unit of the screen's coordinates; 2 on most HiDPI screens.
        origin: the monitor's top left corner in the screen's coordinates; negative left of or above the first one.

    >>> to_screen((300, 100), scale=2.0, origin=(-1440.0, 0.0))
    (-1290.0, 50.0)
    """
    return origin[0] + point[0] / scale, origin[1] + point[1] / scale


def to_screenshot(place: tuple[float, float], *, scale: float = 1.0, origin: tuple[float, float] = (0.0, 0.0)) -> Point:
    """The pixel nearest to a place in the screen's own coordinates; undoes `to_screen`."""
    return round((place[0] - origin[0]) * scale), round((place[1] - origin[1]) * scale)
