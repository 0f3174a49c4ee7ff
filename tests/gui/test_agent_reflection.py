"""What counts as a change of the screen, and what as going in a circle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.gui.actions import Click, Drag, Hotkey, LongPress, Move, Press, Scroll, Type, Wait
from visavis.gui.agent.reflection import Change, Reflection, alike, difference, effect

BLANK = np.full((300, 400, 3), 250, np.uint8)
CLICK = Click((50, 50))


def drawn(*boxes, on=BLANK, colour=0):
    pixels = on.copy()
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = colour
    return pixels


BOXES = st.tuples(st.integers(0, 390), st.integers(0, 290), st.integers(1, 10), st.integers(1, 10)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@given(st.lists(BOXES, max_size=4))
def test_a_difference_is_the_box_around_all_pixels_that_differ(boxes):
    """Against a search pixel by pixel."""
    after = drawn(*boxes)
    where = [(x, y) for y, x in zip(*np.nonzero((after != BLANK).any(axis=2)), strict=True)]
    found = difference(BLANK, after)
    assert difference(after, BLANK) == found
    if not where:
        assert found is None
        return
    xs, ys = zip(*where, strict=True)
    box = (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
    assert found == Change(box, len(where))
    assert found.is_cursor == (box[2] - box[0] <= 3 and 8 <= box[3] - box[1] <= 80)


def test_one_level_of_one_channel_is_a_difference():
    after = BLANK.copy()
    after[299, 399, 2] -= 1
    assert difference(BLANK, after) == Change((399, 299, 400, 300), 1)


def test_another_size_is_another_screen():
    assert difference(BLANK, BLANK[:200]) == Change((0, 0, 400, 200), 80_000)


@pytest.mark.parametrize("cursor", [(20, 20, 21, 36), (20, 20, 23, 28), (0, 0, 2, 80)])
def test_a_text_cursor_is_no_change_but_where_it_was_put(cursor):
    change = Reflection().change
    assert change(BLANK, drawn(cursor)) is None
    assert change(BLANK, drawn(cursor), (Type("x"), Click((300, 200)))) is None
    assert change(BLANK, drawn(cursor), (Click((30, 30)),)) is not None
    assert change(BLANK, drawn(cursor, (30, 20, 36, 30))) is not None  # with a letter beside it


@pytest.mark.parametrize("mark", [(20, 20, 24, 36), (20, 20, 22, 27), (20, 20, 22, 101)])
def test_other_marks_are_changes(mark):
    assert Reflection().change(BLANK, drawn(mark)) is not None


def test_what_changes_by_itself_is_learnt_while_nothing_is_done():
    clock = (350, 5, 390, 17)
    later, much_later = drawn(clock), drawn((348, 5, 392, 17), colour=90)
    reflection = Reflection()
    assert reflection.change(BLANK, later) is not None
    reflection.idle(BLANK, later)
    assert reflection.change(BLANK, much_later) is None
    assert reflection.change(BLANK, drawn(clock, (100, 100, 110, 104))) == Change((100, 100, 110, 104), 40)
    reflection.idle(BLANK, drawn((10, 280, 30, 290)))
    assert reflection.change(BLANK, drawn(clock, (10, 280, 30, 290))) is None  # both are known


def test_a_page_that_loads_is_not_taken_for_a_clock():
    reflection = Reflection()
    reflection.idle(BLANK, drawn((0, 0, 200, 200)))
    assert reflection.change(BLANK, drawn((50, 50, 60, 60))) is not None
    reflection.idle(BLANK, BLANK[:200])
    assert reflection.change(BLANK, drawn((50, 50, 60, 60))) is not None


def test_a_window_of_another_size_has_its_own_clock():
    reflection = Reflection()
    reflection.idle(BLANK, drawn((350, 5, 390, 17)))
    small = BLANK[:200]
    assert reflection.change(small, drawn((350, 5, 390, 17), on=small)) is not None


@pytest.mark.parametrize(
    ("action", "change", "said"),
    [
        (CLICK, None, "The screen did not change"),
        (Type("x"), None, "The screen did not change"),
        (Hotkey(("enter",)), None, "The screen did not change"),
        (Scroll((50, 50), down=3), None, "The screen did not change"),
        (Move((50, 50)), None, ""),
        (Press("shift"), None, ""),
        (Wait(), None, ""),
        (CLICK, (60, 60, 64, 64), ""),
        (CLICK, (140, 50, 147, 57), ""),  # 90 px away
        (CLICK, (300, 250, 307, 257), "Nothing changed around (50, 50)"),
        (CLICK, (300, 250, 308, 258), ""),  # 64 of 120,000 pixels are more than one in 2,000
        (Type("x"), (300, 250, 307, 257), ""),
        (Drag(((50, 50), (300, 240))), (300, 250, 307, 257), ""),
        (Drag(((50, 50), (90, 90))), (300, 250, 307, 257), "Nothing changed around (90, 90)"),
    ],
)
def test_effects(action, change, said):
    after = drawn(change) if change else BLANK
    remark = effect(difference(BLANK, after), (action,), (400, 300))
    assert remark.startswith(said)
    assert bool(remark) == bool(said)


def test_the_remark_names_where_something_changed():
    assert "(303, 253)" in effect(Change((300, 250, 307, 257), 49), (CLICK,), (400, 300))


def test_of_several_actions_one_that_shows_is_enough():
    assert effect(Change((300, 250, 307, 257), 49), (CLICK, Click((310, 240))), (400, 300)) == ""
    assert effect(None, (Move((1, 1)), CLICK), (400, 300)) != ""


def circles(*steps):
    """After which of the steps, each a screen and an action, something is said."""
    reflection = Reflection()
    return [bool(reflection.circle(screen, (action,))) for screen, action in steps]


SCREENS = [drawn((10 * n, 100, 10 * n + 8, 108)) for n in range(5)]
ACTIONS = [Click((10 * n, 10)) for n in range(5)]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_circles(length):
    once = [(SCREENS[n], ACTIONS[n]) for n in range(length)]
    rounds = 3 if length == 1 else 2
    assert circles(*once * 4) == [index >= rounds * length - 1 for index in range(4 * length)]


def test_five_are_no_circle_yet():
    assert not any(circles(*[(SCREENS[n], ACTIONS[n]) for n in range(5)] * 3))


def test_another_screen_or_another_action_breaks_the_circle():
    same = (SCREENS[0], ACTIONS[0])
    assert circles(same, same, (SCREENS[1], ACTIONS[0]), same, same) == [False] * 5
    assert circles(same, same, (SCREENS[0], ACTIONS[1]), same, same) == [False] * 5
    assert circles(same, same, (drawn((20, 100, 22, 115), on=SCREENS[0]), ACTIONS[0]))[-1]  # a cursor does not


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Click((10, 10)), Click((15, 5)), True),
        (Click((10, 10)), Click((16, 10)), False),
        (Click((10, 10)), Click((10, 10), "right"), False),
        (Click((10, 10)), Click((10, 10), count=2), False),
        (Click((10, 10)), LongPress((10, 10)), False),
        (LongPress((10, 10)), LongPress((11, 10)), True),
        (Scroll((10, 10), down=3), Scroll((12, 10), down=3), True),
        (Scroll((10, 10), down=3), Scroll((10, 10), down=-3), False),
        (Drag(((1, 1), (9, 9))), Drag(((2, 2), (8, 8))), True),
        (Drag(((1, 1), (9, 9))), Drag(((1, 1), (9, 9), (9, 9))), False),
        (Type("a"), Type("a"), True),
        (Type("a"), Type("b"), False),
        (Hotkey(("a",)), Hotkey(("b",)), False),
    ],
)
def test_alike(one, other, expected):
    assert alike(one, other) is alike(other, one) is expected
