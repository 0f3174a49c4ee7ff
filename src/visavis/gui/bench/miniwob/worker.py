"""Many tasks in one browser: a step acts in all of them and takes one screenshot.

with Worker(frames=2) as worker:
    seen = worker.reset(["click-test", "enter-text"], seeds=[0, 1])
    seen = worker.step([Click((40, 120)), Wait(0)])
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from visavis.errors import InputError
from visavis.gui.actions import Action, CallUser, Finished, Wait, check
from visavis.gui.bench.miniwob._gestures import Call, Hands
from visavis.gui.bench.miniwob._link import Link
from visavis.gui.bench.miniwob._server import Server
from visavis.gui.bench.miniwob.oracles.page import Page
from visavis.gui.bench.miniwob.tasks import Episode, html, page_of, screen_size

__all__ = ["Observation", "Worker"]

SETTLE_MS = 500  # of a task's own clock after an action; the longest animation takes 400
LONGEST_WAIT_S = 60.0
COLUMNS = 8
FRAME = Path(__file__).with_name("frame.js")
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


class Worker:
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
        columns = min(frames, COLUMNS)
        width, height = size
        self._hands = [Hands((width * (n % columns), height * (n // columns))) for n in range(frames)]
        self._seen: list[Observation] = []
        self._server = Server(html())
        try:
            self._link = Link()
        except BaseException:
            self._server.close()
            raise
        try:
            self._link.call(
                "Emulation.setDeviceMetricsOverride",
                width=width * columns,
                height=height * -(-frames // columns),
                deviceScaleFactor=1,
                mobile=False,
            )
            self._link.call("Page.enable")
            self._link.call("Page.addScriptToEvaluateOnNewDocument", source=FRAME.read_text(encoding="utf-8"))
            self._link.goto(f"{self._server.address}/grid")
            window = WINDOWS[size]
            self._link.evaluate(f"grid.build({frames}, {columns}, {json.dumps(size)}, {json.dumps(window)})")
        except BaseException:
            self.close()
            raise

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
            elif not isinstance(move, Episode):
                if self._hands[number].types(move):  # all that is sent goes to the frame with the focus
                    self._link.send_all(gestures)
                    self._link.evaluate(f"grid.focus({number})")
                    gestures = []
                gestures += self._hands[number].calls(move)
        self._link.send_all(gestures)
        states = self._link.evaluate(f"grid.settle({json.dumps(settle_ms)})")
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
        view = pixels[top : top + height, left : left + width]
        if state is None:  # a page that was left cannot be won any more
            return Observation(begun or self._seen[number].episode, "", view, done=True, reward=-1.0)
        done, reward, instruction = state
        episode = begun or self._seen[number].episode
        return Observation(episode, instruction, view, done or given_up, float(reward) if done else 0.0)

    def pages(self, frames: Sequence[int]) -> list[Page]:
        """What scripted players read of these frames; never for a model."""
        snapshots = self._link.evaluate(f"grid.snapshot({json.dumps(list(frames))})")
        return [
            Page.of(snapshot, self._seen[number].episode.task, self._seen[number].instruction)
            for number, snapshot in zip(frames, snapshots, strict=True)
        ]

    def close(self) -> None:
        """End the browser; more than once is the same as once."""
        self._link.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, episodes: dict[int, Episode]) -> None:
        if not episodes:
            return
        for number, episode in episodes.items():
            if screen_size(episode.task) != self.size:
                raise InputError(
                    f"moves: expected tasks with a screen of {self.size}, got {episode.task}, which has one of "
                    f"{screen_size(episode.task)}; it needs a Worker of its own"
                )
            self._link.send_all(list(self._hands[number].release()))
        starts = [[number, page_of(episode.task), episode.seed] for number, episode in episodes.items()]
        self._link.evaluate(f"grid.begin({json.dumps(starts)}, {json.dumps(self.size)})")

    def _look(self) -> Any:
        import numpy as np
        from PIL import Image

        shot = self._link.call("Page.captureScreenshot", format="png", optimizeForSpeed=True)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))
