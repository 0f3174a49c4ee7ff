"""Runs of an agent whose model is behind a real endpoint, one that fails above all."""

import gc
import json
import sys
import threading
import warnings

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.gui.endpoint import Endpoint, half, raw, refused, silent, streamed, whole
from tests.gui.fake_screen import BUTTON, FakeScreen
from tests.gui.test_agent import AT_ONCE, agent, in_thread, until
from tests.gui.test_remote import asked, parts, screenshot
from visavis.errors import EndpointError
from visavis.gui import trace as traces
from visavis.gui.actions import MOBILE, Click
from visavis.gui.agent import Agent, Retries
from visavis.gui.agent import _session as sessions
from visavis.gui.model import Context
from visavis.gui.safety import Policy, Secret

KEY = "sk-0123456789abcdef"


def says(action, thought="I do it."):
    return streamed(f"Thought: {thought}\nAction: {action}")


PRESS = says(f"click(point='<point>{BUTTON[0] * 10} {BUTTON[1] * 15}</point>')")  # in thousandths of 96 x 64
DONE = says("finished(content='42')")


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch):
    monkeypatch.setattr(sessions, "LOOK_AGAIN_S", float("inf"))


def run(*behaviours, screen=None, model=None, instruction="Press it", limits=None, **options):
    """A run, and the endpoint that it asked."""
    with Endpoint(*behaviours) as endpoint:
        remote = asked(endpoint.url, dialect=MOBILE, api_key=KEY, **(model or {}))
        return agent(remote, screen, **options).run(instruction, **(limits or {})), endpoint


def pictures(endpoint):
    return [[part for _, part in parts(chat) if not isinstance(part, str)] for chat in endpoint.chats()]


def texts(chat):
    return "\n".join(part for _, part in parts(chat) if isinstance(part, str))


def test_a_task_is_done(tmp_path):
    screen = FakeScreen()
    found, endpoint = run(PRESS, DONE, screen=screen, trace=tmp_path)
    assert (found.outcome, found.answer) == ("finished", "42")
    assert screen.clicks == 1
    assert [(step.decision.prompt_tokens, step.decision.completion_tokens) for step in found.steps] == [(11, 5)] * 2
    assert traces.read(found.trace).steps == found.steps
    assert [len(sent) for sent in pictures(endpoint)] == [1, 2]


