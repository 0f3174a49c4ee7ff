"""How a run is stopped and paused from outside, at any moment, and how it waits so that it can be."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from visavis.gui.trace import Reason

__all__ = ["Control", "Stopped", "TimeUp"]

T = TypeVar("T")
POLL_S = 0.2  # how often a wait looks for the file STOP; `stop` itself ends a wait at once


class Stopped(Exception):  # noqa: N818
    """The run is to end now; never leaves the agent."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class TimeUp(Exception):  # noqa: N818
    """The time of the run is used up; never leaves the agent."""


class Control:
    """One run's.

    Args:
        max_seconds: for the whole run; time that it is paused or the user is asked does not count.
        emergency: whether someone asks for a stop by other means.
    """

    def __init__(self, *, max_seconds: float | None = None, emergency: Callable[[], bool] = lambda: False) -> None:
        self._changed = threading.Condition()
        self._stopped: Reason | None = None
        self._paused = False
        self._left = False
        self._began = time.monotonic()
        self._max_seconds = max_seconds
        self._emergency = emergency

    def stop(self) -> None:
        """End the run; from any thread."""
        with self._changed:
            self._stopped = self._stopped or "user"
            self._changed.notify_all()

    def pause(self) -> None:
        """Hold the run before its next look or action; from any thread."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Let it go on; from any thread."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def begin(self, spent: float) -> None:
        """Count the time from now on, and what the run took before if it goes on."""
        self._began = time.monotonic() - spent

    def elapsed(self) -> float:
        """Seconds of the run so far that count."""
        return time.monotonic() - self._began

    def check(self) -> bool:
        """Go on, now or when the run is no longer paused.

        Returns:
            Whether it was paused.

        Raises:
            Stopped: it is to end.
            TimeUp: its time is used up.
        """
        self._wait(0.0, lambda: False)
        if not self._paused:
            return False
        with self._held():
            while self._paused:
                self._wait(POLL_S, lambda: not self._paused, limit=False)
        return True

    def wait(self, seconds: float) -> None:
        """Do nothing for a while.

        Raises:
            Stopped: the run is to end.
            TimeUp: its time is used up.
        """
        self._wait(seconds, lambda: False)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function that may take long, in a thread that is left to itself when the run ends before.

        Raises:
            Stopped: the run is to end.
            TimeUp: its time is used up.
        """
        work = _Work(function, self._changed)
        threading.Thread(target=work.run, daemon=True).start()
        try:
            while not self._wait(3600.0, lambda: work.finished):
                pass
        except BaseException:
            self._left = True
            raise
        return work.result()

    def has_left(self) -> bool:
        """Whether a function was left to itself."""
        return self._left

    def hold(self, function: Callable[[], T]) -> T:
        """Call a function that asks the user; the time that it takes does not count."""
        with self._held():
            return function()

    @contextmanager
    def _held(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - began

    def _wait(self, seconds: float, until: Callable[[], bool], *, limit: bool = True) -> bool:
        end = time.monotonic() + seconds
        with self._changed:
            while True:
                if self._emergency():
                    self._stopped = self._stopped or "emergency"
                if self._stopped:
                    raise Stopped(self._stopped)
                if until():
                    return True
                rest = end - time.monotonic()
                if limit and self._max_seconds is not None:
                    left = self._max_seconds - self.elapsed()
                    if left <= 0:
                        raise TimeUp
                    rest = min(rest, left) if rest > 0 else rest
                if rest <= 0:
                    return False
                self._changed.wait(min(rest, POLL_S))


class _Work(Generic[T]):
    """A call in another thread and what came of it."""

    def __init__(self, function: Callable[[], T], changed: threading.Condition) -> None:
        self._function = function
        self._changed = changed
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.finished = False

    def run(self) -> None:
        try:
            self._value.append(self._function())
        except BaseException as error:  # raised again by `result`, in the thread of the run
            self._error = error
        with self._changed:
            self.finished = True
            self._changed.notify_all()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value[0]
