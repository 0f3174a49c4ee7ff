"""The page of an inspection: one file with everything in it, its charts drawn in SVG, no script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from visavis import __version__
from visavis.app.files import draft_of
from visavis.app.inspecting import Inspection, Row, amount, field_text, marks_text, memory, shape_text
from visavis.app.output import printable
from visavis.app.report import templates

__all__ = ["Bar", "Chart", "write_page"]

WIDTH, HEIGHT = 600, 130  # of a chart, in units of its own
BARS = 250  # of a chart at most; with more layers, modules are bars
LETTER = 6.5  # the width of one below a chart


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    height: float
    title: str  # shown when the pointer rests on it
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar a layer, in the order of execution.

    Attributes:
        line: the height of a line across, with what it says.
        parts: where the parts of the network begin, with their names where there is room.
    """

    title: str
    top: str
    bars: list[Bar]
    line: tuple[float, str] | None
    parts: list[tuple[float, str]]


def write_page(found: Inspection, path: Path, *, depth: int) -> None:
    """Write the page, whole or not at all.

    Args:
        found: from `examine`.
        path: the file; its folder exists.
        depth: of the first table; another one holds every layer.
    """
    environment = templates(
        amount=amount,
        memory=memory,
        field=field_text,
        shape=shape_text,
        printable=printable,
        stride=_stride,
        marks=marks_text,
    )
    page = environment.get_template("inspection.html").render(
        found=found,
        version=__version__,
        charts=_charts(found),
        short=found.shown(depth),
        every=[row for row in found.rows if row.name],
        width=WIDTH,
        height=HEIGHT,
    )
    with draft_of(path, private=False) as draft:
        draft.write_text(page, encoding="utf-8")


def _stride(row: Row) -> str:
    steps = set(row.stride)
    return f"{steps.pop():g}" if len(steps) == 1 and None not in steps else "-"


def _charts(found: Inspection) -> list[Chart]:
    deepest = max(row.depth for row in found.rows)
    leaves = [row for row in found.shown(deepest) if row.calls]
    rows = leaves if len(leaves) <= BARS else [row for row in found.shown(found.depth_for(BARS)) if row.calls]
    costs: list[tuple[str, Callable[[Row], int], Callable[[int], str]]] = [
        ("FLOPs", lambda row: row.flops, amount),
        ("Parameters", lambda row: row.parameters, amount),
        ("Saved for backward", lambda row: row.saved_bytes or 0, memory),
    ]
    charts = []
    for title, cost, text in costs:
        top = max(map(cost, rows), default=0)
        if top:
            shares = [(cost(row) / top, text(cost(row)), False) for row in rows]
            charts.append(Chart(title, text(top), _bars(rows, shares), None, _parts(rows)))
    length = max(found.input_shape[1:])
    seen = [max((size for size in row.field if size is not None), default=1) for row in rows]
    top = max(*seen, length, 2) if seen else 2
    shares = [
        (
            1.0 if None in row.field else math.log2(1 + size) / math.log2(1 + top),
            field_text(row.field),
            None in row.field,
        )
        for row, size in zip(rows, seen, strict=True)
    ]
    line = (math.log2(1 + length) / math.log2(1 + top), f"the image, {length}")
    charts.append(Chart("Receptive field, logarithmic", f"{top} px", _bars(rows, shares), line, _parts(rows)))
    return charts


def _bars(rows: Sequence[Row], shares: Sequence[tuple[float, str, bool]]) -> list[Bar]:
    step = WIDTH / max(len(rows), 1)
    return [
        Bar(number * step, 0.85 * step, share * HEIGHT, printable(f"{row.name or row.kind}: {text}"), whole)
        for number, (row, (share, text, whole)) in enumerate(zip(rows, shares, strict=True))
    ]


def _parts(rows: Sequence[Row]) -> list[tuple[float, str]]:
    step, at, parts = WIDTH / max(len(rows), 1), 0, []
    for name, inside in groupby(rows, key=lambda row: row.name.partition(".")[0]):
        count = len(list(inside))
        text = printable(name)
        parts.append((at * step, text if LETTER * len(text) < count * step else ""))
        at += count
    return parts
