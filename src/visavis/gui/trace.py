"""A run on disk, written as it goes: what was seen, thought and done, to be shown, repeated and learnt from.

A trace is a folder:

    run.json            one object: instruction, model, screen, settings, when it began, and in the end how it ended
    steps.jsonl         one object a line and step, on disk before the next step begins
    screenshots/        000001.png ..., what the model saw in the step of that number
    corrections.jsonl   if a person said so afterwards: what would have been right in a step

A kill at any moment loses at most the step in flight: files are written under another name and renamed, and a last line
that was cut is no step. Times are UTC in ISO 8601, durations in seconds.
"""

import errno
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeVar, get_args

from visavis.errors import TraceError
from visavis.gui import _files
from visavis.gui._png import to_png
from visavis.gui.actions import Action, from_json, to_json
from visavis.gui.model.protocol import Context, Decision, Turn
from visavis.gui.screen import Screenshot

__all__ = [
    "Attempt",
    "Correction",
    "Ending",
    "Outcome",
    "Reason",
    "Step",
    "Trace",
    "TraceWriter",
    "Verdict",
    "append_line",
    "correct",
    "new_folder",
    "now",
    "picture",
    "read",
]

FORMAT = 1
T = TypeVar("T")

Outcome = Literal["finished", "call_user", "stopped", "failed"]
Reason = Literal[
    "",  # finished, call_user
    "user",  # stopped: by `Agent.stop`
    "interrupt",  # stopped: by Ctrl-C
    "emergency",  # stopped: by a file STOP in the trace's folder
    "steps",  # failed: a budget is used up
    "time",
    "tokens",
    "model",  # failed: no answer, however often it was asked
    "replies",  # failed: answers that do not parse
    "screen",  # failed: nothing to be seen
    "refused",  # failed: the policy refused again and again
    "loop",  # failed: the same again and again
    "trace",  # failed: the disk does not take the trace
    "error",  # failed: an exception that no part may raise
]
# dry: a dry run; refused: by the policy; failed: the screen said that nothing was done; unknown: the screen failed, and
# the action may have been done.
Verdict = Literal["performed", "dry", "refused", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One action of a step and what became of it."""

    action: Action
    verdict: Verdict
    note: str = ""  # why it was refused, or what the screen said
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One round of looking, thinking and acting."""

    number: int  # from 1
    at: str  # when it began
    screenshot: str | None = None  # the picture's path within the folder; None: the screen could not be seen
    size: tuple[int, int] = (0, 0)  # of the screenshot: width, height
    scale: float = 1.0
    url: str | None = None
    notice: str = ""  # told to the model before this step, after the remarks on the one before: the run was interrupted
    decision: Decision | None = None  # None: none came
    mistakes: tuple[tuple[str, str], ...] = ()  # replies that did not parse, each with the reason
    attempts: tuple[Attempt, ...] = ()  # actions that came to nothing because the run ended are not among them
    changed: bool | None = None  # whether the screen looked different afterwards; None: it was not looked at
    remarks: tuple[str, ...] = ()  # told to the model in the next step
    plan: tuple[tuple[str, bool], ...] = ()  # as the model was given it
    memories: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # look, think, act


@dataclass(frozen=True, slots=True)
class Correction:
    """What would have been right in a step, as a person says."""

    number: int
    actions: tuple[Action, ...]
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    outcome: Outcome
    reason: Reason = ""
    answer: str = ""  # of `Finished`, or the question of `CallUser`
    message: str = ""  # of the error, when it failed


@dataclass(frozen=True, slots=True)
class Trace:
    """A run that was read from its folder."""

    folder: Path
    instruction: str
    told: str  # the instruction as the model got it, with the names of the secrets it may type
    model: str
    screen: str
    settings: dict[str, Any]
    started_at: str
    ending: Ending | None  # None: it is still going on, or was killed
    ended_at: str | None
    steps: tuple[Step, ...]
    corrections: dict[int, Correction]  # by the number of the step; the last word counts

    def screenshot(self, step: Step) -> Screenshot:
        """What was seen in a step.

        Raises:
            TraceError: nothing was, or its picture cannot be read.
        """
        import numpy as np
        from PIL import Image

        if step.screenshot is None:
            raise TraceError(f"{self.folder}: expected a screenshot in step {step.number}, got none: it was not seen")
        path = self.folder / step.screenshot
        try:
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise TraceError(f"{path}: expected the PNG of step {step.number}, got {error}") from error
        return Screenshot(pixels, step.scale, step.url)

    @property
    def last_look(self) -> Path | None:
        """The picture of what came of the last step, if it was still seen."""
        path = self.folder / picture(len(self.steps) + 1)
        return path if path.exists() else None

    def turns(self, *, before: int, screenshots: int = 0) -> tuple[Turn, ...]:
        """The steps of a number below `before` as a model is told of them, the last few with their screenshots."""
        told: list[tuple[Step, Decision, tuple[str, ...]]] = []
        for step in self.steps[:before]:
            if step.notice and told:
                told[-1] = (*told[-1][:2], (*told[-1][2], step.notice))
            if step.number < before and step.decision is not None:
                told.append((step, step.decision, step.remarks))
        first = len(told) - screenshots
        return tuple(
            Turn(self.screenshot(step) if index >= first else None, decision, remarks)
            for index, (step, decision, remarks) in enumerate(told)
        )

    def context(self, step: Step) -> Context:
        """What the model was given in a step, had there been room for the texts of all earlier steps.

        Raises:
            TraceError: a picture cannot be read.
        """
        images = self.settings.get("images")
        earlier = self.turns(before=step.number, screenshots=images - 1 if isinstance(images, int) else 0)
        return Context(self.told, self.screenshot(step), earlier, step.memories, step.plan, step.mistakes)


class TraceWriter:
    """Writes the trace of one run.

    Args:
        folder: of the trace; `create` makes a new one, `append` goes on with one that was read.
        hide: what every text passes through on its way to the disk; the policy's takes the secrets out.

    Raises:
        TraceError: at any call: the disk is full, or does not take the file for another reason.
    """

    def __init__(self, folder: Path, run: dict[str, Any], *, hide: Callable[[str], str] = str) -> None:
        self.folder = folder
        self._run = run
        self._hide = hide
        with _errors(folder):
            _files.write_whole(folder / "run.json", _line(self._run, hide))
            self._steps: IO[bytes] = (folder / "steps.jsonl").open("ab", buffering=0)

    @classmethod
    def create(
        cls,
        folder: Path,
        instruction: str,
        *,
        told: str | None = None,
        model: str,
        screen: str,
        settings: dict[str, Any] | None = None,
        hide: Callable[[str], str] = str,
    ) -> Self:
        """Begin the trace of a new run in a folder that holds none.

        Raises:
            TraceError: it does, or the disk does not take it.
        """
        if (folder / "run.json").exists():
            raise TraceError(f"{folder}: expected a folder without a trace, got one with a run.json")
        run = {
            "format": FORMAT,
            "instruction": instruction,
            "told": instruction if told is None else told,
            "model": model,
            "screen": screen,
            "settings": settings or {},
            "started_at": now(),
        }
        with _errors(folder):
            (folder / "screenshots").mkdir(parents=True, exist_ok=True)
        return cls(folder, run, hide=hide)

    @classmethod
    def append(cls, trace: Trace, *, hide: Callable[[str], str] = str) -> Self:
        """Go on with a run; what a kill left of a step in flight is removed.

        Raises:
            TraceError: the disk does not take it.
        """
        with _errors(trace.folder):
            run = json.loads((trace.folder / "run.json").read_bytes())
            _files.cut(trace.folder / "steps.jsonl")
        resumed = [*run.get("resumed_at", ()), now()]
        kept = {name: value for name, value in run.items() if name not in ("ended_at", *_ENDING)}
        return cls(trace.folder, kept | {"resumed_at": resumed}, hide=hide)

    def screenshot(self, number: int, pixels: Any) -> str:
        """Write what is seen in a step; uint8 [H, W, 3], RGB.

        Returns:
            Its path within the folder.
        """
        png = to_png(pixels)
        with _errors(self.folder):
            _files.write_whole(self.folder / picture(number), png)
        return picture(number)

    def step(self, step: Step) -> None:
        """Write a step, when all is done that belongs to it."""
        with _errors(self.folder):
            _files.put(self._steps, _line(_step_to_json(step), self._hide))

    def end(self, ending: Ending) -> None:
        """Write how the run ended, and close."""
        self.close()
        self._run |= {"ended_at": now()} | {name: getattr(ending, name) for name in _ENDING}
        with _errors(self.folder):
            _files.write_whole(self.folder / "run.json", _line(self._run, self._hide))

    def close(self) -> None:
        """Let go of the files; the trace then says that the run was killed, unless `end` was called."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def picture(number: int) -> str:
    """The path of a step's screenshot within the folder."""
    return f"screenshots/{number:06}.png"


def new_folder(parent: Path) -> Path:
    """Make the next of the folders 0001, 0002, ... in `parent`; two processes never get the same.

    Raises:
        TraceError: the disk does not take it.
    """
    with _errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0) + 1
        while True:
            folder = parent / f"{number:04}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder


