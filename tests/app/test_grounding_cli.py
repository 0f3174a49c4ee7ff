"""``visavis gui bench grounding`` and ``targets``."""

import json
import re

import pytest
from PIL import Image

from tests.gui.endpoint import Endpoint, streamed
from visavis.app.cli import bench as bench_commands
from visavis.app.cli import main
from visavis.errors import EndpointError
from visavis.gui.actions import GROUNDING, Click
from visavis.gui.bench.grounding import Target, load, save
from visavis.gui.model import RemoteModel, ScriptedModel


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs ``visavis gui bench ...``; the exit code, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["gui", "bench", *map(str, arguments)])
        seen = capsys.readouterr()
        return code, json.loads(seen.out) if "--json" in arguments and seen.out else seen.out, seen.err

    return call


@pytest.fixture
def listed(tmp_path):
    """Two targets; the middle of the picture lies in the second. Their source is an evil one."""
    image = tmp_path / "a.png"
    Image.new("RGB", (100, 60)).save(image)
    boxes = [(0, 0, 10, 10), (40, 20, 60, 40)]
    save([Target("Go", image, box, "icon", "[red]a\x1b[2J") for box in boxes], tmp_path / "set.json")
    return tmp_path / "set.json"


def test_the_middle_is_played_without_an_endpoint(run, listed):
    code, value, _ = run("grounding", listed, "-o", "answers.jsonl", "--player", "middle", "--json")
    assert code == 0
    assert (value["model"], value["answers"], value["without_point"]) == ("middle", "answers.jsonl", 0)
    shares = value["shares"]
    assert list(shares) == ["all", "kind: icon", "source: [red]a\x1b[2J", "side: 00 to 16 px", "side: 16 to 32 px"]
    assert (shares["all"]["share"], shares["all"]["hits"], shares["all"]["targets"]) == (0.5, 1, 2)
    code, out, _ = run("grounding", listed, "-o", "answers.jsonl", "--player", "middle")
    assert code == 0
    assert re.search(r"^ *all +1 of 2 +50\.0 % +9\.5 % to 90\.5 % *$", out, re.MULTILINE)
    assert r"source: [red]a\x1b[2J" in out
    assert "\x1b" not in out


def test_a_model_is_asked_as_it_is_told(run, listed, monkeypatch):
    monkeypatch.setenv("KEY", "abc")
    asked = []

    def made(*named):
        asked.append(named)
        return ScriptedModel(Click((5, 5)), EndpointError("endpoint: gone", retry=False))

    monkeypatch.setattr(bench_commands, "remote_model", made)
    where = ["--endpoint", "http://x/v1", "--model", "m", "--dialect", "mobile", "--api-key", "env:KEY"]
    code, _, err = run("grounding", listed, "-o", "answers.jsonl", *where)
    assert code == 3
    assert "endpoint: gone" in err
    assert asked == [("http://x/v1", "m", "mobile", "env:KEY")]
    monkeypatch.setattr(bench_commands, "remote_model", lambda *_: ScriptedModel(Click((50, 30))))
    code, value, _ = run("grounding", listed, "-o", "answers.jsonl", "--json")
    assert (code, value["shares"]["all"]["hits"]) == (0, 2)


def test_a_model_is_spoken_with_for_a_point_alone(run, listed, monkeypatch):
    made = []

    def remember(_self, *arguments, **options):
        made.append((arguments, options))
        raise EndpointError("endpoint: none", retry=False)

    monkeypatch.setattr(RemoteModel, "__init__", remember)
    monkeypatch.setenv("KEY", "abc")
    assert run("grounding", listed, "-o", "a.jsonl", "--api-key", "env:KEY")[0] == 3
    assert made == [
        (("http://127.0.0.1:8000/v1", "ui-tars-1.5-7b"), {"dialect": GROUNDING, "api_key": "abc"}),
    ]
    code, _, err = run("grounding", listed, "-o", "a.jsonl", "--api-key", "abc")
    assert code == 2
    assert "expected env:VARIABLE or file:PATH" in err


def test_a_served_model_points(run, listed, monkeypatch):
    monkeypatch.setenv("KEY", "abc")
    reply = GROUNDING.format("", [Click((50, 30))], (100, 60))
    with Endpoint(streamed(reply)) as endpoint:
        where = ["--endpoint", endpoint.url, "--model", "ui-tars", "--api-key", "env:KEY"]
        code, value, _ = run("grounding", listed, "-o", "answers.jsonl", *where, "--json")
    assert (code, value["shares"]["all"]["hits"], value["without_point"]) == (0, 1, 0)
    assert endpoint.requests[0].headers["authorization"] == "Bearer abc"


def test_what_is_refused(run, listed, tmp_path):
    (tmp_path / "b.jsonl").write_text("what\n")
    for arguments, message in [
        (("grounding", "none.json", "-o", "a.jsonl"), "none.json: expected a JSON list of targets"),
        (("grounding", listed, "-o", "a.jsonl", "--images", "none"), "a.png is not in none"),
        (("grounding", listed, "-o", "b.jsonl", "--player", "middle"), "b.jsonl: expected lines of an earlier run"),
        (("targets", "none", "-o", "set"), "folders: expected folders, got 'none'"),
        (("targets", ".", "-o", "set"), "folders: expected HTML files in"),
    ]:
        code, out, err = run(*arguments)
        assert (code, out) == (3, "")
        assert message in err
    for viewport in "1280", "1280x", "1280x800@", "-1x5", "1e3x800", "1280x800@2x", "٣x٣":
        code, _, err = run("targets", ".", "-o", "set", "--viewport", viewport)
        assert code == 2
        assert "expected 1280x800 or 1280x800@2" in err


@pytest.mark.usefixtures("chromium")
def test_a_set_is_made_and_played(run, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<!doctype html><button>Go</button><button>Stop</button>")
    wanted = ["targets", "site", "-o", "set", "--viewport", "400x300@2", "--per-page", 1]
    code, value, _ = run(*wanted, "--json")
    assert (code, value) == (0, {"file": "set/targets.json", "targets": 1, "pictures": 1})
    (target,) = load("set/targets.json")
    with Image.open(target.image) as picture:
        assert picture.size == (800, 600)
    code, _, err = run(*wanted)
    assert code == 3
    assert "output: expected a new name" in err
    code, out, _ = run("targets", "site", "-o", "more")
    assert (code, out) == (0, "more/targets.json: 2 targets in 1 pictures\n")
    code, value, _ = run("grounding", "set/targets.json", "-o", "a.jsonl", "--player", "middle", "--json")
    assert (code, value["shares"]["all"]["hits"]) == (0, 0)
