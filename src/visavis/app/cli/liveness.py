"""``visavis face liveness``: were the faces of photos before the camera, or on paper or a screen."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable, progress

if TYPE_CHECKING:
    from visavis.face import records, wire

__all__ = ["Judged", "app", "in_words"]

app = typer.Typer()

Judged = Annotated[
    bool, typer.Option("--liveness", help="Judge, too, whether each face was before the camera: a hint, no proof.")
]


@app.command("liveness")
def _liveness(
    photos: Annotated[list[Path], typer.Argument(help="Photos whose faces are judged.")],
    pack: Annotated[str, typer.Option("--pack", help="default, fast, or a TOML of your own.")] = "default",
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take weights that are for research only.")
    ] = False,
    json: Json = False,
) -> None:
    """Judge whether faces were before the camera, or on paper or a screen.

    A hint, no proof: how often it is wrong is in the guide, for drawn attacks, and no photo can prove life. Exits with
    1 when a face is judged not live or too small to tell, or none was found, and with 3 when a photo could not be read.
    """
    from rich.table import Table

    from visavis.errors import PhotoError
    from visavis.face.analyze import Analyzer
    from visavis.face.liveness import Liveness
    from visavis.face.models import load_pack
    from visavis.face.records import Face
    from visavis.face.wire import Seen
    from visavis.face.workers import AnalysisOptions, cores

    loaded, options = load_pack(pack), AnalysisOptions()
    judge = Liveness(loaded, threads=cores(), accept_licence=accept_licence)
    analyzer = Analyzer(loaded, threads=cores(), accept_licence=accept_licence)
    table = Table("photo", "box", "live", "score", box=None)
    values: list[dict[str, Any]] = []
    certain = True
    with progress("photos") as report_progress:
        for done, photo in enumerate(photos):
            report_progress(done, len(photos))
            try:
                decoded = options.read(photo)
            except PhotoError as error:
                values.append({"photo": photo, "error": str(error)})
                table.add_row(printable(photo), "-", f"not read: {printable(str(error))}", "")
                continue
            [faces] = options.analyze(analyzer, [decoded])
            answers = judge.of_photo(decoded, [face.detection for face in faces])
            certain &= bool(faces) and all(answer.live for answer in answers)
            for face, live in zip(faces, answers, strict=True):
                found = Face(None, decoded.photo, face.detection, face.quality, face.embedding, None, live)
                values.append({"photo": photo, **asdict(Seen.of(found))})
                box = " ".join(str(round(value)) for value in values[-1]["box_xyxy_px"])
                table.add_row(printable(photo), box, *in_words(live))
            if not faces:
                table.add_row(printable(photo), "-", "no face", "")
    emit(values, as_json=json, text=table)
    if any("error" in value for value in values):
        raise typer.Exit(3)
    raise typer.Exit(0 if certain else 1)


def in_words(answer: "records.Live | wire.Live") -> tuple[str, str]:
    """Whether a face is live, and its score, for people to read."""
    if answer.score is None:
        return "too small to tell", ""
    return "yes" if answer.live else "no", f"{answer.score:.2f}"
