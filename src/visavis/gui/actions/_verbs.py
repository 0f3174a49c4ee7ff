"""What models call the actions and their arguments: from a call, whatever syntax it came in, to an action."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from visavis.errors import InputError, ReplyError
from visavis.gui.actions._grammar import Group, Node, Number, Reader, Table, Text, Word
from visavis.gui.actions.checks import check
from visavis.gui.actions.coordinates import Coordinates, Size
from visavis.gui.actions.keys import canonical, split
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
    Point,
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)

__all__ = ["DIRECTIONS", "NOTCHES", "VERBS", "Call", "build", "is_known", "looks_like_fractions", "verb"]

NOTCHES = 5  # of a scroll that gives a direction alone

DIRECTIONS = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}  # down, right
POINT = ("point", "start_box", "start_point", "box", "bbox", "coordinate", "coordinates", "position")
END = ("end_point", "end_box")
BUTTONS: dict[str, Button] = {"left": "left", "right": "right", "middle": "middle"}
COUNTS = ("single", "double", "triple")


@dataclass(frozen=True, slots=True)
class Call:
    """An action as it was written."""

    at: int
    name: str
    positional: tuple[Node, ...]
    named: dict[str, Node]


class _Arguments:
    """The arguments of a call; each is taken once, by any of its names, and what is left in the end is refused."""

    def __init__(self, reader: Reader, call: Call, coordinates: Coordinates, size: Size) -> None:
        self.reader, self.call, self.coordinates, self.size = reader, call, coordinates, size
        self.positional = list(call.positional)
        self.named = dict(call.named)
        self.known: list[str] = []

    def error(self, message: str, at: int) -> ReplyError:
        return self.reader.error(f"{self.call.name}: {message}", at)

    def has(self, *names: str) -> bool:
        return any(name in self.named for name in names)

    def take(self, *names: str) -> Node | None:
        """The argument of one of these names, or the next one without a name."""
        self.known.append(names[0])
        given = [name for name in names if name in self.named]
        if len(given) > 1:
            raise self.error(f"{given[0]} and {given[1]} name the same argument; give one", self.named[given[1]].at)
        if given:
            return self.named.pop(given[0])
        return self.positional.pop(0) if self.positional else None

    def need(self, *names: str) -> Node:
        node = self.take(*names)
        if node is None:
            raise self.error(f"the argument {names[0]} is missing", self.call.at)
        return node

    def finish(self) -> None:
        known = ", ".join(dict.fromkeys(self.known)) or "none"
        for name, node in self.named.items():
            raise self.error(f"no argument is called {name[:30]}; the arguments are {known}", node.at)
        for node in self.positional:
            raise self.error(f"one argument too many; the arguments are {known}", node.at)

    def text(self, *names: str) -> str:
        """A text; a number stands for its digits."""
        return self._text(self.need(*names), names[0])

    def text_or(self, default: str, *names: str) -> str:
        node = self.take(*names)
        return default if node is None else self._text(node, names[0])

    def _text(self, node: Node, name: str) -> str:
        if isinstance(node, Text):
            return node.value
        if isinstance(node, Number):
            return node.literal
        raise self.error(f"expected {name} to be a text in quotes", node.at)

    def choice(self, options: Iterable[str], *names: str) -> str:
        """One of a few words, quotes or none."""
        node = self.need(*names)
        word = (node.name if isinstance(node, Word) else self._text(node, names[0])).strip().lower()
        if word not in options:
            raise self.error(f"expected {names[0]} to be one of {', '.join(options)}", node.at)
        return word

    def number(self, *names: str) -> Fraction:
        node = self.need(*names)
        parts = self._opened(node)
        if len(parts) != 1 or not isinstance(parts[0], Number):
            raise self.error(f"expected {names[0]} to be a number", node.at)
        return Fraction(parts[0].literal)

    def whole(self, *names: str) -> int:
        value = self.number(*names)
        if value.denominator != 1:
            raise self.error(f"expected {names[0]} to be a whole number", self.call.at)
        return int(value)

    def keys(self, *names: str) -> tuple[str, ...]:
        """The keys of a text such as "ctrl c", of one word, or of a list."""
        node = self.need(*names)
        try:
            if isinstance(node, Group):
                return tuple(canonical(self._key(part, names[0])) for part in node.parts)
            return split(self._key(node, names[0]))
        except InputError as error:
            raise self.error(str(error), node.at) from error

    def _key(self, node: Node, name: str) -> str:
        return node.name if isinstance(node, Word) else self._text(node, name)

    def point(self, *names: str) -> Point:
        """A point, or the centre of a box."""
        if self.has("x", "y"):
            x, y = self.need("x"), self.need("y")
            return self._place((x, y), x.at)
        node = self.need(*names)
        return self._place(self._opened(node), node.at)

    def points(self, *names: str) -> tuple[Point, ...]:
        """A list of points."""
        node = self.need(*names)
        parts = self._opened(node)
        while len(parts) == 1 and isinstance(parts[0], Group):
            parts = parts[0].parts
        if not all(isinstance(part, Group | Table) for part in parts):
            raise self.error(f"expected {names[0]} to be a list of points", node.at)
        return tuple(self._place((part,), part.at) for part in parts)

    def _opened(self, node: Node) -> tuple[Node, ...]:
        """What a text holds; anything else is itself."""
        if isinstance(node, Text):
            return Reader(node.value, inside=(self.reader, node.at), wanted="numbers such as 100 200").parts("")
        return (node,)

    def _place(self, nodes: tuple[Node, ...], at: int) -> Point:
        numbers = self._numbers(nodes)
        right, bottom = self.coordinates.extent(self.size)
        if len(numbers) not in (2, 4):
            raise self.error(f"expected a point as 2 numbers, x and y, or a box as 4, got {len(numbers)}", at)
        if looks_like_fractions(numbers):
            raise self.error(f"expected x from 0 to {right} and y from 0 to {bottom}, got fractions of the screen", at)
        values = [Fraction(number) for number in numbers]
        if len(values) == 4 and not (values[0] <= values[2] and values[1] <= values[3]):
            raise self.error("expected a box as its left, top, right and bottom", at)
        try:
            return self.coordinates.to_pixel(
                ((values[0] + values[-2]) / 2, (values[1] + values[-1]) / 2),  # a point is a box of no size
                self.size,
            )
        except InputError as error:
            raise self.error(str(error), at) from error

    def _numbers(self, nodes: Iterable[Node]) -> list[str]:
        """As written, from whatever they stand in."""
        numbers: list[str] = []
        for node in nodes:
            match node:
                case Number(_, literal):
                    numbers.append(literal)
                case Group(_, parts):
                    numbers += self._numbers(parts)
                case Text():
                    numbers += self._numbers(self._opened(node))
                case Table(_, {"x": x, "y": y, **more}) if not more:
                    numbers += self._numbers((x, y))
                case _:
                    raise self.error("expected the numbers of a point, x and y", node.at)
        return numbers


def looks_like_fractions(numbers: Iterable[str]) -> bool:
    """Whether all are written as parts of 1, which as units of a model's image would all be the corner."""
    return all("." in number and 0 <= Fraction(number) <= 1 for number in numbers)


