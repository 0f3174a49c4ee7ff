"""What an agent can do: one space of actions for every model and every screen.

Points are whole pixels (x, y) of the screenshot the action answers, from its top left corner; a screen of higher
density than its own coordinates converts them itself. Scrolling is counted in notches of a mouse wheel. Keys have the
names of `keys`.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Action",
    "Back",
    "Button",
    "CallUser",
    "Click",
    "Drag",
    "Finished",
    "Home",
    "Hotkey",
    "LongPress",
    "Move",
    "Navigate",
    "OpenApp",
    "Point",
    "Press",
    "Release",
    "Scroll",
    "Type",
    "Wait",
]

Point = tuple[int, int]
Button = Literal["left", "right", "middle"]


@dataclass(frozen=True, slots=True)
class Move:
    """Take the pointer to a point."""

    point: Point


@dataclass(frozen=True, slots=True)
class Click:
    """Click one to three times."""

    point: Point
    button: Button = "left"
    count: int = 1


@dataclass(frozen=True, slots=True)
class LongPress:
    """Press at a point and hold, as a finger does to open a menu."""

    point: Point


@dataclass(frozen=True, slots=True)
class Drag:
    """Press at the first point, follow the path with the left button down, and let go at the last."""

    path: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Scroll:
    """Turn the wheel over a point, by notches; negative is up and left."""

    point: Point
    down: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """Type a text where the focus is; a newline presses Enter."""

    text: str


@dataclass(frozen=True, slots=True)
class Hotkey:
    """Press keys together, in order, and let them go in the reverse one."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Press:
    """Press a key and hold it."""

    key: str


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of a key that is held."""

    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while."""

    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class OpenApp:
    """Start a program by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Back:
    """Go back, as a browser's or a phone's button does."""


@dataclass(frozen=True, slots=True)
class Home:
    """Go to the start, as a phone's button does."""


@dataclass(frozen=True, slots=True)
class Navigate:
    """Open an address in a browser."""

    url: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The task is done; `content` is its answer, if it asked for one."""

    content: str = ""


@dataclass(frozen=True, slots=True)
class CallUser:
    """The user must help: log in, decide, or say more."""

    question: str = ""


Action = (
    Move
    | Click
    | LongPress
    | Drag
    | Scroll
    | Type
    | Hotkey
    | Press
    | Release
    | Wait
    | OpenApp
    | Back
    | Home
    | Navigate
    | Finished
    | CallUser
)
