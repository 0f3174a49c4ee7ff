import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from visavis.errors import GalleryError, InputError, TensorError
from visavis.face.gallery import Counts, EmbedderId, Gallery, Imported, NewFace
from visavis.face.records import Detection, Photo

DIM = 32
MODEL = EmbedderId("test", "ab" * 32, DIM)
JPEG = b"\xff\xd8\xff\xe0"


def unit(seed: int, dim: int = DIM):
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def new_face(seed: int, quality: float = 0.5) -> NewFace:
    box = np.array([seed, 0, seed + 10, 12], np.float32)
    detection = Detection(box, np.arange(10, dtype=np.float32).reshape(5, 2), 0.75)
    return NewFace(detection, 1.5, quality, unit(seed), JPEG + np.random.default_rng(seed).bytes(300))


def add(gallery: Gallery, content: int, *seeds: int, path: str | None = None) -> list[int]:
    """A photo whose content is the number, with a face a seed."""
    where = Path(path or f"/photos/{content}.jpg")
    photo = Photo(where, f"{content:064x}", 640, 480, datetime(2020, 1, 2, 3, 4, 5))
    faces = [new_face(seed) for seed in seeds]
    return gallery.add_photo(photo, size_bytes=10, mtime_ns=content, faces=faces)


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "g", model=MODEL) as gallery:
        yield gallery


def contents(gallery: Gallery):
    """All that an export would carry, in a form that compares."""
    return (
        gallery.counts(),
        gallery.people(),
        gallery.files(),
        gallery.embeddings().vectors.tobytes(),
        gallery.separated(),
    )


# Opening


def test_what_was_put_in_comes_out(tmp_path):
    with Gallery.open(tmp_path / "g", model=MODEL) as gallery:
        [first, second] = add(gallery, 1, 11, 12)
        gallery.enroll([second], "Ada")
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.model == MODEL
        row, enrolled = gallery.faces()
        assert (row.id, row.person_id, row.pinned, row.enrolled) == (first, None, False, False)
        assert (enrolled.id, enrolled.person, enrolled.pinned, enrolled.enrolled) == (second, "Ada", True, True)
        assert row.path == Path("/photos/1.jpg")
        expected = new_face(11)
        np.testing.assert_array_equal(row.detection.box_xyxy_px, expected.detection.box_xyxy_px)
        np.testing.assert_array_equal(row.detection.landmarks_xy_px, expected.detection.landmarks_xy_px)
        assert (row.detection.score, row.residual_px, row.quality) == (0.75, 1.5, 0.5)
        assert gallery.thumbnail(first) == expected.thumbnail
        photo = gallery.photo(row.photo_id)
        assert (photo.sha256, photo.width_px, photo.height_px) == (f"{1:064x}", 640, 480)
        assert photo.taken_at == datetime(2020, 1, 2, 3, 4, 5)
        assert photo.paths == (Path("/photos/1.jpg"),)
        embeddings = gallery.embeddings()
        np.testing.assert_array_equal(embeddings.face_ids, [first, second])
        np.testing.assert_array_equal(embeddings.vectors, [unit(11), unit(12)])
        np.testing.assert_array_equal(embeddings.person_ids, [0, enrolled.person_id])
        np.testing.assert_array_equal(embeddings.pinned, [False, True])


@pytest.mark.parametrize(
    "other",
    [EmbedderId("other", MODEL.sha256, DIM), EmbedderId("test", "cd" * 32, DIM), EmbedderId("test", MODEL.sha256, 8)],
)
def test_another_model_is_refused_and_both_are_named(tmp_path, other):
    Gallery.open(tmp_path / "g", model=MODEL).close()
    with pytest.raises(GalleryError, match=r"expected embeddings of .*, got a gallery of test \(weights abab"):
        Gallery.open(tmp_path / "g", model=other)


def test_absent_newer_and_foreign_galleries_are_refused(tmp_path):
    with pytest.raises(GalleryError, match="expected a gallery, found none"):
        Gallery.open(tmp_path / "g")
    assert not (tmp_path / "g").exists()
    Gallery.open(tmp_path / "g", model=MODEL).close()
    database = tmp_path / "g" / "gallery.sqlite"
    for pragma, message in (("user_version = 99", "version 1, got 99"), ("application_id = 1", "another program's")):
        connection = sqlite3.connect(database)
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
        with pytest.raises(GalleryError, match=message):
            Gallery.open(tmp_path / "g")
    database.write_bytes(b"not a database" * 1000)
    with pytest.raises(GalleryError, match="file is not a database"):
        Gallery.open(tmp_path / "g")
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="expected a place for a new gallery"):
        Gallery.open(tmp_path / "file", model=MODEL)


