"""Every error as ``{"error": {"type": ..., "message": ...}}``, with the status that says whose fault it is."""

import logging
import re
import sqlite3
from typing import Any, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from visavis.app.server.decoding import TooLargeError
from visavis.app.server.roots import RootError
from visavis.errors import (
    BusyError,
    GalleryError,
    InputError,
    LandmarkError,
    NotFoundError,
    PhotoError,
    TensorError,
    VisavisError,
)

__all__ = ["answer_errors", "error_body", "not_found", "refusal"]

TYPES = {
    401: "TokenError",
    403: "AccessError",
    404: "NotFoundError",
    408: "TimeoutError",
    413: "TooLargeError",
    429: "RateError",
    500: "InternalError",
}

_log = logging.getLogger(__name__)


STATUS: dict[type[VisavisError], int] = {  # the most special first
    NotFoundError: 404,
    BusyError: 409,
    TooLargeError: 413,
    RootError: 403,
    PhotoError: 422,
    InputError: 422,
    TensorError: 422,
    LandmarkError: 422,
    GalleryError: 409,  # what is there forbids it: a name that is taken, faces of two people, another writer
}


def not_found(what: str, number: int) -> NotFoundError:
    """The gallery has no such person, face, photo or job."""
    return NotFoundError(f"{what}: expected one of the gallery, got {number}")


def error_body(kind: str, message: str) -> dict[str, Any]:
    """What stands in an answer that is an error."""
    return {"error": {"type": kind, "message": message}}


def refusal(error: HTTPException) -> JSONResponse:
    """The answer of a request that is refused before it reaches the gallery."""
    kind = TYPES.get(error.status_code, "RequestError")
    return JSONResponse(error_body(kind, str(error.detail)), error.status_code, error.headers)


def answer_errors(app: FastAPI) -> None:
    """Have an application answer errors so."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)
        if isinstance(error, GalleryError) and isinstance(error.__cause__, sqlite3.Error):
            status = 503  # a full disk, a damaged file, another writer for too long
        if status == 503:
            _log.error("%s: %s", type(error).__name__, error)
        text = str(error).replace(str(request.app.state.service.gallery.place), "gallery")  # where it lies is not told
        return JSONResponse(error_body(type(error).__name__, text), status)

    async def system(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        _log.error("%s", error)
        text = f"server: its system refuses ({error.strerror or 'no reason told'}); its log says more"
        return JSONResponse(error_body("ServerError", text), 503)

    async def refused(_request: Request, error: Exception) -> JSONResponse:
        return refusal(cast("HTTPException", error))

    async def unfit(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse(error_body("RequestError", "; ".join(found)[:2000]), 422)

    async def no_route(request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse(error_body("NotFoundError", f"expected a path of the API, got {request.url.path!r}"), 404)

    async def no_method(request: Request, _error: Exception) -> JSONResponse:
        message = f"expected a method that {request.url.path!r} has, got {request.method}"
        methods = _methods(request) or ["GET"]  # of pages, which the OpenAPI leaves out
        return JSONResponse(error_body("RequestError", message), 405, {"Allow": ", ".join(methods)})

    for kind, handler in (
        (VisavisError, ours),
        (HTTPException, refused),
        (400, refused),  # of a form that is none: not FastAPI's own
        (OSError, system),
        (RequestValidationError, unfit),
        (404, no_route),
        (405, no_method),
    ):
        app.add_exception_handler(kind, handler)


def _methods(request: Request) -> list[str]:
    """What may be done with the path of a request; the error tells of one route only, and a path may have several."""
    found = set[str]()
    for template, operations in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), request.url.path):
            found |= {method.upper() for method in operations}
    return sorted(found)
