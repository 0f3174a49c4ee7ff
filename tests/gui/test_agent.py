"""A run does what its model says, tells the model what came of it, and ends in a way that has a name."""

import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from tests.gui.disk import full_disk
from tests.gui.fake_screen import BUTTON, FIELD, HEIGHT, WIDTH, FakeScreen
from visavis.errors import EndpointError, InputError, ReplyError, ScreenError, TraceError, VisavisError
from visavis.gui import _files
from visavis.gui import trace as traces
from visavis.gui.actions import CallUser, Click, Drag, Finished, Hotkey, Move, Navigate, OpenApp, Type, Wait
from visavis.gui.agent import Agent, Retries
from visavis.gui.agent import _control as controls
from visavis.gui.agent import _session as sessions
from visavis.gui.memory import Memory
from visavis.gui.model import Decision, ScriptedModel
from visavis.gui.safety import Policy, Secret
from visavis.gui.trace import Attempt

PRESS, FOCUS, NOWHERE = Click(BUTTON), Click(FIELD), Click((90, 5))
AT_ONCE = Retries(first_s=0.0)


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch):
    """Only where a test is about it: on a loaded machine any thought may take long."""
    monkeypatch.setattr(sessions, "LOOK_AGAIN_S", float("inf"))


def agent(model, screen=None, **options):
    return Agent(model, screen or FakeScreen(), **({"retries": AT_ONCE} | options))


def remarks(model):
    """What the model was told after each of its steps."""
    return [turn.remarks for turn in model.asked[-1].turns]


def in_thread(function):
    """Run a function beside the test; its result is in the list when the thread has ended."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    return thread, results


def until(condition):
    """Wait, but not for ever."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


# The way of a run -----------------------------------------------------------------------------------------------------


def test_a_task_is_done_and_kept(tmp_path):
    screen = FakeScreen(url="http://127.0.0.1/")
    model = ScriptedModel(("press it", PRESS), ("into the field", FOCUS, Type("ada")), ("it says so", Finished("42")))
    seen = []
    run = agent(model, screen, trace=tmp_path, on_step=seen.append).run("Write ada")
    assert (run.outcome, run.reason, run.answer, run.message) == ("finished", "", "42", "")
    assert screen.done == [PRESS, FOCUS, Type("ada")]
    assert (screen.clicks, screen.text) == (1, "ada")
    assert not screen.closed
    trace = traces.read(run.trace)
    assert run.trace == tmp_path / "0001"
    assert trace.steps == run.steps == tuple(seen)
    assert [step.decision.thought for step in trace.steps] == ["press it", "into the field", "it says so"]
    assert [[attempt.verdict for attempt in step.attempts] for step in trace.steps] == [
        ["performed"],
        ["performed", "performed"],
        ["performed"],
    ]
    assert [step.changed for step in trace.steps] == [True, True, None]
    assert (trace.instruction, trace.model, trace.screen) == ("Write ada", "scripted", "fake")
    assert trace.steps[0].url == "http://127.0.0.1/"
    for step, asked in zip(trace.steps, model.asked, strict=True):
        np.testing.assert_array_equal(trace.screenshot(step).pixels, asked.screenshot.pixels)
        context = trace.context(step)
        assert (context.instruction, context.memories, context.plan) == (asked.instruction, (), ())
        assert [turn.remarks for turn in context.turns] == [turn.remarks for turn in asked.turns]
        assert [turn.decision for turn in context.turns] == [turn.decision for turn in asked.turns]
    assert agent(ScriptedModel(), trace=tmp_path).run("Again").trace == tmp_path / "0002"


def test_without_a_trace_nothing_is_written():
    run = agent(ScriptedModel(PRESS)).run("Press")
    assert (run.outcome, run.trace, len(run.steps)) == ("finished", None, 2)
    assert run.steps[0].screenshot is None


def test_a_step_costs_one_look():
    screen = FakeScreen()
    agent(ScriptedModel(PRESS, PRESS, PRESS), screen).run("Press")
    assert screen.looks == 4


def test_the_last_five_screenshots_and_all_texts_are_remembered():
    model = ScriptedModel(*[PRESS] * 8)
    agent(model).run("Press often")
    for number, context in enumerate(model.asked):
        assert len(context.turns) == number
        pictures = [turn.screenshot is not None for turn in context.turns]
        assert pictures == [index >= number - 4 for index in range(number)]
        assert all(turn.decision.actions == (PRESS,) for turn in context.turns)
        for turn, asked in zip(context.turns, model.asked, strict=False):
            assert turn.screenshot is None or turn.screenshot is asked.screenshot


