"""The harness: every frame is as if it were alone, and nothing depends on how fast a player is."""

import random
import threading

import numpy as np
import pytest

from visavis.errors import InputError
from visavis.gui.actions import (
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Hotkey,
    Move,
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)
from visavis.gui.bench.miniwob import EVALUATION_SEEDS, TASKS, TRAINING_SEEDS, Episode, Worker, screen_size
from visavis.gui.bench.miniwob._gestures import Hands
from visavis.gui.bench.miniwob.tasks import html, page_of
from visavis.gui.screen._browser import Browser

pytest.importorskip("miniwob")
pytestmark = pytest.mark.usefixtures("chromium")

# Of every event that tells one task of another: as it is told to the task's own listeners.
LISTEN = """
(inner) => {
  inner.log = [];
  for (const type of ["focus", "blur", "focusin", "focusout", "change", "input", "keydown", "keyup", "click",
                      "dblclick", "mousedown", "mouseup", "mouseover", "mouseout", "mouseenter", "mouseleave",
                      "copy", "paste"])
    inner.document.querySelectorAll("input, button, label").forEach((it) => it.addEventListener(type, (event) =>
      inner.log.push([type, it.id || it.textContent, event.key || event.button || "", it.value])));
}
"""


@pytest.fixture(scope="module")
def worker():
    with Worker(frames=3) as worker:
        yield worker


@pytest.fixture(scope="module")
def alone():
    with Worker(frames=1) as worker:
        yield worker


def same(one, other):
    """Up to the smoothing of edges, which knows where on the page they are."""
    return one.shape == other.shape and np.abs(one.astype(int) - other).mean() < 0.1


def values(worker, frame, tag="input"):
    return [field.value for field in worker.pages([frame])[0].all(tag)]


def in_page(worker, script):
    return worker._connection.evaluate(script, session=worker._session)


def point(worker, frame, **wanted):
    return worker.pages([frame])[0].one(**wanted).point


def test_every_task_has_its_page():
    assert len(set(TASKS)) == 128
    assert all((html() / page_of(task)[1:]).is_file() for task in TASKS)
    registered = (html().parent / "envs" / "miniwob_envs.py", html().parent / "registration.py")
    assert any(file.is_file() for file in registered)


def test_seeds_of_evaluation_are_never_trained_on():
    assert not set(EVALUATION_SEEDS) & set(TRAINING_SEEDS[: 10**6])
    assert EVALUATION_SEEDS.stop <= TRAINING_SEEDS.start


def test_an_episode_is_the_same_wherever_and_whenever(worker, alone):
    tasks = ["click-option", "enter-text", "click-checkboxes"]
    worker.reset(tasks, [7, 8, 9])
    worker.step([Click((20, 80)), Click((60, 70)), Click((12, 60))])
    first = worker.reset(tasks, [3, 4, 5])
    (late,) = worker.reset([tasks[2], tasks[0], tasks[0]], [5, 3, 6])[:1]
    assert late.episode == first[2].episode
    assert late.instruction == first[2].instruction
    assert same(late.pixels, first[2].pixels)
    (lone,) = alone.reset(["click-option"], [3])
    assert lone.instruction == first[0].instruction
    assert same(lone.pixels, first[0].pixels)
    other = worker.reset(["click-option"] * 3, [3, 4, 6])
    assert len({seen.instruction for seen in other}) == 3
    assert not same(other[0].pixels, other[1].pixels)


def test_an_observation_is_what_a_player_may_see(worker):
    seen = worker.reset(["click-dialog", "click-dialog-2", "login-user"], [0, 1, 2])
    for one in seen:
        assert one.pixels.shape == (210, 160, 3)
        assert one.pixels.dtype == np.uint8
        assert tuple(one.pixels[0, 0]) == (255, 255, 0)  # no dialog has scrolled the instruction away
        assert not one.done
        assert one.reward == 0
    assert seen[2].instruction.startswith('Enter the username "')


