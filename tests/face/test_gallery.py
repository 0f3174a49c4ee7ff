import errno
import os
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tests.face.milvus_gallery import milvus, server, server_folder
from tests.face.small_gallery import DIM, JPEG, MODEL, add, contents, new_face, unit
from tests.face.small_gallery import either as gallery
from visavis.errors import GalleryError, InputError, TensorError
from visavis.face.gallery import Counts, EmbedderId, FolderGallery, NewFace
from visavis.face.records import Photo

__all__ = ["gallery", "milvus", "server", "server_folder"]  # fixtures


# Opening


def test_what_was_put_in_comes_out(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        [first, second] = add(gallery, 1, 11, 12)
        gallery.enroll([second], "Ada")
    with FolderGallery.open(tmp_path / "g") as gallery:
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
        assert [(file.path, file.photo_id) for file in gallery.files()] == [(row.path, row.photo_id)]
        embeddings = gallery.embeddings()
        np.testing.assert_array_equal(embeddings.face_ids, [first, second])
        np.testing.assert_array_equal(embeddings.vectors, [unit(11), unit(12)])
        np.testing.assert_array_equal(embeddings.person_ids, [0, enrolled.person_id])
        np.testing.assert_array_equal(embeddings.pinned, [False, True])
        for mine, theirs in zip(
            gallery.placements(), (embeddings.face_ids, embeddings.person_ids, embeddings.pinned), strict=True
        ):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "other",
    [EmbedderId("other", MODEL.sha256, DIM), EmbedderId("test", "cd" * 32, DIM), EmbedderId("test", MODEL.sha256, 8)],
)
def test_another_model_is_refused_and_both_are_named(tmp_path, other):
    FolderGallery.open(tmp_path / "g", model=MODEL).close()
    with pytest.raises(GalleryError, match=r"expected embeddings of .*, got a gallery of test \(.*abab"):
        FolderGallery.open(tmp_path / "g", model=other)


def test_absent_newer_and_foreign_galleries_are_refused(tmp_path):
    with pytest.raises(GalleryError, match="expected a gallery, found none"):
        FolderGallery.open(tmp_path / "g")
    assert not (tmp_path / "g").exists()
    FolderGallery.open(tmp_path / "g", model=MODEL).close()
    database = tmp_path / "g" / "gallery.sqlite"
    for pragma, message in (("user_version = 99", "version 1, got 99"), ("application_id = 1", "another program's")):
        connection = sqlite3.connect(database)
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
        with pytest.raises(GalleryError, match=message):
            FolderGallery.open(tmp_path / "g")
    database.write_bytes(b"not a database" * 1000)
    with pytest.raises(GalleryError, match="file is not a database"):
        FolderGallery.open(tmp_path / "g")
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="expected a place for a new gallery"):
        FolderGallery.open(tmp_path / "file", model=MODEL)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_hard_links_takes_a_gallery(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        add(gallery, 1, 11)
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        assert gallery.counts().faces == 1
        assert {path.name for path in gallery.folder.glob("*.*")} == {
            f"gallery.sqlite{end}" for end in ("", "-shm", "-wal")
        }


def test_the_second_of_two_makers_opens_the_gallery_of_the_first(tmp_path, monkeypatch):
    def overtaken(*_):
        monkeypatch.undo()
        with FolderGallery.open(tmp_path / "g", model=MODEL) as first:
            add(first, 1, 11)
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", overtaken)
    with FolderGallery.open(tmp_path / "g", model=MODEL) as second:
        assert second.counts().faces == 1


def test_making_a_gallery_fails_without_leftovers(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "disk on fire")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(GalleryError, match="expected a place for a new gallery: .*disk on fire"):
        FolderGallery.open(tmp_path, model=MODEL)
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_reads_a_gallery_in_a_folder_open_to_all(tmp_path):
    tmp_path.chmod(0o755)
    with FolderGallery.open(tmp_path, model=MODEL) as gallery:
        add(gallery, 1, 11)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("gallery.*")}
        assert modes == dict.fromkeys(("gallery.sqlite", "gallery.sqlite-shm", "gallery.sqlite-wal"), 0o600)


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
    assert add(gallery, 1, 11, path="/elsewhere/copy.jpg") == []
    gallery.remove_file(Path("/photos/copy.jpg"))
    assert gallery.counts() == Counts(1, 2, 0, 1, 0, 0)
    [row] = gallery.files(Path("/elsewhere"))
    assert (row.path, row.sha256, row.size_bytes, row.mtime_ns) == (Path("/elsewhere/copy.jpg"), f"{1:064x}", 10, 1)
    gallery.remove_file(Path("/photos/1.jpg"))
    assert gallery.faces()[0].path == Path("/elsewhere/copy.jpg")


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


