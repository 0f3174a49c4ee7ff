"""Photos that are uploaded to stay in the gallery."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Depends, File, Request, UploadFile

from visavis.app.server.access import DecodingTurn, Reader, Serving, Writer
from visavis.app.server.uploads import Uploads
from visavis.face.wire import Known, Uploaded
from visavis.face.wire.base import SHA256

__all__ = ["KnownIn", "known_photos", "router", "upload_photos"]

router = APIRouter(prefix="/photos", tags=["photos"])
MOST = 100  # photos of one request


@dataclass(frozen=True, slots=True)
class KnownIn:
    __pydantic_config__: ClassVar[Any] = {
        "extra": "forbid",
        "json_schema_extra": {"examples": [{"sha256": [SHA256]}]},
    }
    sha256: Annotated[list[Annotated[str, Body(pattern="^[0-9a-f]{64}$")]], Body(max_length=10_000)]


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


Uploading = Annotated[Uploads, Depends(_uploads)]


@router.post("/known")
def known_photos(_client: Reader, uploads: Uploading, body: KnownIn) -> Known:
    """Which of some photos the gallery has, so that they need not be sent."""
    return Known(uploads.known(body.sha256))


@router.post("", status_code=201)
def upload_photos(
    client: Writer,
    service: Serving,
    uploads: Uploading,
    photos: Annotated[list[UploadFile], File(max_length=MOST)],
    _turn: DecodingTurn,
) -> Uploaded:
    """Keep photos beside the gallery and have them indexed. Their names are not looked at: the content names them."""
    taken = [uploads.take(photo.file.read(uploads.most_bytes + 1)) for photo in photos]
    job = uploads.index().id if any(one.state == "stored" for one in taken) else None
    service.audit.note(client.name, "upload")
    return Uploaded(taken, job)
