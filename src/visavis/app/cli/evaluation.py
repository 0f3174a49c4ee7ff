"""``visavis face evaluate``: how good models are on a data set."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable, progress

__all__ = ["app"]

app = typer.Typer()


@app.command("evaluate")
def _evaluate(
    data: Annotated[Path, typer.Argument(help="The data set: a folder, or its list of pairs or templates.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report; made when absent.")],
    pack: Annotated[str, typer.Option("--pack", help="default, fast, or a TOML of your own.")] = "default",
    protocol: Annotated[
        Literal["auto", "lfw", "cfp", "ijb", "folder"],
        typer.Option("--protocol", help="What DATA is; auto: what it looks like."),
    ] = "auto",
    groups: Annotated[
        Path | None,
        typer.Option("--groups", help="A CSV with the columns person and group.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how well models tell people apart.

    DATA is LFW (a folder with pairs.txt), CFP (with Protocol and Data), an IJB-like CSV (template, person, media,
    path), or any folder with a sub-folder of photos for each person. Writes report.html, to look at, and report.json;
    every number comes with a 95 % interval. Stop it at any time: faces embedded so far are kept in the folder, for the
    owner alone, and the next run goes on. Exits with 1 when files could not be read; they count against the models.
    """
    import matplotlib as mpl  # noqa: F401 - where it is missing, better told now than after hours
    from rich.console import Group
    from rich.table import Table

    from visavis.app.evaluation import interval, share, write_evaluation
    from visavis.errors import InputError
    from visavis.face import evaluate
    from visavis.face.models import load_pack

    models = load_pack(pack)
    if output.exists() and not output.is_dir():
        raise InputError(f"output: expected a folder, or a new name for one, got the file {str(output)!r}")
    output.mkdir(parents=True, exist_ok=True)
    with progress("photos") as report_progress:
        found = evaluate.run(
            data,
            models,
            protocol=protocol,
            groups=groups,
            cache=output / "embeddings.sqlite3",
            progress=report_progress,
        )
    value = write_evaluation(found, output, pack=models, data=data)
    table = Table("", "measure", "value", "95 % interval", box=None)
    for report in found.verification:
        rows = [] if report.accuracy is None else [("accuracy", report.accuracy)]
        rows.append(("equal error rate", report.equal_error_rate))
        rows += [(f"TAR at FAR {point.far:g}", point.tar) for point in report.operating_points]
        for name, estimate in rows:
            table.add_row(printable(report.name), name, share(estimate.value), interval(estimate))
    for search in found.identification:
        rows = [("rank 1", search.cumulative_match[0])]
        rows += [(f"DIR at FAR {point.far:g}", point.rate) for point in search.open_set]
        for name, estimate in rows:
            table.add_row(printable(search.name), name, share(estimate.value), interval(estimate))
    below = [
        *(f"not read {printable(row['path'])}: {printable(row['reason'])}" for row in value["unreadable"]),
        f"{len(value['without_face'])} of {value['photos']} photos gave no face.",
        f"page: {printable(output / 'report.html')}",
    ]
    emit(_short(value, output), as_json=json, text=Group(table, *below))
    raise typer.Exit(1 if value["unreadable"] else 0)


def _short(value: dict[str, Any], output: Path) -> dict[str, Any]:
    """What report.json holds, without curves and pairs."""
    long = ("roc", "hardest_pairs_of_two_people", "hardest_pairs_of_one_person")
    lists = [{name: inner for name, inner in row.items() if name not in long} for row in value["verification"]]
    return {"report": output / "report.html", **value, "verification": lists}
