"""``visavis`` itself: what stands above the groups of commands."""

from typing import Annotated

import typer

from visavis import __version__
from visavis.app.cli import doctor, face, gui, inspection, serve

__all__ = ["app"]

# \b keeps the lines of a paragraph as they are; the list is one in the terminal and in docs/cli.md.
EPILOG = """
Exit codes, for scripts:

\b
- 0: done
- 1: ran, and the answer is no or a problem was found
- 2: the command line is wrong
- 3: an input cannot be used: a photo, a model, a gallery, a file
- 130: stopped by Ctrl-C

With --json the answer is one JSON document on standard output; for exit code 3 it is
`{"error": {"type": ..., "message": ...}}`.
"""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, epilog=EPILOG)
app.add_typer(face.app, name="face")
app.add_typer(gui.app, name="gui")
app.command()(doctor.doctor)
app.command()(inspection.inspect)
app.command()(serve.serve)
app.add_typer(serve.tokens, name="tokens")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"visavis {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Machines that look: know the people in a folder of photos, use programs by their pixels, inspect networks.

    Start with `visavis doctor`, which tells what is installed and what to do about the rest, and
    `visavis face demo`, which shows the whole path on sample photos. Photos never leave this computer; screenshots of
    `visavis gui run` go to the endpoint you name.
    """
