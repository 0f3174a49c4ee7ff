"""People: who there is, and what a user says about them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query

from visavis.app.server.access import Admin, Reader, Serving, Writer
from visavis.app.server.bodies import MAX_ID, MergeIn, NameIn, SplitIn
from visavis.app.server.errors import not_found
from visavis.app.server.service import Service
from visavis.face.wire import Face, Forgotten, People, Person

__all__ = [
    "faces_of_person",
    "forget_person",
    "get_person",
    "list_people",
    "merge_people",
    "name_person",
    "router",
    "split_person",
]

router = APIRouter(prefix="/people", tags=["people"])
PersonId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
def list_people(
    _client: Reader,
    service: Serving,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> People:
    """Everyone, those with most faces first."""
    rows = service.gallery.people()
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


@router.patch("/{person}")
def name_person(client: Writer, service: Serving, person: PersonId, body: NameIn) -> Person:
    """Give a person a name, and so confirm the faces sorted to it."""
    _expect_people(service, [person])
    service.gallery.name(person, body.name)
    service.audit.note(client.name, "name", [person])
    return _person(service, person)


@router.post("/{person}/merge")
def merge_people(client: Writer, service: Serving, person: PersonId, body: MergeIn) -> Person:
    """Make one person of several; sorting never undoes it."""
    _expect_people(service, [person, *body.others])
    service.gallery.merge(person, body.others)
    service.audit.note(client.name, "merge", [person, *body.others])
    return _person(service, person)


@router.post("/split", status_code=201)
def split_person(client: Writer, service: Serving, body: SplitIn) -> Person:
    """Make another person of some of a person's faces; sorting never undoes it. Returns the new one."""
    known = {row.id for row in service.gallery.faces(ids=body.faces)}
    for face in body.faces:
        if face not in known:
            raise not_found("face", face)
    new = service.gallery.split(body.faces)
    service.audit.note(client.name, "split", [new])
    return _person(service, new)


@router.delete("/{person}")
def forget_person(client: Admin, service: Serving, person: PersonId) -> Forgotten:
    """Delete all that is held of a person, down to the bytes on disk: faces, embeddings, pictures, name, log entries.

    The photos on disk are not touched, and indexing them again does not bring the faces back.
    """
    _expect_people(service, [person])
    count = service.forget(person)
    service.audit.note(client.name, "forget")
    return Forgotten(count)


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
