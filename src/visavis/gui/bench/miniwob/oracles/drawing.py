"""Tasks that are won by points and lines in the plane; lengths in pixels, y downwards."""

from math import cos, dist, hypot, pi, sin

from visavis.gui.actions import Action, Click, Drag, Point
from visavis.gui.bench.miniwob.oracles.page import Element, Page, press, submit

__all__ = ["ORACLES"]

_INSIDE = [(x, y) for x in range(4, 150) for y in range(4, 126)]  # where a point can be set


def _middle(circle: Element) -> tuple[float, float]:
    return float(circle.attributes["cx"]), float(circle.attributes["cy"])


def _put(page: Page, best: tuple[float, float]) -> Action:
    """Set the blue point there, and hand in."""
    spot = round(best[0]), round(best[1])
    for blue in page.all("circle", id="blue-circle"):
        if _middle(blue) == spot:
            return submit(page)
    return Click((spot[0], spot[1] + 50))  # the drawing takes the page's coordinates for its own, 50 down


def _circle_center(page: Page) -> Action:
    return _put(page, _middle(page.one("circle", cls="black-circle")))


def _find_midpoint(page: Page) -> Action:
    (ax, ay), (bx, by) = (_middle(circle) for circle in page.all("circle", cls="black-circle"))
    return _put(page, ((ax + bx) / 2, (ay + by) / 2))


def _right_angle(page: Page) -> Action:
    ax, ay = _middle(page.one(id="init-black"))
    vx, vy = _middle(page.one(id="init-blue"))

    def slant(point: Point) -> float:
        dx, dy = point[0] + 0.5 - vx, point[1] + 0.5 - vy  # the task compares corners of circles of unequal size
        return abs(dx * (ax - vx) + dy * (ay - vy)) / hypot(dx, dy)

    return _put(page, min((point for point in _INSIDE if dist(point, (vx, vy)) > 12), key=slant))


def _bisect_angle(page: Page) -> Action:
    vx, vy = _middle(page.one(cls="init-blue"))
    (ax, ay), (bx, by) = (_middle(circle) for circle in page.all(cls="init-black"))
    a, b = hypot(ax - vx, ay - vy), hypot(bx - vx, by - vy)

    def slant(point: Point) -> float:
        dx, dy = point[0] - vx, point[1] - vy
        length = hypot(dx, dy)
        return abs((dx * (ax - vx) + dy * (ay - vy)) / a - (dx * (bx - vx) + dy * (by - vy)) / b) / length

    def between(point: Point) -> bool:
        dx, dy = point[0] - vx, point[1] - vy
        return hypot(dx, dy) > 12 and dx * ((ax - vx) / a + (bx - vx) / b) + dy * ((ay - vy) / a + (by - vy) / b) > 0

    return _put(page, min(filter(between, _INSIDE), key=slant))


def _draw_circle(page: Page) -> Action:
    x, y = _dot(page)
    radius = 22
    angles = [pi + k * pi / 24 for k in range(49)]  # from the left, as a line does not begin beyond the right edge
    return _draw(page, [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles])


def _draw_line(page: Page) -> Action:
    x, y = _dot(page)
    if "horizontal" in page.instruction:
        return _draw(page, [(10, y), (x - 4, y), (145, y)])
    return _draw(page, [(x, 60), (x, y - 4), (x, 150)])


def _dot(page: Page) -> tuple[float, float]:
    left, top, width, height = page.one(id="circ").box
    return left + width / 2, top + height / 2


def _draw(page: Page, path: list[tuple[float, float]]) -> Action:
    """Draw a line along a path, and hand in; a line that is there counts if it takes up the same room."""
    xs, ys = zip(*path, strict=True)
    wanted = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    for drawn in page.all("path"):
        if all(abs(is_ - to_be) < 4 for is_, to_be in zip(drawn.box, wanted, strict=True)):
            return press(page.one("button"))
    return Drag(tuple((round(x), round(y)) for x, y in path))


ORACLES = {
    "bisect-angle": _bisect_angle,
    "circle-center": _circle_center,
    "draw-circle": _draw_circle,
    "draw-line": _draw_line,
    "find-midpoint": _find_midpoint,
    "right-angle": _right_angle,
}
