"""``visavis face people, name, merge, ...``: what a user says about people, and the gallery as a whole."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visavis.app.cli.keys import KeyFile
from visavis.app.cli.local import LocalGallery
from visavis.app.cli.opening import (
    GalleryFolder,
    Json,
    PackName,
    Person,
    ServerUrl,
    TokenFile,
    ask_gallery,
    ask_system,
    open_gallery,
    open_server,
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
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """List the people, or one person's faces.

    Faces come with their numbers, the best first. `report` shows all of them as pictures.
    """
    from rich.table import Table

    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        if person is None:
            people = held.people()
            table = Table("person", "name", "faces", box=None)
            for one in people:
                table.add_row(str(one.id), "-" if one.name is None else printable(one.name), str(one.faces))
            values: list[dict[str, Any]] = [{"person": one.id, "name": one.name, "faces": one.faces} for one in people]
        else:
            faces = held.faces(person=person_number(held, person))
            table = Table("face", "photo", "quality", "said by", box=None)
            for face in faces:
                path = "(gone)" if face.path is None else printable(face.path)
                table.add_row(str(face.id), path, f"{face.quality:.2f}", "you" if face.pinned else "visavis")
            values = [
                {"face": face.id, "photo": face.path, "quality": face.quality, "pinned": face.pinned} for face in faces
            ]
    emit(values, as_json=json, text=table)


@app.command("photos")
def _photos(
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """List the photos.

    Of copies the first is shown; --json tells all.
    """
    from rich.table import Table

    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        photos = list(held.photos())
    table = Table("photo", "file", "pixels", "taken", "faces", box=None)
    for photo in photos:
        path = printable(photo.paths[0]) if photo.paths else "(gone)"
        taken = "-" if photo.taken_at is None else photo.taken_at.isoformat(" ")
        table.add_row(str(photo.id), path, f"{photo.width_px} x {photo.height_px}", taken, str(photo.faces))
    emit([asdict(photo) for photo in photos], as_json=json, text=table)


@app.command("name")
def _name(
    person: Person,
    name: Annotated[str, typer.Argument(help="The name to give.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Give a person a name, and so confirm the faces sorted to it."""
    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        number = person_number(held, person)
        held.name(number, name)
    emit({"person": number, "name": name}, as_json=json, text=f"Person {number} is {printable(name)}.")


@app.command("merge")
def _merge(
    into: Person,
    others: Annotated[list[str], typer.Argument(help="Names or numbers of who is the same person.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Make one person of several.

    Sorting never undoes it.
    """
    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        number = person_number(held, into)
        merged = held.merge(number, [person_number(held, other) for other in others])
    value = {"person": merged.id, "faces": merged.faces}
    emit(value, as_json=json, text=f"Person {merged.id} has {merged.faces} faces now.")


@app.command("split")
def _split(
    faces: Annotated[list[int], typer.Argument(help="Numbers of faces, as `people PERSON` shows them.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Make another person of some of a person's faces.

    Sorting never undoes it.
    """
    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        new = held.split(faces)
    emit({"person": new.id, "faces": new.faces}, as_json=json, text=f"They are person {new.id} now.")


@app.command("forget")
def _forget(
    person: Person,
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    uploads: Annotated[
        bool, typer.Option("--uploads", help="Delete photos uploaded to the gallery, too, that show nobody else.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete all that is held of a person, and prove it.

    That is faces, embeddings, pictures, the name, and entries of a server's log. Then all files of the gallery are
    looked through for what may be left; exits with 1 when something is. Photos are not touched, but for uploads when
    told, and indexing them again does not bring the faces back.
    """
    with ask_gallery(gallery, server, token_file, key_file=key_file) as held:
        number = person_number(held, person)
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter("not asked for in a terminal: add --yes", param_hint="forget")
            typer.confirm(f"Delete all that is held of person {number}?", abort=True, err=True)
        done = held.forget(number, uploads=uploads)
    left = f"{done.traces} pieces of it are left" if done.traces else "nothing of it is left"
    lines = [
        (
            f"Deleted person {number}: {done.faces} faces, {done.names} names, {done.log_entries} entries of the log, "
            f"{done.uploads} uploads."
        ),
        f"Looked through {done.bytes:,} bytes in {done.files} files: {left}."
        if done.files
        else "The gallery is not in a folder: its files were not looked through.",
        *(f"Still shown in {printable(path)}" for path in done.photos),
    ]
    emit({"person": number, **asdict(done)}, as_json=json, text="\n".join(lines))
    raise typer.Exit(1 if done.traces else 0)


@app.command("export")
def _export(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The gallery is encrypted, and the file may be readable without its key.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the whole gallery to one file.

    The file is not encrypted: to keep an encrypted gallery so, copy its folder.
    """
    asked = open_server(server, token_file, gallery=gallery, key_file=key_file, plain=plain)
    if asked is not None:
        with asked:
            asked.export_to(file)
            counts = asked.about()
    else:
        with LocalGallery(open_gallery(gallery, key_file)) as held:
            held.export_to(file, plain=plain)
            counts = held.about()
    value = {"file": file, "photos": counts.photos, "faces": counts.faces, "bytes": file.stat().st_size}
    text = f"{printable(file)}: {counts.photos} photos with {counts.faces} faces"
    emit(value, as_json=json, text=text)


@app.command("import")
def _import(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.")],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    pack: PackName = None,
    json: Json = False,
) -> None:
    """Take in an exported gallery.

    All of it, or nothing. Photos already known are left as they are.
    """
    with ask_system(gallery, server, token_file, key_file=key_file, pack=pack, create=True) as faces:
        done = faces.import_from(file)
    value = {"photos": done.photos, "faces": done.faces, "people": done.people}
    text = f"Took in {done.photos} photos with {done.faces} faces."
    emit(value, as_json=json, text=text)