@pytest.mark.parametrize("images", [1, 2])
def test_fewer_screenshots(images):
    model = ScriptedModel(*[PRESS] * 3)
    agent(model, images=images).run("Press")
    assert sum(turn.screenshot is not None for turn in model.asked[-1].turns) == images - 1


def test_old_steps_give_way_when_texts_are_long():
    model = ScriptedModel(*[("word " * 400, PRESS)] * 6)  # of 500 tokens each
    agent(model, history_tokens=1700).run("Press")
    assert [len(context.turns) for context in model.asked] == [0, 1, 2, 3, 3, 3, 3]
    assert sessions._text_tokens("four letters") == 3
    assert sessions._text_tokens("点击按钮") == 4


def test_waiting_is_the_agents_own():
    screen = FakeScreen()
    run = agent(ScriptedModel(Wait(0.01), Wait(0.0)), screen).run("Wait")
    assert screen.done == []
    assert run.steps[0].attempts[0].verdict == "performed"
    assert run.steps[0].attempts[0].seconds >= 0.01


def test_actions_before_the_end_are_done_and_none_after_it():
    screen = FakeScreen()
    run = agent(ScriptedModel((PRESS, Finished("x"), PRESS)), screen).run("Press")
    assert run.answer == "x"
    assert screen.done == [PRESS]


def test_the_user_answers():
    model = ScriptedModel(CallUser("Which one?"), PRESS)
    questions = []
    run = agent(model, on_question=lambda question: questions.append(question) or "the blue one").run("Choose")
    assert questions == ["Which one?"]
    assert remarks(model)[0] == ("The user answers: the blue one",)
    assert run.outcome == "finished"


@pytest.mark.parametrize("callback", [None, lambda question: None])  # noqa: ARG005
def test_nobody_answers(callback, tmp_path):
    run = agent(ScriptedModel(CallUser("Which one?")), on_question=callback, trace=tmp_path).run("Choose")
    assert (run.outcome, run.reason, run.answer) == ("call_user", "", "Which one?")
    assert traces.read(run.trace).ending.answer == "Which one?"


# Reflection -----------------------------------------------------------------------------------------------------------


def test_actions_without_effect_are_told_back():
    model = ScriptedModel(NOWHERE, PRESS, Move((3, 3)), Hotkey(("ctrl", "c")))
    run = agent(model).run("Press")
    first, second, third, fourth = remarks(model)
    assert first[0].startswith("The screen did not change")
    assert second == third == ()  # a pointer need not show
    assert fourth[0].startswith("The screen did not change")
    assert [step.changed for step in run.steps] == [False, True, False, False, None]


def test_a_circle_is_told_back_and_ended(tmp_path):
    model = ScriptedModel(then=NOWHERE)
    run = agent(model, trace=tmp_path).run("Press")
    assert (run.outcome, run.reason) == ("failed", "loop")
    assert len(run.steps) == 2 + sessions.MOST_LOOPS + 1
    assert [any("circle" in remark for remark in told) for told in remarks(model)] == [False, False, True, True, True]
    assert traces.read(run.trace).ending.message.startswith("You are going in a circle: the same action")


def test_a_circle_that_is_left_is_forgiven():
    model = ScriptedModel(*[NOWHERE] * 4, PRESS, *[NOWHERE] * 4)
    run = agent(model).run("Press")
    assert run.outcome == "finished"


def test_clicking_again_is_no_circle_while_something_happens():
    model = ScriptedModel(*[PRESS] * 10)
    run = agent(model).run("Press ten times")
    assert run.outcome == "finished"
    assert all(told == () for told in remarks(model))


def test_what_changed_while_the_model_thought_is_no_effect(monkeypatch):
    """A clock that ticks with every look: with a second look the agent finds out that it does so by itself."""
    screen = FakeScreen()
    screen.clock = True
    model = ScriptedModel(*[NOWHERE] * 3)
    agent(model, screen).run("Press")
    assert not any("did not change" in remark for told in remarks(model) for remark in told)
    monkeypatch.setattr(sessions, "LOOK_AGAIN_S", 0.0)
    screen, model = FakeScreen(), ScriptedModel(*[NOWHERE] * 4, PRESS)
    screen.clock = True
    agent(model, screen).run("Press")
    assert "did not change" in remarks(model)[-2][0]
    assert remarks(model)[-1] == ()  # and what happens is still seen


