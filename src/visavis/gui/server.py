"""A screen as a server of the Model Context Protocol: other agents look at it and act on it, under our policy."""

import asyncio
import base64
import hmac
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from visavis.errors import InputError, MissingExtraError, ScreenError
from visavis.gui._png import to_png
from visavis.gui.actions import Action, Wait, check, from_json, schema
from visavis.gui.agent.reflection import change_between, effect
from visavis.gui.safety import Policy
from visavis.gui.screen import Screen, Screenshot

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

__all__ = ["make_server", "serve_http", "serve_stdio"]

HOST = "127.0.0.1"
SHORTEST_TOKEN = 16
OWN = ("finished", "call_user")  # of an agent, not of a screen
ABOUT = (
    "A screen. Take a screenshot, act, and look at the picture that comes back. Points are whole pixels [x, y] of the "
    "screenshot, from its top left corner."
)
THOUGHT = {"type": "string", "minLength": 1, "description": "What this does and why, in a sentence: it is judged by."}


def make_server(screen: Screen, *, policy: Policy | None = None) -> "Server[Any]":
    """The server, with a tool `screenshot` and one for every action but `finished` and `call_user`.

    An action passes the policy before it is performed; what that asks about is refused, as nobody can be asked. It is
    answered with what came of it and a new screenshot.

    Args:
        screen: is used from one thread of the server's own; the caller closes it.
        policy: what may be done, typed and seen.

    Raises:
        MissingExtraError: mcp is not installed.
    """
    try:
        from mcp import types
        from mcp.server.lowlevel import Server
    except ImportError as error:
        raise MissingExtraError("mcp: expected it to be installed; pip install 'visavis[gui]'") from error
    tools = _Tools(screen, policy or Policy())

    async def list_tools(_context: Any, _params: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in _described()])

    async def call_tool(_context: Any, params: Any) -> Any:
        text, seen = await tools.call(params.name, dict(params.arguments or {}))
        content: list[Any] = [types.TextContent(type="text", text=text)]
        if seen is not None:
            data = base64.b64encode(to_png(seen.pixels)).decode("ascii")
            content.append(types.ImageContent(type="image", data=data, mime_type="image/png"))
        return types.CallToolResult(content=content, is_error=seen is None)

    about = tools.policy.told(ABOUT)
    return Server("visavis", instructions=about, on_list_tools=list_tools, on_call_tool=call_tool)


def serve_stdio(server: "Server[Any]") -> None:
    """Serve the process that started this one, over standard input and output, until it closes them."""
    from mcp.server.stdio import stdio_server

    async def serve() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(serve())


def serve_http(
    server: "Server[Any]", *, token: str, port: int = 0, on_ready: Callable[[str], object] | None = None
) -> None:
    """Serve this computer over streamable HTTP on 127.0.0.1, until Ctrl-C or SIGTERM.

    Args:
        server: of `make_server`.
        token: what a client has to send as `Authorization: Bearer ...`; at least 16 letters.
        port: to listen on; 0: any that is free.
        on_ready: called with the address when it listens.

    Raises:
        InputError: the token is too short to be one, or holds other letters than an HTTP header can.
        OSError: the port is taken.
    """
    import uvicorn
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings

    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError(f"token: expected at least {SHORTEST_TOKEN} ASCII letters, got {len(token)} characters")

    class Verifier:
        async def verify_token(self, given: str) -> AccessToken | None:
            right = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
            return AccessToken(token=given, client_id="owner", scopes=[]) if right else None

    with socket.create_server((HOST, port)) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        app = server.streamable_http_app(
            host=HOST,
            auth=AuthSettings.model_validate({"issuer_url": address, "resource_server_url": None}),
            token_verifier=Verifier(),
        )
        if on_ready is not None:
            on_ready(f"{address}/mcp")
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])


class _Tools:
    """A screen behind a policy."""

    def __init__(self, screen: Screen, policy: Policy) -> None:
        self._screen, self.policy = screen, policy
        self._thread = ThreadPoolExecutor(1, "visavis-screen")

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, Screenshot | None]:
        """What is to be said, and what is to be seen; nothing is, when the call failed."""
        loop = asyncio.get_running_loop()
        try:
            if name == "screenshot":
                seen = await loop.run_in_executor(self._thread, self._look)
                return f"{seen.size[0]} x {seen.size[1]} pixels", seen
            thought = arguments.pop("thought", None)
            if not isinstance(thought, str) or not thought.strip():
                raise InputError("thought: expected a sentence on what this does and why, got none")
            if name in OWN:
                raise InputError(f"tool: expected one of this screen, got {name}, which is an agent's own")
            action = from_json({**arguments, "action": name})
            if isinstance(action, Wait) and not self.policy.dry_run:
                await asyncio.sleep(action.seconds)
                return "Waited.", await loop.run_in_executor(self._thread, self._look)
            return await loop.run_in_executor(self._thread, self._act, action, thought)
        except (InputError, ScreenError) as error:
            may = " It may have been performed: look." if isinstance(error, ScreenError) and error.acted else ""
            return self.policy.hide(f"Failed: {error}.{may}"), None

    def _look(self) -> Screenshot:
        return self.policy.mask(self._screen.screenshot())

    def _act(self, action: Action, thought: str) -> tuple[str, Screenshot | None]:
        before = self._look()
        check(action, before.size)
        judgement = self.policy.judge(action, thought=thought, url=before.url)
        if judgement.answer != "allow":
            nobody = ", and nobody can be asked" if judgement.answer == "ask" else ""
            return f"Not performed: {judgement.reason}{nobody}.", None
        if self.policy.dry_run:
            return "This is a dry run: the action was noted, and not performed.", before
        self._screen.perform(self.policy.reveal(action, url=before.url))
        after = self._look()
        remark = effect(change_between(before.pixels, after.pixels, (action,)), (action,), after.size)
        return " ".join(part for part in ("Performed.", remark) if part), after


def _described() -> list[dict[str, Any]]:
    """The tools, from the schema of actions."""
    look = {"type": "object", "properties": {}, "additionalProperties": False}
    tools: list[dict[str, Any]] = [
        {
            "name": "screenshot",
            "description": "Look at the screen.",
            "inputSchema": look,
            "annotations": {"readOnlyHint": True},
        }
    ]
    for kind in schema()["oneOf"]:
        properties = dict(kind["properties"])
        name = properties.pop("action")["const"]
        if name not in OWN:
            required = [field for field in kind["required"] if field != "action"]
            form = {
                "type": "object",
                "properties": {**properties, "thought": THOUGHT},
                "required": [*required, "thought"],
                "additionalProperties": False,
            }
            tools.append({"name": name, "description": kind["description"], "inputSchema": form})
    return tools
