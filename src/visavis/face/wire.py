"""What the face service answers, at both ends of the wire: plain records, without any library of the web.

The server describes them in its OpenAPI, where the texts below the fields and the examples stand, too. Boxes are (left,
top, right, bottom) in pixels of the upright photo. A comparison is told as a probability and a false-match rate, never
as a cosine, which means something else for every model.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin

if TYPE_CHECKING:
    from visavis.face import records, system
    from visavis.face.gallery import Counts, FaceRow, PersonRow, PhotoRow
    from visavis.face.gallery import Imported as ImportedRows
    from visavis.face.indexing import IndexReport
    from visavis.face.match import Calibration

__all__ = [
    "About",
    "CalibrationCurve",
    "Clustered",
    "CurvePoint",
    "Enrolled",
    "Face",
    "Forgotten",
    "Found",
    "Hit",
    "Imported",
    "Job",
    "JobState",
    "Likely",
    "Live",
    "People",
    "Person",
    "Photo",
    "PhotoPage",
    "ReviewPage",
    "Seen",
    "Skipped",
    "Undone",
    "Unknown",
    "Verified",
    "record",
    "told",
]

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Landmarks = tuple[Point, Point, Point, Point, Point]
SKIPPED_TOLD = 1000  # of a job

JobState = Literal["waiting", "running", "done", "cancelled", "failed", "interrupted"]


def _described(**example: Any) -> dict[str, Any]:
    """How pydantic, which a server has and a client need not have, is to describe a record."""
    return {
        "use_attribute_docstrings": True,
        "json_schema_serialization_defaults_required": True,
        "json_schema_extra": {"examples": [example]},
    }


PERSON = {"id": 3, "name": "Ada", "faces": 12, "best_face": 31}
PHOTO = {
    "id": 20,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
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


# The gallery


@dataclass(frozen=True, slots=True)
class About:
    """What a gallery holds."""

    __pydantic_config__: ClassVar[Any] = _described(
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
    __pydantic_config__: ClassVar[Any] = _described(**PERSON)
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

    __pydantic_config__: ClassVar[Any] = _described(people=[PERSON], total=1)
    people: list[Person]
    total: int
    """All of them, not only those of this page."""


@dataclass(frozen=True, slots=True)
class Likely:
    """Somebody who may be the same person."""

    __pydantic_config__: ClassVar[Any] = _described(person=PERSON, **COMPARED)
    person: Person
    probability: float
    """That it is the same person, each of those compared and nobody being equally likely before."""
    false_match_rate: float
    """How often a stranger comes as near to any of those compared."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """People sorted together who have no name yet, and whose name may be theirs."""

    __pydantic_config__: ClassVar[Any] = _described(
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

    __pydantic_config__: ClassVar[Any] = _described(unknown=[], next="12-8", total=31)
    unknown: list[Unknown]
    next: str | None
    """`after` of the next page; null: this is the last."""
    total: int
    """All of them, also those before this page."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face of the gallery."""

    __pydantic_config__: ClassVar[Any] = _described(**FACE)
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
            None if row.path is None else _text(row.path),
            _box(row.detection),
            row.detection.score,
            row.quality,
            row.person_id,
            row.person,
            row.pinned,
            row.enrolled,
        )


@dataclass(frozen=True, slots=True)
class Photo:
    __pydantic_config__: ClassVar[Any] = _described(**PHOTO)
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
        paths = [_text(path) for path in row.paths]
        return cls(row.id, row.sha256, row.width_px, row.height_px, row.taken_at, paths, row.faces)


@dataclass(frozen=True, slots=True)
class PhotoPage:
    """A page of photos."""

    __pydantic_config__: ClassVar[Any] = _described(photos=[PHOTO], next=20)
    photos: list[Photo]
    next: int | None
    """`after` of the next page; null: this is the last."""


# Answers about uploaded photos


@dataclass(frozen=True, slots=True)
class Live:
    """Whether a face was before the camera or on paper or a screen: a hint, no proof of life."""

    __pydantic_config__: ClassVar[Any] = _described(score=0.93, live=True)
    score: float | None
    """In [0, 1], higher: more like a face before the camera; no probability. null: the face is too small to tell."""
    live: bool | None
    """Whether the score reaches the model's threshold."""

    @classmethod
    def of(cls, live: "records.Live | None") -> "Live | None":
        """From the system's answer, if it was asked."""
        return None if live is None else cls(live.score, live.live)


