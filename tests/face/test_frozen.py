"""An embedder cut where new layers begin: what goes into them, what is kept of it, and both joined again."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from visavis.errors import InputError, ModelError
from visavis.face.models import Licence, ModelFile, PathSource, load_pack, models
from visavis.face.train.adapt import Layers
from visavis.face.train.data import Crops
from visavis.face.train.export import described, fed, publish
from visavis.face.train.frozen import extended, features_of, frozen, template_of

KINDS = ["linear", "gated", "head"]


@pytest.fixture(autouse=True)
def store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path_factory.mktemp("store")))


def put(folder, name, model):
    """A pack of one's own around a network of 16 px crops."""
    spec = described(name=name, licence=Licence("CC0-1.0"), size=16)
    done = publish(model, spec, folder, detector=models()["centerface"], reference=lambda batch: run(model, batch))
    return load_pack(done.pack).embedder


def gemm(*, transposed, alpha=1.0, beta=1.0):
    """Mean colour and two differences of colours, in a last layer with all the options that Gemm has."""
    numbers = np.random.default_rng(0).normal(size=12)
    shape = "4,3" if transposed else "3,4"
    text = ", ".join(f"{value:.6f}" for value in numbers)
    return onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 18]>
        colours (float[N,3,16,16] image) => (float[N,4] y)
        <int64[2] axes = {{2, 3}}, float[{shape}] w = {{{text}}}, float[4] b = {{1., -2., 0.5, 0.25}}>
        {{ mean = ReduceMean<keepdims=0>(image, axes)
           y = Gemm<transB={int(transposed)}, alpha={alpha}, beta={beta}>(mean, w, b) }}""")


def run(model, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


BATCH = np.random.default_rng(1).normal(size=(5, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize(
    "options", [{"transposed": False}, {"transposed": True}, {"transposed": True, "alpha": 0.5, "beta": 3.0}]
)
def test_what_is_cut_off_is_the_last_layer(options, tmp_path):
    model = gemm(**options)
    base = frozen(put(tmp_path, "own", model), head=True)
    np.testing.assert_allclose(run(base.model, BATCH), BATCH.mean((2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        run(base.model, BATCH) @ base.weight + base.bias, run(model, BATCH), rtol=1e-4, atol=1e-5
    )


def test_the_head_of_the_default_embedder(default_pack, monkeypatch):
    monkeypatch.delenv("VISAVIS_MODELS")
    whole, cut = (frozen(default_pack.embedder, head=head) for head in (False, True))
    batch = np.random.default_rng(0).uniform(0, 255, (2, 3, 150, 150)).astype(np.float32)
    assert (cut.weight.shape, cut.bias) == ((256, 128), None)
    np.testing.assert_allclose(cut.network()(batch) @ cut.weight, whole.network()(batch), rtol=1e-3, atol=1e-4)
    assert whole.key != cut.key


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_layers_behind_layers(first, second, tmp_path):
    """A model that was adapted may be adapted again, whatever is behind it already."""
    torch.manual_seed(0)
    spec = put(tmp_path, "own", gemm(transposed=True))
    for number, kind in enumerate((first, second)):
        if number and kind == "head" and first == "gated":
            with pytest.raises(ModelError, match="expected a network that ends in a linear layer, got Add"):
                frozen(spec, head=True)
            return
        base = frozen(spec, head=kind == "head")
        features = run(base.model, BATCH)
        layers = Layers(base, features, kind)
        with torch.no_grad():
            for parameter in layers.change.parameters():
                parameter += 0.3 * torch.randn(parameter.shape)
        wanted = layers(torch.from_numpy(features)).detach().numpy()
        model = extended(base, layers.write, "more")
        np.testing.assert_allclose(run(model, BATCH), wanted, rtol=1e-3, atol=1e-4)
        assert np.abs(wanted - layers.before(torch.from_numpy(features)).numpy()).max() > 0.05
        spec = put(tmp_path, f"more-{number}", model)


def faces(count=20, border=0):
    images = np.random.default_rng(2).integers(0, 256, (count, 16 + 2 * border, 16 + 2 * border, 3), np.uint8)
    return Crops.from_images(images, np.arange(count) // 2, border=border)


class Sums:
    """An embedder that counts how many crops it was given."""

    def __init__(self, stop=None):
        self.seen, self.stop = 0, stop

    def __call__(self, crops):
        self.seen += len(crops)
        if self.stop is not None and self.seen > self.stop:
            raise KeyboardInterrupt
        return crops.astype(np.float32).sum(1)[:, :, 0]  # [n, 16], the columns of red


def test_views_are_the_crop_its_mirror_image_and_changed_ones(tmp_path):
    crops = faces(border=2)
    found = features_of(crops, Sums(), tmp_path, key="sums", views=2)
    assert found.shape == (20, 6, 16)
    middle = crops.images(slice(0, 20))[:, 2:-2, 2:-2].astype(np.float32).sum(1)[:, :, 0]
    np.testing.assert_array_equal(found[:, 0], middle)
    for view in range(3):
        np.testing.assert_array_equal(found[:, 2 * view + 1], found[:, 2 * view, ::-1])
    assert not np.array_equal(found[:, 2], found[:, 0])
    assert not np.array_equal(found[:, 4], found[:, 2])


@pytest.mark.parametrize("stop", [1, 20, 100])
def test_a_run_that_was_killed_goes_on_to_the_same_features(stop, tmp_path):
    crops, whole = faces(), Sums()
    wanted = np.array(features_of(crops, whole, tmp_path / "whole", key="sums", views=2))
    with pytest.raises(KeyboardInterrupt):
        features_of(crops, Sums(stop), tmp_path / "cut", key="sums", views=2)
    rest = Sums()
    np.testing.assert_array_equal(features_of(crops, rest, tmp_path / "cut", key="sums", views=2), wanted)
    assert rest.seen <= whole.seen
    again = Sums()
    features_of(crops, again, tmp_path / "cut", key="sums", views=2)
    assert again.seen == 1  # to learn how many numbers a face has


def test_another_embedder_other_crops_or_another_seed_are_not_taken_for_those(tmp_path):
    crops = faces()
    features_of(crops, Sums(), tmp_path, key="sums", views=1)
    for others, options in (
        (crops, {"key": "other", "views": 1}),
        (crops.of(range(9)), {"key": "sums", "views": 1}),
        (crops, {"key": "sums", "views": 1, "seed": 1}),
        (crops, {"key": "sums", "views": 0}),
    ):
        fresh = Sums()
        features_of(others, fresh, tmp_path, **options)
        assert fresh.seen > 1


def test_features_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(ModelError, match="embedder: expected features that are finite"):
        features_of(faces(), lambda crops: np.full((len(crops), 3), np.nan, np.float32), tmp_path, key="nan")


def test_what_cannot_be_extended_is_refused(tmp_path):
    spec = put(tmp_path, "own", gemm(transposed=True))
    with pytest.raises(InputError, match="own: expected an embedder of square crops, got 16 x 20 px"):
        frozen(replace(spec, input=replace(spec.input, height=20)), head=False)
    only_ir = replace(spec, variants=spec.variants[1:])
    with pytest.raises(ModelError, match="own: expected it as an ONNX file to put layers behind, got own.xml"):
        frozen(only_ir, head=False)
    (tmp_path / "bad.onnx").write_bytes(b"\xff" * 9)
    digest = f"sha256:{hashlib.sha256(bytes([255] * 9)).hexdigest()}"
    bad = ModelFile("bad.onnx", 9, digest, (PathSource(tmp_path / "bad.onnx"),))
    with pytest.raises(ModelError, match="bad.onnx: expected an ONNX file, got one that cannot be read"):
        frozen(replace(spec, variants=((bad,),)), head=False)


def test_template_of():
    np.testing.assert_array_equal(template_of(models()["dlib-resnet-v1"])[0], [46.2, 48.1])
    own = replace(models()["dlib-resnet-v1"], template=((1.0, 2.0),) * 5)
    assert template_of(own).shape == (5, 2)
    assert fed(np.full((1, 2, 2, 3), 255, np.uint8), described(name="x", licence=Licence("x")).input).max() == 1
