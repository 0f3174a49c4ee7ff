"""Several runs that index into one gallery: no photo is looked at twice, and a run that dies holds nobody up."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.face.fake_pack import photo
from tests.face.small_gallery import MODEL, add
from visavis.face.gallery import FolderGallery
from visavis.face.gallery.claims import Taken
from visavis.face.indexing import IndexReport
from visavis.face.system import FaceSystem
from visavis.face.workers import new_face

RUN = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from visavis.face.analyze import Analyzer
    from visavis.face.system import FaceSystem
    from visavis.face.workers import AnalysisOptions, Workers
    gallery, pack, photos, log, key, stop_after = sys.argv[1:]

    class Noting(AnalysisOptions):
        def read(self, path):
            with open(log, "a") as file:
                file.write(f"{path.name}\\n")
            return super().read(path)

    def run(recipe, chunks):  # in this process, but with as many chunks under way as a pool has
        analyzer = Analyzer(recipe.pack, calibration=recipe.calibration, precision=recipe.precision)
        waiting = []
        for chunk in chunks:
            waiting.append(chunk)
            if len(waiting) == 3:
                yield recipe.analyze(analyzer, waiting.pop(0))
        for chunk in waiting:
            yield recipe.analyze(analyzer, chunk)

    def progress(done, total):
        if int(stop_after) and done >= int(stop_after):
            os._exit(9)

    Workers.run = run
    with FaceSystem.open(gallery, pack=pack, options=Noting(), key=key or None) as system:
        print("open", flush=True)
        sys.stdin.readline()
        report = system.index(photos, workers=1, clusters=False, progress=progress)
        print(report.added, report.known, report.by_others, flush=True)
    """
)


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def many(photos):
    """Sixty photos, and a copy of each fifth."""
    for number in range(60):
        photo(photos / f"{number:02}.png", number % 19)
    for number in range(0, 60, 5):
        shutil.copy(photos / f"{number:02}.png", photos / f"{number:02} copy.png")
    return photos


def contents(gallery):
    """What does not hang on the order in which photos came in."""
    paths = {row.id: row.sha256 for row in gallery.photos()}
    files = sorted((row.path, row.sha256, row.skipped) for row in gallery.files())
    faces = gallery.faces()
    vectors = gallery.embeddings().vectors
    return files, sorted(
        (paths[face.photo_id], face.detection.box_xyxy_px.tobytes(), vector.tobytes(), gallery.thumbnail(face.id))
        for face, vector in zip(faces, vectors, strict=True)
    )


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("key", ["", "correct horse battery"])
def test_two_runs_look_at_each_photo_once(tmp_path, squares, many, key):
    if key:
        pytest.importorskip("sqlcipher3")
    log = tmp_path / "log"
    FaceSystem.open(tmp_path / "g", pack=squares, key=key or None).close()
    runs = [start(tmp_path / "g", squares, many, log, key, 0) for _ in range(2)]
    for run in runs:
        assert run.stdout.readline() == "open\n"
    told = []
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    for run in runs:
        out, _ = run.communicate()
        assert run.returncode == 0
        told.append(tuple(map(int, out.split())))
    seen = Counter(name.removesuffix(" copy.png").removesuffix(".png") for name in log.read_text().split("\n") if name)
    assert seen == Counter(f"{number:02}" for number in range(60)), "each content once, whatever its name"
    assert all(added for added, _, _ in told), "both have worked"
    assert sum(added for added, _, _ in told) == 60
    assert all(sum(counts) == 72 for counts in told), "both know of every file"
    with FolderGallery.open(tmp_path / "g", key=key or None) as gallery:
        assert gallery._database.rows("SELECT count(*) FROM claim") == [(0,)]
        assert list((tmp_path / "g" / "indexing").iterdir()) == []
        with FaceSystem.open(tmp_path / "alone", pack=squares) as alone:
            alone.index(many, clusters=False)
            assert contents(gallery) == contents(alone.gallery)


@pytest.mark.usefixtures("in_process")
def test_a_run_that_was_killed_is_finished_by_the_next(tmp_path, squares, many):
    log = tmp_path / "log"
    with start(tmp_path / "g", squares, many, log, "", 8) as run:
        run.communicate("\n")
    assert run.returncode == 9
    with FaceSystem.open(tmp_path / "g", pack=squares) as system:
        assert system.gallery._database.rows("SELECT count(*) FROM claim") != [(0,)], "it was killed at work"
        report = system.index(many)
        assert (report.unchanged, report.added + report.known) == (8, 64)
        assert system.gallery.counts().files == 72
        assert system.gallery._database.rows("SELECT count(*) FROM claim") == [(0,)]
        assert list((tmp_path / "g" / "indexing").iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_photos_that_another_run_claims_are_waited_for(system, squares, photos, monkeypatch):
    """One that is stored meanwhile, one that the other gives up, one that is a copy of what it looks at."""
    for number in range(3):
        photo(photos / f"{number}.png", number)
    shutil.copy(photos / "0.png", photos / "copy.png")
    other = FolderGallery.open(system.gallery.folder)
    claims = other.claims()
    status = {path.name: path.stat() for path in photos.iterdir()}

    def facts(name):
        return photos / name, status[name].st_size, status[name].st_mtime_ns

    assert [claims.take(*facts(f"{number}.png"))[0] for number in (0, 1)] == [Taken.HERE] * 2
    waits = []

    def store_or_give_up(_seconds):
        waits.append(len(system.gallery.files()))
        if len(waits) == 2:
            with FaceSystem.open(system.gallery.folder, pack=squares) as also:
                record, faces = also._look(photos / "0.png")
            path, size_bytes, mtime_ns = facts("0.png")
            with other.transaction():
                other.add_photo(record.photo, size_bytes=size_bytes, mtime_ns=mtime_ns, faces=[new_face(faces[0])])
                claims.release([path])
        if len(waits) == 3:
            claims.close()

    monkeypatch.setattr("visavis.face.indexing.time.sleep", store_or_give_up)
    steps = []
    report = system.index(photos, progress=lambda done, total: steps.append((done, total)))
    other.close()
    assert report == IndexReport(added=2, known=1, by_others=1, faces=2)
    assert waits == [1, 1, 3]
    assert steps[-1] == (4, 4)


def test_what_is_taken(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        one, two = gallery.claims(), gallery.claims()
        for name, data in (("a", b"1234"), ("b", b"1234"), ("c", b"4321"), ("d", b"12345")):
            (tmp_path / name).write_bytes(data)
        a, b, c, d = (tmp_path / name for name in "abcd")
        assert one.take(a, 4, 1) == (Taken.HERE, None)
        assert two.take(a, 4, 1) == (Taken.LATER, None)
        assert one.take(a, 4, 1) == (Taken.LATER, None), "its own is at work, too"
        assert two.take(b, 4, 1) == (Taken.LATER, None), "a copy"
        assert two.take(c, 4, 1) == (Taken.HERE, None), "as long, and other content"
        assert two.take(d, 5, 1) == (Taken.HERE, None)
        assert one.take(tmp_path / "gone", 4, 1) == (Taken.HERE, None), "whoever looks will tell"
        gallery.add_skipped(c, 4, 1, "no photo")
        add(gallery, 7, 7, path=str(a))
        assert one.take(c, 4, 1) == (Taken.STORED, "no photo")
        assert one.take(a, 10, 7) == (Taken.STORED, None)
        one.close()
        assert two.take(b, 4, 1) == (Taken.HERE, None)
        two.close()
        assert gallery._database.rows("SELECT count(*) FROM claim") == [(0,)]
