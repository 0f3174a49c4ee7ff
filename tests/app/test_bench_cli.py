"""``visavis gui bench``."""

import json
import re

import pytest

from visavis.app.cli import bench as bench_commands
from visavis.app.cli import main
from visavis.gui.actions import Finished, Wait
from visavis.gui.bench.miniwob import TASKS
from visavis.gui.model import ScriptedModel

pytest.importorskip("miniwob")
pytestmark = pytest.mark.usefixtures("chromium")


def bench(*arguments):
    return main(["gui", "bench", "miniwob", *map(str, arguments)])


def test_oracles_are_played_and_reported(tmp_path, capsys):
    folder = tmp_path / "out"
    asked = ["--output", folder, "--player", "oracles", "--tasks", "click-test, focus-text", "--episodes", 2]
    assert bench(*asked, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["report"] == str(folder / "report.html")
    assert [(task["task"], task["wins"]) for task in value["tasks"]] == [("click-test", 2), ("focus-text", 2)]
    assert json.loads((folder / "report.json").read_text())["success"] == 1
    assert "focus-text" in (folder / "report.html").read_text()
    before = (folder / "played.jsonl").read_text()
    assert bench(*asked) == 0  # nothing is left to play
    assert (folder / "played.jsonl").read_text() == before
    assert re.search(r"click-test +2 of 2 +100.0 % +34.2 % to 100.0 %", capsys.readouterr().out)


def test_a_model_is_asked(tmp_path, capsys, monkeypatch):
    model = ScriptedModel(("I wait.", Wait(0)), ("I cannot.", Finished("no")))
    told = ("http://x/v1", "m", "mobile", "env:KEY")
    monkeypatch.setattr(bench_commands, "remote_model", lambda *named: model if named == told else None)
    where = ["--endpoint", "http://x/v1", "--model", "m", "--dialect", "mobile", "--api-key", "env:KEY"]
    assert bench("-o", tmp_path, "--tasks", "click-test", "--episodes", 1, "--at-once", 1, *where, "--json") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (task["wins"], task["mean_steps"]) == (0, 2)


def test_what_is_refused(tmp_path, capsys):
    assert bench("-o", tmp_path, "--player", "oracles", "--tasks", "click-nothing") == 3
    assert f"task: expected one of the {len(TASKS)}" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    assert bench("-o", file, "--player", "oracles") == 3
    assert "output: expected a folder" in capsys.readouterr().err
