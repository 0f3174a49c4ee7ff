"""Requests to one face server: what is tried again, how long is waited, and answers as records or as our errors."""

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import httpx

from visavis import __version__, errors
from visavis.errors import AccessError, BusyError, GalleryError, InputError, NotFoundError, PhotoError, ServerError
from visavis.face.wire import record

__all__ = ["Connection", "Part", "ServerEvent"]

API = "/api/v1"
CONNECTING_S = 10.0
PAUSES_S = (0.1, 0.5, 2.0)  # before it is tried again
LONGEST_PAUSE_S = 30.0  # that a server may ask for
SIGN_OF_LIFE_S = 60.0  # of a server that has nothing to tell; ours gives one every 15 s
IDLE_S = 2.0  # a connection is kept; shorter than servers do, so that none closes one just as it is used
BY_STATUS: dict[int, type[Exception]] = {
    400: InputError,
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: GalleryError,
    413: PhotoError,
    415: InputError,
    422: InputError,
    429: BusyError,
}
ASK_FOR_A_TOKEN = "give one as `token` or in VISAVIS_TOKEN; `visavis tokens add` makes one"  # noqa: S105  none itself

Part = tuple[str, tuple[str, bytes | IO[bytes]]]  # of a form: its field, a file's name and content
T = TypeVar("T")


class ServerEvent(NamedTuple):
    event: str
    data: str  # JSON


class _LaterError(Exception):
    """The server refused a request before any work and says when to come again."""

    def __init__(self, error: Exception, wait_s: float) -> None:
        super().__init__(error)
        self.error, self.wait_s = error, wait_s