def test_milestones_are_kept_ticked_and_checked():
    model = ScriptedModel(
        ("Plan: 1. press the button 2. write ada. I press it.", PRESS),
        ("Done: 1. I am finished.", Finished("too early")),
        ("Right, the field.", FOCUS, Type("ada")),
        ("Done: 2", Finished("now")),
    )
    run = agent(model).run("Press and write")
    assert [context.plan for context in model.asked] == [
        (),
        (("press the button", False), ("write ada", False)),
        (("press the button", True), ("write ada", False)),
        (("press the button", True), ("write ada", False)),
    ]
    assert "not reached: 2. write ada" in remarks(model)[1][0]
    assert run.answer == "now"
    assert [step.plan for step in run.steps] == [context.plan for context in model.asked]


def test_finished_said_twice_is_finished():
    model = ScriptedModel(("Plan: 1. press 2. write", PRESS))
    run = agent(model).run("Press")
    assert (run.outcome, len(run.steps)) == ("finished", 3)


def test_a_plan_that_stands_still_is_spoken_of():
    model = ScriptedModel(("Plan: 1. write", PRESS), *[PRESS] * 20, then=("Done: 1", Finished()))
    agent(model).run("Press")
    told = [number for number, told in enumerate(remarks(model), start=1) if told]
    assert told == [1 + sessions.PATIENCE_STEPS, 1 + 2 * sessions.PATIENCE_STEPS]
    assert "the next is 1. write" in remarks(model)[told[0] - 1][0]


# Budgets --------------------------------------------------------------------------------------------------------------


def test_steps_run_out(tmp_path):
    run = agent(ScriptedModel(then=PRESS), trace=tmp_path).run("Press", max_steps=4)
    assert (run.outcome, run.reason, len(run.steps)) == ("failed", "steps", 4)
    assert run.message == "not finished after 4 steps"
    trace = traces.read(run.trace)
    assert trace.ending.reason == "steps"
    assert trace.last_look.exists()


def test_tokens_run_out():
    run = agent(ScriptedModel(then=PRESS, tokens=(100, 10))).run("Press", max_tokens=300)  # 110 a step
    assert (run.outcome, run.reason, len(run.steps)) == ("failed", "tokens", 3)


def test_time_runs_out_in_a_wait_and_in_a_thought():
    run = agent(ScriptedModel(Wait(3000))).run("Wait", max_seconds=0.05)
    assert (run.outcome, run.reason) == ("failed", "time")
    assert run.steps[0].attempts == (Attempt(Wait(3000), "unknown", "", run.steps[0].attempts[0].seconds),)
    never = threading.Event()
    run = agent(ScriptedModel(lambda context: never.wait() or PRESS)).run("Think", max_seconds=0.05)  # noqa: ARG005
    assert (run.outcome, run.reason) == ("failed", "time")
    assert run.steps[0].decision is None
    never.set()


@pytest.mark.parametrize("limit", ["max_steps", "max_seconds", "max_tokens"])
def test_limits_that_make_no_sense(limit):
    with pytest.raises(InputError, match=f"^{limit}: expected more than 0, got 0"):
        agent(ScriptedModel()).run("x", **{limit: 0})


def test_no_instruction():
    with pytest.raises(InputError, match="^instruction: expected some words, got ' '"):
        agent(ScriptedModel()).run(" ")
    with pytest.raises(InputError, match="^images: expected at least the present screenshot, 1, got 0"):
        agent(ScriptedModel(), images=0)


# From outside ---------------------------------------------------------------------------------------------------------


def test_stop_ends_a_wait_a_thought_and_a_back_off(monkeypatch):
    monkeypatch.setattr(controls, "POLL_S", 3600)  # so that nothing else wakes the run
    never = threading.Event()
    for answer in (
        Wait(3000),
        lambda context: never.wait() or PRESS,  # noqa: ARG005
        EndpointError("busy", retry=True),
    ):
        model = ScriptedModel(answer)
        runner = Agent(model, FakeScreen(), retries=Retries(first_s=3000, longest_s=3000))
        thread, results = in_thread(lambda runner=runner: runner.run("Wait"))
        until(lambda model=model: model.asked)
        runner.stop()
        thread.join(30)
        assert (results[0].outcome, results[0].reason) == ("stopped", "user")
    never.set()
    runner.stop()  # with nothing going on it does nothing
    assert runner.run("Again").outcome == "finished"


def test_a_file_named_stop_is_the_emergency_stop(tmp_path):
    model = ScriptedModel(Wait(3000))
    runner = agent(model, trace=tmp_path)
    thread, results = in_thread(lambda: runner.run("Wait"))
    until(lambda: model.asked)
    assert runner.folder == tmp_path / "0001"
    (runner.folder / "STOP").touch()
    thread.join(30)
    assert (results[0].outcome, results[0].reason) == ("stopped", "emergency")
    assert traces.read(runner.folder).ending.reason == "emergency"


