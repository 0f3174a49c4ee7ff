"""Programs by the names that a desktop's menu gives them: the .desktop files of freedesktop.org.

Only what a file on this machine says is ever run, word by word, without a shell; a name only chooses among the files.

Source: Desktop Entry Specification 1.5.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from visavis.errors import InputError

__all__ = ["Program", "find_program", "programs"]

_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_SHOWN = 20


class Program(NamedTuple):
    """A program of the menu."""

    id: str  # the file's name without .desktop
    name: str
    names: frozenset[str]  # all that people call it, any language, lower case
    command: tuple[str, ...]


def find_program(name: str) -> Program:
    """The program of this name: its own in any language, its file's or its command's, whatever the case.

    Raises:
        InputError: there is none, or there are several.
    """
    wanted = name.casefold().strip()
    known = list(programs())
    for names in (lambda p: {p.id.casefold(), p.name.casefold()}, lambda p: p.names):
        found = [program for program in known if wanted in names(program)]
        if len(found) == 1:
            return found[0]
        if found:
            break
    candidates = sorted({program.name for program in found or known})
    listed = ", ".join(candidates[:_SHOWN]) + (", ..." if len(candidates) > _SHOWN else "")
    raise InputError(
        f"name: expected {'one' if found else 'a program'} of {listed or 'no programs'}, got {name[:80]!r}"
    )


def programs() -> Iterator[Program]:
    """Every program that a menu would show; of files of one id, the first counts."""
    seen: set[str] = set()
    for folder in _folders():
        for file in sorted(folder.rglob("*.desktop")):
            identity = "-".join(file.relative_to(folder).with_suffix("").parts)
            if identity not in seen:
                seen.add(identity)
                program = _read(identity, file)
                if program:
                    yield program


def _folders() -> Iterator[Path]:
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for folder in (home, *shared.split(":")):
        if folder:
            yield Path(folder) / "applications"


def _read(identity: str, file: Path) -> Program | None:
    """The program of a file, or None: hidden, not installed, or no program."""
    fields: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    group = ""
    for line in lines:
        if line.startswith("["):
            group = line.strip()
        elif group == "[Desktop Entry]" and "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            fields.setdefault(key.strip(), _unescape(value.strip()))
    if fields.get("Type") != "Application" or "Name" not in fields:
        return None
    if "true" in (fields.get("Hidden"), fields.get("NoDisplay")):
        return None
    command = _command(fields, file)
    if not command or not all(map(shutil.which, (command[0], fields.get("TryExec") or command[0]))):
        return None
    names = {value for key, value in fields.items() if key.split("[")[0] in ("Name", "GenericName")}
    names |= {identity, identity.rsplit(".", 1)[-1], Path(command[0]).name}
    if fields.get("Terminal") == "true":
        command = ("x-terminal-emulator" if shutil.which("x-terminal-emulator") else "xterm", "-e", *command)
    return Program(identity, fields["Name"], frozenset(name.casefold() for name in names), command)


def _unescape(value: str) -> str:
    """The escapes of every string value; a backslash before anything else stays, for Exec's own quoting."""
    text, at = "", 0
    while at < len(value):
        if value[at] == "\\" and value[at + 1 : at + 2] in _ESCAPES:
            text += _ESCAPES[value[at + 1]]
            at += 2
        else:
            text += value[at]
            at += 1
    return text


def _command(fields: dict[str, str], file: Path) -> tuple[str, ...]:
    """The words of Exec: parted by spaces, double quotes hold together, field codes filled in; (): malformed."""
    words: list[str] = []
    word, quoted, begun = "", False, False
    text = iter(fields.get("Exec", ""))
    for character in text:
        if quoted and character == "\\":
            word += next(text, "")
        elif character == '"':
            quoted, begun = not quoted, True
        elif character == " " and not quoted:
            words += [word] if begun else []
            word, begun = "", False
        elif character == "%" and not quoted:
            code = next(text, "")
            if code in "ck%":
                word += {"c": fields["Name"], "k": str(file), "%": "%"}.get(code, "")
                begun = True
            elif code == "i" and fields.get("Icon"):
                words += ["--icon", fields["Icon"]]  # other codes stand for files to open: there are none
        else:
            word, begun = word + character, True
    return () if quoted else (*words, word) if begun else tuple(words)
