"""The dependency rule: what each part of visavis may import, of ours and of others."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from visavis.app.libraries import IMPORT_NAMES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "visavis"
# Files and folders at the top of visavis, each with the parts beside itself that it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"app"},
    "errors": set(),
    "blocks": {"errors"},
    "face": {"errors", "blocks", "__version__"},
    "gui": {"errors", "blocks"},
    "app": {"errors", "blocks", "face", "gui", "__version__"},
}
EXTRAS: dict[str, list[str]] = {
    "blocks": ["plots"],  # inside the functions that draw, which tests/test_imports.py holds
    "face": ["encryption", "face", "milvus", "ray", "stream", "train"],
    "gui": ["gui", "miniwob", "ray"],
    "app": ["app", "face", "gui", "miniwob", "ray", "serve", "train"],
}
FILES = sorted(SOURCE.rglob("*.py"))


def part(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Every import of a file, those inside functions too, as (line, dotted name)."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def declared(*extras: str) -> set[str]:
    """The modules that `pip install visavis[extras]` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    requirements = sum((optional[extra] for extra in extras), start=project["dependencies"])
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in requirements]
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_every_part_has_its_rule():
    assert {part(file) for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_down(file):
    allowed = MAY_IMPORT[part(file)] | {part(file)}
    for line, name in imports(file):
        package, *rest = name.split(".")
        assert package != "visavis" or (rest and rest[0] in allowed), f"{file}:{line}: {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_of_others_are_declared(file):
    allowed = {"visavis"} | sys.stdlib_module_names | declared(*EXTRAS.get(part(file), []))
    for line, name in imports(file):
        assert name.split(".")[0] in allowed, f"{file}:{line}: {name} is in no dependency of this part"