def test_pause_holds_a_run_and_resume_lets_it_go_on():
    """What was decided before a pause and not yet done is not done: the screen may be another by now."""

    def pause(context):  # noqa: ARG001
        runner.pause()
        return PRESS

    screen, model = FakeScreen(), ScriptedModel(pause, FOCUS)
    runner = agent(model, screen)
    thread, results = in_thread(lambda: runner.run("Press", max_seconds=1000))
    until(lambda: runner._control is not None and runner._control._paused)
    thread.join(0.05)
    assert thread.is_alive()
    screen.clicks = 1  # somebody else was there
    runner.resume()
    thread.join(30)
    assert results[0].outcome == "finished"
    assert screen.done == [FOCUS]
    assert (results[0].steps[0].attempts, results[0].steps[0].changed) == ((), None)
    assert remarks(model) == [(sessions.PAUSED,), ()]


def test_after_a_pause_it_looks_anew_and_the_model_is_told():
    screen = FakeScreen()
    runner = agent(ScriptedModel(PRESS, PRESS), screen, on_step=lambda step: step.number == 1 and runner.pause())
    model = runner._parts.model
    thread, _ = in_thread(lambda: runner.run("Press"))
    until(lambda: screen.looks == 2 and runner._control._paused)
    screen.text = "meanwhile"
    runner.resume()
    thread.join(30)
    assert "interrupted" in model.asked[1].turns[0].remarks[-1]
    assert (model.asked[1].screenshot.pixels[40, 35] == 60).all()  # the text is there


