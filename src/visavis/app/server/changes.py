"""The last changes of people, kept in memory so that a user can undo them."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from visavis.app.server.errors import not_found
from visavis.face.gallery import Gallery
from visavis.face.gallery.changes import PeopleState, difference

__all__ = ["Changes"]

KEPT = 200


class Changes:
    """Of one gallery. A change has a number that nobody can guess, and that no later run of the server gives again."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._kept: OrderedDict[int, tuple[PeopleState, PeopleState]] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, people: Sequence[int], change: Callable[[], int | None], *, faces: Sequence[int] = ()) -> int:
        """Change something about people, or about faces and whose they are.

        Args:
            people: all that it can touch.
            change: does it, and returns the person it has made, if any.
            faces: that it may move, of whomever.

        Returns:
            The number to undo it by.
        """
        with self._gallery.transaction():
            before = self._gallery.people_state(people, faces=faces)
            new = change()
            after = self._gallery.people_state([*people, *([] if new is None else [new])], faces=faces)
            with self._lock:  # inside, so that who is forgotten later is found here
                number = secrets.randbelow(2**53 - 1) + 1
                self._kept[number] = difference(before, after)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return number

    def undo(self, number: int) -> set[int]:
        """Undo a change; the people who were part of it and exist.

        Raises:
            NotFoundError: it is not known, any more or at all.
            GalleryError: what it has changed was changed again since.
        """
        with self._lock:
            states = self._kept.get(number)
        if states is None:
            raise not_found("change", number)
        self._gallery.restore(*states)
        with self._lock:
            self._kept.pop(number, None)
        return set(states[0].names)

    def forget(self, person: int) -> None:
        """Drop what a person was part of."""
        with self._lock:
            for number, states in list(self._kept.items()):
                if any(person in state.people for state in states):
                    del self._kept[number]
