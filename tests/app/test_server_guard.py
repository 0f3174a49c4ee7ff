"""The guard by itself, before an application that only reads the body it is sent."""

import asyncio
import json
import tracemalloc

import pytest

from visavis.app.server import guard
from visavis.app.server.guard import Guard, Rules
from visavis.app.server.tokens import Tokens

FORM = {"content-type": "multipart/form-data; boundary=x"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def guarded(tmp_path):
    """Makes a guard with rules; `clock` is its time, `tokens` are whom it lets in, `refused` is what it tells."""

    def make(**rules):
        return Guard(
            application, tokens=make.tokens, rules=Rules(**rules), clock=make.clock, on_refused=make.refused.append
        )

    make.tokens, make.clock, make.refused = Tokens(tmp_path), Clock(), []
    return make


async def application(scope, receive, send):
    """Answers with the number of bytes it was sent."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    scope["state"]["read"] = size
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def ask(made, *pieces, path="/", method="POST", address="127.0.0.1", headers=(), host="127.0.0.1"):
    """The status and what the answer's body holds."""
    sent, answer = iter([*pieces, None]), {}

    async def receive():
        piece = next(sent)
        if piece is None:
            await asyncio.Event().wait()
        if callable(piece):
            piece = await piece()
        return {"type": "http.request", "body": piece, "more_body": True}

    async def whole():
        return {"type": "http.request", "body": b"".join(pieces), "more_body": False}

    async def send(message):
        answer.update(message)

    pairs = [("host", host), *(dict(headers).items() if isinstance(headers, dict) else headers)]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": (address, 1),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
    }
    ends = not any(piece is None or callable(piece) for piece in pieces)
    await made(scope, whole if ends else receive, send)
    return answer["status"], json.loads(answer["body"])


def asked(made, *pieces, **options):
    return asyncio.run(ask(made, *pieces, **options))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:80", "LOCALHOST:8765", "[::1]:8765", "[::1]"],
)
def test_hosts_of_this_server(guarded, host):
    assert asked(guarded(), host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "::1",
        "127.0.0.1:80@evil.example",
        "127.0.0.1:evil.example",
        "[::1]evil.example",
        "[::1",
        "127.0.0.1 ",
        "127.0.0.1:123456",
        "evil.example:127.0.0.1",
        "0x7f.1",
    ],
)
def test_hosts_that_only_look_like_it(guarded, host):
    status, answer = asked(guarded(), host=host)
    assert (status, answer["error"]["type"]) == (421, "RequestError")


def test_what_decides_is_said_once(guarded):
    for name in ("origin", "authorization", "content-type", "content-length", "sec-fetch-site", "Host"):
        pairs = [(name, "same-origin"), (name.upper(), "same-origin")]
        status, answer = asked(guarded(), headers=pairs)
        assert (status, answer["error"]["message"]) == (400, f"{name.lower()}: expected once, got it again")
    assert asked(guarded(), headers=[("cookie", "a=b"), ("cookie", "c=d")])[0] == 200


@pytest.mark.parametrize("length", ["x", "-1", "1.0", "\u00b2", "9" * 5000, ""])
def test_lengths_that_are_none(guarded, length):
    status, answer = asked(guarded(), headers={**FORM, "content-length": length})
    assert (status, answer["error"]["message"]) == (400, "Content-Length: expected a number of bytes")


def test_only_who_may_import_may_send_as_much(guarded):
    made = guarded(body_bytes=10, larger={"/import": 100})
    long = {**FORM, "content-length": "50"}
    assert asked(made, bytes(50), path="/import", headers=long)[0] == 413
    assert asked(made, bytes(50), path="/import", headers=long | {"origin": "http://127.0.0.1"})[0] == 200
    assert asked(made, bytes(50), path="/other", headers=long | {"origin": "http://127.0.0.1"})[0] == 413
    for scope, status in (("read", 413), ("write", 413), ("admin", 200)):
        bearer = {"authorization": f"Bearer {guarded.tokens.add(scope, scope)}"}
        assert asked(made, bytes(50), path="/import", headers=long | bearer)[0] == status


def test_a_body_that_comes_too_slowly_is_given_up(guarded, monkeypatch):
    made = guarded()

    async def late():
        guarded.clock.now += 20  # never as long as between two pieces, and ever too few of them
        return bytes(100)

    status, answer = asked(made, late, late, late, late, headers=FORM)
    assert (status, answer["error"]["type"]) == (408, "TimeoutError")
    assert "16 KiB a second" in answer["error"]["message"]
    assert (made.held_bytes, made.at_work) == (0, 0)
    monkeypatch.setattr(guard, "IDLE_S", 0.05)
    assert asked(made, None, headers=FORM)[0] == 408


def test_bodies_of_all_requests_have_so_much_room(guarded):
    made = guarded(held_bytes=1000)

    async def many():
        goes_on = asyncio.Event()

        async def waits():
            await goes_on.wait()
            raise asyncio.CancelledError

        first = asyncio.create_task(ask(made, bytes(900), waits, headers=FORM))
        while made.held_bytes < 900:
            await asyncio.sleep(0)
        said = await ask(made, bytes(200), headers={**FORM, "content-length": "200"})
        unsaid = await ask(made, bytes(200), headers={**FORM, "transfer-encoding": "chunked"})
        short = await ask(made, bytes(50), headers=FORM)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return said, unsaid, short, await ask(made, bytes(900), headers=FORM)

    said, unsaid, short, after = asyncio.run(many())
    assert (said[0], unsaid[0], short[0], after[0]) == (503, 503, 200, 200)
    assert "fewer bytes of uploads" in said[1]["error"]["message"]
    assert (made.held_bytes, guarded.refused) == (0, ["room"] * 2)


def test_so_many_requests_at_once(guarded):
    made = guarded(at_once=3)

    async def many():
        waiting = [asyncio.create_task(ask(made, None, headers=FORM)) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await ask(made)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return refused, await ask(made)

    refused, after = asyncio.run(many())
    assert (refused[0], after[0]) == (503, 200)


def test_ten_thousand_guesses_from_everywhere(guarded):
    made, secret = guarded(open=False), guarded.tokens.add("right", "read")

    async def guess(addresses):
        wrong = {"authorization": "Bearer visavis_guess"}
        return [(await ask(made, path="/api", address=one, headers=wrong))[0] for one in addresses]

    tracemalloc.start()
    statuses = asyncio.run(guess(f"2001:db8:0:1::{number:x}" for number in range(5000)))
    assert statuses == [401] * 20 + [429] * 4980  # one subscriber, whatever address he takes
    assert set(asyncio.run(guess(f"2001:db8:{number:x}::1" for number in range(5000)))) == {401}
    assert tracemalloc.get_traced_memory()[0] < 20e6
    tracemalloc.stop()
    assert asked(made, path="/api", address="2001:db8:0:1::1", headers={"authorization": f"Bearer {secret}"})[0] == 200
    assert guarded.refused == ["token"] * 10_000
