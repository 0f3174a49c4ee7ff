"""``visavis serve`` and ``visavis tokens``: the face system over HTTP."""

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.app.cli.keys import KeyFile, key_for
from visavis.app.cli.opening import GalleryFolder, Json, OwnPack, place_of
from visavis.app.output import emit, printable
from visavis.app.server.tokens import Scope, Tokens

if TYPE_CHECKING:
    from visavis.face.stream.sources import Source

__all__ = ["serve", "tokens"]

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="A folder for tokens, log, jobs and uploads; the gallery's own when it is in one and this is not given.",
        show_default=False,
    ),
]

tokens = typer.Typer(
    no_args_is_help=True,
    help="""Say who may use a gallery over HTTP.

A token is shown once, when it is made; the gallery's folder keeps its hash. Clients send it as `Authorization: Bearer
TOKEN`. A server that runs takes notice at once.
""",
)


def serve(
    gallery: Annotated[
        str,
        typer.Argument(envvar="VISAVIS_GALLERY", help="A folder, or milvus://HOST:PORT/NAME with --state."),
    ],
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; any but this computer's own demands tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any that is free.", min=0, max=65535)] = 8765,
    root: Annotated[
        list[Path] | None,
        typer.Option("--root", help="A folder that clients may have indexed; give it again for more.", exists=True),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name that clients know this server by; demands tokens, too."),
    ] = None,
    state: State = None,
    workers: Annotated[int | None, typer.Option(help="Processes of an index job; all cores when not given.", min=1)] = (
        None
    ),
    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            metavar="NAME=SOURCE",
            help="A camera, file or RTSP address that clients may have watched by this name; NAME=@FILE reads it from "
            "a file, where nobody else sees its password. Give it again for more.",
        ),
    ] = None,
    pack: OwnPack = None,
    key_file: KeyFile = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in your browser.")] = False,
    json: Json = False,
) -> None:
    """Serve a gallery: as a web page, and over HTTP to programs and to `visavis face ... --server`.

    Only this computer is served unless --host or --name say otherwise. Here the page may do everything, and questions
    need no token; programs that change something need one, and others than this computer always: `visavis tokens add`.
    The API describes itself under /api/v1/openapi.json. Ctrl-C ends the server and what it is doing; the next index
    run goes on.
    """
    from visavis.app.server.application import serve as serve_http
    from visavis.app.server.service import Service

    def ready(url: str) -> None:
        emit({"url": url, "gallery": gallery}, as_json=json, text=f"{printable(gallery)}: {url}, until Ctrl-C")
        sys.stdout.flush()  # who reads a pipe waits for it
        if open_page:
            webbrowser.open(url)

    service = Service(
        gallery,
        state=state,
        pack=pack,
        roots=[path.resolve() for path in root or ()],
        workers=workers,
        streams=dict(map(_source, stream or ())),
        key=key_for(gallery, key_file),
    )
    try:
        serve_http(service, host=host, port=port, names=name or (), on_ready=ready)
    finally:
        service.close()


def _source(text: str) -> "tuple[str, Source]":
    """A name and a source of `NAME=SOURCE`; what is wrong with a source is told without its password."""
    from visavis.face.stream.sources import Source

    name, equals, source = text.partition("=")
    if not (equals and name.strip() and name.isprintable() and "/" not in name):
        raise typer.BadParameter("expected NAME=SOURCE with a printable name", param_hint="--stream")
    return name, Source.parse(Path(source[1:]).read_text().strip() if source.startswith("@") else source)


@tokens.command("add")
def _add(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    scope: Annotated[
        Scope, typer.Option("--scope", help="read: ask. write: enroll, name, merge, split. admin: all.")
    ] = "read",
    days: Annotated[
        int | None, typer.Option("--days", help="It expires after so many; never when not given.", min=1)
    ] = None,
    gallery: GalleryFolder = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Make a token and show it, this once."""
    secret = _tokens(gallery, state).add(name, scope, days=days)
    emit({"name": name, "scope": scope, "token": secret}, as_json=json, text=secret)


@tokens.command("list")
def _list(gallery: GalleryFolder = None, state: State = None, json: Json = False) -> None:
    """List the tokens; their secrets are not kept."""
    from rich.table import Table

    found = _tokens(gallery, state).all()
    table = Table("name", "scope", "made", "expires", box=None)
    for token in found:
        table.add_row(printable(token.name), token.scope, token.created_at, token.expires_at or "never")
    names = ("name", "scope", "created_at", "expires_at")
    values = [{name: getattr(token, name) for name in names} for token in found]
    emit(values, as_json=json, text=table)


@tokens.command("revoke")
def _revoke(
    name: Annotated[str, typer.Argument(help="The name it was made with.")],
    gallery: GalleryFolder = None,
    state: State = None,
    json: Json = False,
) -> None:
    """End a token: it opens nothing any more."""
    _tokens(gallery, state).revoke(name)
    emit({"name": name}, as_json=json, text=f"{printable(name)} opens nothing any more.")


def _tokens(gallery: str | None, state: Path | None) -> Tokens:
    """Those of a gallery that exists; they need no key."""
    from visavis.app.server.service import state_folder
    from visavis.errors import GalleryError
    from visavis.face.gallery.opening import gallery_exists
    from visavis.face.indexing import absolute

    place = place_of(gallery)
    if not gallery_exists(place if "://" in place else absolute(place)):
        raise GalleryError(f"{place}: expected a gallery, found none")
    return Tokens(state_folder(place, state))
