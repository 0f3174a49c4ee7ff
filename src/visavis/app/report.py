"""Pictures of a gallery: a contact sheet, photos with their faces marked, and a self-contained HTML page."""

import base64
import contextlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visavis import __version__
from visavis.app.files import draft_of
from visavis.app.output import percent, printable, rate

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import ImageFont

    from visavis.face.gallery import FaceRow
    from visavis.face.system import FaceSystem, Identified

__all__ = ["PhotoAnswer", "contact_sheet", "data_uri", "templates", "write_report"]

FACES_A_ROW = 10
THUMBNAIL_PX = 96
PHOTO_PX = 560  # the long side of a marked photo in the page
# Of systems we know, by the file names that Pillow finds: Linux twice, macOS, Windows twice.
FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "segoeui.ttf", "msyh.ttc")
PEOPLE = 200  # shown at most; a page of thousands helps nobody
FACES = 60  # of a person, likewise


@dataclass(frozen=True, slots=True)
class PhotoAnswer:
    """A photo, and who `identify` found in it."""

    path: Path
    found: list["Identified"]


@dataclass(frozen=True, slots=True)
class _Card:
    title: str
    named: bool
    count: int
    faces: list[dict[str, str]]  # picture (a data URI), caption


def contact_sheet(system: "FaceSystem", path: Path) -> None:
    """Write a PNG with a row a person: name, number of faces, the best of them.

    A name that no font here can write is told by the person's number; a thumbnail that is no JPEG is left out.
    """
    from PIL import Image, ImageDraw

    people = [row for row in system.gallery.people() if row.faces][:PEOPLE]
    label, gap = 190, 6
    step = THUMBNAIL_PX + gap
    sheet = Image.new("RGB", (label + FACES_A_ROW * step + gap, max(1, len(people)) * step + gap), "white")
    draw = ImageDraw.Draw(sheet)
    fonts = _fonts(15)
    if not people:
        draw.text((gap, gap), "No faces yet", "black", fonts[0])
    for row, person in enumerate(people):
        top = gap + row * step
        name, font = _drawable(person.name or "", fonts) or (f"person {person.id}", fonts[0])
        draw.text((gap, top + 28), _shortened(name, label - 2 * gap, font), "black", font)
        draw.text((gap, top + 50), f"{person.faces} {'face' if person.faces == 1 else 'faces'}", "gray", fonts[0])
        for column, face in enumerate(_best(system, person.id)[:FACES_A_ROW]):
            # Another program may have made it, see import_from; its decoder may raise anything.
            with contextlib.suppress(Exception):
                picture = Image.open(io.BytesIO(system.gallery.thumbnail(face.id)), formats=["JPEG"])
                picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
                sheet.paste(picture, (label + column * step, top))
    with draft_of(path) as draft:
        sheet.save(draft, "PNG")


def write_report(
    system: "FaceSystem", path: Path, *, answers: Sequence[PhotoAnswer] = (), skipped: Sequence[tuple[Path, str]] = ()
) -> None:
    """Write the page: people with their faces, photos with who was found in them, files that were skipped.

    It needs no network and no other file. Names and paths are data and escaped.
    """
    environment = templates()
    everyone = [row for row in system.gallery.people() if row.faces]
    cards = []
    for person in everyone[:PEOPLE]:
        faces = _best(system, person.id)
        title = f"person {person.id}" if person.name is None else printable(person.name)
        cards.append(_Card(title, person.name is not None, person.faces, _pictures(system, faces[:FACES])))
    alone = _seen_once(system)
    counts = system.gallery.counts()
    specs = (system.pack.detector, system.pack.embedder)
    page = environment.get_template("report.html").render(
        cards=cards,
        more_people=len(everyone) - len(cards),
        answers=[_answer(answer) for answer in answers],
        skipped=[(printable(file), printable(reason)) for file, reason in skipped],
        counts=counts,
        people=len(everyone),
        alone=len(alone),
        alone_faces=_pictures(system, alone[:FACES]),
        models=[{"name": spec.name, "role": spec.role, "licence": spec.licence.name} for spec in specs],
        calibration=system.calibration.measured_on,
        version=__version__,
    )
    with draft_of(path) as draft:
        draft.write_text(page, encoding="utf-8")


