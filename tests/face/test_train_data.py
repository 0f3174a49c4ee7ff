"""Crops for training: drawn squares whose colour tells the person, see fake_pack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.face.fake_pack import COLOURS, photo
from visavis.errors import InputError, TensorError
from visavis.face.align import TEMPLATES
from visavis.face.models import load_pack
from visavis.face.train import cutting, data
from visavis.face.train.cache import CropCache, Cut, HashedFile
from visavis.face.train.data import Crops, crops, template_points


@pytest.fixture
def people(tmp_path):
    """Three people with two, three and four photos, some in nested folders."""
    for name, person, places in (("ada", 0, "ab"), ("bob", 4, "abc"), ("eve", 9, "abcd")):
        for number, place in enumerate(places):
            folder = tmp_path / "people" / name / ("far" if number % 2 else "near/by")
            folder.mkdir(parents=True, exist_ok=True)
            photo(folder / f"{name} {place}.png", person)
    return tmp_path / "people"


@pytest.fixture
def cut(squares, tmp_path):
    def run(folder, **options):
        return crops(folder, load_pack(squares), cache=tmp_path / "cache", **{"size": 32, "workers": 1, **options})

    return run


def colour(image):
    return image.reshape(-1, 3).mean(0)


def test_each_crop_is_of_the_colour_of_its_person(cut, people):
    found = cut(people)
    assert found.people == ("ada", "bob", "eve")
    assert np.bincount(found.labels).tolist() == [2, 3, 4]
    assert [path.name.split()[0] for path in found.paths] == [found.people[label] for label in found.labels]
    wanted = np.array([COLOURS[person] for person in (0, 4, 9)])[found.labels]
    assert abs(np.array([colour(image[4:28, 4:28]) for image in found.images()]) - wanted).max() < 8
    np.testing.assert_allclose(found.landmarks, np.broadcast_to(template_points(32), (9, 5, 2)), atol=1e-3)


def test_the_border_lies_around_the_same_crop(cut, people):
    bare, wide = cut(people), cut(people, border=5)
    assert wide.images().shape == (9, 42, 42, 3)
    order = [wide.paths.index(path) for path in bare.paths]
    # The outermost pixels differ where the photo ends: there the wide crop goes on in black.
    np.testing.assert_array_equal(wide.images()[order][:, 6:-6, 6:-6], bare.images()[:, 1:-1, 1:-1])
    np.testing.assert_allclose(wide.landmarks[order], bare.landmarks + 5, atol=1e-3)


def test_template_points_are_the_template_at_its_own_size_and_scale_about_the_corner():
    np.testing.assert_allclose(template_points(112), TEMPLATES["arcface-112"])
    # The crop's corners are at -0.5 and size - 0.5.
    np.testing.assert_allclose((template_points(56) + 0.5) * 2, template_points(112) + 0.5)


def test_a_second_run_looks_at_nothing_again_and_a_moved_photo_is_known(cut, people, monkeypatch):
    first = cut(people)

    def refuse(*_):
        raise AssertionError("a photo was looked at again")

    monkeypatch.setattr(cutting.Cutter, "__call__", refuse)
    (people / "ada" / "far").rename(people / "ada" / "moved")
    again = cut(people)
    assert sorted(again.rows.tolist()) == sorted(first.rows.tolist())
    assert {path.parent.name for path in again.paths if "ada" in path.parts} == {"moved", "by"}


def test_a_photo_that_changed_is_looked_at_again(cut, people):
    path = people / "ada" / "near" / "by" / "ada a.png"
    before = cut(people)
    photo(path, 0, seed=99)
    after = cut(people)
    assert set(after.rows.tolist()) ^ set(before.rows.tolist()) == {9, *before.rows[[before.paths.index(path)]]}


def test_workers_cut_the_same(cut, people, tmp_path):
    for number in range(20):
        photo(people / "eve" / f"{number}.png", 9)
    alone = cut(people)
    (tmp_path / "cache").rename(tmp_path / "other")
    many = cut(people, workers=2)
    assert (many.paths, many.labels.tolist()) == (alone.paths, alone.labels.tolist())
    np.testing.assert_array_equal(many.images(), alone.images())


def test_all_that_cannot_be_used_is_told_at_once_with_the_cure(cut, people, tmp_path):
    (people / "broken").mkdir()
    (people / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    (people / "bob" / "empty.png").write_bytes(b"")
    photo(people / "eve" / "nobody.png")
    photo(people / "alone.png", 2)
    (people / "bob" / "notes.txt").write_text("no photo, and not named like one")
    with pytest.raises(InputError) as early:  # before anything is decoded
        cut(people)
    assert "leave them out with --skip-bad (skip_bad=True)" in str(early.value)
    assert f"{people / 'broken'}: person: expected two different photos with a face or more, got 1" in str(early.value)
    assert f"{people / 'bob' / 'empty.png'}: file: expected a photo, got other content" in str(early.value)
    assert f"{people / 'alone.png'}: photo: expected in the folder of a person" in str(early.value)
    assert "notes.txt" not in str(early.value)
    photo(people / "broken" / "b.png", 3)
    (people / "bob" / "empty.png").unlink()
    (people / "alone.png").unlink()
    with pytest.raises(InputError) as late:
        cut(people)
    assert f"{people / 'broken' / 'a.jpg'}: file: damaged or truncated" in str(late.value)
    assert f"{people / 'eve' / 'nobody.png'}: photo: expected a face, found none" in str(late.value)
    assert f"{people / 'broken'}: person: expected two different photos with a face or more, got 1" in str(late.value)
    found = cut(people, skip_bad=True)
    assert (found.people, len(found)) == (("ada", "bob", "eve"), 9)
    assert {path.name for path, _ in found.skipped} == {"a.jpg", "nobody.png", "broken"}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_copy_counts_once_and_in_two_folders_is_refused(cut, people):
    source = people / "ada" / "far" / "ada b.png"
    (people / "ada" / "copy.png").write_bytes(source.read_bytes())
    assert np.bincount(cut(people).labels).tolist() == [2, 3, 4]
    (people / "ada" / "copy.png").rename(people / "eve" / "copy.png")
    with pytest.raises(InputError, match=r"ada b.png: photo: expected to be of one person, got a copy with eve"):
        cut(people)
    found = cut(people, skip_bad=True)
    assert found.people == ("bob", "eve")  # of ada one photo is left


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_people_are_refused(cut, people, left):
    for name in ("ada", "bob", "eve")[left:]:
        (people / name).rename(people.with_name(name))
    with pytest.raises(InputError, match=f"data: expected a sub-folder of photos for each of two .*, got {left} in"):
        cut(people)


def test_no_folder_and_bad_sizes_are_refused(cut, people, tmp_path):
    with pytest.raises(InputError, match="data: expected a folder or a gallery, got"):
        cut(tmp_path / "nowhere")
    for options in ({"size": 8}, {"border": -1}, {"border": 33}):
        with pytest.raises(InputError, match="size, border: expected"):
            cut(people, **options)
    with pytest.raises(InputError, match="workers: expected at least 1, got 0"):
        cut(people, workers=0)


def test_without_labels_every_face_of_every_photo_is_taken(cut, people):
    photo(people / "party.png", 1, 2, 3)
    found = cut(people, labelled=False)
    assert (len(found), found.people, set(found.labels.tolist())) == (12, (), {-1})
    party = [number for number, path in enumerate(found.paths) if path.name == "party.png"]
    seen = {int(abs(np.array(COLOURS) - colour(found.images(np.array([n]))[0])).sum(1).argmin()) for n in party}
    assert seen == {1, 2, 3}


def test_a_gallery_gives_the_faces_as_they_were_found(cut, system, people):
    party = photo(people / "party.png", 0, 4)
    system.index(people)
    system.name(system.gallery.faces(photo=1)[0].person_id, "Ada")
    found = cut(system.gallery.folder)
    assert len(found) == 11
    assert len(found.people) == 3
    assert "Ada" in found.people
    assert {found.people[found.labels[i]] for i, path in enumerate(found.paths) if "ada" in path.parts} == {"Ada"}
    wanted = np.array([COLOURS[person] for person in (0, 4, 9)])
    whose = abs(np.array([colour(im) for im in found.images()])[:, None] - wanted[None]).sum(2).argmin(1)
    assert len(set(zip(whose.tolist(), found.labels.tolist(), strict=True))) == 3
    party.write_bytes(photo(people / "else.png", 0, 4, seed=5).read_bytes())
    with pytest.raises(InputError, match=r"party.png: photo: changed since the gallery saw it; run `visavis face ind"):
        cut(system.gallery.folder)


def test_of_takes_people_and_numbers_them_anew(cut, people):
    found = cut(people)
    some = found.of([2, 0])
    assert some.people == ("eve", "ada")
    assert np.bincount(some.labels).tolist() == [4, 2]
    eves = found.images(np.flatnonzero(found.labels == 2))
    np.testing.assert_array_equal(some.images(np.flatnonzero(some.labels == 0)), eves)
    for wrong in ([0, 0], [3], [-1]):
        with pytest.raises(InputError, match="people: expected different numbers below 3"):
            found.of(wrong)


@pytest.mark.slow
def test_a_photo_that_ends_its_process_is_named_and_the_others_are_cut(cut, people, monkeypatch):
    class Crashing(cutting.Cutter):  # defined here, so that it goes to the workers by value
        def __call__(self, shots):
            if any("crash" in shot.path.name for shot in shots):
                os._exit(1)
            return super().__call__(shots)

    monkeypatch.setattr(data, "Cutter", Crashing)
    photo(people / "eve" / "crash.png", 9)
    with pytest.raises(InputError, match=r"crash.png: file: decoding it ended the process"):
        cut(people, workers=2)
    assert len(cut(people, workers=2, skip_bad=True)) == 9


def test_aligned_images_are_taken_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), np.uint8)
    found = Crops.from_images(images, np.array([1, 0, 0, 1, 1]), border=4)
    assert (len(found), found.size, found.people) == (5, 32, ("0", "1"))
    np.testing.assert_array_equal(found.images(slice(1, 3)), images[1:3])
    np.testing.assert_allclose(found.landmarks[4], template_points(32) + 4, atol=1e-5)
    np.testing.assert_array_equal(found.of([1]).images(), images[[0, 3, 4]])


@pytest.mark.parametrize("labels", [[0, 0, 2, 2], [0, 0, 0, 1], [0, 0, 0, 0], [-1, 0, 0, 1]])
def test_labels_with_holes_or_single_photos_are_refused(labels):
    with pytest.raises(InputError, match="labels: expected 0, 1, ... for two people or more, each at least twice"):
        Crops.from_images(np.zeros((4, 32, 32, 3), np.uint8), np.array(labels))


def test_images_of_another_shape_are_refused():
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(TensorError, match="images: expected uint8"):
        Crops.from_images(np.zeros((4, 32, 30, 3), np.uint8), labels)
    with pytest.raises(TensorError, match="labels: expected int64"):
        Crops.from_images(np.zeros((4, 32, 32, 3), np.uint8), labels[:3])
    with pytest.raises(InputError, match="border: expected one that leaves a crop of 32 px, got 16"):
        Crops.from_images(np.zeros((4, 32, 32, 3), np.uint8), labels, border=16)


# The cache

CUT = Cut(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 2), np.float32))


@settings(max_examples=20)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=4), max_size=5))
def test_the_cache_gives_back_what_went_in_first(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("cache")
    first = {}
    for batch in batches:
        with CropCache(folder, {"a": 1}, 4) as cache:
            photos = []
            for key, count in batch:
                cuts = [CUT._replace(crop=np.full((4, 4, 3), len(first) * 4 + n, np.uint8)) for n in range(count)]
                photos.append((str(key), cuts))
                first.setdefault(str(key), cuts)
            cache.add(photos)
    with CropCache(folder, {"a": 1}, 4) as cache:
        assert cache.stored("never") is None
        for key, cuts in first.items():
            stored = cache.stored(key)
            assert len(stored) == len(cuts)
            for one, cut in zip(stored, cuts, strict=True):
                np.testing.assert_array_equal(cache.images()[one.row], cut.crop)


def test_other_recipes_have_other_crops_and_files_are_known_by_size_and_time(tmp_path):
    path = Path(os.fsdecode(b"/odd\xff.png"))
    with CropCache(tmp_path, {"a": 1}, 4) as cache, CropCache(tmp_path, {"a": 2}, 4) as other:
        cache.add([("x", [CUT])])
        cache.note([HashedFile(path, 3, 4, "abc")])
        assert (other.stored("x"), other.sha256(path, 3, 4)) == (None, None)
        assert cache.sha256(path, 3, 4) == "abc"
        assert (cache.sha256(path, 4, 4), cache.sha256(path, 3, 5)) == (None, None)


def test_what_a_killed_run_leaves_is_written_over(tmp_path):
    """The process dies after the bytes and before the commit."""
    code = f"""
