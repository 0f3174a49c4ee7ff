"""A run that is killed at whatever moment leaves a trace that reads, loses the step in flight at most, and goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.gui.fake_screen import BUTTON, FakeScreen
from visavis.errors import TraceError
from visavis.gui import _files
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Finished, Wait
from visavis.gui.agent import Agent
from visavis.gui.model import ScriptedModel

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from visavis.gui.model import ScriptedModel
from tests.gui.fake_screen import BUTTON, FakeScreen
from visavis.gui.actions import Click
from visavis.gui.agent import Agent

def say(step):
    print(step.number, flush=True)

model = ScriptedModel(then=("press it", Click(BUTTON)))
Agent(model, FakeScreen(), trace=sys.argv[1], on_step=say).run("Press for ever", max_steps=100_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
@pytest.mark.parametrize("steps", [1, 4])
def test_kill_9(tmp_path, steps):
    command = [sys.executable, "-c", RUN, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            for number in range(1, steps + 1):
                assert process.stdout.readline() == f"{number}\n"
        finally:
            process.send_signal(signal.SIGKILL)
        written = steps + len(process.stdout.readlines())
    folder = tmp_path / "0001"
    trace = traces.read(folder)
    assert trace.ending is None
    assert 0 <= len(trace.steps) - written <= 1  # it may be on disk and not yet said
    for step in trace.steps:
        assert step.attempts[0].verdict == "performed"
        assert trace.screenshot(step).size == (96, 64)
    run = Agent(ScriptedModel(Click(BUTTON), then=Finished("ok")), FakeScreen()).continue_run(folder, max_steps=100_000)
    assert (run.outcome, run.answer) == ("finished", "ok")
    trace = traces.read(folder)
    assert [step.number for step in trace.steps] == list(range(1, len(run.steps) + 1))
    for step in trace.steps:
        trace.screenshot(step)


class Killed(BaseException):
    """Stands for a kill: nobody catches it, and nothing can be written any more."""


def test_killed_at_every_single_write(tmp_path, monkeypatch):
    """Every write of a run is the last one, with none, half and all of its bytes: it is read and gone on with."""
    put = _files.put
    pixels = FakeScreen().screenshot().pixels
    at, share, ended = 0, 2, False
    while not ended:
        at, share = (at, share + 1) if share < 2 else (at + 1, 0)
        writes = 0

        def dying(stream, data, at=at, share=share):
            nonlocal writes
            writes += 1
            if writes == at:
                put(stream, data[: len(data) * share // 2])
            if writes >= at:
                raise Killed
            put(stream, data)

        parent = tmp_path / f"{at} {share}"
        with monkeypatch.context() as patch:
            patch.setattr(_files, "put", dying)
            screen = FakeScreen()
            try:
                Agent(ScriptedModel(Click(BUTTON), Wait(0.0)), screen, trace=parent).run("Press")
                ended = True
            except Killed:
                pass
        folder = parent / "0001"
        if at == 1:  # not begun: run.json is the first
            with pytest.raises(TraceError, match="expected the folder of a trace"):
                traces.read(folder)
            continue
        trace = traces.read(folder)
        assert len(screen.done) - sum(Click(BUTTON) == step.decision.actions[0] for step in trace.steps) <= 1
        for step in trace.steps:
            np.testing.assert_array_equal(trace.screenshot(step).pixels[8:24], pixels[8:24])
        if trace.ending is None:
            run = Agent(ScriptedModel(), FakeScreen()).continue_run(folder)
            assert run.outcome == "finished"
            assert traces.read(folder).steps == run.steps
    assert at == 9


def test_a_run_that_goes_on_can_be_watched(tmp_path):
    """A reader sees whole steps at any time."""
    seen = []
    model = ScriptedModel(*[Click(BUTTON)] * 3)
    agent = Agent(model, FakeScreen(), trace=tmp_path, on_step=lambda _: seen.append(traces.read(tmp_path / "0001")))
    run = agent.run("Press")
    assert [len(trace.steps) for trace in seen] == [1, 2, 3, 4]
    assert all(trace.ending is None for trace in seen)
    assert seen[-1].steps == run.steps
