"""How commands speak: an answer on standard output, progress on standard error.

Names of files and people are data: `printable` makes them safe to show, and no console here reads markup,
so that a photo named ``[red]`` is shown as that.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report", "emit", "percent", "printable", "progress", "rate"]

Report = Callable[[int, int | None], None]  # (done, total); total None: not known yet


def printable(text: str | PathLike[str]) -> str:
    r"""Text that a terminal shows and does not obey: what is not printable is written as its escape.

    That takes newlines, terminal commands, marks that turn the reading direction, and the undecodable bytes
    of file names alike.

    >>> print(printable("a\nb\x1b[2J"))
    a\nb\x1b[2J
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in fspath(text))


def emit(value: Any, *, as_json: bool, text: "RenderableType") -> None:
    """Print the answer of a command: `value` as one line of JSON, or `text` for a person.

    Paths, dates and the like become strings in JSON. It is ASCII, so that neither the terminal's encoding nor
    a file name that is no valid text can break it.
    """
    if as_json:
        print(json.dumps(value, default=str))  # noqa: T201 - this is the place that prints
    else:
        from rich.console import Console

        # No wrapping in a pipe: what reads lines there must find one entry on one line.
        width = None if sys.stdout.isatty() else 10_000
        Console(markup=False, emoji=False, highlight=False, width=width).print(text)


def percent(probability: float | None) -> str:
    """A probability for people, never told as certain.

    >>> percent(0.99999), percent(0.5), percent(None)
    ('99.99 %', '50 %', '-')
    """
    return "-" if probability is None else f"{100 * min(max(probability, 0.0001), 0.9999):.4g} %"


def rate(share: float | None) -> str:
    """A rare share for people; below one in a million nobody has measured it.

    >>> rate(0.25), rate(1 / 27123), rate(1e-8), rate(None)
    ('25 %', '1 in 27,000', 'under 1 in 1,000,000', '-')
    """
    if share is None:
        return "-"
    if share < 1e-6:
        return "under 1 in 1,000,000"
    return f"{100 * share:.2g} %" if share >= 0.01 else f"1 in {float(f'{1 / share:.2g}'):,.0f}"


@contextmanager
def progress(label: str, *, data: bool = False) -> Iterator[Report]:
    """A bar on standard error while the block runs, when that is a terminal; else nothing.

    Yields a function to call with how much is done and how much there is. `data`: these are
    bytes.
    """
    from rich import progress as bar
    from rich.console import Console

    amount = bar.DownloadColumn() if data else bar.MofNCompleteColumn()
    label_column = bar.TextColumn("{task.description}", markup=False)
    with bar.Progress(
        label_column,
        bar.BarColumn(),
        amount,
        bar.TimeRemainingColumn(),
        console=Console(stderr=True, emoji=False),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bars:
        task = bars.add_task(printable(label), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
