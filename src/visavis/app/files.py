"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["draft_of"]


@contextlib.contextmanager
def draft_of(path: Path, *, private: bool = True) -> Iterator[Path]:
    """A file beside `path`, which becomes `path`, and is on the disk, when all went well.

    Args:
        path: the file to write.
        private: for the owner alone, as what holds faces is; else the umask decides, as for any new file.
    """
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)  # of a killed run, and with who knows what rights
    draft.touch(mode=0o600 if private else 0o666)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