def _click(button: Button, count: int) -> Callable[[_Arguments], Action]:
    return lambda a: Click(a.point(*POINT), button, count)


def _any_click(a: _Arguments) -> Action:
    point = a.point(*POINT)
    button = a.choice(BUTTONS, "button") if a.has("button") else "left"
    return Click(point, BUTTONS[button], a.whole("count") if a.has("count") else 1)


def _drag(a: _Arguments) -> Action:
    if a.has("path"):
        return Drag(a.points("path"))
    return Drag((a.point(*POINT), a.point(*END)))


def _scroll(a: _Arguments) -> Action:
    point = a.point(*POINT)
    if a.has("down", "right"):
        return Scroll(point, *(a.whole(axis) if a.has(axis) else 0 for axis in ("down", "right")))
    down, right = DIRECTIONS[a.choice(DIRECTIONS, "direction")]
    notches = a.whole("amount") if a.has("amount") else NOTCHES
    return Scroll(point, down * notches, right * notches)


def _one_key(a: _Arguments) -> str:
    keys = a.keys("key")
    if len(keys) != 1:
        raise a.error(f"expected one key, got {' '.join(keys)}; press or release them one by one", a.call.at)
    return keys[0]


def _wait(a: _Arguments) -> Action:
    names = ("seconds", "time", "duration")
    return Wait(float(a.number(*names))) if a.positional or a.has(*names) else Wait()


