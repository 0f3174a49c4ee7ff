"""What a route asks of its caller: a scope, for a change a token or a page of this server, and to wait its turn."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPBearer

from visavis.app.server.guard import SAFE, Client
from visavis.app.server.service import Service
from visavis.app.server.tokens import Scope

__all__ = ["Admin", "Reader", "Serving", "Turn", "Writer"]

_bearer = HTTPBearer(auto_error=False, description="A token of `visavis tokens add`.")


def _needs(scope: Scope) -> Any:
    def check(request: Request, _documented: Annotated[Any, Security(_bearer)]) -> Client:  # the guard has read it
        client: Client = request.state.client
        if client.token is not None and not client.token.may(scope):
            raise HTTPException(403, f"token: expected the scope {scope}, got {client.token.scope}")
        if scope != "read" and request.method not in SAFE and client.token is None and not client.same_origin:
            raise HTTPException(
                403, "Authorization: expected a token, or a page of this server that asks; see `visavis tokens add`"
            )
        return client

    return check


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _turn(request: Request) -> AsyncIterator[None]:
    """While it lasts the route may have photos looked at; others are answered meanwhile, on threads of their own."""
    async with request.app.state.turns.take(request.state.client.name):
        yield


Reader = Annotated[Client, Depends(_needs("read"))]
Writer = Annotated[Client, Depends(_needs("write"))]
Admin = Annotated[Client, Depends(_needs("admin"))]
Serving = Annotated[Service, Depends(_service)]
Turn = Annotated[None, Depends(_turn, scope="function")]
