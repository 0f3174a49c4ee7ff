"""Questions about uploaded photos, and enrolling by them. The photos are looked at and not kept."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Query, UploadFile

from visavis.app.server.access import Reader, Serving, Turn, Writer
from visavis.app.server.service import Service
from visavis.face.wire import Enrolled, Found, Hit, Verified

__all__ = ["enroll", "identify", "router", "search", "verify"]

router = APIRouter(tags=["questions"])
Photo = Annotated[UploadFile, File(description="JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, PNM or JPEG 2000.")]
MaxRate = Annotated[
    float, Query(ge=1e-9, lt=1, description="Say yes only where fewer strangers than this would come as near.")
]
Judged = Annotated[bool, Query(description="Judge each face's liveness, too: a hint, no proof. Takes a while longer.")]


@router.post("/identify")
def identify(
    client: Reader,
    service: Serving,
    photo: Photo,
    _turn: Turn,
    false_match_rate: MaxRate = 1e-3,
    liveness: Judged = False,
) -> list[Found]:
    """Who of the named people is in a photo."""
    found = service.identify(_bytes(service, photo), false_match_rate=false_match_rate, liveness=liveness)
    service.audit.note(client.name, "identify", [one.person_id for one in found if one.person_id is not None])
    return [Found.of(one) for one in found]


@router.post("/verify")
def verify(
    client: Reader,
    service: Serving,
    photo: Photo,
    other: Photo,
    _turn: Turn,
    false_match_rate: MaxRate = 1e-3,
    liveness: Judged = False,
) -> Verified:
    """Whether two photos show the same person: the largest face of each counts."""
    first, second = _bytes(service, photo), _bytes(service, other)
    answer = service.verify(first, second, false_match_rate=false_match_rate, liveness=liveness)
    service.audit.note(client.name, "verify")
    return Verified.of(answer)


@router.post("/search")
def search(
    client: Reader,
    service: Serving,
    photo: Photo,
    _turn: Turn,
    k: Annotated[int, Query(ge=1, le=1000)] = 20,
    face: Annotated[
        int | None, Query(ge=0, le=100_000, description="Which one, counted as `identify` answers; else the largest.")
    ] = None,
) -> list[Hit]:
    """The faces of the gallery most like a face of a photo."""
    hits = service.search(_bytes(service, photo), k=k, face=face)
    service.audit.note(client.name, "search", [hit.face.person_id for hit in hits if hit.face.person_id is not None])
    return [Hit.of(hit) for hit in hits]


@router.post("/enroll", status_code=201)
def enroll(
    client: Writer,
    service: Serving,
    name: Annotated[str, Form(min_length=1, max_length=200, examples=["Ada"])],
    photos: Annotated[
        list[UploadFile],
        File(description="Each with that person's face, alone or clearly largest.", min_length=1, max_length=100),
    ],
    _turn: Turn,
) -> Enrolled:
    """Tell who is in photos; all of them are taken, or none. The faces stay in the gallery, the photos do not."""
    person = service.enroll(name, [_bytes(service, photo) for photo in photos])
    service.audit.note(client.name, "enroll", [person])
    return Enrolled(person, name, sum(row.faces for row in service.gallery.people(ids=[person])))


def _bytes(service: Service, photo: UploadFile) -> bytes:
    """The upload; of one that is too long only enough to tell so."""
    return photo.file.read(service.upload_bytes + 1)
