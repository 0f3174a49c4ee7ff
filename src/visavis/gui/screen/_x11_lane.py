"""One thread for all that waits for the X server, so that a server which never answers does not stop its caller.

Neither python-xlib nor libxcb gives up waiting; the caller of `Lane.call` does.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from visavis.errors import ScreenError

__all__ = ["Lane"]

T = TypeVar("T")


class Lane:
    """Runs functions one after the other, in a thread of its own, for as long as they show signs of life.

    Args:
        answer_s: how long a function may go without `beat`, in seconds.
    """

    def __init__(self, answer_s: float) -> None:
        self._answer_s = answer_s
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._alive_at = 0.0
        self._stuck = False
        self._thread = threading.Thread(target=self._work, name="visavis-x11", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """The server has just answered."""
        self._alive_at = time.monotonic()

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns, or raises.

        Raises:
            ScreenError: it has shown no sign of life for `answer_s`, now or in an earlier call.
        """
        if self._stuck:
            raise ScreenError("display: expected an answer, got none earlier; open the screen anew", acted=False)
        return self._wait(self._queue(function))

    def close(self, last: Callable[[], None]) -> None:
        """Run `last` and end the thread; when it is stuck, that waits for the server, and this does not."""
        job = self._queue(last)
        self._jobs.put(None)
        if not self._stuck:
            self._wait(job)
            self._thread.join()

    def _queue(self, function: Callable[[], T]) -> Future[T]:
        job: Future[T] = Future()
        self.beat()
        self._jobs.put((function, job))
        return job

    def _wait(self, job: Future[T]) -> T:
        while not wait([job], max(0.0, self._alive_at + self._answer_s - time.monotonic())).done:
            if time.monotonic() >= self._alive_at + self._answer_s:
                self._stuck = True
                raise ScreenError(f"display: expected an answer within {self._answer_s:g} s, got none: it hangs")
        return job.result()

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            function, job = entry
            try:
                job.set_result(function())
            except BaseException as error:
                job.set_exception(error)
            del entry, function, job  # while this waits, it keeps nothing alive
