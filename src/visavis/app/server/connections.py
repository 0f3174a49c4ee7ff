"""Connections that end. uvicorn's own wait as long as a client likes: for a request, and for its answer to be read.

Here the head of a request has its time, and so has a client that does not read. When too many connections are open,
the one that has waited longest for a request makes room: slow ones, however many, keep nobody out.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from visavis.app.server.errors import TYPES, error_body

__all__ = ["Connection"]

HEAD_S = 10.0  # from the connection, or the answer before, to the end of a request's head
UNREAD_S = 30.0  # that a client may leave an answer lying
CLOSING_S = 5.0  # for the rest of the last answer to be taken
MOST = 500  # connections


class Connection(H11Protocol):
    """One connection of a client, for `uvicorn.Config(http=Connection)`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since = self.loop.time()  # when it began to wait for a request
        self._unsent = 0  # bytes of answers, when that was looked at last
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; make room when there are too many connections."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST:
            waiting = [one for one in self.connections if isinstance(one, Connection) and one._is_waiting()]
            min(waiting, key=lambda one: one._since, default=self)._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self._set_timer(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what the client sends; once a request's head is whole, the application waits for the rest."""
        super().data_received(data)
        if not self._is_waiting():
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, also while the client still sends a body that nobody wants any more."""
        super().on_response_complete()  # which may find the next request sent already
        self._watch()

    def pause_writing(self) -> None:
        """The client reads slower than the answer comes."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It has read some."""
        super().resume_writing()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong with a request that is no HTTP, where it can still be said, and hang up."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _is_waiting(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """Say until when what is to come now must have come."""
        self._unsent = self.transport.get_write_buffer_size()
        if self.transport.is_closing():
            self._set_timer(CLOSING_S)
        elif self.flow.write_paused:
            self._set_timer(UNREAD_S)
        elif self._is_waiting():
            self._since = self.loop.time()
            self._set_timer(HEAD_S)
        else:  # the guard and the routes have limits of their own
            self._set_timer(None)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        """Time is up."""
        if self.transport.is_closing() or self.flow.write_paused:
            if self.transport.get_write_buffer_size() < self._unsent:  # it reads, if slowly
                self._watch()
            else:
                self._drop()
        elif self._is_waiting():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"request: expected its head within {HEAD_S:g} s")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if not self._is_waiting() and self.cycle.response_started:  # another answer is under way
            self._drop()
            return
        body = json.dumps(error_body(TYPES.get(status, "RequestError"), message))
        head = (
            f"HTTP/1.1 {status} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "x-content-type-options: nosniff",
            "connection: close",
        )
        self.transport.write("\r\n".join((*head, "", body)).encode())
        if self.cycle is not None:  # what it would still answer goes nowhere
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._watch()

    def _drop(self) -> None:
        self.connections.discard(self)
        self.transport.abort()
