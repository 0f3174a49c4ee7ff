"""Training on drawn people, seconds long: it learns, goes on where it was, and says what is wrong."""

import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from tests.face import drawn
from visavis.blocks import margins
from visavis.blocks.surrogates import tar_at_far
from visavis.errors import InputError, ModelError, TrainingError
from visavis.face.train import trainer
from visavis.face.train.augment import Augmentation, to_input
from visavis.face.train.checkpoint import Checkpoints
from visavis.face.train.config import TrainConfig
from visavis.face.train.order import Order
from visavis.face.train.schedule import Schedule
from visavis.face.train.trainer import train
from visavis.face.train.validate import embed, measure

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = Augmentation(mirror=0, shift=0, turn_rad=0, scale=0, brightness=0, contrast=0, saturation=0)
SHORT = TrainConfig(epochs=4, batch=16, lr=0.05, scale=16.0, checkpoint_every=3, log_every=1)
CROPS, OTHERS = drawn.people(10, 6), drawn.people(8, 5, seed=1)


class KilledError(Exception):
    pass


def killing(after):
    def progress(moment):
        if moment.step == after:
            raise KilledError

    return progress


def weights(network):
    return [value.clone() for value in network.state_dict().values()]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["lr"]) for line in lines if "loss" in line]


@pytest.mark.parametrize("margin", [None, margins.ArcFace(0.3)], ids=str)
def test_it_learns_to_tell_people_apart_whom_it_never_saw(tmp_path, margin):
    crops, others = drawn.people(60, 6), drawn.people(40, 6, seed=1)
    network = drawn.network()
    before = measure(embed(network, others), others.labels)
    config = TrainConfig(epochs=25, batch=60, lr=0.1, scale=16.0, validate_every=5)
    result = train(config, crops, network, margin, tmp_path, held_out=others)
    after = measure(embed(result.backbone, others), others.labels)
    assert result.measured == after
    assert before["TAR at FAR 1e-3"] < 0.1
    assert after["TAR at FAR 1e-3"] > 0.4
    assert after["AUC"] > 0.97
    steps = [step for step, _, _ in losses(tmp_path)]
    assert steps == list(range(10, 151, 10))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


