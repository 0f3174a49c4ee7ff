"""Tasks about what is drawn: its shape, color and size."""

import base64
import io
import re
from typing import Any

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles.page import Element, Page, press

__all__ = ["ORACLES"]


def _click_shades(page: Page) -> Action:
    (color,) = page.said(r"shades of (\w+)")
    for tile in page.one(id="area").all("span"):
        channels = [int(channel) for channel in re.findall(r"\d+", tile.background)]
        wanted = max(channels) == channels[("red", "green", "blue").index(color)]
        if wanted != ("selected" in tile.classes):
            return press(tile)
    return press(page.one(id="submit"))


def _described(page: Page, description: str) -> list[Element]:
    """The items that fit a description, such as "small red digit"."""
    *looks, kind = description.split()
    return [
        item
        for item in page.one(id="area_svg").children
        if kind in _kinds(item)
        and all(look in (item.attributes["fill"], "large" if item.box[3] > 15 else "small") for look in looks)
    ]


def _kinds(item: Element) -> tuple[str, ...]:
    if item.tag == "text":
        return "item", item.content, "digit" if item.content.isdigit() else "letter"
    return "item", {"rect": "rectangle", "polygon": "triangle"}.get(item.tag, item.tag), "shape"


def _click_shape(page: Page) -> Action:
    return press(_described(page, page.said(r"Click on a (.+)")[0])[0])


def _count_shape(page: Page) -> Action:
    count = len(_described(page, page.said(r"How many (.+)s are there")[0]))
    return press(page.one(id="count-buttons").one("button", content=str(count)))


def _count_sides(page: Page) -> Action:
    """The number by whose part of a full turn the drawing can best be turned onto itself."""
    import numpy as np

    ys, xs = np.nonzero(_drawn(page.one("canvas")))
    angles = np.arctan2(ys - ys.mean(), xs - xs.mean())
    sides = max(range(3, 8), key=lambda number: abs(np.exp(1j * number * angles).sum()))
    return press(page.one("button", data_sides=str(sides)))


def _drawn(canvas: Element) -> Any:
    """Where something is drawn on a canvas, bool [H, W]."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(canvas.value.partition(",")[2]))) as image:
        return np.array(image.convert("RGBA"))[..., 3] > 127


ORACLES = {
    "click-shades": _click_shades,
    "click-shape": _click_shape,
    "count-shape": _count_shape,
    "count-sides": _count_sides,
}
