"""The service and the commands on a gallery that is on Milvus."""

import json

import pytest
from fastapi.testclient import TestClient

from tests.app.server_client import API, EASY, LIMITS, WHO, png
from tests.face.fake_pack import photo
from tests.face.milvus_gallery import server, server_folder
from visavis.app.cli import main
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.errors import InputError
from visavis.face.system import FaceSystem

__all__ = ["server", "server_folder"]  # a fixture


def test_a_server_needs_a_folder_for_what_it_keeps_itself():
    with pytest.raises(InputError, match="state: expected a folder for tokens, log and uploads.*--state"):
        Service("milvus://127.0.0.1:9/x")


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_the_service_and_the_commands_answer_from_milvus(server, squares, tmp_path, capsys, monkeypatch):
    url, photos, state = f"{server}/served", tmp_path / "photos", tmp_path / "state"
    photos.mkdir()
    for number, person in enumerate(WHO):
        photo(photos / f"{number}.png", person)
    with FaceSystem.open(url, pack=squares) as system:
        assert system.index(photos).added == len(WHO)
        [ada] = {row.person_id for row in system.gallery.faces() if row.path.name in ("0.png", "1.png")}
        system.name(ada, "Ada")
        [known] = system.identify(photos / "1.png")
        assert known.person == "Ada"
    monkeypatch.setenv("VISAVIS_PACK", str(squares))
    assert main(["face", "people", "--gallery", url, "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["Ada", None]
    assert main(["tokens", "add", "me", "--gallery", url, "--state", str(state)]) == 0
    capsys.readouterr()
    service = Service(url, state=state, pack=squares, roots=[photos.resolve()], limits=LIMITS, upload_bytes=2**20)
    assert [token.name for token in service.tokens.all()] == ["me"]
    token = service.tokens.add("owner", "admin")
    with TestClient(make_app(service, EASY), base_url="http://127.0.0.1") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/healthz").json() == {"status": "ok"}
        files = {"photo": ("a.png", png(0), "image/png")}
        [found] = client.post(f"{API}/identify", files=files).json()
        assert (found["person"], found["name"]) == (ada, "Ada")
        assert client.get(f"{API}/people").json()["total"] == 2
        missing = client.get(f"{API}/people/999")
        assert missing.status_code == 404
        assert server not in missing.text
        assert client.delete(f"{API}/people/{ada}").status_code in (200, 204)
        assert client.get(f"{API}/people").json()["total"] == 1
    assert {path.name for path in state.iterdir()} >= {"tokens.json"}
