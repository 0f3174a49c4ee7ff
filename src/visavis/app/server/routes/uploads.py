"""Photos that are uploaded to stay in the gallery."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Depends, File, Request, UploadFile

from visavis.app.server.access import DecodingTurn, Reader, Serving, Writer
from visavis.app.server.uploads import Uploads

__all__ = ["KnownIn", "KnownOut", "UploadOut", "UploadedOut", "known_photos", "router", "upload_photos"]

router = APIRouter(prefix="/photos", tags=["photos"])
MOST = 100  # photos of one request
SHA256 = "^[0-9a-f]{64}$"
EXAMPLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def _example(**values: Any) -> dict[str, Any]:
    return {"extra": "forbid", "json_schema_extra": {"examples": [values]}}


@dataclass(frozen=True, slots=True)
class KnownIn:
    __pydantic_config__: ClassVar[Any] = _example(sha256=[EXAMPLE])
    sha256: Annotated[list[Annotated[str, Body(pattern=SHA256)]], Body(max_length=10_000)]


@dataclass(frozen=True, slots=True)
class KnownOut:
    __pydantic_config__: ClassVar[Any] = _example(known=[EXAMPLE])
    known: list[str]


@dataclass(frozen=True, slots=True)
class UploadOut:
    __pydantic_config__: ClassVar[Any] = _example(state="stored", sha256=EXAMPLE, reason=None)
    state: Annotated[Literal["stored", "known", "refused"], Body(description="known: the gallery has it already.")]
    sha256: Annotated[str | None, Body(description="Of its content; null: refused.")]
    reason: Annotated[str | None, Body(description="Why it is refused.")]


@dataclass(frozen=True, slots=True)
class UploadedOut:
    __pydantic_config__: ClassVar[Any] = _example(
        photos=[{"state": "stored", "sha256": EXAMPLE, "reason": None}],
        job=3,
    )
    photos: Annotated[list[UploadOut], Body(description="In the order they were sent.")]
    job: Annotated[int | None, Body(description="The index job that takes them in; null: there is nothing new.")]


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


Uploading = Annotated[Uploads, Depends(_uploads)]


@router.post("/known")
def known_photos(_client: Reader, uploads: Uploading, body: KnownIn) -> KnownOut:
    """Which of some photos the gallery has, so that they need not be sent."""
    return KnownOut(uploads.known(body.sha256))


@router.post("", status_code=201)
def upload_photos(
    client: Writer,
    service: Serving,
    uploads: Uploading,
    photos: Annotated[list[UploadFile], File(max_length=MOST)],
    _turn: DecodingTurn,
) -> UploadedOut:
    """Keep photos beside the gallery and have them indexed. Their names are not looked at: the content names them."""
    taken = [uploads.take(photo.file.read(uploads.most_bytes + 1)) for photo in photos]
    job = uploads.index().id if any(one.state == "stored" for one in taken) else None
    service.audit.note(client.name, "upload")
    return UploadedOut([UploadOut(one.state, one.sha256, one.reason) for one in taken], job)