def test_faces_no_stage_gives_are_refused_and_nothing_is_added(gallery):
    good = new_face(1)
    long = NewFace(good.detection, 1.0, 0.5, 2 * good.embedding, JPEG)
    nan = NewFace(good.detection, 1.0, 0.5, good.embedding * np.float32(np.nan), JPEG)
    short = NewFace(good.detection, 1.0, 0.5, good.embedding[:8], JPEG)
    unsure = NewFace(good.detection, 1.0, float("nan"), good.embedding, JPEG)
    photo = Photo(Path("/a.jpg"), "0" * 64, 1, 1, None)
    for face, error, message in (
        (long, InputError, "faces.1..embedding: expected float32 of unit length"),
        (nan, InputError, "unit length"),
        (short, TensorError, "expected float .any, 32."),
        (unsure, InputError, "score and quality in .0, 1."),
    ):
        with pytest.raises(error, match=message):
            gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=[good, face])
    with pytest.raises(InputError, match="path: expected an absolute one, got 'a.jpg'"):
        gallery.add_skipped(Path("a.jpg"), 1, 1, "no photo")
    assert gallery.counts() == Counts(0, 0, 0, 0, 0, 0)


# Photos and files


def test_a_copied_or_moved_photo_is_not_doubled(gallery):
    add(gallery, 1, 11)
    assert gallery.has_content(f"{1:064x}")
    assert add(gallery, 1, 11, path="/photos/copy.jpg") == []
    gallery.move_file(Path("/photos/copy.jpg"), Path("/elsewhere/copy.jpg"))
    assert gallery.counts() == Counts(1, 2, 0, 1, 0, 0)
    [row] = gallery.files(Path("/elsewhere"))
    assert (row.path, row.sha256, row.size_bytes, row.mtime_ns) == (Path("/elsewhere/copy.jpg"), f"{1:064x}", 10, 1)
    gallery.remove_file(Path("/photos/1.jpg"))
    assert gallery.faces()[0].path == Path("/elsewhere/copy.jpg")
    with pytest.raises(GalleryError, match="old: expected a file of the gallery, got '/photos/1.jpg'"):
        gallery.move_file(Path("/photos/1.jpg"), Path("/x"))


def test_a_changed_file_takes_its_old_photo_along(gallery):
    add(gallery, 1, 11)
    add(gallery, 2, 12, 13, path="/photos/1.jpg")
    assert gallery.counts() == Counts(1, 1, 0, 2, 0, 0)
    gallery.add_skipped(Path("/photos/1.jpg"), 3, 4, "truncated")
    assert gallery.counts() == Counts(0, 0, 1, 0, 0, 0)
    [row] = gallery.files()
    assert (row.photo_id, row.sha256, row.skipped) == (None, None, "truncated")


def test_enrolled_faces_outlive_their_photo_and_are_not_doubled_when_it_returns(gallery):
    [ada, _] = add(gallery, 1, 11, 40)
    gallery.enroll([ada], "Ada")
    gallery.remove_file(Path("/photos/1.jpg"))
    [row] = gallery.faces()
    assert (row.id, row.path, row.person) == (ada, None, "Ada")
    assert not gallery.has_content(f"{1:064x}")
    [back] = add(gallery, 1, 11, 40)
    assert gallery.has_content(f"{1:064x}")
    assert [row.id for row in gallery.faces()] == [ada, back]