@dataclass(frozen=True, slots=True)
class Seen:
    """A face of an uploaded photo."""

    __pydantic_config__: ClassVar[Any] = _described(**SEEN)
    box_xyxy_px: Box
    landmarks_xy_px: Landmarks
    """As seen from left to right: eyes, nose tip, corners of the mouth."""
    score: float
    """Of the detector, in [0, 1]."""
    quality: float
    """In [0, 1]: the expected share of right matches."""
    liveness: Live | None = None
    """null: not asked for."""

    @classmethod
    def of(cls, face: "records.Face") -> "Seen":
        """From the system's face."""
        detection, live = face.detection, Live.of(face.liveness)
        return cls(_box(detection), _points(detection), detection.score, face.quality, live)


@dataclass(frozen=True, slots=True)
class Found:
    """A face of a photo, and who it is."""

    __pydantic_config__: ClassVar[Any] = _described(**SEEN, person=3, name="Ada", **COMPARED)
    box_xyxy_px: Box
    landmarks_xy_px: Landmarks
    """As seen from left to right: eyes, nose tip, corners of the mouth."""
    score: float
    """Of the detector, in [0, 1]."""
    quality: float
    """In [0, 1]: the expected share of right matches."""
    person: int | None
    """null: nobody that has a name."""
    name: str | None
    probability: float | None
    """That it is the nearest of those named, each of them and nobody being equally likely before; null: none is."""
    false_match_rate: float | None
    """How often a stranger comes as near to any of those named."""
    liveness: Live | None = None
    """null: not asked for."""

    @classmethod
    def of(cls, one: "system.Identified") -> "Found":
        """From the system's answer."""
        detection = one.face.detection
        return cls(
            _box(detection),
            _points(detection),
            detection.score,
            one.face.quality,
            one.person_id,
            one.person,
            one.probability,
            one.false_match_rate,
            Live.of(one.face.liveness),
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether two photos show one person, by the largest face of each."""

    __pydantic_config__: ClassVar[Any] = _described(same=True, **COMPARED, faces=[SEEN, SEEN])
    same: bool
    probability: float
    """That it is one person, when that is as likely as not before."""
    false_match_rate: float
    """How many pairs of strangers are as similar."""
    faces: tuple[Seen, Seen]

    @classmethod
    def of(cls, answer: "system.Verified") -> "Verified":
        """From the system's answer."""
        first, second = (Seen.of(face) for face in answer.faces)
        return cls(answer.same, answer.probability, answer.false_match_rate, (first, second))


@dataclass(frozen=True, slots=True)
class Hit:
    """A face of the gallery that resembles the one searched."""

    __pydantic_config__: ClassVar[Any] = _described(face=FACE, **COMPARED)
    face: Face
    probability: float
    false_match_rate: float
    """Of one such comparison."""

    @classmethod
    def of(cls, hit: "system.Hit") -> "Hit":
        """From the system's answer."""
        return cls(Face.of(hit.face), hit.probability, hit.false_match_rate)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """How alike two faces can be, by the odds that they are of one person, and how many pairs are so alike."""

    __pydantic_config__: ClassVar[Any] = _described(
        evidence=2.5, probability=0.997, false_match_rate=0.0002, match_rate=0.96, different=0.0001, same=0.03
    )
    evidence: float
    """The decimal logarithm of the odds: 3 is 1000 to 1 for one person, -3 against it."""
    probability: float
    """The same as a probability, when it is as likely as not before."""
    false_match_rate: float
    """Of pairs of different people, the share at least so alike."""
    match_rate: float
    """Of pairs of one person, the share at least so alike."""
    different: float
    """Of pairs of different people, the share between this point and the next."""
    same: float
    """Of pairs of one person, the share between this point and the next."""


@dataclass(frozen=True, slots=True)
class CalibrationCurve:
    """What was measured of the gallery's models on photos of known people."""

    __pydantic_config__: ClassVar[Any] = _described(
        model="face-reidentification-retail-0095", measured_on="3,500 photos of 250 people", points=[]
    )
    model: str
    measured_on: str
    points: list[CurvePoint]
    """From the least alike to the most; none: the models were calibrated before this was kept."""

    @classmethod
    def of(cls, model: str, calibration: "Calibration") -> "CalibrationCurve":
        """From the calibration of a gallery's models."""
        return cls(model, calibration.measured_on, list(_curve(calibration)))


# What changes did


@dataclass(frozen=True, slots=True)
class Undone:
    __pydantic_config__: ClassVar[Any] = _described(people=[PERSON])
    people: list[Person]
    """As they are again."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    __pydantic_config__: ClassVar[Any] = _described(person=3, name="Ada", faces=12)
    person: int
    name: str
    faces: int
    """All that the person has now."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    __pydantic_config__: ClassVar[Any] = _described(faces=12)
    faces: int


@dataclass(frozen=True, slots=True)
class Clustered:
    __pydantic_config__: ClassVar[Any] = _described(people=5, new=1, placed=9, alone=4)
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

    __pydantic_config__: ClassVar[Any] = _described(photos=20, faces=31, people=5)
    photos: int
    faces: int
    people: int

    @classmethod
    def of(cls, added: "ImportedRows") -> "Imported":
        """From the gallery's report."""
        return cls(added.photos, added.faces, added.people)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read as a photo."""

    __pydantic_config__: ClassVar[Any] = _described(**SKIPPED)
    path: str
    reason: str

    @classmethod
    def of(cls, path: Path, reason: str) -> "Skipped":
        """From a report or row of the gallery."""
        return cls(_text(path), reason)


@dataclass(frozen=True, slots=True)
class Job:
    """An index job."""

    __pydantic_config__: ClassVar[Any] = _described(
        id=1,
        folder="/home/ada/Photos",
        prune=False,
        state="done",
        created_at="2026-05-01T12:30:00+00:00",
        done=14,
        total=14,
        added=12,
        changed=1,
        known=0,
        removed=0,
        unchanged=286,
        ignored=0,
        faces=17,
        skipped=1,
        skipped_files=[SKIPPED],
        kept_missing=[],
        error=None,
    )
    id: int
    folder: str
    prune: bool
    state: JobState
    created_at: str
    """In UTC."""
    done: int = 0
    """Files looked at."""
    total: int | None = None
    """Files to look at; null: not known yet."""
    added: int = 0
    """Photos; this and what follows is told when the job is done."""
    changed: int = 0
    """Photos under a path that held another one."""
    known: int = 0
    """Files whose content was known under another path: moved, renamed or copied."""
    removed: int = 0
    """Photos whose last file is gone."""
    unchanged: int = 0
    """Files."""
    ignored: int = 0
    """Files that neither are photos nor are named like one."""
    faces: int = 0
    """New ones."""
    skipped: int = 0
    """Files that could not be read."""
    skipped_files: list[Skipped] = field(default_factory=list)
    """The first thousand of them."""
    kept_missing: list[str] = field(default_factory=list)
    """Folders that held photos and now hold no file at all; their photos stay unless pruned."""
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.state not in ("waiting", "running")


def _curve(calibration: "Calibration") -> Iterator[CurvePoint]:
    pairs = calibration.pairs
    if pairs is None:
        return
    match_rate = 1.0
    for place, similarity in enumerate(map(float, pairs.edges)):
        inside = place < len(pairs.same)
        same, different = (float(shares[place]) if inside else 0.0 for shares in (pairs.same, pairs.different))
        yield CurvePoint(
            round((calibration.slope * similarity + calibration.intercept) / math.log(10), 4),
            calibration.probability(similarity),
            calibration.false_match_rate(similarity),
            round(max(match_rate, 0.0), 7),
            different,
            same,
        )
        match_rate -= same


def record(kind: Any, value: Any) -> Any:
    """A record, or a list of them, from JSON; fields that it has not are passed over.

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


def told(report: "IndexReport") -> dict[str, Any]:
    """What a job tells when it is done."""
    names = ("added", "changed", "known", "removed", "unchanged", "ignored", "faces")
    return {
        **{name: getattr(report, name) for name in names},
        "skipped": len(report.skipped),
        "skipped_files": [Skipped.of(path, reason) for path, reason in report.skipped[:SKIPPED_TOLD]],
        "kept_missing": [_text(path) for path in report.kept_missing],
    }


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind}, got {value!r}")
    return value


def _box(detection: "records.Detection") -> Box:
    left, top, right, bottom = (round(float(value), 2) for value in detection.box_xyxy_px)
    return left, top, right, bottom


def _points(detection: "records.Detection") -> Landmarks:
    first, second, third, fourth, fifth = (
        (round(float(x), 2), round(float(y), 2)) for x, y in detection.landmarks_xy_px
    )
    return first, second, third, fourth, fifth


def _text(path: Path) -> str:
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()
