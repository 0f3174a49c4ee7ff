"""How an action is told: in words for a line, and in shapes to be drawn on the screenshot that it answers."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from visavis.gui.actions import (
    Action,
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Home,
    Hotkey,
    LongPress,
    Move,
    Navigate,
    OpenApp,
    Point,
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)

__all__ = ["Shape", "Strokes", "readable", "said", "shapes", "strokes"]

TIMES = {1: "click", 2: "double click", 3: "triple click"}
# What would turn the reading direction of a page, is a command to a terminal, or is no character at all.
_UNSEEN = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029))
_UNSEEN |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)))
_ESCAPES = str.maketrans({code: chr(code).encode("unicode_escape").decode() for code in _UNSEEN})


@dataclass(frozen=True, slots=True)
class Shape:
    """A piece of a drawing, in pixels of the screenshot."""

    kind: Literal["ring", "disc", "line", "head", "label"]
    points: tuple[tuple[float, float], ...]
    size: float = 0.0  # a ring's and a disc's radius, a label's height of letters
    text: str = ""
    anchor: Literal["start", "end"] = "start"  # of a label


@dataclass(frozen=True, slots=True)
class Strokes:
    """What comes from the keyboard: a text, or keys that are pressed together."""

    text: str = ""
    keys: tuple[str, ...] = ()


def readable(text: str) -> str:
    r"""A text of a model or a page, its lines kept, its controls and half characters as escapes.

    >>> readable("a\nb\x1b[2J \ud83d 👩‍💻")
    'a\nb\\x1b[2J \\ud83d 👩‍💻'
    """
    return text.replace("\r\n", "\n").translate(_ESCAPES)


def said(action: Action) -> str:
    """An action in words.

    >>> said(Click((3, 4), count=2)), said(Scroll((3, 4), down=-2)), said(Hotkey(("ctrl", "c")))
    ('double click at 3, 4', 'scroll up 2 at 3, 4', 'press ctrl + c')
    """
    match action:
        case Click(point, button, count):
            which = "" if button == "left" else f"{button} "
            return f"{which}{TIMES[count]} at {_at(point)}"
        case Move(point):
            return f"move to {_at(point)}"
        case LongPress(point):
            return f"long press at {_at(point)}"
        case Drag(path):
            return f"drag from {_at(path[0])} to {_at(path[-1])}"
        case Scroll(point, down, right):
            return f"scroll {_turned(down, right)} at {_at(point)}"
        case Type(text):
            return f"type “{_keyed(text)}”"
        case Hotkey(keys):
            return f"press {' + '.join(keys)}"
        case Press(key):
            return f"hold {key}"
        case Release(key):
            return f"let go of {key}"
        case Wait(seconds):
            return f"wait {seconds:g} s"
        case OpenApp(name):
            return f"open the program {name}"
        case Navigate(url):
            return f"open {url}"
        case Back():
            return "go back"
        case Home():
            return "go to the start"
        case Finished(content):
            return f"finished: {content}" if content else "finished"
        case CallUser(question):
            return f"ask the user: {question}" if question else "ask the user"


def strokes(action: Action) -> Strokes | None:
    """What of an action comes from the keyboard."""
    match action:
        case Type(text):
            return Strokes(text=_keyed(text))
        case Hotkey(keys):
            return Strokes(keys=keys)
        case Press(key) | Release(key):
            return Strokes(keys=(key,))
        case _:
            return None


def shapes(action: Action, size: tuple[int, int], *, number: int | None = None) -> tuple[Shape, ...]:
    """What is drawn for an action that points somewhere.

    Args:
        action: any; one that points nowhere has no shapes.
        size: of the screenshot, width and height.
        number: of the action in its step, where there are several.
    """
    unit = max(*size, 1) / 100
    radius = 1.7 * unit
    note = ""
    match action:
        case Click((x, y), button, count):
            drawn = [Shape("ring", ((x, y),), radius * (1 + 0.45 * ring)) for ring in range(count)]
            drawn.append(Shape("disc", ((x, y),), 0.35 * unit))
            note = note if button == "left" else button
            end = (float(x), float(y))
        case LongPress((x, y)):
            drawn = [Shape("ring", ((x, y),), radius), Shape("disc", ((x, y),), 0.9 * unit)]
            note, end = "hold", (float(x), float(y))
        case Move((x, y)):
            arms = (((x - radius, y), (x + radius, y)), ((x, y - radius), (x, y + radius)))
            drawn = [Shape("line", arm) for arm in arms]
            end = (float(x), float(y))
        case Drag(path):
            drawn = [Shape("disc", (path[0],), 0.7 * unit), Shape("line", path), *_head(path, 1.6 * unit)]
            end = (float(path[-1][0]), float(path[-1][1]))
        case Scroll((x, y), down, right):
            length = math.hypot(down, right)
            reach = (6 + 4 * min(length, 10) / 10) * unit
            end = (x + reach * right / length, y + reach * down / length)
            drawn = [Shape("disc", ((x, y),), 0.7 * unit), Shape("line", ((x, y), end))]
            drawn += _head(((x, y), end), 1.6 * unit)
            note = _turned(down, right)
        case _:
            return ()
    text = " ".join(part for part in ("" if number is None else str(number), note) if part)
    if text:
        anchor: Literal["start", "end"] = "end" if end[0] > 0.8 * size[0] else "start"
        aside = 2.6 * unit if anchor == "start" else -2.6 * unit
        place = (end[0] + aside, min(max(end[1] + 0.8 * unit, 2.4 * unit), size[1] - unit))
        drawn.append(Shape("label", (place,), 2.2 * unit, text, anchor))
    return tuple(drawn)


def _at(point: Point) -> str:
    return f"{point[0]}, {point[1]}"


def _keyed(text: str) -> str:
    """A newline is a press of Enter."""
    return text.replace("\n", "⏎")


def _turned(down: int, right: int) -> str:
    parts = [f"{'down' if down > 0 else 'up'} {abs(down)}"] if down else []
    parts += [f"{'right' if right > 0 else 'left'} {abs(right)}"] if right else []
    return ", ".join(parts)


def _head(path: tuple[tuple[float, float], ...], size: float) -> list[Shape]:
    """The arrow's head at the end of a path, along its last piece of some length."""
    ways = [(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in pairwise(path) if (x1, y1) != (x2, y2)]
    if not ways:
        return []
    (dx, dy), (x, y) = ways[-1], path[-1]
    dx, dy = dx / math.hypot(dx, dy) * size, dy / math.hypot(dx, dy) * size
    return [Shape("head", ((x + dx, y + dy), (x - dy * 0.7, y + dx * 0.7), (x + dy * 0.7, y - dx * 0.7)))]
