"""What the commands of ``visavis face`` share: their options, and the way to a gallery, here or at a server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.app.cli.keys import key_for
from visavis.app.cli.local import LocalGallery, LocalSystem

if TYPE_CHECKING:
    from visavis.face.client import FaceClient
    from visavis.face.gallery import Gallery
    from visavis.face.system import FaceSystem

__all__ = [
    "GalleryFolder",
    "Json",
    "OwnPack",
    "PackName",
    "Person",
    "Rate",
    "ServerUrl",
    "TokenFile",
    "ask_gallery",
    "ask_system",
    "open_gallery",
    "open_server",
    "open_system",
    "person_number",
    "place_of",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
GalleryFolder = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        "-g",
        envvar="VISAVIS_GALLERY",
        help="The gallery: a folder, or milvus://HOST:PORT/NAME; when not given, faces.visavis in your data folder.",
        show_default=False,
    ),
]
PackName = Annotated[
    str | None,
    typer.Option(
        "--pack",
        envvar="VISAVIS_PACK",
        help="The gallery's models: default, fast, or a TOML of your own. Others than the gallery has are refused.",
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
ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="VISAVIS_SERVER",
        help="The URL of a `visavis serve` to ask, instead of a gallery.",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="A file with the token for the server; when not given, VISAVIS_TOKEN is the token.",
        show_default=False,
    ),
]
Person = Annotated[str, typer.Argument(help="A person's name, or number as `people` shows it.")]


def open_system(
    gallery: str | None,
    *,
    pack: str | None = None,
    create: bool = False,
    tiles: bool = False,
    accept_licence: bool = False,
    key_file: Path | None = None,
    encrypt: bool = False,
) -> "FaceSystem":
    """The face system on the gallery that a command was given, or on the default one."""
    from visavis.face.system import FaceSystem
    from visavis.face.workers import AnalysisOptions

    place = place_of(gallery)
    return FaceSystem.open(
        place,
        pack=pack,
        create=create,
        options=AnalysisOptions(tiles=tiles),
        accept_licence=accept_licence,
        key=key_for(place, key_file, encrypt=encrypt),
    )


def open_gallery(gallery: str | None, key_file: Path | None = None) -> "Gallery":
    """For what needs no models: they need not be here, nor does the TOML that names them."""
    from visavis.face import gallery as kept
    from visavis.face.gallery.milvus import is_address
    from visavis.face.indexing import absolute

    place = place_of(gallery)
    key = key_for(place, key_file)
    return kept.open_gallery(place if is_address(place) else absolute(place), key=key)


def open_server(
    url: str | None, token_file: Path | None, *, gallery: str | None = None, **only_here: object
) -> "FaceClient | None":
    """The server that a command is to ask; None: it is meant for a gallery.

    What stands on the command line counts more than what the environment says.

    Args:
        url: of the server.
        token_file: with its token.
        gallery: that the command was given.
        only_here: further options by their names, which make no sense to a server.

    Raises:
        BadParameter: the options exclude each other.
        InputError: the file holds no token, or the URL is none.
    """
    if url is None or (_is_given("gallery", gallery) and not _is_given("server", url)):
        if token_file is not None:
            raise typer.BadParameter("expected --server beside it", param_hint="--token-file")
        return None
    if _is_given("gallery", gallery) or (gallery is not None and not _is_given("server", url)):
        raise typer.BadParameter("expected it or --gallery, got both", param_hint="--server")
    for name, value in only_here.items():
        if _is_given(name, value):
            hint = f"--{name.replace('_', '-')}"
            raise typer.BadParameter("goes with --gallery; a server decides it itself", param_hint=hint)
    from visavis.errors import InputError
    from visavis.face.client import FaceClient

    token = None if token_file is None else token_file.read_text().strip()
    if token == "":
        raise InputError(f"token-file: expected a token, got none in {token_file}")
    return FaceClient(url, token=token)


def ask_gallery(
    gallery: str | None, url: str | None, token_file: Path | None, *, key_file: Path | None
) -> "LocalGallery | FaceClient":
    """What answers a command that needs no models."""
    asked = open_server(url, token_file, gallery=gallery, key_file=key_file)
    return asked or LocalGallery(open_gallery(gallery, key_file))


def ask_system(
    gallery: str | None,
    url: str | None,
    token_file: Path | None,
    *,
    key_file: Path | None,
    pack: str | None,
    create: bool = False,
) -> "LocalSystem | FaceClient":
    """What answers a command that needs models; `create`: it makes a gallery where there is none."""
    asked = open_server(url, token_file, gallery=gallery, key_file=key_file, pack=pack)
    return asked or LocalSystem(open_system(gallery, pack=pack, create=create, key_file=key_file))


def _is_given(name: str, value: object) -> bool:
    """Whether an option stands on the command line, as far as one can tell: its value is not the environment's."""
    return value not in (None, False) and str(value) != os.environ.get(f"VISAVIS_{name.upper()}")


def place_of(gallery: str | None) -> str:
    """Of the gallery that a command was given, or of the default one."""
    if gallery is not None:
        return gallery
    from platformdirs import user_data_path

    return str(user_data_path("visavis") / "faces.visavis")


def person_number(gallery: "LocalGallery | FaceClient", name_or_number: str) -> int:
    """Whom a command means. A name goes before a number: somebody may be called 7."""
    from visavis.errors import GalleryError

    names = {person.id: person.name for person in gallery.people()}
    number = next((number for number, name in names.items() if name == name_or_number), None)
    if number is None and name_or_number.isdecimal():
        number = int(name_or_number)
    if number not in names:
        raise GalleryError(
            f"person: expected a name or number that `visavis face people` shows, got {name_or_number!r}"
        )
    return number
