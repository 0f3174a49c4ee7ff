"""The face system meets what real folders, disks and users hold. How photos are decoded is in test_photos.py."""

import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.face.fake_pack import photo, pixels
from visavis.errors import GalleryError
from visavis.face.gallery import FolderGallery
from visavis.face.system import FaceSystem

BAD_JPEG = b"\xff\xd8\xff"
SCRIPT = """
from visavis.face import FaceSystem
print("ready", flush=True)
with FaceSystem.open({gallery!r}, pack={pack!r}) as faces:
    faces.index({photos!r}, workers=1)
"""


@pytest.fixture
def system(tmp_path, squares, in_process):  # noqa: ARG001 - a fixture for what it does
    with FaceSystem.open(tmp_path / "g.visavis", pack=squares) as system:
        yield system


def contents(folder):
    """What a gallery holds, whatever its numbers: files with their content, vectors of faces, who belongs together."""
    with FolderGallery.open(folder) as gallery:
        files = {row.path: row.sha256 or row.skipped for row in gallery.files()}
        shas = {row.photo_id: row.sha256 for row in gallery.files()}
        keys = {row.id: (shas[row.photo_id], *row.detection.box_xyxy_px.tolist()) for row in gallery.faces()}
        assert len(set(keys.values())) == len(keys)  # no face is there twice
        vectors = gallery.embeddings()
        faces = dict(zip((keys[i] for i in vectors.face_ids.tolist()), vectors.vectors, strict=True))
        people = {frozenset(keys[row.id] for row in gallery.faces(person=person.id)) for person in gallery.people()}
        return files, faces, people


def same(contents, others):
    """Vectors may differ by rounding: faces were embedded in other company."""
    (files, faces, people), (other_files, other_faces, other_people) = contents, others
    assert files == other_files
    assert faces.keys() == other_faces.keys()
    for key, vector in faces.items():
        np.testing.assert_allclose(vector, other_faces[key], atol=1e-5)
    assert people == other_people


# Files


