"""Games against chance: tic-tac-toe, and a spot that tells how near the pointer is."""

from functools import cache
from itertools import pairwise, product
from math import cos, dist, hypot, pi, sin

from visavis.gui.actions import Action, Click, Move, Point
from visavis.gui.bench.miniwob.oracles.page import Page, press

__all__ = ["ORACLES"]

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_CARELESS = 0.55  # how often the opponent sets anywhere; else it completes a line of its own, or stops one of ours


def _tic_tac_toe(page: Page) -> Action:
    fields = page.one(id="area").all("span")
    board = "".join("x" if "mark-x" in one.classes else "o" if "mark-o" in one.classes else " " for one in fields)
    return press(fields[max(_free(board), key=lambda place: _after_us(_set(board, place, "x")))])


def _free(board: str) -> list[int]:
    return [place for place in range(9) if board[place] == " "]


def _set(board: str, place: int, mark: str) -> str:
    return board[:place] + mark + board[place + 1 :]


def _won(board: str, mark: str) -> bool:
    return any(all(board[place] == mark for place in line) for line in _LINES)


@cache
def _after_us(board: str) -> float:
    """The chance to win once the opponent has answered."""
    if _won(board, "x"):
        return 1.0
    free = _free(board)
    if not free:
        return 0.0
    after = {place: _after_them(_set(board, place, "o")) for place in free}
    careless = sum(after.values()) / len(free)
    for mark in "ox":
        careful = [after[place] for place in free if _won(_set(board, place, mark), mark)]
        if careful:
            return _CARELESS * careless + (1 - _CARELESS) * sum(careful) / len(careful)
    return careless


def _after_them(board: str) -> float:
    if _won(board, "o"):
        return 0.0
    return max((_after_us(_set(board, place, "x")) for place in _free(board)), default=0.0)


# The spot is HOT within 5 pixels, WARM within 10, COLD within 40, and ICE COLD beyond. So it is looked for around six
# places, one of which is not ICE COLD, around that for one that is WARM, and around that for one that is HOT. All these
# places differ: where the pointer is tells how far the search has come.
_SPOTS = frozenset((x, y) for x in range(5, 155) for y in range(55, 170))  # where it may be


def _hot_cold(page: Page) -> Action:
    told = page.one(id="display").content
    here = page.pointer
    if here is not None and told == "HOT":
        return Click(here)
    steps = _search()
    first = next(iter(steps))
    return Move(steps[here].get(told, first) if here in steps else first)


@cache
def _search() -> dict[Point, dict[str, Point]]:
    """For each place where to look next, by what is told there."""
    steps: dict[Point, dict[str, Point]] = {}

    def place(x: float, y: float) -> Point:
        """The nearest that is in sight and still free."""
        x, y = min(max(round(x), 4), 155), min(max(round(y), 54), 170)
        found = next((x + dx, y + dy) for dx, dy in _SHIFTS if (x + dx, y + dy) not in steps)
        steps[found] = {}
        return found

    def chain(places: list[Point], *told: str) -> None:
        for here, there in pairwise(places):
            steps[here] |= dict.fromkeys(told, there)

    sixths = [place(x, y) for y in (83, 141) for x in (30, 80, 130)]
    chain(sixths, "ICE COLD")
    left = set(_SPOTS)
    around = []
    for center in sixths:
        here = {spot for spot in left if dist(spot, center) < 40}
        left -= here
        here = {spot for spot in here if dist(spot, center) >= 10}
        places = [center]
        for dx, dy in _LATTICE:
            spot = center[0] + dx, center[1] + dy
            if any(dist(spot, one) < 9 for one in here):
                places.append(place(*spot))
                here = {one for one in here if dist(places[-1], one) >= 10}
        if len(places) > 1:
            steps[center]["COLD"] = places[1]
        chain(places[1:], "ICE COLD", "COLD")
        around += places
    for warm in around:
        ring = [place(warm[0] + 7.5 * cos(k * pi / 4), warm[1] + 7.5 * sin(k * pi / 4)) for k in range(8)]
        chain([warm, *ring], "WARM")
        chain(ring, "ICE COLD", "COLD")
    return steps


_SHIFTS = sorted(product(range(-4, 5), repeat=2), key=lambda shift: hypot(*shift))
_STEP = 15.5  # so that no spot is further than 9 from a point of the lattice
_LATTICE = sorted(
    (
        (_STEP * (column + row % 2 / 2), _STEP * row * sin(pi / 3))
        for row, column in product(range(-3, 4), range(-3, 4))
    ),
    key=lambda offset: hypot(*offset),
)[1:]


ORACLES = {
    "hot-cold": _hot_cold,
    "tic-tac-toe": _tic_tac_toe,
}
