"""The page of a run of MiniWoB++: one file with everything in it, no script."""

from pathlib import Path
from typing import TYPE_CHECKING

from visavis import __version__
from visavis.app.files import draft_of
from visavis.app.output import printable
from visavis.app.report import templates

if TYPE_CHECKING:
    from visavis.gui.bench.miniwob import Results

__all__ = ["write_bench_page"]


def write_bench_page(results: "Results", path: Path) -> None:
    """Write the page, whole or not at all; the tasks that were won least come first."""
    environment = templates(printable=printable, percent=_percent)
    page = environment.get_template("bench.html").render(
        results=results,
        tasks=sorted(results.tasks, key=lambda task: (task.success, task.task)),
        episodes=sum(task.episodes for task in results.tasks),
        bars=[(share, sum(task.success >= share for task in results.tasks)) for share in (0.5, 0.9, 0.98)],
        version=__version__,
    )
    with draft_of(path) as draft:
        draft.write_text(page, encoding="utf-8")


def _percent(share: float) -> str:
    """In percent with one decimal, as such results are told."""
    return f"{100 * share:.1f} %"
