"""Streams: cameras and videos that are watched, who is seen in them now, and who was seen when."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Header, Path, Query, Response

from visavis.app.server.access import Admin, Reader, Serving
from visavis.app.server.bodies import MAX_ID
from visavis.app.server.roots import RootError, allowed_folder
from visavis.app.server.service import Service
from visavis.errors import InputError, NotFoundError
from visavis.face.wire import Stream, Streams, Visit

__all__ = [
    "StreamIn",
    "get_frame",
    "get_seen_picture",
    "get_stream",
    "list_seen",
    "list_streams",
    "router",
    "start_stream",
    "stop_stream",
    "watch_streams",
]

router = APIRouter(prefix="/streams", tags=["streams"])
StreamId = Annotated[int, Path(ge=1, le=MAX_ID)]
LOOK_S = 0.2  # between two looks at what has happened
JPEG: Any = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}


@dataclass(frozen=True, slots=True)
class StreamIn:
    """Either a source that the server allows, or a video file below one of its roots."""

    __pydantic_config__: ClassVar[Any] = {
        "extra": "forbid",
        "json_schema_extra": {"examples": [{"source": "door"}, {"file": "/home/ada/Videos/party.mp4", "fps": 10}]},
    }
    source: Annotated[str | None, Body(min_length=1, max_length=200, description="Its name.")] = None
    file: Annotated[str | None, Body(min_length=1, max_length=4096, description="Its absolute path.")] = None
    fps: Annotated[float | None, Body(ge=0.1, le=240, description="Frames looked at a second, at most.")] = None
    false_match_rate: Annotated[
        float, Body(ge=1e-9, lt=1, description="Name only where fewer strangers than this, of all, would ever be.")
    ] = 1e-3


@router.get("")
def list_streams(_client: Reader, service: Serving) -> Streams:
    """What may be watched and what is."""
    return Streams(service.streams.sources, service.streams.all())


@router.post("", status_code=201)
def start_stream(client: Admin, service: Serving, body: StreamIn) -> Stream:
    """Watch a source: find faces, follow them, name those whom the gallery names. Nothing is kept on disk."""
    if (body.source is None) == (body.file is None):
        raise InputError("source, file: expected one of the two")
    if body.source is not None:
        started = service.streams.start(body.source, fps=body.fps, false_match_rate=body.false_match_rate)
    else:
        path = allowed_folder(body.file or "", service.roots)
        if not path.is_file():
            raise RootError(f"file: expected a video file, got {body.file!r}")
        started = service.streams.start_file(path, fps=body.fps, false_match_rate=body.false_match_rate)
    service.audit.note(client.name, "watch")
    return started


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def watch_streams(
    client: Reader,
    service: Serving,
    last_event_id: Annotated[str | None, Header(description="Go on after it; else with what is new.")] = None,
) -> Any:
    """What happens in any stream, as server-sent events `appeared`, `identified` and `left`.

    Each tells a visit as `seen` lists them; `stream` tells a stream whose state has changed.
    """
    from sse_starlette import EventSourceResponse

    streams = service.streams
    known = last_event_id is not None and last_event_id.isdecimal() and len(last_event_id) < 16
    last = int(last_event_id or 0) if known else streams.last_event

    async def events() -> AsyncIterator[dict[str, str]]:
        nonlocal last
        states = {stream.id: stream.state for stream in streams.all()}
        while True:  # until nobody listens any more
            now = streams.all()  # before its events, so that those of a stream come before its end
            for one in streams.events(last):
                last = one.id
                if one.visit.person is not None:
                    await asyncio.to_thread(service.audit.note, client.name, "seen", [one.visit.person])
                yield {"id": str(one.id), "event": one.event, "data": json.dumps(asdict(one.visit))}
            for stream in reversed(now):
                if states.get(stream.id) != stream.state:
                    states[stream.id] = stream.state
                    yield {"event": "stream", "data": json.dumps(asdict(stream))}
            await asyncio.sleep(LOOK_S)

    return EventSourceResponse(events())


@router.get("/seen")
def list_seen(
    client: Reader, service: Serving, limit: Annotated[int, Query(ge=1, le=1000, description="At most.")] = 100
) -> list[Visit]:
    """Who was seen, the newest first, while this server ran. People forgotten are in it no more."""

    def known(people: Iterable[int]) -> dict[int, str | None]:
        return {row.id: row.name for row in service.gallery.people(ids=sorted(people))}

    visits = service.streams.visits(known=known)[:limit]
    service.audit.note(client.name, "seen", {visit.person for visit in visits if visit.person is not None})
    return visits


@router.get("/seen/{visit}/picture", response_class=Response, responses=JPEG)
def get_seen_picture(_client: Reader, service: Serving, visit: Annotated[int, Path(ge=1, le=MAX_ID)]) -> Response:
    """The best face of a visit."""
    found = service.streams.picture(visit)
    if found is None:
        raise NotFoundError(f"visit: expected one with a picture, got {visit}")
    return Response(found, media_type="image/jpeg")


@router.get("/{stream}")
def get_stream(_client: Reader, service: Serving, stream: StreamId) -> Stream:
    """One stream."""
    return _stream(service, stream)


@router.delete("/{stream}")
def stop_stream(client: Admin, service: Serving, stream: StreamId) -> Stream:
    """Stop watching; everybody who is there is told to have left."""
    _stream(service, stream)
    service.audit.note(client.name, "stop watching")
    return service.streams.stop(stream)


@router.get("/{stream}/frame", response_class=Response, responses=JPEG)
def get_frame(_client: Reader, service: Serving, stream: StreamId) -> Response:
    """The newest picture, two a second at most: each face in a box with its number in the stream."""
    _stream(service, stream)
    found = service.streams.frame(stream)
    if found is None:
        raise NotFoundError(f"stream: expected one with a picture now, got {stream}")
    return Response(found, media_type="image/jpeg")


def _stream(service: Service, stream: int) -> Stream:
    found = service.streams.get(stream)
    if found is None:
        raise NotFoundError(f"stream: expected one of this server, got {stream}")
    return found
