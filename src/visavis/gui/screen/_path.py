"""A drag as a hand makes it: by small steps, for a pointer that jumps is taken for no drag by some programs."""

import math
from collections.abc import Iterator
from itertools import pairwise

from visavis.gui.actions import Point

__all__ = ["along"]


def along(path: tuple[Point, ...], step_px: float) -> Iterator[Point]:
    """The points of a path after its first, and others between them no further apart than a step.

    >>> list(along(((0, 0), (10, 0), (10, 4)), 5))
    [(5, 0), (10, 0), (10, 4)]
    """
    for (left, top), (x, y) in pairwise(path):
        steps = max(1, math.ceil(math.dist((left, top), (x, y)) / step_px))
        for step in range(1, steps + 1):
            yield left + round((x - left) * step / steps), top + round((y - top) * step / steps)
