"""A model asked for the point of every target; what it answered is kept line by line, so that a run goes on."""

import json
import os
import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from visavis.errors import InputError, ReplyError
from visavis.gui._files import append, whole_lines
from visavis.gui.actions import Action, Click, LongPress, Move, Point
from visavis.gui.bench._patience import decide
from visavis.gui.bench.grounding.targets import Target
from visavis.gui.model import Context, Decision, Model
from visavis.gui.screen import Screenshot

__all__ = ["Hit", "Middle", "Share", "play", "shares"]

SIDES_PX = (16, 32, 64)  # where targets begin to count as larger


@dataclass(frozen=True, slots=True)
class Hit:
    """What became of one target."""

    instruction: str
    image: str
    point: Point | None  # None: the model gave none
    inside: bool
    problem: str = ""  # why there is no point
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a group were hit, with the ends of Wilson's 95 % interval."""

    hits: int
    targets: int
    low: float
    high: float


class Middle:
    """A model that looks at nothing and points at the middle: what every other has to beat."""

    name = "middle"

    def decide(self, context: Context) -> Decision:
        width, height = context.screenshot.size
        return Decision("", "", (Click((width // 2, height // 2)),))


def play(
    model: Model,
    targets: Sequence[Target],
    *,
    output: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Hit]:
    """Ask for every target once.

    A reply that does not parse, or whose first action has no point, is a miss. An endpoint that fails for a moment is
    asked again.

    Args:
        model: any; what it decides is not performed.
        targets: as `load` gives them.
        output: a file of JSON lines. What is in it already is not asked again.
        progress: called with how many are done, and of how many.

    Raises:
        EndpointError: the endpoint goes on failing. What was answered before is in `output`.
        InputError: `output` is of other targets, or a picture cannot be read.
    """
    path = Path(output) if output is not None else None
    hits = _kept(path, targets, model.name) if path else []
    for target in targets[len(hits) :]:
        hits.append(_hit(model, target))
        if path:
            append(path, json.dumps({"model": model.name, **asdict(hits[-1])}).encode() + b"\n")
        if progress:
            progress(len(hits), len(targets))
    return hits


def _kept(path: Path, targets: Sequence[Target], model: str) -> list[Hit]:
    """What a run before this one has left, a line cut off by a kill excepted."""
    hits, models = [], {model}
    try:
        for line in whole_lines(path):
            entry = dict(json.loads(line))
            models.add(entry.pop("model"))
            hits.append(Hit(**entry | {"point": tuple(entry["point"]) if entry["point"] else None}))
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: expected lines of an earlier run; name another file") from None
    asked = [(target.instruction, target.image.name) for target in targets[: len(hits)]]
    if [(hit.instruction, hit.image) for hit in hits] != asked or models != {model}:
        raise InputError(f"{path}: expected answers of {model} to these targets, got others; name another file")
    return hits


def _hit(model: Model, target: Target) -> Hit:
    context = Context(target.instruction, _look(target.image))
    start = time.perf_counter()
    point, problem = None, ""
    try:
        point = _point(decide(model, context).actions[0])
        problem = "" if point else "the action has no point"
    except ReplyError as error:
        problem = str(error)
    left, top, right, bottom = target.box_xyxy_px
    inside = point is not None and left <= point[0] <= right and top <= point[1] <= bottom
    seconds = round(time.perf_counter() - start, 3)
    return Hit(target.instruction, target.image.name, point, inside, problem, seconds)


def _look(image: Path) -> Screenshot:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(image) as picture:
            return Screenshot(np.asarray(picture.convert("RGB")))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{image}: expected a picture; {error}") from None


def _point(action: Action) -> Point | None:
    return action.point if isinstance(action, Click | LongPress | Move) else None


def shares(targets: Sequence[Target], hits: Sequence[Hit]) -> dict[str, Share]:
    """The share of targets hit: of all, by kind, by source and by the shorter side of the box, in that order.

    Raises:
        InputError: not one hit a target.
    """
    from visavis.blocks.approximation.intervals import wilson

    if len(targets) != len(hits) or not targets:
        raise InputError(f"hits: expected one for each of {len(targets)} targets, got {len(hits)}")
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    groups["all"] = [hit.inside for hit in hits]
    for name, group in (
        ("kind", lambda target: target.kind),
        ("source", lambda target: target.source),
        ("side", lambda target: _side(target.side_px)),
    ):
        found = sorted(zip(targets, hits, strict=True), key=lambda pair: group(pair[0]))
        for target, hit in found:
            if group(target):
                groups[f"{name}: {group(target)}"].append(hit.inside)
    return {
        name: Share(sum(inside), len(inside), *wilson(sum(inside) / len(inside), len(inside)))
        for name, inside in groups.items()
    }


def _side(side_px: float) -> str:
    """A class of size, by a name that sorts."""
    limits = [0, *SIDES_PX]
    at = bisect(limits, side_px) - 1
    return f"{limits[at]:02} px and more" if at == len(SIDES_PX) else f"{limits[at]:02} to {limits[at + 1]} px"
