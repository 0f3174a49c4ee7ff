"""Many requests at once, and what is left on disk when some are cut short."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.app.server_client import API, EASY, client, gallery, png, running, service
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.errors import BusyError
from visavis.face.system import FaceSystem

__all__ = ["client", "gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")


def test_questions_and_changes_at_once_meet_no_failure(service):
    owner = {"Authorization": f"Bearer {service.tokens.add('owner', 'admin')}"}

    def ask(number):
        pick, statuses = random.Random(number), []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}{API}", headers=owner, timeout=120) as http:
            for step in range(12):
                person = pick.randrange(1, 8)
                photo = ("photo", png(pick.randrange(8), seed=100 * number + step))
                what = pick.randrange(7)
                if what == 0:
                    answer = http.post("/identify", files={"photo": photo})
                elif what == 1:
                    answer = http.post("/search", files={"photo": photo})
                elif what == 2:
                    answer = http.post("/enroll", data={"name": f"{number} {step}"}, files={"photos": photo})
                elif what == 3:
                    answer = http.patch(f"/people/{person}", json={"name": f"{person} {number} {step}"})
                elif what == 4:
                    answer = http.post(f"/people/{person}/merge", json={"others": [pick.randrange(1, 8)]})
                elif what == 5:
                    answer = http.delete(f"/people/{person}")
                else:
                    answer = http.get("/people")
                statuses.append(answer.status_code)
        return statuses

    with running(make_app(service, EASY)) as (port, _), ThreadPoolExecutor(6) as pool:
        statuses = {status for asked in pool.map(ask, range(6)) for status in asked}
    assert statuses <= {200, 201, 404, 409, 422}
    assert {200, 201} <= statuses


def test_photos_to_enroll_by_are_not_written(client, service, monkeypatch):
    seen, enroll = [], FaceSystem.enroll

    def spy(system, name, paths, **options):
        seen.extend(path.stat().st_size for path in paths)
        return enroll(system, name, paths, **options)

    monkeypatch.setattr(FaceSystem, "enroll", spy)
    assert client.post(f"{API}/enroll", data={"name": "Eve"}, files={"photos": png(5)}).status_code == 201
    assert seen == [0]
    assert not [row for row in service.gallery.files() if "scratch" in str(row.path)]


def test_an_export_stands_in_the_gallery_only_while_it_is_sent(client, service):
    assert client.get(f"{API}/export").content.startswith(b"PK")
    [scratch] = service.gallery.folder.glob("scratch-*")
    assert (list(scratch.iterdir()), scratch.stat().st_mode & 0o777) == ([], 0o700)


@pytest.mark.skipif(os.name != "posix", reason="asks for processes by their ids")
def test_what_a_killed_server_has_left_goes_when_another_starts(gallery, squares):
    dead = gallery / "scratch-99999999-x"  # above all ids of processes
    dead.mkdir()
    (dead / "1.visavis").write_bytes(b"an export")
    other = gallery / f"scratch-{os.getppid()}-x"  # of one that runs
    other.mkdir()
    service = Service(gallery, pack=squares)
    left = {path.name for path in gallery.glob("scratch-*")}
    service.close()
    assert dead.name not in left
    assert other.name in left
    assert [path.name for path in gallery.glob("scratch-*")] == [other.name]
    with pytest.raises(BusyError, match="server: expected one that goes on"):
        service.search(png(0), k=1, face=None)