def test_photos_come_in_pages_with_their_copies(gallery):
    for content in (1, 2, 3):
        add(gallery, content, *range(content))
    add(gallery, 2, path="/photos/a copy of 2.jpg")
    first, second, third = gallery.photos()
    assert [photo.faces for photo in (first, second, third)] == [1, 2, 3]
    assert second.paths == (Path("/photos/2.jpg"), Path("/photos/a copy of 2.jpg"))
    assert (second.sha256, second.width_px, second.height_px) == (f"{2:064x}", 640, 480)
    assert second.taken_at == datetime(2020, 1, 2, 3, 4, 5)
    assert gallery.photos(limit=2) == [first, second]
    assert gallery.photos(after=second.id, limit=2) == [third]
    assert gallery.photos(ids=[third.id, 99, first.id]) == [first, third]
    assert gallery.photos(ids=[]) == gallery.photos(limit=0) == []
    [enrolled, *_] = gallery.faces(photo=third.id)
    ada = gallery.enroll([enrolled.id], "Ada")
    gallery.remove_file(Path("/photos/3.jpg"))
    assert [(photo.paths, photo.faces) for photo in gallery.photos(ids=[third.id])] == [((), 1)]
    assert [row.name for row in gallery.people(ids=[ada, 99])] == ["Ada"]
    assert gallery.people(ids=[99]) == []


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
    with FolderGallery.open(tmp_path / "h", model=MODEL) as other:
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
    gallery = FolderGallery.open(tmp_path / "g", model=MODEL)
    owner: dict[int, int | None] = {}  # face: person
    home: dict[int, int] = {}  # face: photo content
    vectors: dict[int, np.ndarray] = {}
    known: set[int] = set()
    settled: set[int] = set()  # contents in which somebody was forgotten
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
            known -= {content} - settled
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
            settled |= {home[face] for face, held in owner.items() if held == person}
            owner = {face: held for face, held in owner.items() if held != person}
        elif action == 8:
            gallery.close()
            gallery = FolderGallery.open(tmp_path / "g")
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


def test_changes_of_people_are_undone(gallery):
    ids = [add(gallery, n, n)[0] for n in range(5)]
    ada, bob = gallery.enroll(ids[:1], "Ada"), gallery.enroll(ids[1:3], "Bob")
    other = gallery.new_person()
    gallery.assign(ids[3:], other, pinned=False)
    gallery.separate(bob, other)

    def joined():
        gallery.merge(ada, [bob])

    def parted():
        gallery.split(ids[2:3])

    for change, people in ((joined, [ada, bob]), (parted, [bob])):
        held, known = contents(gallery), {row.id for row in gallery.people()}
        before = gallery.people_state(people)
        change()
        made = {row.id for row in gallery.people()} - known
        after = gallery.people_state([*people, *made])
        assert contents(gallery) != held
        gallery.restore(before, after)
        assert contents(gallery) == held
        with pytest.raises(GalleryError, match="undo: expected what was changed to be as it was left"):
            gallery.restore(before, after)
    before = gallery.people_state([other])
    gallery.assign(ids[3:], ada, pinned=True)
    after = gallery.people_state([other], faces=ids[3:])
    for content in (3, 4):
        gallery.remove_file(Path(f"/photos/{content}.jpg"))
    gallery.restore(before, after)
    assert other not in {row.id for row in gallery.people()}, "it would have neither face nor name"


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
