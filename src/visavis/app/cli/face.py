"""``visavis face``: the face-recognition system."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.app.cli import models
from visavis.app.output import emit, percent, printable, progress, rate

if TYPE_CHECKING:
    from visavis.face.gallery import Gallery
    from visavis.face.records import Detection
    from visavis.face.system import FaceSystem

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
computer; `forget` deletes what it holds of a person.
"""

app = typer.Typer(no_args_is_help=True, help=HELP)
app.add_typer(models.app, name="models")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
GalleryFolder = Annotated[
    Path | None,
    typer.Option(
        "--gallery",
        "-g",
        envvar="VISAVIS_GALLERY",
        help="The gallery's folder; when not given, faces.visavis in your data folder.",
        show_default=False,
    ),
]
PackName = Annotated[
    str | None,
    typer.Option(
        "--pack",
        envvar="VISAVIS_PACK",
        help="Models of a new gallery: default, fast, or a TOML of your own. An existing one keeps its own.",
        show_default=False,
    ),
]
OwnPack = Annotated[
    str | None,
    typer.Option(
        "--pack",
        envvar="VISAVIS_PACK",
        help="The TOML that the gallery was made with, where its models are of your own.",
        show_default=False,
    ),
]
Rate = Annotated[
    float,
    typer.Option("--false-match-rate", help="Say yes only where fewer strangers than this would come as near."),
]
Person = Annotated[str, typer.Argument(help="A person's name, or number as `people` shows it.")]


@app.command("index")
def _index(
    folders: Annotated[list[Path], typer.Argument(help="Folders of photos, or photos.")],
    gallery: GalleryFolder = None,
    pack: PackName = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.", min=1)] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="Find small faces in large photos; slower.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out photos of a folder that is empty now; else they stay.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take weights that are for research only.")
    ] = False,
    json: Json = False,
) -> None:
    """Take in photos and sort their faces into people.

    Only new and changed photos are looked at; moved and deleted ones are noticed. Stop it at any time: what is done
    is kept, and the next run goes on. Exits with 1 when files were skipped; each is listed with the reason.
    """
    with _system(gallery, pack=pack, create=True, tiles=tiles, accept_licence=accept_licence) as faces:
        with progress("photos") as report_progress:
            done = faces.index(*folders, workers=workers, prune=prune, progress=report_progress)
        people = sum(row.faces > 0 for row in faces.gallery.people())
        counts = faces.gallery.counts()
    value = {
        **{name: getattr(done, name) for name in ("added", "changed", "known", "removed", "unchanged", "ignored")},
        "faces": done.faces,
        "skipped": [{"path": path, "reason": reason} for path, reason in done.skipped],
        "kept_missing": done.kept_missing,
        "gallery": {"photos": counts.photos, "faces": counts.faces, "people": people},
    }
    lines = [
        (
            f"{done.added} photos added, {done.changed} changed, {done.known} moved or copied, {done.removed} removed, "
            f"{done.unchanged} unchanged; {done.faces} new faces"
        ),
        f"The gallery holds {counts.photos} photos with {counts.faces} faces of {people} people.",
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
    pack: PackName = None,
    json: Json = False,
) -> None:
    """Tell who is in photos.

    Their faces stay in the gallery, also when the photos go.
    """
    with _system(gallery, pack=pack, create=True) as faces:
        person = faces.enroll(name, list(photos))
        count = len(faces.gallery.faces(person=person))
    value = {"person": person, "name": name, "faces": count}
    emit(value, as_json=json, text=f"{printable(name)}, person {person}, has {count} faces.")


