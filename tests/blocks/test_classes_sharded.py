"""Several processes by gloo: equal to the dense softmax of everyone's samples; checkpoints; ranks that fail."""

import copy
import os
import signal
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from tests.blocks.test_classes import D, Leaning, assert_same, dense_loss, draw
from visavis.blocks import margins
from visavis.blocks.classes import ClassSoftmax, SparseSGD
from visavis.errors import InputError, RankError

C = 23
CASES = {
    "NormFace": {},
    "ArcFace": {"margin": margins.ArcFace()},
    "scale 1000": {"margin": margins.CosFace(), "scale": 1000.0},
    "SphereFace": {"margin": margins.SphereFace(2, start=0.0, end=0.0)},
    "LSoftmax": {"margin": margins.LSoftmax(2)},
    "plain": {"normalize": False},
    "CurricularFace": {"margin": margins.CurricularFace()},
    "MagFace": {"margin": margins.MagFace()},
    "AdaFace": {"margin": margins.AdaFace()},
    "ElasticFace": {"margin": margins.ElasticFace()},
    "Circle": {"margin": margins.Circle()},
    "one's own": {"margin": Leaning()},
    "sub-centres": {"margin": margins.ArcFace(), "subcenters": 3},
    "smoothing": {"margin": margins.CurricularFace(), "label_smoothing": 0.2},
}
SIZES = {1: [11], 2: [4, 7], 4: [3, 5, 0, 3]}  # uneven batches of 11 samples, one rank without any


def launch(job, ranks, *arguments):
    """Run job(rank, ranks, *arguments) in that many processes."""
    mp.spawn(start, (ranks, job, *arguments), nprocs=ranks)


def start(rank, ranks, job, folder, *arguments, timeout_s=60):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=timeout_s),
    )
    job(rank, ranks, folder, *arguments)
    dist.destroy_process_group()


def make_head(name, dtype):
    torch.manual_seed(0)
    head = ClassSoftmax(D, C, **copy.deepcopy(CASES[name])).to(dtype)
    with torch.no_grad():
        head.weight *= 30
    return head


def make_network(dtype):
    torch.manual_seed(1)
    return torch.nn.Linear(D, D).to(dtype)


def batch(dtype):
    photos, labels = draw(11, C, dtype=dtype)
    labels[[0, 5]] = torch.tensor([0, C - 1])
    labels[2] = -100
    return photos.detach(), labels


def train_every_case(rank, ranks, folder, dtype):
    photos, labels = (part.split(SIZES[ranks])[rank] for part in batch(dtype))
    found = {}
    for name in CASES:
        head, network = make_head(name, dtype), DistributedDataParallel(make_network(dtype))
        features = network(photos)
        features.retain_grad()
        loss = head(features, labels)
        loss.backward()
        found[name] = {
            "loss": loss.detach(),
            "features": features.grad / ranks,
            "network": network.module.weight.grad,
            "weight": head.weight.grad,
            "buffers": {} if head.margin is None else head.margin.state_dict(),
        }
    torch.save(found, folder / f"{rank}.pt")


def check_every_case(ranks, folder, dtype, relative):
    launch(train_every_case, ranks, folder, dtype)
    parts = [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]
    photos, labels = batch(dtype)
    for name in CASES:
        head, network = make_head(name, dtype).double(), make_network(dtype).double()
        features = network(photos.double())
        loss = dense_loss(head, features, labels, normalized=name != "plain")
        wanted = torch.autograd.grad(loss, (features, network.weight, head.weight))
        for part in parts:
            assert part[name]["loss"].item() == pytest.approx(loss.item(), rel=relative)
            for key, value in ({} if head.margin is None else head.margin.state_dict()).items():
                torch.testing.assert_close(part[name]["buffers"][key].to(value.dtype), value, rtol=relative, atol=1e-6)
            assert_same([part[name]["network"]], wanted[1:2], relative)
        whole = [torch.cat([part[name][key] for part in parts]) for key in ("features", "weight")]
        assert_same(whole, wanted[::2], relative)