def test_files_below_a_folder_are_not_its_namesakes(gallery):
    for path in ("/a/1", "/a/b/2", "/ab/3", "/a-/4", "/a0/5"):
        gallery.add_skipped(Path(path), 1, 1, "test")
    assert [str(row.path) for row in gallery.files(Path("/a"))] == ["/a/1", "/a/b/2"]
    assert len(gallery.files(Path("/"))) == len(gallery.files()) == 5


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"a\nb.jpg", b"quote'\".jpg", b"\xff\xfe", "Ünï \U0001f642".encode()])
def test_any_bytes_make_a_path(gallery, tmp_path, name):
    path = Path("/photos") / os.fsdecode(name)
    add(gallery, 1, 11, path=str(path))
    assert gallery.files(Path("/photos"))[0].path == gallery.faces()[0].path == path
    gallery.export_to(tmp_path / "export.zip")
    with Gallery.open(tmp_path / "h", model=MODEL) as other:
        other.import_from(tmp_path / "export.zip")
        assert os.fsencode(other.files()[0].path) == b"/photos/" + name


# People


def test_merge_pins_and_carries_separations_over(gallery):
    ids = [add(gallery, n, n)[0] for n in range(6)]
    a, b, c, d = (gallery.new_person() for _ in range(4))
    for person, faces in ((a, ids[:2]), (b, ids[2:4]), (c, ids[4:5]), (d, ids[5:])):
        assert gallery.assign(faces, person, pinned=False) == len(faces)
    gallery.name(b, "Ada")
    gallery.separate(a, b)
    gallery.separate(b, c)
    gallery.merge(a, [b])
    assert gallery.separated() == {(a, c)}
    assert gallery.people()[0].name == "Ada"
    assert [(row.id, row.faces) for row in gallery.people()] == [(a, 4), (c, 1), (d, 1)]
    assert [row.pinned for row in gallery.faces(person=a)] == [True] * 4
    assert gallery.assign(ids[:4], c, pinned=False) == 0, "clustering moves no pinned face"
    assert len(gallery.faces(person=a)) == 4
    with pytest.raises(GalleryError, match=f"person: expected one of the gallery, got {b}"):
        gallery.merge(a, [b])


def test_split_pins_both_sides_and_keeps_them_apart(gallery):
    ids = [add(gallery, n, n)[0] for n in range(4)]
    old = gallery.new_person()
    gallery.assign(ids, old, pinned=False)
    new = gallery.split(ids[2:])
    assert [row.id for row in gallery.faces(person=new)] == ids[2:]
    assert all(row.pinned for row in gallery.faces())
    assert gallery.separated() == {(old, new)}
    with pytest.raises(GalleryError, match="expected some of the person's faces, got all 2"):
        gallery.split(ids[2:])
    for wrong in (ids, [], [999]):
        with pytest.raises(GalleryError, match="expected faces of one person"):
            gallery.split(wrong)


def test_a_person_without_faces_and_name_vanishes(gallery):
    [face] = add(gallery, 1, 1)
    person = gallery.new_person()
    gallery.assign([face], person, pinned=False)
    gallery.assign([face], None, pinned=False)
    assert gallery.people() == []
    gallery.enroll([face], "Ada")
    gallery.assign([face], None, pinned=True)
    assert [(row.name, row.faces, row.best_face_id) for row in gallery.people()] == [("Ada", 0, None)]
    with pytest.raises(GalleryError, match="face_ids: expected faces of the gallery"):
        gallery.assign([face, 999], None, pinned=True)


def test_best_face_is_the_one_of_the_highest_quality(gallery):
    photo = Photo(Path("/a.jpg"), "0" * 64, 1, 1, None)
    faces = [new_face(n, quality) for n, quality in enumerate([0.2, 0.9, 0.4])]
    ids = gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=faces)
    gallery.enroll(ids, "Ada")
    assert gallery.people()[0].best_face_id == ids[1]


def test_names_are_printable_and_of_one_person(gallery):
    [first, second] = [add(gallery, n, n)[0] for n in range(2)]
    ada = gallery.enroll([first], "Ada")
    other = gallery.enroll([second], "Grace")
    assert gallery.find_person("Ada") == ada
    with pytest.raises(GalleryError, match=f"'Ada', person {ada}: merge the two instead"):
        gallery.name(other, "Ada")
    for name in ("", "  ", "a\nb", "\x00", "\udcff"):
        with pytest.raises(InputError, match="name: expected printable text"):
            gallery.name(ada, name)
    gallery.name(ada, "Ada")
    gallery.name(ada, "Ada L'Ovelace; DROP TABLE face")
    assert gallery.find_person("Ada") is None
    assert gallery.counts().named == 2