def test_time_stands_still_while_a_player_thinks(worker):
    def price(frame):
        return worker.pages([frame])[0].one(id="stock-price").content

    worker.reset(["stock-market"] * 3, [1, 1, 1])
    before = price(0)
    worker.step([Wait(0)] * 3)
    assert price(0) == before
    worker.step([Wait(0.1), Wait(0.3), Wait(0.2)])
    worker.step([Wait(0.2), Wait(0), Wait(0.1)])
    assert price(0) == price(1) == price(2) != before


def test_every_episode_begins_at_the_same_time_of_the_same_day(worker):
    dates = "frames.map((frame) => String(new frame.contentWindow.Date()))"
    worker.reset(["click-test"] * 3, [0, 1, 2])
    first = in_page(worker, dates)
    assert "Jan 01 2026" in first[0]
    worker.step([Wait(60), Wait(5), Wait(0)])
    assert len({*in_page(worker, dates), *first}) == 3  # one has not moved
    worker.reset(["click-test"] * 3, [3, 4, 5])
    assert in_page(worker, dates) == first == [first[0]] * 3


def test_the_reward_is_raw_and_the_clock_long(worker):
    worker.reset(["click-test", "click-test-2", "enter-text"], [0, 0, 0])
    worker.step([Wait(60)] * 3)
    worker.step([Wait(60)] * 3)
    right, wrong = (point(worker, 0, id="subbtn"), point(worker, 1, content="TWO"))
    won, lost, still = worker.step([Click(right), Click(wrong), Wait(60)])
    assert (won.done, won.reward) == (True, 1.0)
    assert (lost.done, lost.reward) == (True, -1.0)
    assert (still.done, still.reward) == (False, 0.0)
    # A click where START is begins nothing.
    again = worker.step([Click((80, 105)), Click((80, 105)), None])
    assert again[0] is won
    assert again[1] is lost
    assert again[2] is still


def test_every_frame_has_its_own_focus_and_keys(worker):
    worker.reset(["enter-text", "enter-password", "login-user"], [0, 1, 2])
    fields = [point(worker, 0, tag="input"), point(worker, 1, id="verify"), point(worker, 2, id="username")]
    worker.step([Click(field) for field in fields])
    worker.step([Type("one"), Type("Two 2"), Type("3é你😀")])
    worker.step([None, Type("!"), Type("\t<'\"&>")])
    assert values(worker, 0) == ["one"]
    assert values(worker, 1) == ["", "Two 2!"]
    assert values(worker, 2) == ["3é你😀", "<'\"&>"]
    worker.step([Press("shift"), Hotkey(("ctrl", "a")), Hotkey(("shift", "tab"))])
    worker.step([Hotkey(("home",)), Type("new"), Type("back")])
    worker.step([Release("shift"), None, None])
    worker.step([Type("shifted"), Hotkey(("ctrl", "z")), None])
    assert values(worker, 0) == ["shifted"]  # shift and home had marked all of it
    assert values(worker, 2) == ["back", "<'\"&>"]


def test_a_field_whose_focus_was_missed_can_be_clicked_again(alone):
    alone.reset(["enter-text"], [0])
    entry = point(alone, 0, tag="input")
    alone.step([Click(entry)])
    field = "document.querySelector('iframe').contentDocument.querySelector('#tt')"
    in_page(alone, f"{field}.dispatchEvent(new FocusEvent('focusout', {{bubbles: true}}))")
    assert not alone.pages([0])[0].one("input").focused
    alone.step([Click(entry)])
    assert alone.pages([0])[0].one("input").focused


