"""Layers behind an embedder that stays as it is: what they start from, what they learn, and the pack they end in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visavis.blocks.margins import CosFace
from visavis.errors import InputError, ModelError
from visavis.face.embed import Embedder
from visavis.face.models import load_pack, pull
from visavis.face.train.adapt import AdaptConfig, Layers, adapt, learn, set_whitened, split_people
from visavis.face.train.augment import generator
from visavis.face.train.data import Crops
from visavis.face.train.frozen import frozen
from visavis.face.train.whiten import turned, whiten

QUICK = {"steps": 40, "check_every": 10, "views": 0, "batch": 64, "lr": 1e-2}


def squares_turned(people=40, photos=6):
    """Crops of people who are a colour each, as fake_pack's; a head turned aside is bluer."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(people), photos)
    aside = np.tile(np.arange(photos) >= photos - 2, people)
    colours = random.uniform(80, 160, (people, 3))[labels] + random.normal(0, 4, (len(labels), 3))
    colours[:, 2] += 40 * aside
    images = np.clip(colours, 0, 255).astype(np.uint8)[:, None, None].repeat(112, 1).repeat(112, 2)
    faces = Crops.from_images(images, labels)
    landmarks = faces.landmarks.copy()
    landmarks[aside, 2, 0] = landmarks[aside, 0, 0]
    return replace(faces, landmarks=landmarks)


