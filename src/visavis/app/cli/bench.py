"""``visavis gui bench``: how good a model is at using screens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from visavis.app.cli.endpoints import DIALECT, ENDPOINT, MODEL, Endpoint, ModelName, Spoken, remote_model
from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable, progress

if TYPE_CHECKING:
    from rich.table import Table

    from visavis.gui.bench.miniwob import Results

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure how good a model is at using screens.")


@app.command("miniwob")
def _miniwob(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report; made when absent.")],
    player: Annotated[
        Literal["endpoint", "oracles"],
        typer.Option("--player", help="A model that is served, or scripts that read the pages."),
    ] = "endpoint",
    endpoint: Endpoint = ENDPOINT,
    model: ModelName = MODEL,
    dialect: Spoken = DIALECT,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", help="Names with commas between; when not given, all there are.", show_default=False),
    ] = None,
    episodes: Annotated[int, typer.Option("--episodes", help="Of each task.", min=1)] = 100,
    steps: Annotated[int, typer.Option("--steps", help="Actions after which an episode is given up.", min=1)] = 50,
    frames: Annotated[int, typer.Option("--frames", help="Tasks played at a time in one browser.", min=1)] = 16,
    at_once: Annotated[int, typer.Option("--at-once", help="Questions the endpoint is asked at a time.", min=1)] = 4,
    workers: Annotated[int, typer.Option("--workers", help="Browsers, each in a process of its own.", min=1)] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Let the machines of a Ray cluster play.")] = False,
    json: Json = False,
) -> None:
    """Play the 128 tasks of MiniWoB++ from screenshots, always the same episodes.

    Writes report.html, to look at, and report.json. Stop it at any time: what was played is kept in the folder, and the
    next run goes on.
    """
    from json import dumps

    from rich.console import Group

    from visavis.app.bench_page import write_bench_page
    from visavis.app.report import draft_of
    from visavis.errors import InputError
    from visavis.gui.bench.miniwob import TASKS, ModelPlayer, OraclePlayer, run
    from visavis.gui.bench.miniwob.oracles import ORACLES

    if output.exists() and not output.is_dir():
        raise InputError(f"output: expected a folder, or a new name for one, got the file {str(output)!r}")
    every = tuple(ORACLES) if player == "oracles" else TASKS
    chosen = sorted(every) if tasks is None else [name.strip() for name in tasks.split(",")]
    playing = (
        OraclePlayer()
        if player == "oracles"
        else ModelPlayer(remote_model(endpoint, model, dialect, None), at_once=at_once)
    )
    output.mkdir(parents=True, exist_ok=True)
    with progress("episodes") as report:
        results = run(
            playing,
            chosen,
            episodes=episodes,
            frames=frames,
            steps=steps,
            workers=workers,
            ray=ray,
            output=output / "played.jsonl",
            progress=report,
        )
    page = output / "report.html"
    write_bench_page(results, page)
    value = results.to_json()
    with draft_of(output / "report.json") as draft:
        draft.write_text(dumps(value, indent=1) + "\n", encoding="utf-8")
    emit({"report": page, **value}, as_json=json, text=Group(_table(results), f"page: {printable(page)}"))


def _table(results: "Results") -> "Table":
    """A row a task, and all together."""
    from rich.table import Table

    table = Table("task", "won", "success", "95 % interval", box=None)
    rows = [(task.task, f"{task.wins} of {task.episodes}", task.success, task.low, task.high) for task in results.tasks]
    for name, won, success, low, high in [*rows, ("all", "", results.success, results.low, results.high)]:
        table.add_row(name, won, f"{100 * success:.1f} %", f"{100 * low:.1f} % to {100 * high:.1f} %")
    return table
