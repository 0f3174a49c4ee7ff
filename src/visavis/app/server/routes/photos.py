"""Photos and faces: what the gallery knows, and the pictures of faces it keeps."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from visavis.app.server.access import Reader, Serving
from visavis.app.server.bodies import MAX_ID
from visavis.app.server.errors import not_found
from visavis.app.server.service import Service
from visavis.face.wire import Face, Photo, PhotoPage

__all__ = ["faces_of_photo", "get_face", "get_photo", "get_thumbnail", "list_photos", "router"]

router = APIRouter(tags=["photos"])
PhotoId = Annotated[int, Path(ge=1, le=MAX_ID)]
FaceId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("/photos")
def list_photos(
    _client: Reader,
    service: Serving,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PhotoPage:
    """The photos, a page at a time, in the order they came in."""
    rows = service.gallery.photos(after=after, limit=limit + 1)
    page = rows[:limit]
    return PhotoPage([Photo.of(row) for row in page], page[-1].id if len(rows) > limit else None)


@router.get("/photos/{photo}")
def get_photo(_client: Reader, service: Serving, photo: PhotoId) -> Photo:
    """One photo."""
    return _photo(service, photo)


@router.get("/photos/{photo}/faces")
def faces_of_photo(_client: Reader, service: Serving, photo: PhotoId) -> list[Face]:
    """The faces in a photo."""
    _photo(service, photo)
    return [Face.of(row) for row in service.gallery.faces(photo=photo)]


@router.get("/faces/{face}")
def get_face(_client: Reader, service: Serving, face: FaceId) -> Face:
    """One face."""
    found = service.gallery.faces(ids=[face])
    if not found:
        raise not_found("face", face)
    return Face.of(found[0])


@router.get(
    "/faces/{face}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_thumbnail(client: Reader, service: Serving, face: FaceId) -> Response:
    """A face's picture, with some surroundings."""
    get_face(client, service, face)
    return Response(service.gallery.thumbnail(face), media_type="image/jpeg")


def _photo(service: Service, photo: int) -> Photo:
    found = service.gallery.photos(ids=[photo])
    if not found:
        raise not_found("photo", photo)
    return Photo.of(found[0])
