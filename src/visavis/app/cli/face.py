"""``visavis face``: the face-recognition system."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.app.cli import adaptation, evaluation, migration, models, people, training, vault, watching
from visavis.app.cli.keys import KeyFile
from visavis.app.cli.liveness import Judged, in_words
from visavis.app.cli.liveness import app as liveness_app
from visavis.app.cli.local import LocalSystem
from visavis.app.cli.opening import (
    GalleryFolder,
    Json,
    OwnPack,
    PackName,
    Rate,
    ServerUrl,
    TokenFile,
    ask_system,
    open_server,
    open_system,
)
from visavis.app.output import emit, percent, printable, progress, rate

if TYPE_CHECKING:
    from visavis.app.output import Report
    from visavis.face.client import FaceClient
    from visavis.face.indexing import IndexReport

__all__ = ["app"]

# \b keeps the lines of a paragraph as they are.
HELP = """Know the people in a folder of photos.

Index a folder, give the people it finds a name, then ask who is in other photos:

\b
    visavis face index ~/Photos
    visavis face report people.html
    visavis face name 3 Ada
    visavis face identify party.jpg

Photos stay where they are and are never changed. What is learned about them is kept in the gallery, a folder on this
computer; `forget` deletes what it holds of a person. With --server a gallery is asked that `visavis serve` has.
"""

app = typer.Typer(no_args_is_help=True, help=HELP)
app.add_typer(models.app, name="models")
app.add_typer(people.app)
app.add_typer(migration.app)
app.add_typer(vault.app)
app.add_typer(liveness_app)
app.add_typer(watching.app)
app.add_typer(training.app)
app.add_typer(adaptation.app)
app.add_typer(evaluation.app)


@app.command("index")
def _index(
    folders: Annotated[list[Path], typer.Argument(help="Folders of photos, or photos; of the server, with --server.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: PackName = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.", min=1)] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Let the machines of a Ray cluster look at the photos, which they see under the same paths: its "
            "HOST:PORT, ray://HOST:PORT, auto; or local.",
            show_default=False,
        ),
    ] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="Find small faces in large photos; slower.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out photos of a folder that is empty now; else they stay.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take weights that are for research only.")
    ] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Make the new gallery an encrypted one. A lost key is a lost gallery.")
    ] = False,
    json: Json = False,
) -> None:
    """Take in photos and sort their faces into people.

    Only new and changed photos are looked at; moved and deleted ones are noticed. Stop it at any time, a server's work
    too: what is done is kept, and the next run goes on. Exits with 1 when files were skipped; each is listed with the
    reason.
    """
    asked = open_server(
        server,
        token_file,
        gallery=gallery,
        pack=pack,
        workers=workers,
        ray=ray,
        tiles=tiles,
        accept_licence=accept_licence,
        key_file=key_file,
        encrypt=encrypt,
    )
    if asked is not None:
        with asked, progress("photos") as report_progress:
            done = _index_there(asked, folders, prune=prune, progress=report_progress)
            people, counts = asked.people(), asked.about()
    else:
        system = open_system(
            gallery,
            pack=pack,
            create=True,
            tiles=tiles,
            accept_licence=accept_licence,
            key_file=key_file,
            encrypt=encrypt,
        )
        with LocalSystem(system) as held:
            with progress("photos") as report_progress:
                done = system.index(*folders, workers=workers, ray=ray, prune=prune, progress=report_progress)
            people, counts = held.people(), held.about()
    with_faces = sum(person.faces > 0 for person in people)
    value = {
        **{name: getattr(done, name) for name in ("added", "changed", "known", "removed", "unchanged", "ignored")},
        "faces": done.faces,
        "skipped": [{"path": path, "reason": reason} for path, reason in done.skipped],
        "kept_missing": done.kept_missing,
        "gallery": {"photos": counts.photos, "faces": counts.faces, "people": with_faces},
    }
    lines = [
        (
            f"{done.added} photos added, {done.changed} changed, {done.known} moved or copied, {done.removed} removed, "
            f"{done.unchanged} unchanged; {done.faces} new faces"
        ),
        f"The gallery holds {counts.photos} photos with {counts.faces} faces of {with_faces} people.",
        *(
            f"{printable(folder)} is empty but held photos; they are kept, in case a disk is not mounted. "
            "To take them out: --prune"
            for folder in done.kept_missing
        ),
        *(f"skipped {printable(path)}: {printable(reason)}" for path, reason in done.skipped),
    ]
    emit(value, as_json=json, text="\n".join(lines))
    raise typer.Exit(1 if done.skipped or done.kept_missing else 0)


@app.command("enroll")
def _enroll(
    name: Annotated[str, typer.Argument(help="The person's name.")],
    photos: Annotated[list[Path], typer.Argument(help="Photos with that person's face, alone or clearly largest.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: PackName = None,
    json: Json = False,
) -> None:
    """Tell who is in photos.

    Their faces stay in the gallery, also when the photos go.
    """
    with ask_system(gallery, server, token_file, key_file=key_file, pack=pack, create=True) as faces:
        done = faces.enroll(name, photos)
    emit(asdict(done), as_json=json, text=f"{printable(name)}, person {done.person}, has {done.faces} faces.")


@app.command("identify")
def _identify(
    photos: Annotated[list[Path], typer.Argument(help="Photos to name the people in.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: OwnPack = None,
    false_match_rate: Rate = 1e-3,
    liveness: Judged = False,
    json: Json = False,
) -> None:
    """Tell who of the named people is in photos.

    Exits with 1 when nobody known was found, and with 3 when a photo could not be read; the others are answered.
    """
    from rich.table import Table

    from visavis.errors import PhotoError

    heads = ["photo", "box", "person", "probability", "strangers as near", *(["live", "score"] if liveness else [])]
    table = Table(*heads, box=None)
    values: list[dict[str, Any]] = []
    with (
        ask_system(gallery, server, token_file, key_file=key_file, pack=pack) as faces,
        progress("photos") as report_progress,
    ):
        for done, photo in enumerate(photos):
            report_progress(done, len(photos))
            try:
                found = faces.identify(photo, false_match_rate=false_match_rate, liveness=liveness)
            except PhotoError as error:
                values.append({"photo": photo, "error": str(error)})
                table.add_row(printable(photo), "-", f"not read: {printable(str(error))}")
                continue
            for one in found:
                values.append({"photo": photo, **asdict(one)})
                box = " ".join(str(round(value)) for value in one.box_xyxy_px)
                name = "unknown" if one.name is None else printable(one.name)
                live = in_words(one.liveness) if one.liveness else ()
                table.add_row(printable(photo), box, name, percent(one.probability), rate(one.false_match_rate), *live)
            if not found:
                table.add_row(printable(photo), "-", "no face")
    emit(values, as_json=json, text=table)
    if any("error" in value for value in values):
        raise typer.Exit(3)
    raise typer.Exit(0 if any(value["person"] is not None for value in values) else 1)


@app.command("verify")
def _verify(
    photo: Annotated[Path, typer.Argument(help="A photo.")],
    other: Annotated[Path, typer.Argument(help="Another photo.")],
    pack: Annotated[
        str | None, typer.Option("--pack", help="default, fast, or a TOML of your own; when not given, default.")
    ] = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    false_match_rate: Rate = 1e-3,
    liveness: Judged = False,
    json: Json = False,
) -> None:
    """Tell whether two photos show the same person.

    The largest face of each counts. Exits with 1 when not.
    """
    asked = open_server(server, token_file, pack=pack)
    if asked is not None:
        with asked:
            answer = asked.verify(photo, other, false_match_rate=false_match_rate, liveness=liveness)
    else:
        from visavis.face.analyze import Analyzer
        from visavis.face.liveness import Liveness
        from visavis.face.models import load_pack
        from visavis.face.system import verify
        from visavis.face.wire import Verified
        from visavis.face.workers import cores

        loaded = load_pack(pack or "default")
        analyzer = Analyzer(loaded, threads=cores())
        judge = Liveness(loaded, threads=cores()) if liveness else None
        answer = Verified.of(verify(photo, other, analyzer, false_match_rate=false_match_rate, liveness=judge))
    faces = [{"photo": path, **asdict(face)} for path, face in zip((photo, other), answer.faces, strict=True)]
    value = {**asdict(answer), "faces": faces}
    text = (
        f"{'the same person' if answer.same else 'not shown to be the same person'}: probability "
        f"{percent(answer.probability)}; of pairs of strangers {rate(answer.false_match_rate)} are as similar"
    )
    for path, face in zip((photo, other), answer.faces, strict=True):
        if face.liveness is not None:
            live, score = in_words(face.liveness)
            text += f"\n{printable(path)}: live: {live}" + (f" (score {score})" if score else "")
    emit(value, as_json=json, text=text)
    raise typer.Exit(0 if answer.same else 1)


@app.command("search")
def _search(
    photo: Annotated[Path, typer.Argument(help="A photo; its largest face is searched for.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: OwnPack = None,
    k: Annotated[int, typer.Option("-k", help="How many faces to list.", min=1)] = 20,
    json: Json = False,
) -> None:
    """List the faces most like the one in a photo."""
    from rich.table import Table

    with ask_system(gallery, server, token_file, key_file=key_file, pack=pack) as faces:
        hits = faces.search(photo, k=k)
    table = Table("face", "photo", "person", "probability", "strangers as near", box=None)
    values = []
    for hit in hits:
        values.append(
            {
                "face": hit.face.id,
                "photo": hit.face.path,
                "person": hit.face.person,
                "name": hit.face.name,
                "probability": hit.probability,
                "false_match_rate": hit.false_match_rate,
            }
        )
        table.add_row(
            str(hit.face.id),
            "(gone)" if hit.face.path is None else printable(hit.face.path),
            _who(hit.face.person, hit.face.name),
            percent(hit.probability),
            rate(hit.false_match_rate),
        )
    emit(values, as_json=json, text=table)


@app.command("cluster")
def _cluster(
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: OwnPack = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="First take apart what was sorted by itself; what you said stays.")
    ] = False,
    json: Json = False,
) -> None:
    """Sort the faces into people. `index` does this by itself."""
    with ask_system(gallery, server, token_file, key_file=key_file, pack=pack) as faces:
        report = faces.cluster(fresh=fresh)
    text = f"{report.people} people, {report.new} of them new; {report.placed} faces placed, {report.alone} alone."
    emit(asdict(report), as_json=json, text=text)


@app.command("calibrate")
def _calibrate(
    folder: Annotated[Path, typer.Argument(help="A folder with a sub-folder of photos for each of many people.")],
    pack: Annotated[str, typer.Option("--pack", help="The models: a TOML of your own, or default or fast.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; name it in the TOML.")],
    json: Json = False,
) -> None:
    """Measure what the similarities of models of your own mean.

    Needs at least 20,000 pairs of photos of different people, that is some 200 photos of 50 people; 3,500 photos of
    250 people tell rates down to 1 in 200,000.
    """
    from json import dumps

    from visavis.app.files import draft_of
    from visavis.face.calibrate import calibrate_folder
    from visavis.face.models import load_pack

    with progress("photos") as report_progress:
        found = calibrate_folder(folder, load_pack(pack), progress=report_progress)
    with draft_of(output, private=False) as draft:
        draft.write_text(dumps(found.to_json(), indent=1) + "\n")
    value = {"file": output, "similarity_at_1e-3": found.similarity_at(1e-3), "measured_on": found.measured_on}
    text = f"{printable(output)}: 1 in 1,000 strangers reach a similarity of {found.similarity_at(1e-3):.3f}"
    emit(value, as_json=json, text=text)


@app.command("report")
def _report(
    file: Annotated[Path, typer.Argument(help="The HTML page to write; with .png a contact sheet.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    pack: OwnPack = None,
    json: Json = False,
) -> None:
    """Show the people with their faces, as page or picture."""
    from visavis.app.report import contact_sheet, write_report

    with open_system(gallery, pack=pack, key_file=key_file) as faces:
        if file.suffix.lower() == ".png":
            contact_sheet(faces, file)
        else:
            skipped = [(row.path, row.skipped) for row in faces.gallery.files() if row.skipped is not None]
            write_report(faces, file, skipped=skipped)
    emit({"file": file}, as_json=json, text=printable(file))


@app.command("demo")
def _demo(
    photos: Annotated[Path | None, typer.Argument(help="A folder of your photos.", show_default=False)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for gallery, report and picture.")] = Path(
        "visavis-demo"
    ),
    pack: Annotated[str, typer.Option("--pack", help="default, fast, or a TOML of your own.")] = "default",
    json: Json = False,
) -> None:
    """Show the whole path on sample photos or your own.

    Fetches the models, indexes the photos, names one person from one photo, finds that person in others, sorts all
    faces into people, and leaves a page and a picture to look at.
    """
    from visavis.app.demo import demo

    with progress("demo") as report_progress:
        done = demo(photos, output, pack=pack, progress=lambda _label: report_progress)
    found = [answer for answer in done.answers if any(one.person == done.name for one in answer.found)]
    counts = done.indexed
    text = [
        (
            f"{counts.added} photos added, {counts.unchanged} known already, {len(counts.skipped)} files skipped; "
            f"{done.people} people."
        )
    ]
    if done.name is not None and done.named_from is not None:
        text.append(
            f"{done.name}, named from {printable(done.named_from.name)} alone, was found in {len(found)} of the "
            f"{len(done.answers)} other photos that were asked about."
        )
    text += [f"page:    {printable(done.report.absolute())}", f"picture: {printable(done.contact_sheet.absolute())}"]
    value = {
        "report": done.report.absolute(),
        "contact_sheet": done.contact_sheet.absolute(),
        "photos_added": counts.added,
        "skipped": len(counts.skipped),
        "people": done.people,
        "name": done.name,
        "named_from": done.named_from,
        "identified_in": [answer.path for answer in found],
        "asked": [answer.path for answer in done.answers],
    }
    emit(value, as_json=json, text="\n".join(text))


def _index_there(server: "FaceClient", folders: Sequence[Path], *, prune: bool, progress: "Report") -> "IndexReport":
    """Have folders indexed by a server, and wait for it; Ctrl-C stops that as it stops it here."""
    from visavis.errors import GalleryError
    from visavis.face.indexing import IndexReport, absolute

    report = IndexReport()
    for folder in folders:
        job = server.index(absolute(folder), prune=prune)
        try:
            for now in server.watch(job.id):
                progress(now.done, now.total)
                job = now
        except KeyboardInterrupt:
            server.cancel(job.id)
            raise
        if job.state != "done":
            raise GalleryError(f"index: expected the server's job {job.id} to be done, it is {job.state}: {job.error}")
        for name in ("added", "changed", "known", "removed", "unchanged", "ignored", "faces"):
            setattr(report, name, getattr(report, name) + getattr(job, name))
        report.skipped += [(Path(file.path), file.reason) for file in job.skipped_files]
        report.kept_missing += map(Path, job.kept_missing)
    return report


def _who(number: int | None, name: str | None) -> str:
    if number is None:
        return "-"
    return f"person {number}" if name is None else printable(name)
