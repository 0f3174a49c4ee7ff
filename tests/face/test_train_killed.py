"""Training in processes of its own that are killed: in the middle of a step, of a write, and one of two."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.face import drawn
from visavis.blocks import margins
from visavis.face.train.checkpoint import Checkpoints
from visavis.face.train.config import TrainConfig
from visavis.face.train.trainer import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = {"epochs": 12.0, "batch": 16, "lr": 0.05, "scale": 16.0, "checkpoint_every": 3, "log_every": 1, "ema": 0.9}
SCRIPT = """
import os, signal, sys, time
from datetime import timedelta
from pathlib import Path
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from tests.face import drawn
from visavis.blocks import margins
from visavis.errors import RankError
from visavis.face.train.config import TrainConfig
from visavis.face.train.trainer import train

def progress(moment):
    print(moment.step, flush=True)
    {progress}

{before}
if "RANK" in os.environ:
    dist.init_process_group("gloo", timeout=timedelta(seconds=20))
crops = drawn.people(10, 6)
try:
    result = train(TrainConfig(**{config!r}), crops, drawn.network(seed=int(os.environ.get("RANK", "0"))),
                   margins.AdaFace(), Path({folder!r}), held_out=drawn.people(6, 5, seed=1), resume=True,
                   progress=progress)
except RankError as error:
    print("RankError", error, flush=True)
    os._exit(3)
print("stopped" if result.stopped else "done", result.step, flush=True)
"""

# Half of a checkpoint's bytes are written, then the process is gone.
DIE_IN_A_WRITE = """
from visavis.face.train import checkpoint
save, written = torch.save, []
def die(state, stream):
    save(state, stream)
    written.append(1)
    if len(written) == {count}:
        stream.flush()
        stream.truncate(stream.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.torch.save = die
"""


def start(folder, *, config=None, before="", progress="pass", rank=None, ranks=1, port=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if rank is not None:
        place = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {name: str(value) for name, value in place.items()}
    code = SCRIPT.format(config=config or CONFIG, folder=str(folder), before=before, progress=progress)
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def finish(process, *, timeout_s=120):
    out, _ = process.communicate(timeout=timeout_s)
    return out.splitlines()


def wait_for(process, step):
    for line in process.stdout:
        if line.strip() == str(step):
            return
    raise AssertionError(f"the process ended before step {step}")


def last(folder):
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    return checkpoints.load(checkpoints.steps()[-1])


def same(one, other):
    """Whether all that two checkpoints hold is equal, to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody killed, in this process."""
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(
        TrainConfig(**CONFIG),
        drawn.people(10, 6),
        drawn.network(),
        margins.AdaFace(),
        folder,
        held_out=drawn.people(6, 5, seed=1),
    )
    torch.set_num_threads(threads)
    return folder


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_killed_at_any_moment_and_gone_on_it_ends_the_same(whole, tmp_path):
    moments = random.Random(0)
    for step in (2, 11, 23):
        process = start(tmp_path, progress="time.sleep(0.01)")
        wait_for(process, step)
        time.sleep(moments.uniform(0, 0.02))  # no test of time: whenever it comes, the outcome is the same
        process.kill()
        finish(process)
    assert finish(start(tmp_path))[-1] == "done 45"
    assert same(last(tmp_path), last(whole))
    assert losses(tmp_path) == losses(whole)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_killed_in_the_middle_of_a_write_it_ends_the_same(whole, tmp_path, count):
    process = start(tmp_path, before=DIE_IN_A_WRITE.format(count=count))
    finish(process)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.part"))
    assert finish(start(tmp_path))[-1] == "done 45"
    assert same(last(tmp_path), last(whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_the_run_and_leaves_a_checkpoint(whole, tmp_path, number):
    """In a process of its own: pytest's faulthandler has signals answered on a stack too small for some processors."""
    process = start(tmp_path, progress=f"moment.step == 10 and signal.raise_signal({int(number)})")
    assert finish(process)[-1] == "stopped 11"
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [9, 11]
    assert finish(start(tmp_path))[-1] == "done 45"
    assert same(last(tmp_path), last(whole))


def two(folder, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(folder, rank=rank, ranks=2, port=port, **options) for rank in range(2)]


def test_two_processes_learn_as_one_that_normalises_by_halves_does(tmp_path):
    """Losses of the first steps against one process with the batch in two parts, which sees the same statistics."""
    config = {**CONFIG, "epochs": 2.0, "accumulate": 1, "ema": 0.0}
    pair = two(tmp_path / "pair", config=config)
    assert [finish(process)[-1] for process in pair] == ["done 8", "done 8"]
    assert finish(start(tmp_path / "one", config={**config, "accumulate": 2}))[-1] == "done 8"
    pairs, ones = losses(tmp_path / "pair"), losses(tmp_path / "one")
    # AdaFace follows the batch's norms, which parts see one by one; that moves the margin by little.
    assert [loss for _, loss in pairs] == pytest.approx([loss for _, loss in ones], rel=0.02)


def test_the_death_of_one_process_ends_the_other_with_a_clear_error_and_the_run_goes_on(tmp_path):
    slow = "time.sleep(0.05)"
    first, second = two(tmp_path, progress=slow)
    wait_for(first, 7)
    second.kill()
    told = finish(first, timeout_s=30)[-1]  # the group's timeout is 20 s; as a rule it takes a moment
    assert first.returncode == 3
    assert told.startswith("RankError ranks: expected all 2 to")
    assert "it has died, is stuck, or is at another step" in told
    second.communicate()
    steps = Checkpoints(tmp_path / "checkpoints", keep=2).steps()
    assert steps[-1] >= 6
    pair = two(tmp_path)  # goes on with two ...
    lines = finish(pair[0])
    assert lines[0] == str(steps[-1] + 1)
    assert lines[-1] == finish(pair[1])[-1] == "done 45"
    assert len(losses(tmp_path)) == 45


def test_a_run_of_two_goes_on_as_one_and_one_as_two(tmp_path):
    first, second = two(tmp_path, progress="time.sleep(0.05)")
    wait_for(first, 4)
    for process in (first, second):
        process.kill()
        process.communicate()
    one = start(tmp_path, progress="moment.step == 10 and os.kill(os.getpid(), signal.SIGTERM)")
    assert finish(one)[-1].startswith("stopped 11")
    pair = two(tmp_path)
    assert [finish(process)[-1] for process in pair] == ["done 45", "done 45"]
    values = [loss for _, loss in losses(tmp_path)]
    assert sum(values[-5:]) < sum(values[:5]) / 2


def test_a_signal_to_one_process_stops_both_at_the_same_step(tmp_path):
    pair = two(
        tmp_path, progress="moment.step == 5 and os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGTERM)"
    )
    assert [finish(process)[-1] for process in pair] == ["stopped 6", "stopped 6"]
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [3, 6]
