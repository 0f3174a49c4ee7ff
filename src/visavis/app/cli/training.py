"""``visavis face train``: a recogniser of one's own, from photos of known people."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from visavis.app.cli.opening import Json
from visavis.app.output import Report, emit, printable

if TYPE_CHECKING:
    from torch import nn

    from visavis.blocks.margins import Margin
    from visavis.face.train.export import Exported
    from visavis.face.train.run import Trained
    from visavis.face.train.trainer import Moment

__all__ = ["Backbone", "Loss", "app", "fit_name", "make_margin", "make_network", "next_commands"]

app = typer.Typer()


Backbone = Literal["mobilefacenet", "iresnet18", "iresnet34", "iresnet50", "iresnet100", "vit"]
Loss = Literal[
    "softmax",
    "normface",
    "sphereface",
    "sphereface-r",
    "cosface",
    "arcface",
    "li-arcface",
    "curricularface",
    "magface",
    "adaface",
    "elasticface",
    "circle",
]


@app.command("train")
def _train(
    data: Annotated[Path, typer.Argument(help="A folder with a sub-folder of photos for each person, or a gallery.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; made when absent.")],
    backbone: Annotated[Backbone, typer.Option(help="The network.")] = "mobilefacenet",
    width: Annotated[float, typer.Option(help="A factor on its channels: 0.25 trains on a laptop.")] = 1.0,
    dim: Annotated[int, typer.Option(help="Numbers of an embedding.")] = 256,
    size: Annotated[int, typer.Option(help="Side of a face's crop, px.")] = 112,
    loss: Annotated[Loss, typer.Option(help="What the network learns by.")] = "arcface",
    margin: Annotated[
        float | None,
        typer.Option(help="Its margin; the paper's when not given.", show_default=False),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Its gain; 64 when not given, 16 to 32 suit few people.", show_default=False),
    ] = None,
    subcenters: Annotated[int, typer.Option(help="Centres a person; 3 forgive photos under a wrong name.")] = 1,
    sample_rate: Annotated[
        float, typer.Option(help="Share of the people compared with in a step; 0.1 for millions.")
    ] = 1.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of the goal spread over all.")] = 0.0,
    tar: Annotated[
        float,
        typer.Option(help="Weight of 1 - TAR at a FAR of 1 %, made smooth; photos then come in pairs."),
    ] = 0.0,
    epochs: Annotated[float, typer.Option(help="Times that each photo is seen.")] = 30.0,
    batch: Annotated[int, typer.Option(help="Photos of a step.")] = 128,
    accumulate: Annotated[int, typer.Option(help="Parts to work a batch off in, where memory is short.")] = 1,
    optimizer: Annotated[Literal["sgd", "adamw"], typer.Option(help="How weights move.")] = "sgd",
    lr: Annotated[
        float | None,
        typer.Option(
            help="Highest learning rate; 0.1 for sgd and 0.001 for adamw when not given.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[Literal["cosine", "polynomial", "step"], typer.Option(help="How the rate falls.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Share of the run that it rises in.")] = 0.05,
    weight_decay: Annotated[float, typer.Option(help="Pull of the weights to 0.")] = 5e-4,
    ema: Annotated[float, typer.Option(help="Decay of a running mean of the weights, as 0.999; 0: none.")] = 0.0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    process: Annotated[
        float,
        typer.Option(help="Chance of a photo to be turned, lit, covered, blurred; slower."),
    ] = 0.0,
    held_out: Annotated[float, typer.Option(help="Share of the people kept apart to measure on.")] = 0.1,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out photos and people that cannot be used.")
    ] = False,
    pack: Annotated[
        str,
        typer.Option("--pack", help="Whose detector finds the faces: default, fast, or a TOML."),
    ] = "default",
    cache: Annotated[
        Path | None,
        typer.Option(help="Where cut faces are kept; OUT/crops when not given.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that cut them; as many as pay.", min=1, show_default=False),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take weights that are for research only.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, by the same options.")] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    checkpoint_every: Annotated[int, typer.Option(help="Steps that a kill may cost.")] = 200,
    name: Annotated[str | None, typer.Option(help="Of the model; OUT's when not given.", show_default=False)] = None,
    licence: Annotated[str, typer.Option(help="Of its weights; depends on the photos.")] = "not stated",
    json: Json = False,
) -> None:
    """Train a recogniser on photos of people you know.

    Faces are found and cut once, a network learns to tell the people apart, people kept out of it tell how well, and
    OUT/NAME.toml is a pack for all other commands. Watch OUT/curves.png, or `tensorboard --logdir OUT`. Stop it at any
    time, also by pulling the plug: --resume goes on from the last checkpoint, to the same result. Several processes, on
    one machine or many: `torchrun --nproc-per-node 2 -m visavis face train ...`. Exits with 130 when it was stopped.
    """
    from visavis.face.models import Licence, load_pack
    from visavis.face.train.config import TrainConfig
    from visavis.face.train.run import train_on
    from visavis.face.train.schedule import Schedule

    config = TrainConfig(
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        per_person=2 if tar else 0,
        scale=scale,
        sample_rate=sample_rate,
        subcenters=subcenters,
        label_smoothing=label_smoothing,
        tar_weight=tar,
        optimizer=optimizer,
        lr=lr if lr is not None else {"sgd": 0.1, "adamw": 0.001}[optimizer],
        weight_decay=weight_decay,
        schedule=Schedule(schedule, warmup=warmup),
        ema=ema,
        process=process,
        seed=seed,
        device=device,
        bf16=bf16,
        checkpoint_every=checkpoint_every,
    )
    with _live() as (photos, live):
        done = train_on(
            data,
            out,
            config,
            make_network(backbone, dim, width),
            make_margin(loss, margin),
            load_pack(pack),
            name=name or fit_name(out.absolute().name),
            licence=Licence(licence),
            size=size,
            held_out=held_out,
            normalize=loss != "softmax",
            cache=cache,
            skip_bad=skip_bad,
            resume=resume,
            workers=workers,
            accept_licence=accept_licence,
            photos_progress=photos,
            progress=live,
        )
    if done.process == 0:  # the first speaks for all
        emit(_told(done, out), as_json=json, text="\n".join(_lines(done, out)))
    raise typer.Exit(130 if done.result.stopped else 0)


def make_network(backbone: Backbone, dim: int, width: float) -> "Callable[[int], nn.Module]":
    """What makes the network for crops of so many px."""
    from visavis.face.train import backbones

    def make(size: int) -> "nn.Module":
        if backbone == "mobilefacenet":
            return backbones.mobilefacenet(dim=dim, width=width, size=size)
        if backbone == "vit":
            return backbones.vit(dim=dim, size=size, width=max(1, round(32 * width)) * 8)
        depths: dict[str, Literal[18, 34, 50, 100]]
        depths = {"iresnet18": 18, "iresnet34": 34, "iresnet50": 50, "iresnet100": 100}
        return backbones.iresnet(depths[backbone], dim=dim, width=width, size=size)

    return make


def make_margin(loss: Loss, margin: float | None) -> "Margin | None":
    """The margin of a loss, by its own value or the paper's; None: it has none."""
    from visavis.blocks import margins
    from visavis.errors import InputError

    kinds: dict[str, Callable[..., Margin]] = {
        "sphereface": margins.SphereFace,
        "sphereface-r": margins.SphereFaceR,
        "cosface": margins.CosFace,
        "arcface": margins.ArcFace,
        "li-arcface": margins.LiArcFace,
        "curricularface": margins.CurricularFace,
        "adaface": margins.AdaFace,
        "elasticface": margins.ElasticFace,
        "circle": margins.Circle,
    }
    if loss in kinds:
        return kinds[loss]() if margin is None else kinds[loss](int(margin) if loss == "sphereface" else margin)
    if margin is not None:
        raise InputError(f"margin: expected none with --loss {loss}, which has no one margin to set, got {margin}")
    return margins.MagFace() if loss == "magface" else None


