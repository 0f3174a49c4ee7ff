"""Undoing what a user said about people: the rows that a change has touched, before and after it."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from visavis.errors import GalleryError
from visavis.face.gallery.database import Database
from visavis.face.gallery.rows import json_ids, sweep

__all__ = ["PeopleState", "capture", "difference", "expect_unchanged", "restore"]

_THESE = "IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class PeopleState:
    """Some people and faces at one moment, with all that a user can say about them."""

    names: dict[int, str | None]  # by person, of those who exist
    faces: dict[int, tuple[int | None, bool]]  # by face: its person, and whether it is pinned
    separate: frozenset[tuple[int, int]]  # pairs known to be different, the lower id first

    @property
    def people(self) -> set[int]:
        """Everybody of whom it holds anything."""
        owners = {person for person, _ in self.faces.values() if person is not None}
        return {*self.names, *owners, *(person for pair in self.separate for person in pair)}


def capture(database: Database, people: Iterable[int], faces: Iterable[int]) -> PeopleState:
    """The state of people with all their faces, and of further faces."""
    ids = json_ids(people)
    names = database.rows(f"SELECT id, name FROM person LEFT JOIN name ON person_id = id WHERE id {_THESE}", (ids,))
    rows = database.rows(
        f"SELECT id, person_id, pinned FROM face WHERE person_id {_THESE} OR id {_THESE}", (ids, json_ids(faces))
    )
    pairs = database.rows(
        f"SELECT person_a, person_b FROM separate WHERE person_a {_THESE} OR person_b {_THESE}", (ids, ids)
    )
    return PeopleState(
        dict(names), {face: (person, bool(pinned)) for face, person, pinned in rows}, frozenset(map(tuple, pairs))
    )


def difference(before: PeopleState, after: PeopleState) -> tuple[PeopleState, PeopleState]:
    """Both without the faces and pairs that are the same in both."""
    same = {face for face, where in before.faces.items() if after.faces.get(face) == where}
    both = before.separate & after.separate

    def rest(state: PeopleState) -> PeopleState:
        faces = {face: where for face, where in state.faces.items() if face not in same}
        return PeopleState(state.names, faces, state.separate - both)

    return rest(before), rest(after)


def restore(database: Database, before: PeopleState, after: PeopleState) -> None:
    """Make of `after` what was `before`, inside the caller's transaction. What has gone since stays gone.

    Raises:
        GalleryError: something of it was changed again since.
    """
    made, everyone = after.names.keys() - before.names.keys(), before.names.keys() | after.names.keys()
    names = [name for name in before.names.values() if name is not None]
    taken = database.rows(f"SELECT person_id FROM name WHERE name {_THESE}", (json.dumps(names),))
    now = capture(database, everyone, after.faces)
    expect_unchanged(now, before, after, {person for (person,) in taken})
    database.change_many("INSERT OR IGNORE INTO person VALUES (?)", [(person,) for person in before.names])
    database.change_many("DELETE FROM name WHERE person_id = ?", [(person,) for person in everyone])
    named = [(person, name) for person, name in before.names.items() if name is not None]
    database.change_many("INSERT INTO name VALUES (?, ?)", named)
    database.change_many(
        "UPDATE face SET person_id = ?, pinned = ? WHERE id = ?",
        [(person, int(pinned), face) for face, (person, pinned) in before.faces.items()],
    )
    database.change_many("DELETE FROM separate WHERE person_a = ? AND person_b = ?", after.separate - before.separate)
    database.change_many(
        """INSERT OR IGNORE INTO separate SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM person WHERE id = ?1)
        AND EXISTS (SELECT 1 FROM person WHERE id = ?2)""",
        before.separate - after.separate,
    )
    database.change_many("DELETE FROM person WHERE id = ?", [(person,) for person in made])
    sweep(database, {person for person, _ in before.faces.values()})  # whose faces have all been deleted since


def expect_unchanged(now: PeopleState, before: PeopleState, after: PeopleState, owners: Collection[int]) -> None:
    """Raises GalleryError unless `now` is as `after` was left, and what `before` brings back is still free.

    Args:
        now: of the people of both, and of the faces of `after`.
        before: what is to be brought back.
        after: what was made of it.
        owners: the people who have the names of `before` now.
    """
    made, everyone = after.names.keys() - before.names.keys(), before.names.keys() | after.names.keys()
    moved = [face for face, where in now.faces.items() if after.faces.get(face, where) != where]
    joined = [face for face, (person, _) in now.faces.items() if person in made and face not in after.faces]
    if now.names != after.names or moved or joined or set(owners) - everyone:
        raise GalleryError("undo: expected what was changed to be as it was left, but it was changed again since")
