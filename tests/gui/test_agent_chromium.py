"""An agent in a real browser: ten steps through a page; faults end with a named outcome and a trace that reads."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from visavis.app.trace_page import write_page
from visavis.gui import Agent, ChromiumScreen, Retries, ScriptedModel
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Finished, Hotkey, Navigate, Type, Wait

pytestmark = pytest.mark.usefixtures("chromium")

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_in_browser.py"
SECOND = Path(__file__).with_name("pages") / "second.html"


@pytest.fixture
def screen():
    with ChromiumScreen(SECOND.as_uri(), size=(400, 300), settle_s=0.5, answer_s=2.0) as screen:
        yield screen


def test_ten_steps_through_a_page(tmp_path):
    subprocess.run([sys.executable, EXAMPLE, tmp_path], check=True, capture_output=True)
    trace = traces.read(tmp_path / "0001")
    assert [[attempt.verdict for attempt in step.attempts] for step in trace.steps] == [
        ["performed"] * (4 if step.number == 4 else 1) for step in trace.steps
    ]
    assert len(trace.steps) == 10
    assert [done for _, done in trace.steps[-1].plan] == [True, True, False]  # as the model was given it
    page = tmp_path / "0001" / "page.html"
    with ChromiumScreen(f"{page.as_uri()}#step-7", size=(1000, 700)) as screen:
        shown = screen._connection.evaluate(
            "document.querySelector('.frame.now').innerText", session=screen._pages.session
        )
    assert "drag from 520, 110 to 520, 260" in shown


def test_a_browser_that_is_killed_in_a_step(screen, tmp_path):
    def kill(context):  # noqa: ARG001
        threading.Timer(0.05, os.killpg, (screen._browser.pid, signal.SIGKILL)).start()
        return "I type.", Type("a" * 20_000)

    run = Agent(ScriptedModel(Wait(0.0), kill), screen, trace=tmp_path, retries=Retries(first_s=0.0)).run("Type")
    assert (run.outcome, run.reason) == ("failed", "screen")
    assert "browser" in run.message
    trace = traces.read(run.trace)
    assert [[attempt.verdict for attempt in step.attempts] for step in trace.steps] == [["performed"], ["unknown"]]
    write_page(trace, tmp_path / "page.html")


def test_a_page_that_never_comes(screen, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes the connection and says nothing
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        model = ScriptedModel(("I open it.", Navigate(address)), ("Still there.", Finished("it does not load")))
        run = Agent(model, screen, trace=tmp_path).run("Open a page")
    assert (run.outcome, run.answer) == ("finished", "it does not load")
    assert model.asked[1].turns[0].remarks[0].startswith("The screen did not change")


def test_a_page_that_crashes_and_is_loaded_anew(screen, tmp_path):
    def crash(context):  # noqa: ARG001
        screen._connection.send("Page.crash", session=screen._pages.session)
        return Click((10, 10))

    model = ScriptedModel(crash, Hotkey(("f5",)), Finished("it is back"))
    run = Agent(model, screen, trace=tmp_path).run("Click")
    assert (run.outcome, run.answer) == ("finished", "it is back")
