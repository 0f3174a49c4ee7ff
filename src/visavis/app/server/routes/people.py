"""People: who there is, who is alike, and what a user says about them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from visavis.app.server.access import Admin, Reader, Serving, Writer
from visavis.app.server.bodies import MAX_ID, FacesIn, NameIn, OthersIn
from visavis.app.server.errors import not_found
from visavis.app.server.guard import Client
from visavis.app.server.likeness import Alike
from visavis.app.server.service import Service
from visavis.face.wire import Face, Forgotten, Hit, Likely, People, Person

__all__ = [
    "doubtful_faces",
    "faces_of_person",
    "forget_person",
    "get_person",
    "give_faces",
    "list_people",
    "merge_people",
    "name_person",
    "router",
    "separate_people",
    "similar_people",
    "split_person",
    "to_likely",
]

CHANGE = "Visavis-Change"

router = APIRouter(prefix="/people", tags=["people"])
PersonId = Annotated[int, Path(ge=1, le=MAX_ID)]


def _undoable(status: int = 200) -> dict[int | str, dict[str, Any]]:
    """How an answer that can be undone is described."""
    schema = {"type": "integer"}
    return {status: {"headers": {CHANGE: {"description": "Undone by `POST changes/{change}/undo`.", "schema": schema}}}}


@router.get("")
def list_people(
    _client: Reader,
    service: Serving,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    named: Annotated[bool | None, Query(description="Only those with a name, or only those without.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only those whose name holds this text.")] = None,
) -> People:
    """Everyone, those with most faces first."""
    rows = service.gallery.people()
    if named is not None:
        rows = [row for row in rows if (row.name is not None) == named]
    if name:
        text = name.casefold()
        rows = [row for row in rows if row.name is not None and text in row.name.casefold()]
    return People([Person.of(row) for row in rows[offset : offset + limit]], len(rows))


@router.get("/{person}")
def get_person(_client: Reader, service: Serving, person: PersonId) -> Person:
    """One person."""
    return _person(service, person)


@router.get("/{person}/faces")
def faces_of_person(_client: Reader, service: Serving, person: PersonId) -> list[Face]:
    """A person's faces, the best first."""
    _expect_people(service, [person])
    rows = sorted(service.gallery.faces(person=person), key=lambda row: -row.quality)
    return [Face.of(row) for row in rows]


@router.get("/{person}/alike")
def similar_people(
    client: Reader, service: Serving, person: PersonId, k: Annotated[int, Query(ge=1, le=100)] = 10
) -> list[Likely]:
    """Who looks most like a person, and so may be the same; without those known to be someone else."""
    rows = service.gallery.people()
    if person not in {row.id for row in rows}:
        raise not_found("person", person)
    found = service.likeness.alike([person], [row.id for row in rows if row.id != person], k)[person]
    people = {row.id: Person.of(row) for row in rows}
    service.audit.note(client.name, "alike", [person, *(one.id for one in found)])
    return to_likely(found, people)


@router.get("/{person}/doubts")
def doubtful_faces(
    _client: Reader, service: Serving, person: PersonId, k: Annotated[int, Query(ge=1, le=1000)] = 20
) -> list[Hit]:
    """Faces of which it is least sure that they are the person's: the least like the others, the least first."""
    _expect_people(service, [person])
    found = service.likeness.doubts(person, k)
    rows = {row.id: row for row in service.gallery.faces(ids=[one.id for one in found])}
    return [Hit(Face.of(rows[one.id]), one.probability, one.false_match_rate) for one in found if one.id in rows]


@router.patch("/{person}", responses=_undoable())
def name_person(client: Writer, service: Serving, response: Response, person: PersonId, body: NameIn) -> Person:
    """Give a person a name, and so confirm the faces sorted to it."""
    _expect_people(service, [person])
    _change(client, service, response, "name", [person], lambda: service.gallery.name(person, body.name))
    return _person(service, person)


@router.post("/{person}/merge", responses=_undoable())
def merge_people(client: Writer, service: Serving, response: Response, person: PersonId, body: OthersIn) -> Person:
    """Make one person of several; sorting never undoes it."""
    people = [person, *body.others]
    _expect_people(service, people)
    _change(client, service, response, "merge", people, lambda: service.gallery.merge(person, body.others))
    return _person(service, person)


@router.post("/{person}/separate", responses=_undoable())
def separate_people(client: Writer, service: Serving, response: Response, person: PersonId, body: OthersIn) -> Person:
    """Say that others are not this person; sorting never joins them."""
    people = [person, *body.others]
    _expect_people(service, people)

    def separate() -> None:
        for other in body.others:
            service.gallery.separate(person, other)

    _change(client, service, response, "separate", people, separate)
    return _person(service, person)


@router.post("/{person}/faces", responses=_undoable())
def give_faces(client: Writer, service: Serving, response: Response, person: PersonId, body: FacesIn) -> Person:
    """Say that faces are this person's, whoever they were sorted to; sorting never undoes it."""
    _expect_people(service, [person])
    before = _owners(service, body.faces)

    def give() -> None:
        service.gallery.assign(body.faces, person, pinned=True)

    _change(client, service, response, "assign", [person, *before], give, faces=body.faces)
    return _person(service, person)


@router.post("/split", status_code=201, responses=_undoable(201))
def split_person(client: Writer, service: Serving, response: Response, body: FacesIn) -> Person:
    """Make another person of some of a person's faces; sorting never undoes it. Returns the new one."""
    before = _owners(service, body.faces)
    new = 0

    def split() -> int:
        nonlocal new
        new = service.gallery.split(body.faces)
        return new

    _change(client, service, response, "split", before, split)
    return _person(service, new)


@router.delete("/{person}")
def forget_person(
    client: Admin,
    service: Serving,
    person: PersonId,
    uploads: Annotated[bool, Query(description="Delete uploaded photos, too, that show nobody else.")] = False,
) -> Forgotten:
    """Delete all that is held of a person, down to the bytes on disk: faces, embeddings, pictures, name, log entries.

    Afterwards all files of the gallery are looked through for what may be left, and the answer tells how many bytes
    that was and what was found. Photos stay, but for uploads when told; indexing them again does not bring the faces
    back.
    """
    _expect_people(service, [person])
    proof = service.forget(person, uploads=uploads)
    service.audit.note(client.name, "forget")
    return Forgotten.of(proof)


def to_likely(found: Sequence[Alike], people: dict[int, Person]) -> list[Likely]:
    """As records, without those who have gone meanwhile."""
    return [Likely(people[one.id], one.probability, one.false_match_rate) for one in found if one.id in people]


def _change(
    client: Client,
    service: Service,
    response: Response,
    action: str,
    people: Sequence[int],
    change: Callable[[], int | None],
    *,
    faces: Sequence[int] = (),
) -> None:
    """Change something, tell how to undo it, and log it."""
    response.headers[CHANGE] = str(service.changes.make(people, change, faces=faces))
    service.audit.note(client.name, action, people)


def _person(service: Service, person: int) -> Person:
    found = service.gallery.people(ids=[person])
    if not found:
        raise not_found("person", person)
    return Person.of(found[0])


def _expect_people(service: Service, people: Sequence[int]) -> None:
    known = {row.id for row in service.gallery.people(ids=people)}
    for person in people:
        if person not in known:
            raise not_found("person", person)


def _owners(service: Service, faces: Sequence[int]) -> list[int]:
    """Whose faces they are."""
    rows = service.gallery.faces(ids=faces)
    known = {row.id for row in rows}
    for face in faces:
        if face not in known:
            raise not_found("face", face)
    return sorted({row.person_id for row in rows if row.person_id is not None})
