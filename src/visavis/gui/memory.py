"""Long-term memory: how tasks were done, on disk, recalled by the likeness of the instruction and of the screen.

Likeness of instructions is the cosine of hashed bags of words, pairs of words and pieces of words, or of characters in
scripts that write no spaces: no model, no download, the same numbers on every machine. It sees through word forms,
typing errors, other values and word order, not through synonyms or another language. Likeness of screens compares
colours and roughness of a 16 x 16 grid.
"""

import json
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from visavis.errors import InputError, TraceError
from visavis.gui._files import whole_lines
from visavis.gui.actions import Action, CallUser, Click, Finished, Hotkey, Navigate, OpenApp, Press, Scroll, Type
from visavis.gui.screen import Screenshot
from visavis.gui.trace import Correction, Step, Trace, append_line

__all__ = ["Memory", "Recalled", "fingerprint", "screen_likeness", "text_vector"]

DIMENSIONS = 4096
GRID = 16
LEAST_TEXT = 0.36  # of the likeness of instructions; measured on tests/gui/memories.py
SCREEN_SHARE = 0.3  # what is lost of it on an altogether different screen
MOST_STEPS, LONGEST_STEP = 15, 200  # what is told of a memory: steps, and characters of each
FILE_NAME = "memory.jsonl"

# How much the features of an instruction count.
PIECES = 1.0  # of words: three and four letters
PAIRS = 0.5  # of neighbouring words
VALUES = 0.1  # what is quoted or holds digits changes from task to task
LETTERS = 6  # words of fewer count less: they are in every sentence
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|“[^”]*”|‘[^’]*’|„[^“]*“|«[^»]*»|「[^」]*」")


@dataclass(frozen=True, slots=True)
class Recalled:
    """A task that was done before."""

    instruction: str
    text: str  # for the model: the task and how it was done
    score: float  # 0 to 1, of both likenesses
    text_likeness: float
    screen_likeness: float


