"""``visavis inspect``: what a network costs and sees, and what of it does nothing."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from visavis.app.inspecting import Inspection

__all__ = ["inspect"]

LINES = 40  # of the table at most, where --depth is not given


def inspect(
    model: Annotated[
        str,
        typer.Argument(help="module:factory, file.py:factory, or timm:NAME. The module is imported: its code runs."),
    ],
    shape: Annotated[
        str, typer.Option("--input", "-i", help="Channels and size of one image, without the batch, as 3x224x224.")
    ] = "3x224x224",
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", help="key=value for the factory; may be given again.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write one self-contained page there.", show_default=False)
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", min=1, help="How deep modules are opened; when not given, as fits 40 lines.", show_default=False
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Compute nothing: leave out redundant biases and foldable norms, which need it."),
    ] = False,
    json: Json = False,
) -> None:
    """Tell what a network costs and sees, layer by layer.

    Findings first, then a table: shapes, parameters, FLOPs, memory and receptive fields. No weights are fetched, and
    the network runs on numbers only to prove which biases and norms it can do without. To build the network its module
    is imported and its factory called, as Python would: give no module that you would not run.
    """
    pieces = re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,3}", shape)
    if not pieces:
        raise typer.BadParameter(
            f"expected channels and one to three sizes, each at least 1, as 3x224x224, got {shape!r}",
            param_hint="--input",
        )
    from visavis.app.inspecting import examine
    from visavis.app.inspection_page import write_page
    from visavis.app.networks import load, parse_arguments
    from visavis.errors import InputError

    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise InputError(f"html: expected a file in a folder that exists, got {str(html)!r}")
    network = load(model, parse_arguments(arg or []))
    found = examine(network, tuple(map(int, shape.split("x"))), name=model, prove=not quick)
    if html is not None:
        write_page(found, html, depth=depth or found.depth_for(LINES))
    emit(found.to_json(), as_json=json, text=_render(found, depth or found.depth_for(LINES), html))


def _render(found: "Inspection", depth: int, page: Path | None) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from visavis.app.inspecting import amount, field_text, marks_text, memory, shape_text

    total = found.total
    saved = "" if total.saved_bytes is None else f", {memory(total.saved_bytes)} saved for backward"
    head = f"{found.model} on {shape_text(found.input_shape)}: {amount(total.parameters)} parameters, "
    head += f"{amount(total.flops)}FLOPs, {memory(total.activation_bytes)} activations{saved}, an image"
    styles = {"mend": "bold yellow", "unknown": "magenta", "know": "cyan"}
    findings = [
        Text.assemble((f"{finding.level}: ", styles[finding.level]), printable(finding.text))
        for finding in found.findings
    ]
    layers = Table("layer", "kind", "output", box=None)
    for title in ("parameters", "FLOPs", "activations", "saved", "field"):
        layers.add_column(title, justify="right", no_wrap=True)
    layers.add_column("")
    for row in [*found.shown(depth), total]:
        kind = row.kind if row.calls < 2 else f"{row.kind} x{row.calls}"
        layers.add_row(
            printable(row.name or "all"),
            printable(kind if row.calls else f"{kind}, never run"),
            shape_text(row.shape[1:]),
            amount(row.parameters) if row.parameters else "-",
            amount(row.flops) if row.flops else "-",
            memory(row.activation_bytes),
            memory(row.saved_bytes),
            field_text(row.field),
            marks_text(row) if row.name else "",
        )
    below = [] if page is None else ["", f"page: {printable(page)}"]
    return Group(printable(head), "", *findings, "", layers, *below)
