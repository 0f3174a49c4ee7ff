"""What the records of the wire share: how they are described, made of ours, and read."""

import os
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from visavis.face import records

__all__ = ["box_of", "described", "points_of", "record", "text_of"]

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Landmarks = tuple[Point, Point, Point, Point, Point]

# Examples

PERSON = {"id": 3, "name": "Ada", "faces": 12, "best_face": 31}
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PHOTO = {
    "id": 20,
    "sha256": SHA256,
    "width_px": 4000,
    "height_px": 3000,
    "taken_at": "2024-05-01T12:30:00",
    "paths": ["/home/ada/Photos/party.jpg"],
    "faces": 2,
}
FACE = {
    "id": 31,
    "photo": 20,
    "path": "/home/ada/Photos/party.jpg",
    "box_xyxy_px": [102.0, 80.5, 180.0, 190.0],
    "score": 0.97,
    "quality": 0.99,
    "person": 3,
    "name": "Ada",
    "pinned": True,
    "enrolled": False,
}
SEEN = {
    "box_xyxy_px": [102.0, 80.5, 180.0, 190.0],
    "landmarks_xy_px": [[124.5, 126.0], [158.0, 125.5], [141.0, 147.0], [127.0, 165.5], [155.5, 165.0]],
    "score": 0.97,
    "quality": 0.99,
    "liveness": {"score": 0.93, "live": True},
}
SKIPPED = {"path": "/home/ada/Photos/half.jpg", "reason": "file: damaged or truncated"}
COMPARED = {"probability": 0.998, "false_match_rate": 0.00001}


def described(**example: Any) -> dict[str, Any]:
    """How pydantic, which a server has and a client need not have, is to describe a record."""
    return {
        "use_attribute_docstrings": True,
        "json_schema_serialization_defaults_required": True,
        "json_schema_extra": {"examples": [example]},
    }


def record(kind: Any, value: Any) -> Any:
    """A record, or a list of them, from JSON; fields that it has not are passed over.

    >>> from visavis.face.wire import Person
    >>> record(list[Person], [{"id": 3, "name": None, "faces": 12, "best_face": 31, "born": 1815}])
    [Person(id=3, name=None, faces=12, best_face=31)]

    Raises:
        KeyError, TypeError, ValueError: the value is none.
    """
    if is_dataclass(kind):
        here = [one for one in fields(kind) if one.name in value]
        return kind(**{one.name: record(one.type, value[one.name]) for one in here})  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return [record(arguments[0], one) for one in _of(list, value)]
    if origin is tuple:
        return tuple(record(one, part) for one, part in zip(arguments, value, strict=True))
    if origin is UnionType:  # with None: there is no other
        [other] = (one for one in arguments if one is not NoneType)
        return None if value is None else record(other, value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is float:
        return float(_of((int, float), value))
    return _of(str if origin is Literal else kind, value)  # a newer server may know more literals


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind}, got {value!r}")
    return value


def box_of(detection: "records.Detection") -> Box:
    """Left, top, right, bottom, to a hundredth of a pixel."""
    left, top, right, bottom = (round(float(value), 2) for value in detection.box_xyxy_px)
    return left, top, right, bottom


def points_of(detection: "records.Detection") -> Landmarks:
    """The five points of a face, to a hundredth of a pixel."""
    first, second, third, fourth, fifth = (
        (round(float(x), 2), round(float(y), 2)) for x, y in detection.landmarks_xy_px
    )
    return first, second, third, fourth, fifth


def text_of(path: Path) -> str:
    """A path as text; bytes that are none stand there as escapes."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()