def test_time_that_a_run_is_paused_does_not_count(monkeypatch):
    clock, polls = [0.0], 0
    monkeypatch.setattr(controls, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(controls, "POLL_S", 0.001)

    def poll():
        nonlocal polls
        polls += 1
        if polls == 2:  # the first is before the pause begins
            clock[0] += 1000
            control.resume()
        return False

    control = controls.Control(max_seconds=500, emergency=poll)
    control.begin(100)
    control.pause()
    assert control.check()
    assert control.elapsed() == 100
    clock[0] += 401
    with pytest.raises(controls.TimeUp):
        control.check()


def test_a_paused_run_can_be_stopped():
    runner = agent(ScriptedModel(PRESS), on_step=lambda step: runner.pause())  # noqa: ARG005
    thread, results = in_thread(lambda: runner.run("Press"))
    until(lambda: runner._control is not None and runner._control._paused)
    runner.stop()
    thread.join(30)
    assert results[0].reason == "user"


def test_one_run_at_a_time():
    model = ScriptedModel(Wait(3000))
    runner = agent(model)
    thread, _ = in_thread(lambda: runner.run("Wait"))
    until(lambda: model.asked)
    with pytest.raises(InputError, match="^run: expected an agent at rest"):
        runner.run("Another")
    runner.stop()
    thread.join(30)


def test_ctrl_c_is_written_down_and_passed_on(tmp_path):
    def interrupt(event):
        if event == PRESS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent(ScriptedModel(PRESS), FakeScreen(interrupt), trace=tmp_path).run("Press")
    trace = traces.read(tmp_path / "0001")
    assert (trace.ending.outcome, trace.ending.reason) == ("stopped", "interrupt")
    assert trace.steps[0].attempts[0].verdict == "unknown"


# Going on -------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_its_trace(tmp_path):
    screen = FakeScreen()
    first = ScriptedModel(("Plan: 1. press 2. write", PRESS), ("Done: 1", FOCUS), then=PRESS)
    run = agent(first, screen, trace=tmp_path).run("Press and write", max_steps=2)
    assert run.reason == "steps"
    (run.trace / "STOP").touch()
    model = ScriptedModel(Type("ada"), ("Done: 2", Finished("ok")))
    again = agent(model, screen).continue_run(run.trace, max_steps=4)
    assert (again.outcome, again.answer, again.trace) == ("finished", "ok", run.trace)
    assert [step.number for step in again.steps] == [1, 2, 3, 4]
    context = model.asked[0]
    assert context.instruction == "Press and write"
    assert context.plan == (("press", True), ("write", False))
    assert [turn.decision.actions for turn in context.turns] == [(PRESS,), (FOCUS,)]
    np.testing.assert_array_equal(context.turns[1].screenshot.pixels, first.asked[1].screenshot.pixels)
    assert "interrupted" in context.turns[-1].remarks[-1]
    trace = traces.read(run.trace)
    assert trace.ending.outcome == "finished"
    assert trace.steps == again.steps
    for step, asked in zip(trace.steps, [*first.asked, *model.asked], strict=True):
        told = [(turn.decision, turn.remarks, turn.screenshot is None) for turn in asked.turns]
        again = [(turn.decision, turn.remarks, turn.screenshot is None) for turn in trace.context(step).turns]
        assert told == again


def test_the_plan_outlives_a_model_that_was_gone(tmp_path):
    model = ScriptedModel(("Plan: 1. press 2. write. I press.", PRESS), then=EndpointError("gone", retry=False))
    run = agent(model, trace=tmp_path).run("Press")
    assert run.reason == "model"
    model = ScriptedModel(("Done: 1, 2", Finished()))
    assert agent(model).continue_run(run.trace).outcome == "finished"
    assert model.asked[0].plan == (("press", False), ("write", False))
    assert [step.decision is None for step in traces.read(run.trace).steps] == [False, True, False]


def test_limits_are_for_the_whole_run(tmp_path):
    run = agent(ScriptedModel(then=PRESS, tokens=(100, 10)), trace=tmp_path).run("Press", max_steps=2)
    again = agent(ScriptedModel(then=PRESS, tokens=(100, 10))).continue_run(run.trace, max_steps=2)
    assert (again.reason, len(again.steps)) == ("steps", 2)
    again = agent(ScriptedModel(then=PRESS, tokens=(100, 10))).continue_run(run.trace, max_tokens=400)
    assert (again.reason, len(again.steps)) == ("tokens", 4)


def test_a_finished_run_does_not_go_on(tmp_path):
    run = agent(ScriptedModel(), trace=tmp_path).run("Nothing")
    with pytest.raises(TraceError, match="expected a run that is not finished, got one that is"):
        agent(ScriptedModel()).continue_run(run.trace)


# Safety ---------------------------------------------------------------------------------------------------------------


def test_refusals_are_told_back_and_then_end_the_run(tmp_path):
    screen = FakeScreen(url="https://evil.org/")
    model = ScriptedModel(then=PRESS)
    policy = Policy(origins=("https://example.org",))
    run = agent(model, screen, policy=policy, trace=tmp_path).run("Press")
    assert (run.outcome, run.reason) == ("failed", "refused")
    assert screen.done == []
    assert "Not performed: the page is at https://evil.org, where nothing may be done" in remarks(model)[0][0]
    assert len(run.steps) == sessions.MOST_REFUSALS
    assert {attempt.verdict for step in traces.read(run.trace).steps for attempt in step.attempts} == {"refused"}


def test_refusals_in_between_do_not_end_a_run():
    refused = ("I delete it", PRESS)
    model = ScriptedModel(*[refused] * (sessions.MOST_REFUSALS - 1), FOCUS, *[refused] * (sessions.MOST_REFUSALS - 1))
    assert agent(model).run("Press").outcome == "finished"


def test_what_cannot_be_taken_back_is_confirmed():
    asked = []

    def confirm(action, reason):
        asked.append((action, reason))
        return len(asked) == 2

    screen = FakeScreen()
    buy = ("I click Buy now", PRESS, FOCUS)
    model = ScriptedModel(buy, buy)
    agent(model, screen, on_confirm=confirm).run("Buy it")
    assert asked[0] == (PRESS, 'by its words ("buy") this may buy or pay, which cannot be taken back')
    assert [action for action, _ in asked] == [PRESS, PRESS, FOCUS]  # the words may mean either
    assert screen.done == [PRESS]
    assert remarks(model)[0][0] == "Not performed: the user does not want it."


def test_without_anyone_to_ask_it_is_refused():
    screen, model = FakeScreen(), ScriptedModel(("点击删除", PRESS), ("Plan: 1. delete 2. buy. I open the menu", FOCUS))
    agent(model, screen).run("Delete it")
    assert screen.done == [FOCUS]  # a plan is not yet the deed
    assert "and nobody can be asked" in remarks(model)[0][0]


def test_secrets_reach_the_screen_and_nothing_else(tmp_path):
    def leak(event):
        if event == Type("hunter2"):
            raise ScreenError("cannot type 'hunter2'", acted=False)
        if event == Type("hunter2!"):
            raise InputError("text: expected other than hunter2!")

    screen = FakeScreen(leak, url="https://example.org/?q=hunter2")
    policy = Policy(secrets={"password": Secret("hunter2", ("https://example.org",))})
    model = ScriptedModel(
        FOCUS,
        Type("{{secret:password}}."),
        Type("{{secret:password}}"),
        Type("{{secret:password}}!"),
        Navigate("https://example.org/{{secret:password}}"),
        ReplyError("what is hunter2?", "hunter2"),
        ("it is hunter2", Type("hunter2?")),
        Finished("hunter2"),
    )
    memory = Memory(tmp_path / "memory")
    run = agent(model, screen, policy=policy, trace=tmp_path, memory=memory).run("Log in with hunter2")
    assert len(memory) == 1
    assert screen.done == [FOCUS, Type("hunter2."), Type("hunter2?")]
    assert run.answer == "{{secret:password}}"
    assert "{{secret:password}}" in model.asked[0].instruction
    for path in tmp_path.rglob("*.json*"):
        assert b"hunter2" not in path.read_bytes()
    for context in model.asked:
        told = [context.instruction, *context.memories, context.plan, context.mistakes]
        assert "hunter2" not in repr([*told, *((turn.decision, turn.remarks) for turn in context.turns)])
    assert "hunter2" not in repr(run)


def test_a_page_that_leaves_while_the_user_is_asked_gets_no_click():
    screen = FakeScreen(url="https://example.org/")

    def confirm(action, reason):  # noqa: ARG001
        screen.url = "https://evil.org/"
        return True

    policy = Policy(origins=("https://example.org",))
    run = agent(ScriptedModel(("I buy it", PRESS)), screen, policy=policy, on_confirm=confirm).run("Buy it")
    assert screen.done == []
    assert "the page is at https://evil.org" in run.steps[0].attempts[0].note


def test_a_secret_is_not_typed_where_the_page_has_gone_meanwhile():
    """The page leaves for another origin while the model thinks."""
    screen = FakeScreen(url="https://example.org/")
    policy = Policy(secrets={"password": Secret("hunter2", ("https://example.org",))})

    def leave(context):  # noqa: ARG001
        screen.url = "https://evil.org/"
        return FOCUS, Type("{{secret:password}}")

    model = ScriptedModel(leave)
    agent(model, screen, policy=policy).run("Log in")
    assert screen.done == [FOCUS]
    assert "the secret password may not be typed at https://evil.org" in remarks(model)[0][0]


def test_later_actions_of_a_step_are_judged_by_where_the_page_is_then():
    screen = FakeScreen(url="https://example.org/")

    def leave(event):
        if event == PRESS:
            screen.url = "https://evil.org/"

    screen.before = leave
    run = agent(ScriptedModel((PRESS, FOCUS)), screen, policy=Policy(origins=("https://example.org",))).run("Press")
    assert screen.done == [PRESS]
    assert [attempt.verdict for attempt in run.steps[0].attempts] == ["performed", "refused"]


def test_an_error_that_holds_a_secret_does_not_leave(tmp_path):
    def leak(event):
        if event == Type("hunter2"):
            raise OSError("cannot type hunter2")

    policy = Policy(secrets={"password": Secret("hunter2", ("*",))})
    with pytest.raises(VisavisError, match="cannot type {{secret:password}}$") as caught:
        agent(ScriptedModel(Type("{{secret:password}}")), FakeScreen(leak), policy=policy, trace=tmp_path).run("Log in")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert traces.read(tmp_path / "0001").ending.reason == "error"


def test_a_dry_run_does_nothing(tmp_path):
    screen, model = FakeScreen(), ScriptedModel(PRESS, (FOCUS, Type("ada")))
    run = agent(model, screen, policy=Policy(dry_run=True), trace=tmp_path, memory=Memory(tmp_path / "m")).run("Press")
    assert run.outcome == "finished"
    assert screen.done == []
    assert [[attempt.verdict for attempt in step.attempts] for step in run.steps[:2]] == [["dry"], ["dry", "dry"]]
    assert "dry run" in remarks(model)[0][0]
    assert len(Memory(tmp_path / "m")) == 0


def test_masked_pixels_are_never_seen(tmp_path):
    model = ScriptedModel(PRESS)
    run = agent(model, policy=Policy(masks=((8, 8, 24, 24),)), trace=tmp_path).run("Press")
    trace = traces.read(run.trace)
    for pixels in (*(asked.screenshot.pixels for asked in model.asked), *map(pixels_of(trace), trace.steps)):
        assert not pixels[8:24, 8:24].any()
        assert pixels[7, 8].all()


def pixels_of(trace):
    return lambda step: trace.screenshot(step).pixels


# Faults ---------------------------------------------------------------------------------------------------------------


def failing(error, times, when):
    """What a screen calls before it looks or acts, that raises the first so many times of an event."""
    left = [times]

    def before(event):
        if event == when and left[0]:
            left[0] -= 1
            raise error

    return before


def test_replies_that_do_not_parse_are_told_back():
    model = ScriptedModel(ReplyError("no action", "I think"), ReplyError("still none", "hm"), PRESS)
    run = agent(model).run("Press")
    assert [context.mistakes for context in model.asked] == [
        (),
        (("I think", "no action"),),
        (("I think", "no action"), ("hm", "still none")),
        (),
    ]
    assert run.steps[0].mistakes == (("I think", "no action"), ("hm", "still none"))
    assert run.outcome == "finished"


def test_replies_that_never_parse_end_the_run(tmp_path):
    run = agent(ScriptedModel(then=ReplyError("no action", "x")), trace=tmp_path).run("Press")
    assert (run.outcome, run.reason) == ("failed", "replies")
    assert run.message == "4 replies in a row that do not parse; the last: no action"
    assert len(traces.read(run.trace).steps[0].mistakes) == 4


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Click((WIDTH, 0)), "point: expected a pixel of 96 x 64, got (96, 0)"),
        (Drag(((0, 0), (0, HEIGHT))), "path[1]: expected a pixel of 96 x 64, got (0, 64)"),
        (Hotkey(("hyper",)), "hyper"),
    ],
)
def test_actions_that_are_none_are_mistakes(action, reason):
    screen, model = FakeScreen(), ScriptedModel(action, PRESS)
    agent(model, screen).run("Press")
    assert reason in model.asked[1].mistakes[0][1]
    assert screen.done == [PRESS]


