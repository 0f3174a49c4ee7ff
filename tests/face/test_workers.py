"""With real worker processes; the options travel to them by value, and so can be made to do harm there."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256

import numpy as np
import psutil
import pytest

from tests.face.fake_pack import photo
from visavis.errors import GalleryError, LandmarkError, ModelError
from visavis.face.indexing import IndexReport
from visavis.face.match import calibration_of
from visavis.face.models import load_pack, pull
from visavis.face.system import FaceSystem
from visavis.face.workers import AnalysisOptions, File, Outcome, Workers

SCRIPT = """
from visavis.face import FaceSystem
faces = FaceSystem.open({gallery!r}, pack={pack!r})
report = faces.index({photos!r}, workers=2, progress=lambda done, total: print(done, total, flush=True))
print(report)
"""


def recipe(pack, options=None, count=2):
    loaded = load_pack(pack)
    for spec in (loaded.detector, loaded.embedder):
        pull(spec)
    return Workers(loaded, calibration_of(loaded), options or AnalysisOptions(), "float32", count)


def run(workers, *chunks):
    """What became of each file: the number of its faces, or why it was skipped."""
    files = [[File(path, path.stat().st_size, 0) for path in chunk] for chunk in chunks]
    return {
        outcome.file.path.name: outcome.photo if isinstance(outcome.photo, str) else len(outcome.faces)
        for outcomes in workers.run(files)
        for outcome in outcomes
    }


def children():
    """Worker processes of this one; what tracks loky's semaphores stays."""
    return [
        child for child in psutil.Process().children(recursive=True) if "resource_tracker" not in str(child.cmdline())
    ]


@pytest.fixture
def paths(tmp_path):
    return [photo(tmp_path / f"{number}.png", *range(number)) for number in range(5)]


def test_no_photo_is_left_out_when_all_that_are_in_work_are_done_at_once(squares, paths, monkeypatch):
    class Prompt:
        """A pool whose work is done when it has been handed over."""

        def submit(self, _function, files):
            future = Future()
            future.set_result([Outcome(file, "seen", []) for file in files])
            return future

        def shutdown(self, **_options):
            pass

    monkeypatch.setattr(Workers, "_pool", lambda _self, _count: Prompt())
    assert run(recipe(squares, count=1), *([path] for path in paths)) == {path.name: "seen" for path in paths}


def test_every_photo_comes_back_with_its_faces(squares, paths):
    assert run(recipe(squares), paths[:2], paths[2:]) == {f"{number}.png": number for number in range(5)}
    assert run(recipe(squares)) == {}
    assert children() == []


def test_a_file_that_ends_its_process_is_named_and_costs_no_other(squares, paths):
    class Deadly(AnalysisOptions):
        def read(self, path):
            if path.name in ("1.png", "3.png"):
                os._exit(1)
            return super().read(path)

    outcomes = run(recipe(squares, Deadly()), paths[:2], paths[2:4], paths[4:])
    reason = "file: decoding it ended the process (damaged, or made to do harm)"
    assert outcomes == {"0.png": 0, "1.png": reason, "2.png": 2, "3.png": reason, "4.png": 4}
    assert children() == []


@pytest.fixture
def pools(monkeypatch):
    """Functions of a pool's number and the pool, each called when a pool is made."""
    made, hooks = [], []
    make = Workers._pool

    def make_and_tell(self, count):
        made.append(make(self, count))
        for hook in hooks:
            hook(len(made), made[-1])
        return made[-1]

    monkeypatch.setattr(Workers, "_pool", make_and_tell)
    return hooks


def test_a_pool_that_breaks_before_it_is_handed_a_file(squares, paths, pools):
    def break_the_first(number, pool):
        if number == 1:
            with pytest.raises(BrokenProcessPool):
                pool.submit(os._exit, 1).result()

    pools.append(break_the_first)
    outcomes = run(recipe(squares), paths[:2], paths[2:])
    assert outcomes == {f"{number}.png": number for number in range(5)}


@pytest.mark.parametrize("error", [MemoryError(), LandmarkError("no pose"), RuntimeError("cannot allocate")])
def test_a_photo_that_cannot_be_analysed_costs_no_other(squares, paths, error):
    class Failing(AnalysisOptions):
        def analyze(self, analyzer, photos):
            if any(one.photo.path.name == "2.png" for one in photos):
                raise error
            return super().analyze(analyzer, photos)

    outcomes = run(recipe(squares, Failing(), count=1), paths)
    assert outcomes.pop("2.png") == f"photo: its faces cannot be analysed ({error})".replace(
        "()", "(not enough memory)"
    )
    assert outcomes == {f"{number}.png": number for number in (0, 1, 3, 4)}