class Connection:
    """To a server at a URL, for any number of threads; arguments as of `visavis.face.client.FaceClient`."""

    def __init__(self, url: str, *, token: str | None, timeout_s: float) -> None:
        self.url = _base(url)
        headers = {"User-Agent": f"visavis/{__version__}"}
        if token is not None:
            if not re.fullmatch(r"[!-~]+", token):  # the message must not show it
                raise InputError("token: expected letters, digits and signs without spaces, got other text")
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECTING_S)),
            limits=httpx.Limits(keepalive_expiry=IDLE_S),
            trust_env=not _is_loopback(httpx.URL(self.url).host),  # no proxy stands before this computer itself
        )
        self._timeout_s = timeout_s
        self.last_change: int | None = None  # that a server has made, by the number to undo it by

    def close(self) -> None:
        """Let go of open connections."""
        self._http.close()

    def ask(self, kind: type[T], method: str, path: str, **rest: Any) -> T:
        """The answer to a request, as a record or a list of them; arguments as of `content`.

        Raises:
            ServerError: as `content`, and when the answer is no `kind`.
            VisavisError: what the server answers.
        """
        return self.made(kind, path, self.content(method, path, **rest))

    def content(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        files: Callable[[contextlib.ExitStack], list[Part]] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """The bytes of an answer.

        Args:
            method: GET is tried again when the connection fails, others only where the server refuses them for now.
                Neither is when no answer comes in time.
            path: below the API.
            query: of the URL.
            body: sent as JSON.
            form: fields sent beside files.
            files: opens what is uploaded, in pieces as it is sent.
            timeout_s: between two signs of life, where work takes longer than usual.

        Raises:
            ServerError: it cannot be reached, is too late, failed, or is no visavis.
            VisavisError: what the server answers.
        """

        def once() -> bytes:
            with contextlib.ExitStack() as stack:
                response = self._http.request(
                    method,
                    f"{self.url}{API}{path}",
                    params=query,
                    json=body,
                    data=form,
                    files=None if files is None else files(stack),
                    **self._timeout(timeout_s),
                )
            self._expect_success(response)
            change = response.headers.get("visavis-change", "")
            if change.isdecimal():
                self.last_change = int(change)
            return response.content

        return self._tried(once, again=method == "GET")

    def download(self, path: str, file: Path, *, timeout_s: float) -> None:
        """Write an answer to a file, which appears when it is whole and is for its owner only.

        Raises:
            ServerError, VisavisError: as `content`.
            OSError: the file cannot be written.
        """
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")

        def once() -> None:
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            with self._http.stream("GET", f"{self.url}{API}{path}", **self._timeout(timeout_s)) as response:
                self._expect_success(response)
                with draft.open("wb") as stream:
                    for piece in response.iter_bytes():
                        stream.write(piece)

        try:
            self._tried(once, again=True)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)

    def events(self, path: str) -> Iterator[ServerEvent]:
        """What the server tells as it happens, for ever; asked for again from there when the connection ends.

        Raises:
            ServerError, VisavisError: as `content`.
        """
        last = ""
        failures = 0
        while True:
            with contextlib.ExitStack() as stack:
                headers = {"Last-Event-ID": last} if last else {}
                response = self._tried(lambda: self._opened(stack, path, headers), again=True)  # noqa: B023  called now
                event = data = ""
                with contextlib.suppress(httpx.TransportError):
                    for line in response.iter_lines():
                        failures = 0  # a sign of life, if only one to keep the connection
                        field, _, value = line.partition(":")
                        value = value.removeprefix(" ")
                        if field == "event":
                            event = value
                        elif field == "id":
                            last = value
                        elif field == "data":
                            data = value  # a line of JSON
                        elif not line and data:
                            yield ServerEvent(event, data)
                            event = data = ""
            if failures == len(PAUSES_S):
                raise ServerError(f"{self.url}: expected to be told how it goes on, the connection failed")
            time.sleep(PAUSES_S[failures])
            failures += 1

    def made(self, kind: type[T], path: str, text: str | bytes) -> T:
        """A record, or a list of them, of what the server has told.

        Raises:
            ServerError: it is none.
        """
        try:
            made: T = record(kind, json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"{self.url}: expected an answer of visavis to {path}, got {error!r}") from error
        return made

    def _opened(self, stack: contextlib.ExitStack, path: str, headers: Mapping[str, str]) -> httpx.Response:
        request = self._http.stream("GET", f"{self.url}{API}{path}", headers=headers, **self._timeout(SIGN_OF_LIFE_S))
        response = stack.enter_context(request)
        self._expect_success(response)
        return response

    def _tried(self, once: Callable[[], T], *, again: bool) -> T:
        for pause_s in (*PAUSES_S, None):
            try:
                return once()
            except _LaterError as later:
                if pause_s is None or later.wait_s > LONGEST_PAUSE_S:
                    raise later.error from None
                pause_s = max(pause_s, later.wait_s)
            except (httpx.TransportError, httpx.DecodingError) as error:
                if pause_s is None or not again or isinstance(error, httpx.ReadTimeout):  # it may be at work still
                    raise self._unreachable(error) from error
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: Exception) -> ServerError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServerError(
                f"{self.url}: expected a server, cannot connect ({_reason(error)}); `visavis serve` starts one"
            )
        if isinstance(error, httpx.TimeoutException):
            return ServerError(f"{self.url}: expected an answer in time, got none; give a larger timeout_s")
        return ServerError(f"{self.url}: expected a whole answer, the connection failed ({_reason(error)})")

    def _expect_success(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        error = self._error(response)
        wait = response.headers.get("retry-after", "")
        if response.status_code in (429, 503) and wait.isdecimal():
            raise _LaterError(error, float(wait))
        raise error

    def _error(self, response: httpx.Response) -> Exception:
        """What an answer that is an error stands for."""
        status = response.status_code
        try:
            told = response.json()["error"]
            name, message = str(told["type"]), str(told["message"])
        except (KeyError, TypeError, ValueError):
            what = f"{status} {response.reason_phrase}"
            return ServerError(f"{self.url}: expected an answer of visavis, got {what}")
        if status == 401 or (status == 403 and "Authorization" not in self._http.headers):
            message = f"{message}; {ASK_FOR_A_TOKEN}"
        kind: type[Exception] = BY_STATUS.get(status, ServerError)
        if name.endswith("Error") and name in errors.__all__:
            kind = getattr(errors, name)
        return kind(message)

    def _timeout(self, timeout_s: float | None) -> dict[str, Any]:
        if timeout_s is None:
            return {}
        return {"timeout": httpx.Timeout(max(timeout_s, self._timeout_s), connect=CONNECTING_S)}


def _base(url: str) -> str:
    """The URL without what comes after its path."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"url: expected one as http://127.0.0.1:8765, got another ({error})") from error
    if parsed.userinfo or parsed.query or parsed.fragment:  # not shown: it may hold a secret
        raise InputError("url: expected one as http://127.0.0.1:8765, got one with more; a token goes into `token`")
    if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 0) > 65535:
        raise InputError(f"url: expected one as http://127.0.0.1:8765, got {url!r}")
    return str(parsed).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