def fit_name(name: str) -> str:
    """A folder's name as that of a model: lower-case letters, digits, dots, dashes."""
    fit = "".join(char if char.isascii() and (char.isalnum() or char in "-._") else "-" for char in name.lower())
    return fit.lstrip("-._") or "recogniser"


@contextmanager
def _live() -> "Iterator[tuple[Report, Callable[[Moment], None]]]":
    """Lines on standard error, when that is a terminal: how many photos are cut, and where the training is."""
    from rich import progress as bar
    from rich.console import Console

    with bar.Progress(
        bar.TextColumn("{task.description}", markup=False),
        bar.BarColumn(),
        bar.MofNCompleteColumn(),
        bar.TimeRemainingColumn(),
        bar.TextColumn("{task.fields[told]}", markup=False),
        console=Console(stderr=True, emoji=False),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bars:
        cutting = bars.add_task("photos", total=None, told="")
        training = bars.add_task("steps", total=None, told="", visible=False)
        measured = ""

        def show(moment: "Moment") -> None:
            nonlocal measured
            if moment.measured:
                measured = f"  people held out: TAR {_share(moment.measured['TAR at FAR 1e-2'])} at FAR 1 %"
            bars.update(cutting, visible=False)
            told = f"epoch {moment.epoch}  loss {moment.loss:.3f}  {moment.images_per_s:,.0f} photos/s{measured}"
            bars.update(training, completed=moment.step, total=moment.steps, told=told, visible=True)

        yield lambda done, total: bars.update(cutting, completed=done, total=total), show


def _share(counted: float) -> str:
    """A share that was counted, and so may be all."""
    return f"{100 * counted:.1f} %"


def _told(done: "Trained", out: Path) -> dict[str, Any]:
    result = done.result
    return {
        "out": out,
        "stopped": result.stopped,
        "steps": result.step,
        "people": {"learned": done.learned, "held_out": done.held_out},
        "photos": len(done.crops),
        "skipped": [{"path": path, "reason": reason} for path, reason in done.crops.skipped],
        "measured": result.measured,
        "pack": None if done.exported is None else done.exported.pack,
        "curves": out / "curves.png",
    }


def _lines(done: "Trained", out: Path) -> list[str]:
    result = done.result
    lines = [f"skipped {printable(path)}: {printable(reason)}" for path, reason in done.crops.skipped]
    lines.append(f"{len(done.crops)} photos of {done.learned} people learned from and {done.held_out} held out.")
    if result.measured:
        rates = {name: _share(value) for name, value in result.measured.items()}
        lines.append(
            f"Of the people held out, {rates['TAR at FAR 1e-2']} of the pairs of one person are accepted where 1 % of "
            f"those of two are, {rates['TAR at FAR 1e-3']} where 1 in 1,000 are."
        )
    lines.append(f"curves: {printable(out / 'curves.png')}")
    if done.exported is None:
        return [*lines, f"Stopped after {result.step} steps. To go on: the same command with --resume"]
    return [*lines, *next_commands(done.exported, out)]


def next_commands(exported: "Exported", out: Path) -> list[str]:
    """What a new pack is, and what to do with it."""
    pack = printable(exported.pack)
    return [
        f"pack:   {pack}",
        "",
        "Next, by photos of people it has not learned from (OTHERS, a sub-folder for each): what its similarities",
        "mean, and how good it is; then a gallery of its own:",
        f"  visavis face calibrate OTHERS --pack {pack} --output {printable(exported.pack.with_suffix('.json'))}",
        f"  visavis face evaluate OTHERS --pack {pack} --output {printable(out / 'evaluation')}",
        f"  visavis face index PHOTOS --pack {pack} --gallery {printable(out / 'gallery.visavis')}",
    ]
