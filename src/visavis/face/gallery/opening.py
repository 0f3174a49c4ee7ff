"""The way to a gallery, wherever it is kept."""

from pathlib import Path

from visavis.errors import GalleryError, InputError
from visavis.face.gallery.database import FILE_NAME
from visavis.face.gallery.milvus import Address, MilvusGallery, is_address
from visavis.face.gallery.protocol import Gallery
from visavis.face.gallery.records import EmbedderId
from visavis.face.gallery.store import FolderGallery

__all__ = ["gallery_exists", "open_gallery"]


def open_gallery(
    place: str | Path, *, model: EmbedderId | None = None, key: str | None = None, unfinished: bool = False
) -> Gallery:
    """Open a gallery; make it when absent and `model` is given.

    Args:
        place: a folder, or the URL of a gallery on Milvus, `milvus://HOST:PORT/NAME`.
        model: whose embeddings it must hold; None: whichever it holds.
        key: of an encrypted folder; a new one is encrypted with it.
        unfinished: also one that a migration has not filled yet.

    Raises:
        GalleryError: there is no gallery, it is of another model, another key or a newer version, or cannot be read.
        InputError: the URL is none, or has a key, which Milvus does not take.
        MissingExtraError: it is on Milvus, whose client is not installed.
    """
    if is_address(place):
        if key is not None:
            raise InputError("key: expected none for a gallery on Milvus, whose servers encrypt their disks themselves")
        gallery: Gallery = MilvusGallery.open(Address.parse(str(place)), model=model)
    else:
        gallery = FolderGallery.open(Path(place), model=model, key=key)
    if not unfinished and (origin := gallery.rows().origin()) is not None:
        gallery.close()
        raise GalleryError(
            f"{gallery.place}: expected a gallery whole, got a copy of {origin}, unfinished; "
            "run `visavis face migrate` again"
        )
    return gallery


def gallery_exists(place: str | Path) -> bool:
    """Whether there is a gallery; a folder that a run has left empty is none.

    Raises:
        GalleryError: the server cannot be asked.
    """
    if is_address(place):
        return MilvusGallery.exists(Address.parse(str(place)))
    return (Path(place) / FILE_NAME).exists()
