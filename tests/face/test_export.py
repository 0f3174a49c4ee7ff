"""Export: the files compute what torch does, hold no trace of the machine, and are there whole or not at all."""

import os
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from torch import nn

from visavis.errors import InputError, MissingExtraError, ModelError, TensorError
from visavis.face.embed import Embedder
from visavis.face.models import Licence, load_pack, models, pull
from visavis.face.train.backbones import iresnet, mobilefacenet, vit
from visavis.face.train.export import described, export, publish, to_onnx

NETWORKS = {
    "mobilefacenet": lambda: mobilefacenet(dim=24, width=0.125, size=64),
    "iresnet": lambda: iresnet(18, dim=24, width=0.125, size=64),
    "vit": lambda: vit(dim=24, size=64, patch=16, depth=2, width=32, heads=4),
}
OURS = Licence("CC-BY-4.0", "https://example.org", 'the "photos" of a friend')
CROPS = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8)


@pytest.fixture(autouse=True)
def store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path_factory.mktemp("store")))


def trained(name):
    """Weights and running statistics as after training, that is nowhere zero, one or alike."""
    torch.manual_seed(0)
    module = NETWORKS[name]()
    for _ in range(3):
        module(torch.randn(4, 3, 64, 64))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter) * (parameter.abs().mean() + 0.1)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_embedder_of_the_pack_is_the_module(name, tmp_path):
    module = trained(name)
    done = export(module, tmp_path / "out", name="mine", licence=OURS, size=64, crops=CROPS)
    assert module.training
    assert max(done.onnx_difference, done.openvino_difference) < 1e-6
    spec = load_pack(done.pack).embedder
    assert (spec.dim, spec.licence, spec.template) == (24, OURS, "arcface-112")
    batch = (torch.from_numpy(CROPS).permute(0, 3, 1, 2).double() - 127.5) / 127.5
    features = module.double().eval()(batch).detach().numpy()
    goal = features / np.linalg.norm(features, axis=1, keepdims=True)
    for file in (pull(spec), done.onnx, done.openvino):
        found, norms = Embedder(spec, file)(CROPS)
        np.testing.assert_allclose(found, goal, atol=2e-5)
        np.testing.assert_allclose(norms, np.linalg.norm(features, axis=1), rtol=1e-4)


def test_files_tell_nothing_of_the_machine(tmp_path):
    done = export(trained("vit"), tmp_path / "out", name="mine", licence=OURS, size=64)
    names = ["mine.bin", "mine.onnx", "mine.toml", "mine.xml"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        content = (done.pack.parent / name).read_bytes()
        for word in (b"site-packages", os.fsencode(tmp_path), os.fsencode(Path.cwd())):
            assert word not in content, name
    assert tomllib.loads(done.pack.read_text())["calibration"] == "mine.json"
    onnx.checker.check_model(onnx.load(done.onnx))


def colour_network(*gains):
    """ONNX from [N, 3, 16, 16] to the sums of its colours, each times a gain; and the same in numpy."""
    weights = ", ".join(map(str, gains))
    graph = f"""
        colours (float[N,3,16,16] image) => (float[N,3] embedding)
        <int64[2] axes = {{2, 3}}, float[3] gains = {{{weights}}}>
        {{ sums = ReduceSum<keepdims=0>(image, axes)  embedding = Mul(sums, gains) }}"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{graph}')
    return model, lambda batch: batch.sum((2, 3)) * np.array(gains, np.float32)


def put(folder, *gains, reference=None):
    model, itself = colour_network(*gains)
    spec = described(name="mine", licence=OURS, size=16)
    return publish(model, spec, folder, detector=models()["centerface"], reference=reference or itself)


def test_a_second_export_takes_the_place_of_the_first(tmp_path):
    first = put(tmp_path, 1, 2, 3)
    before = first.onnx.read_bytes()
    second = put(tmp_path, 3, 2, 1)
    assert second.pack == first.pack
    assert second.onnx.read_bytes() != before
    assert pull(load_pack(second.pack).embedder).read_bytes() == second.onnx.read_bytes()


def test_either_kind_of_file_makes_the_pack(tmp_path):
    done = put(tmp_path, 1, 2, 3)
    done.onnx.unlink()
    spec = load_pack(done.pack).embedder
    path = pull(spec)
    assert path.suffix == ".xml"
    crops = CROPS[:, :16, :16]
    sums = (crops / 127.5 - 1).sum((1, 2)) * [1, 2, 3]
    np.testing.assert_allclose(Embedder(spec, path)(crops)[1], np.linalg.norm(sums, axis=1), rtol=1e-4)


@pytest.mark.parametrize(("bad", "cosine"), [((1, 2, 3.1), "0.9998"), ((0, 0, 0), "nan"), ((1, np.nan, 3), "nan")])
def test_what_computes_something_else_is_refused_and_what_was_there_stays(bad, cosine, tmp_path):
    put(tmp_path, 1, 2, 3)
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=rf"mine.onnx: expected the features of the network .* cosine of {cosine}"):
        put(tmp_path, 1, 2, 3, reference=colour_network(*bad)[1])
    with pytest.raises(ModelError, match=r"mine.onnx: expected features \[4, 2\], got \[5, 3\]"):
        put(tmp_path, 1, 2, 3, reference=lambda batch: batch[:, :2, 0, 0])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_there_is_a_whole_pack_or_none(moment, tmp_path, monkeypatch):
    put(tmp_path, 1, 2, 3)
    replace, calls = Path.replace, []

    def replace_or_die(self, target):
        calls.append(target)
        if len(calls) > moment:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_die)
        with pytest.raises(KeyboardInterrupt):
            put(tmp_path, 3, 2, 1)
    assert not (tmp_path / "mine.toml").exists()
    done = put(tmp_path, 3, 2, 1)  # and the next one is not in the way of what is left
    assert pull(load_pack(done.pack).embedder).read_bytes() == done.onnx.read_bytes()


@pytest.mark.parametrize(
    ("module", "options", "error", "message"),
    [
        (
            nn.Flatten(),
            {"name": "Not a name"},
            InputError,
            r"expected what a pack can hold, got: .*name: expected lower",
        ),
        (nn.Flatten(), {"template": "none"}, InputError, r"expected what a pack can hold, got: .*template: expected"),
        (nn.Flatten(), {"size": 0}, InputError, r"expected what a pack can hold, got: .*width: expected a positive"),
        (
            nn.Flatten(),
            {"licence": Licence("")},
            InputError,
            r"expected what a pack can hold, got: .*licence: expected",
        ),
        (nn.Linear(3, 4), {}, InputError, r"module: expected to take \[N, 3, 16, 16\], got: "),
        (nn.Identity(), {}, InputError, r"module: expected features \[N, D\], got \[2, 3, 16, 16\]"),
        (nn.Flatten(), {"crops": CROPS}, TensorError, r"crops: expected uint8 \[any, 16, 16, 3\], got"),
    ],
)
def test_what_makes_no_pack_is_refused_and_nothing_is_left(module, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export(module, tmp_path, **{"name": "mine", "licence": OURS, "size": 16} | options)
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_say_is_refused(tmp_path):
    class Eigenvalues(nn.Module):
        def forward(self, image):
            return torch.linalg.eigvals(image @ image.mT).real.flatten(1)

    with pytest.raises(ModelError, match="module: expected one that can be written as ONNX, got: "):
        export(Eigenvalues(), tmp_path, name="mine", licence=OURS, size=16)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r'pip install "visavis\[train\]"'):
        to_onnx(nn.Flatten(), (3, 4, 4))
