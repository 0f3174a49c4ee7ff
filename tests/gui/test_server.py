"""The MCP server, asked by the client of the protocol's own library: in process, over pipes, over HTTP."""

import asyncio
import base64
import contextlib
import io
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.gui.fake_screen import BUTTON, FIELD, FakeScreen
from visavis.errors import InputError, ScreenError
from visavis.gui.actions import Click, Type, schema
from visavis.gui.safety import Policy, Secret
from visavis.gui.server import make_server, serve_http

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-tests-only"
WHY = {"thought": "as the test says"}
SCRIPT = f"""
import sys
from tests.gui.fake_screen import FakeScreen
from visavis.gui.server import make_server, serve_http, serve_stdio
server = make_server(FakeScreen())
if sys.argv[1:] == ["http"]:
    serve_http(server, token="{TOKEN}", on_ready=lambda address: print(address, flush=True))
else:
    serve_stdio(server)
"""


def ask(screen, *calls, policy=None):
    """Call tools, in process; what they answered."""
    from mcp import Client

    async def asked():
        async with Client(make_server(screen, policy=policy)) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(asked())


def text(result):
    return result.content[0].text


def picture(result):
    (image,) = result.content[1:]
    assert image.mime_type == "image/png"
    with Image.open(io.BytesIO(base64.b64decode(image.data)), formats=["PNG"]) as opened:
        return np.asarray(opened.convert("RGB"))


def test_it_has_a_tool_for_every_action_of_a_screen():
    from mcp import Client

    async def asked():
        async with Client(make_server(FakeScreen())) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(asked())}
    kinds = {kind["properties"]["action"]["const"]: kind for kind in schema()["oneOf"]}
    assert set(tools) == {"screenshot", *kinds} - {"finished", "call_user"}
    for name, tool in tools.items():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.description
        if name != "screenshot":
            assert set(tool.input_schema["properties"]) == set(kinds[name]["properties"]) - {"action"} | {"thought"}
    assert jsonschema.Draft202012Validator(tools["click"].input_schema).is_valid({"point": [1, 2], **WHY})
    assert not jsonschema.Draft202012Validator(tools["click"].input_schema).is_valid({"point": [1, 2]})


def test_it_looks_and_acts():
    screen = FakeScreen()
    look, click, focus, typed, waited, _, nothing = ask(
        screen,
        ("screenshot", {}),
        ("click", {"point": list(BUTTON), **WHY}),
        ("click", {"point": list(FIELD), **WHY}),
        ("type", {"text": "Ada", **WHY}),
        ("wait", {"seconds": 0, **WHY}),
        ("click", {"point": [90, 5], **WHY}),  # takes the caret away
        ("click", {"point": [90, 5], **WHY}),
    )
    assert text(look) == "96 x 64 pixels"
    assert (picture(look) == FakeScreen().screenshot().pixels).all()
    assert screen.done == [Click(BUTTON), Click(FIELD), Type("Ada"), *[Click((90, 5))] * 2]
    assert text(click) == text(focus) == text(typed) == "Performed."
    assert (picture(nothing) == screen.screenshot().pixels).all()
    assert text(waited) == "Waited."
    assert text(nothing).startswith("Performed. The screen did not change")
    assert not any(result.is_error for result in (look, click, focus, typed, waited, nothing))


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("click", {"point": [1000, 1], **WHY}, "expected a pixel of 96 x 64"),
        ("click", {"point": [1, 1], "action": "navigate", "url": "x", **WHY}, "click: expected the fields"),
        ("click", {"point": "a", **WHY}, "point"),
        ("click", {"point": [1, 1]}, "thought: expected a sentence"),
        ("click", {"point": [1, 1], "thought": " "}, "thought: expected a sentence"),
        ("finished", {"content": "x", **WHY}, "agent's own"),
        ("format_disk", WHY, "expected one of move"),
    ],
)
def test_what_is_no_action_is_told(name, arguments, why):
    screen = FakeScreen()
    (result,) = ask(screen, (name, arguments))
    assert result.is_error
    assert why in text(result)
    assert screen.done == []