def test_an_error_inside_a_transaction_undoes_all_of_it(gallery):
    for content in range(100, 150):
        add(gallery, content, content)
    before = contents(gallery)
    with pytest.raises(InputError), gallery.transaction():  # noqa: PT012  what happens before it matters
        add(gallery, 2, 2)
        assert gallery.search(unit(2)[None], 1)[0] > 0
        gallery.name(gallery.new_person(), "")
    assert contents(gallery) == before
    [new] = add(gallery, 3, 3)  # takes the id that was given back
    ids, similarities = gallery.search(unit(3)[None], 1)
    assert ids[0, 0] == new
    np.testing.assert_allclose(similarities[0, 0], 1, atol=1e-6)


def test_a_random_history_matches_a_simple_model(tmp_path):
    rng = np.random.default_rng(0)
    gallery = Gallery.open(tmp_path / "g", model=MODEL)
    owner: dict[int, int | None] = {}  # face: person
    home: dict[int, int] = {}  # face: photo content
    vectors: dict[int, np.ndarray] = {}
    known: set[int] = set()
    for step in range(400):
        action = rng.integers(9)
        faces = sorted(owner)
        people = sorted({person for person in owner.values() if person is not None})
        some = [int(i) for i in rng.permutation(faces)[: rng.integers(1, 4)]]
        if action <= 2 or not faces:
            content = int(rng.integers(60))
            seeds = [1000 * step + n for n in range(rng.integers(4))]
            ids = add(gallery, content, *seeds)
            assert len(ids) == (0 if content in known else len(seeds))
            known.add(content)
            for face_id, seed in zip(ids, seeds, strict=False):
                owner[face_id], home[face_id], vectors[face_id] = None, content, unit(seed)
        elif action == 3:
            content = int(rng.integers(60))
            gallery.remove_file(Path(f"/photos/{content}.jpg"))
            known.discard(content)
            for face_id in [i for i in faces if home[i] == content]:
                del owner[face_id]
        elif action == 4:
            person = gallery.new_person()
            gallery.assign(some, person, pinned=True)
            owner.update(dict.fromkeys(some, person))
        elif action == 5 and len(people) > 1:
            into, other = (int(i) for i in rng.permutation(people)[:2])
            gallery.merge(into, [other])
            owner = {face: into if person == other else person for face, person in owner.items()}
        elif action == 6 and people:
            of_one = [face for face in faces if owner[face] == people[0]]
            if len(of_one) > 1:
                new = gallery.split(of_one[:1])
                owner[of_one[0]] = new
        elif action == 7 and people:
            person = int(rng.choice(people))
            assert gallery.forget(person) == Counter(owner.values())[person]
            owner = {face: held for face, held in owner.items() if held != person}
        elif action == 8:
            gallery.close()
            gallery = Gallery.open(tmp_path / "g")
        assert {row.id: row.person_id for row in gallery.faces()} == owner
        if owner:
            ids = sorted(owner)
            matrix = np.array([vectors[i] for i in ids])
            query = matrix[:1] + np.float32(0.1)
            query /= np.linalg.norm(query)
            found, similarities = gallery.search(query, 5)
            exact = (matrix.astype(np.float64) @ query[0].astype(np.float64)).astype(np.float32)
            best = np.argsort(-exact, kind="stable")[:5]
            np.testing.assert_array_equal(found[0, : len(best)], np.array(ids)[best])
            np.testing.assert_allclose(similarities[0, : len(best)], exact[best], atol=1e-6)
            assert (found[0, len(best) :] == -1).all()
    gallery.close()


def test_threads_share_a_gallery(gallery):
    def work(start: int) -> None:
        for content in range(start, start + 20):
            [face] = add(gallery, content, content)
            assert gallery.search(unit(content)[None], 1)[0] == face
            if content % 4 == 0:
                gallery.remove_file(Path(f"/photos/{content}.jpg"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 80, 20)))
    assert gallery.counts() == Counts(60, 60, 0, 60, 0, 0)


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
    with Gallery.open(tmp_path / "g", model=MODEL) as gallery:
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


def test_compact_gives_space_back_and_loses_nothing(gallery):
    for content in range(200):
        add(gallery, content, content)
    for content in range(150):
        gallery.remove_file(Path(f"/photos/{content}.jpg"))
    before, size = contents(gallery), (gallery.folder / "gallery.sqlite").stat().st_size
    gallery.compact()
    assert contents(gallery) == before
    assert (gallery.folder / "gallery.sqlite").stat().st_size < size - 100_000
    assert gallery.search(unit(199)[None], 1)[0] == gallery.faces()[-1].id


