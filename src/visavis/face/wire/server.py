"""The server itself: how it is set up, what is uploaded to it to stay, what it watches."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from visavis.face.wire.base import SHA256, SKIPPED, described
from visavis.face.wire.jobs import Skipped

__all__ = [
    "Happening",
    "Known",
    "Model",
    "Models",
    "Server",
    "SkippedPage",
    "Source",
    "Stream",
    "StreamState",
    "Streams",
    "TokenInfo",
    "Uploaded",
    "UploadedPhoto",
    "Visit",
]

Scope = Literal["read", "write", "admin"]
StreamState = Literal["starting", "running", "lost", "ended", "stopped", "failed"]
MODEL = {"name": "yunet", "licence": "MIT", "licence_url": "", "research_only": False}
UPLOADED = {"state": "stored", "sha256": SHA256, "reason": None}
SOURCE = {"name": "door", "kind": "rtsp"}
STREAM = {
    "id": 1,
    "name": "door",
    "live": True,
    "state": "running",
    "started_at": "2026-05-01T12:30:00+00:00",
    "time_s": 12.5,
    "frames": 310,
    "error": None,
}


# How it is set up


@dataclass(frozen=True, slots=True)
class Server:
    """What a server takes, and which folders it may read."""

    __pydantic_config__: ClassVar[Any] = described(
        roots=["/home/ada/Photos"], upload_bytes=33_554_432, upload_pixels=50_000_000
    )
    roots: list[str]
    """Folders that may be indexed."""
    upload_bytes: int
    """The most of one photo."""
    upload_pixels: int
    """The most of one photo."""


@dataclass(frozen=True, slots=True)
class Model:
    __pydantic_config__: ClassVar[Any] = described(**MODEL)
    name: str
    licence: str
    """By its SPDX name where there is one."""
    licence_url: str
    research_only: bool


@dataclass(frozen=True, slots=True)
class Models:
    """The models at work."""

    __pydantic_config__: ClassVar[Any] = described(
        pack="default",
        detector=MODEL,
        embedder={**MODEL, "name": "my-embedder", "licence": "Apache-2.0"},
        measured_on="6,000 pairs",
    )
    pack: str
    detector: Model
    embedder: Model
    measured_on: str
    """What rates and probabilities were measured on."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Who may do what; its secret is kept nowhere."""

    __pydantic_config__: ClassVar[Any] = described(
        name="phone", scope="read", created_at="2026-05-01T12:30:00+00:00", expires_at=None
    )
    name: str
    scope: Scope
    created_at: str
    """In UTC."""
    expires_at: str | None
    """In UTC; null: never."""


@dataclass(frozen=True, slots=True)
class SkippedPage:
    """A page of files that could not be read as photos."""

    __pydantic_config__: ClassVar[Any] = described(files=[SKIPPED], total=1)
    files: list[Skipped]
    total: int
    """All of them, not only those of this page."""


# What is uploaded to stay


@dataclass(frozen=True, slots=True)
class Known:
    """Photos that the gallery has already."""

    __pydantic_config__: ClassVar[Any] = described(known=[SHA256])
    known: list[str]
    """The SHA-256 of each."""


@dataclass(frozen=True, slots=True)
class UploadedPhoto:
    """What became of one upload."""

    __pydantic_config__: ClassVar[Any] = described(**UPLOADED)
    state: Literal["stored", "known", "refused"]
    """known: the gallery has it already."""
    sha256: str | None
    """Of its content; null: refused."""
    reason: str | None
    """Why it is refused."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of the uploads of one request."""

    __pydantic_config__: ClassVar[Any] = described(photos=[UPLOADED], job=3)
    photos: list[UploadedPhoto]
    """In the order they were sent."""
    job: int | None
    """The index job that takes them in; null: there is nothing new."""


# What it watches


@dataclass(frozen=True, slots=True)
class Source:
    """What may be watched by its name."""

    __pydantic_config__: ClassVar[Any] = described(**SOURCE)
    name: str
    kind: Literal["file", "camera", "rtsp"]


@dataclass(frozen=True, slots=True)
class Stream:
    """A source that is watched, or was."""

    __pydantic_config__: ClassVar[Any] = described(**STREAM)
    id: int
    name: str
    live: bool
    state: StreamState
    """lost: cannot be reached now, and is tried again."""
    started_at: str
    """In UTC."""
    time_s: float = 0.0
    """Of the video, how far it is."""
    frames: int = 0
    """Looked at."""
    error: str | None = None

    @property
    def over(self) -> bool:
        return self.state in ("ended", "stopped", "failed")


@dataclass(frozen=True, slots=True)
class Streams:
    """What may be watched, and what is."""

    __pydantic_config__: ClassVar[Any] = described(sources=[SOURCE], streams=[STREAM])
    sources: list[Source]
    """What may be started by name; addresses are not told."""
    streams: list[Stream]
    """The newest first; those that have ended for a while, too."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody seen, from when to when."""

    __pydantic_config__: ClassVar[Any] = described(
        id=9,
        stream=1,
        track=3,
        present=False,
        from_s=2.0,
        until_s=9.5,
        began_at="2026-05-01T12:30:02+00:00",
        last_at="2026-05-01T12:30:09+00:00",
        person=3,
        name="Ada",
        probability=0.998,
        false_match_rate=0.00001,
        has_picture=True,
    )
    id: int
    stream: int
    track: int
    """The person's number in the stream; who soon comes back keeps it."""
    present: bool
    from_s: float
    """Of the video."""
    until_s: float
    began_at: str | None
    """In UTC; null: the source is no live one."""
    last_at: str | None
    person: int | None
    """null: nobody that has a name."""
    name: str | None
    probability: float | None
    """That it is that person; see identify."""
    false_match_rate: float | None
    """How often a stranger, of all who walk by, would come as near at any look."""
    has_picture: bool


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened in a stream: a visit as it was then, or the stream itself in another state."""

    event: str
    """appeared, identified or left, of a visit; or stream."""
    visit: Visit | None
    stream: Stream | None
