"""The parts of training: order, augmentation, schedule, checkpoints, log, validation."""

import json
import math
import struct
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from tests.face import drawn
from visavis.errors import InputError, MissingExtraError, ModelError, TensorError
from visavis.face.train import log as logs
from visavis.face.train.augment import Augmentation, augment, generator, to_input
from visavis.face.train.checkpoint import Checkpoints, load_into, read, refuse_other, write_whole
from visavis.face.train.config import TrainConfig
from visavis.face.train.log import Log
from visavis.face.train.order import Order
from visavis.face.train.schedule import Schedule
from visavis.face.train.validate import embed, measure, spread

STILL = Augmentation(mirror=0, shift=0, turn_rad=0, scale=0, brightness=0, contrast=0, saturation=0)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=30).map(lambda values: np.array(values, np.int64))


# Order


@given(LABELS, st.integers(1, 12), st.integers(0, 99))
def test_each_epoch_holds_each_photo_once_whatever_the_batch(labels, batch, seed):
    order = Order(labels, batch=batch, seed=seed)
    seen = np.concatenate([order(step) for step in range(order.steps(3))])
    assert order.epoch_photos == len(labels)
    for epoch in range(3):
        part = seen[epoch * len(labels) : (epoch + 1) * len(labels)]
        assert sorted(part) == list(range(len(labels)))
    again = Order(labels, batch=batch, seed=seed)
    middle = order.steps(3) // 2
    np.testing.assert_array_equal(again(middle), order(middle))  # without the steps before it
    assert [order.epochs_done(step) for step in (0, order.steps(1), order.steps(3))] == [
        0,
        order.steps(1) * batch // len(labels),
        order.steps(3) * batch // len(labels),
    ]


@given(LABELS, st.integers(1, 4), st.integers(1, 3))
def test_groups_are_of_one_person_and_leave_nobody_out(labels, per_person, groups):
    order = Order(labels, batch=per_person * groups, per_person=per_person, seed=1)
    seen = np.concatenate([order(step) for step in range(order.steps(1))])
    people = labels[seen].reshape(-1, per_person)
    assert (people == people[:, :1]).all()
    assert set(seen) == set(range(len(labels)))
    counts = np.bincount(labels)
    assert order.epoch_photos == sum(-(-count // per_person) * per_person for count in counts)


def test_epochs_and_seeds_differ():
    labels = np.zeros(50, np.int64)
    order = Order(labels, batch=50, seed=0)
    assert not np.array_equal(order(0), order(1))
    assert not np.array_equal(order(0), Order(labels, batch=50, seed=1)(0))


@pytest.mark.parametrize(("batch", "per_person", "photos"), [(0, 0, 3), (4, 3, 3), (4, 5, 3), (4, -1, 3), (4, 0, 0)])
def test_batches_that_cannot_be_are_refused(batch, per_person, photos):
    with pytest.raises(InputError, match="batch, per_person: expected a multiple of the other and at least one photo"):
        Order(np.zeros(photos, np.int64), batch=batch, per_person=per_person, seed=0)


# Augmentation


def crops_of(values):
    return torch.as_tensor(np.asarray(values)).to(torch.uint8)


def noise(count, side=20, seed=0):
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator(seed))


def varied(crops, how, *, size=16, seed=0, step=0, **options):
    return augment(crops, how, size=size, draw=generator(seed, step), **{"total": len(crops), **options})


def test_nothing_varied_is_the_middle_of_the_crop():
    crops = noise(3)
    wanted = (crops[:, 2:18, 2:18].permute(0, 3, 1, 2).float() - 127.5) / 127.5
    torch.testing.assert_close(varied(crops, STILL), wanted, rtol=0, atol=2e-7)
    assert torch.equal(to_input(crops, size=16), wanted)


def test_a_draw_of_nothing_through_the_interpolation_is_the_middle_too():
    # The limits are so small that what is drawn moves nothing that float32 can tell.
    tiny = Augmentation(mirror=0, shift=1e-9, turn_rad=0, scale=0, brightness=0, contrast=0, saturation=0)
    crops = noise(3)
    torch.testing.assert_close(varied(crops, tiny), to_input(crops, size=16), rtol=0, atol=2e-5)


def test_mirrored_is_mirrored():
    crops = noise(64)
    plain = to_input(crops, size=16)
    half = varied(crops, Augmentation(0.5, 0, 0, 0, 0, 0, 0))
    flipped = torch.tensor([bool((a - b).abs().max() < 1e-5) for a, b in zip(half, plain.flip(3), strict=True)])
    torch.testing.assert_close(half[~flipped], plain[~flipped], rtol=0, atol=2e-7)
    assert 16 <= flipped.sum() <= 48  # of 64 half: beyond, once in 30,000 seeds
    moved = varied(crops, Augmentation(1.0, 1e-9, 0, 0, 0, 0, 0))
    torch.testing.assert_close(moved, plain.flip(3), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("how", "moved"),
    [
        (Augmentation(0, 0.1, 0, 0, 0, 0, 0), lambda u, xy, s: xy - 2 * 0.1 * s / 2 * np.array([u[3], u[4]])),
        (Augmentation(0, 0, 0.4, 0, 0, 0, 0), lambda u, xy, _: turned(xy, -0.4 * u[2])),
        (Augmentation(0, 0, 0, 0.3, 0, 0, 0), lambda u, xy, _: xy * (1 + 0.3 * u[1])),
        (Augmentation(0, 0.1, 0.4, 0.3, 0, 0, 0), None),
    ],
)
def test_a_drawn_spot_moves_by_what_was_drawn(how, moved):
    """A soft spot off the middle; where its centre of mass goes against the formula, in pixels from the middle."""
    size, side, spot = 48, 72, np.array([4.0, -6.0])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    image = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 8)
    crops = crops_of(np.repeat(image[None, :, :, None], 3, 3).repeat(12, 0).round())
    even = (torch.rand(8, 12, generator=generator(0, 3)) * 2 - 1).double().numpy()
    light = ((varied(crops, how, size=size, step=3)[:, 0] + 1) / 2).double().numpy()
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    centres = np.stack([(light * x).sum((1, 2)), (light * y).sum((1, 2))], 1) / light.sum((1, 2))[:, None]
    for centre, u in zip(centres, even.T, strict=True):
        if moved is None:  # all at once: output = scale * turn^-1 (input - shift)
            shift = 0.1 * size * np.array([u[3], u[4]])
            wanted = turned((spot - shift) * (1 + 0.3 * u[1]), -0.4 * u[2])
        else:
            wanted = moved(u, spot, size)
        assert np.abs(centre - wanted).max() < 0.1