class Memory:
    """A folder of what was learnt.

    Several processes may add to it; each knows what was there when it opened the folder, and what it added itself.

    Raises:
        TraceError: the folder cannot be made or read, or its file is damaged; `add`: the disk does not take it.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / FILE_NAME
        self._entries: list[_Entry] = []
        self._matrix: Any = None  # of their vectors; made when it is needed
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines = whole_lines(self._path)
        except OSError as error:
            raise TraceError(f"{folder}: expected a folder for memories, got {error}") from error
        for number, line in enumerate(lines, start=1):
            try:
                self._entries.append(_Entry.of_json(json.loads(line)))
            except (KeyError, TypeError, ValueError) as error:
                raise TraceError(f"{self._path}:{number}: expected a memory, got {error!r}") from error

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        instruction: str,
        screenshot: Screenshot,
        steps: tuple[Step, ...],
        *,
        corrections: Mapping[int, Correction] | None = None,
    ) -> None:
        """Keep how a task was done.

        Args:
            instruction: what the task was.
            screenshot: where it began.
            steps: of a run that did it; what had no effect is left out.
            corrections: what would have been right instead, by the number of the step.
        """
        entry = _Entry(instruction, _told(instruction, steps, corrections or {}), fingerprint(screenshot.pixels))
        append_line(self._path, entry.to_json())
        self._entries.append(entry)
        self._matrix = None

    def add_trace(self, trace: Trace) -> None:
        """Keep a run that was finished, or that a person has corrected.

        Raises:
            InputError: it is neither.
        """
        finished = trace.ending is not None and trace.ending.outcome == "finished"
        if not trace.steps or not (finished or trace.corrections):
            raise InputError(
                f"trace: expected a run that is finished or corrected, got {trace.folder}, which is neither"
            )
        self.add(trace.instruction, trace.screenshot(trace.steps[0]), trace.steps, corrections=trace.corrections)

    def recall(self, instruction: str, screenshot: Screenshot, *, most: int = 3) -> tuple[Recalled, ...]:
        """What was learnt from tasks like this one on screens like this one, the likest first; the later of equals.

        Args:
            instruction: of the new task.
            screenshot: where it begins.
            most: how many.
        """
        if not self._entries:
            return ()
        if self._matrix is None:
            self._matrix = np.stack([text_vector(entry.instruction) for entry in self._entries])
        texts = self._matrix @ text_vector(instruction)
        here = fingerprint(screenshot.pixels)
        found = []
        for index in np.flatnonzero(texts >= LEAST_TEXT):
            entry, text = self._entries[index], float(texts[index])
            looks = screen_likeness(entry.fingerprint, here)
            score = text * (1 - SCREEN_SHARE * (1 - looks))
            found.append((score, int(index), Recalled(entry.instruction, entry.text, score, text, looks)))
        told: dict[str, Recalled] = {}
        for _, _, recalled in sorted(found, key=lambda item: item[:2], reverse=True):
            told.setdefault(recalled.text, recalled)
        return tuple(told.values())[:most]


def text_vector(text: str) -> Any:
    """The features of an instruction, hashed: float32 [DIMENSIONS] of length 1, or 0 if there is no word in it.

    Example:
        >>> one = text_vector("Rename the folder Photos to Pictures")
        >>> round(float(one @ text_vector("rename folder Music to Songs")), 1)
        0.5
    """
    vector = np.zeros(DIMENSIONS, np.float32)
    for feature, weight in _features(text):
        number = zlib.crc32(feature.encode())
        vector[number % DIMENSIONS] += weight if number >> 31 else -weight
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def fingerprint(pixels: Any) -> Any:
    """What a screen looks like from afar: uint8 [GRID, GRID, 4], colour and roughness of each field of a grid.

    Args:
        pixels: uint8 [H, W, 3]; of any size: likeness is by place relative to it.
    """
    height, width = pixels.shape[:2]
    rows, columns = (np.linspace(0, length, GRID + 1).astype(int) for length in (height, width))
    fields = np.zeros((GRID, GRID, 4), np.uint8)
    for y in range(GRID):
        for x in range(GRID):
            field = pixels[rows[y] : max(rows[y + 1], rows[y] + 1), columns[x] : max(columns[x + 1], columns[x] + 1)]
            fields[y, x, :3] = field.mean(axis=(0, 1))
            fields[y, x, 3] = min(2 * field.mean(axis=2).std(), 255)
    return fields


def screen_likeness(one: Any, other: Any) -> float:
    """How alike two fingerprints are, 0 to 1: the share of fields alike in colour, times that of those in roughness."""
    apart = np.abs(one.astype(int) - other.astype(int))
    return float((apart[..., :3].max(axis=2) <= 24).mean() * (apart[..., 3] <= 48).mean())


@dataclass(frozen=True, slots=True)
class _Entry:
    instruction: str
    text: str
    fingerprint: Any

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Self:
        fields = np.frombuffer(bytes.fromhex(line["fingerprint"]), np.uint8).reshape(GRID, GRID, 4)
        if not isinstance(line["instruction"], str) or not isinstance(line["text"], str):
            raise TypeError("another value where a text should be")
        return cls(line["instruction"], line["text"], fields)

    def to_json(self) -> dict[str, Any]:
        return {"instruction": self.instruction, "text": self.text, "fingerprint": self.fingerprint.tobytes().hex()}


def _features(text: str) -> Iterator[tuple[str, float]]:
    """Words, pairs of them and pieces of them, each with how much it counts."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = unicodedata.normalize("NFC", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    values = [found.span() for found in _QUOTED.finditer(plain)]
    before: tuple[str, float] | None = None
    for found in _WORD.finditer(plain):
        word = found[0]
        weight = 0.8 if len(word) == 1 and word > "\u3000" else min(1.0, len(word) / LETTERS)
        if any(letter.isdigit() for letter in word) or any(start <= found.start() < end for start, end in values):
            weight *= VALUES
        yield f"word {word}", weight
        if len(word) > 3:
            padded = f"^{word}$"
            pieces = [padded[at : at + size] for size in (3, 4) for at in range(len(padded) - size + 1)]
            for piece in pieces:
                yield f"piece {piece}", PIECES * weight / len(pieces) ** 0.5
        if before:
            yield f"pair {before[0]} {word}", PAIRS * min(weight, before[1])
        before = word, weight


def _told(instruction: str, steps: tuple[Step, ...], corrections: Mapping[int, Correction]) -> str:
    """How a task was done, for a model: what it thought and did, without points, which are elsewhere next time."""
    lines = []
    for step in steps:
        correction = corrections.get(step.number)
        if correction is not None:
            wrong = "; ".join(map(_named, step.decision.actions)) if step.decision else "nothing"
            right = "; ".join(map(_named, correction.actions))
            lines.append(_cut(f"(not: {wrong}) {correction.thought} -> {right}"))
        elif step.decision is not None and step.changed is not False:
            performed = [attempt.action for attempt in step.attempts if attempt.verdict == "performed"]
            done = [_named(action) for action in performed if not isinstance(action, Finished | CallUser)]
            if done:
                lines.append(_cut(f"{step.decision.thought} -> {'; '.join(done)}"))
    kept = lines[:MOST_STEPS]
    more = [f"... and {len(lines) - len(kept)} more"] if len(lines) > len(kept) else []
    numbered = [f"{number}. {line}" for number, line in enumerate(kept, start=1)]
    return "\n".join([f'A task like this was done before: "{_cut(instruction)}"', *numbered, *more])


def _named(action: Action) -> str:
    match action:
        case Type(text):
            return f"type {text!r}"
        case Scroll(_, down, right):
            return f"scroll {down} down" if down else f"scroll {right} right"
        case Hotkey(keys):
            return f"press {'+'.join(keys)}"
        case Press(key):
            return f"hold {key}"
        case OpenApp(name):
            return f"open {name}"
        case Navigate(url):
            return f"go to {url}"
        case Click(_, button, count):
            return " ".join(
                filter(None, ("double" if count == 2 else "", "right" if button == "right" else "", "click"))
            )
        case _:
            return type(action).__name__.lower()


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_STEP else f"{line[: LONGEST_STEP - 3]}..."
