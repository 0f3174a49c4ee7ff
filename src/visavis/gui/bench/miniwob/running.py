"""A whole run: all tasks, in several processes or on several machines, and what comes of it."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visavis.errors import InputError, MissingExtraError
from visavis.gui._files import cut, whole_lines
from visavis.gui.bench.miniwob.playing import OraclePlayer, Played, Player, play
from visavis.gui.bench.miniwob.tasks import EVALUATION_SEEDS, TASKS, Episode, screen_size

__all__ = ["Results", "TaskResult", "run"]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How often a task was won: its raw reward was above 0. The ends are of Wilson's 95 % interval."""

    task: str
    episodes: int
    wins: int
    success: float
    low: float
    high: float
    mean_reward: float
    mean_steps: float
    problems: tuple[str, ...] = ()  # of episodes that were given up, without repetition


@dataclass(frozen=True, slots=True)
class Results:
    """A run's results; `success` is the mean over tasks, and its interval that of all episodes together."""

    player: str
    steps: int
    success: float
    low: float
    high: float
    tasks: tuple[TaskResult, ...]

    @classmethod
    def of(cls, player: str, steps: int, played: Sequence[Played]) -> "Results":
        """From all episodes of a run."""
        from visavis.blocks.approximation.intervals import wilson

        tasks = []
        for task in dict.fromkeys(one.task for one in played):
            group = [one for one in played if one.task == task]
            wins, count = sum(one.reward > 0 for one in group), len(group)
            tasks.append(
                TaskResult(
                    task,
                    count,
                    wins,
                    wins / count,
                    *wilson(wins / count, count),
                    math.fsum(one.reward for one in group) / count,
                    sum(one.steps for one in group) / count,
                    tuple(dict.fromkeys(one.problem for one in group if one.problem)),
                )
            )
        success = math.fsum(one.success for one in tasks) / len(tasks)
        return cls(player, steps, success, *wilson(success, len(played)), tuple(tasks))

    def to_json(self) -> dict[str, Any]:
        """For a file; numbers are shares from 0 to 1."""
        return asdict(self)


def run(
    player: Player | OraclePlayer,
    tasks: Sequence[str] = TASKS,
    *,
    episodes: int = 100,
    seeds: Sequence[int] = EVALUATION_SEEDS,
    name: str | None = None,
    frames: int = 16,
    steps: int = 50,
    workers: int = 1,
    ray: bool = False,
    output: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Play the first `episodes` seeds of every task.

    Args:
        player: see `play`; with several workers each gets a copy, so that it must be one that can be pickled.
        tasks: names out of `TASKS`.
        episodes: of each task.
        seeds: those of evaluation unless a model is judged while it is trained.
        name: of the player; its own `name` by default.
        frames: tasks played at a time by each worker, in a browser of its own.
        steps: actions after which an episode is given up.
        workers: processes.
        ray: let the machines of a Ray cluster play instead; `workers` is how many tasks are under way at a time.
        output: a file of JSON lines, one an episode. What is in it already is not played again.
        progress: called with how many episodes are done, and of how many.

    Raises:
        InputError: no such task, too few seeds, or `output` is of another run.
        MissingExtraError: MiniWoB++ or Ray is not installed.
        ScreenError: no browser, or it is gone. What was played before is in `output`.
    """
    name = name or getattr(player, "name", None) or type(player).__name__
    if not tasks or len(set(tasks)) != len(tasks):
        raise InputError(f"tasks: expected at least one, and none twice, got {list(tasks)}")
    if not 1 <= episodes <= len(seeds):
        raise InputError(f"episodes: expected 1 to {len(seeds)}, as many as there are seeds, got {episodes}")
    if workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    for task in tasks:
        screen_size(task)
    wanted = [Episode(task, seed) for task in tasks for seed in seeds[:episodes]]
    path = Path(output) if output is not None else None
    head = {"player": name, "steps": steps}
    played = {Episode(one.task, one.seed): one for one in (_kept(path, head) if path else [])}
    left = [episode for episode in wanted if episode not in played]
    if path and not path.exists():
        path.write_text(json.dumps(head) + "\n", encoding="utf-8")
    for one in _play_all(player, left, frames=frames, steps=steps, workers=workers, ray=ray):
        played[Episode(one.task, one.seed)] = one
        if path:
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(one)) + "\n")
        if progress:
            progress(sum(episode in played for episode in wanted), len(wanted))
    return Results.of(name, steps, [played[episode] for episode in wanted])


def _kept(path: Path, head: dict[str, Any]) -> list[Played]:
    """What a run before this one has left, a line cut off by a kill excepted."""
    if not path.exists():
        return []
    try:
        first, *lines = map(json.loads, whole_lines(path))
        played = [Played(**line) for line in lines]
    except (ValueError, TypeError):
        raise InputError(f"{path}: expected lines of an earlier run; name another file") from None
    if first != head:
        raise InputError(f"{path}: expected episodes of {head}, got those of {first}; name another file")
    cut(path)
    return played


def _play_all(
    player: Player | OraclePlayer, episodes: list[Episode], *, frames: int, steps: int, workers: int, ray: bool
) -> Iterator[Played]:
    if not ray and workers == 1:
        yield from play(player, episodes, frames=frames, steps=steps)
        return
    jobs: dict[str, list[Episode]] = {}
    for episode in episodes:
        jobs.setdefault(episode.task, []).append(episode)
    run_jobs = _by_ray if ray else _by_processes
    yield from run_jobs([(player, job, frames, steps) for job in jobs.values()], workers)


Job = tuple[Player | OraclePlayer, list[Episode], int, int]


def _job(player: Player | OraclePlayer, episodes: list[Episode], frames: int, steps: int) -> list[Played]:
    return list(play(player, episodes, frames=frames, steps=steps))


def _by_processes(jobs: list[Job], workers: int) -> Iterator[Played]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    # Forked, a process would share this one's locks and threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_job, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield from future.result()
        finally:
            for future in futures:
                future.cancel()


def _by_ray(jobs: list[Job], workers: int) -> Iterator[Played]:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("Ray is not installed: pip install visavis[ray]") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    remote = ray.remote(max_retries=1)(_job)
    waiting = list(reversed(jobs))
    under_way = [remote.remote(*waiting.pop()) for _ in range(min(workers, len(waiting)))]
    try:
        while under_way:
            (done,), under_way = ray.wait(under_way)
            if waiting:
                under_way.append(remote.remote(*waiting.pop()))
            yield from ray.get(done)
    finally:
        for reference in under_way:
            ray.cancel(reference)