def test_two_ranks_are_the_dense_softmax(tmp_path):
    check_every_case(2, tmp_path, torch.float64, 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_in_float32_all_numbers_of_ranks_are_the_dense_softmax_to_1e_5(ranks, tmp_path):
    check_every_case(ranks, tmp_path, torch.float32, 1e-5)


def train_and_save(rank, ranks, folder, source, steps, rate):
    head = ClassSoftmax(D, C, margin=margins.CurricularFace(), scale=8.0, subcenters=2, sample_rate=rate)
    optimizer = SparseSGD([head.weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    if source is not None:
        head.load_full_state(torch.load(source, mmap=True), optimizer)
    for step in steps:
        features, labels = (part.chunk(ranks)[rank] for part in draw(8, C, seed=step, dtype=torch.float32))
        optimizer.zero_grad()
        head(features.detach(), labels).backward()
        optimizer.step()
    state = head.full_state(optimizer)
    assert bool(state) == (rank == 0)
    if rank == 0:
        torch.save(state, folder / "state.pt")


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path):
    source = None
    for ranks, steps in ((3, [0, 1]), (2, [2, 3])):
        folder = tmp_path / f"{len(steps)}-{ranks}-{steps[0]}"
        folder.mkdir()
        if source is None:
            torch.manual_seed(0)
            train_and_save(0, 1, folder, None, [], 1.0)
            source = folder / "state.pt"
            begin = source.read_bytes()
        launch(train_and_save, ranks, folder, source, steps, 1.0)
        source = folder / "state.pt"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "begin.pt").write_bytes(begin)
    train_and_save(0, 1, alone, alone / "begin.pt", range(4), 1.0)
    found, wanted = torch.load(source), torch.load(alone / "state.pt")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    first = torch.load(alone / "begin.pt")
    assert not torch.allclose(first["weight"], wanted["weight"], atol=1e-3)
    assert wanted["optimizer"]["momentum_buffer"].shape == (C * 2, D)
    assert all(value != first["margin"][key] for key, value in wanted["margin"].items())


def train_sampled(rank, ranks, folder):  # noqa: ARG001  (as all jobs)
    head = ClassSoftmax(D, 400, margin=margins.ArcFace(), scale=8.0, sample_rate=0.1)
    optimizer = SparseSGD([head.weight], lr=0.1)
    torch.manual_seed(rank)
    for step in range(2):
        features, labels = (part.chunk(ranks)[rank] for part in draw(8, 400, seed=step))
        before = head.weight.detach().clone()
        optimizer.zero_grad()
        loss = head(features, labels)
        loss.backward()
        optimizer.step()
        rows = torch.zeros(len(before), dtype=torch.bool)
        rows[head.weight.grad.coalesce().indices()[0]] = True
        assert torch.equal(before[~rows], head.weight[~rows])
        mine = draw(8, 400, seed=step)[1] - head.first
        assert rows[mine[(mine >= 0) & (mine < len(rows))]].all()
        assert len(rows) * 0.1 <= rows.sum() <= len(rows) * 0.1 + 9
        losses = [torch.empty_like(loss) for _ in range(ranks)]
        dist.all_gather(losses, loss.detach())
        assert all(torch.equal(other, loss) for other in losses)


@pytest.mark.slow
def test_every_rank_samples_its_own_classes(tmp_path):
    launch(train_sampled, 2, tmp_path)


def lose(rank, ranks, folder, how):  # noqa: ARG001  (as all jobs)
    head = ClassSoftmax(D, C)
    features, labels = draw(4, C, dtype=torch.float32)
    head(features, labels).backward()
    if rank == 1 and how == "refused":
        with pytest.raises(InputError, match=r"labels: expected classes in \[0, 23\), got 23 at sample 0"):
            head(features, labels + C - labels[0])
    elif rank == 1:
        (folder / "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    else:
        message = (
            "got none from rank 1; its error says why" if how == "refused" else "expected all 2 to .* died, is stuck"
        )
        with pytest.raises(RankError, match=message):
            head(features, labels)
        (folder / "noticed").touch()


def start_and_leave(rank, ranks, folder, how):
    """No farewell: a process group cannot be destroyed in good order when one of two is gone."""
    start(rank, ranks, lose, folder, how, timeout_s=3)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refused", "killed", "stopped"])
def test_a_rank_that_fails_is_reported_and_nobody_waits_for_ever(how, tmp_path):
    processes = [
        mp.get_context("spawn").Process(target=start_and_leave, args=(rank, 2, tmp_path, how)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    processes[0].join(60)
    if how == "stopped":
        processes[1].kill()
    processes[1].join(60)
    assert (tmp_path / "noticed").exists()
    assert processes[1].exitcode == (0 if how == "refused" else -signal.SIGKILL)


@pytest.fixture
def saved():
    head = ClassSoftmax(D, C, margin=margins.CurricularFace())
    optimizer = torch.optim.Adam([head.weight])
    head(*draw(4, C, dtype=torch.float32)).backward()
    optimizer.step()
    return head, optimizer, head.full_state(optimizer)


def test_full_state_of_one_process_comes_back_whole(saved, tmp_path):
    head, optimizer, state = saved
    torch.save(state, tmp_path / "state.pt")
    other = ClassSoftmax(D, C, margin=margins.CurricularFace())
    adam = torch.optim.Adam([other.weight])
    other.load_full_state(torch.load(tmp_path / "state.pt", mmap=True), adam)
    assert torch.equal(other.weight, head.weight)
    assert adam.state[other.weight].keys() == {"step", "exp_avg", "exp_avg_sq"}
    for h, o in ((head, optimizer), (other, adam)):
        o.zero_grad()
        h(*draw(4, C, seed=1, dtype=torch.float32)).backward()
        o.step()
    assert torch.equal(other.weight, head.weight)
    with torch.no_grad():
        head.weight.zero_()
    assert state["weight"].any()  # a copy


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.update(classes=24), "state: expected 23 classes x 1 of 12 features, got 24 classes"),
        (lambda state: state.update(weight=state["weight"][:-1]), r"state: expected weight \[23, 12\], got \[22, 12\]"),
        (lambda state: state.pop("weight"), "state: expected what full_state returns on rank 0, got no weight"),
        (lambda state: state.update(margin={}), "state: expected a margin with"),
        (lambda state: state.update(optimizer=None), "state: expected an optimizer's rows, got none"),
        (lambda state: state.clear(), "got no classes, features, margin, optimizer, subcenters, weight"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(saved, spoil, message):
    head, optimizer, state = saved
    spoil(state)
    weight, rows = head.weight.detach().clone(), optimizer.state[head.weight]["exp_avg"].clone()
    with pytest.raises(InputError, match=message):
        head.load_full_state(state, optimizer)
    assert torch.equal(weight, head.weight)
    assert torch.equal(rows, optimizer.state[head.weight]["exp_avg"])


def test_an_optimizer_of_something_else_is_refused(saved):
    head, _, state = saved
    stranger = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match="optimizer: expected one that moves the head's weight"):
        head.full_state(stranger)
    with pytest.raises(InputError, match="optimizer: expected one that moves the head's weight"):
        head.load_full_state(state, stranger)
