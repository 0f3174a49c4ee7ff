"""Actions as JSON: for traces, for servers and for models that call tools.

>>> to_json(Scroll((10, 20), down=3))
{'action': 'scroll', 'point': [10, 20], 'down': 3, 'right': 0}
"""

from dataclasses import MISSING, fields
from typing import Any, get_args

from visavis.errors import InputError
from visavis.gui.actions.checks import MOST_CLICKS, MOST_NOTCHES, MOST_SECONDS, check
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

__all__ = ["ACTIONS", "from_json", "schema", "to_json"]

ACTIONS: dict[str, type[Action]] = {
    "move": Move,
    "click": Click,
    "long_press": LongPress,
    "drag": Drag,
    "scroll": Scroll,
    "type": Type,
    "hotkey": Hotkey,
    "press": Press,
    "release": Release,
    "wait": Wait,
    "open_app": OpenApp,
    "back": Back,
    "home": Home,
    "navigate": Navigate,
    "finished": Finished,
    "call_user": CallUser,
}
_NAMES = {kind: name for name, kind in ACTIONS.items()}
_POINT = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
_KEY = {"type": "string", "minLength": 1}
_NOTCHES = {"type": "integer", "minimum": -MOST_NOTCHES, "maximum": MOST_NOTCHES}
_NAME = {"type": "string", "minLength": 1}
_TEXT = {"type": "string"}
# By the names of fields, each of which means the same in every action.
_FIELDS: dict[str, dict[str, Any]] = {
    "point": _POINT,
    "button": {"type": "string", "enum": list(get_args(Button))},
    "count": {"type": "integer", "minimum": 1, "maximum": MOST_CLICKS},
    "path": {"type": "array", "items": _POINT, "minItems": 2},
    "down": _NOTCHES,
    "right": _NOTCHES,
    "text": _TEXT,
    "keys": {"type": "array", "items": _KEY, "minItems": 1, "uniqueItems": True},
    "key": _KEY,
    "seconds": {"type": "number", "minimum": 0, "maximum": MOST_SECONDS},
    "name": _NAME,
    "url": _NAME,
    "content": _TEXT,
    "question": _TEXT,
}


def to_json(action: Action) -> dict[str, Any]:
    """An action as an object of JSON: its name and its fields, points as lists.

    Raises:
        InputError: no screen could perform it.
    """
    check(action)
    values = {field.name: getattr(action, field.name) for field in fields(action)}
    return {"action": _NAMES[type(action)], **{name: _lists(value) for name, value in values.items()}}


def from_json(record: Any) -> Action:
    """The action that `to_json` made a record of; fields that have defaults may be missing.

    Raises:
        InputError: naming the field that is wrong, missing or unknown.
    """
    if not isinstance(record, dict) or not isinstance(record.get("action"), str):
        raise InputError("action: expected an object with the name of an action, got another value")
    name = record["action"]
    if name not in ACTIONS:
        raise InputError(f"action: expected one of {', '.join(ACTIONS)}, got {name[:30]!r}")
    kind = ACTIONS[name]
    values = {key: _tuples(value) for key, value in record.items() if key != "action"}
    known = {field.name: field.default is MISSING for field in fields(kind)}
    for key in values:
        if key not in known:
            raise InputError(f"{name}: expected the fields {', '.join(known) or '(none)'}, got {str(key)[:30]!r}")
    for key, needed in known.items():
        if needed and key not in values:
            raise InputError(f"{name}: expected the field {key}, got none")
    action = kind(**values)
    check(action)
    return action


def schema() -> dict[str, Any]:
    """The JSON Schema of what `to_json` makes, with what each action does.

    What it cannot say, `from_json` checks: the names of keys, and a scroll by nothing.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": [
            {
                "type": "object",
                "description": kind.__doc__,
                "properties": {
                    "action": {"const": name},
                    **{field.name: _FIELDS[field.name] for field in fields(kind)},
                },
                "required": ["action", *(field.name for field in fields(kind) if field.default is MISSING)],
                "additionalProperties": False,
            }
            for name, kind in ACTIONS.items()
        ],
    }


def _lists(value: Any) -> Any:
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
