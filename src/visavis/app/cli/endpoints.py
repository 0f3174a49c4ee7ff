"""What the commands share that ask a model behind an endpoint: their options, and the way to it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from visavis.gui.actions import Dialect
    from visavis.gui.model import Model

__all__ = [
    "DIALECT",
    "ENDPOINT",
    "MODEL",
    "ApiKey",
    "Dialects",
    "Endpoint",
    "ModelName",
    "Pointing",
    "Spoken",
    "dialect_of",
    "kept",
    "remote_model",
]

Dialects = Literal["ui-tars-1.5", "ui-tars-1.0", "doubao-1.5", "mobile", "json-tools"]
Pointing = Literal["grounding", Dialects]
Endpoint = Annotated[
    str, typer.Option("--endpoint", envvar="VISAVIS_ENDPOINT", help="Where the model is served, as OpenAI's API.")
]
ModelName = Annotated[str, typer.Option("--model", envvar="VISAVIS_MODEL", help="The model's name there.")]
Spoken = Annotated[Dialects, typer.Option("--dialect", help="How the model is spoken with.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", help="env:VARIABLE or file:PATH, the key that the endpoint asks for.", show_default=False
    ),
]
ENDPOINT = "http://127.0.0.1:8000/v1"
MODEL = "ui-tars-1.5-7b"
DIALECT: Dialects = "ui-tars-1.5"


def remote_model(endpoint: str, name: str, dialect: Pointing, key: str | None) -> "Model":
    """The model that is served there; `key`: where its key is kept, see `kept`."""
    from visavis.gui.model import RemoteModel

    api_key = None if key is None else kept("--api-key", key)
    return RemoteModel(endpoint, name, dialect=dialect_of(dialect), api_key=api_key)


def dialect_of(name: Pointing) -> "Dialect":
    """The dialect of a name."""
    from visavis.gui import actions

    dialects: dict[Pointing, Dialect] = {
        "grounding": actions.GROUNDING,
        "ui-tars-1.5": actions.UI_TARS_1_5,
        "ui-tars-1.0": actions.UI_TARS_1_0,
        "doubao-1.5": actions.DOUBAO_1_5,
        "mobile": actions.MOBILE,
        "json-tools": actions.JSON_TOOLS,
    }
    return dialects[name]


def kept(option: str, source: str) -> str:
    """A text that is told by where it is kept, as command lines are seen by all."""
    kind, _, where = source.partition(":")
    if kind == "env" and where in os.environ:
        return os.environ[where]
    if kind == "file" and where:
        return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
    problem = f"there is no variable {where}" if kind == "env" else "got something else"
    raise typer.BadParameter(f"expected env:VARIABLE or file:PATH; {problem}", param_hint=option)
