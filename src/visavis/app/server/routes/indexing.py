"""Index jobs: folders of the server that are taken in, with progress as it happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from visavis.app.server.access import Admin, Reader, Serving
from visavis.app.server.bodies import MAX_ID, IndexIn
from visavis.app.server.errors import not_found
from visavis.app.server.roots import allowed_folder
from visavis.app.server.service import Service
from visavis.face.wire import Job

__all__ = ["cancel_job", "get_job", "list_jobs", "router", "start_job", "watch_job"]

router = APIRouter(prefix="/index/jobs", tags=["index jobs"])
JobId = Annotated[int, Path(ge=1, le=MAX_ID)]
LOOK_S = 0.2  # between two looks at a job that is being watched


@router.get("")
def list_jobs(_client: Reader, service: Serving) -> list[Job]:
    """The jobs, the newest first; those of before a restart, too."""
    return service.jobs.all()


@router.post("", status_code=202)
def start_job(client: Admin, service: Serving, body: IndexIn) -> Job:
    """Take in the photos of a folder of the server, once the jobs before are done."""
    folder = allowed_folder(body.folder, service.roots)
    job = service.jobs.start(folder, prune=body.prune)
    service.audit.note(client.name, "index")
    return job


@router.get("/{job}")
def get_job(_client: Reader, service: Serving, job: JobId) -> Job:
    """One job."""
    return _job(service, job)


@router.delete("/{job}")
def cancel_job(client: Admin, service: Serving, job: JobId) -> Job:
    """Stop a job at its next photos. What it has taken in stays, and another job on the folder goes on from there."""
    _job(service, job)
    service.audit.note(client.name, "cancel")
    return service.jobs.cancel(job)


@router.get(
    "/{job}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def watch_job(_client: Reader, service: Serving, job: JobId) -> Any:
    """The job as server-sent events `job`, one whenever it has changed, until it has ended."""
    from sse_starlette import EventSourceResponse

    _job(service, job)

    async def events() -> AsyncIterator[dict[str, str]]:
        told: Job | None = None
        while True:  # until it has ended, or nobody listens any more
            now = service.jobs.get(job)
            if now is None:  # so many have come since that it was dropped
                return
            if now != told:
                yield {"event": "job", "data": json.dumps(asdict(now))}
                told = now
            if now.ended:
                return
            await asyncio.sleep(LOOK_S)

    return EventSourceResponse(events())


def _job(service: Service, job: int) -> Job:
    found = service.jobs.get(job)
    if found is None:
        raise not_found("job", job)
    return found
