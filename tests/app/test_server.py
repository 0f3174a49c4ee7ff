"""The API on a gallery of drawn faces."""

import json
import os
import threading
from dataclasses import replace

import pytest

from tests.app.server_client import API, client, gallery, png, service
from tests.face.fake_pack import photo
from visavis.app.server.jobs import Jobs
from visavis.app.server.service import Service
from visavis.face.indexing import IndexReport
from visavis.face.system import FaceSystem

__all__ = ["client", "gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")


def get(client, path, **query):
    answer = client.get(API + path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(client, path, status=200, **files):
    answer = client.post(API + path, files={name: ("photo", data) for name, data in files.items()})
    assert answer.status_code == status, answer.text
    return answer.json()


def failed(answer, status, kind):
    """The message of an error, which must be of this status and type."""
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    return answer.json()["error"]["message"]


# People and photos


def test_people_photos_faces_and_thumbnails(client):
    assert get(client, "/people")["people"] == [
        {"id": 1, "name": "Ada", "faces": 3, "best_face": get(client, "/people/1")["best_face"]},
        {"id": 2, "name": None, "faces": 2, "best_face": get(client, "/people/2")["best_face"]},
    ]
    assert get(client, "/people", offset=1, limit=1)["total"] == 2
    assert [one["id"] for one in get(client, "/people", offset=1)["people"]] == [2]
    faces = get(client, "/people/1/faces")
    assert [face["quality"] for face in faces] == sorted((face["quality"] for face in faces), reverse=True)
    assert get(client, f"/faces/{faces[0]['id']}") == faces[0]
    assert faces[0] in get(client, f"/photos/{faces[0]['photo']}/faces")
    picture = client.get(f"{API}/faces/{faces[0]['id']}/thumbnail")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8\xff")
    held = get(client, "/gallery")
    assert (held["photos"], held["faces"], held["people"], held["named"]) == (6, 6, 2, 1)


def test_photos_come_in_pages(client, photos):
    seen, after = [], 0
    while after is not None:
        page = get(client, "/photos", after=after, limit=4)
        seen += page["photos"]
        after = page["next"]
    assert [one["paths"] for one in seen] == [[str(photos / f"{number}.png")] for number in range(6)]
    assert get(client, f"/photos/{seen[0]['id']}") == seen[0]


def test_rename_merge_split(client):
    named = client.patch(f"{API}/people/2", json={"name": "Bob"})
    assert named.json()["name"] == "Bob"
    assert "merge the two" in failed(client.patch(f"{API}/people/2", json={"name": "Ada"}), 409, "GalleryError")
    failed(client.patch(f"{API}/people/2", json={"name": "\x1b"}), 422, "InputError")
    faces = [face["id"] for face in get(client, "/people/1/faces")]
    new = client.post(f"{API}/people/split", json={"faces": faces[:1]})
    assert (new.status_code, new.json()["faces"]) == (201, 1)
    merged = client.post(f"{API}/people/1/merge", json={"others": [new.json()["id"]]})
    assert (merged.json()["name"], merged.json()["faces"]) == ("Ada", 3)
    failed(client.post(f"{API}/people/split", json={"faces": faces}), 409, "GalleryError")


def test_what_is_not_there_is_404(client):
    for method, path, body in (
        ("GET", "/people/7", None),
        ("GET", "/people/7/faces", None),
        ("PATCH", "/people/7", {"name": "x"}),
        ("POST", "/people/1/merge", {"others": [7]}),
        ("POST", "/people/split", {"faces": [99]}),
        ("DELETE", "/people/7", None),
        ("GET", "/photos/99", None),
        ("GET", "/photos/99/faces", None),
        ("GET", "/faces/99", None),
        ("GET", "/faces/99/thumbnail", None),
        ("GET", "/index/jobs/9", None),
        ("GET", "/index/jobs/9/events", None),
        ("DELETE", "/index/jobs/9", None),
        ("GET", "/nothing", None),
    ):
        failed(client.request(method, API + path, json=body), 404, "NotFoundError")
    answer = client.put(f"{API}/people/1")
    failed(answer, 405, "RequestError")
    assert answer.headers["allow"] == "DELETE, GET, PATCH"


def test_forget_leaves_nothing_here_nor_in_the_log(client, service):
    ask(client, "/identify", photo=png(0))
    thumbnail = client.get(f"{API}/faces/1/thumbnail").content
    log = service.gallery.folder / "audit.jsonl"
    assert 1 in {number for line in log.read_text().splitlines() for number in json.loads(line)["people"]}
    proof = client.delete(f"{API}/people/1").json()
    assert {name: proof[name] for name in ("faces", "names", "log_entries", "uploads", "traces")} == {
        "faces": 3,
        "names": 1,
        "log_entries": 1,
        "uploads": 0,
        "traces": 0,
    }
    assert len(proof["photos"]) == 3
    assert proof["bytes"] > 10_000
    assert not [line for line in log.read_text().splitlines() if json.loads(line)["people"]]
    assert log.stat().st_mode & 0o777 == 0o600
    for path in service.gallery.folder.rglob("*"):
        assert path.is_dir() or not (thumbnail in (data := path.read_bytes()) or b"Ada" in data), path
    assert get(client, "/people")["total"] == 1


def test_what_is_under_way_while_a_person_is_forgotten_does_not_log_it(client, service):
    client.delete(f"{API}/people/1")
    service.audit.note("somebody", "identify", [1, 2])  # was shown it before
    [*_, last] = (service.gallery.folder / "audit.jsonl").read_text().splitlines()
    assert json.loads(last)["people"] == [2]


# Questions


def test_identify_verify_search(client):
    known, unknown = ask(client, "/identify", photo=png(0, 5))
    assert (known["person"], known["name"], unknown["person"]) == (1, "Ada", None)
    assert known["probability"] > 0.9 > unknown["probability"]
    assert known["false_match_rate"] < 1e-3 < unknown["false_match_rate"]
    assert known["box_xyxy_px"] == [-0.5, -0.5, 31.5, 31.5]
    assert ask(client, "/identify?false_match_rate=1e-9", photo=png(0))[0]["person"] is None
    assert ask(client, "/verify", photo=png(0), other=png(0, seed=98))["same"]
    assert not ask(client, "/verify", photo=png(0), other=png(1))["same"]
    hits = ask(client, "/search?k=3", photo=png(0))
    assert [hit["face"]["name"] for hit in hits] == ["Ada"] * 3
    assert "similarity" not in json.dumps([known, hits])
    assert "expected a face, found none" in ask(client, "/search", 422, photo=png())["error"]["message"]


def test_enroll_keeps_the_faces_and_no_photo(client, service):
    files = [("photos", ("a", png(5, seed=1))), ("photos", ("b", png(5, seed=2)))]
    done = client.post(f"{API}/enroll", data={"name": "<b>Eve"}, files=files)
    assert (done.status_code, done.json()["name"], done.json()["faces"]) == (201, "<b>Eve", 2)
    assert [row.path for row in service.gallery.faces(person=done.json()["person"])] == [None, None]
    assert ask(client, "/identify", photo=png(5))[0]["name"] == "<b>Eve"
    two = client.post(f"{API}/enroll", data={"name": "Two"}, files={"photos": ("c", png(6, 7))})
    assert failed(two, 422, "PhotoError").startswith("photo 1: expected one face or one clearly largest")
    assert service.gallery.find_person("Two") is None
    known = client.post(f"{API}/enroll", data={"name": "Ada"}, files={"photos": ("d", png(0, seed=3))})
    assert (known.json()["person"], known.json()["faces"]) == (1, 4)


def test_cluster_export_import(client, tmp_path, squares):
    assert client.post(f"{API}/cluster", params={"fresh": True}).json()["people"] == 2
    exported = client.get(f"{API}/export")
    assert exported.headers["content-disposition"].endswith('filename="gallery.visavis"')
    with FaceSystem.open(tmp_path / "other", pack=squares) as other:
        (tmp_path / "file").write_bytes(exported.content)
        assert other.gallery.import_from(tmp_path / "file").faces == 6
    same = client.post(f"{API}/import", files={"file": ("x", exported.content)})
    assert same.json() == {"photos": 0, "faces": 0, "people": 0}
    failed(client.post(f"{API}/import", files={"file": ("x", b"no zip")}), 409, "GalleryError")


def test_the_openapi_has_an_example_for_each_body_and_no_page_from_elsewhere(client):
    schema = client.get(f"{API}/openapi.json").json()
    assert {"/healthz", "/metrics", f"{API}/identify", f"{API}/people/{{person}}"} <= schema["paths"].keys()
    for name in ("NameIn", "OthersIn", "FacesIn", "IndexIn", "Person", "Face", "Photo", "Found", "Job"):
        assert schema["components"]["schemas"][name]["examples"], name
    assert client.get("/docs").status_code == 404


def test_health_and_metrics(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    client.get(f"{API}/people/1")
    client.get("/any/path/at/all")
    text = client.get("/metrics").text
    assert 'visavis_requests_total{method="GET",path="none",status="404"} 1.0' in text
    assert '/people/{person}",status="200"} 1.0' in text
    for line in ("faces 6.0", "turns_waiting 0.0", "decoder_deaths_total 0.0", 'jobs{state="running"} 0.0'):
        assert f"visavis_{line}" in text
    assert "process_resident_memory_bytes" in text
    client.get(f"{API}/people", headers={"authorization": "Bearer wrong"})
    assert 'visavis_refused_total{reason="token"} 1.0' in client.get("/metrics").text
    assert "any/path" not in text


# Index jobs


def wait_for(client, job):
    """The job's events, to its end."""
    with client.stream("GET", f"{API}/index/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]


def test_an_index_job_tells_its_progress_and_outlives_the_server(client, service, photos, squares):
    photo(photos / "new.png", 1)
    (photos / "bad.jpg").write_bytes(b"bad")
    started = client.post(f"{API}/index/jobs", json={"folder": str(photos)})
    assert (started.status_code, started.json()["id"]) == (202, 1)
    *_, last = wait_for(client, 1)
    assert (last["state"], last["done"], last["total"], last["added"], last["skipped"]) == ("done", 2, 2, 1, 1)
    assert get(client, "/gallery")["photos"] == 7
    assert [job["state"] for job in get(client, "/index/jobs")] == ["done"]
    again = Service(service.gallery.folder, pack=squares)
    assert again.jobs.get(1) == service.jobs.get(1)
    again.close()


def test_jobs_wait_their_turn_can_be_cancelled_and_are_interrupted_by_a_crash(tmp_path):
    entered, go_on = threading.Event(), threading.Event()

    def run(_folder, _prune, progress):
        entered.set()
        assert go_on.wait(60)
        progress(1, 2)
        return IndexReport()

    jobs = Jobs(tmp_path, run)
    first, second = (jobs.start(tmp_path, prune=False) for _ in range(2))
    assert entered.wait(60)
    assert jobs.cancel(second.id).state == "cancelled"
    assert jobs.cancel(first.id).state == "running"
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "jobs.json").write_bytes((tmp_path / "jobs.json").read_bytes())
    go_on.set()
    jobs.close()
    assert [job.state for job in jobs.all()] == ["cancelled", "cancelled"]
    crashed = Jobs(tmp_path / "copy", run)
    assert [job.state for job in crashed.all()] == ["cancelled", "interrupted"]
    assert crashed.start(tmp_path, prune=False).id == 3
    crashed.close()


def test_a_job_that_fails_says_why(client, service, monkeypatch):
    def run(*_):
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(service.jobs, "_run", run)
    client.post(f"{API}/index/jobs", json={"folder": str(service.roots[0])})
    assert (wait_for(client, 1)[-1]["state"], "disk is gone" in service.jobs.get(1).error) == ("failed", True)


def test_forget_waits_for_no_job(client, service, monkeypatch):
    running = replace(service.jobs.start(service.roots[0], prune=False), state="running")
    monkeypatch.setattr(service.jobs, "all", lambda: [running])
    assert "index job" in failed(client.delete(f"{API}/people/1"), 409, "BusyError")


def test_file_names_that_are_no_text_are_shown_escaped(client, photos):
    photo(photos / os.fsdecode(b"\xff<script>.png"), 3)
    client.post(f"{API}/index/jobs", json={"folder": str(photos)})
    assert wait_for(client, 1)[-1]["added"] == 1
    assert get(client, "/photos", after=6)["photos"][0]["paths"] == [f"{photos}/\\udcff<script>.png"]