def templates(**filters: Callable[..., object]) -> "Environment":
    """What the pages' templates are taken from: all texts are escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("visavis.app"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(filters)
    return environment


def _answer(answer: PhotoAnswer) -> dict[str, object]:
    """A photo with a numbered frame round each face, and a line for each."""
    from PIL import Image, ImageDraw, ImageFont

    from visavis.face.photos import read

    photo = read(answer.path, long_side_px=2 * PHOTO_PX)
    picture = Image.fromarray(photo.pixels)
    picture.thumbnail((PHOTO_PX, PHOTO_PX))
    scale = picture.width / photo.photo.width_px
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=18)
    lines = []
    for number, one in enumerate(answer.found, 1):
        left, top, right, bottom = (float(value) * scale for value in one.face.detection.box_xyxy_px)
        colour = "#d9480f" if one.person is None else "#2b8a3e"
        draw.rectangle((left, top, right, bottom), outline=colour, width=3)
        draw.rectangle((left, top, left + 22, top + 22), fill=colour)
        draw.text((left + 11, top + 11), str(number), "white", font, anchor="mm")
        lines.append(
            {
                "known": one.person is not None,
                "who": "unknown" if one.person is None else printable(one.person),
                "percent": None if one.probability is None else percent(one.probability),
                "strangers": None if one.false_match_rate is None else rate(one.false_match_rate),
            }
        )
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return {"name": printable(answer.path.name), "picture": data_uri(buffer.getvalue()), "lines": lines}


def _best(system: "FaceSystem", person: int) -> list["FaceRow"]:
    return sorted(system.gallery.faces(person=person), key=lambda face: -face.quality)


def _seen_once(system: "FaceSystem") -> list["FaceRow"]:
    """The faces that are nobody's, best first."""
    faces = system.gallery.embeddings()
    rows = system.gallery.faces(ids=faces.face_ids[faces.person_ids == 0])
    return sorted(rows, key=lambda face: -face.quality)


def _pictures(system: "FaceSystem", faces: Sequence["FaceRow"]) -> list[dict[str, str]]:
    return [{"picture": data_uri(system.gallery.thumbnail(face.id)), "caption": _caption(face)} for face in faces]


def _caption(face: "FaceRow") -> str:
    where = "photo gone" if face.path is None else printable(os.fspath(face.path))
    return f"face {face.id}, quality {face.quality:.2f}, {where}"


def data_uri(picture: bytes, kind: str = "jpeg") -> str:
    """A picture's file as a URL that holds it."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")


def _fonts(size_px: int) -> list["ImageFont.FreeTypeFont | ImageFont.ImageFont"]:
    """Pillow's own, which writes little more than English, then those of FONTS that are installed."""
    from PIL import ImageFont

    fonts = [ImageFont.load_default(size_px)]
    for name in FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size_px))
    return fonts


def _drawable(
    text: str, fonts: Sequence["ImageFont.FreeTypeFont | ImageFont.ImageFont"]
) -> tuple[str, "ImageFont.FreeTypeFont | ImageFont.ImageFont"] | None:
    """Non-empty text as it can be drawn, with the first font that has all its characters."""

    def drawn(char: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> bytes:
        return bytes(font.getmask(char))

    text = text[:100]
    for font in fonts if text else ():
        missing = drawn("\U0010fffd", font)
        if all(drawn(char, font) != missing for char in set(text)):
            return text, font
    return None


def _shortened(text: str, width_px: int, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    while len(text) > 1 and font.getlength(text) > width_px:
        text = text[:-2] + "…"
    return text
