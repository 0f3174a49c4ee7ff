"""What all tests share: hypothesis' profile, and the way to models and data that are not part of the repository."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from visavis.face.models import Pack, packs, pull, status, store_folder

if TYPE_CHECKING:
    from visavis.face.system import FaceSystem

ROOT = Path(__file__).parents[1]

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


def shared(*parts: str) -> Path:
    """A file or folder of the measuring data beside the repository; where it is not, the test skips."""
    path = Path(os.environ.get("VISAVIS_SHARED", ROOT.parent / "shared")).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}", allow_module_level=True)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; where there is none, the test skips."""
    from visavis.errors import ScreenError
    from visavis.gui.screen._browser import find_chromium

    try:
        return find_chromium()
    except ScreenError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def default_pack() -> Pack:
    """The default pack, when `make models` has fetched it; tests never do."""
    pack = packs()["default"]
    if not (status(pack.detector).present and status(pack.embedder).present):
        pytest.skip("needs the default pack: make models")
    return pack


@pytest.fixture(scope="session")
def _store_with_fast_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = shared("models")
    store = tmp_path_factory.mktemp("models")
    for folder in store_folder().glob("*") if store_folder().is_dir() else ():
        (store / folder.name).symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISAVIS_MODELS", str(store))
        patch.setenv("VISAVIS_MODEL_PATH", str(files))
        pull(packs()["fast"].detector)
        pull(packs()["fast"].embedder)
    return store


@pytest.fixture
def fast_pack(_store_with_fast_pack: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """The fast pack out of the measuring data, in a store of its own beside what the user's store holds."""
    monkeypatch.setenv("VISAVIS_MODELS", str(_store_with_fast_pack))
    return packs()["fast"]


@pytest.fixture(scope="session")
def squares_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the networks of `squares` lie; see tests/face/fake_pack.py."""
    from tests.face.fake_pack import write_pack

    return write_pack(tmp_path_factory.mktemp("squares")).parent


@pytest.fixture
def squares(squares_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The TOML of a pack that knows squares of nineteen colours apart and is as quick as that sounds."""
    monkeypatch.setenv("VISAVIS_MODELS", str(squares_folder / "store"))
    return squares_folder / "squares.toml"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos are analysed in this process: starting others takes a second. tests/face/test_workers.py has those."""
    from visavis.face.analyze import Analyzer
    from visavis.face.workers import Workers

    def run(recipe, chunks):
        analyzer = Analyzer(recipe.pack, calibration=recipe.calibration, precision=recipe.precision)
        for chunk in chunks:
            yield recipe.analyze(analyzer, chunk)

    monkeypatch.setattr(Workers, "run", run)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch works on one thread: results repeat to the last bit, and small tensors are quickest so."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An empty folder for photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def system(tmp_path: Path, squares: Path) -> "Iterator[FaceSystem]":
    """The face system on a new gallery of `squares`."""
    from visavis.face.system import FaceSystem

    with FaceSystem.open(tmp_path / "g.visavis", pack=squares) as system:
        yield system
