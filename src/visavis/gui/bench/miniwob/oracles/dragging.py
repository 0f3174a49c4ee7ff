"""Tasks that are won by dragging things: boxes, shapes, rows of a list, corners."""

import re

from visavis.gui.actions import Action, Drag
from visavis.gui.bench.miniwob.oracles.page import Element, Page, press

__all__ = ["ORACLES"]


def _submit(page: Page) -> Action:
    return press(page.one("button", content="Submit"))


def _by(thing: Element, dx: float, dy: float) -> Action:
    """Drag a thing so far, in pixels."""
    x, y = press(thing).point
    return Drag(((x, y), (round(x + dx), round(y + dy))))


def _drag_box(page: Page) -> Action:
    small, large = page.one(id="draggableSmall"), page.one(id="draggableLarge")
    left, top, width, height = large.box
    dx, dy = left + (width - small.box[2]) / 2 - small.box[0], top + (height - small.box[3]) / 2 - small.box[1]
    if max(abs(dx), abs(dy)) < (width - small.box[2]) / 2 - 2:
        return _submit(page)
    if small.point is None:  # the large box lies on it
        return _by(large, -dx, -dy)
    return _by(small, dx, dy)


def _drag_one_shape(page: Page) -> Action:
    (direction,) = page.said(r"Drag the \w+ (\w+)")
    x, y = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    (shape,) = page.one("svg").children
    moved = re.fullmatch(r"translate\((.+),(.+)\)", shape.attributes.get("transform", ""))
    if moved and x * float(moved[1]) + y * float(moved[2]) > 5:
        return _submit(page)
    return _by(shape, 20 * x, 20 * y)


def _shapes(page: Page) -> list[Element]:
    return [one for one in page.one(id="area_svg").children if one.id != "shape-container"]


_KINDS = {"circle": "circles", "rect": "rectangles", "polygon": "triangles"}


def _drag_shapes(page: Page) -> Action:
    (kind,) = page.said(r"Drag all (\w+)")
    (box,) = page.all(id="shape-container")
    for number, shape in enumerate(_shapes(page)):
        wanted = kind == _KINDS[shape.tag]
        if wanted and not _is_in(shape, box):
            return _drag_into(shape, box, number)
        if not wanted and _is_in(shape, box):
            left, top, _, height = box.box
            return Drag((press(shape).point, (round(left + 40), round(top - 20 if top > 80 else top + height + 20))))
    return _submit(page)


def _drag_shapes_2(page: Page) -> Action:
    (kind,) = page.said(r"Drag all (\w+)")
    left, right = page.all(id="shape-container")
    for number, shape in enumerate(_shapes(page)):
        box = left if kind in (shape.attributes["fill"], _KINDS[shape.tag]) else right
        if not _is_in(shape, box):
            return _drag_into(shape, box, number)
    return _submit(page)


def _is_in(shape: Element, box: Element) -> bool:
    """Whether a shape's upper left corner is in a box: this is what these tasks look at."""
    (x, y, _, _), (left, top, width, height) = shape.box, box.box
    return left + 1 < x < left + width - 1 and top + 1 < y < top + height - 1


def _drag_into(shape: Element, box: Element, number: int) -> Action:
    left, top, _, _ = box.box
    return Drag((press(shape).point, (round(left + 12 + 13 * (number % 4)), round(top + 14 + 16 * (number % 2)))))


def _to_place(rows: list[Element], start: int, end: int) -> Action:
    """Drag a row of a sortable list to the place where another is.

    A row gives way when the pointer crosses its middle, so the pointer comes to it from the side and goes past that.
    """
    left, top, width, height = rows[end].box
    beside = rows[end].box[1] == rows[start].box[1]
    shares = [(0.25, 0.5), (0.85, 0.5)] if beside else [(0.5, 0.25), (0.5, 0.85)]
    if end < start:
        shares = [(1 - right, 1 - down) for right, down in shares]
    path = [(round(left + width * right), round(top + height * down)) for right, down in shares]
    return Drag((press(rows[start]).point, *path))


