"""Every model's dialect of the action space: what it is told, how its replies read, and how actions are written.

A reply is read by a grammar, never evaluated and never guessed: one that is not clear is a `ReplyError` that says where
and why in words for the model. `parse` undoes `format`: every action, every text and every pixel comes back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from visavis.errors import InputError
from visavis.gui.actions import _calls, _tools
from visavis.gui.actions._grammar import Reader
from visavis.gui.actions._prompts import CALL_LINES, calls_prompt, tool_lines, tools_prompt
from visavis.gui.actions._verbs import DIRECTIONS, NOTCHES, VERBS, Call, build, looks_like_fractions, verb
from visavis.gui.actions.checks import check, check_text
from visavis.gui.actions.coordinates import ABSOLUTE, RELATIVE, Coordinates, Size
from visavis.gui.actions.keys import join
from visavis.gui.actions.serialize import ACTIONS, to_json
from visavis.gui.actions.space import (
    Action,
    CallUser,
    Click,
    Drag,
    Finished,
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

__all__ = [
    "DOUBAO_1_5",
    "GROUNDING",
    "JSON_TOOLS",
    "MOBILE",
    "UI_TARS_1_0",
    "UI_TARS_1_5",
    "CallDialect",
    "Dialect",
    "JsonDialect",
    "Reply",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model's reply says."""

    thought: str
    actions: tuple[Action, ...]  # at least one; nothing follows a `Finished` or `CallUser`


