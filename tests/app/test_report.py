import html.parser
import io
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.face.fake_pack import COLOURS, photo
from visavis.app import report
from visavis.app.report import PhotoAnswer, contact_sheet, write_report
from visavis.errors import PhotoError

pytestmark = pytest.mark.usefixtures("in_process")

ELEMENTS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "ol", "li", "strong", "span"}
ELEMENTS |= {"div", "article", "section", "img", "table", "tr", "th", "td"}
EVIL = ("<script>alert(1)</script>", "\" onerror='x' <img src=http://x>", "a\n\x1b[2J{{ 7 * 7 }}", "Zoë & 李")


class Page(html.parser.HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


def page_of(path):
    """The page, once it is known to be harmless: only known elements and attributes, nothing from outside."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    attributes = {name for _, attributes in page.elements for name in attributes}
    assert attributes <= {"lang", "charset", "name", "content", "http-equiv", "class", "src", "alt", "title", "loading"}
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "default-src 'none'" in str(page.all("meta"))
    without_data = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert "url(" not in without_data
    assert "@import" not in without_data
    return page


def test_names_and_paths_are_data(system, photos, tmp_path):
    for number, name in enumerate(EVIL):
        path = photo(photos / f"{name.replace('/', '_')}.png", number)
        system.enroll(name if name.isprintable() else f"Ada {name[-11:]}", [path])
    system.index(photos)
    answers = [PhotoAnswer(path, system.identify(path)) for path in sorted(photos.iterdir())]
    skipped = [(photos / os.fsdecode(b"\xff<b>.jpg"), "file: <i>why</i>")]
    write_report(system, tmp_path / "report.html", answers=answers, skipped=skipped)
    page = page_of(tmp_path / "report.html")
    for shown in ("<script>alert(1)</script>", "\" onerror='x' <img src=http://x>", "Zoë & 李", "{{ 7 * 7 }}"):
        assert shown in page.text
    assert r"\udcff<b>.jpg" in page.text
    assert "<i>why</i>" in page.text
    assert r"a\n\x1b[2J{{ 7 * 7 }}.png" in page.text
    captions = {image["title"] for image in page.all("img") if "title" in image}
    assert any("<script>alert(1)<_script>.png" in caption for caption in captions)


def test_the_page_tells_what_the_gallery_holds(system, photos, tmp_path):
    for number in range(5):
        photo(photos / f"{number}.png", number % 2)
    party = photo(photos / "party.png", 0, 5)
    system.index(photos)
    system.enroll("Ada", [photos / "0.png"])
    answers = [PhotoAnswer(path, system.identify(path)) for path in (party, photo(tmp_path / "empty.png"))]
    write_report(system, tmp_path / "report.html", answers=answers, skipped=[(photos / "bad.jpg", "damaged")])
    page = page_of(tmp_path / "report.html")
    numbers = re.findall(r"([\d,]+)\s+(photos|faces|people|faces seen once)\b", " ".join(page.text.split()))
    assert {"6 photos", "7 faces", "2 people"} <= {" ".join(found) for found in numbers}
    assert page.text.count("Ada") == 2  # her section, and once in the party
    assert "unknown" in page.text
    assert "no face found" in page.text
    assert "damaged" in page.text
    assert "square-embedder" in page.text
    assert len(page.all("img")) >= 2 + 6  # the photos asked about, and the faces sorted


def test_an_empty_gallery_has_a_page_and_a_picture(system, tmp_path):
    write_report(system, tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    assert page.all("img") == []
    contact_sheet(system, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).min() < 100  # it says so


def test_the_sheet_has_a_row_for_each_person_with_the_faces(system, photos, tmp_path):
    for number in range(9):
        photo(photos / f"{number}.png", number % 3)
    system.index(photos)
    contact_sheet(system, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert pixels.shape[0] == 3 * 102 + 6
    for row, person in enumerate((0, 1, 2)):
        for column in range(3):
            middle = pixels[6 + row * 102 + 10, 190 + column * 102 + 10]  # a thumbnail is narrower than its place
            assert np.abs(middle - COLOURS[person]).max() < 20
        assert (pixels[6 + row * 102 + 10, 190 + 3 * 102 + 10] == 255).all()


@pytest.mark.parametrize("name", ["Ada", "Zoë", "Жанна", "李雷", "🎉", "x" * 5000])
def test_a_name_is_written_in_a_font_that_has_it_or_not_at_all(name):
    found = report._drawable(name, report._fonts(15))
    if found:
        text, font = found
        assert text == name[:100]
        assert all(bytes(font.getmask(char)) != bytes(font.getmask("\U0010fffd")) for char in text)
    else:
        assert name != "Ada"


def test_whose_name_cannot_be_written_is_told_by_number(system, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FONTS", ())
    person = system.enroll("李", [photo(photos / "a.png", 0)])
    sheets = []
    for name in ("李", "李雷", "Ada"):
        system.name(person, name)
        contact_sheet(system, tmp_path / "sheet.png")
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_english_is_written_without_any_installed_font(monkeypatch):
    monkeypatch.setattr(report, "FONTS", ())
    fonts = report._fonts(15)
    assert report._drawable("Ada Lovelace-Byron 7", fonts) == ("Ada Lovelace-Byron 7", fonts[0])
    assert report._drawable("李", fonts) is None
    assert report._drawable("", fonts) is None


def test_a_photo_that_went_away_is_told(system, photos, tmp_path):
    path = photo(photos / "a.png", 0)
    system.index(photos)
    found = system.identify(path)
    shutil.rmtree(photos)
    write_report(system, tmp_path / "report.html")  # the faces are in the gallery
    with pytest.raises(PhotoError, match="file: cannot be read"):
        write_report(system, tmp_path / "other.html", answers=[PhotoAnswer(path, found)])
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize("write", [write_report, contact_sheet])
def test_what_shows_faces_is_for_the_owner_alone(system, photos, tmp_path, write, monkeypatch):
    photo(photos / "a.png", 0)
    system.index(photos)
    modes = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda draft, to: modes.append(draft.stat().st_mode) or replace(draft, to))
    for left in tmp_path / "out", tmp_path / "out.part":  # of an older run, of a killed one
        left.touch(mode=0o644)
    write(system, tmp_path / "out")
    assert [stat.S_IMODE(mode) for mode in (*modes, (tmp_path / "out").stat().st_mode)] == [0o600, 0o600]
    assert not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("write", [write_report, contact_sheet])
def test_what_cannot_be_written_leaves_nothing_behind(system, tmp_path, write):
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="out"):
        write(system, tmp_path / "out")
    assert not (tmp_path / "out.part").exists()


def test_a_thumbnail_that_is_no_jpeg_is_left_out(system, photos, tmp_path, monkeypatch):
    """An import may hold any: nothing but the JPEG decoder looks at them."""
    for number in range(3):
        photo(photos / f"{number}.png", 0)
    system.index(photos)
    system.cluster()
    as_png, as_jpeg = (io.BytesIO() for _ in range(2))
    for buffer, kind in (as_png, "PNG"), (as_jpeg, "JPEG"):
        Image.new("RGB", (80, 80), "red").save(buffer, kind)
    jpeg = as_jpeg.getvalue()
    pictures = iter([as_png.getvalue(), jpeg[: len(jpeg) // 2], jpeg])
    monkeypatch.setattr(system.gallery, "thumbnail", lambda _face: next(pictures))
    contact_sheet(system, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        middles = [sheet.getpixel((190 + column * 102 + 40, 6 + 40)) for column in range(3)]
    assert middles[:2] == [(255, 255, 255)] * 2
    assert middles[2][0] > 200 > 50 > middles[2][1]