def read(folder: str | Path) -> Trace:
    """Read a trace, of a run that ended, was killed or goes on.

    Raises:
        TraceError: the folder holds none, or one that is damaged: the message names the file and the line.
    """
    folder = Path(folder)
    run = _object(folder / "run.json")
    if run.get("format") != FORMAT:
        raise TraceError(f"{folder / 'run.json'}: expected a trace of format {FORMAT}, got {run.get('format')!r}")
    try:
        ending = Ending(**{name: run[name] for name in _ENDING}) if "outcome" in run else None
        if ending is not None and (ending.outcome not in get_args(Outcome) or ending.reason not in get_args(Reason)):
            raise ValueError(f"the outcome {ending.outcome!r}, {ending.reason!r}")
        steps = tuple(_lines(folder / "steps.jsonl", _step_from_json))
        for number, step in enumerate(steps, start=1):
            if step.number != number:
                raise TraceError(f"{folder / 'steps.jsonl'}:{number}: expected step {number}, got {step.number}")
        corrections = tuple(_lines(folder / "corrections.jsonl", _correction_from_json))
        return Trace(
            folder,
            instruction=_text(run["instruction"]),
            told=_text(run["told"]),
            model=_text(run["model"]),
            screen=_text(run["screen"]),
            settings=dict(run["settings"]),
            started_at=_text(run["started_at"]),
            ending=ending,
            ended_at=run.get("ended_at"),
            steps=steps,
            corrections={correction.number: correction for correction in corrections},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{folder / 'run.json'}: expected a run, got {_why(error)}") from error


def correct(trace: Trace, number: int, actions: tuple[Action, ...], *, thought: str = "") -> Trace:
    """Say what would have been right in a step: for long-term memory, and for training on preferences.

    Returns:
        The trace with the correction.

    Raises:
        TraceError: there is no such step, or the disk does not take it.
    """
    if not 1 <= number <= len(trace.steps):
        raise TraceError(f"number: expected a step from 1 to {len(trace.steps)}, got {number}")
    correction = Correction(number, actions, thought)
    line = {"number": number, "actions": [to_json(action) for action in actions], "thought": thought}
    append_line(trace.folder / "corrections.jsonl", line)
    return replace(trace, corrections=trace.corrections | {number: correction})


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append an object to a file of JSON lines; half a line, left behind by a full disk or a kill, is removed first.

    Raises:
        TraceError: the disk does not take it.
    """
    with _errors(path):
        _files.append(path, _line(value, str))


def now() -> str:
    """The time as traces have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


_ENDING = ("outcome", "reason", "answer", "message")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = "; free some space and go on with the run" if error.errno == errno.ENOSPC else ""
        raise TraceError(f"{path}: expected a folder that can be written, got {error}{cure}") from error


def _line(value: dict[str, Any], hide: Callable[[str], str]) -> bytes:
    """A line of JSON in ASCII: a text may hold anything, halves of surrogate pairs too."""
    return json.dumps(_each_text(value, hide)).encode() + b"\n"


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each_text(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value


def _step_to_json(step: Step) -> dict[str, Any]:
    plain = {name: getattr(step, name) for name in Step.__slots__}
    decision = step.decision
    plain["decision"] = decision and {
        **{name: getattr(decision, name) for name in Decision.__slots__},
        "actions": [to_json(action) for action in decision.actions],
    }
    plain["attempts"] = [
        {name: getattr(attempt, name) for name in Attempt.__slots__} | {"action": to_json(attempt.action)}
        for attempt in step.attempts
    ]
    return plain


def _step_from_json(line: dict[str, Any]) -> Step:
    decision = line["decision"]
    width, height = line["size"]
    return Step(
        int(line["number"]),
        _text(line["at"]),
        None if line["screenshot"] is None else _picture(line["screenshot"]),
        (int(width), int(height)),
        float(line["scale"]),
        None if line["url"] is None else _text(line["url"]),
        _text(line["notice"]),
        decision
        and Decision(
            _text(decision["text"]),
            _text(decision["thought"]),
            tuple(from_json(action) for action in decision["actions"]),
            int(decision["prompt_tokens"]),
            int(decision["completion_tokens"]),
        ),
        tuple((_text(reply), _text(reason)) for reply, reason in line["mistakes"]),
        tuple(_attempt_from_json(attempt) for attempt in line["attempts"]),
        None if line["changed"] is None else bool(line["changed"]),
        tuple(map(_text, line["remarks"])),
        tuple((_text(milestone), bool(reached)) for milestone, reached in line["plan"]),
        tuple(map(_text, line["memories"])),
        {_text(part): float(seconds) for part, seconds in line["seconds"].items()},
    )


def _attempt_from_json(attempt: dict[str, Any]) -> Attempt:
    if attempt["verdict"] not in get_args(Verdict):
        raise ValueError(f"the verdict {attempt['verdict']!r}")
    return Attempt(from_json(attempt["action"]), attempt["verdict"], _text(attempt["note"]), float(attempt["seconds"]))


def _correction_from_json(line: dict[str, Any]) -> Correction:
    actions = tuple(from_json(action) for action in line["actions"])
    return Correction(int(line["number"]), actions, _text(line["thought"]))


def _picture(name: object) -> str:
    """The path of a screenshot; a trace from elsewhere may not point out of its folder."""
    if not re.fullmatch(r"screenshots/[0-9]{6,}\.png", _text(name)):
        raise ValueError(f"the screenshot {name!r}")
    return _text(name)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text should be")
    return value


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise TraceError(f"{path.parent}: expected the folder of a trace, got {error}") from error
    except ValueError as error:
        raise TraceError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(found, dict):
        raise TraceError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def _lines(path: Path, decode: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """The whole lines of a file; what follows the last newline was cut by a kill, or is being written."""
    try:
        lines = _files.whole_lines(path)
    except OSError as error:
        raise TraceError(f"{path}: expected a file that can be read, got {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            yield decode(json.loads(line))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TraceError(f"{path}:{number}: expected a line of a trace, got {_why(error)}") from error


def _why(error: Exception) -> str:
    return f"none with {error}" if isinstance(error, KeyError) else str(error)
