"""Players, runs that go on where they were cut off, results and their page."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import pytest
from scipy.stats import binomtest

from visavis.errors import EndpointError, InputError, ReplyError, ScreenError
from visavis.gui.actions import CallUser, Click, Finished, Type, Wait
from visavis.gui.bench.miniwob import (
    TASKS,
    Episode,
    ModelPlayer,
    OraclePlayer,
    Played,
    Results,
    Worker,
    play,
    run,
    screen_size,
)
from visavis.gui.bench.miniwob.oracles import ORACLES
from visavis.gui.model import Decision

pytest.importorskip("miniwob")
pytestmark = pytest.mark.usefixtures("chromium")


class Clicker:
    """Clicks on the middle of what is grey, as the one button of click-test is."""

    name = "clicker"

    def __init__(self):
        self.batches = []
        self.contexts = []

    def __call__(self, contexts):
        self.batches.append(len(contexts))
        self.contexts += contexts
        return [Decision("", "there", (self.find(context.screenshot.pixels),)) for context in contexts]

    def find(self, pixels):
        rows, columns = ((pixels == 239).all(2)).nonzero()
        return Click((int(columns.mean()), int(rows.mean()))) if len(rows) else Wait(0)


class Script:
    """A model that does what a function says."""

    name = "script"

    def __init__(self, decide):
        self.decide = decide


def always(*actions):
    return lambda contexts: [Decision("", "", actions) for _ in contexts]


def test_a_player_that_sees_only_pixels_wins():
    clicker = Clicker()
    played = list(play(clicker, [Episode("click-test", seed) for seed in range(10)], frames=4))
    assert sorted(one.seed for one in played) == list(range(10))
    assert all((one.reward, one.steps, one.problem) == (1.0, 1, "") for one in played)
    assert max(clicker.batches) == 4  # all frames are decided at once
    assert all(context.instruction == "Click the button." for context in clicker.contexts)


def test_a_player_is_told_what_came_before():
    seen = []

    def player(contexts):
        seen.extend(contexts)
        step = len(contexts[0].turns)
        return [Decision(f"step {step}", f"thought {step}", (Wait(0), Type("a"))[: 1 + (step == 2)])]

    (played,) = play(player, [Episode("enter-text", 0)], steps=10)
    assert (played.reward, played.steps, played.problem) == (0.0, 10, "not done after 10 steps")
    assert [len(context.turns) for context in seen] == list(range(9))  # one decision was of two actions
    last = seen[-1].turns
    assert [turn.decision.thought for turn in last] == [f"thought {step}" for step in range(8)]
    assert [turn.screenshot is not None for turn in last] == [False] * 3 + [True] * 5


def test_a_decision_of_several_actions_ends_with_the_episode():
    with Worker(frames=1) as worker:
        worker.reset(["click-test"], [0])
        button = worker.pages([0])[0].one("button").point
    actions = (Wait(0.1), Click(button), Click(button), Click(button))
    (played,) = play(always(*actions), [Episode("click-test", 0)])
    assert (played.reward, played.steps) == (1.0, 2)


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (Finished("done"), ""),
        (CallUser("Where is it?"), "Where is it?"),
        (Click((160, 0)), "point"),
    ],
)
def test_what_gives_an_episode_up(action, problem):
    (played,) = play(always(action), [Episode("click-test", 0)])
    assert played.reward == 0
    assert problem in played.problem


def test_a_model_is_told_what_was_wrong_with_its_reply():
    told = []

    def decide(context):
        told.append(context.mistakes)
        if len(context.mistakes) < 2:
            raise ReplyError(f"action: expected one, got {len(told)}", f"reply {len(told)}")
        return Decision("", "", (Finished(),))

    (played,) = play(ModelPlayer(Script(decide)), [Episode("click-test", 0)])
    assert played.problem == ""
    assert told[2] == (("reply 1", "action: expected one, got 1"), ("reply 2", "action: expected one, got 2"))

    def babble(context):
        raise ReplyError("action: expected one, got none", context.instruction)

    (played,) = play(ModelPlayer(Script(babble)), [Episode("click-test", 0)])
    assert (played.reward, played.problem) == (0.0, "action: expected one, got none")


def test_an_endpoint_is_asked_again_and_its_end_is_told(monkeypatch):
    calls, naps = [], []
    monkeypatch.setattr(time, "sleep", naps.append)

    def decide(context):
        calls.append(context)
        raise EndpointError("endpoint: expected an answer, got 500", retry=len(calls) < 3)

    player = ModelPlayer(Script(decide))
    with pytest.raises(EndpointError, match="got 500"):
        player([None])
    assert len(calls) == 3
    assert naps == [1, 2]


def test_a_run_goes_on_where_it_was_cut_off(tmp_path):
    file = tmp_path / "played.jsonl"
    seen = []
    whole = run(
        OraclePlayer(), ["click-test", "enter-text"], episodes=4, output=file, progress=lambda *n: seen.append(n)
    )
    assert seen == [(number, 8) for number in range(1, 9)]
    assert whole.success == 1
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:4]) + "\n" + lines[4][: len(lines[4]) // 2])
    again = []
    resumed = run(
        OraclePlayer(), ["click-test", "enter-text"], episodes=4, output=file, progress=lambda *n: again.append(n)
    )
    assert resumed == whole
    assert again == [(number, 8) for number in range(4, 9)]
    assert run(OraclePlayer(), ["enter-text"], episodes=4, output=file) == Results.of(
        "oracles",
        50,
        [Played(**json.loads(line)) for line in file.read_text().splitlines()[1:] if "enter-text" in line],
    )
    with pytest.raises(InputError, match="expected episodes of .*'steps': 9.* got those of .*'steps': 50"):
        run(OraclePlayer(), ["click-test"], episodes=1, steps=9, output=file)
    file.write_text("no JSON\n")
    with pytest.raises(InputError, match=r"played.jsonl: expected lines of an earlier run"):
        run(OraclePlayer(), ["click-test"], episodes=1, output=file)


def test_the_browser_ends_and_what_was_played_is_kept(tmp_path):
    file = tmp_path / "played.jsonl"

    def end(done, _):
        if done == 2:
            groups = subprocess.run(["pgrep", "-P", str(os.getpid()), "chrom"], capture_output=True, text=True).stdout
            for group in groups.split():
                os.killpg(int(group), signal.SIGKILL)

    with pytest.raises(ScreenError, match="browser"):
        run(OraclePlayer(), ["click-test"], episodes=6, frames=2, output=file, progress=end)
    assert len(file.read_text().splitlines()) >= 3
    assert run(OraclePlayer(), ["click-test"], episodes=6, frames=2, output=file).success == 1


def test_several_processes_play_the_same(tmp_path):
    tasks = ["click-test", "click-dialog", "focus-text"]
    one = run(OraclePlayer(), tasks, episodes=2)
    two = run(OraclePlayer(), tasks, episodes=2, workers=2, output=tmp_path / "played.jsonl")
    assert one == two
    assert pickle.loads(pickle.dumps(OraclePlayer())).name == "oracles"


@pytest.mark.slow
def test_ray_plays_the_same():
    pytest.importorskip("ray")
    script = (
        "from visavis.gui.bench.miniwob import OraclePlayer, run\n"
        "print(run(OraclePlayer(), ['click-test', 'enter-text'], episodes=2, workers=2, ray=True).success)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split()[-1:] == ["1.0"], done.stderr


def test_results_are_counted_right():
    played = [Played("click-test", seed, 1.0, 1) for seed in range(7)] + [Played("click-test", 7, -1.0, 3)]
    played += [Played("bisect-angle", seed, reward, 2, "late") for seed, reward in enumerate((0.25, 0.0))]
    results = Results.of("anyone", 50, played)
    first, second = results.tasks
    assert (first.task, first.episodes, first.wins, first.success, first.mean_steps) == (
        "click-test",
        8,
        7,
        0.875,
        1.25,
    )
    assert first.mean_reward == 0.75
    assert (second.wins, second.problems) == (1, ("late",))  # a part of the reward is a win, none is not
    assert results.success == (0.875 + 0.5) / 2
    interval = binomtest(7, 8).proportion_ci(0.95, method="wilson")
    assert (first.low, first.high) == pytest.approx((interval.low, interval.high))
    assert json.loads(json.dumps(results.to_json()))["tasks"][0]["wins"] == 7


def test_the_page_of_a_run(tmp_path):
    from visavis.app.bench_page import write_bench_page

    played = [Played("click-test", 0, 1.0, 1), Played("click-link", 0, -1.0, 1, "<b>bold\x1b</b>")]
    page = tmp_path / "bench.html"
    write_bench_page(Results.of("<script>alert(1)</script>", 50, played), page)
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;b&gt;bold\\x1b&lt;/b&gt;" in text
    assert text.index("click-link") < text.index("click-test")  # the worst first
    assert "50.0 %" in text
    assert not re.search(r"(src|href)=", text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": []}, "tasks: expected at least one"),
        ({"tasks": ["click-test", "click-test"]}, "none twice"),
        ({"tasks": ["click-nothing"]}, "task: expected one of the 128"),
        ({"episodes": 0}, "episodes: expected 1 to 10000"),
        ({"episodes": 3, "seeds": [1, 2]}, "episodes: expected 1 to 2, as many as there are seeds, got 3"),
        ({"workers": 0}, "workers: expected at least 1, got 0"),
    ],
)
def test_runs_that_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        run(OraclePlayer(), **{"tasks": ["click-test"], **wrong})


def test_an_oracle_that_meets_another_page_says_so():
    class Lost(OraclePlayer):
        def act(self, page):
            return ORACLES["click-link"](page)

    (played,) = play(Lost(), [Episode("click-test", 0)])
    assert played.problem.startswith("InputError: instruction: expected something in double quotes")


def test_an_oracle_goes_on_from_where_another_player_has_come_to():
    with Worker(frames=1) as worker:
        (seen,) = worker.reset(["login-user"], [0])
        field = worker.pages([0])[0].one(id="password").point
        for action in Click(field), Type("wrong"):
            (seen,) = worker.step([action])
        while not seen.done:
            (seen,) = worker.step([ORACLES["login-user"](worker.pages([0])[0])])
        assert seen.reward == 1


def test_oracles_are_of_tasks_that_exist():
    assert set(ORACLES) <= set(TASKS)
    assert len(ORACLES) >= 20


@pytest.mark.parametrize("task", ["click-dialog-2", "enter-text-dynamic", "choose-list"])
def test_oracles_win(task):
    assert run(OraclePlayer(), [task], episodes=8, frames=8).tasks[0].wins == 8


@pytest.mark.slow
def test_every_oracle_wins():
    tasks = sorted(set(ORACLES) - {"tic-tac-toe"})  # that is won as often as it can be: see test_miniwob_oracles.py
    results = run(OraclePlayer(), tasks, episodes=10)
    assert [(task.task, task.wins, task.problems) for task in results.tasks if task.wins < 10] == []
    assert {screen_size(task.task) for task in results.tasks} <= {(160, 210), (375, 667)}
