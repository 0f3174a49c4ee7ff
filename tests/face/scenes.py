"""Drawn people of `tests.face.fake_pack` who step from cell to cell of a video."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from tests.face.fake_pack import CELL_PX, COLOURS
from visavis.face.stream.events import Event
from visavis.face.stream.video import Frame
from visavis.face.stream.watching import Watcher

__all__ = ["FPS", "pixels", "play", "stay", "told"]

COLUMNS, ROWS = 10, 6
FPS = 10.0
Scene = Mapping[int, tuple[int, int]]  # where each person is: column, row


def pixels(scene: Scene, seed: int = 0) -> NDArray[np.uint8]:
    """A frame of 320 x 192."""
    random = np.random.default_rng(seed)
    cells = np.full((ROWS, COLUMNS, 3), 20.0)
    for person, (column, row) in scene.items():
        cells[row, column] = np.clip(np.array(COLOURS[person]) + random.integers(-6, 7, 3), 0, 255)
    return cells.astype(np.uint8).repeat(CELL_PX, 0).repeat(CELL_PX, 1)


def stay(seconds: float, scene: Scene) -> list[Scene]:
    """The same for a while."""
    return [scene] * round(seconds * FPS)


def play(watcher: Watcher, scenes: Iterable[Scene], *, from_s: float = 0.0, fps: float = FPS) -> list[Event]:
    """All events, those of the end not among them."""
    events: list[Event] = []
    for number, scene in enumerate(scenes):
        events += watcher.look(Frame(number, from_s + number / fps, pixels(scene, number)))
    return events


def told(events: Iterable[Event]) -> list[tuple[str, int, str | None]]:
    """The gist of events."""
    return [(event.kind, event.track, event.verdict.person) for event in events]
