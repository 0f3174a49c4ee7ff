"""Token buckets: so many requests a second of each client in the long run, and so many at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Buckets"]

MOST = 10_000  # clients remembered; the one longest unseen is forgotten first


class Buckets:
    """A bucket a client, filled by `per_second` up to `burst`; `clock` is in seconds.

    >>> now = [0.0]
    >>> buckets = Buckets(1.0, 2, lambda: now[0])
    >>> [buckets.take("ada") for _ in range(3)]
    [True, True, False]
    >>> now[0] = 1.5
    >>> buckets.take("ada"), buckets.take("ada"), buckets.take("bob")
    (True, False, True)
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when it was
        self._lock = threading.Lock()

    def take(self, client: str) -> bool:
        """Whether the client has one left."""
        now = self._clock()
        with self._lock:
            left, then = self._buckets.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - then) * self._per_second)
            allowed = left >= 1
            self._buckets[client] = (left - allowed, now)
            if len(self._buckets) > MOST:
                self._buckets.popitem(last=False)
        return allowed
