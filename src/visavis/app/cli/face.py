"""``visavis face``: the face-recognition system."""

import typer

from visavis.app.cli import models

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Know the people in a folder of photos.")
app.add_typer(models.app, name="models")
