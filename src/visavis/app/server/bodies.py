"""What comes in over the wire, checked by pydantic, and errors; what goes out is in `visavis.face.wire`."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import Body

__all__ = ["MAX_ID", "Error", "ErrorText", "FacesIn", "IndexIn", "NameIn", "OthersIn"]

MAX_ID = 2**53 - 1  # that every reader of JSON takes for what it is; no gallery comes near
Id = Annotated[int, Body(ge=1, le=MAX_ID)]
Name = Annotated[str, Body(min_length=1, max_length=200, description="Printable text.")]


def _example(**values: Any) -> dict[str, Any]:
    return {"extra": "forbid", "json_schema_extra": {"examples": [values]}}


@dataclass(frozen=True, slots=True)
class ErrorText:
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Error:
    """Every answer that is an error."""

    __pydantic_config__: ClassVar[Any] = _example(
        error={"type": "NotFoundError", "message": "person: expected one of the gallery, got 7"}
    )
    error: ErrorText


@dataclass(frozen=True, slots=True)
class NameIn:
    __pydantic_config__: ClassVar[Any] = _example(name="Ada")
    name: Name


@dataclass(frozen=True, slots=True)
class OthersIn:
    """Other people."""

    __pydantic_config__: ClassVar[Any] = _example(others=[3, 8])
    others: Annotated[list[Id], Body(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True)
class FacesIn:
    """Some faces."""

    __pydantic_config__: ClassVar[Any] = _example(faces=[12, 15])
    faces: Annotated[list[Id], Body(min_length=1, max_length=10_000)]


@dataclass(frozen=True, slots=True)
class IndexIn:
    __pydantic_config__: ClassVar[Any] = _example(folder="/home/ada/Photos", prune=False)
    folder: Annotated[str, Body(max_length=4096, description="A folder of the server, below one of its roots.")]
    prune: Annotated[bool, Body(description="Take out the photos of a folder that is empty now; else they stay.")] = (
        False
    )