SETTINGS = {
    "sgd": (SHORT, margins.ArcFace),
    "adamw, a mean of the weights": (replace(SHORT, optimizer="adamw", lr=1e-3, ema=0.9), margins.CosFace),
    "a margin with statistics, sub-centres": (replace(SHORT, subcenters=2), margins.AdaFace),
    "photos put through the processing": (replace(SHORT, process=0.5), margins.NormFace),
    "sampled people, parts, groups": (
        replace(SHORT, sample_rate=0.5, accumulate=2, per_person=2, tar_weight=0.5),
        margins.ElasticFace,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_cut_ends_as_the_one_that_was_not(tmp_path, name):
    config, margin = SETTINGS[name]
    whole = train(config, CROPS, drawn.network(), margin(), tmp_path / "whole", held_out=OTHERS)
    for seed, after in ((0, 4), (9, 7), (9, 11)):  # checkpoints are at 3, 6, 9 and 12; a later start weighs nothing
        with pytest.raises(KilledError):
            train(
                config,
                CROPS,
                drawn.network(seed=seed),
                margin(),
                tmp_path / "cut",
                held_out=OTHERS,
                resume=True,
                progress=killing(after),
            )
    cut = train(config, CROPS, drawn.network(seed=9), margin(), tmp_path / "cut", held_out=OTHERS, resume=True)
    assert (cut.step, cut.measured, cut.stopped) == (whole.step, whole.measured, False)
    for one, other in zip(weights(whole.backbone), weights(cut.backbone), strict=True):
        assert torch.equal(one, other)
    last = [Checkpoints(tmp_path / run / "checkpoints", keep=2).load(whole.step) for run in ("whole", "cut")]
    assert torch.equal(last[0]["head"]["weight"], last[1]["head"]["weight"])
    for buffer, value in last[0]["head"]["margin"].items():
        assert torch.equal(value, last[1]["head"]["margin"][buffer])
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_run_s_to_answer_and_then_who_answered_before(tmp_path, number):
    """What it does when one comes is in test_train_killed.py."""
    before, during = signal.getsignal(number), []
    train(SHORT, CROPS, drawn.network(), None, tmp_path, progress=lambda _: during.append(signal.getsignal(number)))
    assert before not in during
    assert signal.getsignal(number) is before


def test_a_finished_run_is_only_read(tmp_path):
    first = train(SHORT, CROPS, drawn.network(), None, tmp_path, held_out=OTHERS)
    again = train(SHORT, CROPS, drawn.network(seed=3), None, tmp_path, held_out=OTHERS, resume=True)
    assert (again.step, again.measured) == (first.step, first.measured)
    assert math.isnan(again.images_per_s)
    for one, other in zip(weights(first.backbone), weights(again.backbone), strict=True):
        assert torch.equal(one, other)


def test_the_first_losses_are_those_of_the_definition(tmp_path):
    """Step by step against plain torch: cosines, cross-entropy, SGD with momentum, decay of products only."""
    config = replace(SHORT, epochs=1, augmentation=STILL, clip=1e9, weight_decay=0.1)
    reference, order = drawn.network(), Order(CROPS.labels, batch=16, seed=0)
    run = trainer._Run(config, CROPS, drawn.network(), None, True, tmp_path, None)
    centres = run.head.weight.detach().clone().requires_grad_()
    parameters = [*reference.parameters(), centres]
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim <= 1]},
        ],
        lr=0.05,
        momentum=0.9,
    )
    wanted = []
    for step in range(order.steps(1)):
        photos = order(step)
        pixels = to_input(torch.from_numpy(CROPS.images(photos)), size=32)
        logits = 16 * normalize(reference.train()(pixels)) @ normalize(centres).T
        loss = cross_entropy(logits, torch.from_numpy(CROPS.labels[photos]))
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * Schedule()(step, steps=order.steps(1))
        optimizer.step()
        optimizer.zero_grad()
        wanted.append(loss.item())
    train(config, CROPS, drawn.network(), None, tmp_path / "run")
    np.testing.assert_allclose([loss for _, loss, _ in losses(tmp_path / "run")], wanted, rtol=2e-4)


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path):
    """Without layers that look at the whole batch, in float32: the sums come in another order."""

    def plain():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))

    whole = train(SHORT, CROPS, plain(), margins.ArcFace(), tmp_path / "whole")
    parts = train(replace(SHORT, accumulate=4), CROPS, plain(), margins.ArcFace(), tmp_path / "parts")
    for one, other in zip(weights(whole.backbone), weights(parts.backbone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_mean_of_the_weights_is_the_running_mean_of_what_they_were(tmp_path):
    seen = [weights(drawn.network())]
    network = drawn.network()
    config = replace(SHORT, ema=0.8)
    result = train(config, CROPS, network, None, tmp_path, progress=lambda _: seen.append(weights(network)))
    wanted = seen[0][0]
    for step, now in enumerate(seen[1:]):
        wanted = wanted + max(0.2, 9 / (10 + step)) * (now[0] - wanted)
    torch.testing.assert_close(weights(result.backbone)[0], wanted)
    assert not torch.equal(weights(result.backbone)[0], seen[-1][0])
    buffers = dict(result.backbone.named_buffers())
    assert torch.equal(buffers["1.running_mean"], dict(network.named_buffers())["1.running_mean"])


def test_the_smooth_tar_is_added(tmp_path):
    config = replace(SHORT, epochs=0.1, per_person=2, augmentation=STILL)
    for weight in (0.0, 0.7):
        train(replace(config, tar_weight=weight), CROPS, drawn.network(), None, tmp_path / str(weight))
    [[_, without, _]], [[_, with_tar, _]] = losses(tmp_path / "0.0"), losses(tmp_path / "0.7")
    photos = Order(CROPS.labels, batch=16, per_person=2, seed=0)(0)
    with torch.no_grad():
        features = normalize(drawn.network().train()(to_input(torch.from_numpy(CROPS.images(photos)), size=32)))
    first, second = np.triu_indices(16, 1)
    labels = torch.from_numpy(CROPS.labels[photos])
    tar = tar_at_far(
        (features[first] * features[second]).sum(1), labels[first] == labels[second], far=0.01, temperature=0.05
    )
    assert with_tar - without == pytest.approx(0.7 * (1 - float(tar)), abs=1e-4)
    assert with_tar > without


def test_the_chosen_photos_are_processed_with_their_landmarks(tmp_path, monkeypatch):
    negatives = replace(CROPS, store=255 - CROPS.store)
    train(replace(SHORT, augmentation=STILL), negatives, drawn.network(), None, tmp_path / "negatives")

    def negate(crops, landmarks, generator):
        assert isinstance(generator, np.random.Generator)
        assert landmarks.shape == (len(crops), 5, 2)
        return 255 - crops

    monkeypatch.setattr(trainer.process, "augment", negate)
    train(replace(SHORT, augmentation=STILL, process=1.0), CROPS, drawn.network(), None, tmp_path / "negated")
    assert losses(tmp_path / "negated") == losses(tmp_path / "negatives")
    train(replace(SHORT, augmentation=STILL, process=0.5), CROPS, drawn.network(), None, tmp_path / "half")
    assert losses(tmp_path / "half") != losses(tmp_path / "negatives")


def test_bf16_learns_too(tmp_path):
    config = replace(SHORT, epochs=12, bf16=True)
    network = drawn.network()
    result = train(config, CROPS, network, None, tmp_path)
    first, *_, last = (loss for _, loss, _ in losses(tmp_path))
    assert last < first / 2
    assert all(value.dtype == torch.float32 for value in result.backbone.parameters())


def test_the_softmax_without_normalising_is_the_plain_one(tmp_path):
    config = replace(SHORT, epochs=0.1, scale=None, augmentation=STILL)
    run = trainer._Run(config, CROPS, drawn.network(), None, False, tmp_path, None)
    centres = run.head.weight.detach()
    train(config, CROPS, drawn.network(), None, tmp_path / "run", normalize=False)
    photos = Order(CROPS.labels, batch=16, seed=0)(0)
    with torch.no_grad():
        features = drawn.network().train()(to_input(torch.from_numpy(CROPS.images(photos)), size=32))
    wanted = cross_entropy(features @ centres.T, torch.from_numpy(CROPS.labels[photos]))
    assert losses(tmp_path / "run")[0][1] == pytest.approx(float(wanted), rel=1e-4)


# Bad input


def test_a_loss_that_is_no_number_stops_the_run_and_the_last_checkpoint_stays(tmp_path):
    class Broken(nn.Module):
        """Features are lost at the fifth batch in training."""

        def __init__(self):
            super().__init__()
            self.network, self.batches = drawn.network(), 0

        def forward(self, pixels):
            self.batches += self.training
            return self.network(pixels) * (math.nan if self.batches == 5 else 1.0)

    with pytest.raises(TrainingError, match=r"features that are not finite at step 4; .*step-00000003.pt; a lower lr"):
        train(SHORT, CROPS, Broken(), None, tmp_path)
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [3]
    assert (tmp_path / "curves.png").exists()


def test_a_step_too_long_is_told_with_its_cure(tmp_path):
    config = replace(SHORT, lr=1e30, schedule=Schedule(warmup=0.0))
    with pytest.raises(TrainingError, match=r"loss: expected a number, got .* at step \d+; .*a lower lr \(1e\+30\)"):
        train(config, CROPS, drawn.network(), None, tmp_path)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    train(SHORT, CROPS, drawn.network(), None, tmp_path)
    with pytest.raises(InputError, match=r"folder: expected none that holds a run, .*go on with it by --resume"):
        train(SHORT, CROPS, drawn.network(), None, tmp_path)


def test_another_run_or_network_is_refused_by_name(tmp_path):
    train(SHORT, CROPS, drawn.network(), margins.ArcFace(0.5), tmp_path)
    for config, margin, crops, told in (
        (replace(SHORT, lr=0.01), margins.ArcFace(0.5), CROPS, r"lr: expected 0.05, got 0.01"),
        (SHORT, margins.ArcFace(0.4), CROPS, r"margin: expected .*0.5.*, got .*0.4"),
        (SHORT, margins.ArcFace(0.5), replace(CROPS, store=CROPS.store[::-1]), r"crops: expected '\w+', got '\w+'\)"),
        (SHORT, margins.ArcFace(0.5), OTHERS, r"people: expected 10, got 8; photos: expected 60, got 40"),
    ):
        with pytest.raises(InputError, match=told):
            train(config, crops, drawn.network(), margin, tmp_path, resume=True)
    with pytest.raises(InputError, match=r"7.weight: expected \[32, 384\], got \[16, 384\]"):
        train(SHORT, CROPS, drawn.network(dim=32), margins.ArcFace(0.5), tmp_path, resume=True)
    free = replace(SHORT, log_every=5, checkpoint_every=7, keep=1, validate_every=2)
    assert train(free, CROPS, drawn.network(), margins.ArcFace(0.5), tmp_path, resume=True).step == 15


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match="batch: expected a multiple of processes x accumulate, 1 x 3, got 16"):
        train(replace(SHORT, accumulate=3), CROPS, drawn.network(), None, run)
    with pytest.raises(InputError, match="crops: expected two people or more, got 1"):
        train(SHORT, CROPS.of([0]), drawn.network(), None, run)
    with pytest.raises(InputError, match="backbone: expected to take crops of 32 px, got"):
        train(SHORT, CROPS, drawn.network(size=48), None, run)
    with pytest.raises(InputError, match="held_out: expected two people or more, got 1"):
        train(SHORT, CROPS, drawn.network(), None, run, held_out=OTHERS.of([0]))
    with pytest.raises(InputError, match="device: expected one that torch has here, got 'abacus'"):
        train(replace(SHORT, device="abacus"), CROPS, drawn.network(), None, run)
    assert not run.exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path):
    whole = train(SHORT, CROPS, drawn.network(), None, tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    path = checkpoints.path(checkpoints.steps()[-1])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="delete it to go on from the one before"):
        train(SHORT, CROPS, drawn.network(), None, tmp_path, resume=True)
    path.unlink()
    again = train(SHORT, CROPS, drawn.network(seed=4), None, tmp_path, resume=True)
    assert torch.equal(weights(again.backbone)[0], weights(whole.backbone)[0])