import os, signal, numpy as np
from pathlib import Path
from visavis.face.train import cache
from visavis.face.train import cutting, data
from visavis.face.train.cache import CropCache, Cut
def die(_): os.kill(os.getpid(), signal.SIGKILL)
with CropCache(Path({str(tmp_path)!r}), {{}}, 4) as c:
    c.add([("a", [Cut(np.full((4, 4, 3), 7, np.uint8), np.zeros((5, 2), np.float32))])])
    cache.os.fsync = die
    c.add([("b", [Cut(np.full((4, 4, 3), 8, np.uint8), np.zeros((5, 2), np.float32))])])
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    with CropCache(tmp_path, {}, 4) as cache:
        assert cache.stored("b") is None
        assert [image[0, 0, 0] for image in cache.images()] == [7]
        cache.add([("c", [CUT._replace(crop=np.full((4, 4, 3), 9, np.uint8))])])
        assert [image[0, 0, 0] for image in cache.images()] == [7, 9]


def test_a_file_of_crops_that_was_cut_is_told(tmp_path):
    with CropCache(tmp_path, {}, 4) as cache:
        cache.add([("x", [CUT, CUT])])
        with (cache.folder / "crops.u8").open("r+b") as stream:
            stream.truncate(50)
        with pytest.raises(InputError, match=r"cache: expected 2 crops in .*crops.u8, got fewer; delete"):
            cache.images()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cache: expected a folder that can be written, got"):
        CropCache(tmp_path / "file", {}, 4)