def test_every_frame_has_its_own_clipboard(worker):
    worker.reset(["login-user"] * 3, [0, 1, 2])
    user, password = point(worker, 0, id="username"), point(worker, 0, id="password")
    for action in Click(user), Type("ada"), Hotkey(("ctrl", "a")), Hotkey(("ctrl", "c")), Click(password):
        worker.step([action, None, None])
    for action in Click(user), Type("bob"), Hotkey(("ctrl", "a")), Hotkey(("ctrl", "x")):
        worker.step([None, action, None])
    worker.step([Hotkey(("ctrl", "v")), Hotkey(("ctrl", "v")), Click(user)])
    worker.step([None, None, Hotkey(("ctrl", "v"))])
    assert [values(worker, frame) for frame in range(3)] == [["ada", "ada"], ["bob", ""], ["", ""]]


def told_alone(browser, address, script):
    """What a task hears of a script in a page of its own, without anything of ours."""
    connection, session = browser.connection, browser.attach()
    connection.call(
        "Emulation.setDeviceMetricsOverride",
        session=session,
        width=500,
        height=320,
        deviceScaleFactor=1,
        mobile=False,
    )
    loaded = threading.Event()
    connection.listen("Page.loadEventFired", lambda *_: loaded.set())
    connection.call("Page.enable", session=session)
    connection.call("Page.navigate", session=session, url=address)
    assert loaded.wait(30)
    start = "core.EPISODE_MAX_TIME = 1e9; Math.seedrandom(0); core.startEpisodeReal(); core.cover_div.onclick = null;"
    connection.evaluate(f"{start} ({LISTEN})(window)", session=session)
    hands = Hands((0, 0))
    connection.call_all([hands.move((300, 300))], session=session)
    for action in script:
        for method, parameters in hands.calls(action):
            connection.call(method, session=session, **parameters)
    return connection.evaluate("log", session=session)


def test_a_task_is_told_what_it_would_be_told_alone(worker):
    tasks = ["login-user", "enter-password", "form-sequence-2"]
    draw = random.Random(0)
    worker.reset(tasks, [0, 0, 0])
    places = [
        [it.point for it in worker.pages([frame])[0].all() if it.point and it.id != "subbtn"] for frame in range(3)
    ]
    scripts = []
    for frame in range(3):
        script = []
        for _ in range(25):
            where = draw.choice(places[frame])
            keys = Hotkey((draw.choice(["left", "end"]),))
            kinds = [Click(where), Click(where, count=2), Move(where), Type("ab"), keys, Drag((where, (50, 190)))]
            script.append(draw.choice(kinds))
        scripts.append(script)
    in_page(worker, f"frames.forEach((frame) => ({LISTEN})(frame.contentWindow))")
    played = [0, 0, 0]
    for moves in zip(*scripts, strict=True):
        played = [count + (not seen.done) for count, seen in zip(played, worker.step(list(moves)), strict=True)]
    together = in_page(worker, "frames.map((frame) => frame.contentWindow.log)")
    for task, script, count, log in zip(tasks, scripts, played, together, strict=True):
        with Browser() as browser:
            alone = told_alone(browser, f"{worker._server.address}{page_of(task)}", script[: count + 1])
        assert len(alone) > 40
        assert log == alone


def test_a_list_pops_up_in_the_pixels(worker):
    worker.reset(["choose-list"] * 3, [0, 1, 2])
    select = worker.pages([0])[0].one("select")
    closed = worker.step([Wait(0)] * 3)
    opened = worker.step([Click(select.point), Click(select.point), None])
    assert not same(closed[0].pixels, opened[0].pixels)
    wanted = worker.pages([0])[0].one(data_list="").children[2]
    shut = worker.step([Click(wanted.point), Hotkey(("escape",)), None])
    page = worker.pages([0])[0]
    assert page.one("select").value == wanted.content
    assert not page.all(data_list="")
    assert same(shut[1].pixels, closed[1].pixels) or not worker.pages([1])[0].all(data_list="")
    # By keyboard too: what is typed chooses.
    third = worker.pages([1])[0].all("option")[2].content
    worker.step([None, Type(third), None])
    assert worker.pages([1])[0].one("select").value == third


