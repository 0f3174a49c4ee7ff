"""What changes did."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visavis.face.wire.base import PERSON, described
from visavis.face.wire.gallery import Person

if TYPE_CHECKING:
    from visavis.face import system
    from visavis.face.gallery import Imported as ImportedRows

__all__ = ["Clustered", "Enrolled", "Forgotten", "Imported", "Undone"]


@dataclass(frozen=True, slots=True)
class Undone:
    __pydantic_config__: ClassVar[Any] = described(people=[PERSON])
    people: list[Person]
    """As they are again."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    __pydantic_config__: ClassVar[Any] = described(person=3, name="Ada", faces=12)
    person: int
    name: str
    faces: int
    """All that the person has now."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    __pydantic_config__: ClassVar[Any] = described(faces=12)
    faces: int


@dataclass(frozen=True, slots=True)
class Clustered:
    __pydantic_config__: ClassVar[Any] = described(people=5, new=1, placed=9, alone=4)
    people: int
    """Those with faces, named or not."""
    new: int
    """Of these made now."""
    placed: int
    """Faces that got a person, or another one."""
    alone: int
    """Faces that belong to nobody."""

    @classmethod
    def of(cls, report: "system.ClusterReport") -> "Clustered":
        """From the system's report."""
        return cls(report.people, report.new, report.placed, report.alone)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added."""

    __pydantic_config__: ClassVar[Any] = described(photos=20, faces=31, people=5)
    photos: int
    faces: int
    people: int

    @classmethod
    def of(cls, added: "ImportedRows") -> "Imported":
        """From the gallery's report."""
        return cls(added.photos, added.faces, added.people)
