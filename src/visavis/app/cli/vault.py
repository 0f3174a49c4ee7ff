"""``visavis face encrypt, decrypt, rekey``: a gallery's way into encryption, and out of it."""

from pathlib import Path
from typing import Annotated

import typer

from visavis.app.cli.keys import KeyFile, read_key
from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable

__all__ = ["app"]

app = typer.Typer()
Folder = Annotated[Path, typer.Argument(help="The gallery's folder.")]


@app.command("encrypt")
def _encrypt(folder: Folder, key_file: KeyFile = None, json: Json = False) -> None:
    """Encrypt a gallery with a key. A lost key is a lost gallery.

    Nobody else may have it open meanwhile, and for a moment it needs its size again. A run that was stopped has changed
    nothing, or is finished by whatever opens the gallery next.
    """
    from visavis.app.server.jobs import forget_jobs
    from visavis.face.gallery.encryption import encrypt
    from visavis.face.indexing import absolute

    encrypt(absolute(folder), read_key(key_file, new=True))
    forget_jobs(absolute(folder))
    emit({"gallery": folder, "encrypted": True}, as_json=json, text=f"{printable(folder)} is encrypted.")


@app.command("decrypt")
def _decrypt(folder: Folder, key_file: KeyFile = None, json: Json = False) -> None:
    """Make an encrypted gallery one that opens without a key."""
    from visavis.face.gallery.encryption import decrypt
    from visavis.face.indexing import absolute

    decrypt(absolute(folder), read_key(key_file))
    emit({"gallery": folder, "encrypted": False}, as_json=json, text=f"{printable(folder)} opens without a key now.")


@app.command("rekey")
def _rekey(
    folder: Folder,
    key_file: KeyFile = None,
    new_key_file: Annotated[
        Path | None,
        typer.Option(
            "--new-key-file",
            help="A file with the new key; when not given, VISAVIS_GALLERY_NEW_KEY is the key, or it is asked for.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Encrypt an encrypted gallery with another key."""
    from visavis.face.gallery.encryption import rekey
    from visavis.face.indexing import absolute

    key = read_key(key_file)
    new_key = read_key(new_key_file, variable="VISAVIS_GALLERY_NEW_KEY", name="new-key", new=True)
    rekey(absolute(folder), key, new_key)
    emit({"gallery": folder, "encrypted": True}, as_json=json, text=f"{printable(folder)} opens with the new key only.")