def turned(xy, angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * xy[0] - s * xy[1], s * xy[0] + c * xy[1]])


def test_colours_follow_their_formula():
    crops = noise(5)
    how = Augmentation(0, 0, 0, 0, 0.2, 0.3, 0.4)
    even = torch.rand(8, 5, generator=generator(0, 0)) * 2 - 1
    p = to_input(crops, size=16).double()
    grey = p.mean(1, keepdim=True)
    saturation, contrast, brightness = (
        v.double().view(5, 1, 1, 1) for v in (1 + 0.4 * even[5], 1 + 0.3 * even[6], 0.2 * even[7])
    )
    p = grey + saturation * (p - grey)
    mean = p.mean((1, 2, 3), keepdim=True)
    wanted = (mean + contrast * (p - mean) + brightness).clamp(-1, 1)
    torch.testing.assert_close(varied(crops, how).double(), wanted, rtol=0, atol=1e-5)


@given(st.integers(0, 5), st.integers(1, 4))
def test_a_share_of_the_batch_gets_what_the_whole_batch_would(start, length):
    crops = noise(9)
    share = slice(start, start + length)
    whole = varied(crops, Augmentation())
    part = varied(crops[share], Augmentation(), share=share, total=9)
    torch.testing.assert_close(part, whole[share], rtol=0, atol=1e-6)


def test_the_same_step_draws_the_same_and_another_does_not():
    crops = noise(4)
    assert torch.equal(varied(crops, Augmentation(), step=5), varied(crops, Augmentation(), step=5))
    assert not torch.equal(varied(crops, Augmentation(), step=5), varied(crops, Augmentation(), step=6))
    assert not torch.equal(varied(crops, Augmentation(), seed=1), varied(crops, Augmentation(), seed=2))


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=9, unique=True))
def test_seeds_of_two_paths_differ(paths):
    assert len({generator(7, *path).initial_seed() for path in paths}) == len(paths)


@pytest.mark.parametrize(
    "amounts", [{"mirror": 1.5}, {"shift": -0.1}, {"turn_rad": 10.0}, {"contrast": math.nan}, {"scale": 0.95}]
)
def test_amounts_out_of_range_are_refused(amounts):
    [name] = amounts
    with pytest.raises(InputError, match=f"{name}: expected an amount in"):
        Augmentation(**amounts)


