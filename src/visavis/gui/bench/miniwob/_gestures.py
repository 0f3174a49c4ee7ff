"""What Chromium is to be told for an action: calls of the DevTools protocol's Input domain."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from visavis.gui.actions import Action, Click, Drag, Hotkey, LongPress, Move, Point, Press, Release, Scroll, Type

__all__ = ["Call", "Hands"]

Call = tuple[str, dict[str, Any]]

MODIFIERS = {"alt": 1, "ctrl": 2, "meta": 4, "shift": 8}
BUTTONS = {"left": 1, "right": 2, "middle": 4}
NOTCH_PX = 100  # as a mouse wheel scrolls
STEP_PX = 8  # between two events of a drag
# Name on the page, code of Windows; the page is told of a text too where there is one.
KEYS = {
    "alt": ("Alt", 18),
    "backspace": ("Backspace", 8),
    "capslock": ("CapsLock", 20),
    "ctrl": ("Control", 17),
    "delete": ("Delete", 46),
    "down": ("ArrowDown", 40),
    "end": ("End", 35),
    "enter": ("Enter", 13),
    "escape": ("Escape", 27),
    "home": ("Home", 36),
    "insert": ("Insert", 45),
    "left": ("ArrowLeft", 37),
    "menu": ("ContextMenu", 93),
    "meta": ("Meta", 91),
    "pagedown": ("PageDown", 34),
    "pageup": ("PageUp", 33),
    "right": ("ArrowRight", 39),
    "shift": ("Shift", 16),
    "tab": ("Tab", 9),
    "up": ("ArrowUp", 38),
    **{f"f{number}": (f"F{number}", 111 + number) for number in range(1, 25)},
}
# What a page without a window around it does not do by itself.
COMMANDS = {"a": "selectAll", "c": "copy", "v": "paste", "x": "cut", "y": "redo", "z": "undo"}


class Hands:
    """The hands of one player: its place in the grid, and the modifiers it holds."""

    def __init__(self, origin: Point) -> None:
        self.origin = origin
        self.held: set[str] = set()

    def types(self, action: Action) -> bool:
        """Whether the action needs the keyboard."""
        return isinstance(action, Type | Hotkey | Press | Release)

    def calls(self, action: Action) -> Iterator[Call]:
        """What to send, in order; nothing for an action that a task has no use for."""
        match action:
            case Move(point):
                yield self._mouse("mouseMoved", point)
            case Click(point, button, count):
                yield self._mouse("mouseMoved", point)
                for number in range(1, count + 1):
                    yield self._mouse("mousePressed", point, button, clicks=number, down=True)
                    yield self._mouse("mouseReleased", point, button, clicks=number)
            case LongPress(point):
                yield from self.calls(Click(point))
            case Drag(path):
                yield self._mouse("mouseMoved", path[0])
                yield self._mouse("mousePressed", path[0], "left", clicks=1, down=True)
                for point in _between(path):
                    yield self._mouse("mouseMoved", point, "left", down=True)
                yield self._mouse("mouseReleased", path[-1], "left", clicks=1)
            case Scroll(point, down, right):
                kind, place = self._mouse("mouseWheel", point)
                yield kind, {**place, "deltaX": right * NOTCH_PX, "deltaY": down * NOTCH_PX}
            case Type(text):
                for char in text:
                    yield from self._stroke({"\n": "enter", "\t": "tab"}.get(char, char))
            case Hotkey(keys):
                for key in keys:
                    yield self._key(key, down=True)
                for key in reversed(keys):
                    yield self._key(key, down=False)
            case Press(key):
                yield self._key(key, down=True)
            case Release(key):
                yield self._key(key, down=False)

    def release(self) -> Iterator[Call]:
        """Let go of whatever is still held."""
        for key in sorted(self.held):
            yield self._key(key, down=False)

    def _modifiers(self) -> int:
        return sum(MODIFIERS[key] for key in self.held if key in MODIFIERS)

    def _mouse(self, kind: str, point: Point, button: str = "none", *, clicks: int = 0, down: bool = False) -> Call:
        (x, y), (left, top) = point, self.origin
        return "Input.dispatchMouseEvent", {
            "type": kind,
            "x": left + x,
            "y": top + y,
            "button": button,
            "buttons": BUTTONS.get(button, 0) if down else 0,
            "clickCount": clicks,
            "modifiers": self._modifiers(),
        }

    def _stroke(self, key: str) -> Iterator[Call]:
        yield self._key(key, down=True)
        yield self._key(key, down=False)

    def _key(self, key: str, *, down: bool) -> Call:
        if key in MODIFIERS:
            (self.held.add if down else self.held.discard)(key)
        key = " " if key == "space" else key
        plain_code = ord(key.upper()) if len(key) == 1 and key.isascii() and key.isalnum() else 0
        name, code = KEYS.get(key, (key, plain_code))
        plain = not self.held & {"alt", "ctrl", "meta"}
        text = {"enter": "\r", "tab": "\t"}.get(key, key if key not in KEYS else "") if plain else ""
        call = {"key": name, "windowsVirtualKeyCode": 32 if key == " " else code, "modifiers": self._modifiers()}
        if key.isascii() and len(key) == 1 and key.isalnum():
            call["code"] = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"
        else:
            call["code"] = "Space" if key == " " else name if key in KEYS else ""
        if not down:
            return "Input.dispatchKeyEvent", {**call, "type": "keyUp"}
        if text:
            call["text"] = text
        if "ctrl" in self.held and key in COMMANDS:
            call["commands"] = [COMMANDS[key]]
        return "Input.dispatchKeyEvent", {**call, "type": "keyDown" if text else "rawKeyDown"}


def _between(path: tuple[Point, ...]) -> Iterator[Point]:
    """The path in small steps, without its first point."""
    for (x0, y0), (x1, y1) in pairwise(path):
        steps = max(1, -(-max(abs(x1 - x0), abs(y1 - y0)) // STEP_PX))
        for number in range(1, steps + 1):
            yield x0 + (x1 - x0) * number // steps, y0 + (y1 - y0) * number // steps
