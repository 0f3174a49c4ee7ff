"""What happens before a camera, as records and as lines of JSON."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

__all__ = ["Event", "EventKind", "Verdict"]

EventKind = Literal["appeared", "identified", "left"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who somebody before the camera is, after all looks at them so far."""

    person_id: int | None = None  # None: nobody who has a name
    person: str | None = None
    probability: float | None = None  # as `Identified`; None: not looked at yet, or nobody has a name
    false_match_rate: float | None = None  # how often a stranger comes as near to anybody, at any of the looks


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Somebody appeared, was identified, or left.

    Times are in seconds of the video; `began_at` is when that began by the clock, for live sources.
    """

    kind: EventKind
    track: int  # a person's number in this stream, from 1; who soon comes back keeps it
    time_s: float  # of the frame at which it was known
    from_s: float  # since when the person is there
    until_s: float  # when the person was last seen
    verdict: Verdict
    box_xyxy_px: tuple[float, float, float, float]  # where it was last seen
    quality: float | None  # of the best face; None: none was good enough to look at
    thumbnail: bytes  # JPEG of the best face
    began_at: datetime | None

    def to_json(self, *, thumbnail: bool = True) -> dict[str, Any]:
        """Plain values; clock times in UTC, None where the source is no live one."""
        verdict = self.verdict
        value = {
            "event": self.kind,
            "track": self.track,
            "time_s": round(self.time_s, 3),
            "from_s": round(self.from_s, 3),
            "until_s": round(self.until_s, 3),
            "at": self._at(self.time_s),
            "from": self._at(self.from_s),
            "until": self._at(self.until_s),
            "person": verdict.person_id,
            "name": verdict.person,
            "probability": verdict.probability,
            "false_match_rate": verdict.false_match_rate,
            "quality": self.quality,
            "box_xyxy_px": [round(value, 1) for value in self.box_xyxy_px],
        }
        return value | ({"thumbnail_jpeg": b64encode(self.thumbnail).decode()} if thumbnail else {})

    def _at(self, time_s: float) -> str | None:
        if self.began_at is None:
            return None
        return (self.began_at + timedelta(seconds=time_s)).isoformat(timespec="milliseconds")
