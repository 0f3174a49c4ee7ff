"""Many tasks in one browser: a step acts in all of them and takes one screenshot.

with Worker(frames=2) as worker:
    seen = worker.reset(["click-test", "enter-text"], seeds=[0, 1])
    seen = worker.step([Click((40, 120)), Wait(0)])
"""

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.errors import InputError, ScreenError
from visavis.gui._png import from_png
from visavis.gui.actions import Action, CallUser, Drag, Finished, Move, Scroll, Wait, check
from visavis.gui.bench._server import Server
from visavis.gui.bench._tab import Tab
from visavis.gui.bench.miniwob._gestures import Call, Hands
from visavis.gui.bench.miniwob.oracles.page import Page
from visavis.gui.bench.miniwob.tasks import Episode, html, page_of, screen_size

__all__ = ["Observation", "Worker"]

SETTLE_MS = 500  # of a task's own clock after an action; the longest animation takes 400
DRAG_MS = 20  # of the same from one event of a drag to the next
LONGEST_WAIT_S = 60.0
COLUMNS = 8
PARKING_PX = 4  # beside the frames, where the pointer is between two steps
ANSWER_S = 60.0  # of a loaded machine
# Nobody looks at it: a picture is made when it is asked for, at once, and a page scrolls at once.
FLAGS = ("--disable-frame-rate-limit", "--disable-gpu-vsync", "--disable-smooth-scrolling", "--hide-scrollbars")
FRAME, GRID = (Path(__file__).with_name(name) for name in ("frame.js", "grid.html"))
# The windows the pages were written for, by the size of what a player sees.
WINDOWS = {(160, 210): (500, 320), (375, 667): (600, 800)}


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a player sees of one task."""

    episode: Episode
    instruction: str
    pixels: Any  # numpy uint8 [H, W, 3], RGB
    done: bool = False
    reward: float = 0.0  # without regard to time; -1 to 1, and 0 until the episode is done


class Worker(Tab):
    """A browser whose one page holds `frames` tasks, all with screens of one `size`; a context manager closes it.

    An action's effect is seen after the task's own clock has run for half a second; it stands still while a player
    thinks. `Wait` lets it run for as long as it says, and no longer. `Finished` and `CallUser` give an episode up; an
    action that a web page has no use for does nothing.

    Raises:
        MissingExtraError: MiniWoB++ is not installed.
        ScreenError: no Chromium, or it does not start.
    """

    def __init__(self, *, frames: int = 16, size: tuple[int, int] = (160, 210)) -> None:
        if frames < 1:
            raise InputError(f"frames: expected at least 1, got {frames}")
        if size not in WINDOWS:
            raise InputError(f"size: expected one of {sorted(WINDOWS)}, got {size}")
        self.frames, self.size = frames, size
        self._columns = min(frames, COLUMNS)
        width, height = size
        self._hands = [Hands((width * (n % self._columns), height * (n // self._columns))) for n in range(frames)]
        self._park = Hands((width * self._columns, 0)).move((PARKING_PX // 2, 1))
        self._seen: list[Observation] = []
        super().__init__(Server(html(), {"/grid": GRID}), flags=FLAGS, answer_s=ANSWER_S)

    def reset(self, tasks: Sequence[str], seeds: Sequence[int]) -> list[Observation]:
        """Start an episode in every frame; errors as `step`."""
        return self.step([Episode(task, seed) for task, seed in zip(tasks, seeds, strict=True)])

    def step(self, moves: Sequence[Action | Episode | None]) -> list[Observation]:
        """Act in every frame, and look at all of them.

        Args:
            moves: for each frame its action; or an episode to start there, whatever became of the one before, as the
                first step does everywhere; or None to leave it alone, as one that is done is.

        Returns:
            For each frame what is seen now. Once an episode is done its observation stays.

        Raises:
            InputError: not one move a frame, no episode in a frame yet, or a task of another size.
            ScreenError: the browser is gone or does not answer in time.
        """
        if len(moves) != self.frames:
            raise InputError(f"moves: expected {self.frames}, one a frame, got {len(moves)}")
        if not self._seen and not all(isinstance(move, Episode) for move in moves):
            raise InputError(f"moves: expected an episode in every frame first, got {list(moves)}")
        for move in moves:
            if move is not None and not isinstance(move, Episode):
                check(move, self.size)
        episodes = {number: move for number, move in enumerate(moves) if isinstance(move, Episode)}
        self._begin(episodes)
        settle_ms: list[float | None] = [None] * self.frames
        given_up = set()
        gestures: list[Call] = []
        for number, move in enumerate(moves):
            if move is None or (number not in episodes and self._seen[number].done):
                continue
            settle_ms[number] = SETTLE_MS
            if isinstance(move, Wait):
                settle_ms[number] = 1000 * min(max(move.seconds, 0.0), LONGEST_WAIT_S)
            elif isinstance(move, Finished | CallUser):
                given_up.add(number)
            elif isinstance(move, Drag | Move | Scroll):
                self._send(gestures)
                gestures = []
                # Of moves sent at once only the last would arrive; turns of the wheel would be added up, for one frame.
                for call in self._hands[number].calls(move):
                    self._send([call])
                    if isinstance(move, Drag):
                        self._evaluate("grid.advance", number, DRAG_MS)
            elif not isinstance(move, Episode):
                if self._hands[number].types(move):  # all that is sent goes to the frame with the focus
                    self._send(gestures)
                    self._evaluate("grid.focus", number)
                    gestures = []
                gestures += self._hands[number].calls(move)
        self._send([*gestures, self._park])
        states = self._evaluate("grid.settle", settle_ms)
        pixels = self._look()
        self._seen = [
            self._seen[number]
            if settle_ms[number] is None
            else self._observed(number, episodes.get(number), states[number], pixels, given_up=number in given_up)
            for number in range(self.frames)
        ]
        return list(self._seen)

    def _observed(
        self, number: int, begun: Episode | None, state: list[Any] | None, pixels: Any, *, given_up: bool
    ) -> Observation:
        (left, top), (width, height) = self._hands[number].origin, self.size
        view = pixels[top : top + height, left : left + width].copy()  # else it would keep the whole grid
        if state is None:  # a page that was left cannot be won any more
            return Observation(begun or self._seen[number].episode, "", view, done=True, reward=-1.0)
        done, reward, instruction = state
        episode = begun or self._seen[number].episode
        return Observation(episode, instruction, view, done or given_up, float(reward) if done else 0.0)

    def pages(self, frames: Sequence[int]) -> list[Page]:
        """What scripted players read of these frames; never for a model."""
        snapshots = self._evaluate("grid.snapshot", list(frames))
        return [
            Page.of(
                snapshot,
                self._seen[number].episode.task,
                self._seen[number].instruction,
                held=frozenset(self._hands[number].held),
                pointer=self._hands[number].pointer,
            )
            for number, snapshot in zip(frames, snapshots, strict=True)
        ]

    def _prepare(self) -> None:
        columns, (width, height) = self._columns, self.size
        shape = {"width": width * columns + PARKING_PX, "height": height * -(-self.frames // columns)}
        self._call("Emulation.setDeviceMetricsOverride", **shape, deviceScaleFactor=1, mobile=False)
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=FRAME.read_text(encoding="utf-8"))
        loaded = threading.Event()
        self._connection.listen("Page.loadEventFired", lambda _session, _event: loaded.set())
        self._call("Page.navigate", url=f"{self._server.address}/grid")
        if not loaded.wait(ANSWER_S):
            raise ScreenError(f"grid: expected its page to load within {ANSWER_S:g} s, it did not", acted=False)
        self._evaluate("grid.build", self.frames, columns, self.size, WINDOWS[self.size])

    def _begin(self, episodes: dict[int, Episode]) -> None:
        if not episodes:
            return
        for number, episode in episodes.items():
            if screen_size(episode.task) != self.size:
                raise InputError(
                    f"moves: expected tasks with a screen of {self.size}, got {episode.task}, which has one of "
                    f"{screen_size(episode.task)}; it needs a Worker of its own"
                )
            self._send(self._hands[number].release())
        starts = [[number, page_of(episode.task), episode.seed] for number, episode in episodes.items()]
        self._evaluate("grid.begin", starts, self.size)

    def _look(self) -> Any:
        return from_png(self._connection.screenshot(session=self._session, format="png", optimizeForSpeed=True))

    def _send(self, calls: Iterable[Call]) -> None:
        self._connection.call_all(calls, session=self._session)

    def _evaluate(self, function: str, *arguments: Any) -> Any:
        script = f"{function}({', '.join(map(json.dumps, arguments))})"
        return self._connection.evaluate(script, session=self._session)