def header_only_png(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_damaged_files_are_skipped_with_the_reason_and_the_rest_is_taken_in(system, photos):
    whole = photo(photos / "good.jpg", 0, quality=95).read_bytes()
    png = photo(photos / "good.png", 1).read_bytes()
    bad = {
        "truncated.jpg": (whole[: len(whole) // 2], "file: damaged or truncated"),
        "truncated.png": (png[: len(png) // 2], "file: damaged or truncated"),
        "header.jpg": (whole[:20], "file: damaged or truncated"),
        "empty.jpg": (b"", "file: expected a photo, got an empty file"),
        "text.jpg": (b"text", "file: expected a photo (JPEG, PNG"),
        "noise.heic": (np.random.default_rng(0).bytes(4096), "file: expected a photo (JPEG, PNG"),
        "bomb.png": (header_only_png(60_000, 60_000), "photo: expected at most 150 megapixels, got"),
        "less-of-a-bomb.png": (header_only_png(13_000, 13_000), "photo: expected at most 150 megapixels, got 13000"),
    }
    for name, (content, _) in bad.items():
        (photos / name).write_bytes(content)
    for _ in range(2):  # the second time from memory
        report = system.index(photos)
        reasons = {path.name: reason for path, reason in report.skipped}
        assert reasons.keys() == bad.keys()
        for name, (_, reason) in bad.items():
            assert reasons[name].startswith(reason)
    assert (report.unchanged, report.added) == (2, 0)
    assert system.gallery.counts().faces == 2


def test_wrong_extensions_do_not_matter(system, photos):
    for form, name in (("PNG", "a.jpg"), ("JPEG", "b.png"), ("WEBP", "c.heic"), ("TIFF", "d.txt"), ("GIF", "e")):
        photo(photos / name, 0, format=form)
    pillow_heif.from_pillow(Image.fromarray(pixels(0, seed=9))).save(photos / "f.jpg", quality=95)
    report = system.index(photos)
    assert (report.added, report.faces, report.skipped, report.ignored) == (6, 6, [], 0)
    assert [row.faces for row in system.gallery.people()] == [6]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_counts(system, photos, form):
    frames = [Image.fromarray(pixels(*people)) for people in ((0, 1), (2, 3, 4), ())]
    options = {"lossless": True} if form == "WEBP" else {}
    frames[0].save(photos / "moving", form, save_all=True, append_images=frames[1:], duration=100, **options)
    report = system.index(photos)
    assert (report.added, report.faces) == (1, 2)


def test_a_hundred_megapixels(system, photos):
    large = Image.fromarray(pixels(5, columns=32)).resize((10_240, 10_240), Image.Resampling.NEAREST)
    large.save(photos / "large.jpg", quality=90)
    report = system.index(photos)
    assert (report.added, report.faces, report.skipped) == (1, 1, [])
    [face] = system.gallery.faces()
    np.testing.assert_allclose(face.detection.box_xyxy_px, [-0.5, -0.5, 319.5, 319.5], atol=10)  # a pixel as detected


def test_no_face_and_fifty_faces(system, photos):
    photo(photos / "none.png")
    photo(photos / "crowd.jpg", *(number % 19 for number in range(50)), columns=16, quality=95)
    report = system.index(photos)
    assert (report.added, report.faces, report.skipped) == (2, 50, [])
    assert sum(row.faces for row in system.gallery.people()) == 50
    assert sorted(row.faces for row in system.gallery.people()) == [2] * 7 + [3] * 12


NAMES = [
    b"new\nline.png",
    b"-rf.png",
    b"'quote\" `$(x)` \\ %s {0}.png",
    b"caf\xe9 latin-1.png",
    b"\xff\xfe.png",
    b"[red]markup.png",
    b"\x1b[2J.png",
    b" space .png ",
    "Zoë 🎉 \u202egnp.png".encode(),
    b"x" * 251 + b".png",
    b";.png",
]


def test_names_are_only_names(squares, tmp_path, photos):
    for seed, name in enumerate(NAMES):
        (photos / os.fsdecode(b"d" + name)[:200]).mkdir()
        photo(photos / os.fsdecode(name), 0, seed=seed)
        photo(photos / os.fsdecode(b"d" + name)[:200] / "a.png", 1, seed=100 + seed)
    (photos / os.fsdecode(b"bad\n\xff.jpg")).write_bytes(BAD_JPEG)
    with FaceSystem.open(tmp_path / "g", pack=squares) as system:
        report = system.index(photos, workers=1)
        assert (report.added, report.faces, report.ignored) == (2 * len(NAMES), 2 * len(NAMES), 0)
        [(path, _)] = report.skipped
        assert os.fsencode(path.name) == b"bad\n\xff.jpg"
        names = {os.fsencode(row.path.name) for row in system.gallery.files() if row.path.parent == photos}
        assert names == {*NAMES, b"bad\n\xff.jpg"}
        report = system.index(photos, workers=1)
        assert (report.unchanged, report.removed) == (2 * len(NAMES), 0)
        assert system.identify(photos / os.fsdecode(b"\xff\xfe.png"))[0].person is None
        system.enroll("Ada", [photos / os.fsdecode(b"new\nline.png")])
        assert system.identify(photos / os.fsdecode(b"\xff\xfe.png"))[0].person == "Ada"
        assert len(system.search(photos / os.fsdecode(b"-rf.png"), k=50)) == 2 * len(NAMES)


def refusing(locked, verb):
    def refuse(path, *rest, **options):
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return verb(path, *rest, **options)

    return refuse


def test_a_file_nobody_may_read_is_taken_in_when_one_may(system, photos, monkeypatch):
    locked = photo(photos / "locked.png", 0)
    photo(photos / "open.png", 0)
    with monkeypatch.context() as patch:
        for verb in ("open", "read_bytes"):
            patch.setattr(type(locked), verb, refusing(locked, getattr(type(locked), verb)))
        report = system.index(photos)
    assert report.skipped == [(locked, "file: cannot be read (Permission denied)")]
    assert system.index(photos).added == 1


# Disks


def test_a_folder_of_photos_needs_no_right_to_write(system, photos):
    photo(photos / "a.png", 0).chmod(0o444)
    photos.chmod(0o555)
    before = photos.stat()
    assert system.index(photos).added == 1
    after = photos.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert [path.name for path in photos.iterdir()] == ["a.png"]


@pytest.mark.usefixtures("in_process")
def test_a_gallery_that_may_only_be_read_answers_and_refuses_changes(squares, tmp_path, photos, monkeypatch):
    path = photo(photos / "a.png", 0)
    folder = tmp_path / "g"
    with FaceSystem.open(folder, pack=squares) as system:
        system.index(photos)
        system.enroll("Ada", [path])
    folder.chmod(0o555)
    if os.getuid() == 0:  # who may write everywhere
        monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with FaceSystem.open(folder, pack=squares) as system:
        assert system.identify(path)[0].person == "Ada"
        assert len(system.search(path)) == 1
        for change in (
            lambda: system.index(photos),
            lambda: system.enroll("Bob", [path]),
            system.cluster,
            lambda: system.name(1, "Bob"),
            lambda: system.gallery.forget(1),
        ):
            with pytest.raises(GalleryError, match="expected a writable folder; this gallery is open for reading only"):
                change()
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    folder.chmod(0o755)


def test_a_gallery_where_none_can_be_made(squares):
    with pytest.raises(GalleryError, match="expected a place for a new gallery"):
        FaceSystem.open("/dev/null/new.visavis", pack=squares)


def test_an_empty_folder_becomes_a_gallery_but_no_question_makes_one(squares, tmp_path):
    with pytest.raises(GalleryError, match="expected a gallery, got a folder without one"):
        FaceSystem.open(tmp_path, pack=squares, create=False)
    assert list(tmp_path.iterdir()) == []
    FaceSystem.open(tmp_path, pack=squares).close()
    assert (tmp_path / "gallery.sqlite").exists()


@contextlib.contextmanager
def limited_pages(folder):
    """A disk that is nearly full, as SQLite sees it."""

    def limit(system):
        [(pages,)] = system.gallery._database.rows("PRAGMA page_count")
        system.gallery._database.rows(f"PRAGMA max_page_count = {pages + 3}")

    yield folder, limit, lambda: None


@contextlib.contextmanager
def small_disk(folder):
    """A file system of its own, for those who may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        larger = ["mount", "-o", "remount,size=64m", folder]
        yield folder / "g", lambda _system: None, lambda: subprocess.run(larger, check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("disk", [limited_pages, small_disk])
def test_a_full_disk_is_told_and_loses_nothing(squares, tmp_path, photos, disk):
    for number in range(100):
        photo(photos / f"{number}.png", number % 19)
    with FaceSystem.open(tmp_path / "whole", pack=squares) as system:
        system.index(photos)
    with disk(tmp_path / "small") as (folder, limit, free):
        with FaceSystem.open(folder, pack=squares) as system:
            limit(system)
            with pytest.raises(GalleryError, match=r"database or disk is full: free some space; nothing committed is"):
                system.index(photos)
            done = system.gallery.counts()
            assert 0 < done.photos < 100
        with FaceSystem.open(folder, pack=squares) as system:  # while it is still full
            assert system.gallery.counts() == done
            assert len(system.search(photos / "0.png", k=200)) == done.faces
        free()
        with FaceSystem.open(folder, pack=squares) as system:
            report = system.index(photos)
            assert (report.added, report.unchanged) == (100 - done.photos, done.photos)
        same(contents(folder), contents(tmp_path / "whole"))


# Processes


@pytest.fixture
def crowd(photos):
    """Photos of many faces, so that most of a run is the work and not the start of processes."""
    for number in range(40):
        photo(photos / f"{number}.png", *((number + place) % 19 for place in range(20)), columns=12)
    shutil.copy(photos / "7.png", photos / "copy.png")
    (photos / "bad.jpg").write_bytes(BAD_JPEG)
    return photos


@pytest.fixture
def expected(crowd, tmp_path, squares, in_process):  # noqa: ARG001 - a fixture for what it does
    """The contents of a gallery of that crowd, made at one go."""
    with FaceSystem.open(tmp_path / "alone", pack=squares) as system:
        assert system.index(crowd).faces == 40 * 20
    return contents(tmp_path / "alone")


def start(tmp_path, squares, photos, gallery):
    """An indexing process that is about to begin."""
    script = tmp_path / f"{gallery.name}.py"
    script.write_text(SCRIPT.format(gallery=str(gallery), pack=str(squares), photos=str(photos)))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_indexers_at_once_end_as_one_does(tmp_path, squares, crowd, expected):
    for process in [start(tmp_path, squares, crowd, tmp_path / "shared") for _ in range(2)]:
        assert process.communicate() == ("", "")
        assert process.returncode == 0
    same(contents(tmp_path / "shared"), expected)


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(tmp_path, squares, crowd, expected):
    process = start(tmp_path, squares, crowd, tmp_path / "timed")
    begun = time.monotonic()
    assert process.communicate() == ("", "")
    duration_s = time.monotonic() - begun
    moments = random.Random(0)
    kills, gallery, held = 0, tmp_path / "killed", {}
    while kills < 20:
        process = start(tmp_path, squares, crowd, gallery)
        try:
            assert process.communicate(timeout=moments.uniform(0, duration_s)) == ("", "")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        if (gallery / "gallery.sqlite").exists():
            files, faces, people = contents(gallery)
            assert held.items() <= files.items() <= expected[0].items()
            assert faces.keys() == {key for key in expected[1] if key[0] in files.values()}
            held = files
        if process.returncode == 0:  # it was quicker, the next one begins anew
            same((files, faces, people), expected)
            gallery, held = tmp_path / f"killed-after-{kills}", {}
    assert start(tmp_path, squares, crowd, gallery).communicate() == ("", "")
    same(contents(gallery), expected)
