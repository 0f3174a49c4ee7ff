"""What goes over the wire: plain records, checked by pydantic where they come in and described in the OpenAPI.

Boxes are (left, top, right, bottom) in pixels of the upright photo. A comparison is told as a probability and a
false-match rate, never as a cosine, which means something else for every model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar

from fastapi import Body

from visavis.app.output import printable
from visavis.app.server.jobs import JobState
from visavis.face.gallery import FaceRow, PersonRow, PhotoRow
from visavis.face.system import Hit, Identified, Verified

__all__ = [
    "Clustered",
    "Enrolled",
    "Error",
    "ErrorText",
    "FaceOut",
    "Forgotten",
    "Found",
    "GalleryOut",
    "HitOut",
    "ImportedOut",
    "IndexIn",
    "JobOut",
    "MergeIn",
    "NameIn",
    "People",
    "PersonOut",
    "PhotoOut",
    "PhotoPage",
    "SplitIn",
    "VerifiedOut",
]

MAX_ID = 2**63 - 1  # of SQLite
Id = Annotated[int, Body(ge=1, le=MAX_ID)]
Box = tuple[float, float, float, float]
Name = Annotated[str, Body(min_length=1, max_length=200, description="Printable text.")]
Rate = Annotated[float | None, Body(description="How often a stranger comes as near; with several candidates, to any.")]
Probability = Annotated[
    float | None, Body(description="That it is the same person, each candidate and nobody being equally likely before.")
]


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
class MergeIn:
    """Who is the same person."""

    __pydantic_config__: ClassVar[Any] = _example(others=[3, 8])
    others: Annotated[list[Id], Body(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True)
class SplitIn:
    """Faces of one person that are someone else's."""

    __pydantic_config__: ClassVar[Any] = _example(faces=[12, 15])
    faces: Annotated[list[Id], Body(min_length=1, max_length=10_000)]


