"""``visavis face train`` on squares of nineteen colours, see fake_pack; the network is of the smallest."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.face.fake_pack import photo
from visavis.app.cli import main, training
from visavis.face.align import align
from visavis.face.analyze import Analyzer
from visavis.face.calibrate import UNCALIBRATED
from visavis.face.models import load_pack
from visavis.face.photos import read
from visavis.face.train import trainer
from visavis.face.train.augment import to_input
from visavis.face.train.backbones import mobilefacenet
from visavis.face.train.checkpoint import Checkpoints
from visavis.face.train.data import template_points
from visavis.face.train.export import Exported

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = (
    *("--width", "0.125", "--dim", "16", "--size", "32", "--batch", "16", "--epochs", "3", "--scale", "16"),
    *("--held-out", "0.3", "--checkpoint-every", "5", "--workers", "1"),
)


@pytest.fixture(scope="module")
def _people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for person in range(10):
        (folder / f"{person}").mkdir()
        for number in range(4):
            photo(folder / f"{person}" / f"{number}.png", person, seed=10 * person + number)
    return folder


@pytest.fixture
def people(_people, tmp_path):
    return shutil.copytree(_people, tmp_path / "people")


@pytest.fixture
def run(capsys, squares):
    """Runs ``visavis face train ...``; returns the exit code with what was printed, as JSON or as text."""

    def call(*arguments):
        code = main(["face", "train", *map(str, arguments), "--pack", str(squares)])
        seen = capsys.readouterr()
        assert code in (2, 3) or seen.err == ""  # no progress in a pipe
        if "--json" in arguments:
            assert seen.out.count("\n") == 1
            return code, json.loads(seen.out)
        return code, seen.err if code in (2, 3) else seen.out

    return call


def test_train_makes_a_pack_that_the_other_commands_take(run, people, tmp_path):
    out = tmp_path / "My Run"
    code, value = run(people, "--out", out, *OPTIONS, "--json")
    assert code == 0
    assert value["people"] == {"learned": 7, "held_out": 3}
    assert (value["photos"], value["skipped"], value["stopped"], value["steps"]) == (40, [], False, 6)
    assert 0 <= value["measured"]["TAR at FAR 1e-3"] <= value["measured"]["TAR at FAR 1e-2"] <= 1
    assert value["pack"] == str(out / "my-run.toml")
    assert (out / "curves.png").exists()
    assert (out / "log.jsonl").exists()
    assert list((out / "tensorboard").iterdir())
    pack = load_pack(out / "my-run.toml")
    assert (pack.embedder.dim, pack.embedder.input.width, pack.detector.name) == (16, 32, "square-detector")
    analyzer = Analyzer(pack, calibration=UNCALIBRATED, precision="float32")
    [found] = analyzer([read(people / "3" / "1.png")])[0]
    state = torch.load(out / "best.pt", weights_only=True)
    network = mobilefacenet(dim=16, width=0.125, size=32).eval()
    network.load_state_dict(state["backbone"])
    pixels = read(people / "3" / "1.png").pixels
    crop = align(pixels, found.detection.landmarks_xy_px, template_points(32), width=32, height=32).crop
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(network(to_input(torch.from_numpy(crop[None].copy()), size=32)))[0]
    np.testing.assert_allclose(found.embedding, wanted.numpy(), atol=1e-3)


@pytest.fixture
def no_export(monkeypatch):
    """Writing ONNX takes seconds; one test here does it, and tests/face/test_export.py."""

    def export(_backbone, folder, *, name, **_):
        files = [folder / f"{name}{suffix}" for suffix in (".toml", ".onnx", ".xml")]
        return Exported(*files, 0.0, 0.0)

    monkeypatch.setattr("visavis.face.train.run.export", export)


@pytest.mark.usefixtures("no_export")
def test_train_tells_what_comes_next_and_resume_goes_on(run, people, tmp_path):
    out = tmp_path / "run"
    code, text = run(people, "--out", out, *OPTIONS)
    assert code == 0
    assert "40 photos of 7 people learned from and 3 held out." in text
    assert re.search(r"Of the people held out, [\d.]+ % of the pairs of one person", text)
    assert f"visavis face calibrate OTHERS --pack {out}/run.toml --output {out}/run.json" in text
    assert f"visavis face index PHOTOS --pack {out}/run.toml" in text
    code, text = run(people, "--out", out, *OPTIONS)
    assert code == 3
    assert "go on with it by --resume" in text
    assert run(people, "--out", out, *OPTIONS, "--resume")[0] == 0
    code, text = run(people, "--out", out, *OPTIONS, "--resume", "--lr", "0.01")
    assert code == 3
    assert "lr: expected 0.1, got 0.01" in text


def test_a_stopped_run_says_how_to_go_on(run, people, tmp_path, monkeypatch):
    learn = trainer._Run._learn

    def interrupted(self, lr):
        self.asked = self.step == 2  # as its signal handler does
        return learn(self, lr)

    monkeypatch.setattr(trainer._Run, "_learn", interrupted)
    code, text = run(people, "--out", tmp_path / "run", *OPTIONS)
    assert code == 130
    assert text.endswith("Stopped after 3 steps. To go on: the same command with --resume\n")
    assert Checkpoints(tmp_path / "run" / "checkpoints", keep=2).steps() == [3]
    assert not (tmp_path / "run" / "run.toml").exists()


@pytest.mark.usefixtures("no_export")
def test_bad_photos_are_listed_before_training_and_left_out_by_a_flag(run, people, tmp_path):
    (people / "3" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    (people / "alone").mkdir()
    photo(people / "alone" / "1.png", 12)
    code, value = run(people, "--out", tmp_path / "run", *OPTIONS, "--json")
    assert code == 3
    assert value["error"]["type"] == "InputError"
    assert "leave them out with --skip-bad" in value["error"]["message"]
    assert "alone: person: expected two different photos" in value["error"]["message"]
    assert not (tmp_path / "run" / "checkpoints").exists()
    code, text = run(people, "--out", tmp_path / "run", *OPTIONS, "--skip-bad")
    assert code == 0
    assert re.search(r"skipped .*broken.jpg: file: damaged", text)
    assert "40 photos of 7 people" in text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--loss", "normface", "--margin", "0.5"), "margin: expected none with --loss normface"),
        (("--loss", "arcface", "--margin", "28.6"), "margin: expected"),
        (("--held-out", "0.01"), "people: expected two or more"),
        (("--size", "33"), "size: expected a multiple of 16"),
        (("--lr", "0"), "lr: expected"),
        (("--name", "Not A Name"), "name, size, template, licence: expected"),
        (("--device", "abacus"), "device: expected one that torch has here"),
    ],
)
def test_options_that_cannot_be_are_refused(run, people, tmp_path, options, told):
    code, text = run(people, "--out", tmp_path / "run", *OPTIONS, *options)
    assert code == 3
    assert told in text
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("loss", training.Loss.__args__)
@pytest.mark.parametrize("backbone", ["iresnet18"])
def test_each_loss_makes_its_margin(loss, backbone):
    margin = training.make_margin(loss, None)
    assert (margin is None) == (loss in ("softmax", "normface"))
    network = training.make_network(backbone, 8, 0.125)(32)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 8)


@pytest.mark.parametrize("backbone", training.Backbone.__args__)
def test_each_backbone_is_made(backbone):
    network = training.make_network(backbone, 8, 0.125)(32)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "fit"),
    [("runs", "runs"), ("Ada & Bob", "ada---bob"), ("..", "recogniser"), ("Ünï", "n-"), ("-a.b_c", "a.b_c")],
)
def test_a_folder_names_its_model(name, fit):
    assert training.fit_name(name) == fit


@pytest.mark.slow
def test_torchrun_starts_two_processes_of_which_one_speaks(people, squares, tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    options = ("--out", tmp_path / "run", *OPTIONS, "--pack", squares, "--json")
    done = subprocess.run(
        [*torchrun, "-m", "visavis", "face", "train", people, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    value = json.loads(done.stdout)  # one document, of the first
    assert value["pack"] == str(tmp_path / "run" / "run.toml")
    assert load_pack(tmp_path / "run" / "run.toml").embedder.dim == 16
    assert value["steps"] == 6