def test_too_little_memory_is_told_and_tried_again_next_time(squares, paths, tmp_path):
    class Short(AnalysisOptions):
        def read(self, path):
            if path.name == "1.png":
                np.empty(2**60, np.uint8)
            return super().read(path)

    reason = "photo: decoding it takes more memory than there is"
    assert run(recipe(squares, Short(), count=1), paths[:3]) == {"0.png": 0, "1.png": reason, "2.png": 2}
    with FaceSystem.open(tmp_path / "g", pack=squares, options=Short()) as system:
        assert system.index(*paths, workers=1).skipped == [(paths[1], reason)]
        assert system.gallery.counts().skipped == 0


def test_an_error_of_ours_reaches_the_caller(squares, paths, tmp_path):
    shutil.copytree(squares.parent, tmp_path / "pack", ignore=shutil.ignore_patterns("store"))
    network = tmp_path / "pack" / "embedder.onnx"
    old, new = network.read_bytes(), b"no network"
    network.write_bytes(new)
    pack = tmp_path / "pack" / squares.name
    text = pack.read_text().replace(sha256(old).hexdigest(), sha256(new).hexdigest())
    pack.write_text(text.replace(f"size = {len(old)}", f"size = {len(new)}"))
    with pytest.raises(ModelError, match="embedder.onnx: OpenVINO cannot load it"):
        run(recipe(pack), paths)
    assert children() == []


@pytest.mark.parametrize("deadly", [{1, 2}, {2}, {3}])
def test_models_that_end_the_process_are_not_blamed_on_photos(squares, paths, pools, deadly):
    """In the first pool, in the one that looks for the culprit, or in the one after that."""

    class Harmful(AnalysisOptions):
        armed = False

        def __reduce__(self):
            return (os._exit, (1,)) if self.armed else (type(self), ())

        def read(self, path):
            if path.name == "1.png":
                os._exit(1)
            return super().read(path)

    pools.append(lambda number, _pool: setattr(Harmful, "armed", number in deadly))
    with pytest.raises(ModelError, match="pack squares: expected models that a worker process can load, but it ended"):
        run(recipe(squares, Harmful(), count=1), paths)
    assert children() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, GalleryError])
def test_nothing_runs_on_after_an_interruption(squares, tmp_path, error):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        photo(folder / f"{number}.png", number % 19)
    os.mkfifo(tmp_path / "never")

    class Stuck(AnalysisOptions):  # in the second chunk, beside the first
        def read(self, path):
            if path.name == "2.png" and (tmp_path / "never").exists():
                (tmp_path / "never").read_bytes()
            return super().read(path)

    def stop(done, _total):
        if done:
            raise error

    with FaceSystem.open(tmp_path / "g", pack=squares, options=Stuck()) as system:
        with pytest.raises(error) as caught:
            system.index(folder, workers=2, progress=stop)
        assert children() == []  # while the traceback, which holds all that was going on, is still there
        assert caught.tb is not None
        assert system.gallery.counts().photos == 8
        (tmp_path / "never").unlink()
        assert system.index(folder, workers=2).added == 32


def start(script, **options):
    """A Python process, once it has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    return process, process.stdout.readline()


@pytest.fixture
def script(squares, tmp_path):
    """A plain script, with no guard round what it does, that indexes 60 photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(60):
        photo(folder / f"{number}.png", number % 19)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(gallery=str(tmp_path / "g"), pack=str(squares), photos=str(folder)))
    return path


def test_a_plain_script_needs_no_guard(script):
    process, first = start(script)
    out, err = process.communicate()
    assert (first, err) == ("0 60\n", "")
    assert out.endswith("60 60\n" + str(IndexReport(added=60, faces=60)) + "\n")


def test_workers_end_when_their_parent_is_killed(script):
    process, _ = start(script)
    assert process.stdout.readline() == "8 60\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_workers_leave_ctrl_c_to_their_parent(script):
    process, _ = start(script)
    assert process.stdout.readline() == "8 60\n"
    for worker in psutil.Process(process.pid).children(recursive=True):
        worker.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert out.endswith("60 60\n" + str(IndexReport(added=60, faces=60)) + "\n")


@pytest.mark.skipif(os.name == "nt", reason="no process groups there")
def test_ctrl_c_in_a_terminal_ends_all(script):
    process, _ = start(script, start_new_session=True)
    assert process.stdout.readline() == "8 60\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
    _, err = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.endswith("KeyboardInterrupt\n")
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