def test_crops_that_are_not_square_are_refused():
    with pytest.raises(TensorError, match="crops: expected uint8"):
        varied(torch.zeros(1, 20, 18, 3, dtype=torch.uint8), STILL)


# Schedule


@given(st.integers(1, 200), st.floats(0, 0.9), st.sampled_from(["cosine", "polynomial", "step"]))
def test_rates_rise_to_one_and_fall(steps, warmup, kind):
    schedule = Schedule(kind, warmup=warmup)
    rates = [schedule(step, steps=steps) for step in range(steps)]
    top = round(warmup * steps)
    assert all(0 < rate <= 1 for rate in rates)
    assert np.allclose(np.diff(rates[: top + 1]), 1 / (top + 1)) or kind == "step"
    assert all(low <= high + 1e-12 for high, low in zip(rates[top:], rates[top + 1 :], strict=False))
    if kind != "step" and top < steps:
        assert rates[top] == 1


def test_each_kind_is_its_formula():
    rates = {kind: [Schedule(kind, warmup=0)(s, steps=100) for s in range(100)] for kind in ("cosine", "polynomial")}
    np.testing.assert_allclose(rates["cosine"], np.cos(np.pi * np.arange(100) / 200) ** 2)
    np.testing.assert_allclose(rates["polynomial"], (1 - np.arange(100) / 100) ** 2)
    steps = [Schedule("step", warmup=0, milestones=(0.5, 0.9))(s, steps=10) for s in range(10)]
    np.testing.assert_allclose(steps, [1] * 5 + [0.1] * 4 + [0.01])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"warmup": 1.0}, "warmup"),
        ({"power": 0.0}, "power, factor"),
        ({"milestones": (0.5, 0.5)}, "milestones"),
        ({"milestones": (1.0,)}, "milestones"),
        ({"kind": "linear"}, "kind"),
    ],
)
def test_schedules_that_cannot_be_are_refused(options, name):
    with pytest.raises(InputError, match=f"{name}: expected"):
        Schedule(**options)


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch", 0),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("sample_rate", 0.0),
        ("optimizer", "adam"),
        ("clip", 0.0),
        ("ema", 1.0),
        ("keep", 0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}: expected"):
        TrainConfig(**{name: value})


def test_settings_that_exclude_one_another_are_refused():
    with pytest.raises(InputError, match="per_person: expected at least 2 with tar_weight, got 0"):
        TrainConfig(tar_weight=1.0)
    with pytest.raises(InputError, match="optimizer: expected sgd where people are sampled"):
        TrainConfig(optimizer="adamw", sample_rate=0.5)


# Checkpoints


def test_only_the_newest_are_kept_and_drafts_are_swept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.steps() == []
    for step in (5, 70, 600):
        checkpoints.save(step, {"config": {}, "step": step, "tensor": torch.full((3,), float(step))})
        (tmp_path / "c" / "step-00000001.pt.part").write_bytes(b"of a killed process")
    assert checkpoints.steps() == [70, 600]
    assert torch.equal(checkpoints.load(600)["tensor"], torch.full((3,), 600.0))
    checkpoints.save(700, {"config": {}})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-00000600.pt", "step-00000700.pt"]


def test_keep_less_than_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="keep: expected at least 1"):
        Checkpoints(tmp_path, keep=0)


