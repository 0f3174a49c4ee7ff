"""What the commands of ``visavis face`` share: their options, and the way to a gallery and the people in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visavis.face.gallery import Gallery
    from visavis.face.system import FaceSystem

__all__ = [
    "GalleryFolder",
    "Json",
    "OwnPack",
    "PackName",
    "Person",
    "Rate",
    "open_gallery",
    "open_system",
    "person_number",
]

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
Person = Annotated[str, typer.Argument(help="A person's name, or number as `people` shows it.")]


def open_system(
    gallery: Path | None,
    *,
    pack: str | None = None,
    create: bool = False,
    tiles: bool = False,
    accept_licence: bool = False,
) -> "FaceSystem":
    """The face system on the gallery that a command was given, or on the default one."""
    from visavis.face.system import FaceSystem
    from visavis.face.workers import AnalysisOptions

    return FaceSystem.open(
        _folder(gallery), pack=pack, create=create, options=AnalysisOptions(tiles=tiles), accept_licence=accept_licence
    )


def open_gallery(gallery: Path | None) -> "Gallery":
    """For what needs no models: they need not be here, nor does the TOML that names them."""
    from visavis.face.gallery import Gallery
    from visavis.face.indexing import absolute

    return Gallery.open(absolute(_folder(gallery)))


def _folder(gallery: Path | None) -> Path:
    if gallery is not None:
        return gallery
    from platformdirs import user_data_path

    return user_data_path("visavis") / "faces.visavis"


def person_number(gallery: "Gallery", name_or_number: str) -> int:
    """Whom a command means. A name goes before a number: somebody may be called 7."""
    from visavis.errors import GalleryError

    number = gallery.find_person(name_or_number)
    if number is None and name_or_number.isdecimal():
        number = int(name_or_number)
    if number is None or number not in {row.id for row in gallery.people()}:
        raise GalleryError(
            f"person: expected a name or number that `visavis face people` shows, got {name_or_number!r}"
        )
    return number
