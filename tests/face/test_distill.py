"""A student that learns a teacher's embeddings; the teacher is fake_pack's, which sees colours."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.face import drawn
from visavis.errors import InputError, TensorError, TrainingError
from visavis.face.embed import Embedder
from visavis.face.models import load_pack, pull
from visavis.face.train.data import Crops
from visavis.face.train.distill import DistillConfig, border_for, distill, distillation_loss

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


def faces(count=120, border=0):
    """Crops of the teacher's 112 px, each a colour of its own."""
    colours = np.random.default_rng(0).integers(40, 216, (count // 2, 3)).astype(np.uint8)
    images = colours.repeat(2, 0)[:, None, None].repeat(112 + 2 * border, 1).repeat(112 + 2 * border, 2)
    return Crops.from_images(images, np.arange(count // 2).repeat(2), border=border)


def student(seed=0, dim=128):
    return drawn.network(dim=dim, size=SIZE, seed=seed)


def test_loss_is_the_formula():
    random = torch.Generator().manual_seed(0)
    s = torch.randn(5, 4, generator=random, dtype=torch.float64)
    t = normalize(torch.randn(5, 4, generator=random, dtype=torch.float64), dim=1)
    directions = [row / row.norm() for row in s]
    wanted = sum(1 - a @ b for a, b in zip(directions, t, strict=True)) / 5
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    relation = sum((directions[i] @ directions[j] - t[i] @ t[j]) ** 2 for i, j in pairs) / len(pairs) / 2
    torch.testing.assert_close(distillation_loss(s, t, relation=0.7), wanted + 0.7 * relation)
    assert distillation_loss(3 * t, t).abs() < 1e-12
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, t), s.requires_grad_())
    with pytest.raises(TensorError, match="teacher"):
        distillation_loss(s, t[:3])


def test_border_is_enough_for_the_student_to_shift(squares):
    pack = load_pack(squares)
    assert 0 < border_for(pack, size=SIZE) < 56  # one tenth of a crop that shows what the teacher's shows
    assert border_for(pack, size=SIZE) >= 112 // 10


def test_the_student_comes_to_say_what_the_teacher_says(squares, tmp_path):
    pack = load_pack(squares)
    crops = faces(border=border_for(pack, size=SIZE))
    config = DistillConfig(epochs=25, batch=30, lr=1e-2, relation=0.0, held_out=0.1)
    done = distill(config, crops, pack, student(), tmp_path / "run", size=SIZE, name="pupil")
    untaught = distill(
        DistillConfig(epochs=0.3, batch=30, lr=1e-9, held_out=0.1),
        *(crops, pack, student(), tmp_path / "none"),
        size=SIZE,
        name="none",
    )
    assert done.cosine > untaught.cosine + 0.3
    made = load_pack(done.exported.pack)
    assert (made.embedder.name, made.embedder.input.width, made.detector.name) == ("pupil", SIZE, "square-detector")
    assert Embedder(made.embedder, pull(made.embedder)).dim == 128
    assert {"curves.png", "log.jsonl", "checkpoints"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_run_that_was_cut_goes_on_to_the_same_weights(squares, tmp_path, monkeypatch):
    pack, crops = load_pack(squares), faces(60)
    config = DistillConfig(epochs=4, batch=20, checkpoint_every=3, held_out=0.1)
    arguments = {"size": SIZE, "name": "pupil"}
    monkeypatch.setattr("visavis.face.train.distill.export", lambda *_, **__: None)
    whole, cut = student(), student()
    distill(config, crops, pack, whole, tmp_path / "whole", **arguments)

    def stop(what, done, _total):
        if what == "steps" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(config, crops, pack, cut, tmp_path / "cut", progress=stop, **arguments)
    with pytest.raises(InputError, match="folder: expected none that holds a run"):
        distill(config, crops, pack, student(), tmp_path / "cut", **arguments)
    again = student(seed=1)  # whose weights are replaced
    distill(config, crops, pack, again, tmp_path / "cut", resume=True, **arguments)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    other = DistillConfig(epochs=4, batch=20, checkpoint_every=3, held_out=0.1, lr=1e-3)
    with pytest.raises(InputError, match="lr"):
        distill(other, crops, pack, student(), tmp_path / "cut", resume=True, **arguments)


def test_bad_input(squares, tmp_path):
    pack, crops = load_pack(squares), faces(60)
    for name, value in (("epochs", 0.0), ("lr", float("nan")), ("batch", 1), ("held_out", 0.0), ("relation", -1.0)):
        with pytest.raises(InputError, match=f"{name}: expected"):
            DistillConfig(**{name: value})
    rest = {"size": SIZE, "name": "pupil"}
    config = DistillConfig(batch=20)
    with pytest.raises(InputError, match=r"backbone: expected features \[N, 128\] as the teacher's, got \[2, 16\]"):
        distill(config, crops, pack, student(dim=16), tmp_path / "run", **rest)
    with pytest.raises(InputError, match="backbone: expected to take"):
        distill(config, crops, pack, torch.nn.Linear(2, 2), tmp_path / "run", **rest)
    with pytest.raises(InputError, match="crops: expected a batch of 100 faces or more and one to hold out, got 60"):
        distill(DistillConfig(batch=100), crops, pack, student(), tmp_path / "run", **rest)
    with pytest.raises(InputError, match="crops: expected them 112 px wide as the teacher wants, got 32"):
        distill(config, drawn.people(10, 6), pack, student(), tmp_path / "run", **rest)
    broken = student()
    torch.nn.init.constant_(broken[0].weight, float("inf"))
    with pytest.raises(TrainingError, match="loss: expected a number, got nan at step 0"):
        distill(config, crops, pack, broken, tmp_path / "run", **rest)
