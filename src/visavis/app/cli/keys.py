"""The key of an encrypted gallery: from a file, from the environment, or asked for; never from the command line."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from visavis.errors import GalleryError, InputError

__all__ = ["KeyFile", "key_for", "read_key"]

VARIABLE = "VISAVIS_GALLERY_KEY"
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help=f"A file with the key of an encrypted gallery; when not given, {VARIABLE} is the key, or it is asked for.",
        show_default=False,
    ),
]


def key_for(place: str, key_file: Path | None, *, encrypt: bool = False) -> str | None:
    """The key that opens a gallery; None: it opens without.

    Args:
        place: a folder, or the URL of a gallery.
        key_file: what a command was given.
        encrypt: a gallery that is not there yet is to be encrypted.

    Raises:
        GalleryError: an encrypted one is wanted, and there is one that is not.
        InputError: there is no key, or others than its owner can read its file.
    """
    from visavis.face.gallery.database import FILE_NAME, needs_key
    from visavis.face.gallery.milvus import is_address
    from visavis.face.indexing import absolute

    if is_address(place):
        return None if not (encrypt or key_file) else read_key(key_file)  # which opening refuses
    folder = absolute(place)
    exists = (folder / FILE_NAME).exists()
    if exists and needs_key(folder):
        return read_key(key_file)
    if exists and encrypt:
        raise GalleryError(f"{folder}: expected a new or an encrypted gallery, got another; `visavis face encrypt` it")
    if encrypt:
        return read_key(key_file, new=True)
    return None if key_file is None else read_key(key_file)


def read_key(key_file: Path | None, *, variable: str = VARIABLE, name: str = "key", new: bool = False) -> str:
    """A key from its file, else from the environment, else asked for in the terminal without showing it.

    Args:
        key_file: of which only its owner may read; a newline at its end is none of the key.
        variable: of the environment.
        name: what it is called when it is asked for.
        new: ask twice.

    Raises:
        InputError: there is none, or others can read the file.
    """
    if key_file is not None:
        status = key_file.stat()
        if os.name == "posix" and status.st_mode & 0o077:
            raise InputError(
                f"{name}-file: expected a file that only its owner may read, got one of mode "
                f"{status.st_mode & 0o777:o}: chmod 600 it"
            )
        return key_file.read_text(encoding="utf-8").rstrip("\r\n")
    if found := os.environ.get(variable):
        return found
    if not sys.stdin.isatty():
        raise InputError(
            f"{name}: expected one in {variable} or --{name}-file, or a terminal to ask for it in, got none"
        )
    answer: str = typer.prompt(f"The gallery's {name}", hide_input=True, confirmation_prompt=new, err=True)
    return answer
