import hashlib
import json
import shutil
import stat
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import shared
from tests.face.fake_pack import photo
from visavis.app import demo as demo_module
from visavis.app.cli import main
from visavis.app.demo import demo, sample_photos
from visavis.errors import InputError, ModelError
from visavis.face.system import FaceSystem

pytestmark = pytest.mark.usefixtures("in_process")


def quiet(_label):
    return lambda _done, _total: None


def named(done):
    """The names of the photos with the person."""
    return {answer.path.name for answer in done.answers if any(one.person == done.name for one in answer.found)}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def test_a_folder_of_ones_own(squares, tmp_path, photos):
    for number in range(8):
        photo(photos / f"{number}.jpg", number % 2, quality=95)
    photo(photos / "both.png", 0, 1)
    (photos / "bad.jpg").write_bytes(b"bad")
    for added in (9, 0):  # the second time finds all in place
        done = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
        assert (done.indexed.added, done.people, done.name) == (added, 2, "Somebody")
        assert [path.name for path, _ in done.indexed.skipped] == ["bad.jpg"]
        assert done.named_from.parent == photos
        parity = int(done.named_from.stem) % 2
        same = {f"{number}.jpg" for number in range(8) if number % 2 == parity}
        assert named(done) == same - {done.named_from.name} | {"both.png"}
        assert "Somebody" in done.report.read_text(encoding="utf-8")
        with Image.open(done.contact_sheet) as sheet:
            assert sheet.format == "PNG"


def test_each_folder_has_a_gallery_of_its_own(squares, tmp_path, photos):
    other = tmp_path / "other"
    other.mkdir()
    for folder, person in (photos, 0), (other, 1):
        for number in range(3):
            photo(folder / f"{folder.name} {number}.jpg", person, quality=95)
    assert demo(photos, tmp_path / "out", pack=str(squares), progress=quiet).indexed.added == 3
    for added in (3, 0):
        done = demo(other, tmp_path / "out", pack=str(squares), progress=quiet)
        assert (done.indexed.added, done.people) == (added, 1)
        assert {answer.path.parent for answer in done.answers} == {other}
        shutil.rmtree(photos, ignore_errors=True)


def test_the_folder_it_makes_is_for_the_owner_alone(squares, tmp_path, photos):
    demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_the_next_run_names_nobody_else(squares, tmp_path, photos):
    for number in range(3):
        photo(photos / f"ada {number}.jpg", 0, quality=95)
    first = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    for number in range(9):
        photo(photos / f"bob {number}.jpg", 1, quality=95)
    again = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    assert again.named_from == first.named_from
    assert named(again) == named(first) == {path.name for path in photos.glob("ada *")} - {first.named_from.name}
    for gone in list(named(first)), [first.named_from.name]:  # the last one that is left, then none
        for name in gone:
            (photos / name).unlink()
        done = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
        assert named(done) == set()
    assert (done.name, done.named_from) == (None, None)


def test_the_command_counts_the_photos_of_the_person_alone(squares, tmp_path, photos, capsys):
    for number in range(4):
        photo(photos / f"{number}.jpg", number % 2, quality=95)
    first = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    [gallery] = (tmp_path / "out").glob("gallery-*.visavis")
    with FaceSystem.open(gallery, pack=squares) as system:
        system.enroll("Bob", [photos / f"{1 - int(first.named_from.stem) % 2}.jpg"])
    assert main(["face", "demo", str(photos), "-o", str(tmp_path / "out"), "--pack", str(squares), "--json"]) == 0
    assert [Path(path).name for path in json.loads(capsys.readouterr().out)["identified_in"]] == list(named(first))


def test_only_photos_that_are_there_are_asked_about(squares, tmp_path, photos):
    photo(photos / "alone.jpg", 0, quality=95)
    elsewhere = tmp_path / "elsewhere"
    album = photos / "album"
    for folder in elsewhere, album:
        folder.mkdir()
        for number in range(3):
            photo(folder / f"{folder.name} {number}.jpg", 0, quality=95)
    demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    [gallery] = (tmp_path / "out").glob("gallery-*.visavis")
    with FaceSystem.open(gallery, pack=squares) as system:
        system.index(elsewhere)
    for path in album.iterdir():
        path.unlink()  # of a folder that is empty now the gallery keeps the photos
    done = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    assert {path.parent for path in (done.named_from, *(answer.path for answer in done.answers)) if path} <= {photos}


