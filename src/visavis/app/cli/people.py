"""``visavis face people, name, merge, ...``: what needs a gallery and no models."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from visavis.app.cli.opening import (
    GalleryFolder,
    Json,
    PackName,
    Person,
    open_gallery,
    open_system,
    person_number,
)
from visavis.app.output import emit, printable

__all__ = ["app"]

app = typer.Typer()


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

    with open_gallery(gallery) as held:
        if person is None:
            people = held.people()
            table = Table("person", "name", "faces", box=None)
            for row in people:
                table.add_row(str(row.id), "-" if row.name is None else printable(row.name), str(row.faces))
            values: list[dict[str, Any]] = [{"person": row.id, "name": row.name, "faces": row.faces} for row in people]
        else:
            rows = sorted(held.faces(person=person_number(held, person)), key=lambda row: -row.quality)
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
    with open_gallery(gallery) as held:
        number = person_number(held, person)
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
    with open_gallery(gallery) as held:
        number = person_number(held, into)
        held.merge(number, [person_number(held, other) for other in others])
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
    with open_gallery(gallery) as held:
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
    with open_gallery(gallery) as held:
        number = person_number(held, person)
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
    with open_gallery(gallery) as held:
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
    with open_system(gallery, pack=pack, create=True) as faces:
        done = faces.gallery.import_from(file)
    value = {"photos": done.photos, "faces": done.faces, "people": done.people}
    text = f"Took in {done.photos} photos with {done.faces} faces."
    emit(value, as_json=json, text=text)
