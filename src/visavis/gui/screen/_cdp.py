"""The DevTools protocol over a websocket: calls that may be pipelined, events, one session for each target."""

import base64
import json
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack
from typing import Any

from visavis.errors import InputError, ScreenError

__all__ = ["Connection", "Listener"]

Listener = Callable[[str | None, dict[str, Any]], None]  # the session an event is of, and its parameters

_CLOSE_S = 1.0


class Connection:
    """A connection to a browser, read by a thread of its own until `close`.

    Listeners run in that thread, in the order of events: they may `send`, and never wait.

    Args:
        address: "ws://...", as the browser says.
        answer_s: how long an answer may take, in seconds.

    Raises:
        ScreenError: nobody answers there.
        InputError: a time that is no number of seconds above 0.
    """

    def __init__(self, address: str, *, answer_s: float = 30.0) -> None:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake
        from websockets.sync.client import connect

        if not 0 < answer_s < math.inf:
            raise InputError(f"answer_s: expected seconds above 0, got {answer_s}")
        self._closed_error = ConnectionClosed
        self._answer_s = answer_s
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[str, Future[dict[str, Any]]]] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._count = 0
        self._gone = False
        self._open = ExitStack()
        try:
            opening = connect(
                address,
                max_size=None,
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=answer_s,
                close_timeout=_CLOSE_S,
            )
            self._socket = self._open.enter_context(opening)
        except (OSError, InvalidHandshake) as error:  # a TimeoutError is an OSError
            raise ScreenError(f"browser: expected an answer at {address}, got {error!r}", acted=False) from error
        self._reader = threading.Thread(target=self._read, name="visavis-cdp", daemon=True)
        self._reader.start()

    def listen(self, event: str, listener: Listener) -> None:
        """Have a function called at each event of a name such as `Page.javascriptDialogOpening`."""
        self._listeners.setdefault(event, []).append(listener)

    @property
    def alive(self) -> bool:
        """Whether the browser is still there."""
        return not self._gone

    def send(self, method: str, *, session: str | None = None, **parameters: Any) -> Future[dict[str, Any]]:
        """Send a call and do not wait.

        Returns:
            What will be its result, or a ScreenError.
        """
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._count += 1
            number = self._count
            if self._gone:
                answer.set_exception(_gone(method))
                return answer
            self._pending[number] = (method, answer)
        message = {"id": number, "method": method, "params": parameters}
        try:
            self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        except self._closed_error:
            self._lose()
        return answer

    def call(
        self, method: str, *, session: str | None = None, timeout_s: float | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Call, and wait for the result for `timeout_s` at most.

        Raises:
            ScreenError: the browser is gone, refuses the call or does not answer in time.
        """
        return self._wait(method, self.send(method, session=session, **parameters), timeout_s)

    def call_all(
        self,
        calls: Iterable[tuple[str, dict[str, Any]]],
        *,
        session: str | None = None,
        timeout_s: float | None = None,
    ) -> list[dict[str, Any]]:
        """Send all calls at once, then wait for every result; errors as `call`."""
        sent = [(method, self.send(method, session=session, **parameters)) for method, parameters in calls]
        return [self._wait(method, answer, timeout_s) for method, answer in sent]

    def evaluate(self, script: str, *, session: str, timeout_s: float | None = None) -> Any:
        """The value of a script in a page, awaited if it is a promise.

        Raises:
            ScreenError: it throws; or as `call`.
        """
        answer = self.call(
            "Runtime.evaluate",
            session=session,
            timeout_s=timeout_s,
            expression=script,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            said = details.get("exception", {}).get("description", details["text"])
            raise ScreenError(f"script: expected a value, got {said}")
        return answer["result"].get("value")

    def screenshot(self, *, session: str, timeout_s: float | None = None, **parameters: Any) -> bytes:
        """A page as an image file, PNG unless `format` says otherwise; errors as `call`."""
        answer = self.call("Page.captureScreenshot", session=session, timeout_s=timeout_s, **parameters)
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        """Hang up; calls that wait end with a ScreenError."""
        self._lose()
        self._open.close()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _wait(self, method: str, answer: Future[dict[str, Any]], timeout_s: float | None) -> dict[str, Any]:
        seconds = self._answer_s if timeout_s is None else timeout_s
        try:
            return answer.result(seconds)
        except NotInTime:
            raise ScreenError(
                f"browser: expected an answer to {method} within {seconds:g} s, got none; "
                "a page may be busy or the machine overloaded"
            ) from None

    def _read(self) -> None:
        try:
            for text in self._socket:
                message = json.loads(text)
                if "id" in message:
                    self._answer(message)
                else:
                    for listener in self._listeners.get(message["method"], ()):
                        listener(message.get("sessionId"), message["params"])
        except self._closed_error:
            pass
        finally:
            self._lose()

    def _answer(self, message: dict[str, Any]) -> None:
        with self._lock:
            method, answer = self._pending.pop(message["id"], ("", None))
        if answer is None:
            return
        if "error" in message:
            said = message["error"]["message"]
            answer.set_exception(ScreenError(f"browser: expected to do {method}, got {said!r}"))
        else:
            answer.set_result(message["result"])

    def _lose(self) -> None:
        with self._lock:
            self._gone = True
            lost, self._pending = list(self._pending.values()), {}
        for method, answer in lost:
            answer.set_exception(_gone(method))


def _gone(method: str) -> ScreenError:
    return ScreenError(f"browser: expected an answer to {method}, got none; it was closed, killed or has crashed")
