"""Streams over HTTP: watched for real in processes of their own, on drawn scenes."""

import io
import json
import time
from contextlib import closing

import httpx
import numpy as np
import pytest
import simplejpeg
import typer

from tests.app.server_client import API, EASY, client, gallery, running
from tests.face.clips import encode, rtsp, write
from tests.face.scenes import FPS, pixels, stay
from visavis.app.cli.serve import _source
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.app.server.streams import Streams
from visavis.app.server.watcher import annotated, main
from visavis.errors import BusyError, InputError
from visavis.face.stream.events import Verdict
from visavis.face.stream.sources import Source
from visavis.face.stream.video import Frame
from visavis.face.stream.watching import Present
from visavis.face.wire import Stream

__all__ = ["client", "gallery"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADA, EVE = 0, 6
SCENES = [*stay(0.5, {}), *stay(2, {ADA: (1, 1), EVE: (8, 4)})]
TIMES = [number / FPS for number in range(len(SCENES))]
LIVE = encode(map(pixels, stay(6, {ADA: (1, 1)})), container="ts")


@pytest.fixture
def door():
    with rtsp(LIVE, pause_s=0.02, login="ada:s3cret") as server:
        yield server


@pytest.fixture
def service(gallery, photos, squares, door):
    write(photos / "clip.mkv", map(pixels, SCENES), times_s=TIMES)
    sources = {"door": Source.parse(door.url), "film": Source.parse(str(photos / "clip.mkv"))}
    with closing(Service(gallery, pack=squares, roots=[photos.resolve()], streams=sources)) as service:
        yield service


def start(client, **body):
    answer = client.post(f"{API}/streams", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def wait_until(look, what):
    """The first value that is not None, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within a minute: {what}")


def wait_for_state(client, stream, *states):
    def look():
        found = client.get(f"{API}/streams/{stream}").json()
        return found if found["state"] in states else None

    return wait_until(look, states)


def seen(client):
    answer = client.get(f"{API}/streams/seen")
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status, text):
    assert answer.status_code == status, answer.text
    assert text in answer.json()["error"]["message"]


def test_a_file_is_watched_to_its_end_and_tells_who_was_seen_when(client, photos):
    begun = start(client, file=str(photos / "clip.mkv"), fps=20)
    assert (begun["name"], begun["live"], begun["state"]) == ("clip.mkv", False, "starting")
    ended = wait_for_state(client, begun["id"], "ended", "failed")
    assert (ended["state"], ended["error"]) == ("ended", None)
    visits = {visit["name"]: visit for visit in seen(client)}
    assert visits.keys() == {"Ada", None}
    ada = visits["Ada"]
    assert (ada["stream"], ada["present"], ada["began_at"]) == (begun["id"], False, None)
    assert (ada["from_s"], ada["until_s"]) == (0.5, 2.4)
    assert ada["person"] == 1
    assert ada["false_match_rate"] < 1e-3 < visits[None]["false_match_rate"]
    picture = client.get(f"{API}/streams/seen/{ada['id']}/picture")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8\xff")
    log = (client.app.state.service.state / "audit.jsonl").read_text().splitlines()
    assert {"client": "owner", "action": "seen", "people": [1]}.items() <= json.loads(log[-1]).items()
    refused(client.get(f"{API}/streams/{begun['id']}/frame"), 404, "stream: expected one with a picture now")


@pytest.mark.slow
def test_a_live_source_shows_frames_tells_events_and_is_stopped(client, door):
    listed = client.get(f"{API}/streams").json()
    assert listed == {"sources": [{"name": "door", "kind": "rtsp"}, {"name": "film", "kind": "file"}], "streams": []}
    begun = start(client, source="door")
    refused(client.post(f"{API}/streams", json={"source": "door"}), 409, "not watched already")
    wait_until(lambda: seen(client) or None, "somebody is seen")
    frame = wait_until(
        lambda: ((a := client.get(f"{API}/streams/{begun['id']}/frame")).is_success and a) or None, "frame"
    )
    assert frame.content.startswith(b"\xff\xd8\xff")
    [visit] = seen(client)
    assert (visit["name"], visit["present"]) == ("Ada", True)
    assert visit["began_at"].endswith("+00:00")
    wait_until(lambda: door.plays >= 2 or None, "a reconnection")  # the source ended and was reached again
    stopped = client.delete(f"{API}/streams/{begun['id']}")
    assert stopped.json()["state"] == "stopped"
    assert [visit["present"] for visit in seen(client)] == [False] * len(seen(client))
    told = json.dumps([client.get(f"{API}/streams").json(), seen(client)]) + client.get("/metrics").text
    state = client.app.state.service.state
    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert "s3cret" not in told
    assert b"s3cret" not in kept


@pytest.mark.slow
def test_events_as_they_happen_and_again_after_the_last_one_seen(service):
    headers = {"Authorization": f"Bearer {service.tokens.add('owner', 'admin')}"}
    with running(make_app(service, EASY)) as (port, _), httpx.Client(timeout=60) as browser:
        url = f"http://127.0.0.1:{port}{API}/streams"

        def events(last, until):
            lines, found = {}, []
            with browser.stream("GET", f"{url}/events", headers=headers | last) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                if not last:
                    browser.post(url, json={"source": "film"}, headers=headers)
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    lines[name] = value
                    if not line and "data" in lines:
                        found.append((lines["event"], json.loads(lines["data"]), lines.get("id")))
                        lines = {}
                        if until(found):
                            break
            return found

        first = events({}, lambda found: found[-1][0] == "stream" and found[-1][1]["state"] == "ended")
        kinds = [event for event, _, _ in first]
        assert (kinds.count("appeared"), kinds.count("identified"), kinds.count("left")) == (2, 1, 2)
        visits = [(event, data) for event, data, _ in first if event != "stream"]
        assert {data["name"] for _, data in visits} == {"Ada", None}
        ids = [number for event, _, number in first if event != "stream"]
        again = events({"Last-Event-ID": ids[-3]}, lambda found: len(found) == 2)
        assert [number for _, _, number in again] == ids[-2:]
    log = (service.state / "audit.jsonl").read_text().splitlines()
    assert {(line["action"], *line["people"]) for line in map(json.loads, log)} == {("watch",), ("seen", 1)}


@pytest.mark.slow
def test_people_forgotten_vanish_from_what_was_seen_and_do_not_come_back(client, door):
    begun = start(client, source="door")
    picture = wait_until(lambda: [one for one in seen(client) if one["name"] == "Ada"] or None, "Ada")[0]["id"]
    assert client.get(f"{API}/streams/seen/{picture}/picture").is_success
    assert client.delete(f"{API}/people/1").status_code == 200
    refused(client.get(f"{API}/streams/seen/{picture}/picture"), 404, "visit: expected one with a picture")
    assert 1 not in {one["person"] for one in seen(client)}
    plays = door.plays
    wait_until(lambda: door.plays >= plays + 2 or None, "two more rounds of the film")
    client.delete(f"{API}/streams/{begun['id']}")
    assert {(one["person"], one["name"]) for one in seen(client)} <= {(None, None)}
    assert {one.visit.person for one in client.app.state.service.streams.events(0)} <= {None}


@pytest.mark.slow
def test_whoever_was_forgotten_elsewhere_vanishes_when_asked_for(client, service):
    begun = start(client, source="film")
    wait_for_state(client, begun["id"], "ended")
    assert len(seen(client)) == 2
    service.gallery.forget(1)
    assert [one["person"] for one in seen(client)] == [None]
    assert not [one for one in service.streams.events(0) if one.visit.person == 1]


def test_an_address_is_never_taken_from_a_client(client):
    for body, status, text in (
        ({"source": "http://127.0.0.1:1/x"}, 422, "expected a name that the server allows"),
        ({"source": "rtsp://127.0.0.1:1/x"}, 422, "expected a name that the server allows"),
        ({"file": "rtsp://127.0.0.1:1/x"}, 403, "below an allowed --root"),
        ({"file": "/etc/passwd"}, 403, "below an allowed --root"),
        ({"file": "concat:/etc/passwd"}, 403, "below an allowed --root"),
        ({}, 422, "expected one of the two"),
        ({"source": "door", "file": "/x"}, 422, "expected one of the two"),
        ({"source": "door", "fps": 0}, 422, "fps"),
        ({"source": "door", "options": {}}, 422, "options"),
    ):
        refused(client.post(f"{API}/streams", json=body), status, text)
    assert client.get(f"{API}/streams").json()["streams"] == []


def test_files_below_a_root_only_and_no_links_out_of_it(client, photos, tmp_path):
    outside = write(tmp_path / "outside.mkv", map(pixels, SCENES[:3]))
    (photos / "link.mkv").symlink_to(outside)
    refused(client.post(f"{API}/streams", json={"file": str(photos / "link.mkv")}), 403, "--root")
    refused(client.post(f"{API}/streams", json={"file": f"{photos}/../outside.mkv"}), 403, "--root")
    (photos / "link.mkv").unlink()
    refused(client.post(f"{API}/streams", json={"file": str(photos)}), 403, "expected a video file")
    (photos / "bad.mkv").write_bytes(b"no video")
    begun = start(client, file=str(photos / "bad.mkv"))
    failed = wait_for_state(client, begun["id"], "failed")
    assert "expected a video" in failed["error"]


def test_starting_and_stopping_need_an_admin(client, service):
    for scope in ("read", "write"):
        headers = {"Authorization": f"Bearer {service.tokens.add(scope, scope)}"}
        refused(
            client.post(f"{API}/streams", json={"source": "film"}, headers=headers), 403, "expected the scope admin"
        )
        refused(client.delete(f"{API}/streams/1", headers=headers), 403, "expected the scope admin")
        assert client.get(f"{API}/streams/seen", headers=headers).status_code == 200


def test_what_is_not_there(client):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/frame")):
        refused(client.request(method, f"{API}/streams/9{path}"), 404, "stream: expected one of this server, got 9")
    refused(client.get(f"{API}/streams/seen/9/picture"), 404, "visit")


# The process


def tasks(**changes):
    """What a process is told to do, as it reads it."""
    task = {"gallery": "g", "pack": None, "key": None, "source": "x.mp4", "fps": None, "false_match_rate": 1e-3}
    return io.BytesIO(json.dumps(task | changes).encode() + b"\n")


def test_a_process_tells_what_hinders_it(monkeypatch):
    for hindrance, told in (
        (
            ModuleNotFoundError("no av", name="av.error"),
            'av.error: expected it to be installed; pip install "visavis[stream]"',
        ),
        (ValueError("rtsp://ada:s3cret@h"), "the process that watches failed: ValueError"),
        (InputError("source: expected another"), "source: expected another"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("visavis.app.server.watcher.FaceSystem.open", lambda *_, error=hindrance, **__: _raise(error))
            sink = io.BytesIO()
            main(tasks(), sink)
        assert json.loads(sink.getvalue()) == {"error": told}


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("width", "height", "shown"), [(640, 360, (360, 640)), (1920, 1080, (540, 960)), (3, 2, (2, 3))]
)
def test_a_picture_has_a_box_at_each_face_and_no_name(width, height, shown):
    black = Frame(0, 0.0, np.zeros((height, width, 3), np.uint8))
    box = np.float32([0.25 * width, 0.25 * height, 0.5 * width, 0.75 * height])
    named = Present(3, box, 0.0, Verdict(1, "Ada", 0.9, 1e-6))
    picture = simplejpeg.decode_jpeg(annotated(black, [named]), "RGB")
    assert picture.shape[:2] == shown
    if width > 3:
        bright = picture.max(2) > 100
        rows, columns = np.nonzero(bright)
        scale = shown[1] / width
        edges = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        assert np.abs(edges - box * scale).max() <= 3
        assert not bright[int(0.7 * shown[0]), int(0.4 * shown[1])]


# On the command line


def test_sources_on_the_command_line(tmp_path):
    (tmp_path / "door").write_text("rtsp://ada:s3cret@10.0.0.7/door\n")
    name, source = _source(f"door=@{tmp_path / 'door'}")
    assert (name, source.kind, str(source)) == ("door", "rtsp", "rtsp://10.0.0.7/door")
    assert source.location == "rtsp://ada:s3cret@10.0.0.7/door"
    assert _source("x=rtsp://h/a=b")[1].location == "rtsp://h/a=b"
    for text in ("door", "=x", " =x", "a/b=x", "\x1b=x"):
        with pytest.raises(typer.BadParameter, match="expected NAME=SOURCE"):
            _source(text)
    with pytest.raises(InputError, match="source: expected a file, camera"):
        _source("x=http://127.0.0.1/")


# The process is not to be believed

TOLD = {
    "event": "left",
    "track": 1,
    "from_s": 0,
    "until_s": 1.5,
    "from": None,
    "until": None,
    "person": 1,
    "name": "Ada",
    "probability": 0.9,
    "false_match_rate": 1e-5,
    "thumbnail_jpeg": "",
}
LIES = (
    {"event": "seen"},
    {"event": []},
    {"track": "1"},
    {"track": True},
    {"from_s": None},
    {"person": 1.5},
    {"name": ["Ada"]},
    {"thumbnail_jpeg": "\u00fc"},
    {"from": 7},
)


def test_what_a_process_tells_is_taken_when_it_is_as_it_should_be(tmp_path):
    streams = Streams(tmp_path)
    streams._streams[1] = Stream(1, "x", False, "running", "now")
    streams._take(1, {"event": TOLD | {"more": 1}})
    [visit] = streams.visits(known=lambda _: {1: "Ada"})
    assert (visit.person, visit.until_s, visit.present) == (1, 1.5, False)
    streams.forget(1)
    streams._take(1, {"event": TOLD | {"track": 2}})  # was on its way
    [visit] = streams.visits(known=lambda _: {})
    assert (visit.track, visit.person, visit.name, visit.probability) == (2, None, None, None)


@pytest.mark.parametrize(
    "lines",
    [
        b"x\n",
        b"[1]\n",
        b'{"event": 1}\n',
        b'{"event": {"event": "seen"}}\n',
        *(json.dumps({"event": TOLD | lie}).encode() + b"\n" for lie in LIES),
        b'{"frame": "!", "time_s": 1, "looked": 1}\n',
        b'{"frame": "", "time_s": NaN, "looked": 1}\n',
        b'{"frame": "", "time_s": [], "looked": 1}\n',
        b"1" * 9_000_000,
        b"",
    ],
)
def test_a_process_that_lies_or_dies_fails_its_stream_and_nothing_else(lines, tmp_path, monkeypatch):
    (tmp_path / "lines").write_bytes(lines)
    liar = f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'lines')!r}, 'rb').read())"
    monkeypatch.setattr("visavis.app.server.streams.COMMAND", ("-c", liar))
    with closing(Streams(tmp_path, sources={"x": Source.parse("x.mp4")})) as streams:
        number = streams.start("x", fps=None, false_match_rate=1e-3).id
        failed = wait_until(lambda: one if (one := streams.get(number)).over else None, "the end")
        assert (failed.state, failed.error.startswith("the process that watches ended")) == ("failed", True)
        assert streams.visits(known=lambda _: {}) == []
        assert streams.frame(number) is None


def test_not_too_many_at_once_and_none_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("visavis.app.server.streams.COMMAND", ("-c", "import sys; sys.stdin.read()"))
    sources = {str(number): Source.parse("x.mp4") for number in range(5)}
    streams = Streams(tmp_path, sources=sources)
    for number in range(4):
        streams.start(str(number), fps=None, false_match_rate=1e-3)
    processes = [process._process for process in streams._watched.values()]
    with pytest.raises(BusyError, match="at most 4 at once"):
        streams.start("4", fps=None, false_match_rate=1e-3)
    streams.close()
    assert all(process.returncode is not None for process in processes)
    with pytest.raises(BusyError, match="being closed"):
        streams.start("4", fps=None, false_match_rate=1e-3)