def test_the_home_folder_may_be_written_short(squares, tmp_path, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo(photos / "ada.png", 0)
    assert demo(Path("~/photos"), Path("~/out"), pack=str(squares), progress=quiet).named_from == photos / "ada.png"
    assert (tmp_path / "out" / "report.html").exists()
    with pytest.raises(InputError, match="output: expected a folder outside of the photos, got '~/photos/out'"):
        demo(photos, Path("~/photos/out"), pack=str(squares), progress=quiet)


@pytest.mark.parametrize("people", [[], [(), ()], [(0, 1), (0, 2)]])
def test_nobody_to_name(squares, tmp_path, photos, people):
    """No photo, no face, no photo of one face."""
    for number, who in enumerate(people):
        photo(photos / f"{number}.png", *who)
    done = demo(photos, tmp_path / "out", pack=str(squares), progress=quiet)
    assert (done.indexed.added, done.name, done.named_from, done.answers) == (len(people), None, None, [])
    assert done.report.exists()
    assert done.contact_sheet.exists()


def test_what_it_makes_does_not_end_among_the_photos(squares, tmp_path, photos, monkeypatch):
    with pytest.raises(InputError, match="photos: expected a folder, got '.*nowhere'"):
        demo(tmp_path / "nowhere", tmp_path / "out", pack=str(squares), progress=quiet)
    monkeypatch.chdir(photos)
    with pytest.raises(InputError, match="output: expected a folder outside of the photos, got 'visavis-demo'"):
        demo(Path(), Path("visavis-demo"), pack=str(squares), progress=quiet)
    assert list(photos.iterdir()) == []
    assert not (tmp_path / "out").exists()


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """The folder of sample photos, which are three words here, and the list of what was fetched."""
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path))
    words = {f"{word}.jpg": (len(word), hashlib.sha256(word.encode()).hexdigest()) for word in ("one", "two", "three")}
    monkeypatch.setattr("visavis.app.demo.SAMPLES", words)
    fetched = []

    def fetch(source, part, _size, _progress):
        fetched.append(Path(source.member).name)
        part.write_text(Path(source.member).stem)

    monkeypatch.setattr("visavis.app.demo.fetch", fetch)
    return tmp_path / "samples", fetched


def test_samples_are_fetched_once(samples, tmp_path):
    folder, fetched = samples
    assert sample_photos() == sample_photos() == folder
    assert fetched == ["one.jpg", "two.jpg", "three.jpg"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: name[:-4] for name in fetched}
    assert list(tmp_path.iterdir()) == [folder]


def test_samples_are_checked_when_they_come_and_when_they_are_there(samples, tmp_path, monkeypatch):
    folder, fetched = samples
    sample_photos()
    (folder / "two.jpg").write_text("owt")
    sample_photos()
    assert (folder / "two.jpg").read_text() == "two"
    assert fetched[3:] == ["two.jpg"]
    (folder / "one.jpg").unlink()
    monkeypatch.setattr("visavis.app.demo.fetch", lambda _source, part, *_: part.write_text("something else"))
    with pytest.raises(ModelError, match="one.jpg: expected the sample photo, got other content"):
        sample_photos()
    assert not (folder / "one.jpg").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_two_runs_may_fetch_the_samples_at_once(samples, monkeypatch):
    folder, fetched = samples
    alone = demo_module.fetch

    def fetch(source, part, size, progress):
        alone(source, part, size, progress)
        monkeypatch.setattr(demo_module, "fetch", alone)
        sample_photos()  # of the other run, which fetches all before this one goes on

    monkeypatch.setattr(demo_module, "fetch", fetch)
    assert sample_photos() == folder
    assert fetched == ["one.jpg", "one.jpg", "two.jpg", "three.jpg"]
    assert (folder / "one.jpg").read_text() == "one"


def test_real_models_on_real_photos(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("VISAVIS_MODEL_PATH", str(shared("models")))
    for album in sorted(shared("data", "celeb5", "train").iterdir())[:2]:
        for path in sorted(album.iterdir())[:4]:
            (photos / f"{album.name} {path.name}").symlink_to(path)
    done = demo(photos, tmp_path / "out", pack="fast", progress=quiet)
    assert (done.indexed.added, done.people) == (8, 2)
    person = done.named_from.name.split()[0]
    same = {path.name for path in photos.iterdir() if path.name.startswith(person)}
    assert named(done) == same - {done.named_from.name}
