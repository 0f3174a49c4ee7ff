"""An agent on a real X display: it types into a window that writes down what arrives, and outlives the display."""

import shutil

import pytest

from visavis.gui import trace as traces
from visavis.gui.actions import Click, Finished, Hotkey, Type, Wait
from visavis.gui.agent import Agent, Retries
from visavis.gui.model import ScriptedModel
from visavis.gui.safety import Policy, Secret

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")


def test_a_secret_arrives_at_a_window_and_nowhere_else(x_display, tmp_path):
    from tests.gui.x11 import Listener, until
    from visavis.gui.screen import X11Screen

    policy = Policy(secrets={"password": Secret("Grüße 42", ("*",))})
    model = ScriptedModel(
        ("I click the window.", Click((300, 300))),
        ("I type.", Type("{{secret:password}}\n"), Hotkey(("ctrl", "a"))),
        ("", Finished("done")),
    )
    with X11Screen(x_display) as screen, Listener(x_display) as listener:
        run = Agent(model, screen, policy=policy, trace=tmp_path).run("Log in")
        until(lambda: listener.text() == "Grüße 42\na")
        assert [event.at for event in listener.of("ButtonPress")] == [(300, 300)]
    assert run.outcome == "finished"
    trace = traces.read(run.trace)
    assert [attempt.verdict for step in trace.steps for attempt in step.attempts] == ["performed"] * 4
    assert trace.screenshot(trace.steps[0]).size == (1280, 800)
    assert all("Gr" not in path.read_text() for path in tmp_path.rglob("*.json*"))
    assert "did not change" in model.asked[1].turns[0].remarks[0]  # the window draws nothing


def test_a_display_that_is_gone_ends_the_run(tmp_path):
    from tests.gui.x11 import x_server
    from visavis.gui.screen import X11Screen

    with x_server("320x240", manager=False) as (name, process):

        def kill(context):  # noqa: ARG001
            process.kill()
            process.wait()
            return Click((10, 10))

        model = ScriptedModel(Wait(0.0), kill)
        with X11Screen(name) as screen:
            run = Agent(model, screen, trace=tmp_path, retries=Retries(first_s=0.0)).run("Click")
    assert (run.outcome, run.reason) == ("failed", "screen")
    assert run.message
    trace = traces.read(run.trace)
    assert trace.ending.reason == "screen"
    assert [[attempt.verdict for attempt in step.attempts] for step in trace.steps] in (
        [["performed"], ["failed"]],
        [["performed"], ["unknown"]],
    )