@pytest.mark.parametrize("fault", [refused(503, "loading"), half("Thought: I"), raw(b"<html>"), raw(b"data: {\n\n")])
def test_an_endpoint_that_fails_twice_and_then_answers(fault, tmp_path):
    screen = FakeScreen()
    found, endpoint = run(PRESS, fault, fault, PRESS, DONE, screen=screen, trace=tmp_path)
    assert (found.outcome, len(found.steps), screen.clicks) == ("finished", 3, 2)
    assert len(endpoint.requests) == 5
    assert endpoint.requests[1].body == endpoint.requests[2].body == endpoint.requests[3].body
    assert traces.read(found.trace).steps == found.steps


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refused(500, "out of memory"), "expected a reply, got 500: out of memory"),
        (half("Thought: I"), "expected a whole reply, got 10 characters, and then the end"),
    ],
)
def test_an_endpoint_that_fails_for_ever(fault, said, tmp_path):
    screen = FakeScreen()
    found, endpoint = run(PRESS, fault, screen=screen, trace=tmp_path)
    assert (found.outcome, found.reason, found.message) == ("failed", "model", f"{endpoint.url}: {said}")
    assert len(endpoint.requests) == 1 + 1 + AT_ONCE.model
    assert screen.clicks == 1
    trace = traces.read(found.trace)
    assert (trace.ending.outcome, trace.ending.reason, trace.ending.message) == ("failed", "model", found.message)
    assert [step.decision is None for step in trace.steps] == [False, True]
    np.testing.assert_array_equal(trace.screenshot(trace.steps[1]).pixels, screen.screenshot().pixels)
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_run_goes_on_when_the_endpoint_is_back(tmp_path):
    found, _ = run(PRESS, refused(401, "Who are you?"), trace=tmp_path)
    assert found.reason == "model"
    with Endpoint(DONE) as endpoint:
        again = agent(asked(endpoint.url, dialect=MOBILE)).continue_run(found.trace)
        assert again.outcome == "finished"
    earlier, present = pictures(endpoint)[0]
    trace = traces.read(found.trace)
    for step, sent in ((trace.steps[0], earlier), (trace.steps[2], present)):
        shown = Image.fromarray(trace.screenshot(step).pixels).resize((364, 252), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(sent, np.array(shown))


def test_what_does_not_pass_is_not_asked_again():
    found, endpoint = run(PRESS, refused(401, "Who are you?"))
    assert (found.outcome, found.reason) == ("failed", "model")
    assert len(endpoint.requests) == 2


def test_a_reply_that_does_not_parse_is_told_back():
    found, endpoint = run(PRESS, says("clack()"), PRESS, DONE)
    assert found.outcome == "finished"
    *_, before, again, _ = map(texts, endpoint.chats())
    assert again.startswith(before)
    assert "Action: clack()" in again
    assert "This reply was not understood: line 2" in again
    assert "clack" not in texts(endpoint.chats()[3])  # it is of that step alone


def test_a_server_is_left_alone_for_as_long_as_it_asks(monkeypatch):
    waits = []
    monkeypatch.setattr(sessions.Control, "wait", lambda self, seconds: waits.append(seconds))  # noqa: ARG005
    slow = (refused(429, "Slow down", retry_after=said) for said in ("3", "0", "9999"))
    retries = Retries(model=4, first_s=1.0, longest_s=10.0)
    found, _ = run(*slow, refused(503, "loading"), DONE, retries=retries)
    assert found.outcome == "finished"
    assert waits == [3, 2, 10, 8]


def test_stop_ends_a_request_at_once_and_time_does():
    with Endpoint(silent) as endpoint:
        runner = Agent(asked(endpoint.url, dialect=MOBILE), FakeScreen())
        thread, results = in_thread(lambda: runner.run("Wait"))
        until(lambda: endpoint.requests)
        runner.stop()
        thread.join(30)
        assert (results[0].outcome, results[0].reason) == ("stopped", "user")
        found = runner.run("Wait", max_seconds=0.2)
        assert (found.outcome, found.reason) == ("failed", "time")


@pytest.mark.parametrize("behave", [lambda exchange: None, half("Thought: I ")])  # noqa: ARG005
def test_a_request_that_nobody_waits_for_is_given_up(behave):
    """So that a server with one place to think is free for the next run."""
    left = threading.Event()

    def hang(exchange):
        behave(exchange)
        exchange.hang()
        left.set()

    with Endpoint(hang) as endpoint:
        runner = agent(asked(endpoint.url, dialect=MOBILE))
        thread, results = in_thread(lambda: runner.run("Wait"))
        until(lambda: endpoint.requests)
        runner.stop()
        thread.join(30)
        assert results[0].reason == "user"
        assert left.wait(30)


def test_tokens_run_out():
    found, _ = run(PRESS, limits={"max_tokens": 30})
    assert (found.reason, len(found.steps)) == ("tokens", 2)


def test_a_server_of_one_image():
    few = refused(400, "At most 1 image(s) may be provided in one request.")
    found, endpoint = run(PRESS, few, PRESS, PRESS, DONE)
    assert found.outcome == "finished"
    assert [len(sent) for sent in pictures(endpoint)] == [1, 2, 1, 1, 1]


def test_old_texts_and_pictures_give_way():
    long = says(f"click(point='<point>{BUTTON[0] * 10} {BUTTON[1] * 15}</point>')", "word " * 200)  # of 260 tokens
    found, endpoint = run(long, long, long, long, DONE, images=2, history_tokens=600)
    assert found.outcome == "finished"
    assert [len(sent) for sent in pictures(endpoint)] == [1, 2, 2, 2, 2]
    assert [texts(chat).count("word word") // 100 for chat in endpoint.chats()] == [0, 1, 2, 2, 2]


def test_a_secret_does_not_leave(tmp_path):
    screen = FakeScreen(url="https://example.org/")
    policy = Policy(secrets={"pin": Secret("hunter2", ("https://example.org",))}, masks=((0, 0, 96, 8),))
    focus = says("click(point='<point>625 625</point>')")
    enter = says("type(content='{{secret:pin}}')", "it is hunter2")
    found, endpoint = run(focus, enter, DONE, screen=screen, policy=policy, trace=tmp_path, instruction="Use hunter2")
    assert (found.outcome, screen.text) == ("finished", "hunter2")
    sent = b"".join(request.body for request in endpoint.requests)
    assert b"hunter2" not in sent
    assert "{{secret:pin}}" in texts(endpoint.chats()[-1])
    assert all((sent[:20] == 0).all() for found in pictures(endpoint) for sent in found)  # resized four times


def test_nothing_is_left_open(monkeypatch):
    """Neither of requests that failed nor of those that were answered: no file, no socket, no task, no warning."""
    unraisable = []
    faults = (silent, half("Thought: I"), raw(b"data: {\n\n"), refused(500, "no"), lambda exchange: exchange.reset())
    with Endpoint(*faults, whole("Action: press_home()"), PRESS) as endpoint, warnings.catch_warnings():
        warnings.simplefilter("error")
        context = Context("Press", screenshot())
        monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
        with pytest.raises(EndpointError):
            asked(endpoint.url, dialect=MOBILE, first_token_s=0.3).decide(context)
        model = asked(endpoint.url, dialect=MOBILE)
        for _ in faults[1:]:
            with pytest.raises(EndpointError):
                model.decide(context)
        gc.collect()
        assert model.decide(context).actions
        assert isinstance(model.decide(context).actions[0], Click)
        gc.collect()
        port = int(endpoint.url.rsplit(":", 1)[1].removesuffix("/v1"))
        mine = [each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port]
        assert mine == []
    assert unraisable == []
    assert json.loads(endpoint.requests[0].body)["stream"]
