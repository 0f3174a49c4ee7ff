"""``visavis face watch`` as a process: in a pipe, in a terminal, and when Ctrl-C comes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.face.clips import encode, rtsp, write
from tests.face.fake_pack import photo
from tests.face.scenes import FPS, pixels, stay
from visavis.face.system import FaceSystem

ADA, EVE = 0, 2
SCENES = [*stay(0.5, {}), *stay(2, {ADA: (1, 1), EVE: (8, 4)})]
TIMES = [number / FPS for number in range(len(SCENES))]


@pytest.fixture
def command(tmp_path, photos, squares):
    with FaceSystem.open(tmp_path / "g.visavis", pack=squares) as system:
        system.enroll("Ada [red]", [photo(photos / f"{number}.png", ADA) for number in range(2)])

    def make(source, *options):
        paths = ("--gallery", str(tmp_path / "g.visavis"), "--pack", str(squares))
        return [sys.executable, "-m", "visavis", "face", "watch", str(source), *paths, *options]

    return make


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipe_gets_an_event_a_line(command, tmp_path):
    clip = write(tmp_path / "clip.mkv", map(pixels, SCENES), times_s=TIMES)
    done = subprocess.run(command(clip), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = events(done.stdout)
    assert sorted(event["event"] for event in found) == ["appeared"] * 2 + ["identified"] + ["left"] * 2
    assert {event["name"] for event in found} == {"Ada [red]", None}
    assert ["thumbnail_jpeg" in event for event in found] == [event["event"] == "left" for event in found]
    assert all(event["at"] is None for event in found)


def test_a_terminal_shows_a_table_and_obeys_no_name(command, tmp_path):
    clip = write(tmp_path / "clip.mkv", map(pixels, SCENES), times_s=TIMES)
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(clip), stdout=theirs, stderr=theirs, env=os.environ | {"COLUMNS": "100"}) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal tells that the other side is gone
            while data := os.read(ours, 1 << 16):
                shown += data
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"appeared +unknown \d", text)
    assert "Ada [red] (" in text
    assert "there from 0.5 s to 2.4 s" in text


def test_ctrl_c_lets_everybody_leave(command):
    video = encode(map(pixels, stay(5, {ADA: (1, 1)})), container="ts")
    with rtsp(video, pause_s=0.01, login="ada:s3cret") as server:
        call = command(server.url)
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, problems = process.communicate(timeout=60)
    found = events(first + rest)
    assert process.returncode == 130
    assert (found[0]["event"], found[-1]["event"]) == ("appeared", "left")
    assert found[-1]["from"].endswith("+00:00")
    assert "Traceback" not in problems
    assert "s3cret" not in first + rest + problems


@pytest.mark.parametrize("source", ["http://127.0.0.1/x", "none.mp4"])
def test_what_cannot_be_watched_ends_with_three(command, source):
    done = subprocess.run(command(source, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "expected a" in json.loads(done.stdout)["error"]["message"]
