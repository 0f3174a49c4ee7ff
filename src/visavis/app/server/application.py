"""The service put together: `make_app` for any ASGI server, `serve` with its own."""

import errno
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response

from visavis import __version__
from visavis.app.server.access import Reader
from visavis.app.server.errors import answer_errors
from visavis.app.server.guard import Guard, Rules
from visavis.app.server.metrics import Measured, Metrics
from visavis.app.server.openapi import ERRORS, DescribedApp
from visavis.app.server.pictures import Pictures
from visavis.app.server.routes import (
    indexing,
    pages,
    people,
    photos,
    pictures,
    questions,
    review,
    session,
    settings,
    streams,
    uploads,
    whole,
)
from visavis.app.server.service import Service
from visavis.app.server.turns import Turns
from visavis.app.server.uploads import Uploads
from visavis.errors import InputError

if TYPE_CHECKING:
    import uvicorn

__all__ = ["http_server", "make_app", "rules_for", "serve"]

API = "/api/v1"
IMPORT_BYTES = 4 * 2**30
DECODED_AT_ONCE = 8  # requests, of the forty that have threads
ABOUT = """The people in a gallery of photos.

Uploaded photos are looked at and not kept. Errors are `{"error": {"type": ..., "message": ...}}`. A change needs a
token, or a page of this server that asks for it.
"""


def make_app(service: Service, rules: Rules | None = None) -> FastAPI:
    """The service as an ASGI application, which closes it at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.uploads.resume()
        yield
        service.close()

    app = DescribedApp(
        title="visavis",
        description=ABOUT,
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # its page comes from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.pictures = Pictures(service.decoders)
    app.state.uploads = Uploads(
        service.gallery, service.state, service.decoders, service.jobs, most_bytes=service.upload_bytes
    )
    app.state.turns, app.state.decoding_turns = Turns(service.at_once), Turns(DECODED_AT_ONCE)
    answer_errors(app)
    api = APIRouter(prefix=API, responses=ERRORS)
    for group in (people, photos, pictures, uploads, review, questions, whole, indexing, session, settings, streams):
        api.include_router(group.router)
    app.include_router(api)
    app.include_router(pages.router)
    metrics = Metrics(service, app.state.turns)

    prometheus = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    ok = {"content": {"application/json": {"example": {"status": "ok"}}}}

    @app.get("/healthz", tags=["server"], responses={200: ok, 503: ERRORS[503]})
    def get_health() -> dict[str, str]:
        """Whether the server answers and its gallery can be read; needs no token."""
        service.gallery.photos(limit=1)  # cheap however large it is, for anybody may ask
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], response_class=Response, responses={**ERRORS, 200: prometheus})
    def get_metrics(_client: Reader) -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_middleware(
        Guard,
        tokens=service.tokens,
        rules=rules or rules_for("127.0.0.1"),
        on_refused=lambda reason: metrics.refused.labels(reason).inc(),
    )
    app.add_middleware(Measured, metrics=metrics)  # outermost, so that it counts refusals
    return app


def rules_for(host: str, names: Sequence[str] = ()) -> Rules:
    """What is asked of requests to a server that listens on `host` and is called `names`.

    Without a token only this computer is served: on a loopback address and under no other name, as a proxy before it
    would give it one.
    """
    loopback = _is_loopback(host)
    return Rules(
        hosts=(Rules.hosts if loopback else frozenset()) | {name.lower() for name in (host, *names)},
        any_address=not loopback,
        open=loopback and not names,
        larger={f"{API}/import": IMPORT_BYTES},
    )


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    names: Sequence[str] = (),
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM, and close the service.

    Args:
        service: to serve.
        host: an address of this computer to listen on.
        port: 0: any that is free.
        names: further names that clients may know this server by.
        on_ready: called with the URL when it listens.

    Raises:
        InputError: others than this computer would be served, and there is no token yet; or the port is taken.
        OSError: the address is not of this computer.
    """
    rules = rules_for(host, names)
    if not rules.open and not service.tokens.all():
        raise InputError(
            f"host: expected a token before others than this computer are served on {host}; "
            "make one with `visavis tokens add`"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise InputError(f"port: expected one that is free, got {port}; give another, 0 for any") from error
    with listening:
        if on_ready is not None:
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{listening.getsockname()[1]}")
        http_server(make_app(service, rules)).run(sockets=[listening])


def http_server(app: FastAPI) -> "uvicorn.Server":
    """What serves the application over HTTP/1.1, and nothing else than that."""
    import uvicorn

    from visavis.app.server.connections import Connection

    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="error",  # what clients do wrong is no news
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
