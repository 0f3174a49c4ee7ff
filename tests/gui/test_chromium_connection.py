"""A real Chromium, started, called and killed."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visavis.errors import InputError, ScreenError
from visavis.gui.screen import _browser
from visavis.gui.screen._browser import Browser, find_chromium
from visavis.gui.screen._cdp import Connection

PAGE = "data:text/html,<body style='background:rgb(10,200,30)'>"


def members(group):
    """The processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def ends(group):
    """Whether all of a group end within a while: what is killed needs a moment to be gone."""
    until = time.monotonic() + 20
    while members(group):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="module")
def browser(chromium):  # noqa: ARG001 - skips without one
    with Browser() as running:
        yield running


def test_answers_to_pipelined_calls_come_in_the_order_of_the_calls(browser):
    session = browser.attach()
    calls = [("Runtime.evaluate", {"expression": f"{n} * {n}"}) for n in range(200)]
    answers = browser.connection.call_all(calls, session=session)
    assert [answer["result"]["value"] for answer in answers] == [n * n for n in range(200)]


def test_a_screenshot_is_a_png_of_the_page(browser):
    session = browser.attach()
    loaded = threading.Event()
    browser.connection.listen("Page.loadEventFired", lambda *_: loaded.set())
    browser.connection.call("Page.enable", session=session)
    browser.connection.call("Page.navigate", session=session, url=PAGE)
    assert loaded.wait(20)
    shot = browser.connection.screenshot(session=session)
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    assert (pixels == [10, 200, 30]).all()


def test_an_event_reaches_its_listener_with_its_session(browser):
    session = browser.attach()
    heard = []
    browser.connection.listen("Runtime.consoleAPICalled", lambda *event: heard.append(event))
    browser.connection.call("Runtime.enable", session=session)
    browser.connection.evaluate("console.log('it')", session=session)
    browser.connection.evaluate("1", session=session)
    assert [(where, event["args"][0]["value"]) for where, event in heard] == [(session, "it")]


def test_what_fails_says_why(browser):
    session = browser.attach()
    with pytest.raises(ScreenError, match=r"expected to do No\.such, got .*wasn't found"):
        browser.connection.call("No.such")
    with pytest.raises(ScreenError, match=r"script: expected a value, got Error: oh"):
        browser.connection.evaluate("throw new Error('oh')", session=session)
    with pytest.raises(ScreenError, match=r"answer to Runtime\.evaluate within 0\.1 s, got none"):
        browser.connection.evaluate("new Promise(() => {})", session=session, timeout_s=0.1)
    assert browser.connection.evaluate("1 + 1", session=session) == 2


@pytest.mark.usefixtures("chromium")
def test_a_killed_browser_ends_calls_at_once_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Browser() as running:
        pid, session = running.pid, running.attach()
        waiting = running.connection.send("Runtime.evaluate", session=session, expression="for (;;);")
        os.killpg(pid, signal.SIGKILL)
        with pytest.raises(ScreenError, match=r"got none; it was closed, killed or has crashed"):
            waiting.result(20)
        with pytest.raises(ScreenError, match=r"it was closed, killed or has crashed"):
            running.connection.call("Browser.getVersion")
    assert ends(pid)
    assert not list(tmp_path.glob("visavis-chromium-*"))


@pytest.mark.usefixtures("chromium")
@pytest.mark.parametrize("end", ["browser.close()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_nothing_is_left_even_when_python_is_killed(end):
    script = f"""if True:
        import os, signal
        from visavis.gui.screen._browser import Browser
        browser = Browser()
        print(browser.pid, flush=True)
        {end}"""
    with tempfile.TemporaryDirectory() as place:  # of a short name, as the path of a socket has to be
        environment = {**os.environ, "TMPDIR": place}
        over = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=False)
        assert over.returncode in (0, -signal.SIGKILL)
        assert ends(int(over.stdout))
        until = time.monotonic() + 20
        while list(Path(place).iterdir()):
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.usefixtures("chromium")
def test_a_profile_that_was_given_stays(tmp_path):
    with Browser(profile=tmp_path / "mine") as running:
        pid = running.pid
    running.close()
    assert ends(pid)
    assert (tmp_path / "mine").is_dir()


def test_a_browser_that_cannot_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_browser, "_NAMES", ("no-such-browser",))
    with pytest.raises(ScreenError, match=r"chromium: expected it on PATH, found none"):
        find_chromium()
    monkeypatch.setattr(_browser, "_NAMES", ("false",))
    with pytest.raises(ScreenError, match=r"expected it to start, it ended with 1"):
        Browser()
    assert not list(tmp_path.iterdir())


def test_nobody_there():
    with pytest.raises(ScreenError, match=r"browser: expected an answer at ws://127\.0\.0\.1:9/"):
        Connection("ws://127.0.0.1:9/")
    with pytest.raises(InputError, match=r"answer_s: expected seconds above 0, got 0"):
        Connection("ws://127.0.0.1:9/", answer_s=0)
