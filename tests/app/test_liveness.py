"""Liveness from end to end, on drawn faces of which a drawn network takes red ones for live."""

import json

import pytest

from tests.app.server_client import API, client, gallery, png, running, service
from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.errors import InputError, ModelError
from visavis.face import liveness
from visavis.face.client import FaceClient
from visavis.face.models import load_pack, pull, store_folder
from visavis.face.records import Live
from visavis.face.system import FaceSystem
from visavis.face.wire import Live as Told

__all__ = ["client", "gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

BLUE, RED = 0, 10


@pytest.fixture
def large(monkeypatch):
    """Drawn faces are large enough."""
    monkeypatch.setattr(liveness, "MIN_FACE_PX", 16)


@pytest.fixture
def pulled(squares):
    pull(load_pack(squares).liveness)


@pytest.fixture
def system(gallery, squares):
    with FaceSystem.open(gallery, pack=squares) as system:
        yield system


def post(client, path, status=200, **files):
    answer = client.post(API + path, files={name: ("photo", data) for name, data in files.items()})
    assert answer.status_code == status, answer.text
    return answer.json()


def cli(capsys, *arguments):
    code = main(["face", *map(str, arguments)])
    return code, capsys.readouterr().out


@pytest.mark.usefixtures("large")
def test_the_system_judges_when_asked_and_answers_the_same(system, photos):
    party = photo(photos / "party.png", BLUE, RED)
    plain, judged = system.identify(party), system.identify(party, liveness=True)
    assert [one.face.liveness for one in plain] == [None, None]
    assert [one.face.liveness.live for one in judged] == [False, True]
    assert [one.face.liveness.score > 0.9 for one in judged] == [False, True]
    assert [(one.person, one.probability) for one in judged] == [(one.person, one.probability) for one in plain]
    answer = system.verify(party, photo(photos / "red.png", RED), liveness=True)  # the first of like size counts
    assert [face.liveness.live for face in answer.faces] == [False, True]
    assert [face.liveness for face in system.verify(party, party).faces] == [None, None]
    assert system.identify(photo(photos / "nobody.png"), liveness=True) == []


def test_of_a_small_face_nothing_is_said(system, photos):
    [found] = system.identify(photo(photos / "red.png", RED), liveness=True)
    assert found.face.liveness == Live(None, None)


@pytest.mark.usefixtures("large")
def test_nobody_named_is_judged_all_the_same(tmp_path, squares, photos):
    with FaceSystem.open(tmp_path / "empty.visavis", pack=squares) as system:
        [found] = system.identify(photo(photos / "red.png", RED), liveness=True)
        assert (found.person, found.face.liveness.live) == (None, True)


@pytest.mark.usefixtures("pulled", "large")
def test_rest(client):
    blue, red = post(client, "/identify?liveness=true", photo=png(BLUE, RED))
    assert (blue["name"], blue["liveness"]["live"], red["liveness"]["live"]) == ("Ada", False, True)
    assert 0 <= blue["liveness"]["score"] < 0.1 < 0.9 < red["liveness"]["score"] <= 1
    assert [one["liveness"] for one in post(client, "/identify", photo=png(BLUE))] == [None]
    first, second = post(client, "/verify?liveness=1", photo=png(BLUE), other=png(RED))["faces"]
    assert (first["liveness"]["live"], second["liveness"]["live"]) == (False, True)
    assert post(client, "/identify?liveness=perhaps", status=422, photo=png(BLUE))["error"]["type"] == "RequestError"


@pytest.mark.usefixtures("pulled")
def test_rest_tells_of_small_faces(client):
    [found] = post(client, "/identify?liveness=true", photo=png(RED))
    assert found["liveness"] == {"score": None, "live": None}


def test_a_server_fetches_no_model_for_a_client(client, monkeypatch, tmp_path):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "none"))
    for path, files in (("/identify", {"photo": png(BLUE)}), ("/verify", {"photo": png(BLUE), "other": png(BLUE)})):
        error = post(client, f"{path}?liveness=true", status=422, **files)["error"]
        assert error["type"] == "InputError"
        assert "there run `visavis face models pull square-liveness`" in error["message"]
    assert not store_folder().exists()


@pytest.mark.usefixtures("pulled", "large")
def test_the_client_asks_and_reads_it(service):
    token = service.tokens.add("reader", "read")
    with running(make_app(service)) as (port, _), FaceClient(f"http://127.0.0.1:{port}", token=token) as faces:
        blue, red = faces.identify(png(BLUE, RED), liveness=True)
        assert (type(red.liveness), blue.liveness.live, red.liveness.live) == (Told, False, True)
        assert faces.identify(png(BLUE))[0].liveness is None
        assert [face.liveness.live for face in faces.verify(png(RED), png(RED), liveness=True).faces] == [True, True]


@pytest.mark.usefixtures("large")
def test_commands(capsys, gallery, squares, photos, monkeypatch):
    monkeypatch.setenv("VISAVIS_GALLERY", str(gallery))
    monkeypatch.setenv("VISAVIS_PACK", str(squares))
    party, red = photo(photos / "party.png", BLUE, RED), photo(photos / "red.png", RED)
    code, text = cli(capsys, "identify", party, "--liveness", "--json")
    assert (code, [one["liveness"]["live"] for one in json.loads(text)]) == (0, [False, True])
    code, text = cli(capsys, "identify", party, photos / "gone.png", photo(photos / "nobody.png"), "--liveness")
    assert code == 3
    assert [word for word in text.split() if word in ("yes", "no")][:2] == ["no", "yes"]
    assert "live" not in cli(capsys, "identify", party)[1]
    code, text = cli(capsys, "verify", red, red, "--pack", squares, "--liveness", "--json")
    assert (code, [face["liveness"]["live"] for face in json.loads(text)["faces"]]) == (0, [True, True])
    assert cli(capsys, "verify", red, party, "--pack", squares, "--liveness")[1].count("live: ") == 2
    assert cli(capsys, "liveness", red, "--pack", squares)[0] == 0
    code, text = cli(capsys, "liveness", party, "--pack", squares, "--json")
    assert (code, [one["liveness"]["live"] for one in json.loads(text)]) == (1, [False, True])
    code, text = cli(capsys, "liveness", red, photos / "gone.png", photos / "nobody.png", "--pack", squares)
    assert (code, "not read" in text, "no face" in text) == (3, True, True)


def test_commands_say_that_a_face_is_too_small(capsys, squares, photos):
    red = photo(photos / "red.png", RED)
    code, text = cli(capsys, "liveness", red, "--pack", squares)
    assert (code, "too small to tell" in text) == (1, True)
    assert cli(capsys, "verify", red, red, "--pack", squares, "--liveness")[1].count("live: too small to tell") == 2


def test_a_pack_without_a_model_for_it(squares, tmp_path, photos):
    text = squares.read_text()
    bare = squares.with_name("bare.toml")
    bare.write_text(text[: text.index("[liveness]")])
    with FaceSystem.open(tmp_path / "bare.visavis", pack=bare) as other:
        with pytest.raises(ModelError, match="pack bare: expected a liveness model, got none; add `liveness"):
            other.identify(photo(photos / "red.png", RED), liveness=True)
        assert len(other.identify(photos / "red.png")) == 1
    plain = Service(tmp_path / "bare.visavis", pack=bare)
    try:
        with pytest.raises(InputError, match="liveness: expected a server that has the model.*none is in its pack"):
            plain.identify(png(RED), false_match_rate=1e-3, liveness=True)
    finally:
        plain.close()