@app.command("identify")
def _identify(
    photos: Annotated[list[Path], typer.Argument(help="Photos to name the people in.")],
    gallery: GalleryFolder = None,
    pack: OwnPack = None,
    false_match_rate: Rate = 1e-3,
    json: Json = False,
) -> None:
    """Tell who of the named people is in photos.

    Exits with 1 when nobody known was found.
    """
    from rich.table import Table

    table = Table("photo", "box", "person", "probability", "strangers as near", box=None)
    values = []
    with _system(gallery, pack=pack) as faces, progress("photos") as report_progress:
        for done, photo in enumerate(photos):
            found = faces.identify(photo, false_match_rate=false_match_rate)
            report_progress(done + 1, len(photos))
            for one in found:
                values.append(
                    {
                        "photo": photo,
                        **_detection(one.face.detection),
                        "quality": one.face.quality,
                        "person": one.person_id,
                        "name": one.person,
                        "similarity": one.similarity,
                        "probability": one.probability,
                        "false_match_rate": one.false_match_rate,
                    }
                )
                box = " ".join(str(round(float(value))) for value in one.face.detection.box_xyxy_px)
                name = "unknown" if one.person is None else printable(one.person)
                table.add_row(printable(photo), box, name, percent(one.probability), rate(one.false_match_rate))
            if not found:
                table.add_row(printable(photo), "-", "no face", "", "")
    emit(values, as_json=json, text=table)
    raise typer.Exit(0 if any(value["person"] is not None for value in values) else 1)


@app.command("verify")
def _verify(
    photo: Annotated[Path, typer.Argument(help="A photo.")],
    other: Annotated[Path, typer.Argument(help="Another photo.")],
    pack: Annotated[str, typer.Option("--pack", help="default, fast, or a TOML of your own.")] = "default",
    false_match_rate: Rate = 1e-3,
    json: Json = False,
) -> None:
    """Tell whether two photos show the same person.

    The largest face of each counts. Exits with 1 when not.
    """
    from visavis.face.analyze import Analyzer
    from visavis.face.models import load_pack
    from visavis.face.system import verify
    from visavis.face.workers import cores

    answer = verify(photo, other, Analyzer(load_pack(pack), threads=cores()), false_match_rate=false_match_rate)
    value = {
        "same": answer.same,
        "similarity": answer.similarity,
        "probability": answer.probability,
        "false_match_rate": answer.false_match_rate,
        "faces": [{"photo": face.photo.path, **_detection(face.detection)} for face in answer.faces],
    }
    text = (
        f"{'the same person' if answer.same else 'not shown to be the same person'}: probability "
        f"{percent(answer.probability)}; of pairs of strangers {rate(answer.false_match_rate)} are as similar"
    )
    emit(value, as_json=json, text=text)
    raise typer.Exit(0 if answer.same else 1)


@app.command("search")
def _search(
    photo: Annotated[Path, typer.Argument(help="A photo; its largest face is searched for.")],
    gallery: GalleryFolder = None,
    pack: OwnPack = None,
    k: Annotated[int, typer.Option("-k", help="How many faces to list.", min=1)] = 20,
    json: Json = False,
) -> None:
    """List the faces most like the one in a photo."""
    from rich.table import Table

    with _system(gallery, pack=pack) as faces:
        hits = faces.search(photo, k=k)
    table = Table("face", "photo", "person", "probability", "strangers as near", box=None)
    values = []
    for hit in hits:
        values.append(
            {
                "face": hit.face.id,
                "photo": hit.face.path,
                "person": hit.face.person_id,
                "name": hit.face.person,
                "similarity": hit.similarity,
                "probability": hit.probability,
                "false_match_rate": hit.false_match_rate,
            }
        )
        table.add_row(
            str(hit.face.id),
            "(gone)" if hit.face.path is None else printable(hit.face.path),
            _who(hit.face.person_id, hit.face.person),
            percent(hit.probability),
            rate(hit.false_match_rate),
        )
    emit(values, as_json=json, text=table)


