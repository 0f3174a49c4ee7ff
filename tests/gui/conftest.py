"""What tests need of the system: skipped where it is not there."""

import shutil

import pytest


@pytest.fixture(scope="session")
def x_display():
    """The name of an X display of this worker's own, 1280 x 800, with a window manager."""
    missing = [program for program in ("Xvfb", "openbox") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    from tests.gui.x11 import x_server

    with x_server() as (name, _):
        yield name
