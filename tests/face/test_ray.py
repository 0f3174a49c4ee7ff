"""Indexing on a real Ray cluster of this computer."""

import os
import signal

import psutil
import pytest

from tests.face.fake_pack import photo
from visavis.errors import InputError, MissingExtraError
from visavis.face.indexing import IndexReport
from visavis.face.system import FaceSystem
from visavis.face.workers import AnalysisOptions

FACES = 48


@pytest.fixture
def many(photos):
    for number in range(FACES):
        photo(photos / f"{number:02}.png", number % 19)
    return photos


def contents(system):
    """All that was found, bit for bit, whatever the order."""
    digests = {row.id: row.sha256 for row in system.gallery.photos()}
    vectors = system.gallery.embeddings().vectors
    return sorted(
        (
            digests[face.photo_id],
            face.detection.box_xyxy_px.tobytes(),
            face.detection.landmarks_xy_px.tobytes(),
            face.quality,
            vector.tobytes(),
            system.gallery.thumbnail(face.id),
        )
        for face, vector in zip(system.gallery.faces(), vectors, strict=True)
    )


def processes():
    """Ray's, below this one."""
    return [child for child in psutil.Process().children(recursive=True) if "ray" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_cluster_finds_what_this_computer_finds_whatever_dies(tmp_path, squares, many, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    (many / "deadly.png").write_bytes((many / "00.png").read_bytes() + b"\0")
    died, killed = tmp_path / "died", []

    class Deadly(AnalysisOptions):
        def read(self, path):
            if path.name == "deadly.png":
                os._exit(1)
            if path.name == "30.png" and not died.exists():  # as if its machine had gone, once
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(path)

    def kill_one(done, _total):
        if done >= 8 and not killed:
            working = [child for child in processes() if child.cmdline()[0].startswith("ray::_look")]
            killed.extend(working[:1])
            for child in killed:
                child.kill()

    with FaceSystem.open(tmp_path / "g", pack=squares, options=Deadly()) as system:
        report = system.index(many, workers=2, ray="local", clusters=False, progress=kill_one)
        reason = "file: decoding it ended the process (damaged, or made to do harm)"
        assert report == IndexReport(added=FACES, faces=FACES, skipped=[(many / "deadly.png", reason)])
        assert died.exists()
        assert killed
        _, alive = psutil.wait_procs(processes(), timeout=60)
        assert alive == []
        (many / "deadly.png").unlink()
        with FaceSystem.open(tmp_path / "here", pack=squares) as here:
            here.index(many, workers=1, clusters=False)
            assert contents(system) == contents(here)


def test_what_ray_cannot_do(system, photos, monkeypatch):
    photo(photos / "a.png", 0)
    with pytest.raises(InputError, match="workers: expected none beside the address of a cluster, got 2"):
        system.index(photos, workers=2, ray="127.0.0.1:1")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "visavis\[ray\]"'):
        system.index(photos, ray="local")
