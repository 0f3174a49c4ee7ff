"""What changes did."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visavis.face.wire.base import PERSON, described
from visavis.face.wire.gallery import Person

if TYPE_CHECKING:
    from visavis.face import forgetting, system
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
    """What was deleted of a person, and what a look through all files of the gallery found of it afterwards."""

    __pydantic_config__: ClassVar[Any] = described(
        faces=12,
        names=1,
        log_entries=40,
        uploads=0,
        photos=["/home/ada/Photos/party.jpg"],
        files=5,
        bytes=104857600,
        traces=0,
    )
    faces: int
    """Each with its embedding, its picture and its row of the search index."""
    names: int
    """1, or 0 of a person without."""
    log_entries: int
    """Of the log of who asked, that the person was in."""
    uploads: int
    """Uploaded photos that were deleted."""
    photos: list[str]
    """Files that show the person still."""
    files: int
    """Looked through."""
    bytes: int
    """Looked through."""
    traces: int
    """Pieces of what was deleted that were found; 0: nothing is left."""

    @classmethod
    def of(cls, proof: "forgetting.Forgotten") -> "Forgotten":
        """From the system's proof."""
        return cls(
            proof.faces,
            proof.names,
            proof.log_entries,
            proof.uploads,
            [os.fsdecode(path) for path in proof.photos],
            proof.files,
            proof.bytes,
            proof.traces,
        )


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