# Crashes, other processes, full and read-only disks

CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.face.test_gallery import MODEL, add
    from visavis.face.gallery import Gallery
    folder, start, stop, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with Gallery.open(Path(folder), model=MODEL) as gallery:
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
        with Gallery.open(tmp_path / "g") as gallery:
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
    with Gallery.open(tmp_path / "g") as gallery:
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
    from visavis.face.gallery import Gallery
    if os.geteuid() == 0:  # root may write anywhere
        os.setgid(65534)
        os.setuid(65534)
    with Gallery.open(Path(sys.argv[1])) as gallery:
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
        gallery = Gallery.open(folder, model=MODEL)
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


# Export and import


@pytest.fixture
def export(gallery, tmp_path):
    """An export with two copies of a photo, a named person, an unnamed one, a separation, a skipped file."""
    first = add(gallery, 1, 11, 12)
    second = add(gallery, 2, 21, 22, 23)
    add(gallery, 1, path="/photos/copy.jpg")
    gallery.add_skipped(Path("/photos/x.txt"), 1, 1, "no photo")
    ada = gallery.enroll([first[0], second[0]], "Ada")
    cluster = gallery.new_person()
    gallery.assign([first[1], second[1]], cluster, pinned=False)
    gallery.separate(ada, cluster)
    gallery.export_to(tmp_path / "export.zip")
    return tmp_path / "export.zip"


def test_import_into_a_new_gallery_restores_all_but_skipped_files(gallery, export, tmp_path):
    with Gallery.open(tmp_path / "h", model=MODEL) as other:
        assert other.import_from(export) == Imported(photos=2, faces=5, people=2)
        assert other.counts() == Counts(2, 3, 0, 5, 2, 1)
        for mine, theirs in zip(gallery.faces(), other.faces(), strict=True):
            assert (mine.person, mine.pinned, mine.enrolled) == (theirs.person, theirs.pinned, theirs.enrolled)
            assert (mine.quality, mine.residual_px) == (theirs.quality, theirs.residual_px)
            assert gallery.thumbnail(mine.id) == other.thumbnail(theirs.id)
            assert gallery.photo(mine.photo_id).sha256 == other.photo(theirs.photo_id).sha256
        assert contents(gallery)[3] == contents(other)[3]
        assert len(other.separated()) == 1
        before = contents(other)
        assert other.import_from(export) == Imported(0, 0, 0)
        assert contents(other) == before


def test_import_joins_people_of_one_name_and_leaves_known_content(export, tmp_path):
    with Gallery.open(tmp_path / "h", model=MODEL) as other:
        [known] = add(other, 1, 11)
        ada = other.enroll([known], "Ada")
        assert other.import_from(export) == Imported(photos=1, faces=3, people=1)
        assert len(other.faces(person=ada)) == 2
        assert other.counts() == Counts(2, 3, 0, 4, 2, 1)


def rewrite(source: Path, target: Path, change) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, data in change(members).items():
            new.writestr(name, data)


def with_field(member: str, line: int, key: str, value: object):
    def change(members):
        lines = members[member].splitlines()
        record = json.loads(lines[line])
        record[key] = value
        lines[line] = json.dumps(record).encode()
        return {**members, member: b"\n".join(lines) + b"\n"}

    return change


def npy(array) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