# Every name that models use, with how its arguments make an action; `verb` says which of them we write.
_BUILDERS: dict[str, Callable[[_Arguments], Action]] = {
    "click": _any_click,
    **{f"{button}_{COUNTS[count - 1]}": _click(BUTTONS[button], count) for button in BUTTONS for count in (1, 2, 3)},
    **{f"{button}_click": _click(BUTTONS[button], 1) for button in BUTTONS},
    "double_click": _click("left", 2),
    "triple_click": _click("left", 3),
    **dict.fromkeys(("move", "move_to", "mouse_move", "hover"), lambda a: Move(a.point(*POINT))),
    "long_press": lambda a: LongPress(a.point(*POINT)),
    **dict.fromkeys(("drag", "select"), _drag),
    "scroll": _scroll,
    "type": lambda a: Type(a.text("content", "text")),
    "hotkey": lambda a: Hotkey(a.keys("key", "keys", "hotkey")),
    **dict.fromkeys(("press", "keydown", "key_down"), lambda a: Press(_one_key(a))),
    **dict.fromkeys(("release", "keyup", "key_up"), lambda a: Release(_one_key(a))),
    "wait": _wait,
    "open_app": lambda a: OpenApp(a.text("app_name", "name")),
    **dict.fromkeys(("navigate_back", "press_back", "back"), lambda _: Back()),
    **dict.fromkeys(("press_home", "home"), lambda _: Home()),
    "navigate": lambda a: Navigate(a.text("url", "content")),
    "finished": lambda a: Finished(a.text_or("", "content")),
    "call_user": lambda a: CallUser(a.text_or("", "content", "question")),
}

# What we write for the actions that have one name; a click's depends on its button and count.
_WRITTEN: dict[type[Action], tuple[str, ...]] = {
    LongPress: ("long_press",),
    Drag: ("drag",),
    Hotkey: ("hotkey",),
    Type: ("type",),
    Scroll: ("scroll",),
    Move: ("move",),
    Press: ("press",),
    Release: ("release",),
    OpenApp: ("open_app",),
    Navigate: ("navigate",),
    Back: ("navigate_back", "press_back"),  # a computer's, a phone's
    Home: ("press_home",),
    Wait: ("wait",),
    Finished: ("finished",),
    CallUser: ("call_user",),
}
_CLICKS = [
    "click",
    *(f"{button}_{count}" for button in BUTTONS for count in COUNTS if (button, count) != ("left", "single")),
]
VERBS = (*_CLICKS, *(name for names in _WRITTEN.values() for name in names))


def is_known(name: str) -> bool:
    """Whether any dialect has an action of this name."""
    return name.lower() in _BUILDERS


def verb(action: Action, verbs: Iterable[str]) -> str | None:
    """What a dialect with these verbs calls an action; None if it has no verb for it."""
    if isinstance(action, Click):
        names: tuple[str, ...] = (f"{action.button}_{COUNTS[action.count - 1]}".replace("left_single", "click"),)
    else:
        names = _WRITTEN[type(action)]
    return next((name for name in names if name in verbs), None)


def build(
    reader: Reader, call: Call, coordinates: Coordinates, size: Size, *, verbs: Sequence[str], told: Sequence[str]
) -> Action:
    """The action that a call of a dialect with these verbs means, on a screenshot of `size`.

    Args:
        reader: of the reply, for the errors.
        call: as it was read.
        coordinates: the dialect's.
        size: width and height of the screenshot in pixels.
        verbs: all that the dialect has.
        told: those that the model knows of.

    Raises:
        ReplyError: there is no such action, or its arguments are wrong.
    """
    builder = _BUILDERS.get(call.name.lower())
    unknown = f"{call.name[:30]!r} is no action here; the actions are {', '.join(told)}"
    if builder is None:
        raise reader.error(unknown, call.at)
    arguments = _Arguments(reader, call, coordinates, size)
    action = builder(arguments)
    arguments.finish()
    try:
        check(action, size)
    except InputError as error:
        raise arguments.error(str(error), call.at) from error
    if verb(action, verbs) is None:
        raise reader.error(unknown, call.at)
    return action
