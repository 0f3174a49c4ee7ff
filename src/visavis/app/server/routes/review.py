"""Naming people one after another, and undoing any change of people."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from visavis.app.server.access import Reader, Serving, Writer
from visavis.app.server.routes.people import to_likely
from visavis.face.wire import Person, ReviewPage, Undone, Unknown

__all__ = ["review_people", "router", "undo_change"]

router = APIRouter(tags=["people"])
MOST_LIKELY = 9  # as many as there are digits to choose by


@router.get("/review")
def review_people(
    client: Reader,
    service: Serving,
    after: Annotated[
        str | None, Query(pattern=r"^\d{1,15}-\d{1,15}$", description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ReviewPage:
    """People without a name, those with most faces first, each with the named people who are most alike.

    Changes made meanwhile do not disturb the pages.
    """
    rows = service.gallery.people()
    people = {row.id: Person.of(row) for row in rows}
    named = [row.id for row in rows if row.name is not None]
    nameless = [row for row in rows if row.name is None and row.faces]
    rest = nameless
    if after is not None:
        faces, last = map(int, after.split("-"))
        rest = [row for row in nameless if (-row.faces, row.id) > (-faces, last)]
    page = rest[:limit]
    ids = [row.id for row in page]
    likely, best = service.likeness.alike(ids, named, MOST_LIKELY), service.likeness.best_faces(ids)
    service.audit.note(client.name, "review", ids)
    return ReviewPage(
        [Unknown(people[person], best.get(person, []), to_likely(likely[person], people)) for person in ids],
        f"{page[-1].faces}-{page[-1].id}" if len(rest) > limit else None,
        len(nameless),
    )


@router.post("/changes/{change}/undo")
def undo_change(client: Writer, service: Serving, change: Annotated[int, Path(ge=1, lt=2**53)]) -> Undone:
    """Undo a change of people exactly, while the server that made it runs and nobody has changed the same again."""
    people = service.changes.undo(change)
    service.audit.note(client.name, "undo", people)
    return Undone([Person.of(row) for row in service.gallery.people(ids=sorted(people))])