def test_the_policy_stands_between():
    policy = Policy(
        origins=("https://example.org",),
        secrets={"pin": Secret("9876", ("https://example.org",)), "far": Secret("5432", ("https://other.org",))},
        masks=((0, 0, 96, 32),),
    )
    screen = FakeScreen(url="https://example.org/")
    look, bought, away, focus, typed, far = ask(
        screen,
        ("screenshot", {}),
        ("click", {"point": list(BUTTON), "thought": "I click Buy now."}),
        ("navigate", {"url": "https://evil.org/", **WHY}),
        ("click", {"point": list(FIELD), **WHY}),
        ("type", {"text": "{{secret:pin}}", **WHY}),
        ("type", {"text": "{{secret:far}}", **WHY}),
        policy=policy,
    )
    assert not picture(look)[:32].any()
    assert not picture(typed)[:32].any()
    assert "and nobody can be asked" in text(bought)
    assert "not among the addresses" in text(away)
    assert [result.is_error for result in (bought, away, focus, typed, far)] == [True, True, False, False, True]
    assert screen.text == "9876"
    assert "9876" not in text(typed)
    assert screen.done == [Click(FIELD), Type("9876")]


def test_a_dry_run_performs_nothing():
    screen = FakeScreen()
    acted, waited = ask(
        screen,
        ("click", {"point": list(BUTTON), **WHY}),
        ("wait", {"seconds": 3600, **WHY}),
        policy=Policy(dry_run=True),
    )
    assert "dry run" in text(acted)
    assert "dry run" in text(waited)
    assert screen.done == []


@pytest.mark.parametrize("acted", [True, False])
def test_a_screen_that_fails_is_told(acted):
    policy = Policy(secrets={"pin": Secret("9876", ("*",))})

    def fail(what):
        if isinstance(what, Type):
            raise ScreenError("screen: expected an answer to 9876, got none", acted=acted)

    (result,) = ask(FakeScreen(fail), ("type", {"text": "{{secret:pin}}", **WHY}), policy=policy)
    assert result.is_error
    assert "{{secret:pin}}" in text(result)
    assert "9876" not in text(result)
    assert ("may have been performed" in text(result)) == acted


def test_the_screen_is_used_from_one_thread():
    threads = set()
    screen = FakeScreen(lambda _: threads.add(threading.get_ident()))

    async def asked():
        from mcp import Client

        async with Client(make_server(screen)) as client:
            calls = [client.call_tool("click", {"point": list(BUTTON), **WHY}) for _ in range(8)]
            await asyncio.gather(*calls)

    asyncio.run(asked())
    assert screen.clicks == 8
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_over_pipes(tmp_path):
    from mcp import Client, StdioServerParameters, stdio_client

    async def asked(errors):
        server = StdioServerParameters(command=sys.executable, args=["-c", SCRIPT], cwd=str(ROOT))
        async with Client(stdio_client(server, errlog=errors)) as client:
            return await client.call_tool("click", {"point": list(BUTTON), **WHY})

    with (tmp_path / "errors").open("w") as errors:
        assert text(asyncio.run(asked(errors))) == "Performed."
    assert (tmp_path / "errors").read_text() == ""


@contextlib.contextmanager
def http_server():
    command = [sys.executable, "-c", SCRIPT, "http"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        errors = process.communicate(timeout=60)[1]
        assert "Traceback" not in errors


def test_over_http_with_the_token_alone():
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def asked(address):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return await client.call_tool("click", {"point": list(BUTTON), **WHY})

    with http_server() as address:
        assert address.startswith("http://127.0.0.1:")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"Accept": "application/json, text/event-stream"}
        wrong = [{}, *({"Authorization": value} for value in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", ""))]
        for headers in wrong:
            assert httpx2.post(address, json=call, headers=accept | headers).status_code == 401
        right = accept | {"Authorization": f"Bearer {TOKEN}"}
        # A page that a browser here shows, by a name of its own or of its own origin, is kept out even with the token.
        assert httpx2.post(address, json=call, headers=right | {"Host": "evil.org"}).status_code == 421
        assert httpx2.post(address, json=call, headers=right | {"Origin": "https://evil.org"}).status_code == 403
        assert text(asyncio.run(asked(address))) == "Performed."


@pytest.mark.parametrize("token", ["", "short", "with a space in it, long", "ünïcödé-ünïcödé-ünïcödé", "line\n" * 5])
def test_a_token_that_is_none_is_refused(token):
    with pytest.raises(InputError, match="token: expected at least 16 ASCII letters"):
        serve_http(make_server(FakeScreen()), token=token)
