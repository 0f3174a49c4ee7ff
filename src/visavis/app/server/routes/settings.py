"""How the server is set up, for a page that shows it: limits, folders, models, tokens, files that were skipped."""

from typing import Annotated

from fastapi import APIRouter, Query

from visavis.app.server.access import Admin, Reader, Serving
from visavis.app.server.bodies import MAX_ID
from visavis.face.models import ModelSpec
from visavis.face.wire import Model, Models, Server, Skipped, SkippedPage, TokenInfo
from visavis.face.wire.base import text_of

__all__ = ["get_models", "get_server", "list_skipped", "list_tokens", "router"]

router = APIRouter(tags=["server"])


@router.get("/server")
def get_server(_client: Reader, service: Serving) -> Server:
    """What the server takes, and which folders it may read."""
    roots = [text_of(root) for root in service.roots]
    return Server(roots, service.upload_bytes, service.decoders.limits.pixels)


@router.get("/models")
def get_models(_client: Reader, service: Serving) -> Models:
    """The models at work, their licences, and what their answers were calibrated on."""
    pack = service.pack
    return Models(pack.name, _out(pack.detector), _out(pack.embedder), service.calibration.measured_on)


@router.get("/tokens")
def list_tokens(_client: Admin, service: Serving) -> list[TokenInfo]:
    """Who may do what. Secrets are kept nowhere; `visavis tokens` makes and revokes them."""
    return [TokenInfo(token.name, token.scope, token.created_at, token.expires_at) for token in service.tokens.all()]


@router.get("/skipped")
def list_skipped(
    _client: Reader,
    service: Serving,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> SkippedPage:
    """Files that could not be read as photos, and why."""
    found = [(row.path, row.skipped) for row in service.gallery.files() if row.skipped is not None]
    files = [Skipped.of(path, reason) for path, reason in found[offset : offset + limit]]
    return SkippedPage(files, len(found))


def _out(model: ModelSpec) -> Model:
    return Model(model.name, model.licence.name, model.licence.url, model.licence.research_only)
