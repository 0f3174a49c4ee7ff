"""``visavis gui bench``: how good a model is at using screens."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from visavis.app.cli.endpoints import (
    DIALECT,
    ENDPOINT,
    MODEL,
    ApiKey,
    Endpoint,
    ModelName,
    Pointing,
    Spoken,
    remote_model,
)
from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable, progress

if TYPE_CHECKING:
    from rich.table import Table

    from visavis.gui.bench.grounding import Share
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
    api_key: ApiKey = None,
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
    from visavis.app.files import draft_of
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
        else ModelPlayer(remote_model(endpoint, model, dialect, api_key), at_once=at_once)
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


@app.command("grounding")
def _grounding(
    file: Annotated[Path, typer.Argument(help="A set: a JSON list in the form of ScreenSpot.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of JSON lines for the answers; one that is there goes on.")
    ],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of the set's pictures; when not given, beside it.", show_default=False),
    ] = None,
    player: Annotated[
        Literal["endpoint", "middle"],
        typer.Option("--player", help="A model that is served, or the middle of every picture."),
    ] = "endpoint",
    endpoint: Endpoint = ENDPOINT,
    model: ModelName = MODEL,
    dialect: Annotated[Pointing, typer.Option("--dialect", help="How the model is spoken with.")] = "grounding",
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Ask for the point of every target of a set, and tell how many lie in the right box.

    Stop it at any time: what was answered is kept, and the next run goes on.
    """
    from dataclasses import asdict

    from visavis.gui.bench.grounding import Middle, load, play, shares

    targets = load(file, images=images)
    asked = Middle() if player == "middle" else remote_model(endpoint, model, dialect, api_key)
    with progress("targets") as report:
        hits = play(asked, targets, output=output, progress=report)
    groups = shares(targets, hits)
    value = {
        "answers": output,
        "model": asked.name,
        "without_point": sum(hit.point is None for hit in hits),
        "shares": {name: {"share": share.hits / share.targets, **asdict(share)} for name, share in groups.items()},
    }
    emit(value, as_json=json, text=_shares_table(groups))


@app.command("targets")
def _targets(
    folders: Annotated[list[Path], typer.Argument(help="Folders with HTML files, as unpacked npm packages.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for targets.json and its pictures.")],
    viewports: Annotated[
        list[str] | None,
        typer.Option(
            "--viewport",
            help="Width and height of a window and its scale factor, as 1280x800@2; may be given again. When not "
            "given, desktops and a phone.",
            show_default=False,
        ),
    ] = None,
    per_page: Annotated[int, typer.Option("--per-page", help="Targets of a page at most.", min=1)] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The same gives the same set.")] = 0,
    json: Json = False,
) -> None:
    """Make a set for `grounding` of web pages, which are opened in a Chromium that reaches nothing else.

    Fetch pages by `npm pack PACKAGE` and `tar xf`, for one. The set is there whole or not at all.
    """
    from visavis.gui.bench.grounding import VIEWPORTS, generate

    windows = VIEWPORTS if viewports is None else [_viewport(text) for text in viewports]
    with progress("pages") as report:
        made = generate(folders, output, viewports=windows, per_page=per_page, seed=seed, progress=report)
    pictures = len({target.image for target in made})
    file = output / "targets.json"
    value = {"file": file, "targets": len(made), "pictures": pictures}
    emit(value, as_json=json, text=f"{printable(file)}: {len(made)} targets in {pictures} pictures")


def _viewport(text: str) -> tuple[int, int, float]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})(?:@(\d(?:\.\d+)?))?", text, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"expected 1280x800 or 1280x800@2, got {text!r}", param_hint="--viewport")
    return int(found[1]), int(found[2]), float(found[3] or 1)


def _shares_table(groups: "dict[str, Share]") -> "Table":
    """A row a group of targets."""
    from rich.table import Table

    table = Table("targets", "hit", "share", "95 % interval", box=None)
    for name, share in groups.items():
        table.add_row(
            printable(name),
            f"{share.hits:,} of {share.targets:,}",
            f"{100 * share.hits / share.targets:.1f} %",
            f"{100 * share.low:.1f} % to {100 * share.high:.1f} %",
        )
    return table


def _table(results: "Results") -> "Table":
    """A row a task, and all together."""
    from rich.table import Table

    table = Table("task", "won", "success", "95 % interval", box=None)
    rows = [(task.task, f"{task.wins} of {task.episodes}", task.success, task.low, task.high) for task in results.tasks]
    for name, won, success, low, high in [*rows, ("all", "", results.success, results.low, results.high)]:
        table.add_row(name, won, f"{100 * success:.1f} %", f"{100 * low:.1f} % to {100 * high:.1f} %")
    return table