def test_a_decision_without_actions_is_a_mistake():
    model = ScriptedModel(Decision("well", "well", ()), PRESS)
    assert agent(model).run("Press").outcome == "finished"
    assert model.asked[1].mistakes == (("well", "actions: expected at least one, got none"),)


def test_a_model_that_is_busy_is_asked_again_and_one_that_is_gone_is_not(tmp_path):
    busy = EndpointError("503", retry=True)
    model = ScriptedModel(busy, busy, PRESS)
    assert agent(model).run("Press").outcome == "finished"
    assert len(model.asked) == 4
    model = ScriptedModel(then=busy)
    run = agent(model, trace=tmp_path).run("Press")
    assert (run.outcome, run.reason, run.message) == ("failed", "model", "503")
    assert len(model.asked) == 1 + AT_ONCE.model
    model = ScriptedModel(then=EndpointError("401", retry=False))
    assert agent(model).run("Press").message == "401"
    assert len(model.asked) == 1
    trace = traces.read(run.trace)
    assert (trace.ending.reason, trace.steps[0].decision) == ("model", None)


def test_back_off_doubles_up_to_its_limit(monkeypatch):
    waits = []
    monkeypatch.setattr(sessions.Control, "wait", lambda self, seconds: waits.append(seconds))  # noqa: ARG005
    model = ScriptedModel(then=EndpointError("503", retry=True))
    agent(model, retries=Retries(model=6, first_s=1.0, longest_s=10.0)).run("Press")
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_screen_is_looked_at_again():
    screen = FakeScreen(failing(ScreenError("blank"), 3, "look"))
    assert agent(ScriptedModel(PRESS), screen).run("Press").outcome == "finished"


