"""``visavis serve`` and ``visavis tokens``."""

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from visavis.app.cli import main
from visavis.app.server.tokens import Tokens
from visavis.errors import GalleryError, InputError
from visavis.face import FaceClient, FaceSystem

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path, squares):
    FaceSystem.open(tmp_path / "g.visavis", pack=squares).close()
    return tmp_path / "g.visavis"


def test_serve_says_where_it_is_and_ends_on_ctrl_c(gallery, squares, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/shown\n")
    browser.chmod(0o700)
    command = [sys.executable, "-m", "visavis", "serve", gallery, "--pack", squares, "--port", "0", "--open"]
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            told = server.stdout.readline()
            place, url, end = told.rstrip("\n").split(" ", 2)
            assert (place, url[-1], end) == (f"{gallery}:", ",", "until Ctrl-C")
            with FaceClient(url[:-1]) as client:
                assert client.about().photos == 0
        finally:
            server.send_signal(signal.SIGINT)
        assert server.stderr.read() == ""
    assert server.returncode == 130
    assert (tmp_path / "shown").read_text() == f"{url[:-1]}\n"


def test_a_port_that_is_taken_is_told_with_the_cure(gallery, squares, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(gallery), "--pack", str(squares), "--port", str(port)]) == 3
    assert capsys.readouterr().err == f"visavis: port: expected one that is free, got {port}; give another, 0 for any\n"


def test_tokens_expire(tmp_path):
    clock = [NOW]
    tokens = Tokens(tmp_path, now=lambda: clock[0])
    short, ever = tokens.add("short", "read", days=2), tokens.add("ever", "admin")
    assert [token.expires_at for token in tokens.all()] == [None, "2026-05-03T12:30:00+00:00"]
    for passed, known in ((timedelta(days=2, seconds=-1), True), (timedelta(days=2), False)):
        clock[0] = NOW + passed
        assert (tokens.find(short) is not None) is known
        assert tokens.find(ever).name == "ever"
    for days in (0, 3651):
        with pytest.raises(InputError, match=f"days: expected 1 to 3650, got {days}"):
            tokens.add("x", "read", days=days)
    [first, second] = json.loads((tmp_path / "tokens.json").read_text())
    (tmp_path / "tokens.json").write_text(json.dumps([{**first, "expires_at": "soon"}, second]))
    with pytest.raises(GalleryError, match="expected the tokens of a gallery"):
        tokens.all()


def test_tokens_made_before_they_could_expire_never_do(tmp_path):
    secret = Tokens(tmp_path).add("old", "read")
    [token] = json.loads((tmp_path / "tokens.json").read_text())
    del token["expires_at"]
    (tmp_path / "tokens.json").write_text(json.dumps([token]))
    assert Tokens(tmp_path).find(secret).name == "old"


def test_the_list_of_tokens_tells_when_they_expire(gallery, capsys):
    here = ["--gallery", str(gallery)]
    assert main(["tokens", "add", "phone", "--days", "30", *here]) == 0
    assert capsys.readouterr().out.startswith("visavis_")
    assert main(["tokens", "add", "tablet", "--days", "0", *here]) == 2
    assert main(["tokens", "add", "tablet", *here]) == 0
    capsys.readouterr()
    assert main(["tokens", "list", *here]) == 0
    head, phone, tablet = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["name", "scope", "made", "expires"]
    made, expires = map(datetime.fromisoformat, phone[2:])
    assert expires - made == timedelta(days=30)
    assert tablet[3] == "never"
