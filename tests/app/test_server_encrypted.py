"""A server of an encrypted gallery: it answers as ever, and writes nothing beside it that tells of people."""

import json

import pytest

from tests.app.server_client import API, LIMITS, WHO, client, png
from tests.face.fake_pack import photo
from visavis.app.server.service import Service
from visavis.face.system import FaceSystem

pytest.importorskip("sqlcipher3")
pytestmark = pytest.mark.usefixtures("in_process")
__all__ = ["client"]  # a fixture

KEY = "correct horse battery"


@pytest.fixture
def service(tmp_path, photos, squares):
    for number, person in enumerate(WHO):
        photo(photos / f"{number}.png", person)
    (photos / "of Ada").mkdir()
    photo(photos / "of Ada" / "more.png", 4)
    with FaceSystem.open(tmp_path / "g.visavis", pack=squares, key=KEY) as system:
        system.index(*sorted(photos.glob("*.png")))
        system.name(1, "Ada")
    (tmp_path / "g.visavis" / "jobs.json").write_text('[{"folder": "/photos/of Ada"}]')  # of before it was encrypted
    options = {"roots": [photos.resolve()], "limits": LIMITS, "upload_bytes": 2**20}
    service = Service(tmp_path / "g.visavis", pack=squares, key=KEY, **options)
    yield service
    service.close()


def test_it_answers_and_keeps_nothing_in_plain(client, service, photos):
    thumbnail = client.get(f"{API}/faces/1/thumbnail").content
    assert client.post(f"{API}/identify", files={"photo": png(0)}).json()[0]["name"] == "Ada"
    assert client.post(f"{API}/enroll", data={"name": "Grace"}, files={"photos": png(5)}).status_code == 201
    job = client.post(f"{API}/index/jobs", json={"folder": str(photos / "of Ada")}).json()
    with client.stream("GET", f"{API}/index/jobs/{job['id']}/events") as events:
        assert '"state": "done"' in "".join(events.iter_lines())
    for method, path, options in (
        ("POST", "/photos", {"files": {"photos": png(1, seed=5)}}),
        ("POST", "/import", {"files": {"file": b"PK"}}),
        ("GET", "/export", {}),
    ):
        answer = client.request(method, API + path, **options)
        assert answer.status_code == 409, answer.text
        assert "encrypted" in answer.json()["error"]["message"]
    service.gallery._database.truncate_log()
    files = [path for path in service.gallery.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"gallery.sqlite", "audit.jsonl", "tokens.json"}
    for path in files:
        data = path.read_bytes()
        assert not any(needle in data for needle in (b"Ada", b"Grace", thumbnail, b"\xff\xd8\xff", b".png")), path
    proof = client.delete(f"{API}/people/1").json()
    assert (proof["names"], proof["log_entries"], proof["traces"]) == (1, 1, 0)
    assert not any(
        json.loads(line)["people"] == [1] for line in (files[0].parent / "audit.jsonl").read_text().splitlines()
    )
