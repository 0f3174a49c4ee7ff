"""``visavis face migrate``: a gallery moves to another place."""

from dataclasses import asdict
from typing import Annotated

import typer

from visavis.app.cli.keys import KeyFile, key_for
from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable, progress

__all__ = ["app"]

app = typer.Typer()


@app.command("migrate")
def _migrate(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A gallery: a folder, or milvus://HOST:PORT/NAME.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The place for its copy: a folder, or such a URL.")],
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Copy a gallery to another place, whole: to a server, back from there, or to another folder.

    All people, names, faces and numbers stay what they are. When it is stopped, run it again: it goes on. At the end
    all is read from both places again and compared. The gallery that is copied is not changed. An encrypted one is
    copied to a folder only, which is encrypted with the same key.
    """
    from visavis.face.gallery.migrate import migrate

    with progress("rows") as report_progress:
        done = migrate(source, target, key=key_for(source, key_file), progress=report_progress)
    counts = done.counts
    value = {"from": source, "to": target, **asdict(done)}
    text = (
        f"{printable(target)} holds {counts.photos} photos with {counts.faces} faces of {counts.people} people, the "
        f"same as {printable(source)}: {sum(done.rows.values())} rows and {done.searches} searches compared."
    )
    emit(value, as_json=json, text=text)
