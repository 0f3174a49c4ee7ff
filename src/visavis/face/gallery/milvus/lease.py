"""One writer at a time on a server without transactions.

Milvus compares and exchanges nothing but the names of collections: of several that rename one, one succeeds. So an
empty collection holds the lock in its name: the number of the turn (the fence), how often it was renewed, whose change
is still to be finished, the server's time of the last write, the next ids, and who has the turn. Taking, renewing and
giving back the turn are renamings, and so is taking ids, which therefore are never given twice, whatever clocks do.

Who sees the name unchanged for `LEASE_S` on a clock of its own takes the turn from a holder that must have died. A
holder renews it several times meanwhile, and writes nothing when it could not; every write is given less time than the
turn has left. What remains is a holder that is stopped for longer than that between its look at the clock and the
call: such a write may come late. It then writes rows of its own ids, or an older state of others'; see docs/store.md.
"""

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from visavis.errors import GalleryError
from visavis.face.gallery.milvus.tables import Server

__all__ = ["LEASE_S", "WAIT_S", "Lease", "State"]

LEASE_S = 10.0  # without a sign of life until others take the turn
WAIT_S = 30.0  # for a turn, beside the lease of one who died
USABLE = 0.7  # of the lease, until a holder that could not renew it stops
RENEW = 0.2  # of the lease, between renewals
POLL_S = 0.02
FREE = "free"


class State(NamedTuple):
    """What the lock's name tells."""

    epoch: int  # the number of the turn
    beat: int  # renewals within it
    behind: int  # the turn whose holder died and whose change is not yet finished or undone; 0: none
    seen: int  # the server's time of the last write of a turn that was given back
    photo: int  # the next ids
    face: int
    person: int
    owner: str


class Lease:
    """The lock of one gallery, for one process; see the module.

    Args:
        server: where it is.
        prefix: of the gallery's tables.
        now: seconds on a clock that also runs while the computer sleeps.
    """

    def __init__(self, server: Server, prefix: str, *, now: Callable[[], float] | None = None) -> None:
        self._server, self._prefix = server, f"{prefix}_lock_"
        self._now = now or _clock
        self._me = secrets.token_hex(6)
        self._guard = threading.Lock()  # of the fields below: a thread renews
        self._state: State | None = None  # while the turn is ours
        self._renewed_at = 0.0
        self._given_up = threading.Event()
        self._renewer: threading.Thread | None = None

    @property
    def state(self) -> State:
        """Of the turn, which is ours."""
        assert self._state is not None
        return self._state

    def create(self) -> None:
        """Make the lock of a new gallery."""
        self._server.create_empty(self._name(State(0, 0, 0, 0, 1, 1, 1, FREE)))

    def drop(self) -> None:
        """Delete the lock."""
        self._server.drop(self._name(self.peek()))

    def peek(self) -> State:
        """What the lock tells now.

        Raises:
            GalleryError: there is none.
        """
        for name in self._server.names():
            if name.startswith(self._prefix):
                *texts, owner = name.removeprefix(self._prefix).split("_")
                epoch, beat, behind, seen, photo, face, person = map(int, texts)
                return State(epoch, beat, behind, seen, photo, face, person, owner)
        raise GalleryError(f"{self._server.address.place}: expected a gallery whole, found no lock; it may be damaged")

    def acquire(self) -> int | None:
        """Wait for the turn; returns the number of a turn whose holder died, where there was one.

        Raises:
            GalleryError: others had it all the time.
        """
        last, changed_at = None, self._now()
        until = changed_at + WAIT_S + LEASE_S
        while self._now() < until:
            state, started_at = self.peek(), self._now()
            if state != last:
                last, changed_at = state, started_at
            free = state.owner == FREE
            if free or started_at - changed_at > LEASE_S:
                behind = 0 if free else state.behind or state.epoch  # also of one who died over finishing another's
                mine = state._replace(epoch=state.epoch + 1, beat=0, behind=behind, owner=self._me)
                started_at = self._now()
                if self._server.rename(self._name(state), self._name(mine)):
                    self._hold(mine, started_at)
                    return behind or None
            time.sleep(random.uniform(POLL_S, 3 * POLL_S))  # noqa: S311  so that two do not keep step
        raise GalleryError(f"{self._server.address.place}: others are writing for longer than we wait; try again")

    def take(self, *, photo: int, face: int, person: int) -> None:
        """Renew the turn, and make these the next ids, for good."""
        self._renew(photo=photo, face=face, person=person)

    def caught_up(self) -> None:
        """What the dead had begun is finished."""
        with self._guard:
            behind = self.state.behind
        if behind:
            self._renew(behind=0)

    def left_s(self) -> float:
        """How long a write may take.

        Raises:
            GalleryError: the turn may be another's by now.
        """
        left = self._renewed_at + USABLE * LEASE_S - self._now()
        if self._state is None or left <= 0:
            raise GalleryError(
                f"{self._server.address.place}: expected to keep the turn to write, but the server was out of reach or "
                "this process stopped for too long; the change is done whole or not at all by whoever writes next"
            )
        return left

    def release(self, written: int) -> None:
        """Give back the turn; `written`: the server's time of the last write, 0: there was none."""
        self._end_renewing()
        with self._guard:
            state, self._state = self.state, None
        free = state._replace(seen=max(state.seen, written), owner=FREE)
        with contextlib.suppress(GalleryError):  # all is written; others wait a little longer
            self._server.rename(self._name(state), self._name(free))

    def abandon(self) -> None:
        """Leave a change half done to whoever takes the turn next."""
        self._end_renewing()
        with self._guard:
            self._state = None

    def _hold(self, state: State, started_at: float) -> None:
        with self._guard:
            self._state, self._renewed_at = state, started_at
        self._given_up.clear()
        self._renewer = threading.Thread(target=self._keep, daemon=True)
        self._renewer.start()

    def _keep(self) -> None:
        while not self._given_up.wait(RENEW * LEASE_S):
            try:
                self._renew()
            except GalleryError:
                return  # the next write will tell

    def _renew(self, **changed: int) -> None:
        with self._guard:
            if self._state is None:
                return
            started_at = self._now()
            fields = self._state._asdict() | changed | {"beat": self._state.beat + 1}
            renewed = State(**fields)
            if not self._server.rename(self._name(self._state), self._name(renewed)):
                self._renewed_at = -LEASE_S
                raise GalleryError(
                    f"{self._server.address.place}: expected to have the turn to write, but another has taken it"
                )
            self._state, self._renewed_at = renewed, started_at

    def _end_renewing(self) -> None:
        self._given_up.set()
        if self._renewer is not None:
            self._renewer.join()
            self._renewer = None

    def _name(self, state: State) -> str:
        return self._prefix + "_".join(map(str, state))


def _clock() -> float:
    """Seconds that pass also while the computer sleeps, where the system counts those."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