@dataclass(frozen=True, slots=True)
class IndexIn:
    __pydantic_config__: ClassVar[Any] = _example(folder="/home/ada/Photos", prune=False)
    folder: Annotated[str, Body(max_length=4096, description="A folder of the server, below one of its roots.")]
    prune: Annotated[bool, Body(description="Take out the photos of a folder that is empty now; else they stay.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class GalleryOut:
    __pydantic_config__: ClassVar[Any] = _example(
        version="0.1.0", model="face-reidentification-retail-0095", photos=20, faces=31, people=5, named=1, skipped=0
    )
    version: Annotated[str, Body(description="Of visavis.")]
    model: Annotated[str, Body(description="Whose embeddings the gallery holds.")]
    photos: int
    faces: int
    people: int
    named: int
    skipped: Annotated[int, Body(description="Files that could not be read as photos.")]


@dataclass(frozen=True, slots=True)
class PersonOut:
    __pydantic_config__: ClassVar[Any] = _example(id=3, name="Ada", faces=12, best_face=31)
    id: int
    name: Annotated[str | None, Body(description="null: people sorted together, without a name yet.")]
    faces: int
    best_face: Annotated[int | None, Body(description="The one of the highest quality.")]

    @classmethod
    def of(cls, row: PersonRow) -> "PersonOut":
        """From the gallery's row."""
        return cls(row.id, row.name, row.faces, row.best_face_id)


@dataclass(frozen=True, slots=True)
class People:
    people: list[PersonOut]
    total: Annotated[int, Body(description="All of them, not only those of this page.")]


@dataclass(frozen=True, slots=True)
class FaceOut:
    __pydantic_config__: ClassVar[Any] = _example(
        id=31,
        photo=20,
        box_xyxy_px=[102.0, 80.5, 180.0, 190.0],
        score=0.97,
        quality=0.99,
        person=3,
        name="Ada",
        pinned=True,
        enrolled=False,
    )
    id: int
    photo: int
    box_xyxy_px: Box
    score: Annotated[float, Body(description="Of the detector, in [0, 1].")]
    quality: Annotated[float, Body(description="In [0, 1]: the expected share of right matches.")]
    person: int | None
    name: str | None
    pinned: Annotated[bool, Body(description="Placed by a user: sorting leaves it where it is.")]
    enrolled: bool

    @classmethod
    def of(cls, row: FaceRow) -> "FaceOut":
        """From the gallery's row."""
        return cls(
            row.id,
            row.photo_id,
            _box(row.detection.box_xyxy_px),
            row.detection.score,
            row.quality,
            row.person_id,
            row.person,
            row.pinned,
            row.enrolled,
        )


@dataclass(frozen=True, slots=True)
class PhotoOut:
    __pydantic_config__: ClassVar[Any] = _example(
        id=20,
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        width_px=4000,
        height_px=3000,
        taken_at="2024-05-01T12:30:00",
        paths=["/home/ada/Photos/party.jpg"],
        faces=2,
    )
    id: int
    sha256: str
    width_px: int
    height_px: int
    taken_at: Annotated[datetime | None, Body(description="The camera's local time, without a zone.")]
    paths: Annotated[list[str], Body(description="Its copies on the server; what is not printable, as its escape.")]
    faces: int

    @classmethod
    def of(cls, row: PhotoRow) -> "PhotoOut":
        """From the gallery's row."""
        paths = [printable(path) for path in row.paths]
        return cls(row.id, row.sha256, row.width_px, row.height_px, row.taken_at, paths, row.faces)


@dataclass(frozen=True, slots=True)
class PhotoPage:
    photos: list[PhotoOut]
    next: Annotated[int | None, Body(description="`after` of the next page; null: this is the last.")]


@dataclass(frozen=True, slots=True)
class Found:
    """A face of a photo, and who it is."""

    __pydantic_config__: ClassVar[Any] = _example(
        box_xyxy_px=[102.0, 80.5, 180.0, 190.0],
        score=0.97,
        quality=0.99,
        person=3,
        name="Ada",
        probability=0.998,
        false_match_rate=0.00001,
    )
    box_xyxy_px: Box
    score: float
    quality: float
    person: Annotated[int | None, Body(description="null: nobody that has a name.")]
    name: str | None
    probability: Probability
    false_match_rate: Rate

    @classmethod
    def of(cls, one: Identified) -> "Found":
        """From the system's answer."""
        detection = one.face.detection
        return cls(
            _box(detection.box_xyxy_px),
            detection.score,
            one.face.quality,
            one.person_id,
            one.person,
            one.probability,
            one.false_match_rate,
        )


@dataclass(frozen=True, slots=True)
class VerifiedOut:
    """Whether two photos show one person, by the largest face of each."""

    __pydantic_config__: ClassVar[Any] = _example(
        same=True,
        probability=0.998,
        false_match_rate=0.00001,
        boxes_xyxy_px=[[102.0, 80.5, 180.0, 190.0], [40.0, 52.5, 98.0, 121.0]],
    )
    same: bool
    probability: float
    false_match_rate: float
    boxes_xyxy_px: tuple[Box, Box]

    @classmethod
    def of(cls, answer: Verified) -> "VerifiedOut":
        """From the system's answer."""
        first, second = (_box(face.detection.box_xyxy_px) for face in answer.faces)
        return cls(answer.same, answer.probability, answer.false_match_rate, (first, second))


@dataclass(frozen=True, slots=True)
class HitOut:
    """A face of the gallery that resembles the one searched."""

    face: FaceOut
    probability: float
    false_match_rate: float

    @classmethod
    def of(cls, hit: Hit) -> "HitOut":
        """From the system's answer."""
        return cls(FaceOut.of(hit.face), hit.probability, hit.false_match_rate)


@dataclass(frozen=True, slots=True)
class Enrolled:
    __pydantic_config__: ClassVar[Any] = _example(person=3, name="Ada", faces=12)
    person: int
    name: str
    faces: Annotated[int, Body(description="All that the person has now.")]


@dataclass(frozen=True, slots=True)
class Forgotten:
    __pydantic_config__: ClassVar[Any] = _example(faces=12)
    faces: int


@dataclass(frozen=True, slots=True)
class Clustered:
    __pydantic_config__: ClassVar[Any] = _example(people=5, new=1, placed=9, alone=4)
    people: int
    new: int
    placed: Annotated[int, Body(description="Faces that got a person, or another one.")]
    alone: Annotated[int, Body(description="Faces that belong to nobody.")]


@dataclass(frozen=True, slots=True)
class ImportedOut:
    __pydantic_config__: ClassVar[Any] = _example(photos=20, faces=31, people=5)
    photos: int
    faces: int
    people: int


@dataclass(frozen=True, slots=True)
class JobOut:
    __pydantic_config__: ClassVar[Any] = _example(
        id=1,
        folder="/home/ada/Photos",
        prune=False,
        state="running",
        created_at="2026-05-01T12:30:00+00:00",
        done=120,
        total=300,
        added=0,
        changed=0,
        removed=0,
        faces=0,
        skipped=0,
        error=None,
    )
    id: int
    folder: str
    prune: bool
    state: JobState
    created_at: Annotated[str, Body(description="In UTC.")]
    done: Annotated[int, Body(description="Files looked at.")]
    total: Annotated[int | None, Body(description="Files to look at; null: not known yet.")]
    added: Annotated[int, Body(description="Photos; this and what follows is told when the job is done.")]
    changed: int
    removed: int
    faces: int
    skipped: int
    error: str | None


def _box(values: Iterable[Any]) -> Box:
    left, top, right, bottom = (round(float(value), 2) for value in values)
    return left, top, right, bottom
