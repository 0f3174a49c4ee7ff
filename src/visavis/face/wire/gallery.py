"""What a gallery holds: people, faces, photos."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from visavis.face.wire.base import COMPARED, FACE, PERSON, PHOTO, Box, box_of, described, text_of

if TYPE_CHECKING:
    from visavis.face.gallery import Counts, FaceRow, PersonRow, PhotoRow

__all__ = ["About", "Face", "Likely", "Month", "People", "Person", "Photo", "PhotoPage", "ReviewPage", "Unknown"]


@dataclass(frozen=True, slots=True)
class About:
    """What a gallery holds."""

    __pydantic_config__: ClassVar[Any] = described(
        version="0.1.0", model="face-reidentification-retail-0095", photos=20, faces=31, people=5, named=1, skipped=0
    )
    version: str
    """Of visavis."""
    model: str
    """Whose embeddings the gallery holds."""
    photos: int
    faces: int
    people: int
    named: int
    skipped: int
    """Files that could not be read as photos."""

    @classmethod
    def of(cls, version: str, model: str, counts: "Counts") -> "About":
        """From what the gallery counts."""
        return cls(version, model, counts.photos, counts.faces, counts.people, counts.named, counts.skipped)


@dataclass(frozen=True, slots=True)
class Person:
    __pydantic_config__: ClassVar[Any] = described(**PERSON)
    id: int
    name: str | None
    """null: people sorted together, without a name yet."""
    faces: int
    best_face: int | None
    """The one of the highest quality."""

    @classmethod
    def of(cls, row: "PersonRow") -> "Person":
        """From the gallery's row."""
        return cls(row.id, row.name, row.faces, row.best_face_id)


@dataclass(frozen=True, slots=True)
class People:
    """A page of people."""

    __pydantic_config__: ClassVar[Any] = described(people=[PERSON], total=1)
    people: list[Person]
    total: int
    """All of them, not only those of this page."""


@dataclass(frozen=True, slots=True)
class Likely:
    """Somebody who may be the same person."""

    __pydantic_config__: ClassVar[Any] = described(person=PERSON, **COMPARED)
    person: Person
    probability: float
    """That it is the same person, each of those compared and nobody being equally likely before."""
    false_match_rate: float
    """How often a stranger comes as near to any of those compared."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """People sorted together who have no name yet, and whose name may be theirs."""

    __pydantic_config__: ClassVar[Any] = described(
        person=PERSON | {"id": 8, "name": None},
        faces=[71, 64],
        likely=[{"person": PERSON, **COMPARED}],
    )
    person: Person
    faces: list[int]
    """The best of them, the best first."""
    likely: list[Likely]
    """Of those named, the most likely first."""


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """People to be named, those with most faces first."""

    __pydantic_config__: ClassVar[Any] = described(unknown=[], next="12-8", total=31)
    unknown: list[Unknown]
    next: str | None
    """`after` of the next page; null: this is the last."""
    total: int
    """All of them, also those before this page."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face of the gallery."""

    __pydantic_config__: ClassVar[Any] = described(**FACE)
    id: int
    photo: int
    path: str | None
    """One of the photo's copies on the server; null: all are gone."""
    box_xyxy_px: Box
    score: float
    """Of the detector, in [0, 1]."""
    quality: float
    """In [0, 1]: the expected share of right matches."""
    person: int | None
    name: str | None
    pinned: bool
    """Placed by a user: sorting leaves it where it is."""
    enrolled: bool

    @classmethod
    def of(cls, row: "FaceRow") -> "Face":
        """From the gallery's row."""
        return cls(
            row.id,
            row.photo_id,
            None if row.path is None else text_of(row.path),
            box_of(row.detection),
            row.detection.score,
            row.quality,
            row.person_id,
            row.person,
            row.pinned,
            row.enrolled,
        )


@dataclass(frozen=True, slots=True)
class Photo:
    __pydantic_config__: ClassVar[Any] = described(**PHOTO)
    id: int
    sha256: str
    """Of the file's bytes, hexadecimal."""
    width_px: int
    """Of the upright photo."""
    height_px: int
    taken_at: datetime | None
    """The camera's local time, without a zone."""
    paths: list[str]
    """Its copies on the server; bytes that are no text stand there as escapes."""
    faces: int

    @classmethod
    def of(cls, row: "PhotoRow") -> "Photo":
        """From the gallery's row."""
        paths = [text_of(path) for path in row.paths]
        return cls(row.id, row.sha256, row.width_px, row.height_px, row.taken_at, paths, row.faces)


@dataclass(frozen=True, slots=True)
class PhotoPage:
    """A page of photos."""

    __pydantic_config__: ClassVar[Any] = described(photos=[PHOTO], next=20)
    photos: list[Photo]
    next: int | None
    """`after` of the next page; null: this is the last."""


@dataclass(frozen=True, slots=True)
class Month:
    """Photos taken in one month."""

    __pydantic_config__: ClassVar[Any] = described(month="2024-05", photos=[20, 7])
    month: str | None
    """YYYY-MM; null: no camera said when."""
    photos: list[int]
    """Ids, the newest first."""
