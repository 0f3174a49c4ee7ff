"""Which folders of this computer a request may name: those below the roots that its owner has allowed."""

import os
from collections.abc import Sequence
from pathlib import Path

from visavis.errors import InputError

__all__ = ["RootError", "allowed_folder"]


class RootError(InputError):
    """A path outside what the server may read."""


def allowed_folder(path: str, roots: Sequence[Path]) -> Path:
    """The folder or file of that path, its links followed.

    Whether it exists is told only of what lies below a root, and nothing in it may be a link that leads out of the
    roots, for indexing follows links.

    Args:
        path: an absolute one.
        roots: existing folders, resolved.

    Raises:
        RootError: it is not below a root, does not exist there, or holds a link that leads out.
    """
    outside = RootError(f"folder: expected an absolute path below an allowed --root, got {path!r}")
    if not Path(path).is_absolute():
        raise outside
    try:
        resolved = Path(os.path.realpath(path))
        exists = _is_within(resolved, roots) and resolved.exists()
    except (OSError, ValueError) as error:  # names that no file can have: too long, with a NUL, no UTF-8
        raise outside from error
    if not _is_within(resolved, roots):
        raise outside
    if not exists:
        raise RootError(f"folder: expected one that exists, got {path!r}")
    stack, seen = [resolved], {resolved}
    while stack:
        folder = stack.pop()
        if not folder.is_dir():
            continue
        try:
            entries = sorted(folder.iterdir())
        except OSError:  # indexing names what it cannot read
            continue
        for entry in entries:
            target = Path(os.path.realpath(entry)) if entry.is_symlink() else entry
            if not _is_within(target, roots):
                raise RootError(f"folder: expected no links out of the allowed roots, got {str(entry)!r}")
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return resolved


def _is_within(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
