"""Who the browser is to the server: signed in by a token that is kept where no script can read it."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, HTTPException, Request, Response

from visavis.app.server.access import Reader
from visavis.app.server.guard import COOKIE
from visavis.app.server.tokens import Scope

__all__ = ["SessionOut", "get_session", "router", "sign_in", "sign_out"]

router = APIRouter(prefix="/session", tags=["session"])
KEPT_S = 30 * 24 * 3600
PATH = "/api"  # no more than is needed: other servers of this host, on other ports, are sent cookies, too


@dataclass(frozen=True, slots=True)
class SessionOut:
    __pydantic_config__: ClassVar[Any] = {
        "json_schema_extra": {"examples": [{"name": "phone", "scope": "write", "token": True}]}
    }
    name: Annotated[str, Body(description="Of the token; without one, the address.")]
    scope: Scope
    token: Annotated[bool, Body(description="false: this computer is served without.")]


@router.get("")
def get_session(client: Reader) -> SessionOut:
    """Who asks, and what they may do."""
    if client.token is None:
        return SessionOut(client.name, "admin", False)
    return SessionOut(client.name, client.token.scope, True)


@router.post("", status_code=201)
def sign_in(client: Reader, request: Request, response: Response) -> SessionOut:
    """Have the browser send the token of this request by itself from now on: it counts for pages of this server."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if client.token is None or kind.lower() != "bearer":
        raise HTTPException(422, "Authorization: expected 'Bearer' and a token, got none")
    secure = request.headers.get("origin", "").startswith("https:")
    response.set_cookie(COOKIE, secret.strip(), KEPT_S, path=PATH, httponly=True, samesite="strict", secure=secure)
    return get_session(client)


@router.delete("", status_code=204)
def sign_out(_client: Reader, response: Response) -> None:
    """Have the browser drop the token."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
