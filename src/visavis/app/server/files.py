"""Small files beside a gallery, for their owner's eyes only."""

import os
import secrets
from pathlib import Path

__all__ = ["append_private", "write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read: all of it is there, or what was there before."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        append_private(draft, data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def append_private(path: Path, data: bytes) -> None:
    """Add to a file that only its owner can read, and to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "ab") as file:  # noqa: PTH123  a descriptor, not a path
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