@app.command("cluster")
def _cluster(
    gallery: GalleryFolder = None,
    pack: OwnPack = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="First take apart what was sorted by itself; what you said stays.")
    ] = False,
    json: Json = False,
) -> None:
    """Sort the faces into people. `index` does this by itself."""
    with _system(gallery, pack=pack) as faces:
        report = faces.cluster(fresh=fresh)
    value = {"people": report.people, "new": report.new, "placed": report.placed, "alone": report.alone}
    text = f"{report.people} people, {report.new} of them new; {report.placed} faces placed, {report.alone} alone."
    emit(value, as_json=json, text=text)


@app.command("people")
def _people(
    person: Annotated[
        str | None, typer.Argument(help="Name or number of one person, to list the faces of.", show_default=False)
    ] = None,
    gallery: GalleryFolder = None,
    json: Json = False,
) -> None:
    """List the people, or one person's faces.

    Faces come with their numbers, the best first. `report` shows all of them as pictures.
    """
    from rich.table import Table

    with _gallery(gallery) as held:
        if person is None:
            people = held.people()
            table = Table("person", "name", "faces", box=None)
            for row in people:
                table.add_row(str(row.id), "-" if row.name is None else printable(row.name), str(row.faces))
            values: list[dict[str, Any]] = [{"person": row.id, "name": row.name, "faces": row.faces} for row in people]
        else:
            rows = sorted(held.faces(person=_person(held, person)), key=lambda row: -row.quality)
            table = Table("face", "photo", "quality", "said by", box=None)
            for face in rows:
                path = "(gone)" if face.path is None else printable(face.path)
                table.add_row(str(face.id), path, f"{face.quality:.2f}", "you" if face.pinned else "visavis")
            values = [
                {"face": face.id, "photo": face.path, "quality": face.quality, "pinned": face.pinned} for face in rows
            ]
    emit(values, as_json=json, text=table)


@app.command("name")
def _name(
    person: Person,
    name: Annotated[str, typer.Argument(help="The name to give.")],
    gallery: GalleryFolder = None,
    json: Json = False,
) -> None:
    """Give a person a name, and so confirm the faces sorted to it."""
    with _gallery(gallery) as held:
        number = _person(held, person)
        held.name(number, name)
    emit({"person": number, "name": name}, as_json=json, text=f"Person {number} is {printable(name)}.")


@app.command("merge")
def _merge(
    into: Person,
    others: Annotated[list[str], typer.Argument(help="Names or numbers of who is the same person.")],
    gallery: GalleryFolder = None,
    json: Json = False,
) -> None:
    """Make one person of several.

    Sorting never undoes it.
    """
    with _gallery(gallery) as held:
        number = _person(held, into)
        held.merge(number, [_person(held, other) for other in others])
        count = len(held.faces(person=number))
    emit({"person": number, "faces": count}, as_json=json, text=f"Person {number} has {count} faces now.")


@app.command("split")
def _split(
    faces: Annotated[list[int], typer.Argument(help="Numbers of faces, as `people PERSON` shows them.")],
    gallery: GalleryFolder = None,
    json: Json = False,
) -> None:
    """Make another person of some of a person's faces.

    Sorting never undoes it.
    """
    with _gallery(gallery) as held:
        number = held.split(faces)
        count = len(held.faces(person=number))
    emit({"person": number, "faces": count}, as_json=json, text=f"They are person {number} now.")


