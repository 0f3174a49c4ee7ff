"""Scripted players whose play takes more than reading: checked against the rules of their games."""

from math import dist
from random import Random

import pytest

from visavis.gui.actions import Click, Move
from visavis.gui.bench.miniwob import OraclePlayer, run
from visavis.gui.bench.miniwob.oracles import ORACLES, Page

LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


def node(tag, box=(0, 0, 1, 1), *, parent=0, **more):
    """What frame.js tells of an element."""
    left, top, width, height = box
    return {
        "parent": parent,
        "tag": tag,
        "attributes": {},
        "text": "",
        "content": "",
        "words": [],
        "box": list(box),
        "shown": True,
        "point": [int(left + width / 2), int(top + height / 2)],
        "color": "",
        "background": "",
        "value": "",
        "checked": False,
        "focused": False,
        "clicked": False,
        "copied": False,
        "selection": None,
        "scroll": [0, 0, 0],
        **more,
    }


def test_the_hot_spot_is_found_wherever_it_is():
    """By the task's rules, with room to spare in the 50 steps of an episode."""
    play = ORACLES["hot-cold"]
    random = Random(0)
    spots = [(x, y) for x in (5, 154) for y in (55, 169)]  # the corners, and any others
    spots += [(random.randrange(5, 155), random.randrange(55, 170)) for _ in range(300)]
    for spot in spots:
        told, pointer = "", None
        for _ in range(40):
            page = Page.of(
                [node("body", parent=-1), node("div", attributes={"id": "display"}, content=told)],
                "hot-cold",
                "",
                pointer=pointer,
            )
            action = play(page)
            if isinstance(action, Click):
                break
            assert isinstance(action, Move)
            pointer = action.point
            away = dist(pointer, spot)
            told = "HOT" if away < 5 else "WARM" if away < 10 else "COLD" if away < 40 else "ICE COLD"
        assert isinstance(action, Click), spot
        assert dist(action.point, spot) < 5


@pytest.mark.usefixtures("chromium")
def test_time_passes_while_a_cube_is_dragged():
    """It turns by a timer that looks at where the pointer is as long as the button is down."""
    assert run(OraclePlayer(), ["drag-cube"], episodes=6, frames=6).tasks[0].wins == 6


def won(board, mark):
    return any(all(board[int(place)] == mark for place in line) for line in LINES)


def their_move(board, random):
    """As the task's: 55 of 100 times anywhere; else what wins, else what keeps us from winning, else anywhere."""
    free = [place for place in range(9) if not board[place]]
    if random.randrange(100) >= 55:
        for mark in "o", "x":
            for place in free:
                if won({**board, place: mark}, mark):
                    return place
    return random.choice(free)


@pytest.mark.parametrize(("begins", "chance"), [("x", 0.966), ("o", 0.727)])
def test_tic_tac_toe_is_won_as_often_as_it_can_be(begins, chance):
    """A careful opponent cannot be beaten, and this one is careful in 45 of 100 moves. The chances are of all games."""
    random = Random(0)
    wins = 0
    for _ in range(400):
        board = dict.fromkeys(range(9), "")
        turn = begins
        while not (won(board, "x") or won(board, "o") or all(board.values())):
            if turn == "x":
                fields = [
                    node(
                        "span", (10 * place, 0, 10, 10), parent=1, attributes={"class": f"mark-{mark}" if mark else ""}
                    )
                    for place, mark in board.items()
                ]
                nodes = [node("body", parent=-1), node("div", attributes={"id": "area"}), *fields]
                place = ORACLES["tic-tac-toe"](Page.of(nodes, "tic-tac-toe", "")).point[0] // 10
            else:
                place = their_move(board, random)
            assert board[place] == ""
            board[place] = turn
            turn = "o" if turn == "x" else "x"
        wins += won(board, "x")
    assert abs(wins / 400 - chance) < 3 * (chance * (1 - chance) / 400) ** 0.5
