"""The web app: one page for every address that shows something, and the files it is made of."""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response

__all__ = ["PAGES", "WEB", "asset", "is_public", "page", "router"]

WEB = Path(__file__).parents[1] / "web"
ASSETS = "/assets/"
PAGES = ("/", "/people", "/people/{number}", "/review", "/search", "/verify", "/streams", "/settings")
POLICY = (  # nothing from elsewhere, nothing inline, no eval; frames and forms neither
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: dict[str, str]


def is_public(path: str) -> bool:
    """Whether an address is of the web app itself, which tells nothing of the gallery and so needs no token."""
    return path in PAGES or path.startswith((ASSETS, "/people/"))


def page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The shell; what it shows it asks of the API."""
    return _answer("index.html", if_none_match)


for _path in PAGES:
    router.get(_path)(page)


@router.get(ASSETS + "{name:path}")
def asset(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A script, a style, a text; those of others, whose names hold their version, may be kept for good."""
    return _answer(name, if_none_match)


def _answer(name: str, if_none_match: str | None) -> Response:
    file = _files().get(name)
    if file is None:
        raise HTTPException(404, f"expected a file of the web app, got {name!r}")
    if if_none_match == file.headers["ETag"]:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)


@cache
def _files() -> dict[str, _File]:
    """By name, read once: a request chooses among these and can name no other."""
    found = {}
    for path in (path for path in sorted(WEB.rglob("*")) if path.is_file()):
        name, content = path.relative_to(WEB).as_posix(), path.read_bytes()
        kind = "text/javascript" if path.suffix in (".js", ".mjs") else mimetypes.guess_type(name)[0]
        headers = {
            "Content-Type": f"{kind or 'text/plain'}; charset=utf-8",
            "Content-Security-Policy": POLICY,
            "Cache-Control": "public, max-age=31536000, immutable" if _is_for_good(name) else "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }
        found[name] = _File(content, headers)
    return found


def _is_for_good(name: str) -> bool:
    return name.startswith("vendor/") and name != "vendor/README.md"
