"""Ways around a run's safety, budgets and record that were open once."""

from types import SimpleNamespace

import pytest

from tests.gui.endpoint import Endpoint, streamed
from tests.gui.fake_screen import FakeScreen
from tests.gui.test_agent import FOCUS, PRESS, agent, in_thread, remarks, until
from tests.gui.test_remote import asked
from visavis.errors import EndpointError, InputError, ReplyError, TraceError
from visavis.gui import trace as traces
from visavis.gui.actions import MOBILE, CallUser, Click, Finished, Press, Release, Type, Wait
from visavis.gui.agent import _control as controls
from visavis.gui.agent import _session as sessions
from visavis.gui.model import Context, ScriptedModel
from visavis.gui.safety import Policy, Secret
from visavis.gui.trace import TraceWriter

BUY = ("I buy it.", PRESS)


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch):
    monkeypatch.setattr(sessions, "LOOK_AGAIN_S", float("inf"))


# Stop and pause -------------------------------------------------------------------------------------------------------


def test_what_is_confirmed_after_the_run_was_stopped_is_not_done(tmp_path):
    def confirm(action, reason):  # noqa: ARG001
        runner.stop()
        return True

    screen = FakeScreen()
    runner = agent(ScriptedModel(BUY), screen, on_confirm=confirm, trace=tmp_path)
    run = runner.run("Buy it")
    assert (run.outcome, run.reason) == ("stopped", "user")
    assert screen.done == []
    assert traces.read(run.trace).steps[0].attempts == ()


def test_what_is_confirmed_after_the_emergency_stop_is_not_done(tmp_path):
    def confirm(action, reason):  # noqa: ARG001
        (runner.folder / "STOP").touch()
        return True

    screen = FakeScreen()
    runner = agent(ScriptedModel(BUY), screen, on_confirm=confirm, trace=tmp_path)
    assert runner.run("Buy it").reason == "emergency"
    assert screen.done == []


def test_what_is_confirmed_while_the_run_is_paused_is_not_done():
    def confirm(action, reason):  # noqa: ARG001
        runner.pause()
        return True

    screen, model = FakeScreen(), ScriptedModel(BUY, FOCUS)
    runner = agent(model, screen, on_confirm=confirm)
    thread, results = in_thread(lambda: runner.run("Buy it"))
    until(lambda: runner._control is not None and runner._control._paused)
    runner.resume()
    thread.join(30)
    assert results[0].outcome == "finished"
    assert screen.done == [FOCUS]
    assert remarks(model)[0] == (sessions.PAUSED,)


def test_a_stop_while_a_run_is_prepared_counts(tmp_path, monkeypatch):
    """Its trace is read or begun: on a slow disk that takes a while."""
    screen, model = FakeScreen(), ScriptedModel(then=PRESS)
    runner = agent(model, screen, trace=tmp_path)
    create, read = TraceWriter.create, traces.read
    monkeypatch.setattr(TraceWriter, "create", lambda *args, **options: (runner.stop(), create(*args, **options))[1])
    run = runner.run("Press", max_steps=2)
    assert (run.outcome, run.reason, run.steps) == ("stopped", "user", ())
    assert read(run.trace).ending.reason == "user"
    monkeypatch.setattr(traces, "read", lambda folder: (runner.stop(), read(folder))[1])
    run = runner.continue_run(run.trace, max_steps=2)
    assert (run.outcome, run.reason, run.steps) == ("stopped", "user", ())
    monkeypatch.setattr(traces, "read", read)
    assert runner.continue_run(run.trace, max_steps=2).reason == "steps"  # a stop is for one run


