"""The page of a trace: one file that plays a run, with what was seen, thought and done, and what came of it.

All of it is in the page as text and pictures; its script only turns the leaves. Without it the steps stand one below
the other, as they do in print.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavis import __version__
from visavis.app.files import draft_of
from visavis.app.report import data_uri, templates
from visavis.app.trace_marks import Shape, Strokes, readable, said, shapes, strokes
from visavis.gui.trace import Attempt, Correction, Ending, Step, Trace

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Deed", "Frame", "write_page"]

EXACT = 24  # pictures that are kept to the last bit; of more, each is smaller than it was
LONG_SIDE_PX = 1600  # of these
THUMBNAIL_PX = 224
OUTCOMES = {"finished": "Finished", "call_user": "Asks the user", "stopped": "Stopped", "failed": "Failed"}
REASONS = {
    "user": "by the user",
    "interrupt": "by Ctrl-C",
    "emergency": "by a file STOP",
    "steps": "no steps left",
    "time": "no time left",
    "tokens": "no tokens left",
    "model": "the model gave no answer",
    "replies": "replies that do not parse",
    "screen": "nothing to be seen",
    "refused": "refused again and again",
    "loop": "went in a circle",
    "trace": "the trace cannot be written",
    "error": "an unexpected error",
}
# From what need not be looked at to what must be.
VERDICTS = ("performed", "dry", "unknown", "refused", "failed")
VERDICT_TEXTS = {
    "performed": "done",
    "dry": "dry run",
    "unknown": "perhaps done",
    "refused": "refused",
    "failed": "not done",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """An action in the page."""

    text: str
    shapes: tuple[Shape, ...]
    strokes: Strokes | None
    verdict: str  # "": of a correction, or never come to
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A leaf of the page: a step, or the end."""

    name: str
    title: str
    short: str  # below its thumbnail
    verdict: str  # the worst of its actions
    picture: str | None  # data URIs
    thumbnail: str | None
    lost: str  # why there is no picture
    size: tuple[int, int]
    deeds: tuple[Deed, ...] = ()
    corrected: tuple[Deed, ...] = ()
    correction: Correction | None = None
    step: Step | None = None
    after_s: float | None = None  # since the run began


def write_page(trace: Trace, path: Path) -> None:
    """Write the page, whole or not at all, for the owner alone: a screen shows private things.

    Args:
        trace: of a run in any state.
        path: the file; its folder exists.
    """
    from markupsafe import Markup

    environment = templates(readable=readable, seconds=_seconds, number=_number)
    style, script = (_source(environment, name) for name in ("trace.css", "trace.js"))
    steps = trace.steps
    seconds = sum(sum(step.seconds.values()) for step in steps)
    decisions = [step.decision for step in steps if step.decision is not None]
    page = environment.get_template("trace.html").render(
        trace=trace,
        frames=_frames(trace),
        state=_state(trace.ending),
        outcome="running" if trace.ending is None else trace.ending.outcome,
        began=_moment(trace.started_at),
        seconds=seconds,
        tokens_in=sum(decision.prompt_tokens for decision in decisions),
        tokens_out=sum(decision.completion_tokens for decision in decisions),
        settings=json.dumps(trace.settings, indent=1, ensure_ascii=False),
        verdicts=VERDICT_TEXTS,
        version=__version__,
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    with draft_of(path) as draft:
        draft.write_text(page, encoding="utf-8", newline="\n")


def _source(environment: Any, name: str) -> str:
    return str(environment.loader.get_source(environment, name)[0])


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")


def _state(ending: Ending | None) -> str:
    if ending is None:
        return "Not ended"
    reason = REASONS.get(ending.reason, "")
    return OUTCOMES[ending.outcome] + (f": {reason}" if reason else "")


def _frames(trace: Trace) -> list[Frame]:
    exact = len(trace.steps) <= EXACT
    frames = [_frame(trace, step, exact=exact) for step in trace.steps]
    if trace.ending is not None or trace.last_look is not None:
        # After `Finished` nobody looks again: it still is what was seen then.
        last = next((trace.folder / step.screenshot for step in reversed(trace.steps) if step.screenshot), None)
        picture, thumbnail, lost, size = _pictures(trace.last_look or last, exact=exact)
        short = "so far" if trace.ending is None else OUTCOMES[trace.ending.outcome].lower()
        frames.append(Frame("end", "The end", short, "", picture, thumbnail, lost, size))
    return frames


def _frame(trace: Trace, step: Step, *, exact: bool) -> Frame:
    seen = None if step.screenshot is None else trace.folder / step.screenshot
    picture, thumbnail, lost, size = _pictures(seen, exact=exact)
    size = size if step.size == (0, 0) else step.size
    decided = () if step.decision is None else step.decision.actions
    # What was not come to, as one before it failed or the run ended, has no verdict.
    attempts = [*step.attempts, *decided[len(step.attempts) :]]
    correction = trace.corrections.get(step.number)
    deeds = tuple(_deeds(attempts, size))
    verdicts = [deed.verdict for deed in deeds if deed.verdict]
    return Frame(
        f"step-{step.number}",
        f"Step {step.number}",
        deeds[0].text if deeds else "no decision",
        max(verdicts, key=VERDICTS.index) if verdicts else "",
        picture,
        thumbnail,
        lost,
        size,
        deeds,
        () if correction is None else tuple(_deeds(correction.actions, size)),
        correction,
        step,
        _between(trace.started_at, step.at),
    )


def _deeds(actions: Iterable[Any], size: tuple[int, int]) -> Iterable[Deed]:
    actions = tuple(actions)
    for index, item in enumerate(actions, start=1):
        attempt = item if isinstance(item, Attempt) else None
        action = item if attempt is None else attempt.action
        drawn = shapes(action, size, number=index if len(actions) > 1 else None)
        verdict, note, seconds = ("", "", 0.0) if attempt is None else (attempt.verdict, attempt.note, attempt.seconds)
        yield Deed(said(action), drawn, strokes(action), verdict, note, seconds)


def _pictures(path: Path | None, *, exact: bool) -> tuple[str | None, str | None, str, tuple[int, int]]:
    """The picture and its thumbnail as data URIs, or why there are none, and its size."""
    from PIL import Image

    if path is None:
        return None, None, "The screen was not seen.", (16, 10)
    try:
        with Image.open(path, formats=["PNG"]) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None, None, "The picture is missing or damaged.", (16, 10)
    size = image.size
    thumbnail = image.copy()
    thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    if exact:
        whole = _webp(image, lossless=True, quality=20, method=1)
    else:
        image.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
        whole = _webp(image, quality=80, method=2)
    return whole, _webp(thumbnail, quality=75, method=2), "", size


def _webp(image: "Image.Image", **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return data_uri(buffer.getvalue(), "webp")


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def _between(began: str, at: str) -> float | None:
    try:
        return (datetime.fromisoformat(at) - datetime.fromisoformat(began)).total_seconds()
    except (ValueError, TypeError):  # no times, or one of them without a zone
        return None


def _seconds(seconds: float) -> str:
    """A duration for people.

    >>> _seconds(0.04), _seconds(3.21), _seconds(75), _seconds(4000)
    ('40 ms', '3.2 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds < 59.95:
        return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _number(value: int) -> str:
    return f"{value:,}"