def features(people=30, photos=6, dim=8, seed=0):
    """[N, 2, dim] of people whose second number is noise and whose others tell."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), photos)
    own = random.normal(size=(people, 1, dim))[labels] + 0.3 * random.normal(size=(len(labels), 2, dim))
    own[:, :, 1] += 4 * random.normal(size=(len(labels), 1))
    return own.astype(np.float32), labels


@pytest.fixture
def base(squares):
    return frozen(load_pack(squares).embedder, head=False)


@pytest.mark.parametrize("kind", ["whitened", "linear", "gated"])
def test_layers_start_as_if_they_were_not_there(base, kind):
    x = features()[0][:, 0]
    layers = Layers(base, x, kind)
    np.testing.assert_array_equal(layers(torch.from_numpy(x)).detach().numpy(), x)


@pytest.mark.parametrize("kind", ["linear", "gated"])
def test_learning_tells_unseen_people_apart_better(base, kind):
    torch.manual_seed(0)
    learned, held_out = features(seed=1), features(people=20, seed=2)
    layers = Layers(base, learned[0][:, 0], kind)
    config = AdaptConfig(layers=kind, **QUICK | {"steps": 150, "anchor": 0.1, "weight_decay": 0.0})
    done = learn(config, layers, *learned, CosFace(0.1), held_out=held_out)
    assert done.after["TAR at FAR 1e-2"] > done.before["TAR at FAR 1e-2"] + 0.1
    assert done.step in [look["step"] for look in done.looks]
    assert max(look["TAR at FAR 1e-2"] for look in done.looks) == done.after["TAR at FAR 1e-2"]


@pytest.mark.parametrize("cosines", [True, False])
def test_the_first_loss_is_the_softmax_that_was_asked_for(base, cosines):
    (x, labels), held_out = features(seed=1), features(people=20, seed=2)
    config = AdaptConfig(layers="linear", **QUICK | {"steps": 1})
    layers = Layers(base, x[:, 0], "linear")
    done = learn(config, layers, x, labels, None, held_out=held_out, normalize=cosines)
    draw = generator(config.seed, 0)
    face, view = (torch.randint(n, (config.batch,), generator=draw).numpy() for n in x.shape[:2])
    rows = x.astype(np.float64)
    directions = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    centres = np.stack([directions[labels == who].mean((0, 1)) for who in range(30)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    gain = 8**0.5 / np.linalg.norm(rows[:, 0], axis=1).mean()
    logits = (32 * directions if cosines else gain * rows)[face, view] @ centres.T
    told = np.log(np.exp(logits).sum(1)) - logits[np.arange(config.batch), labels[face]]
    assert done.looks[1]["loss"] == pytest.approx(told.mean(), rel=1e-4)


def test_what_did_not_help_is_taken_back(base):
    learned, held_out = features(seed=1), features(people=20, seed=2)
    layers = Layers(base, learned[0][:, 0], "linear")
    shuffled = np.random.default_rng(0).permutation(learned[1])  # nothing to be learned from
    done = learn(
        AdaptConfig(layers="linear", **QUICK | {"lr": 0.3}), layers, learned[0], shuffled, None, held_out=held_out
    )
    assert done.step == 0
    assert done.after == done.before
    x = torch.from_numpy(held_out[0])
    assert torch.equal(layers(x), x)


def test_whitened_is_the_closed_form_on_the_mean_of_both_views(base):
    x, labels = features()
    turns = np.tile([0.0, 0.0, 0.0, 0.0, 0.9, 0.9], 30)
    x[turns > 0.5, :, 1] += 3
    layers = Layers(base, x[:, 0], "whitened")
    done = set_whitened(AdaptConfig(shrinkage=0.1), layers, x, labels, turns, held_out=(x, labels), flip=True)
    assert done.step == 1
    matrix, shift = whiten(x.mean(1), labels, turns, shrinkage=0.1)
    got = layers(torch.from_numpy(x[:, 0])).detach().numpy()
    np.testing.assert_allclose(got, x[:, 0] @ matrix + shift, rtol=1e-4, atol=1e-4)


def test_the_pack_embeds_as_the_layers_say_and_tells_turned_heads_better(squares, tmp_path):
    crops, pack = squares_turned(), load_pack(squares)
    config = AdaptConfig(shrinkage=0.1, held_out=0.4)
    done = adapt(config, crops, pack, None, tmp_path / "run", name="bluer")
    assert done.learned.after["AUC"] > done.learned.before["AUC"]
    assert done.exported is not None
    assert max(done.exported.onnx_difference, done.exported.openvino_difference) < 1e-4
    made = load_pack(done.exported.pack)
    assert (made.detector.name, made.embedder.name, made.embedder.template) == (
        "square-detector",
        "bluer",
        "arcface-112",
    )
    learners, _ = split_people(40, 0.4, 0)
    before = Embedder(pack.embedder, pull(pack.embedder))
    after = Embedder(made.embedder, pull(made.embedder))
    some = crops.of(learners)
    directions, lengths = before(some.images(slice(0, len(some))))
    raw = directions * lengths[:, None]
    matrix, shift = whiten(raw, some.labels, turned(some.landmarks), shrinkage=0.1)
    wanted = raw @ matrix + shift
    got, _ = after(some.images(slice(0, len(some))))
    np.testing.assert_allclose(got, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-4)


def test_steps_end_in_a_pack_too_and_a_second_try_reads_what_was_kept(squares, tmp_path):
    crops, pack = squares_turned(), load_pack(squares)
    config = AdaptConfig(layers="gated", **QUICK)
    told = []
    for _ in range(2):
        done = adapt(
            config, crops, pack, CosFace(0.1), tmp_path / "run", name="gated", progress=lambda *a: told.append(a)
        )
    assert {what for what, _, _ in told} == {"photos", "photos held out", "steps"}
    assert len(list((tmp_path / "run" / "features").glob("*.npy"))) == 2
    if done.exported is not None:
        assert load_pack(done.exported.pack).embedder.name == "gated"


def test_no_better_means_no_pack(squares, tmp_path):
    crops, pack = squares_turned(), load_pack(squares)
    config = AdaptConfig(layers="linear", **QUICK | {"steps": 1, "check_every": 1, "lr": 1e-9})
    done = adapt(config, crops, pack, None, tmp_path / "run", name="same")
    assert (done.learned.step, done.exported) == (0, None)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["features"]


def test_bad_input_is_told_before_anything_is_computed(squares, tmp_path):
    crops, pack = squares_turned(), load_pack(squares)
    for name, value in (("layers", "deep"), ("steps", 0), ("lr", 0.0), ("shrinkage", float("nan")), ("held_out", 1.0)):
        with pytest.raises(InputError, match=f"{name}: expected"):
            AdaptConfig(**{name: value})
    with pytest.raises(InputError, match="people: expected two or more to learn from"):
        split_people(3, 0.2, 0)
    with pytest.raises(InputError, match="crops: expected them 112 px wide as the embedder wants, got 32"):
        adapt(AdaptConfig(), replace(crops, size=32), pack, None, tmp_path / "run", name="small")
    with pytest.raises(ModelError, match="ends in a linear layer, got Concat"):
        adapt(AdaptConfig(layers="head"), crops, pack, None, tmp_path / "run", name="head")
    with pytest.raises(InputError):
        adapt(AdaptConfig(), crops, pack, None, tmp_path / "run", name="No Name")
    assert not (tmp_path / "run").exists()
