"""Who may have photos looked at now: so many at once, the others wait, each client in its turn and none for ever."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException

__all__ = ["Turns"]


class Turns:
    """For one event loop. A client with a hundred requests does not delay the one of another by more than a turn.

    Args:
        at_once: turns at a time.
        waiting: at most; further ones are told to come again.
        patience_s: after so long, too.
    """

    def __init__(self, at_once: int, *, waiting: int = 200, patience_s: float = 30.0) -> None:
        self._at_once, self._most, self._patience_s = at_once, waiting, patience_s
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the client served next first
        self.taken = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def take(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn and have it while the block runs.

        Raises:
            HTTPException: 503, too many wait or this one has waited too long.
        """
        if self.taken < self._at_once:
            self.taken += 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        if self.waiting >= self._most:
            raise self._refusal()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._pass_on()
            elif turn in self._queues.get(client, ()):
                self._queues[client].remove(turn)
                if not self._queues[client]:
                    del self._queues[client]
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise

    def _pass_on(self) -> None:
        while self._queues:
            client, turns = self._queues.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._queues[client] = turns
            if not turn.done():  # else who waited has given up, and not yet left the queue
                turn.set_result(None)
                return
        self.taken -= 1

    def _refusal(self) -> HTTPException:
        self.refused += 1
        return HTTPException(
            503, "server: expected fewer photos to look at, try again in a second", {"Retry-After": "1"}
        )
