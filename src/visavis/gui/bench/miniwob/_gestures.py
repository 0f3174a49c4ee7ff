"""What Chromium is to be told for an action: calls of the DevTools protocol's Input domain."""

from collections.abc import Iterator
from typing import Any

from visavis.gui.actions import Action, Click, Drag, Hotkey, LongPress, Move, Point, Press, Release, Scroll, Type
from visavis.gui.actions.keys import canonical
from visavis.gui.screen._path import along
from visavis.gui.screen._us_keyboard import BITS, stroke

__all__ = ["Call", "Hands"]

Call = tuple[str, dict[str, Any]]

BUTTONS = {"left": 1, "right": 2, "middle": 4}
NOTCH_PX = 100  # as a mouse wheel scrolls
STEP_PX = 8  # between two events of a drag


class Hands:
    """The hands of one player: its place in the grid, the modifiers it holds, and where its pointer is."""

    def __init__(self, origin: Point) -> None:
        self.origin = origin
        self.held: set[str] = set()
        self.pointer: Point | None = None  # where it last was in this episode

    def types(self, action: Action) -> bool:
        """Whether the action needs the keyboard."""
        return isinstance(action, Type | Hotkey | Press | Release)

    def calls(self, action: Action) -> Iterator[Call]:
        """What to send, in order; nothing for an action that a task has no use for."""
        match action:
            case Move(point):
                yield self.move(point)
            case Click(point, button, count):
                yield self.move(point)
                for number in range(1, count + 1):
                    yield self._mouse("mousePressed", point, button, clicks=number, down=True)
                    yield self._mouse("mouseReleased", point, button, clicks=number)
            case LongPress(point):
                yield from self.calls(Click(point))
            case Drag(path):
                yield self.move(path[0])
                yield self._mouse("mousePressed", path[0], "left", clicks=1, down=True)
                for point in along(path, STEP_PX):
                    yield self._mouse("mouseMoved", point, "left", down=True)
                yield self._mouse("mouseReleased", path[-1], "left", clicks=1)
                yield self.move(path[-1])  # now what lies there knows that the pointer is over it
            case Scroll(point, down, right):
                kind, place = self._mouse("mouseWheel", point)
                yield kind, {**place, "deltaX": right * NOTCH_PX, "deltaY": down * NOTCH_PX}
            case Type(text):
                for character in text:
                    yield self._key(character, down=True)
                    yield self._key(character, down=False)
            case Hotkey(keys):
                for key in keys:
                    yield self._key(canonical(key), down=True)
                for key in reversed(keys):
                    yield self._key(canonical(key), down=False)
            case Press(key):
                yield self._key(canonical(key), down=True)
            case Release(key):
                yield self._key(canonical(key), down=False)

    def move(self, point: Point) -> Call:
        """What takes the pointer to a point."""
        self.pointer = point
        return self._mouse("mouseMoved", point)

    def release(self) -> Iterator[Call]:
        """Let go of whatever is still held, for the next episode."""
        self.pointer = None
        for key in sorted(self.held):
            yield self._key(key, down=False)

    def _mouse(self, kind: str, point: Point, button: str = "none", *, clicks: int = 0, down: bool = False) -> Call:
        (x, y), (left, top) = point, self.origin
        return "Input.dispatchMouseEvent", {
            "type": kind,
            "x": left + x,  # a fraction more, and Chromium takes the pixel after it
            "y": top + y,
            "button": button,
            "buttons": BUTTONS.get(button, 0) if down else 0,
            "clickCount": clicks,
            "modifiers": self._bits(),
        }

    def _key(self, key: str, *, down: bool) -> Call:
        if key in BITS:
            (self.held.add if down else self.held.discard)(key)
        return "Input.dispatchKeyEvent", stroke(key, self._bits(), down=down)

    def _bits(self) -> int:
        return sum(BITS[key] for key in self.held)
