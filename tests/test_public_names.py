"""What users may import: `__all__` is complete, and a name once public goes only by way of a deprecation.

tests/public_names.txt records every public name; `python tests/test_public_names.py --update` adds the new.
"""

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

import visavis

RECORD = Path(__file__).with_name("public_names.txt")
MODULES = ["visavis", *(found.name for found in pkgutil.walk_packages(visavis.__path__, "visavis."))]


def public(module_name: str) -> set[str]:
    if any(part.startswith("_") for part in module_name.split(".")):
        return set()
    return {f"{module_name}:{name}" for name in getattr(importlib.import_module(module_name), "__all__", ())}


def recorded() -> set[str]:
    return set(RECORD.read_text().split())


@pytest.mark.parametrize("name", MODULES)
def test_all_is_complete(name):
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    assert len(set(module.__all__)) == len(module.__all__), f"{name}: __all__ names something twice"
    missing = [public_name for public_name in module.__all__ if not hasattr(module, public_name)]
    assert not missing, f"{name}: __all__ names what does not exist: {missing}"
    defined = {
        own
        for own, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
        and not own.startswith("_")
    }
    hidden = defined - set(module.__all__)
    assert not hidden, f"{name}: add to __all__, or start with an underscore: {sorted(hidden)}"


def test_no_public_name_is_gone():
    gone = recorded() - {name for module in MODULES for name in public(module)}
    assert not gone, (
        f"public names are gone: {sorted(gone)}. Keep each for one minor release, with a DeprecationWarning "
        "that names what to use instead and a line in CHANGELOG.md; then drop it in tests/public_names.txt."
    )


def test_every_public_name_is_recorded():
    new = {name for module in MODULES for name in public(module)} - recorded()
    assert not new, f"new public names: run `python tests/test_public_names.py --update` for {sorted(new)}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    names = recorded() | {name for module in MODULES for name in public(module)}
    RECORD.write_text("".join(f"{name}\n" for name in sorted(names)))
