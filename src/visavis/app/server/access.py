"""What a route asks of its caller: a scope, for a change a token or a page of this server, and to wait its turn."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPBearer

from visavis.app.server.guard import SAFE, Client
from visavis.app.server.service import Service
from visavis.app.server.tokens import Scope

__all__ = ["Admin", "DecodingTurn", "Reader", "Serving", "Turn", "Writer"]

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


def _waits_in(line: str) -> Any:
    async def wait(request: Request) -> AsyncIterator[None]:
        async with getattr(request.app.state, line).take(request.state.client.name):
            yield

    return wait


Reader = Annotated[Client, Depends(_needs("read"))]
Writer = Annotated[Client, Depends(_needs("write"))]
Admin = Annotated[Client, Depends(_needs("admin"))]
Serving = Annotated[Service, Depends(_service)]
# Work that takes long waits here, so that threads are left for the rest.
Turn = Annotated[None, Depends(_waits_in("turns"), scope="function")]  # to have photos looked at
DecodingTurn = Annotated[None, Depends(_waits_in("decoding_turns"), scope="function")]  # to have them decoded only
