import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.face.small_gallery import JPEG, MODEL, add, contents, gallery, new_face, unit
from visavis.errors import GalleryError
from visavis.face.gallery import Counts, FolderGallery, NewFace, store

__all__ = ["gallery"]  # a fixture


# Forgetting


def traces(folder: Path, face: NewFace, name: str) -> list[tuple[str, str]]:
    """Which bytes of a face are found in which file."""
    scale = np.abs(face.embedding).max() / np.float32(127)
    needles = {
        "embedding": face.embedding.tobytes()[:24],
        "row": np.rint(face.embedding / scale).astype(np.int8).tobytes(),
        "thumbnail": face.thumbnail[len(JPEG) : len(JPEG) + 24],
        "name": name.encode(),
    }
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path.name, what) for path in files for what, needle in needles.items() if needle in path.read_bytes()]


def test_forget_leaves_no_byte_on_disk(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        for content in range(300):  # a history that moves rows about
            [first, second] = add(gallery, content, 2 * content, 2 * content + 1)
            gallery.enroll([second], f"Person {content}")
            if content % 3 == 0:
                gallery.assign([first], gallery.new_person(), pinned=False)
        victims = gallery.enroll([gallery.faces(photo=None)[9].id], "Nobody Known")
        for content in range(0, 300, 2):
            gallery.remove_file(Path(f"/photos/{content}.jpg"))
        gallery.search(unit(0)[None], 1)
        gallery._index.save()
        seeds = {row.id: int(row.detection.box_xyxy_px[0]) for row in gallery.faces(person=victims)}
        [face] = [new_face(seed) for seed in seeds.values()]
        assert {what for _, what in traces(tmp_path, face, "Nobody Known")} == {"embedding", "row", "thumbnail", "name"}
        assert gallery.forget(victims) == 1
        assert traces(tmp_path, face, "Nobody Known") == []
        assert gallery.find_person("Nobody Known") is None
        for person in gallery.people()[::5]:
            seeds = [int(row.detection.box_xyxy_px[0]) for row in gallery.faces(person=person.id)]
            gallery.forget(person.id)
            for seed in seeds:
                assert traces(tmp_path, new_face(seed), f"{person.name}\0") == []
    assert traces(tmp_path, face, "Nobody Known") == []


def test_forget_leaves_no_copy_of_a_name_that_was_moved_about(gallery):
    rng = np.random.default_rng(0)
    names: dict[int, str] = {}
    with gallery.transaction():
        for _ in range(9000):
            person = gallery.new_person() if not names or rng.random() < 0.6 else int(rng.integers(1, len(names) + 1))
            names[person] = rng.bytes(int(rng.integers(5, 10))).hex()
            gallery.name(person, names[person])
    gallery._database.truncate_log()
    database = gallery.folder / "gallery.sqlite"
    data = database.read_bytes()
    twice = [person for person, name in names.items() if data.count(name.encode()) > 2]  # table and index
    assert twice, "SQLite left no copy behind: this test shows nothing"
    for person in twice[:5]:
        gallery.forget(person)
        assert names[person].encode() not in database.read_bytes()


def test_forgotten_faces_do_not_come_back_with_their_photos(gallery, tmp_path):
    [ada, _] = add(gallery, 1, 1, 40)
    person = gallery.enroll([ada], "Ada")
    gallery.export_to(tmp_path / "before.zip")
    gallery.forget(person)
    assert gallery.has_content(f"{1:064x}")
    assert add(gallery, 1, 1, 40) == []
    gallery.import_from(tmp_path / "before.zip")
    assert gallery.counts() == Counts(1, 1, 0, 1, 0, 0)
    with pytest.raises(GalleryError, match="outside a transaction"), gallery.transaction():
        gallery.forget(person)


@pytest.mark.parametrize("others", [[], ["Bob"]])
def test_forgotten_faces_do_not_come_back_with_a_file_that_was_away(gallery, others):
    ids = add(gallery, 1, 1, 40)
    for face_id, name in zip(ids, ["Ada", *others], strict=False):
        gallery.enroll([face_id], name)
    gallery.remove_file(Path("/photos/1.jpg"))
    gallery.forget(gallery.find_person("Ada"))
    assert gallery.has_content(f"{1:064x}")
    assert add(gallery, 1, 1, 40) == []
    assert [row.person for row in gallery.faces()] == others


def size(folder: Path) -> int:
    return (folder / "gallery.sqlite").stat().st_size


def test_closing_gives_the_space_of_deleted_faces_back_and_loses_nothing(gallery, monkeypatch):
    monkeypatch.setattr(store, "COMPACT_ROWS", 150)
    for content in range(200):
        add(gallery, content, content)
    for content in range(149):
        gallery.remove_file(Path(f"/photos/{content}.jpg"))
    gallery.close()
    before = size(gallery.folder)
    with FolderGallery.open(gallery.folder) as again:  # with too few deleted nothing was done
        again.remove_file(Path("/photos/149.jpg"))
        held, thumbnails = contents(again), [again.thumbnail(row.id) for row in again.faces()]
        other = FolderGallery.open(gallery.folder)
        with other.transaction():
            again.close()
        other._database.close()
    assert size(gallery.folder) == before, "another process was writing"
    with FolderGallery.open(gallery.folder) as other, FolderGallery.open(gallery.folder) as again:
        again.close()
        assert size(gallery.folder) < before - 100_000
        assert contents(other) == held
        assert [other.thumbnail(row.id) for row in other.faces()] == thumbnails
        assert other.search(unit(199)[None], 1)[0] == other.faces()[-1].id
        assert not other._is_wasteful()
        assert traces(gallery.folder, new_face(3), "\0nobody") == []


# Crashes, other processes, full and read-only disks

CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.face.test_gallery import MODEL, add
    from visavis.face.gallery import FolderGallery
    folder, start, stop, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with FolderGallery.open(Path(folder), model=MODEL) as gallery:
        for content in range(start, stop):
            add(gallery, content, content)
            print(content, flush=True)
            if mode == "save":
                gallery._index.save()
    """
)


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}


def child(folder: Path, start: int, stop: int, mode: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(start), str(stop), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


@pytest.mark.parametrize("mode", ["", "save"])
def test_kill_loses_nothing_acknowledged_and_doubles_nothing(tmp_path, mode):
    rng = np.random.default_rng(0)
    done: list[int] = []  # acknowledged
    for round_ in range(5):
        start = 1000 * round_
        with child(tmp_path / "g", start, start + 1000, mode) as process:
            for _ in range(rng.integers(1, 40)):
                done.append(int(process.stdout.readline()))  # noqa: PERF401  one at a time, then the kill
            process.send_signal(signal.SIGKILL)
            done += [int(line) for line in process.stdout.read().split("\n") if line.isdigit()]
        with FolderGallery.open(tmp_path / "g") as gallery:
            held = Counter(row.mtime_ns for row in gallery.files())
            assert set(done) <= set(held)
            assert max(held.values()) == 1
            counts = gallery.counts()
            assert counts.photos == counts.files == counts.faces == len(held)
            assert counts.photos - len(set(done)) <= round_ + 1, "one more a kill may be on disk, unacknowledged"
            for content in done[-3:]:
                ids, _ = gallery.search(unit(content)[None], 1)
                assert gallery.faces(ids=ids[0])[0].detection.box_xyxy_px[0] == content


def test_two_processes_write_at_once(tmp_path):
    writers = [child(tmp_path / "g", start, start + 60, "save") for start in (0, 40)]  # the middle by both
    for process in writers:
        assert len(process.communicate()[0].split()) == 60
        assert process.returncode == 0
    with FolderGallery.open(tmp_path / "g") as gallery:
        assert gallery.counts() == Counts(100, 100, 0, 100, 0, 0)
        queries = np.array([unit(content) for content in range(100)])
        ids, _ = gallery.search(queries, 1)
        boxes = {row.id: row.detection.box_xyxy_px[0] for row in gallery.faces()}
        assert [boxes[i] for i in ids[:, 0]] == list(range(100))


def test_full_disk_is_an_error_and_loses_nothing(gallery):
    add(gallery, 1, 1)
    gallery._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    [(pages,)] = gallery._database.rows("PRAGMA page_count")
    gallery._database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(GalleryError, match="database or disk is full: free some space"):  # noqa: PT012  until it is
        for content in range(2, 200):
            add(gallery, content, content)
    counts = gallery.counts()
    assert 1 <= counts.photos == counts.files == counts.faces < 199
    gallery._database.rows(f"PRAGMA max_page_count = {pages * 100}")
    add(gallery, 500, 500)
    assert gallery.search(unit(500)[None], 1)[0] == gallery.faces()[-1].id


READER = textwrap.dedent(
    """
    import mmap, os, sys  # numpy imports mmap late, when the interpreter's folder may be out of reach
    from pathlib import Path
    import numkong
    from tests.face.test_gallery import add, unit
    from visavis.errors import GalleryError
    from visavis.face.gallery import FolderGallery
    if os.geteuid() == 0:  # root may write anywhere
        os.setgid(65534)
        os.setuid(65534)
    with FolderGallery.open(Path(sys.argv[1])) as gallery:
        assert not gallery.writable
        ids, similarities = gallery.search(unit(3)[None], 2)
        assert gallery.faces(ids=ids[0, :1])[0].detection.box_xyxy_px[0] == 3
        try:
            add(gallery, 9, 9)
        except GalleryError as error:
            print(error)
    """
)


@pytest.mark.parametrize("with_log", [False, True])
def test_read_only_folder_is_searched_but_not_written(with_log):
    with tempfile.TemporaryDirectory() as parent:  # below pytest's folder only its user may look
        Path(parent).chmod(0o755)
        folder = Path(parent) / "g"
        gallery = FolderGallery.open(folder, model=MODEL)
        for content in range(5):
            add(gallery, content, content)
        if not with_log:
            gallery.close()
        before = everything(folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", READER, str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert "this gallery is open for reading only" in run.stdout, run.stderr
        assert everything(folder) == before
        gallery.close()


def everything(folder: Path) -> dict[str, bytes]:
    """All files but the readers' marks that SQLite shares in memory."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in files}


def test_the_forgotten_stay_away_when_the_file_goes_and_comes_again(gallery):
    add(gallery, 1, 11, 12)
    [ada, _] = gallery.faces()
    gallery.forget(gallery.enroll([ada.id], "Ada"))
    for _ in range(2):
        gallery.remove_file(Path("/photos/1.jpg"))
        assert gallery.has_content(f"{1:064x}")
        assert add(gallery, 1, 11, 12) == []
    assert gallery.faces() == []  # the price: whoever else was in it went with the file