def test_time_that_the_user_takes_does_not_count(tmp_path, monkeypatch):
    """Neither in the run nor in the rest of it that is resumed; as for a pause."""
    clock = [0.0]
    monkeypatch.setattr(controls, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def later(*_):
        clock[0] += 1000
        return "yes"

    screen, model = FakeScreen(), ScriptedModel(BUY, CallUser("Really?"), FOCUS, EndpointError("gone", retry=False))
    runner = agent(model, screen, on_confirm=later, on_question=later, trace=tmp_path)
    run = runner.run("Buy it", max_seconds=500)
    assert (run.reason, screen.done) == ("model", [PRESS, FOCUS])
    assert clock == [2000]
    assert sum(seconds for step in run.steps for seconds in step.seconds.values()) == 0
    assert runner.continue_run(run.trace, max_seconds=500).outcome == "finished"


def test_a_run_that_cannot_begin_leaves_the_agent_at_rest(tmp_path):
    runner = agent(ScriptedModel(), trace=tmp_path)
    with pytest.raises(TraceError):
        runner.continue_run(tmp_path / "none")
    assert runner._control is None
    assert runner.run("Press").outcome == "finished"


# Records and budgets --------------------------------------------------------------------------------------------------


def test_a_step_that_the_disk_did_not_take_is_told_by_the_run(tmp_path, monkeypatch):
    """It was done, after all."""

    def full(self, step):  # noqa: ARG001
        raise TraceError("disk full")

    monkeypatch.setattr(TraceWriter, "step", full)
    screen = FakeScreen()
    run = agent(ScriptedModel(then=PRESS), screen, trace=tmp_path).run("Press")
    assert (run.outcome, run.reason) == ("failed", "trace")
    assert screen.done == [PRESS]
    assert [attempt.verdict for step in run.steps for attempt in step.attempts] == ["performed"]


def test_replies_that_do_not_parse_use_up_tokens_too():
    bad, good = streamed("Action: clack()", usage=(100, 10)), streamed("Action: press_home()", usage=(100, 10))
    with Endpoint(bad, bad, bad, good) as endpoint:
        run = agent(asked(endpoint.url, dialect=MOBILE)).run("Press", max_tokens=440)
        assert (run.reason, len(endpoint.requests), len(run.steps)) == ("tokens", 4, 1)
        assert run.message == "not finished after 440 tokens"
    with Endpoint(streamed("Action: press_home()", usage=(100, 10), end="length")) as endpoint:
        with pytest.raises(ReplyError) as caught:
            asked(endpoint.url, dialect=MOBILE).decide(Context("Press", FakeScreen().screenshot()))
        assert caught.value.tokens == 110


# The policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        Type("yes\r"),  # screens press Enter for it as for \n
        Type("\r\n"),
        Type(" "),  # on a button that has the focus it is a click
        Type("\t "),
        Press("space"),
        Release("space"),  # which is done when the key is let go
        Type("{{secret:answer}}"),  # with Enter in it
    ],
)
def test_every_way_to_set_something_off_is_asked_about(action):
    policy = Policy(secrets={"answer": Secret("yes\n", ("*",))})
    assert policy.judge(action, thought="This deletes the account").answer == "ask"
    assert policy.judge(action, thought="This opens the menu").answer == "allow"


@pytest.mark.parametrize("action", [Type("to whom it may concern"), Type("{{secret:pin}}"), Type(""), Type("\t")])
def test_to_type_a_text_sets_nothing_off(action):
    policy = Policy(secrets={"pin": Secret("4711", ("*",))})
    assert policy.judge(action, thought="I write what I want to send").answer == "allow"


def test_a_reason_holds_no_secret():
    """It is told to whoever watches the steps, and by the run."""
    screen, told = FakeScreen(url="data:text/html,hunter2"), []
    policy = Policy(origins=("https://example.org",), secrets={"pin": Secret("hunter2", ("*",))})
    run = agent(ScriptedModel(then=PRESS), screen, policy=policy, on_step=told.append).run("Press")
    assert run.reason == "refused"
    assert "an address without origin ('data:text/html,{{sec')" in run.message
    assert "hunt" not in f"{run!r}{told!r}"


def test_a_thought_that_is_nothing_but_a_plan_is_about_what_is_done():
    screen, model = FakeScreen(), ScriptedModel(("Plan: 1. delete the file", PRESS), ("Done: 1", Finished()))
    agent(model, screen).run("Clean up")
    assert screen.done == []
    assert "may delete" in remarks(model)[0][0]


@pytest.mark.parametrize("kind", [Wait, Finished, CallUser, str, "Click"])
def test_kinds_that_no_policy_judges_are_refused(kind):
    with pytest.raises(InputError, match="^kinds: expected actions of a screen, got "):
        Policy(kinds={kind: "refuse"})
    assert Policy(kinds={Click: "refuse"}).judge(PRESS).answer == "refuse"