def _drag_items(page: Page) -> Action:
    name, wish = page.said(r"Drag (\S+) (.+)\.")
    rows = page.one(id="sortable").all("li")
    start = [row.content for row in rows].index(name)
    moves = {
        "to the top": 0,
        "to the bottom": len(rows) - 1,
        "down by one position": start + 1,
        "up by one position": start - 1,
    }
    end = moves[wish] if wish in moves else int(re.findall(r"\d", wish)[0]) - 1
    return _to_place(rows, start, end)


_PLACES = """
    to the top left,to the top center,to the top right,to the center left,to the center,to the center right,
    to the bottom left,to the bottom center,to the bottom right
"""


def _drag_items_grid(page: Page) -> Action:
    name, wish = page.said(r"Drag (\S+) (.+)\.")
    cells = page.one(id="sortable").all("li")
    start = [cell.content for cell in cells].index(name)
    moves = {"up by one": start - 3, "down by one": start + 3, "left by one": start - 1, "right by one": start + 1}
    end = moves[wish] if wish in moves else [place.strip() for place in _PLACES.split(",")].index(wish)
    return _to_place(cells, start, end)


def _drag_sort_numbers(page: Page) -> Action:
    rows = page.one(id="sortable").all("li")
    numbers = [int(row.content) for row in rows]
    for place, number in enumerate(sorted(numbers)):
        if numbers[place] != number:
            return _to_place(rows, numbers.index(number, place), place)
    return _submit(page)


def _resize_textarea(page: Page) -> Action:
    """Make it smaller than any of these tasks begins with, or larger."""
    side, wish = page.said(r"the (width|height) is (smaller|larger)")
    across = side == "width"
    now = page.one(id="tt").box[2 if across else 3]
    wanted = 38 if wish == "smaller" else 110 if across else 84
    if abs(now - wanted) < 4:
        return _submit(page)
    edge = page.one(cls="ui-resizable-e" if across else "ui-resizable-s")
    return _by(edge, wanted - now if across else 0, 0 if across else wanted - now)


# Which side of the cube is in front when it is turned so far about its axes, in degrees: the first two at any turn
# about the upright one.
_FRONT = {"6": (88, None), "1": (264, None)}
_UPRIGHT = {"5": 86, "4": 177, "3": 269, "2": 0}
_UPSIDE_DOWN = {"3": 86, "2": 177, "5": 269, "4": 0}


def _drag_cube(page: Page) -> Action:
    (wanted,) = page.said(r'"(\d)"')
    if page.one(cls="active").content == wanted:
        return _submit(page)
    tilt, turn = (float(angle) for angle in re.findall(r"\((.+?)deg\)", page.one(cls="cube").attributes["style"]))
    upside_down = 90 < tilt % 360 < 270
    to_tilt, to_turn = _FRONT.get(wanted) or ((175, _UPSIDE_DOWN[wanted]) if upside_down else (0, _UPRIGHT[wanted]))
    up = _degrees(to_tilt - tilt)
    if abs(up) > 25:
        return _turn(0, -up)
    right = 100 if to_turn is None else _degrees(to_turn - turn)
    if abs(right) < 25:  # it is in front, but the task has not noticed
        right = 100
    return _turn(-right if upside_down else right, 0)


def _degrees(angle: float) -> float:
    """The same angle, at most half a turn."""
    return (angle + 180) % 360 - 180


def _turn(right: float, down: float) -> Action:
    """Turn the cube, by degrees: two of them a pixel."""
    return Drag(((round(80 - right / 4), round(112 - down / 4)), (round(80 + right / 4), round(112 + down / 4))))


ORACLES = {
    "drag-box": _drag_box,
    "drag-circle": _drag_one_shape,
    "drag-cube": _drag_cube,
    "drag-items": _drag_items,
    "drag-items-grid": _drag_items_grid,
    "drag-shapes": _drag_shapes,
    "drag-shapes-2": _drag_shapes_2,
    "drag-single-shape": _drag_one_shape,
    "drag-sort-numbers": _drag_sort_numbers,
    "resize-textarea": _resize_textarea,
}
