"""``visavis face adapt`` and ``visavis face distill``: a model of one's own out of one that exists."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from visavis.app.cli.opening import Json
from visavis.app.cli.training import Backbone, Loss, fit_name, make_margin, make_network, next_commands
from visavis.app.output import emit, printable

__all__ = ["app"]

app = typer.Typer()

_Cache = Annotated[
    Path | None, typer.Option(help="Where cut faces are kept; OUT/crops when not given.", show_default=False)
]
_Workers = Annotated[
    int | None, typer.Option(help="Processes that cut them; as many as pay.", min=1, show_default=False)
]
_SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out photos and people that cannot be used.")]
_Accept = Annotated[bool, typer.Option("--accept-licence", help="Take weights that are for research only.")]
_Name = Annotated[str | None, typer.Option(help="Of the model; OUT's when not given.", show_default=False)]
_Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; made when absent.")]
_Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]


@app.command("adapt")
def _adapt(
    data: Annotated[Path, typer.Argument(help="A folder with a sub-folder of photos for each person, or a gallery.")],
    out: _Out,
    pack: Annotated[str, typer.Option("--pack", help="What to adapt: default, fast, or a TOML.")] = "default",
    layers: Annotated[
        Literal["whitened", "head", "linear", "gated"],
        typer.Option(help="What is learned; all but whitened by steps, and by a loss."),
    ] = "whitened",
    shrinkage: Annotated[float, typer.Option(help="Of whitened: the larger, the less is changed.")] = 10.0,
    loss: Annotated[Loss, typer.Option(help="What layers that take steps learn by.")] = "arcface",
    margin: Annotated[
        float | None, typer.Option(help="Its margin; the paper's when not given.", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(help="How many, at most.")] = 1000,
    held_out: Annotated[float, typer.Option(help="Share of the people who decide whether it helped.")] = 0.2,
    skip_bad: _SkipBad = False,
    cache: _Cache = None,
    workers: _Workers = None,
    accept_licence: _Accept = False,
    seed: _Seed = 0,
    name: _Name = None,
    json: Json = False,
) -> None:
    """Adapt a model to photos of people you know.

    Its network stays as it is; a layer behind it learns what changes in a face when the head turns, from some hundred
    people in minutes. People held out tell whether that helped. If so, OUT/NAME.toml is a pack for all other commands;
    if not, nothing is written, and the command exits with 1.
    """
    from visavis.face.models import load_pack
    from visavis.face.train.adapt import AdaptConfig, adapt
    from visavis.face.train.data import crops
    from visavis.face.train.export import described
    from visavis.face.train.frozen import template_of

    models, config = (
        load_pack(pack),
        AdaptConfig(layers=layers, shrinkage=shrinkage, steps=steps, held_out=held_out, seed=seed),
    )
    named = name or fit_name(out.absolute().name)
    described(name=named, licence=models.embedder.licence)
    asked = make_margin(loss, margin)
    with _stages() as progress:
        faces = crops(
            data,
            models,
            cache=cache or out / "crops",
            size=models.embedder.input.width or 0,
            template=template_of(models.embedder),
            skip_bad=skip_bad,
            workers=workers,
            accept_licence=accept_licence,
            progress=lambda done, total: progress("photos cut", done, total),
        )
        done = adapt(
            config,
            faces,
            models,
            asked,
            out,
            name=named,
            normalize=loss != "softmax",
            accept_licence=accept_licence,
            progress=progress,
        )
    before, after = done.learned.before, done.learned.after
    value = {
        "pack": done.exported and done.exported.pack,
        "people": len(faces.people),
        "photos": len(faces),
        "before": before,
        "after": after,
        "looks": done.learned.looks,
        "skipped": [{"path": path, "reason": reason} for path, reason in faces.skipped],
    }
    lines = [f"skipped {printable(path)}: {printable(reason)}" for path, reason in faces.skipped]
    told = "{:.1f} % of the pairs of one person are accepted where 1 % of those of two are".format
    lines.append(f"Of the people held out, {told(100 * before['TAR at FAR 1e-2'])}, as the model is.")
    if done.exported is None:
        best = max((look["TAR at FAR 1e-2"] for look in done.learned.looks[1:]), default=0.0)
        lines.append(f"Adapted, {100 * best:.1f} % at best: no better, so no model was written.")
        lines.append("More people, or a larger --shrinkage, may help.")
    else:
        lines.append(f"Adapted, {told(100 * after['TAR at FAR 1e-2'])}.")
        lines += next_commands(done.exported, out)
    emit(value, as_json=json, text="\n".join(lines))
    raise typer.Exit(0 if done.exported else 1)


@app.command("distill")
def _distill(
    photos: Annotated[Path, typer.Argument(help="A folder of photos of anybody, the more the better.")],
    out: _Out,
    pack: Annotated[str, typer.Option("--pack", help="The teacher: default, fast, or a TOML.")] = "default",
    backbone: Annotated[Backbone, typer.Option(help="The student.")] = "mobilefacenet",
    width: Annotated[float, typer.Option(help="A factor on its channels: 0.25 trains on a laptop.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of the student's crop, px.")] = 112,
    epochs: Annotated[float, typer.Option(help="Times that each face is seen.")] = 20.0,
    batch: Annotated[int, typer.Option(help="Faces of a step.")] = 64,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    skip_bad: _SkipBad = False,
    cache: _Cache = None,
    workers: _Workers = None,
    accept_licence: _Accept = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, by the same options.")] = False,
    seed: _Seed = 0,
    name: _Name = None,
    json: Json = False,
) -> None:
    """Teach a small network to do what a larger one does.

    No names are needed: every face found in the photos is embedded by the teacher once, and the student learns to
    say the same. OUT/NAME.toml is a pack for all other commands. Stop it at any time: --resume goes on from the last
    checkpoint.
    """
    import torch

    from visavis.face.embed import Embedder
    from visavis.face.models import load_pack, pull
    from visavis.face.train.data import crops
    from visavis.face.train.distill import DistillConfig, border_for, distill
    from visavis.face.train.export import described
    from visavis.face.train.frozen import template_of

    models = load_pack(pack)
    config = DistillConfig(epochs=epochs, batch=batch, lr=lr, seed=seed)
    named = name or fit_name(out.absolute().name)
    described(name=named, licence=models.embedder.licence)
    teacher = Embedder(models.embedder, pull(models.embedder, accept_licence=accept_licence))
    torch.manual_seed(seed)
    student = make_network(backbone, teacher.dim, width)(size)
    with _stages() as progress:
        faces = crops(
            photos,
            models,
            cache=cache or out / "crops",
            size=models.embedder.input.width or 0,
            border=border_for(models, size=size),
            template=template_of(models.embedder),
            labelled=False,
            skip_bad=skip_bad,
            workers=workers,
            accept_licence=accept_licence,
            progress=lambda done, total: progress("photos cut", done, total),
        )
        done = distill(
            config,
            faces,
            models,
            student,
            out,
            size=size,
            name=named,
            resume=resume,
            accept_licence=accept_licence,
            progress=progress,
        )
    value = {
        "pack": done.exported.pack,
        "faces": len(faces),
        "steps": done.steps,
        "cosine": done.cosine,
        "skipped": [{"path": path, "reason": reason} for path, reason in faces.skipped],
    }
    lines = [f"skipped {printable(path)}: {printable(reason)}" for path, reason in faces.skipped]
    lines.append(
        f"{len(faces)} faces, {done.steps} steps; on faces held out the cosine of student and teacher is "
        f"{done.cosine:.3f}."
    )
    emit(value, as_json=json, text="\n".join([*lines, *next_commands(done.exported, out)]))


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on standard error for each stage, when that is a terminal."""
    from rich import progress as bar
    from rich.console import Console

    with bar.Progress(
        bar.TextColumn("{task.description}", markup=False),
        bar.BarColumn(),
        bar.MofNCompleteColumn(),
        bar.TimeRemainingColumn(),
        console=Console(stderr=True, emoji=False),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bars:
        tasks: dict[str, bar.TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
