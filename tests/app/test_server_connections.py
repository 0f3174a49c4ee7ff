"""Clients that are slow, speak no HTTP or hang up: the server lets go of them and answers the others meanwhile."""

import contextlib
import json
import select
import socket
import time

import httpx
import pytest

from tests.app.server_client import running
from visavis.app.server import connections

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WAIT_S = 60


async def app(scope, _receive, send):
    """Answers at once, without a look at the body; /large with more than fits between two programs."""
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(50_000_000) if scope["path"] == "/large" else b"ok"})


@pytest.fixture
def server():
    """Its port, and what it knows of its connections."""
    with running(app) as (port, state):
        yield port, state


@contextlib.contextmanager
def opened(port, sent=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(sent)
        yield connection


def rest(connection):
    """All that still comes, until the server closes."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_healthy(port):
    return httpx.get(f"http://127.0.0.1:{port}/", timeout=WAIT_S).text == "ok"


def refused(answer, status):
    """The message of the last answer, an error of our shape."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}".encode())
    assert b"content-type: application/json" in head.lower()
    return json.loads(body)["error"]["message"]


def test_two_hundred_slow_heads_delay_nobody_and_come_to_an_end(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 2.0)
    port, state = server
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(opened(port, HEAD[: 1 + number % len(HEAD)])) for number in range(200)]
        for _ in range(20):
            assert is_healthy(port)
        deadline = time.monotonic() + WAIT_S
        while slow and time.monotonic() < deadline:  # a byte of a header now and then, until the server has had enough
            ended, _, _ = select.select(slow, [], [], 0.05)
            for connection in ended:
                assert "expected its head within 2 s" in refused(rest(connection), 408)
                slow.remove(connection)
            for connection in slow:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"a")
        assert not slow
        until(lambda: not state.connections)
        assert is_healthy(port)


def test_when_all_connections_are_taken_the_longest_idle_makes_room(server, monkeypatch):
    monkeypatch.setattr(connections, "MOST", 10)
    port, state = server
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(60):
            idle.append(stack.enter_context(opened(port, HEAD)))
            assert is_healthy(port)
            assert len(state.connections) <= 10
        assert rest(idle[0]) == b""
        idle[-1].sendall(b"\r\n")
        assert idle[-1].recv(1000).startswith(b"HTTP/1.1 200")


def test_a_head_has_so_many_bytes(server):
    port, _ = server
    for endless in (b"X: " + b"a" * 100_000, b"a: b\r\n" * 100_000, b"\r\n" * 100_000):
        with opened(port) as connection:
            with contextlib.suppress(ConnectionError):  # closed while it was still being sent
                connection.sendall(HEAD + endless)
            answer = rest(connection)
            assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert is_healthy(port)


def test_a_body_nobody_wants_any_more_comes_to_an_end(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    port, state = server
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with opened(port, head + b"1\r\na\r\n") as connection:
        until(lambda: not sent(connection, b"1\r\na\r\n"))
    until(lambda: not state.connections)


def sent(connection, data):
    try:
        connection.sendall(data)
    except ConnectionError:
        return False
    return True


def test_an_answer_that_is_not_read_is_given_up(server, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    port, state = server
    for asked in (1, 3):  # answers
        with opened(port, b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * asked):
            until(lambda: state.connections)
            until(lambda: not state.connections)
    assert is_healthy(port)


@pytest.mark.parametrize("then", ["keep-alive", "close"])
def test_an_answer_that_is_read_slowly_is_read_to_its_end(server, monkeypatch, then):
    for name in ("UNREAD_S", "HEAD_S", "CLOSING_S"):
        monkeypatch.setattr(connections, name, 0.5)
    port, _ = server
    with opened(port, f"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {then}\r\n\r\n".encode()) as connection:
        read = 0
        while piece := connection.recv(2**20):
            read += len(piece)
            time.sleep(0.02)
    assert read > 50_000_000


def test_what_follows_a_request_is_answered_in_its_turn(server):
    port, _ = server
    with opened(port, HEAD + b"\r\n" + HEAD + b"\r\n" + b"\x16\x03\x01\0garbage\r\n\r\n") as connection:
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert "Invalid HTTP" in refused(answer, 400)


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\rb\nc\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_http_is_400(server, raw):
    port, _ = server
    with opened(port, raw) as connection:
        assert refused(rest(connection), 400) == "Invalid HTTP request received."
    assert is_healthy(port)


def test_hanging_up_at_any_moment_leaves_nothing_behind(server):
    port, state = server
    whole = HEAD + b"\r\n"
    for length in range(len(whole) + 1):
        with opened(port, whole[:length]):
            pass
        with opened(port, whole[:length]) as connection:
            connection.shutdown(socket.SHUT_WR)
            rest(connection)
    until(lambda: not state.connections)
    until(lambda: not state.tasks)
    assert is_healthy(port)


def test_an_upgrade_is_not_made(server):
    port, _ = server
    upgrade = b"Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"
    with opened(port, HEAD + upgrade) as connection:
        assert rest(connection).startswith(b"HTTP/1.1 200")
