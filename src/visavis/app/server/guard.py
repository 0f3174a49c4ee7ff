"""What every request passes before anything of it is read, and what every answer carries.

In this order: the Host it names, the site it comes from, its token, its share of the rate, and the kind and length of
its body. A page elsewhere on the web can so neither read an answer nor change anything, with or without a token.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from fastapi import HTTPException

from visavis.app.server.errors import refusal
from visavis.app.server.rate import Buckets
from visavis.app.server.routes.pages import is_public
from visavis.app.server.tokens import Token, Tokens

__all__ = ["COOKIE", "Client", "Guard", "Rules"]

COOKIE = "visavis_token"
HEADERS = (  # unless a route says otherwise of its answer
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
SAFE = ("GET", "HEAD", "OPTIONS")
BODIES = ("application/json", "multipart/form-data")
ONCE = ("host", "origin", "sec-fetch-site", "authorization", "content-type", "content-length")  # whom to believe, else?
IDLE_S = 30.0  # between two pieces of a body
SLOWEST = 16 * 2**10  # bytes of a body a second, once it has had that time
OPEN_PATHS = ("/healthz",)  # tells nothing, to anybody

_log = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks; `token` is None for whoever is on this computer, where no token is needed."""

    name: str
    token: Token | None
    same_origin: bool  # a page of ours, by what its browser says


@dataclass(frozen=True)
class Rules:
    """What the guard asks of requests."""

    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "::1"})  # names, in lower case and without ports
    any_address: bool = False  # also take Hosts that are addresses: nobody can point those elsewhere
    open: bool = True  # no token is needed
    body_bytes: int = 64 * 2**20
    larger: Mapping[str, int] = field(default_factory=dict)  # bytes, by path
    per_second: float = 200.0  # requests of a client, in the long run: a page of photos asks for that many pictures
    burst: int = 1000
    at_once: int = 400  # requests
    held_bytes: int = 2**30  # of the bodies of all requests, those of `larger` paths aside
    wrong_tokens: int = 20  # an address may try before it is made to wait, a second each


class Guard:
    """ASGI middleware: refuses, or lets through with `state["client"]`.

    Args:
        app: what is behind it.
        tokens: of the clients.
        rules: what is asked of requests.
        clock: in seconds.
        on_refused: is told "rate", "token" or "room", whichever was lacking.
    """

    def __init__(
        self,
        app: Any,
        *,
        tokens: Tokens,
        rules: Rules,
        clock: Callable[[], float] = time.monotonic,
        on_refused: Callable[[str], object] = str,
    ) -> None:
        self._app, self._tokens, self._rules, self._refused = app, tokens, rules, on_refused
        self._requests = Buckets(rules.per_second, rules.burst, clock)
        self._failures = Buckets(1.0, rules.wrong_tokens, clock)
        self._clock = clock
        self.at_work, self.held_bytes = 0, 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})  # none is spoken here
            return
        started = False

        async def answer(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                said = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name, value) for name, value in HEADERS if name not in said]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        body = None
        self.at_work += 1
        try:
            headers = _headers(scope)
            if self.at_work > self._rules.at_once:
                raise self._busy("requests")
            client = self._admit(scope, headers)
            scope.setdefault("state", {})["client"] = client
            body = self._body(scope, headers, client, receive)
            await self._app(scope, body.receive, answer)
        except HTTPException as refused:
            if started:
                raise
            await refusal(refused)(scope, receive, answer)
        except Exception:
            _log.exception("%s %s", scope["method"], scope["path"])
            if started:
                raise
            failed = HTTPException(500, "the server failed to answer; its log says how")
            await refusal(failed)(scope, receive, answer)
        finally:
            self.at_work -= 1
            if body is not None and not body.large:
                self.held_bytes -= body.seen

    def _admit(self, scope: Scope, headers: Mapping[str, str]) -> Client:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise HTTPException(421, f"Host: expected a name of this server, got {host!r}; allow it with --name")
        address = str((scope.get("client") or ("unknown",))[0])
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        # Either scheme: a proxy before this server may speak HTTPS for it.
        own = origin is not None and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
        if (site is not None and site not in ("same-origin", "none")) or (origin is not None and not own):
            raise HTTPException(403, "Origin: expected a page of this server, got another site's")
        same_origin = own or site == "same-origin"
        authorization = headers.get("authorization")
        if authorization is None and (same_origin or scope["method"] in SAFE) and not self._rules.open:
            authorization = _from_cookie(headers.get("cookie", ""))
        token = self._token(authorization, address, scope["path"])
        name = address if token is None else token.name
        if not self._requests.take(_network(address) if token is None else token.name):
            self._refused("rate")
            raise HTTPException(429, "rate: expected fewer requests, wait a second", {"Retry-After": "1"})
        return Client(name, token, same_origin)

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host.lower())
        if name in self._rules.hosts:
            return True
        try:
            return self._rules.any_address and bool(ip_address(name))
        except ValueError:
            return False

    def _token(self, authorization: str | None, address: str, path: str) -> Token | None:
        challenge = {"WWW-Authenticate": "Bearer"}
        if path in OPEN_PATHS or is_public(path):
            return None
        if authorization is None:
            if self._rules.open:
                return None
            raise HTTPException(401, "Authorization: expected 'Bearer' and a token, got none", challenge)
        kind, _, secret = authorization.partition(" ")
        token = self._tokens.find(secret.strip()) if kind.lower() == "bearer" else None
        if token is not None:
            return token
        self._refused("token")
        if not self._failures.take(_network(address)):
            raise HTTPException(429, "Authorization: too many wrong tokens, wait a second", {"Retry-After": "1"})
        raise HTTPException(401, "Authorization: expected a token of this gallery, got another", challenge)

    def _body(self, scope: Scope, headers: Mapping[str, str], client: Client, receive: Receive) -> "_Body":
        """The body to come; refuses at once what says itself that it is too long."""
        # Only whoever may do what needs them may send long bodies, for they are taken in before the route is asked.
        trusted = client.same_origin if client.token is None else client.token.may("admin")
        larger = self._rules.larger.get(scope["path"], 0) if trusted else 0
        body = _Body(self, receive, max(self._rules.body_bytes, larger), large=larger > self._rules.body_bytes)
        length = headers.get("content-length", "0")
        if not (length.isdecimal() and len(length) < 20):
            raise HTTPException(400, "Content-Length: expected a number of bytes")
        has_body = int(length) > 0 or "transfer-encoding" in headers
        body.expect(int(length))
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and scope["method"] not in SAFE and kind not in BODIES:
            raise HTTPException(415, f"Content-Type: expected {' or '.join(BODIES)}, got {kind!r}")
        return body

    def _busy(self, what: str) -> HTTPException:
        self._refused("room")
        return HTTPException(503, f"server: expected fewer {what} at once, try again in a second", {"Retry-After": "1"})


