"""The commands of ``visavis face`` with --server: each answers as it does on a gallery of this computer."""

import json
import os
import shutil

import pytest

from tests.app.server_client import EASY, gallery, service
from tests.app.web_client import serving
from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.app.server.application import make_app
from visavis.face import FaceClient
from visavis.face.wire import Job

__all__ = ["gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def copy(gallery, tmp_path, monkeypatch, squares):
    """Of the gallery, before the service opens it; and nothing in the environment."""
    for name in ("SERVER", "TOKEN", "GALLERY"):
        monkeypatch.delenv(f"VISAVIS_{name}", raising=False)
    monkeypatch.setenv("VISAVIS_PACK", str(squares))
    return shutil.copytree(gallery, tmp_path / "copy.visavis")


@pytest.fixture
def url(copy, service):
    assert copy.is_dir()
    with serving(make_app(service, EASY)) as address:
        yield address


@pytest.fixture
def token_file(service, tmp_path):
    path = tmp_path / "token"
    path.write_text(service.tokens.add("owner", "admin") + "\n")
    return path


@pytest.fixture
def face(capsys):
    """Runs ``visavis face ...``: the exit code, and what was printed."""

    def run(*arguments):
        code = main(["face", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_commands_answer_as_on_a_gallery_here(face, copy, url, token_file, photos, tmp_path):
    photo(photos / "new\n.png", 1)
    (photos / "bad.jpg").write_bytes(b"bad")
    party, nobody = photo(tmp_path / "party.png", 0, 5), photo(tmp_path / "nobody.png")
    server, here = ["--server", url, "--token-file", token_file], ["--gallery", copy]
    for arguments in (
        ["people"],
        ["people", "Ada"],
        ["photos"],
        ["identify", party, nobody, tmp_path / "none.png"],
        ["identify", nobody, "--false-match-rate", "0.01"],
        ["search", party, "-k", "3"],
        ["search", nobody],
        ["name", "2", "Bob"],
        ["name", "2", "Ada"],
        ["name", "Bob", "\x1b"],
        ["name", "Nobody", "x"],
        ["split", "4"],
        ["split", "4"],
        ["merge", "Bob", "3"],
        ["cluster", "--fresh"],
        ["index", photos],
        ["index", photos],
        ["export", tmp_path / "export"],
        ["import", tmp_path / "export"],
        ["import", party],
        ["enroll", "Eve", photo(tmp_path / "eve.png", 6), photo(tmp_path / "eve 2.png", 6)],
        ["enroll", "Eve", party],
    ):
        for form in ([], ["--json"]):
            assert face(*arguments, *server, *form) == face(*arguments, *here, *form)
    for place in (server, here):  # whose files and logs differ
        code, told, _ = face("forget", "Ada", "--yes", *place)
        assert (code, "nothing of it is left" in told) == (0, True)
    assert face("people", *server) == face("people", *here)


def test_verify_asks_the_server_for_its_models(face, url, photos):
    pair = [photos / "0.png", photos / "1.png"]
    for form in ([], ["--json"]):
        there = face("verify", *pair, "--server", url, *form)
        assert there == face("verify", *pair, "--pack", os.environ["VISAVIS_PACK"], *form)
        assert there[0] == 0


def test_ctrl_c_stops_the_servers_job(face, url, token_file, photos, monkeypatch):
    cancelled = []

    def watch(self, job):
        yield self.job(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(FaceClient, "watch", watch)
    monkeypatch.setattr(FaceClient, "cancel", lambda _, job: cancelled.append(job))
    assert face("index", photos, "--server", url, "--token-file", token_file)[0] == 130
    assert cancelled == [1]


@pytest.mark.parametrize(("state", "error"), [("failed", "the disk is full"), ("cancelled", None)])
def test_a_job_that_is_not_done_exits_with_3(face, photos, monkeypatch, state, error):
    job = Job(7, str(photos), False, state, "2026-05-01T12:30:00+00:00", error=error)
    monkeypatch.setattr(FaceClient, "index", lambda *_, **__: job)
    monkeypatch.setattr(FaceClient, "watch", lambda *_: [job])
    code, _, told = face("index", photos, "--server", "http://127.0.0.1:9")
    assert (code, told) == (3, f"visavis: index: expected the server's job 7 to be done, it is {state}: {error}\n")


def test_where_to_ask(face, copy, monkeypatch, tmp_path):
    """Of command line and environment, of a gallery and a server."""
    asked = []
    monkeypatch.setattr(FaceClient, "people", lambda self: asked.append(repr(self)) or [])
    here = ["--gallery", copy]
    there = ["--server", "http://127.0.0.1:9"]
    assert face("people", *there)[0] == 0
    code, _, told = face("people", *there, *here)
    assert (code, "expected it or --gallery, got both" in told) == (2, True)
    code, _, told = face("people", *here, "--token-file", tmp_path)
    assert (code, "expected --server beside it" in told) == (2, True)
    for command in (["cluster", "--pack", "fast"], ["index", ".", "--workers", "2"], ["index", ".", "--tiles"]):
        code, _, told = face(*command, *there)
        assert (code, "goes with --gallery; a server decides it" in told) == (2, True)
    monkeypatch.setenv("VISAVIS_GALLERY", str(copy))
    assert face("people", *there)[0] == 0
    monkeypatch.setenv("VISAVIS_SERVER", "http://127.0.0.1:8")
    assert face("people", *there)[0] == 0
    code, _, told = face("people")
    assert (code, "got both" in told) == (2, True)
    assert len(asked) == 3
    (tmp_path / "other").symlink_to(copy)
    assert "Ada" in face("people", "--gallery", tmp_path / "other")[1]  # the command line counts more
    monkeypatch.delenv("VISAVIS_GALLERY")
    assert face("people")[0] == 0
    assert asked == ["FaceClient('http://127.0.0.1:9')"] * 3 + ["FaceClient('http://127.0.0.1:8')"]


def test_tokens(face, url, token_file, monkeypatch, tmp_path):
    code, _, told = face("name", "1", "Eve", "--server", url)
    assert (code, "expected a token" in told) == (3, True)
    monkeypatch.setenv("VISAVIS_TOKEN", token_file.read_text().strip())
    assert face("name", "1", "Eve", "--server", url)[0] == 0
    (tmp_path / "wrong").write_text("visavis_wrong")
    code, out, told = face("people", "--server", url, "--token-file", tmp_path / "wrong", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (3, "AccessError")
    assert "visavis_wrong" not in out + told
    assert face("people", "--server", url, "--token-file", tmp_path / "none")[0] == 3
    (tmp_path / "empty").touch()
    code, _, told = face("people", "--server", url, "--token-file", tmp_path / "empty")
    assert (code, "token-file: expected a token, got none" in told) == (3, True)
