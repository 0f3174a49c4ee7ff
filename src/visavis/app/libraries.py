"""Which optional library belongs to which extra, read from what our own package declares.

So there is no second list to keep: `pyproject.toml` is the only one.
"""

import re
from dataclasses import dataclass
from importlib import metadata

__all__ = ["Library", "cure", "declared"]

# Where it is not the name pip knows.
IMPORT_NAMES = {
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
    "python-xlib": "Xlib",
    "sse-starlette": "sse_starlette",
    "tensorboardx": "tensorboardX",
}
# What users run; `dev` and `docs` are for those who work on visavis.
EXTRAS = ("face", "train", "gui", "miniwob", "ray", "serve", "stream", "encryption", "milvus", "app")


@dataclass(frozen=True, slots=True)
class Library:
    name: str  # as pip knows it
    extras: tuple[str, ...]  # those that bring it; none: all of visavis needs it

    @property
    def module(self) -> str:
        return IMPORT_NAMES.get(self.name, self.name)

    @property
    def cure(self) -> str:
        return f'pip install "visavis[{self.extras[0]}]"' if self.extras else "pip install visavis"

    @property
    def version(self) -> str | None:
        """What is installed; None: nothing."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None


def declared() -> list[Library]:
    """The libraries visavis runs with, those for those who work on it left out."""
    extras: dict[str, list[str]] = {}
    for requirement in metadata.requires("visavis") or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and (extra is None or extra[1] in EXTRAS):
            extras.setdefault(name[0], []).extend([extra[1]] if extra else [])
    return [Library(name, tuple(bringing)) for name, bringing in extras.items()]


def cure(module: str) -> str | None:
    """The command that brings a top-level module, or None when it is none of ours to bring.

    >>> cure("typer")
    'pip install "visavis[app]"'
    """
    return next((library.cure for library in declared() if library.module == module), None)