def test_a_dead_screen_ends_the_run(tmp_path):
    run = agent(ScriptedModel(PRESS), FakeScreen(failing(ScreenError("gone"), 99, "look")), trace=tmp_path).run("Press")
    assert (run.outcome, run.reason, run.message, run.steps) == ("failed", "screen", "gone", ())
    assert traces.read(run.trace).ending.message == "gone"


def test_a_screen_that_dies_in_the_midst_of_a_step(tmp_path):
    def die(event):
        if event == PRESS or (screen.looks == 1 and event == "look"):
            raise ScreenError("the browser is gone")

    screen = FakeScreen(die)
    run = agent(ScriptedModel(PRESS), screen, trace=tmp_path).run("Press")
    assert (run.outcome, run.reason) == ("failed", "screen")
    step = traces.read(run.trace).steps[0]
    assert step.attempts[0].verdict == "unknown"
    assert step.attempts[0].note == "the browser is gone"
    assert step.changed is None


def test_only_what_was_certainly_not_done_is_done_again():
    screen = FakeScreen(failing(ScreenError("busy", acted=False), 2, PRESS))
    model = ScriptedModel(PRESS)
    agent(model, screen).run("Press")
    assert screen.done == [PRESS]
    assert remarks(model) == [()]
    screen = FakeScreen(failing(ScreenError("busy", acted=False), 9, PRESS))
    model = ScriptedModel((PRESS, FOCUS))
    run = agent(model, screen).run("Press")
    assert screen.done == []
    assert run.steps[0].attempts[0].verdict == "failed"
    assert "it was not performed (busy)" in remarks(model)[0][0]
    events = []
    failure = failing(ScreenError("too late"), 9, PRESS)
    screen = FakeScreen(lambda event: events.append(event) or failure(event))
    model = ScriptedModel(PRESS)
    agent(model, screen).run("Press")
    assert events.count(PRESS) == 1
    assert "it is not known whether it was performed (too late)" in remarks(model)[0][0]


