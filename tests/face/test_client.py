"""How the client speaks HTTP, against a server that answers what a test has written. tests/app/test_client.py has the
real one."""

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from visavis import errors
from visavis.errors import (
    AccessError,
    BusyError,
    GalleryError,
    InputError,
    NotFoundError,
    PhotoError,
    ServerError,
    VisavisError,
)
from visavis.face import FaceClient
from visavis.face.connection import PAUSES_S
from visavis.face.wire import Job, Person

ADA = {"id": 3, "name": "Ada", "faces": 12, "best_face": 31}
JOB = {"id": 1, "folder": "/p", "prune": False, "state": "running", "created_at": "2026-05-01T12:30:00+00:00"}


CUT = None  # here the server hangs up


def json_answer(value, status=200, **headers):
    return status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


def error(kind, message, status, **headers):
    return json_answer({"error": {"type": kind, "message": message}}, status, **headers)


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of its server one after another, and notes what was asked."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0)
        self.close_connection = True
        if answer is CUT:
            return
        status, headers, content = answer
        self.send_response(status)
        pieces = content if isinstance(content, list) else [content]
        length = {} if isinstance(content, list) else {"Content-Length": str(len(content))}
        for name, value in {"Connection": "close", **length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815  its names

    def log_message(self, *_):
        """Quietly."""


@contextmanager
def scripted(*answers):
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.daemon_threads = False
        server.answers, server.seen = list(answers), []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses it makes, in seconds, which take no time; and no token from outside."""
    made = []
    monkeypatch.setattr("visavis.face.connection.time.sleep", made.append)
    monkeypatch.delenv("VISAVIS_TOKEN", raising=False)
    return made


# What is tried again


def test_a_question_is_asked_again_when_the_connection_fails(pauses):
    with scripted(CUT, CUT, json_answer(ADA)) as server, FaceClient(server.url) as client:
        assert client.person(3) == Person(3, "Ada", 12, 31)
    assert [seen[:2] for seen in server.seen] == [("GET", "/api/v1/people/3")] * 3
    assert pauses == list(PAUSES_S[:2])


def test_a_change_is_not_asked_for_twice(pauses):
    with (
        scripted(CUT, json_answer(ADA)) as server,
        FaceClient(server.url) as client,
        pytest.raises(ServerError, match="expected a whole answer, the connection failed"),
    ):
        client.name(3, "Ada")
    assert (len(server.seen), pauses) == (1, [])


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_puts_off_is_asked_again_after_the_time_it_says(pauses, status, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 photo")
    later = error("RateError", "wait", status, Retry_After="7")
    with scripted(later, json_answer([])) as server, FaceClient(server.url) as client:
        assert client.identify(tmp_path / "photo.jpg") == []
    assert pauses == [7.0]
    assert all(b"\xff\xd8 photo" in body for *_, body in server.seen)  # a file is read again from its start


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [(503, {}, 1), (429, {}, 1), (429, {"Retry_After": "3600"}, 1), (429, {"Retry_After": "1"}, 1 + len(PAUSES_S))],
)
def test_it_gives_up(status, headers, asked):
    answer = error("RateError", "rate: expected fewer requests", status, **headers)
    with scripted(*[answer] * 9) as server, FaceClient(server.url) as client:
        with pytest.raises(BusyError if status == 429 else ServerError, match="expected fewer requests"):
            client.people()
        assert len(server.seen) == asked


def test_a_server_that_is_not_there_or_silent_is_told_with_the_cure(pauses):
    with scripted() as server:
        url = server.url
    with (
        FaceClient(url) as client,
        pytest.raises(ServerError, match=f"{url}: expected a server, cannot connect .*serve"),
    ):
        client.about()
    assert pauses == list(PAUSES_S)
    with scripted() as server, FaceClient(server.url, timeout_s=0.05) as client:
        server.answers = Waiting()
        with pytest.raises(ServerError, match="expected an answer in time, got none; give a larger timeout_s"):
            client.about()
        server.answers.go_on.set()
    assert len(server.seen) == 1


class Waiting:
    """An answer that comes when it is let go."""

    def __init__(self):
        self.go_on = threading.Event()

    def pop(self, _):
        assert self.go_on.wait(60)
        return CUT


# Errors


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("InputError", 422, InputError),
        ("RequestError", 422, InputError),
        ("RootError", 403, AccessError),
        ("PhotoError", 422, PhotoError),
        ("TooLargeError", 413, PhotoError),
        ("GalleryError", 409, GalleryError),
        ("NotFoundError", 404, NotFoundError),
        ("BusyError", 409, BusyError),
        ("RateError", 429, BusyError),
        ("TokenError", 401, AccessError),
        ("AccessError", 403, AccessError),
        ("InternalError", 500, ServerError),
        ("expect", 500, ServerError),
        ("SystemExit", 500, ServerError),
    ],
)
def test_errors_of_the_server_are_raised_as_ours(kind, status, expected):
    with scripted(error(kind, "x: expected y", status)) as server, FaceClient(server.url) as client:
        with pytest.raises(VisavisError, match="x: expected y") as raised:
            client.name(1, "Ada")
        assert type(raised.value) is expected


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name not in ("VisavisError", "expect")])
def test_every_error_of_the_family_can_come_back(name):
    with (
        scripted(error(name, "why", 422)) as server,
        FaceClient(server.url) as client,
        pytest.raises(getattr(errors, name), match="why"),
    ):
        client.name(1, "Ada")


def test_without_a_token_it_tells_where_to_give_one():
    with (
        scripted(error("TokenError", "expected a token, got none", 401)) as server,
        FaceClient(server.url) as client,
        pytest.raises(AccessError, match="got none; give one as `token` or in VISAVIS_TOKEN; `visavis tokens add`"),
    ):
        client.about()


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"<html>"),
        json_answer({"people": 1}),
        json_answer({"id": 3}),
        json_answer({**ADA, "faces": "12"}),
        json_answer([ADA]),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (502, {}, b"<html>Bad Gateway"),
    ],
)
def test_what_is_no_answer_of_visavis_is_refused(answer):
    with scripted(answer) as server, FaceClient(server.url) as client:
        with pytest.raises(ServerError, match="expected an answer of visavis"):
            client.person(3)
        assert len(server.seen) == 1


# Progress


def event(**changes):
    return b"event: job\r\ndata: " + json.dumps({**JOB, **changes}).encode() + b"\r\n\r\n"


def test_watch_tells_every_change_once_and_outlives_lost_connections():
    kind = {"Content-Type": "text/event-stream"}
    first = (200, kind, [event(done=1), b": ping\r\n\r\n", event(done=2)])
    cut = (200, {**kind, "Content-Length": "9999"}, [event(done=2), event(done=3)])
    last = (200, kind, [event(done=3), event(done=4, state="done"), event(done=5)])
    with scripted(first, CUT, cut, last) as server, FaceClient(server.url) as client:
        seen = list(client.watch(1))
    assert [job.done for job in seen] == [1, 2, 3, 4]
    assert isinstance(seen[-1], Job)
    assert seen[-1].ended
    assert [path for _, path, *_ in server.seen] == ["/api/v1/index/jobs/1/events"] * 4


def test_watch_gives_up_where_nothing_comes():
    silent = (200, {"Content-Type": "text/event-stream"}, [])
    with scripted(*[silent] * 9) as server, FaceClient(server.url) as client:
        with pytest.raises(ServerError, match="expected to be told how it goes on"):
            list(client.watch(1))
        assert len(server.seen) == 1 + len(PAUSES_S)


VISIT = {
    "id": 9,
    "stream": 1,
    "track": 3,
    "present": True,
    "from_s": 2.0,
    "until_s": 9.5,
    "has_picture": True,
    **dict.fromkeys(("began_at", "last_at", "person", "name", "probability", "false_match_rate")),
}
STREAM = {"id": 1, "name": "door", "live": True, "state": "running", "started_at": "2026-05-01T12:30:00+00:00"}


def happened(kind, value, number=None):
    head = f"id: {number}\nevent: {kind}\n" if number else f"event: {kind}\n"
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def test_what_happens_in_streams_is_told_on_from_where_the_connection_ended():
    kind = {"Content-Type": "text/event-stream"}
    first = (200, kind, [happened("stream", STREAM), happened("appeared", VISIT, 41), b": ping\n\n"])
    second = (200, kind, [happened("left", {**VISIT, "present": False}, 42)])
    with scripted(first, CUT, second) as server, FaceClient(server.url) as client:
        one, two, three = itertools.islice(client.watch_streams(), 3)
    assert (one.event, one.stream.name, one.visit) == ("stream", "door", None)
    assert (two.event, two.visit.id, two.stream) == ("appeared", 9, None)
    assert (three.event, three.visit.present) == ("left", False)
    assert [seen[2].get("Last-Event-ID") for seen in server.seen] == [None, "41", "41"]


# Files


def test_an_export_appears_when_it_is_whole_and_for_its_owner_only(tmp_path):
    cut = (200, {"Content-Length": "9999"}, [b"half"])
    with scripted(cut, (200, {}, b"whole")) as server, FaceClient(server.url) as client:
        client.export_to(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert len(server.seen) == 2
    for answers, kind in (([cut] * 9, ServerError), ([error("AccessError", "no", 403)], AccessError)):
        with scripted(*answers) as server, FaceClient(server.url) as client, pytest.raises(kind):
            client.export_to(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_about_a_photo_bears_its_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    for second, name in ((tmp_path / "a.jpg", f"{tmp_path}/a.jpg"), (b"b", "photo 2")):
        with (
            scripted(error("PhotoError", "photo 2: file: no", 422)) as server,
            FaceClient(server.url) as client,
            pytest.raises(PhotoError, match=f"^{name}: file: no"),
        ):
            client.enroll("Ada", [b"a", second])


def test_a_photo_that_cannot_be_read_is_not_sent(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with scripted() as server, FaceClient(server.url) as client:
        for path, reason in ((tmp_path / "none", "cannot be read"), (tmp_path, "folder"), (tmp_path / "pipe", "pipe")):
            with pytest.raises(PhotoError, match=f"^{path}: file: .*{reason}"):
                client.identify(path)
        with pytest.raises(InputError, match="photos: expected at least one, got none"):
            client.enroll("Ada", [])
    assert server.seen == []


# Tokens and addresses


def test_the_token_is_sent_and_never_shown(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    refused = error("TokenError", "expected another", 401)
    with scripted(json_answer(ADA), refused) as server, FaceClient(server.url, token="visavis_secret") as client:
        client.person(3)
        with pytest.raises(AccessError) as raised:
            client.name(3, "Ada")
        for text in (repr(client), repr(vars(client)), repr(vars(client._server)), str(raised.value), caplog.text):
            assert "secret" not in text
        assert [headers["Authorization"] for _, _, headers, _ in server.seen] == ["Bearer visavis_secret"] * 2
    monkeypatch.setenv("VISAVIS_TOKEN", "visavis_of_environment")
    with scripted(json_answer(ADA), json_answer(ADA)) as server:
        with FaceClient(server.url) as client:
            client.person(3)
        with FaceClient(server.url, token="") as client:  # none, whatever the environment says
            client.person(3)
    first, second = (headers.get("Authorization") for _, _, headers, _ in server.seen)
    assert (first, second) == ("Bearer visavis_of_environment", None)
    with pytest.raises(InputError, match="token: expected letters, digits and signs") as raised:
        FaceClient("http://127.0.0.1", token="visavis_se\ncret")
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8765", "ftp://x", "http://", "http://h:99999", "http://u:p@h", "http://h/?a", "http://h/#a"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(InputError, match="url: expected one as http://127.0.0.1:8765"):
        FaceClient(url)


def test_no_proxy_stands_before_this_computer_and_a_path_before_the_api_stays(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with scripted(json_answer(ADA)) as server, FaceClient(f"{server.url}/faces/") as client:
        assert client.person(3).name == "Ada"
    assert server.seen[0][1] == "/faces/api/v1/people/3"


@pytest.mark.parametrize("number", ["../../../export", -1, None, 1.5])
def test_what_is_no_number_gets_into_no_path(number):
    with FaceClient("http://127.0.0.1:9") as client, pytest.raises(InputError, match="id: expected a number"):
        client.thumbnail(number)


def test_faces_are_of_a_person_or_a_photo():
    with FaceClient("http://127.0.0.1:9") as client:
        for which in ({}, {"person": 1, "photo": 2}):
            with pytest.raises(InputError, match="expected a person or a photo, got both or neither"):
                client.faces(**which)


def test_it_needs_nothing_of_the_face_system_but_httpx():
    code = "import sys; from visavis.face import FaceClient; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "httpx" in loaded
    assert not loaded & {"numpy", "torch", "PIL", "onnxruntime", "fastapi", "pydantic", "typer"}
