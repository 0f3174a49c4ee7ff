import os
import shutil
import socket
from dataclasses import asdict

import pytest

from tests.face.fake_pack import photo
from visavis.errors import GalleryError, InputError
from visavis.face.gallery import Counts
from visavis.face.indexing import IndexReport

pytestmark = pytest.mark.usefixtures("in_process")


def expect(report: IndexReport, **counts):
    """The report says this and no more."""
    assert asdict(report) == asdict(IndexReport(**counts))


def held(system):
    """Photos as (paths, ids of faces): what must survive when files move about."""
    rows, files = system.gallery.faces(), system.gallery.files()
    return {
        tuple(sorted(file.path.name for file in files if file.photo_id == row.photo_id)): row.photo_id for row in rows
    }, [row.id for row in rows]


def age(path):
    """Another time of change, whatever the file system's resolution."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


# What happens to files


def test_only_what_is_new_is_looked_at(system, photos):
    photo(photos / "a.jpg", 0)
    photo(photos / "b.png", 1, 2)
    expect(system.index(photos), added=2, faces=3)
    expect(system.index(photos), unchanged=2)
    (photos / "below").mkdir()
    photo(photos / "below" / "c.webp", 0, seed=1)
    expect(system.index(photos), added=1, faces=1, unchanged=2)
    assert system.gallery.counts().photos == 3


def test_a_moved_a_renamed_and_a_copied_photo_keep_their_faces(system, photos):
    for name, person in (("moved", 0), ("renamed", 1), ("copied", 2)):
        photo(photos / f"{name}.png", person)
    system.index(photos)
    _, faces = held(system)
    (photos / "album").mkdir()
    (photos / "moved.png").rename(photos / "album" / "moved.png")
    (photos / "renamed.png").rename(photos / "other.jpeg")
    shutil.copy(photos / "copied.png", photos / "copy.png")
    expect(system.index(photos), known=3, unchanged=1)
    names, after = held(system)
    assert after == faces
    assert set(names) == {("moved.png",), ("other.jpeg",), ("copied.png", "copy.png")}
    expect(system.index(photos), unchanged=4)


def test_a_copy_of_what_this_run_has_stored_is_not_analysed(system, photos, monkeypatch):
    for number in range(9):
        photo(photos / f"{number}.png", 0)
    shutil.copy(photos / "0.png", photos / "copy.png")
    seen = []
    read = type(system.options).read
    monkeypatch.setattr(type(system.options), "read", lambda self, path: seen.append(path) or read(self, path))
    expect(system.index(photos), added=9, known=1, faces=9)
    assert photos / "copy.png" not in seen


def test_of_two_copies_the_last_one_holds_the_photo(system, photos):
    photo(photos / "a.png", 0)
    shutil.copy(photos / "a.png", photos / "b.png")
    photo(photos / "other.png", 1)
    expect(system.index(photos), added=2, known=1, faces=2)
    (photos / "a.png").unlink()
    expect(system.index(photos), unchanged=2)
    assert set(held(system)[0]) == {("b.png",), ("other.png",)}
    (photos / "b.png").unlink()
    expect(system.index(photos), unchanged=1, removed=1)
    assert set(held(system)[0]) == {("other.png",)}


def test_other_content_under_a_path_replaces_the_faces(system, photos):
    for name, person in (("a", 0), ("b", 1), ("c", 2)):
        photo(photos / f"{name}.png", person)
    system.index(photos)
    photo(photos / "a.png", 3, 4)
    shutil.copy(photos / "b.png", photos / "c.png")
    age(photos / "a.png")
    age(photos / "c.png")
    expect(system.index(photos), changed=1, faces=2, known=1, unchanged=1)
    assert set(held(system)[0]) == {("a.png",), ("b.png", "c.png")}
    assert system.gallery.counts().photos == 2


def test_a_file_that_was_only_touched_is_unchanged(system, photos):
    path = photo(photos / "a.png", 0)
    system.index(photos)
    _, faces = held(system)
    age(path)
    expect(system.index(photos), unchanged=1)
    assert held(system)[1] == faces
    [row] = system.gallery.files()
    assert row.mtime_ns == path.stat().st_mtime_ns  # so that it is not hashed again each time


def test_enrolled_faces_stay_when_their_photo_goes(system, photos):
    path = photo(photos / "a.png", 0, 1)
    photo(photos / "b.png", 2)
    system.index(photos)
    both = system.gallery.faces(photo=1)
    system.gallery.enroll([both[0].id], "Ada")
    path.unlink()
    expect(system.index(photos), unchanged=1, removed=1)
    [row] = system.gallery.faces(person=system.gallery.find_person("Ada"))
    assert (row.id, row.path) == (both[0].id, None)
    photo(path, 0, 1)
    expect(system.index(photos), unchanged=1, added=1, faces=1)  # the other of the two


def test_a_photo_that_turns_into_something_else(system, photos):
    for name in ("text.dat", "broken.jpg", "folder.png", "pipe.png"):
        photo(photos / name, 0)
    expect(system.index(photos), added=4, faces=4)
    (photos / "text.dat").write_text("no photo any more")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff, so it seems")
    for name in ("folder.png", "pipe.png"):
        (photos / name).unlink()
    (photos / "folder.png").mkdir()
    os.mkfifo(photos / "pipe.png")
    report = system.index(photos)
    [(path, reason)] = report.skipped
    assert path == photos / "broken.jpg"
    expect(report, ignored=1, removed=3, skipped=[(path, reason)])
    assert system.gallery.counts() == Counts(0, 0, 1, 0, 0, 0)


# What is looked at


def test_a_single_file_as_root(system, photos):
    one = photo(photos / "a.png", 0)
    other = photo(photos / "b.png", 1)
    expect(system.index(one), added=1, faces=1)
    expect(system.index(one, other), added=1, faces=1, unchanged=1)
    one.unlink()
    with pytest.raises(InputError, match="folder: expected one that exists"):
        system.index(one)
    expect(system.index(photos), unchanged=1, removed=1)


def test_roots_inside_one_another_count_once(system, photos):
    (photos / "below").mkdir()
    photo(photos / "below" / "a.png", 0)
    (photos / "below" / "bad.jpg").write_bytes(b"bad")
    roots = [photos, photos / "below", photos / "below" / "a.png", photos]
    [skipped] = system.index(*roots).skipped
    expect(system.index(*roots), unchanged=1, skipped=[skipped])


def test_a_root_has_one_spelling(system, photos, monkeypatch):
    (photos / "here").mkdir()
    photo(photos / "a.png", 0)
    monkeypatch.chdir(photos / "here")
    expect(system.index(".."), added=1, faces=1)
    expect(system.index(photos), unchanged=1)
    [row] = system.gallery.files()
    assert row.path == photos / "a.png"


def test_a_name_may_begin_as_the_home_folder_does(system, photos, monkeypatch):
    monkeypatch.chdir(photos)
    photo(photos / "~$draft.png", 0)
    expect(system.index("~$draft.png"), added=1, faces=1)
    monkeypatch.setenv("HOME", str(photos))
    expect(system.index("~"), unchanged=1)
    assert len(system.identify("~$draft.png")) == 1


def test_links_are_followed_once(system, photos, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    photo(outside / "a.png", 0)
    target = photo(tmp_path / "b.png", 1)
    (photos / "album").symlink_to(outside)
    (photos / "again").symlink_to(outside)
    (photos / "link.png").symlink_to(target)
    (photos / "dangling.png").symlink_to(tmp_path / "nothing")
    (photos / "loop").symlink_to(photos)
    (outside / "back").symlink_to(photos)
    expect(system.index(photos), added=2, faces=2)
    assert len(system.gallery.files()) == 2
    expect(system.index(photos), unchanged=2)


def test_a_link_to_a_file_beside_it_is_a_copy(system, photos):
    photo(photos / "a.png", 0)
    (photos / "b.png").symlink_to("a.png")
    expect(system.index(photos), added=1, known=1, faces=1)


def test_a_link_to_itself_is_told(system, photos):
    (photos / "a.jpg").symlink_to("a.jpg")
    photo(photos / "b.jpg", 0)
    report = system.index(photos)
    expect(report, added=1, faces=1, skipped=report.skipped)
    assert [path.name for path, _ in report.skipped] in ([], ["a.jpg"])  # Python's versions differ


def test_hidden_files_and_galleries_are_passed_over(system, photos):
    (photos / ".cache").mkdir()
    (photos / "other.visavis").mkdir()
    for name in (".hidden.png", ".cache/a.png", "other.visavis/a.png"):
        photo(photos / name, 0)
    photo(photos / "seen.png", 1)
    expect(system.index(photos), added=1, faces=1)


def test_what_was_named_though_hidden_stays(system, photos):
    (photos / ".private").mkdir()
    photo(photos / ".private" / "a.png", 0)
    expect(system.index(photos / ".private"), added=1, faces=1)
    photo(photos / "b.png", 1)
    expect(system.index(photos), added=1, faces=1)
    assert system.gallery.counts().photos == 2


def test_files_that_are_no_photos_are_ignored(system, photos):
    (photos / "notes.txt").write_text("notes")
    (photos / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    photo(photos / "photo-without-suffix", 0)
    expect(system.index(photos), added=1, faces=1, ignored=2)
    expect(system.index(photos), unchanged=1, ignored=2)


def test_a_named_photo_that_is_none_is_skipped_until_it_changes(system, photos):
    path = photos / "a.jpg"
    path.write_text("no photo")
    [(skipped, reason)] = system.index(photos).skipped
    assert skipped == path
    assert reason.startswith("file: expected a photo (JPEG, PNG")
    expect(system.index(photos), skipped=[(path, reason)])
    time = path.stat().st_mtime_ns
    path.write_bytes(photo(photos.parent / "a.png", 0).read_bytes()[:8])
    os.utime(path, ns=(time, time))  # as many bytes at the same time: nothing seems to have changed
    expect(system.index(photos), skipped=[(path, reason)])
    photo(path, 0)
    age(path)
    expect(system.index(photos), added=1, faces=1)
    expect(system.index(photos), unchanged=1)


def test_what_cannot_be_read_today_is_tried_again(system, photos):
    path = photo(photos / "a.png", 0)
    photo(photos / "b.png", 1)
    content, status = path.read_bytes(), path.stat()

    def vanish(done, total):
        if done == 0 and total == 2:
            path.unlink()

    report = system.index(photos, progress=vanish)
    expect(report, added=1, faces=1, skipped=[(path, "file: cannot be read (No such file or directory)")])
    path.write_bytes(content)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    expect(system.index(photos), added=1, faces=1, unchanged=1)


@pytest.mark.parametrize("name", ["a.png", "no suffix"])
def test_a_known_photo_that_cannot_be_read_today_stays(system, photos, monkeypatch, name):
    path = photo(photos / name, 0)
    photo(photos / "b.png", 1)
    system.index(photos)
    age(path)
    real = type(path).open

    def refuse(self, *rest, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", refuse)
        patch.setattr(type(path), "read_bytes", refuse)
        expect(system.index(photos), unchanged=1, skipped=[(path, "file: cannot be read (Permission denied)")])
    assert system.gallery.counts().photos == 2
    expect(system.index(photos), unchanged=2)


@pytest.mark.parametrize("as_root", [True, False])
def test_pipes_and_sockets_do_not_hang(system, photos, as_root, monkeypatch):
    os.mkfifo(photos / "pipe.jpg")
    monkeypatch.chdir(photos)  # a socket's path may have some hundred characters only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        if not as_root:
            expect(system.index(photos))
            return
        told = "file: expected a file or folder, got a pipe or device"
        for name in ("pipe.jpg", "socket.jpg"):
            expect(system.index(photos / name), skipped=[(photos / name, told)])


# Folders that are not what they were


def test_an_unreadable_folder_keeps_what_is_known_below(system, photos, tmp_path, monkeypatch):
    for name in ("locked/deep/a.png", "open/b.png", "open/gone.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        photo(photos / name, 0)
    system.index(photos)
    (photos / "open" / "gone.png").unlink()
    (photos / "locked" / "deep").rename(tmp_path / "deep")  # as good as: nothing below can be seen
    scandir = os.scandir

    def refuse(place):
        if place == photos / "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    told = (photos / "locked", "folder: cannot be read (Permission denied)")
    expect(system.index(photos), unchanged=1, removed=1, skipped=[told])
    assert {row.path.name for row in system.gallery.files()} == {"a.png", "b.png"}


def test_an_empty_folder_may_be_a_disk_that_is_not_mounted(system, photos):
    for name in ("a.png", "disk/b.png", "disk/deep/c.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        photo(photos / name, 0)
    system.index(photos)
    shutil.rmtree(photos / "disk")
    (photos / "disk").mkdir()
    expect(system.index(photos), unchanged=1, kept_missing=[photos / "disk"])
    (photos / "a.png").unlink()
    expect(system.index(photos), kept_missing=[photos])
    assert system.gallery.counts().photos == 3
    expect(system.index(photos, prune=True), removed=3)
    assert system.gallery.counts().photos == 0
    expect(system.index(photos))


def test_a_folder_that_is_gone_is_an_error_and_keeps_its_photos(system, photos):
    photo(photos / "a.png", 0)
    system.index(photos)
    shutil.rmtree(photos)
    with pytest.raises(InputError, match=r"folder: expected one that exists, got '.*photos'"):
        system.index(photos)
    assert system.gallery.counts().photos == 1


# What is left over from a run before


def test_faces_left_unsorted_are_sorted_by_the_next_run(system, photos):
    for seed in range(3):
        photo(photos / f"{seed}.png", 0)
    system.index(photos, clusters=False)
    assert system.gallery.people() == []
    expect(system.index(photos), unchanged=3)
    assert [row.faces for row in system.gallery.people()] == [3]


def test_a_run_that_is_stopped_keeps_what_is_done(system, photos):
    for seed in range(20):
        photo(photos / f"{seed}.png", seed % 3)

    def stop(done, _total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        system.index(photos, progress=stop)
    assert system.gallery.counts().photos == 8  # a chunk
    assert system.gallery.people() == []
    expect(system.index(photos), added=12, faces=12, unchanged=8)
    assert len(system.gallery.people()) == 3


def test_progress_counts_every_file_that_is_looked_at(system, photos):
    photo(photos / "a.png", 0)
    system.index(photos)
    shutil.copy(photos / "a.png", photos / "copy.png")
    age(photos / "a.png")
    (photos / "notes.txt").write_text("notes")
    (photos / "bad.jpg").write_text("bad")
    for seed in range(10):
        photo(photos / f"{seed}.png", 1)
    calls = []
    system.index(photos, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 14)
    assert calls[-1] == (14, 14)
    assert calls == sorted(calls)


def test_a_gallery_that_cannot_be_written_is_told_before_any_work(system, photos, monkeypatch):
    photo(photos / "a.png", 0)
    monkeypatch.setattr(system.gallery._database, "writable", False)
    calls = []
    with pytest.raises(GalleryError, match="expected a writable folder"):
        system.index(photos, progress=lambda *call: calls.append(call))
    assert calls == []
