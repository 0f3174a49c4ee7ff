"""``visavis face adapt`` and ``visavis face distill`` on squares of nineteen colours, see fake_pack."""

import json

import pytest

from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.face.models import load_pack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for person in range(12):
        (folder / f"{person}").mkdir()
        for number in range(3):
            photo(folder / f"{person}" / f"{number}.png", person, seed=10 * person + number)
    return folder


@pytest.fixture
def run(capsys, squares):
    """Runs ``visavis face ...``; the exit code with what was printed."""

    def call(*arguments):
        code = main(["face", *map(str, arguments), "--pack", str(squares), "--workers", "1"])
        seen = capsys.readouterr()
        if "--json" in arguments:
            return code, json.loads(seen.out)
        return code, seen.err if code in (2, 3) else seen.out

    return call


def test_adapt_that_does_not_help_says_so_and_writes_no_pack(run, people, tmp_path):
    out = tmp_path / "run"
    options = ("--layers", "linear", "--steps", "1", "--held-out", "0.3")
    code, text = run("adapt", people, "--out", out, *options)
    assert code == 1
    assert "no better, so no model was written" in text
    code, value = run("adapt", people, "--out", out, *options, "--json")
    assert (code, value["pack"], value["people"], value["photos"]) == (1, None, 12, 36)
    assert value["after"] == value["before"]
    assert not list(out.glob("*.toml"))


def test_adapt_needs_heads_turned_aside(run, people, tmp_path):
    code, text = run("adapt", people, "--out", tmp_path / "run")
    assert code == 3
    assert "expected people with photos facing the camera and turned aside" in text


def test_adapt_writes_a_pack_and_says_what_comes_next(run, people, tmp_path, monkeypatch):
    monkeypatch.setattr("visavis.face.train.adapt._goodness", lambda look: look["step"])  # later is better
    out = tmp_path / "My Run"
    code, text = run("adapt", people, "--out", out, "--layers", "linear", "--steps", "1", "--held-out", "0.3")
    assert code == 0
    assert f"visavis face evaluate OTHERS --pack {out}/my-run.toml" in text
    assert load_pack(out / "my-run.toml").embedder.name == "my-run"


def test_distill_teaches_and_goes_on(run, people, tmp_path):
    out = tmp_path / "pupil"
    options = ("--width", "0.125", "--size", "32", "--batch", "8", "--epochs", "1", "--json")
    code, value = run("distill", people, "--out", out, *options)
    assert code == 0
    assert (value["faces"], value["pack"]) == (36, str(out / "pupil.toml"))
    assert load_pack(out / "pupil.toml").embedder.input.width == 32
    code, text = run("distill", people, "--out", out, *options[:-1])
    assert code == 3
    assert "go on with it by --resume" in text
    code, again = run("distill", people, "--out", out, *options, "--resume")
    assert (code, again["steps"]) == (0, value["steps"])


def test_a_name_that_no_pack_can_have_is_told_at_once(run, people, tmp_path):
    for command in ("adapt", "distill"):
        code, text = run(command, people, "--out", tmp_path / "run", "--name", "No Name")
        assert code == 3
        assert "name" in text
        assert not (tmp_path / "run").exists()
