"""What a page of photos is made of: which there are, by time, and their pictures in the sizes pages need."""

from itertools import groupby
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from visavis.app.server.access import DecodingTurn, Reader, Serving
from visavis.app.server.bodies import MAX_ID
from visavis.app.server.errors import not_found
from visavis.app.server.pictures import Pictures
from visavis.face.wire import Month

__all__ = ["get_picture", "get_timeline", "router"]

router = APIRouter(tags=["photos"])


def _pictures(request: Request) -> Pictures:
    pictures: Pictures = request.app.state.pictures
    return pictures


@router.get("/timeline")
def get_timeline(_client: Reader, service: Serving) -> list[Month]:
    """Every photo that has a file, by the month it was taken in: all that a page needs to lay out its grid."""
    by_month = groupby(service.gallery.timeline(), key=lambda row: row[1])
    return [Month(month, [photo for photo, _ in rows]) for month, rows in by_month]


@router.get(
    "/photos/{photo}/picture",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The picture that the client has."},
    },
)
def get_picture(
    _client: Reader,
    service: Serving,
    pictures: Annotated[Pictures, Depends(_pictures)],
    photo: Annotated[int, Path(ge=1, le=MAX_ID)],
    _turn: DecodingTurn,
    px: Annotated[Literal["320", "640", "1600"], Query(description="The most of its longer side.")] = "640",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A photo as a JPEG, upright, made smaller. Browsers may keep it and ask each time whether they still may."""
    rows = service.gallery.photos(ids=[photo])
    if not rows:
        raise not_found("photo", photo)
    headers = {"ETag": f'"{rows[0].sha256[:32]}-{px}"', "Cache-Control": "private, no-cache"}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(pictures.jpeg(rows[0], int(px)), media_type="image/jpeg", headers=headers)