@given(st.integers(0, 2000))
@settings(max_examples=30)
def test_a_cut_file_is_told_and_never_read_as_another(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("c") / "step-00000001.pt"
    write_whole(path, {"config": {"a": 1}, "weights": torch.arange(100.0)})
    whole = path.read_bytes()
    path.write_bytes(whole[: min(length, len(whole) - 1)])
    with pytest.raises(
        ModelError, match=r"expected a checkpoint, got a file that cannot be read .*; delete it to go on"
    ):
        read(path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    torch.save({"config": Harm()}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path / "x.pt")
    torch.save([1], tmp_path / "x.pt")
    with pytest.raises(ModelError, match="expected a checkpoint of a training run, got another file"):
        read(tmp_path / "x.pt")


def test_other_settings_are_named(tmp_path):
    refuse_other(tmp_path, {"a": 1, "b": [2]}, {"a": 1, "b": [2]})
    with pytest.raises(InputError, match=r"other settings \(a: expected 1, got 2; c: expected None, got 3\)"):
        refuse_other(tmp_path, {"a": 1, "b": 2}, {"a": 2, "b": 2, "c": 3})


def test_another_shape_is_named_and_nothing_changes(tmp_path):
    own = nn.Linear(3, 2)
    before = own.weight.clone()
    with pytest.raises(InputError, match=r"expected the net of this run, .*weight: expected \[2, 3\], got \[2, 4\]"):
        load_into(own, nn.Linear(4, 2).state_dict(), tmp_path, "net")
    with pytest.raises(InputError, match=r"bias: expected \[2\], got none"):
        load_into(own, nn.Linear(3, 2, bias=False).state_dict(), tmp_path, "net")
    with pytest.raises(InputError, match=r"extra: expected none, got \[1\]"):
        load_into(own, {**own.state_dict(), "extra": torch.ones(1)}, tmp_path, "net")
    assert torch.equal(own.weight, before)
    other = nn.Linear(3, 2)
    load_into(own, other.state_dict(), tmp_path, "net")
    assert torch.equal(own.weight, other.weight)


# Log


def board(folder):
    """(step, name, value) of TensorBoard's files, by the framing of TFRecord."""
    from tensorboardX.proto.event_pb2 import Event

    points = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            points += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return points


def test_a_log_goes_on_where_its_checkpoint_is(tmp_path):
    with Log(tmp_path, step=0) as log:
        for step in range(1, 5):
            log.add(step, loss=1 / step, lr=0.5)
        log.flush()
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')  # cut by a kill
    with Log(tmp_path, step=2) as log:
        log.add(3, loss=7.0, lr=0.25)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert (3, "loss", 7.0) in board(tmp_path)
    assert (2, "lr", 0.5) in board(tmp_path)


def test_the_curves_are_drawn_where_the_numbers_are(tmp_path):
    entries = [{"step": step, "loss": 5 / step, "lr": 0.1} for step in range(1, 40)]
    logs.draw_curves(entries, tmp_path / "without.png")
    entries += [{"step": 10, "TAR at FAR 1e-3": 0.2, "AUC": 0.7}, {"step": 20, "TAR at FAR 1e-3": 0.5, "AUC": 0.9}]
    logs.draw_curves(entries, tmp_path / "with.png")
    bare, full = (
        np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int) for name in ("without.png", "with.png")
    )
    coloured = [(np.ptp(image, 2) > 60) for image in (bare, full)]
    third = len(full) // 3
    assert all(coloured[0][part * third : (part + 1) * third].sum() > 200 for part in (0, 1))
    assert coloured[0][2 * third :].sum() == 0
    assert coloured[1][2 * third :].sum() > 200
    assert [path.name for path in tmp_path.glob("*.part")] == []
    logs.draw_curves([], tmp_path / "empty.png")


def test_a_missing_library_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r'tensorboardX: .*pip install "visavis\[train\]"'):
        Log(tmp_path, step=0)


# Validation


def test_measures_are_those_of_every_pair():
    random = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    features = random.normal(size=(9, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    pairs = [(float(features[a] @ features[b]), labels[a] == labels[b]) for a, b in combinations(range(9), 2)]
    same, different = ([value for value, one in pairs if one is np.bool_(kind)] for kind in (True, False))
    wins = np.mean([(s > d) + 0.5 * (s == d) for s in same for d in different])
    found = measure(features, labels)
    assert found["AUC"] == pytest.approx(wins)
    assert found["TAR at FAR 1e-2"] == pytest.approx(np.mean([value > max(different) for value in same]))


def test_of_many_faces_those_of_people_evenly_spread_are_kept(monkeypatch):
    crops = drawn.people(20, 3)
    assert spread(crops) is crops
    monkeypatch.setattr("visavis.face.train.validate._MOST", 16)
    some = spread(crops)
    assert some.people == ("0", "4", "8", "12", "16")
    assert np.bincount(some.labels).tolist() == [3] * 5


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_kind_of_pairs_alone_is_refused(labels):
    with pytest.raises(InputError, match="labels: expected pairs of one person and of two"):
        measure(np.eye(3, dtype=np.float32), np.array(labels))


def test_features_are_of_unit_length_and_the_network_stays_as_it_is():
    crops = drawn.people(3, 4)
    network = drawn.network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = embed(network, crops, batch=5)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        wanted = network.eval()(to_input(torch.from_numpy(crops.images()), size=32))
        mirrored = network(to_input(torch.from_numpy(crops.images()[:, :, ::-1].copy()), size=32))
    np.testing.assert_allclose(features, nn.functional.normalize(wanted).numpy(), atol=1e-5)
    both = nn.functional.normalize(wanted + mirrored).numpy()
    np.testing.assert_allclose(embed(network, crops, flip=True), both, atol=1e-5)
