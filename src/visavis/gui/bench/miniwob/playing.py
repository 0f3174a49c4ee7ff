"""A player plays episodes, many at a time, in one browser.

def player(contexts):  # a decision for each: instruction, screenshot and what came before
    return [Decision("", "", (Click((80, 120)),)) for _ in contexts]

for played in play(player, [Episode("click-test", seed) for seed in EVALUATION_SEEDS[:100]]):
    print(played.seed, played.reward)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from visavis.errors import InputError, ReplyError
from visavis.gui.actions import Action, CallUser, check
from visavis.gui.bench._patience import decide
from visavis.gui.bench.miniwob.oracles import ORACLES, Page
from visavis.gui.bench.miniwob.tasks import Episode, screen_size
from visavis.gui.bench.miniwob.worker import Observation, Worker
from visavis.gui.model import Context, Decision, Model, Turn
from visavis.gui.screen import Screenshot

__all__ = ["ModelPlayer", "OraclePlayer", "Played", "Player", "play"]

HISTORY = 5  # screenshots of earlier steps that a context keeps; of all steps, thoughts and actions stay

Player = Callable[[Sequence[Context]], Sequence[Decision]]


@dataclass(frozen=True, slots=True)
class Played:
    """What became of an episode."""

    task: str
    seed: int
    reward: float  # raw, without regard to time: -1 to 1, and 0 if it was not brought to an end
    steps: int
    problem: str = ""  # why it was given up


class OraclePlayer:
    """Plays by the scripts of `oracles`, which read the page; it says what a player could reach here."""

    name = "oracles"

    def act(self, page: Page) -> Action:
        """The next action; whatever a script raises ends the episode as its problem."""
        return ORACLES[page.task](page)


class ModelPlayer:
    """Asks a model for one decision after the other, or for several at once.

    A reply that does not parse is told back twice; then the episode is given up. An endpoint that fails for a moment is
    asked again after a second, and after two more.

    Args:
        model: any; it must bear being asked from several threads if `at_once` is more than 1.
        at_once: how many questions to have under way, for endpoints that answer many together.
    """

    def __init__(self, model: Model, *, at_once: int = 1) -> None:
        self.name = model.name
        self._model, self._at_once = model, at_once

    def __call__(self, contexts: Sequence[Context]) -> list[Decision]:
        with ThreadPoolExecutor(self._at_once) as threads:
            return list(threads.map(self._decide, contexts))

    def _decide(self, context: Context) -> Decision:
        while True:
            try:
                return decide(self._model, context)
            except ReplyError as error:
                context = replace(context, mistakes=(*context.mistakes, (error.reply, str(error))))
                if len(context.mistakes) == 3:
                    return Decision(error.reply, "", (CallUser(str(error)),))


@dataclass(slots=True)
class _Seat:
    """One frame's episode under way."""

    episode: Episode
    turns: list[Turn] = field(default_factory=list)
    ahead: deque[Action] = field(default_factory=deque)  # decided, and not yet performed
    steps: int = 0
    problem: str = ""


def play(
    player: Player | OraclePlayer, episodes: Iterable[Episode], *, frames: int = 16, steps: int = 50
) -> Iterator[Played]:
    """Play all episodes, each as it comes to its end.

    Args:
        player: decides for all frames at once, as often as there is nothing left of what it decided before.
        episodes: of tasks of any size.
        frames: how many are played at a time.
        steps: actions after which an episode is given up.

    Raises:
        ScreenError: no browser, or it is gone; see `Worker`.
    """
    by_size: dict[tuple[int, int], deque[Episode]] = {}
    for episode in episodes:
        by_size.setdefault(screen_size(episode.task), deque()).append(episode)
    for size, waiting in by_size.items():
        with Worker(frames=min(frames, len(waiting)), size=size) as worker:
            yield from _play(worker, player, waiting, steps)


def _play(worker: Worker, player: Player | OraclePlayer, waiting: deque[Episode], steps: int) -> Iterator[Played]:
    seats: list[_Seat | None] = [_Seat(waiting.popleft()) for _ in range(worker.frames)]
    moves: list[Action | Episode | None] = [seat.episode for seat in seats if seat]
    while any(seats):
        seen = worker.step(moves)
        moves = [None] * worker.frames
        for number, seat in enumerate(seats):
            if seat and seen[number].done and seat.ahead:
                seat.ahead.clear()
        _decide(worker, player, seats, seen, steps)
        for number, seat in enumerate(seats):
            if seat is None:
                continue
            if not (seen[number].done or seat.problem or seat.steps == steps):
                moves[number] = action = seat.ahead.popleft()
                if isinstance(action, CallUser):
                    seat.problem = action.question
                seat.steps += 1
                continue
            problem = seat.problem or ("" if seen[number].done else f"not done after {steps} steps")
            yield Played(seat.episode.task, seat.episode.seed, seen[number].reward, seat.steps, problem)
            seats[number] = _Seat(waiting.popleft()) if waiting else None
            moves[number] = seat.episode if (seat := seats[number]) else None


def _decide(
    worker: Worker,
    player: Player | OraclePlayer,
    seats: Sequence[_Seat | None],
    seen: Sequence[Observation],
    steps: int,
) -> None:
    """Give every seat that goes on and has nothing ahead its next actions, or a problem."""
    asking = [
        (number, seat)
        for number, seat in enumerate(seats)
        if seat and not (seat.ahead or seat.problem or seen[number].done or seat.steps == steps)
    ]
    if not asking:
        return
    if isinstance(player, OraclePlayer):
        for (_, seat), page in zip(asking, worker.pages([number for number, _ in asking]), strict=True):
            try:
                seat.ahead.append(player.act(page))
            except Exception as error:  # a script meets a page it was not written for: that is what is to be found
                seat.problem = f"{type(error).__name__}: {error}"
        return
    contexts = [
        Context(seen[number].instruction, Screenshot(seen[number].pixels), tuple(seat.turns)) for number, seat in asking
    ]
    for (_, seat), context, decision in zip(asking, contexts, player(contexts), strict=True):
        seat.turns.append(Turn(context.screenshot, decision))
        if len(seat.turns) > HISTORY:
            seat.turns[-HISTORY - 1] = replace(seat.turns[-HISTORY - 1], screenshot=None)
        try:
            for action in decision.actions:
                check(action, context.screenshot.size)
        except InputError as error:
            seat.problem = str(error)
        seat.ahead.extend(decision.actions)