def test_a_wheel_scrolls_what_is_under_it_and_nothing_else(worker):
    worker.reset(["scroll-text", "click-scroll-list", "click-test"], [3, 0, 0])
    area = point(worker, 0, tag="textarea")
    seen = worker.step([Scroll(area, down=2), Scroll((80, 20), down=3), Scroll((80, 20), down=3)])
    assert worker.pages([0])[0].one("textarea").scroll[0] > 0
    assert tuple(seen[1].pixels[0, 0]) == tuple(seen[2].pixels[0, 0]) == (255, 255, 0)


def test_turns_of_the_wheel_in_one_step_are_not_added_up():
    with Worker(frames=8) as worker:
        worker.reset(["social-media-all"] * 8, range(8))
        worker.step([Scroll((80, 127), down=1)] * 8)
        assert [page.one(id="area").scroll[0] for page in worker.pages(range(8))] == [100] * 8


def test_a_page_that_is_left_is_lost_and_comes_back(worker):
    worker.reset(["click-link"] * 3, [0, 1, 2])
    in_page(worker, "frames[1].contentWindow.location.href = '/core/core.css'")
    in_page(worker, "new Promise((go) => { const look = () => grid.here(1) ? setTimeout(look, 5) : go(1); look() })")
    left = worker.step([Wait(0)] * 3)[1]
    assert (left.done, left.reward) == (True, -1.0)
    back = worker.step([None, Episode("click-link", 1), None])[1]
    assert not back.done
    assert back.instruction.startswith("Click on the link")


def test_shortcuts_of_the_browser_and_new_windows_are_refused(worker):
    worker.reset(["click-tab-2", "enter-text", "click-test"], [0, 0, 0])
    link = point(worker, 0, tag="a")
    worker.step([Click(link, "middle"), Hotkey(("ctrl", "w")), Hotkey(("f5",))])
    worker.step([Click(link, "right"), Hotkey(("ctrl", "t")), Hotkey(("alt", "left"))])
    seen = worker.step([Wait(0)] * 3)
    assert [one.done for one in seen] == [False] * 3
    pages = worker._connection.call("Target.getTargets")["targetInfos"]
    assert sum(page["type"] == "page" for page in pages) == 1


def test_giving_up_ends_an_episode_and_other_actions_do_nothing(worker):
    worker.reset(["click-test"] * 3, [0, 1, 2])
    seen = worker.step([Finished("done"), CallUser("help"), Back()])
    assert [(one.done, one.reward) for one in seen] == [(True, 0.0), (True, 0.0), (False, 0.0)]


def test_flights_have_larger_screens():
    assert screen_size("flight.AA") == (375, 667)
    with Worker(frames=1, size=(375, 667)) as worker:
        (seen,) = worker.reset(["flight.AA"], [0])
        assert seen.pixels.shape == (667, 375, 3)
        where = point(worker, 0, id="segments0.origin")
        worker.step([Click(where)])
        worker.step([Hotkey(("ctrl", "a"))])
        worker.step([Type("SFO")])
        assert worker.pages([0])[0].one(id="segments0.origin").value == "SFO"


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ([None], "moves: expected 3, one a frame, got 1"),
        ([Episode("click-test", 0), Episode("flight.AA", 0), None], "got flight.AA, which has one of"),
        ([Click((160, 0)), None, None], "point"),
        ([Episode("click-nothing", 0), None, None], "task: expected one of the 128 .* got 'click-nothing'"),
    ],
)
def test_moves_that_are_refused(worker, moves, message):
    worker.reset(["click-test"] * 3, [0, 1, 2])
    with pytest.raises(InputError, match=message):
        worker.step(moves)


def test_workers_that_are_refused():
    with pytest.raises(InputError, match="frames: expected at least 1, got 0"):
        Worker(frames=0)
    with pytest.raises(InputError, match="size: expected one of"):
        Worker(size=(100, 100))
    with (
        Worker(frames=1) as worker,
        pytest.raises(InputError, match="moves: expected an episode in every frame first"),
    ):
        worker.step([Click((1, 1))])
    worker.close()  # once more than the context manager