@app.command("forget")
def _forget(
    person: Person,
    gallery: GalleryFolder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete all that is held of a person.

    That is faces, embeddings, pictures and name. The photos on disk are not touched, and indexing them again does not
    bring the faces back.
    """
    with _gallery(gallery) as held:
        number = _person(held, person)
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter("not asked for in a terminal: add --yes", param_hint="forget")
            typer.confirm(f"Delete all that is held of person {number}?", abort=True, err=True)
        count = held.forget(number)
    emit({"person": number, "faces": count}, as_json=json, text=f"Deleted person {number} with {count} faces.")


@app.command("export")
def _export(
    file: Annotated[Path, typer.Argument(help="The file to write.")], gallery: GalleryFolder = None, json: Json = False
) -> None:
    """Write the whole gallery to one file."""
    with _gallery(gallery) as held:
        held.export_to(file)
        counts = held.counts()
    value = {"file": file, "photos": counts.photos, "faces": counts.faces, "bytes": file.stat().st_size}
    text = f"{printable(file)}: {counts.photos} photos with {counts.faces} faces"
    emit(value, as_json=json, text=text)


@app.command("import")
def _import(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.")],
    gallery: GalleryFolder = None,
    pack: PackName = None,
    json: Json = False,
) -> None:
    """Take in an exported gallery.

    All of it, or nothing. Photos already known are left as they are.
    """
    with _system(gallery, pack=pack, create=True) as faces:
        done = faces.gallery.import_from(file)
    value = {"photos": done.photos, "faces": done.faces, "people": done.people}
    text = f"Took in {done.photos} photos with {done.faces} faces."
    emit(value, as_json=json, text=text)


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

    from visavis.face.calibrate import calibrate_folder
    from visavis.face.models import load_pack

    with progress("photos") as report_progress:
        found = calibrate_folder(folder, load_pack(pack), progress=report_progress)
    draft = output.with_name(f"{output.name}.part")
    draft.write_text(dumps(found.to_json(), indent=1) + "\n")
    draft.replace(output)
    value = {"file": output, "similarity_at_1e-3": found.similarity_at(1e-3), "measured_on": found.measured_on}
    text = f"{printable(output)}: 1 in 1,000 strangers reach a similarity of {found.similarity_at(1e-3):.3f}"
    emit(value, as_json=json, text=text)


@app.command("report")
def _report(
    file: Annotated[Path, typer.Argument(help="The HTML page to write; with .png a contact sheet.")],
    gallery: GalleryFolder = None,
    pack: OwnPack = None,
    json: Json = False,
) -> None:
    """Show the people with their faces, as page or picture."""
    from visavis.app.report import contact_sheet, write_report

    with _system(gallery, pack=pack) as faces:
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
    found = [answer for answer in done.answers if any(one.person is not None for one in answer.found)]
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


def _system(
    gallery: Path | None,
    *,
    pack: str | None = None,
    create: bool = False,
    tiles: bool = False,
    accept_licence: bool = False,
) -> "FaceSystem":
    from visavis.face.system import FaceSystem
    from visavis.face.workers import AnalysisOptions

    return FaceSystem.open(
        _folder(gallery), pack=pack, create=create, options=AnalysisOptions(tiles=tiles), accept_licence=accept_licence
    )


def _gallery(gallery: Path | None) -> "Gallery":
    """For what needs no models: they need not be here, nor does the TOML that names them."""
    from visavis.face.gallery import Gallery
    from visavis.face.indexing import absolute

    return Gallery.open(absolute(_folder(gallery)))


def _folder(gallery: Path | None) -> Path:
    if gallery is not None:
        return gallery
    from platformdirs import user_data_path

    return user_data_path("visavis") / "faces.visavis"


def _person(gallery: "Gallery", name_or_number: str) -> int:
    """A name goes before a number: somebody may be called 7."""
    from visavis.errors import GalleryError

    number = gallery.find_person(name_or_number)
    if number is None and name_or_number.isdecimal():
        number = int(name_or_number)
    if number is None or number not in {row.id for row in gallery.people()}:
        raise GalleryError(
            f"person: expected a name or number that `visavis face people` shows, got {name_or_number!r}"
        )
    return number


def _detection(detection: "Detection") -> dict[str, Any]:
    return {
        "box_xyxy_px": [round(float(value), 1) for value in detection.box_xyxy_px],
        "landmarks_xy_px": [[round(float(x), 1), round(float(y), 1)] for x, y in detection.landmarks_xy_px],
        "score": round(detection.score, 4),
    }


def _who(number: int | None, name: str | None) -> str:
    if number is None:
        return "-"
    return f"person {number}" if name is None else printable(name)
