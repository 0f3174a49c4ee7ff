"""``visavis doctor``: what is installed, which models and accelerators, what to do about the rest."""

import importlib
import os
import platform
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis import __version__
from visavis.app.cli.models import describe
from visavis.app.libraries import Library, declared
from visavis.app.output import emit, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["doctor"]

Record = dict[str, Any]
NEEDED = {"face", "app"}  # the extras of the main job: know the people in a folder of photos


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tell what is installed and what is missing.

    Libraries, models and accelerators, and what to do about each that is missing. Exits with 0 when the main
    job, knowing the people in a folder of photos, can run; else with 1.
    """
    report = _examine()
    emit(report, as_json=json, text=_render(report))
    raise typer.Exit(0 if report["ok"] else 1)


def _examine() -> Record:
    libraries = [_look_at(library) for library in declared()]
    models, store = _look_at_models()
    problems = [
        {"problem": f"{library['name']} {library['error']}", "cure": library["cure"]}
        for library in libraries
        if library["error"] and (not library["extras"] or NEEDED & set(library["extras"]))
    ]
    problems += [
        {"problem": f"model {model['name']} is not here", "cure": "visavis face models pull default"}
        for model in models
        if "default" in model["packs"] and model["role"] != "liveness" and not model["present"]
    ]
    return {
        "ok": not problems,
        "visavis": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "libraries": libraries,
        "models": models,
        "store": store,
        "accelerators": {name: _ask(question) for name, question in ACCELERATORS.items()},
        "problems": problems,
    }


def _look_at(library: Library) -> Record:
    """One library; it counts as there when it can be imported, not when pip has a note of it."""
    error = None
    if library.version is None:
        error = "is not installed"
    else:
        try:
            importlib.import_module(library.module)
        except Exception as broken:  # whatever a damaged installation raises
            error = f"cannot be imported: {broken}"
    return {
        "name": library.name,
        "extras": library.extras,
        "version": library.version,
        "error": error,
        "cure": library.cure if error else None,
    }


def _look_at_models() -> tuple[list[Record], Record | None]:
    """The models, and the folder they are kept in; nothing when the extra `face` is not there to tell."""
    try:
        from visavis.face.models import models, store_folder

        folder = store_folder()
    except ImportError:
        return [], None
    found = [describe(spec) for spec in models().values()]
    there = next(parent for parent in [folder, *folder.parents] if parent.exists())
    return found, {"path": str(folder), "free_bytes": shutil.disk_usage(there).free}


def _torch_devices() -> list[str]:
    import torch

    cuda = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _openvino_devices() -> list[str]:
    import openvino

    core = openvino.Core()
    return [f"{device} {core.get_property(device, 'FULL_DEVICE_NAME')}" for device in core.available_devices]


def _openvino_precisions() -> list[str]:
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _onnxruntime_providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


ACCELERATORS: dict[str, Callable[[], list[str]]] = {
    "torch devices": _torch_devices,
    "OpenVINO devices": _openvino_devices,
    "OpenVINO CPU precisions": _openvino_precisions,
    "ONNX Runtime providers": _onnxruntime_providers,
}


def _ask(question: Callable[[], list[str]]) -> list[str] | None:
    """The answer, or None when the library cannot give one; why is told where the library is."""
    try:
        return question()
    except Exception:
        return None


def _render(report: Record) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table

    libraries = Table("library", "version", "for", box=None)
    for library in report["libraries"]:
        version = library["version"] or "-"
        if library["error"]:
            version += f"  {printable(library['error'])}"
        libraries.add_row(library["name"], version, ", ".join(library["extras"]) or "all of visavis")

    models = Table("model", "packs", "here", "licence", box=None)
    for model in report["models"]:
        here = "yes" if model["present"] else "no"
        models.add_row(model["name"], ", ".join(model["packs"]), here, model["licence"]["name"])

    accelerators = Table("accelerators", "", box=None)
    for name, found in report["accelerators"].items():
        accelerators.add_row(name, "unknown" if found is None else ", ".join(found))

    head = f"visavis {report['visavis']}, Python {report['python']}, "
    head += f"{report['platform']}, {report['cores']} cores"
    store = "where models are kept is unknown without the extra face"
    if report["store"]:
        folder, free_bytes = report["store"]["path"], report["store"]["free_bytes"]
        store = f" models are kept in {printable(folder)}, {free_bytes / 1e9:.1f} GB free"
    problems = [f"{found['problem']}; to mend it: {found['cure']}" for found in report["problems"]]
    verdict = problems or ["Everything needed to know the people in a folder of photos is here."]
    return Group(head, "", libraries, "", models, store, "", accelerators, "", *map(printable, verdict))
