"""The command ``visavis``: `main` runs it, each of the other files here holds one group of its commands.

A command parses, makes one call and shows what came back. What it needs it imports inside, so that
``visavis --help`` answers at once; the exit codes are told there.
"""

import json
import os
import sys
from collections.abc import Sequence

from visavis.app.libraries import cure
from visavis.app.output import printable
from visavis.errors import MissingExtraError, VisavisError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` as in ``sys.argv[1:]``, which is the default. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in sys.stdout, sys.stderr:
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text files, both
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (VisavisError, OSError) as error:
        if "--json" in arguments:
            print(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}))  # noqa: T201
        text = "\n".join(map(printable, str(error).split("\n")))  # some errors list what was tried
        print(f"visavis: {text}", file=sys.stderr)  # noqa: T201
        return 3
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        from visavis.app.cli.root import app

        app(arguments, prog_name="visavis")
    except SystemExit as stop:
        return int(stop.code or 0)
    except ModuleNotFoundError as missing:
        command = cure((missing.name or "").partition(".")[0])
        if command is None:
            raise
        raise MissingExtraError(f"{missing.name}: expected it to be installed; {command}") from missing
    return 0