MALFORMED = {
    "a member missing": lambda m: {k: v for k, v in m.items() if k != "people.jsonl"},
    "a member too many": lambda m: {**m, "../../etc/passwd": b"x"},
    "no JSON": lambda m: {**m, "photos.jsonl": b"{"},
    "deep JSON": lambda m: {**m, "photos.jsonl": b"[" * 500_000},
    "an endless line": lambda m: {**m, "photos.jsonl": b" " * 2_000_000},
    "not an object": lambda m: {**m, "faces.jsonl": b"[]\n"},
    "no manifest": lambda m: {**m, "manifest.json": b""},
    "a newer version": with_field("manifest.json", 0, "version", 2),
    "another model": with_field("manifest.json", 0, "model", {"name": "x", "sha256": "ab" * 32, "dim": DIM}),
    "a hash that is none": with_field("photos.jsonl", 0, "sha256", "../x"),
    "a path with NUL": with_field("photos.jsonl", 0, "files", [["/a\0b", 1, 1]]),
    "a path that is no path": with_field("photos.jsonl", 0, "files", [["\ud800", 1, 1]]),
    "a file without size": with_field("photos.jsonl", 0, "files", [["/a", 1]]),
    "a size too large": with_field("photos.jsonl", 0, "files", [["/a", 2**70, 1]]),
    "a time that is none": with_field("photos.jsonl", 0, "taken_at", "yesterday"),
    "a width of zero": with_field("photos.jsonl", 0, "width_px", 0),
    "true for a number": with_field("photos.jsonl", 0, "width_px", True),
    "a name with a newline": with_field("people.jsonl", 0, "name", "a\nb"),
    "a face of no photo": with_field("faces.jsonl", 4, "photo", 99),
    "a face of no person": with_field("faces.jsonl", 4, "person", 99),
    "a score of NaN": with_field("faces.jsonl", 4, "score", float("nan")),
    "a box of three": with_field("faces.jsonl", 4, "box", [1, 2, 3]),
    "a box of text": with_field("faces.jsonl", 4, "box", ["a", 2, 3, 4]),
    "a box of lists": with_field("faces.jsonl", 4, "box", [[1], [2], [3], [4]]),
    "an infinite box": with_field("faces.jsonl", 4, "box", [1.0, 2.0, 3.0, float("inf")]),
    "a thumbnail too long": with_field("faces.jsonl", 4, "thumbnail_bytes", 10_000),
    "a thumbnail too short": with_field("faces.jsonl", 4, "thumbnail_bytes", 10),
    "a negative thumbnail": with_field("faces.jsonl", 4, "thumbnail_bytes", -1),
    "a face too few": lambda m: {**m, "faces.jsonl": m["faces.jsonl"][: m["faces.jsonl"][:-1].rindex(b"\n") + 1]},
    "bytes too many": lambda m: {**m, "thumbnails.bin": m["thumbnails.bin"] + b"x"},
    "a pickle": lambda m: {**m, "embeddings.npy": npy(np.array([{"a": 1}], object))},
    "float64": lambda m: {**m, "embeddings.npy": npy(np.zeros((5, DIM)))},
    "Fortran order": lambda m: {**m, "embeddings.npy": npy(np.asfortranarray(np.zeros((5, DIM), np.float32)))},
    "embeddings not of unit length": lambda m: {**m, "embeddings.npy": npy(np.zeros((5, DIM), np.float32))},
    "a claim of terabytes": lambda m: {
        **m,
        "embeddings.npy": m["embeddings.npy"].replace(b"(5, 32), }" + b" " * 8, b"(5, 3200000000), }"),
    },
    "embeddings cut short": lambda m: {**m, "embeddings.npy": m["embeddings.npy"][:-4]},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_malformed_imports_are_refused_and_change_nothing(export, tmp_path, change):
    rewrite(export, tmp_path / "bad.zip", change)
    with Gallery.open(tmp_path / "h", model=MODEL) as other:
        add(other, 7, 7)
        before = contents(other)
        with pytest.raises(GalleryError, match="bad.zip: .*expected"):
            other.import_from(tmp_path / "bad.zip")
        assert contents(other) == before
        rewrite(export, tmp_path / "good.zip", dict)
        assert other.import_from(tmp_path / "good.zip").faces == 5


def test_damaged_compressed_and_absent_files_are_refused(gallery, export, tmp_path):
    data = export.read_bytes()
    middle = data.index(unit(22).tobytes()[:16])
    bad = tmp_path / "bad.zip"
    for broken in (b"", data[: len(data) // 2], data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]):
        bad.write_bytes(broken)
        with pytest.raises(GalleryError, match="bad.zip: expected a gallery's export, whole"):
            gallery.import_from(bad)
    with zipfile.ZipFile(export) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(GalleryError, match="expected stored ones, side by side"):
        gallery.import_from(bad)
    with pytest.raises(GalleryError, match="No such file"):
        gallery.import_from(tmp_path / "absent.zip")
    with pytest.raises(GalleryError, match="No such file"):
        gallery.export_to(tmp_path / "absent" / "export.zip")