def test_an_action_that_a_screen_does_not_have_is_told_back():
    screen = FakeScreen(failing(InputError("action: expected one of a browser, got OpenApp"), 9, OpenApp("x")))
    model = ScriptedModel(OpenApp("x"))
    run = agent(model, screen).run("Open x")
    assert remarks(model)[0][0] == "Not performed: action: expected one of a browser, got OpenApp."
    assert run.steps[0].attempts[0].verdict == "failed"


@pytest.mark.parametrize("at", range(1, 12))
def test_a_full_disk_ends_the_run_and_leaves_a_trace(tmp_path, monkeypatch, at):
    """The `at`-th write of a run of three steps fails; so the run goes as far as it can be written down."""
    writes = full_disk(monkeypatch, at)
    screen = FakeScreen()
    runner = agent(ScriptedModel(PRESS, PRESS), screen, trace=tmp_path)
    if at == 1:
        with pytest.raises(TraceError, match="No space left"):
            runner.run("Press")
        return
    run = runner.run("Press")
    trace = traces.read(run.trace)
    assert len(writes) <= 9
    if at <= 8:
        assert (run.outcome, run.reason) == ("failed", "trace")
        assert "No space left on device" in run.message
    assert len(screen.done) - len(trace.steps) <= 1
    if at < 8:
        assert trace.ending.reason == "trace"


def test_an_exception_that_nobody_may_raise_is_written_down_and_passed_on(tmp_path):
    with pytest.raises(ZeroDivisionError):
        agent(ScriptedModel(ZeroDivisionError("oops")), trace=tmp_path).run("Press")
    ending = traces.read(tmp_path / "0001").ending
    assert (ending.outcome, ending.reason, ending.message) == ("failed", "error", "ZeroDivisionError: oops")


# Memory ---------------------------------------------------------------------------------------------------------------


def test_what_was_done_is_remembered_and_recalled(tmp_path):
    first = ScriptedModel(("nothing here", NOWHERE), ("the blue button", PRESS), ("the field", FOCUS, Type("ada")))
    agent(first, memory=Memory(tmp_path)).run("Press the button and write 'ada'")
    assert first.asked[0].memories == ()
    model = ScriptedModel(PRESS)
    run = agent(model, memory=Memory(tmp_path), trace=tmp_path / "t").run("Press the button, then write 'bob'")
    (told,) = model.asked[0].memories
    assert told.splitlines() == [
        "A task like this was done before: \"Press the button and write 'ada'\"",
        "1. the blue button -> click",
        "2. the field -> click; type 'ada'",
    ]
    assert [context.memories for context in model.asked] == [(told,)] * 2
    assert traces.read(run.trace).steps[0].memories == (told,)
    other = ScriptedModel()
    agent(other, memory=Memory(tmp_path)).run("Close the window")
    assert other.asked[0].memories == ()


def test_only_finished_runs_are_remembered(tmp_path):
    agent(ScriptedModel(then=PRESS), memory=Memory(tmp_path)).run("Press", max_steps=2)
    assert len(Memory(tmp_path)) == 0


def test_a_full_disk_does_not_take_the_result_away(tmp_path, monkeypatch):
    memory = Memory(tmp_path)
    monkeypatch.setattr(_files, "put", lambda stream, data: (_ for _ in ()).throw(OSError(28, "No space left")))  # noqa: ARG005
    run = agent(ScriptedModel(PRESS), memory=memory).run("Press")
    assert run.outcome == "finished"
    assert run.message.startswith("the run is finished, but is not remembered: ")


def test_steps_are_timed():
    run = agent(ScriptedModel(PRESS)).run("Press")
    assert set(run.steps[0].seconds) == {"look", "think", "act"}
    assert all(one.at <= other.at for one, other in pairwise(run.steps))
