import hashlib
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import shared
from tests.face.fake_pack import photo
from visavis.app import demo as demo_module
from visavis.app.demo import demo, sample_photos
from visavis.errors import InputError, ModelError

pytestmark = pytest.mark.usefixtures("in_process")


def quiet(_label):
    return lambda _done, _total: None


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
        named = {answer.path.name for answer in done.answers if any(one.person == "Somebody" for one in answer.found)}
        parity = int(done.named_from.stem) % 2
        assert named == {f"{number}.jpg" for number in range(8) if number % 2 == parity} - {done.named_from.name} | {
            "both.png"
        }
        assert "Somebody" in done.report.read_text(encoding="utf-8")
        with Image.open(done.contact_sheet) as sheet:
            assert sheet.format == "PNG"


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
        part.write_text("on")  # half a photo is here when the other run comes and fetches all
        monkeypatch.setattr(demo_module, "fetch", alone)
        sample_photos()
        alone(source, part, size, progress)

    monkeypatch.setattr(demo_module, "fetch", fetch)
    assert sample_photos() == folder
    assert fetched == ["one.jpg", "two.jpg", "three.jpg", "one.jpg"]
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
    named = {answer.path.name for answer in done.answers if any(one.person == "Somebody" for one in answer.found)}
    assert named == {path.name for path in photos.iterdir() if path.name.startswith(person)} - {done.named_from.name}
