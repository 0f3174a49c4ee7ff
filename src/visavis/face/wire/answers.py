"""Answers about photos that are not kept, and what they were calibrated on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visavis.face.wire.base import COMPARED, FACE, SEEN, Box, Landmarks, box_of, described, points_of
from visavis.face.wire.gallery import Face

if TYPE_CHECKING:
    from visavis.face import records, system
    from visavis.face.match import Calibration

__all__ = ["CalibrationCurve", "CurvePoint", "Found", "Hit", "Live", "Seen", "Verified"]


@dataclass(frozen=True, slots=True)
class Live:
    """Whether a face was before the camera or on paper or a screen: a hint, no proof of life."""

    __pydantic_config__: ClassVar[Any] = described(score=0.93, live=True)
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

    __pydantic_config__: ClassVar[Any] = described(**SEEN)
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
        return cls(box_of(detection), points_of(detection), detection.score, face.quality, live)


@dataclass(frozen=True, slots=True)
class Found:
    """A face of a photo, and who it is."""

    __pydantic_config__: ClassVar[Any] = described(**SEEN, person=3, name="Ada", **COMPARED)
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
            box_of(detection),
            points_of(detection),
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

    __pydantic_config__: ClassVar[Any] = described(same=True, **COMPARED, faces=[SEEN, SEEN])
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

    __pydantic_config__: ClassVar[Any] = described(face=FACE, **COMPARED)
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

    __pydantic_config__: ClassVar[Any] = described(
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

    __pydantic_config__: ClassVar[Any] = described(
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
