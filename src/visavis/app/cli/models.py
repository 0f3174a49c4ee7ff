"""``visavis face models``: which models there are, what their licence says, and how they come here."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.app.output import emit, printable, progress

if TYPE_CHECKING:
    from visavis.face.models import ModelSpec

__all__ = ["app", "describe"]

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[str, typer.Argument(help="A model, a pack, or the path of a pack's TOML file.")]


@app.callback(invoke_without_command=True)
def _list(context: typer.Context, json: Json = False) -> None:
    """List the models with licence and size; fetch one; tell about one.

    A pack is a detector and an embedder that work together: `default` comes through pip alone.
    """
    if context.invoked_subcommand is None:
        from rich.table import Table

        from visavis.face.models import models

        found = [describe(spec) for spec in models().values()]
        table = Table("model", "role", "packs", "licence", "MB", "here", box=None)
        for model in found:
            size = f"{model['size_bytes'] / 1e6:.1f}"
            here = "yes" if model["present"] else "no"
            table.add_row(model["name"], model["role"], ", ".join(model["packs"]), model["licence"]["name"], size, here)
        emit(found, as_json=json, text=table)


@app.command("info")
def _info(name: Name, json: Json = False) -> None:
    """Tell all about a model or a pack.

    Role, licence, size, files, hashes and sources of each model.
    """
    found = [describe(spec) for spec in _specs(name)]
    emit(found, as_json=json, text="\n\n".join(map(_as_text, found)))


@app.command("pull")
def _pull(
    name: Name,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take weights that are for research only.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch a model or a pack.

    Each file is checked by its hash; what is here already is not fetched again.
    """
    from visavis.face.models import pull

    paths = {}
    for spec in _specs(name):
        with progress(spec.name, data=True) as report:
            paths[spec.name] = str(pull(spec, accept_licence=accept_licence, progress=report))
    text = "\n".join(f"{name}: {printable(path)}" for name, path in paths.items())
    emit(paths, as_json=json, text=text)


def describe(spec: "ModelSpec") -> dict[str, Any]:
    """What there is to tell about a model, ready for JSON."""
    from visavis.face.models import packs, status

    state = status(spec)
    return {
        "name": spec.name,
        "role": spec.role,
        "packs": [pack.name for pack in packs().values() if spec in (pack.detector, pack.embedder, pack.liveness)],
        "licence": {
            "name": spec.licence.name,
            "url": spec.licence.url,
            "notes": spec.licence.notes,
            "research_only": spec.licence.research_only,
        },
        "size_bytes": state.size,
        "present": state.present,
        "path": None if state.path is None else str(state.path),
        "input": {"colour": spec.input.colour, "width": spec.input.width, "height": spec.input.height},
        "dim": spec.dim,
        "variants": [
            [
                {
                    "name": file.name,
                    "size_bytes": file.size,
                    "digest": file.digest,
                    "sources": [str(source) for source in file.sources],
                }
                for file in variant
            ]
            for variant in spec.variants
        ],
    }


def _specs(name: str) -> list["ModelSpec"]:
    from visavis.errors import ModelError
    from visavis.face.models import load_pack, models, packs

    known = models()
    if name in known:
        return [known[name]]
    if name not in packs() and not name.endswith(".toml"):
        raise ModelError(f"name: expected one of {', '.join([*known, *packs()])} or a .toml, got {name!r}")
    pack = load_pack(name)
    return [pack.detector, pack.embedder]


def _as_text(model: dict[str, Any]) -> str:
    licence = model["licence"]
    terms = [licence["name"], licence["url"], licence["notes"]]
    if licence["research_only"]:
        terms.append("for research only")
    size = model["input"]
    facts = {
        "role": model["role"],
        "packs": ", ".join(model["packs"]) or "none",
        "licence": "; ".join(filter(None, terms)),
        "input": f"{size['colour']}, " + (f"{size['width']}x{size['height']} px" if size["width"] else "any size"),
        "output": f"{model['dim']} numbers" if model["dim"] else None,
        "here": printable(model["path"]) if model["path"] else f"no; visavis face models pull {model['name']}",
    }
    lines = [model["name"], *(f"  {name}: {fact}" for name, fact in facts.items() if fact)]
    for number, variant in enumerate(model["variants"]):
        lines.append("  files:" if number == 0 else "  or:")
        for file in variant:
            lines.append(f"    {file['name']}, {file['size_bytes']} bytes, {file['digest']}")
            lines += [f"      from {printable(source)}" for source in file["sources"]]
    return "\n".join(lines)
