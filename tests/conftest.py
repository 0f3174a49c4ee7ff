"""What all tests share: hypothesis' profile, and the way to the data that is not part of the repository."""

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


def shared(*parts: str) -> Path:
    """A file or folder of the measuring data beside the repository; where it is not, the test skips."""
    path = ROOT.parent.joinpath("shared", *parts)
    if not path.exists():
        pytest.skip(f"needs {path}", allow_module_level=True)
    return path