class _Body:
    """The body of a request, counted and timed while it comes."""

    def __init__(self, guard: Guard, receive: Receive, most: int, *, large: bool) -> None:
        self._guard, self._receive, self._most, self.large = guard, receive, most, large
        self.seen = 0
        self._ended = False
        self._start = guard._clock()

    def expect(self, more: int) -> None:
        """Refuse so many bytes, where they are too many."""
        if self.seen + more > self._most:
            raise HTTPException(413, f"body: expected at most {self._most} bytes, got more")
        if not self.large and self._guard.held_bytes + more > self._guard._rules.held_bytes:
            raise self._guard._busy("bytes of uploads")

    async def receive(self) -> Any:
        """The next piece."""
        if self._ended:  # what comes now is the end of the connection, whenever that is
            return await self._receive()
        left = self._start + IDLE_S + self.seen / SLOWEST - self._guard._clock()
        try:
            async with asyncio.timeout(min(IDLE_S, left)):
                message = await self._receive()
        except TimeoutError:
            text = f"body: expected more of it within {IDLE_S:g} s, and {SLOWEST >> 10} KiB a second"
            raise HTTPException(408, text) from None
        size = len(message.get("body", b""))
        self.expect(size)
        self.seen += size
        if not self.large:
            self._guard.held_bytes += size
        self._ended = not message.get("more_body", False)
        return message


def _headers(scope: Scope) -> dict[str, str]:
    """By their names in lower case."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in headers and key in ONCE:
            raise HTTPException(400, f"{key}: expected once, got it again")
        headers[key] = value.decode("latin-1")
    return headers


def _network(address: str) -> str:
    """What counts as one: an IPv4 address, and of IPv6 the 2^64 that one subscriber has."""
    try:
        return str(ip_network(f"{address}/64", strict=False)) if ":" in address else address
    except ValueError:  # with a zone
        return address


def _from_cookie(text: str) -> str | None:
    """What the browser would have to say of a token that it keeps; `routes.session` puts it there."""
    for pair in text.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and value:
            return f"Bearer {value}"
    return None


def _without_port(host: str) -> str:
    """The name in a Host; nothing, where it is none."""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@/\s]+))(?::\d{1,5})?", host)
    return (found[1] or found[2]) if found else ""