class Dialect(Protocol):
    """How one family of models is spoken with. `size` is a screenshot's width and height in pixels, throughout."""

    @property
    def name(self) -> str:
        """For the trace."""
        ...

    def image_size(self, size: Size) -> Size:
        """The width and height to give a screenshot to the model in.

        Raises:
            InputError: one side is more than 200 times the other.
        """
        ...

    def prompt(self, instruction: str, size: Size, *, language: str = "English") -> str:
        """What the model is told: its role, the form of replies, the actions, the task; it thinks in `language`."""
        ...

    def parse(self, text: str, size: Size) -> Reply:
        """The thought and the actions of a reply.

        Raises:
            ReplyError: the reply does not follow the grammar, or not clearly; its message says where and why.
        """
        ...

    def format(self, thought: str, actions: tuple[Action, ...], size: Size) -> str:
        """The reply that `parse` reads as these, but for white space around the thought.

        Raises:
            InputError: an action that is none, is outside of the screenshot, or that the dialect has no words for.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDialect:
    """Of UI-TARS and its kin: `Thought: ...`, then `Action: click(point='<point>1 2</point>')`."""

    name: str
    coordinates: Coordinates
    told: tuple[str, ...]  # the names of the actions in the prompt
    verbs: tuple[str, ...] = VERBS  # of all that a reply may use
    boxes: bool = False  # write start_box='<|box_start|>(1,2)<|box_end|>' for a point
    thought: bool = True  # ask for one
    several: bool = False  # ask for several actions where none needs to see what another did
    most: int | None = None  # actions in a reply; None: any number

    def image_size(self, size: Size) -> Size:
        return self.coordinates.image_size(size)

    def prompt(self, instruction: str, size: Size, *, language: str = "English") -> str:  # noqa: ARG002 - the protocol's
        places = {
            "point": self._argument("point", ("x1", "y1")),
            "start": self._argument("start_point", ("x1", "y1")),
            "end": self._argument("end_point", ("x2", "y2")),
        }
        lines = [CALL_LINES[name].format(**places) for name in self.told]
        return calls_prompt(instruction, lines=lines, thought=self.thought, several=self.several, language=language)

    def parse(self, text: str, size: Size) -> Reply:
        thought, reader, calls = _calls.read(text)
        if self.most is not None and len(calls) > self.most:
            raise reader.error(f"expected at most {self.most} action, got {len(calls)}", calls[self.most].at)
        return Reply(thought, _build(reader, calls, self.coordinates, size, verbs=self.verbs, told=self.told))

    def format(self, thought: str, actions: tuple[Action, ...], size: Size) -> str:
        _check(thought, actions, size)
        if self.most is not None and len(actions) > self.most:
            raise InputError(f"actions: expected at most {self.most}, got {len(actions)}")
        quoted = _calls.quote_thought(thought)
        calls = "\n\n".join(self._call(action, size) for action in actions)
        return f"Thought: {quoted}\nAction: {calls}" if quoted else f"Action: {calls}"

    def _call(self, action: Action, size: Size) -> str:
        name = verb(action, self.verbs)
        if name is None:
            raise InputError(f"action: expected one that {self.name} has words for, got {type(action).__name__}")
        return f"{name}({', '.join(self._arguments(action, size))})"

    def _arguments(self, action: Action, size: Size) -> list[str]:
        match action:
            case Click(point) | LongPress(point) | Move(point):
                return [self._point("point", point, size)]
            case Drag((start, end)):
                return [self._point("start_point", start, size), self._point("end_point", end, size)]
            case Drag(path):
                return [f"path='{' '.join(self._mark(_numbers(self.coordinates, point, size)) for point in path)}'"]
            case Scroll(point, down, right):
                for direction, (y, x) in DIRECTIONS.items():
                    if (down, right) == (y * NOTCHES, x * NOTCHES):
                        return [self._point("point", point, size), f"direction='{direction}'"]
                return [self._point("point", point, size), f"down={down}", f"right={right}"]
            case Hotkey(keys):
                return [f"key={_calls.quote(join(keys))}"]
            case Press(key) | Release(key):
                return [f"key={_calls.quote(join((key,)))}"]
            case Type(text):
                return [f"content={_calls.quote(text)}"]
            case Wait(seconds):
                return [] if action == Wait() else [f"seconds={seconds!r}"]
            case OpenApp(name):
                return [f"app_name={_calls.quote(name)}"]
            case Navigate(url):
                return [f"url={_calls.quote(url)}"]
            case Finished(content) | CallUser(content):
                return [f"content={_calls.quote(content)}"] if content else []
        return []  # back, home

    def _point(self, name: str, point: Point, size: Size) -> str:
        return self._argument(name, _numbers(self.coordinates, point, size))

    def _argument(self, name: str, numbers: tuple[str, ...]) -> str:
        if self.boxes:
            name = {"point": "start_box", "start_point": "start_box", "end_point": "end_box"}[name]
        return f"{name}='{self._mark(numbers)}'"

    def _mark(self, numbers: tuple[str, ...]) -> str:
        return f"<|box_start|>({','.join(numbers)})<|box_end|>" if self.boxes else f"<point>{' '.join(numbers)}</point>"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonDialect:
    """Of vision models that call tools: an object of JSON with a thought and calls."""

    name: str
    coordinates: Coordinates

    def image_size(self, size: Size) -> Size:
        return self.coordinates.image_size(size)

    def prompt(self, instruction: str, size: Size, *, language: str = "English") -> str:
        width, height = self.coordinates.extent(size)
        return tools_prompt(instruction, lines=tool_lines(), width=width, height=height, language=language)

    def parse(self, text: str, size: Size) -> Reply:
        thought, reader, calls = _tools.read(text)
        return Reply(thought, _build(reader, calls, self.coordinates, size, verbs=VERBS, told=tuple(ACTIONS)))

    def format(self, thought: str, actions: tuple[Action, ...], size: Size) -> str:
        _check(thought, actions, size)
        calls = [self._call(action, size) for action in actions]
        return json.dumps({"thought": thought.strip(), "actions": calls}, ensure_ascii=False)

    def _call(self, action: Action, size: Size) -> dict[str, Any]:
        arguments = to_json(action)
        name = arguments.pop("action")
        if "point" in arguments:
            arguments["point"] = self._place(arguments["point"], size)
        if "path" in arguments:
            arguments["path"] = [self._place(point, size) for point in arguments["path"]]
        return {"name": name, "arguments": arguments}

    def _place(self, point: list[int], size: Size) -> list[float]:
        numbers = _numbers(self.coordinates, (point[0], point[1]), size)
        return [float(number) if "." in number else int(number) for number in numbers]


def _numbers(coordinates: Coordinates, point: Point, size: Size) -> tuple[str, ...]:
    """What the model calls a pixel; one that would pass for fractions of the screen, as the box about it from 0, 0."""
    numbers = coordinates.to_text(point, size)
    if looks_like_fractions(numbers):
        return ("0", "0", *(str(2 * Decimal(number)) for number in numbers))
    return numbers


def _check(thought: str, actions: tuple[Action, ...], size: Size) -> None:
    check_text("thought", thought)
    if not actions:
        raise InputError("actions: expected at least one, got none")
    for number, action in enumerate(actions):
        check(action, size)
        if isinstance(action, Finished | CallUser) and number < len(actions) - 1:
            after = type(actions[number + 1]).__name__
            raise InputError(f"actions: expected none after {type(action).__name__}, got {after}")


def _build(
    reader: Reader,
    calls: list[Call],
    coordinates: Coordinates,
    size: Size,
    *,
    verbs: Sequence[str],
    told: Sequence[str],
) -> tuple[Action, ...]:
    actions: list[Action] = []
    for call in calls:
        if actions and isinstance(actions[-1], Finished | CallUser):
            raise reader.error("nothing may follow finished or call_user; write them last", call.at)
        actions.append(build(reader, call, coordinates, size, verbs=verbs, told=told))
    return tuple(actions)


_COMPUTER = (
    "click",
    "left_double",
    "right_single",
    "drag",
    "hotkey",
    "type",
    "scroll",
    "wait",
    "finished",
    "call_user",
)
_PHONE = ("click", "long_press", "type", "scroll", "open_app", "drag", "press_home", "press_back", "finished")
UI_TARS_1_0 = CallDialect(
    name="UI-TARS 1.0", coordinates=Coordinates(1000, max_pixels=2700 * 28**2), told=_COMPUTER, boxes=True
)
UI_TARS_1_5 = CallDialect(name="UI-TARS 1.5", coordinates=ABSOLUTE, told=_COMPUTER)
DOUBAO_1_5 = CallDialect(
    name="Doubao 1.5",
    coordinates=Coordinates(1000, max_pixels=5120 * 28**2),
    told=(*_COMPUTER[:5], "press", "release", *_COMPUTER[5:7], "navigate", "navigate_back", *_COMPUTER[7:]),
    several=True,
)
MOBILE = CallDialect(name="mobile", coordinates=RELATIVE, told=_PHONE, verbs=(*_PHONE, "wait", "call_user"))
GROUNDING = CallDialect(
    name="grounding", coordinates=ABSOLUTE, told=("click",), verbs=("click",), thought=False, most=1
)
JSON_TOOLS = JsonDialect(name="JSON tools", coordinates=Coordinates(None, max_pixels=1280 * 800))
