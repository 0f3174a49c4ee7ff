"""How the server is set up, for a page that shows it: limits, folders, models, tokens, files that were skipped."""

import os
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Query

from visavis.app.output import printable
from visavis.app.server.access import Admin, Reader, Serving
from visavis.app.server.bodies import MAX_ID
from visavis.app.server.tokens import Scope
from visavis.face.models import ModelSpec

__all__ = [
    "ModelOut",
    "ModelsOut",
    "ServerOut",
    "SkippedFile",
    "SkippedOut",
    "TokenOut",
    "list_skipped",
    "list_tokens",
    "models",
    "router",
    "server",
]

router = APIRouter(tags=["server"])


def _example(**values: Any) -> dict[str, Any]:
    return {"json_schema_extra": {"examples": [values]}}


@dataclass(frozen=True, slots=True)
class ServerOut:
    __pydantic_config__: ClassVar[Any] = _example(
        roots=["/home/ada/Photos"], upload_bytes=33_554_432, upload_pixels=50_000_000
    )
    roots: Annotated[list[str], Body(description="Folders that may be indexed.")]
    upload_bytes: Annotated[int, Body(description="The most of one photo.")]
    upload_pixels: int


@dataclass(frozen=True, slots=True)
class ModelOut:
    name: str
    licence: Annotated[str, Body(description="By its SPDX name where there is one.")]
    licence_url: str
    research_only: bool


@dataclass(frozen=True, slots=True)
class ModelsOut:
    __pydantic_config__: ClassVar[Any] = _example(
        pack="default",
        detector={"name": "yunet", "licence": "MIT", "licence_url": "", "research_only": False},
        embedder={"name": "my-embedder", "licence": "Apache-2.0", "licence_url": "", "research_only": False},
        measured_on="6,000 pairs",
    )
    pack: str
    detector: ModelOut
    embedder: ModelOut
    measured_on: Annotated[str, Body(description="What rates and probabilities were measured on.")]


@dataclass(frozen=True, slots=True)
class TokenOut:
    __pydantic_config__: ClassVar[Any] = _example(name="phone", scope="read", created_at="2026-05-01T12:30:00+00:00")
    name: str
    scope: Scope
    created_at: Annotated[str, Body(description="In UTC.")]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    path: Annotated[str, Body(description="What is not printable, as its escape.")]
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedOut:
    __pydantic_config__: ClassVar[Any] = _example(
        files=[{"path": "/home/ada/Photos/half.jpg", "reason": "file: damaged or truncated"}], total=1
    )
    files: list[SkippedFile]
    total: int


@router.get("/server")
def server(_client: Reader, service: Serving) -> ServerOut:
    """What the server takes, and which folders it may read."""
    roots = [printable(os.fspath(root)) for root in service.roots]
    return ServerOut(roots, service.upload_bytes, service.decoders.limits.pixels)


@router.get("/models")
def models(_client: Reader, service: Serving) -> ModelsOut:
    """The models at work, their licences, and what their answers were calibrated on."""
    pack = service.pack
    return ModelsOut(pack.name, _out(pack.detector), _out(pack.embedder), service.calibration.measured_on)


@router.get("/tokens")
def list_tokens(_client: Admin, service: Serving) -> list[TokenOut]:
    """Who may do what. Secrets are kept nowhere; `visavis tokens` makes and revokes them."""
    return [TokenOut(token.name, token.scope, token.created_at) for token in service.tokens.all()]


@router.get("/skipped")
def list_skipped(
    _client: Reader,
    service: Serving,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> SkippedOut:
    """Files that could not be read as photos, and why."""
    found = [(row.path, row.skipped) for row in service.gallery.files() if row.skipped is not None]
    files = [SkippedFile(printable(path), reason) for path, reason in found[offset : offset + limit]]
    return SkippedOut(files, len(found))


def _out(model: ModelSpec) -> ModelOut:
    return ModelOut(model.name, model.licence.name, model.licence.url, model.licence.research_only)
