"""Whether an action is one: its values in range, its keys known, its points on the screen."""

from reprlib import repr as short
from typing import Any, get_args

from visavis.errors import InputError
from visavis.gui.actions.coordinates import Size
from visavis.gui.actions.keys import canonical
from visavis.gui.actions.space import (
    Action,
    Back,
    Button,
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
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)

__all__ = ["MOST_CLICKS", "MOST_NOTCHES", "MOST_SECONDS", "check", "check_text"]

MOST_CLICKS = 3
MOST_NOTCHES = 1000
MOST_SECONDS = 3600.0


def check(action: Action, size: Size | None = None) -> None:
    """Refuse an action whose values no screen could perform.

    Args:
        action: any of the space.
        size: width and height of the screenshot in pixels, which its points must lie in; None: of any size.

    Raises:
        InputError: naming the value.
    """
    match action:
        case Move(point) | LongPress(point):
            _point("point", point, size)
        case Click(point, button, count):
            _point("point", point, size)
            if button not in get_args(Button):
                raise InputError(f"button: expected left, right or middle, got {short(button)}")
            _whole("count", count, 1, MOST_CLICKS)
        case Drag(path):
            _path(path, size)
        case Scroll(point, down, right):
            _point("point", point, size)
            _whole("down", down, -MOST_NOTCHES, MOST_NOTCHES)
            _whole("right", right, -MOST_NOTCHES, MOST_NOTCHES)
            if down == right == 0:
                raise InputError("down, right: expected notches to scroll by, got 0 and 0")
        case Hotkey(keys):
            _keys(keys)
        case Press(key) | Release(key):
            _key("key", key)
        case Wait(seconds):
            _seconds(seconds)
        case Type(text):
            check_text("text", text)
        case OpenApp(name):
            check_text("name", name, least=1)
        case Navigate(url):
            check_text("url", url, least=1)
        case Finished(content):
            check_text("content", content)
        case CallUser(question):
            check_text("question", question)
        case Back() | Home():
            pass
        case _:
            raise InputError(f"action: expected one of the action space, got {short(action)}")


def check_text(name: str, value: Any, *, least: int = 0) -> None:
    """Refuse what is no text, is shorter than `least`, or holds half a character, which no screen and no file takes.

    Raises:
        InputError: it is.
    """
    if not isinstance(value, str) or len(value) < least:
        raise InputError(f"{name}: expected {'some text' if least else 'a text'}, got {short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: expected characters, got half of one at {error.start} (a lone surrogate)") from error


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name}: expected a whole number from {least} to {most}, got {short(value)}")


def _point(name: str, value: Any, size: Size | None) -> None:
    whole = isinstance(value, tuple) and [type(part) for part in value] == [int, int]
    if not whole or min(value) < 0:
        raise InputError(f"{name}: expected (x, y) in whole pixels from 0, got {short(value)}")
    if size and not (value[0] < size[0] and value[1] < size[1]):
        raise InputError(f"{name}: expected a pixel of {size[0]} x {size[1]}, got {short(value)}")


def _path(value: Any, size: Size | None) -> None:
    if not isinstance(value, tuple) or len(value) < 2:
        raise InputError(f"path: expected a tuple of at least 2 points, got {short(value)}")
    for number, point in enumerate(value):
        _point(f"path[{number}]", point, size)


def _key(name: str, value: Any) -> None:
    known = canonical(value) if isinstance(value, str) else "a string"
    if value != known:
        raise InputError(f"{name}: expected the canonical name of a key, {known}, got {short(value)}")


def _keys(value: Any) -> None:
    if not isinstance(value, tuple) or not value:
        raise InputError(f"keys: expected a tuple of at least 1 key, got {short(value)}")
    for number, key in enumerate(value):
        _key(f"keys[{number}]", key)
    if len(set(value)) < len(value):
        raise InputError(f"keys: expected each key once, got {' '.join(value)}; repeat the action instead")


def _seconds(value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= MOST_SECONDS:  # NaN fails too
        raise InputError(f"seconds: expected 0 to {MOST_SECONDS:g}, got {short(value)}")
