"""The gallery as a whole: what it holds, what its models' answers mean, sorting it, and carrying it elsewhere."""

from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, File, Query, UploadFile
from fastapi.responses import FileResponse

from visavis import __version__
from visavis.app.server.access import Admin, Reader, Serving, Writer
from visavis.face.wire import About, CalibrationCurve, Clustered, Imported

__all__ = ["cluster_faces", "export_gallery", "get_calibration", "get_gallery", "import_gallery", "router"]

router = APIRouter(tags=["gallery"])


@router.get("/gallery")
def get_gallery(_client: Reader, service: Serving) -> About:
    """What the gallery holds."""
    return About.of(__version__, service.gallery.model.name, service.gallery.counts())


@router.get("/calibration")
def get_calibration(_client: Reader, service: Serving) -> CalibrationCurve:
    """How alike different people and photos of one person are, as measured: what every probability stands on."""
    return CalibrationCurve.of(service.gallery.model.name, service.calibration)


@router.post("/cluster")
def cluster_faces(client: Writer, service: Serving, fresh: Annotated[bool, Query()] = False) -> Clustered:
    """Sort the faces into people; indexing does so by itself.

    `fresh` first takes apart what was sorted by itself; what users said stays.
    """
    report = service.cluster(fresh=fresh)
    service.audit.note(client.name, "cluster")
    return Clustered.of(report)


@router.get(
    "/export",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def export_gallery(client: Admin, service: Serving, after: BackgroundTasks) -> FileResponse:
    """The whole gallery as one file, as `import` and `visavis face import` read it."""
    with ExitStack() as stack:
        path = stack.enter_context(service.scratch(".visavis"))
        service.export_to(path)
        service.audit.note(client.name, "export")
        after.add_task(stack.pop_all().close)  # once it is sent
    return FileResponse(path, media_type="application/zip", filename="gallery.visavis", background=after)


@router.post("/import")
def import_gallery(client: Admin, service: Serving, file: Annotated[UploadFile, File()]) -> Imported:
    """Take in an export of a gallery of the same model: all of it, or nothing. Photos known stay as they are."""
    done = service.import_from(file.file)
    service.audit.note(client.name, "import")
    return Imported.of(done)
