"""MiniWoB++: what a perfect player reaches in our harness, and how fast that is beside the stock one.

python benchmarks/bench_miniwob.py --oracles      all scripted players, 100 episodes a task
python benchmarks/bench_miniwob.py --oracles --tasks click-link,enter-text --episodes 5      a look; writes nothing
python benchmarks/bench_miniwob.py --speed        against the Gymnasium environments of miniwob; needs chromedriver
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import quartiles, write_result

from visavis.gui.actions import Click, Point
from visavis.gui.bench.miniwob import Episode, OraclePlayer, Worker, run
from visavis.gui.bench.miniwob.oracles import ORACLES
from visavis.gui.screen._browser import find_chromium

# Won by one click.
CLICKS = (
    "click-button",
    "click-color",
    "click-dialog",
    "click-link",
    "click-tab",
    "click-test",
    "click-test-2",
    "identify-shape",
)
NOWHERE = (150, 205)  # where a click does nothing in any of them
FRAMES = 16
EPISODES = 8  # of a task in one round of the stock harness


def oracles(tasks: list[str], episodes: int, workers: int) -> dict[str, Any]:
    """Every task's success, with what went wrong."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        results = run(OraclePlayer(), tasks, episodes=episodes, workers=workers, output=Path(folder) / "played.jsonl")
    for task in results.tasks:
        print(f"{task.task:30} {task.wins:4} of {task.episodes:4}  {task.mean_steps:5.1f} steps", *task.problems[:3])
    return {"seconds": round(time.perf_counter() - start), **results.to_json()}


def speed(rounds: int) -> dict[str, Any]:
    """Episodes of one click, and clicks that change nothing, by ours and by the stock harness in turn.

    Both start the same episodes, as their seeds are the same, and click on the same points.
    """
    points = dict(_targets())
    measured: dict[str, list[tuple[float, float]]] = {"ours": [], "one frame": [], "stock": []}
    with Worker(frames=FRAMES) as many, Worker(frames=1) as single:
        for number in range(rounds):
            task = CLICKS[number % len(CLICKS)]
            episodes = [Episode(task, seed) for seed in range(EPISODES)]
            measured["ours"].append(_ours(many, points))
            measured["one frame"].append(_ours(single, {episode: points[episode] for episode in episodes}))
            with _stock(task) as env:
                measured["stock"].append(_theirs(env, {episode: points[episode] for episode in episodes}))
    report: dict[str, Any] = {"tasks": list(CLICKS), "frames": FRAMES, "rounds": rounds}
    for name, pairs in measured.items():
        episodes_s, clicks_s = np.array(pairs).T
        report[name] = {"episodes_per_s": quartiles(episodes_s, 2), "clicks_per_s": quartiles(clicks_s, 2)}
    return report


def _targets() -> Iterator[tuple[Episode, Point]]:
    """Where the one click goes, as the oracles say."""
    with Worker(frames=len(CLICKS)) as worker:
        for seed in range(EPISODES):
            worker.reset(CLICKS, [seed] * len(CLICKS))
            for task, page in zip(CLICKS, worker.pages(range(len(CLICKS))), strict=True):
                action = ORACLES[task](page)
                assert isinstance(action, Click)
                yield Episode(task, seed), action.point


def _ours(worker: Worker, points: dict[Episode, Point]) -> tuple[float, float]:
    waiting = iter(points)
    worker.step(list(islice(points, worker.frames)))  # the pages are loaded, as theirs is
    start = time.perf_counter()
    while batch := list(islice(waiting, worker.frames)):
        worker.step(batch)
        seen = worker.step([Click(points[episode]) for episode in batch])
        assert all(one.reward == 1 for one in seen), [one.episode for one in seen if one.reward != 1]
    episodes_s = len(points) / (time.perf_counter() - start)
    worker.step([Episode("click-test", seed) for seed in range(worker.frames)])
    start = time.perf_counter()
    for _ in range(EPISODES):
        worker.step([Click(NOWHERE)] * worker.frames)
    return episodes_s, EPISODES * worker.frames / (time.perf_counter() - start)


@contextmanager
def _stock(task: str) -> Iterator[Any]:
    import gymnasium
    import miniwob

    gymnasium.register_envs(miniwob)
    driver = shutil.which("chromedriver")
    if driver is None:
        raise SystemExit("chromedriver is not on PATH: install Debian's chromium-driver")
    os.environ |= {"MINIWOB_CHROME_BINARY": find_chromium(), "MINIWOB_CHROMEDRIVER": driver}
    env = gymnasium.make(f"miniwob/{task}-v1", disable_env_checker=True).unwrapped
    try:
        env.reset(seed=0)
        yield env
    finally:
        env.close()


def _theirs(env: Any, points: dict[Episode, Point]) -> tuple[float, float]:
    from miniwob.action import ActionTypes

    def click(point: Point) -> float:
        action = env.create_action(ActionTypes.CLICK_COORDS, coords=np.array(point, dtype=np.float32))
        return float(env.step(action)[1])

    start = time.perf_counter()
    for episode, point in points.items():
        env.reset(seed=episode.seed)
        assert click(point) > 0, episode
    episodes_s = len(points) / (time.perf_counter() - start)
    env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(EPISODES):
        click(NOWHERE)
    return episodes_s, EPISODES / (time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracles", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--tasks", default="", help="of the oracles, with commas between")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=16)
    options = parser.parse_args()
    packages = ("gymnasium", "miniwob", "selenium", "websockets")
    if options.oracles:
        found = oracles(
            options.tasks.split(",") if options.tasks else sorted(ORACLES), options.episodes, options.workers
        )
        if not options.tasks:
            write_result("miniwob-oracles", found, packages=packages)
    if options.speed:
        write_result("miniwob-speed", speed(options.rounds), packages=packages)
