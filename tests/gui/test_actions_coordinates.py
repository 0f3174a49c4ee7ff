import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gui.any_action import SIZES
from visavis.errors import InputError
from visavis.gui.actions import ABSOLUTE, RELATIVE, UI_TARS_1_0, UI_TARS_1_5, Coordinates
from visavis.gui.actions.coordinates import smart_resize, to_screen, to_screenshot

LIMITS = {"min_pixels": 100 * 28**2, "max_pixels": 16384 * 28**2}
SIDES = st.integers(1, 20_000)


def test_sizes_against_the_processor_that_the_models_were_trained_with():
    """The Python package of UI-TARS has the same function, height first."""
    theirs = pytest.importorskip("ui_tars.action_parser").smart_resize
    for width in [*range(1, 300), 375, 640, 812, 1280, 1366, 1920, 2560, 3440, 3840, 5120, 7680]:
        for height in (1, 13, 14, 15, 41, 42, 43, 70, 98, 160, 480, 768, 800, 1080, 1440, 2160, 4320):
            if max(width, height) <= 200 * min(width, height):
                assert smart_resize((width, height), **LIMITS) == theirs(height, width)[::-1]


@given(SIDES, SIDES, st.sampled_from([1350, 2700, 5120, 16384]))
@example(57, 11_215, 16384)  # becomes 56 x 11228, and one side is then more than 200 times the other
def test_sizes_are_multiples_within_the_limits_and_stay_so(width, height, most):
    """The processors measure the aspect of what they are given, so that rounding may take a result beyond it."""
    size, limits = (width, height), {"min_pixels": 100 * 28**2, "max_pixels": most * 28**2}
    if max(size) > 200 * min(size):
        with pytest.raises(InputError, match="size: expected sides of at least 1 px, one at most 200 times the other"):
            smart_resize(size, **limits)
        return
    found = smart_resize(size, **limits)
    assert all(side % 28 == 0 and side > 0 for side in found)
    assert limits["min_pixels"] <= math.prod(found) <= limits["max_pixels"]
    if max(found) <= 200 * min(found):
        assert smart_resize(found, **limits) == found


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((210, 160), (336, 252)),  # below the least
        ((1920, 1080), (1932, 1092)),
        ((2800, 70), (2800, 56)),  # 2.5 patches: to even, which is down; JavaScript's Math.round would go up
        ((2800, 98), (2800, 112)),  # 3.5 patches: to even, which is up
        ((8000, 4500), (4760, 2688)),  # above the most
    ],
)
def test_sizes_by_hand(size, resized):
    assert smart_resize(size, **LIMITS) == resized


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (1, 201)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match=f"size: .* got {size[0]} x {size[1]}"):
        smart_resize(size, **LIMITS)


@given(SIZES, st.data(), st.sampled_from([RELATIVE, ABSOLUTE, Coordinates(7), UI_TARS_1_0.coordinates]))
def test_a_pixel_covers_what_the_formula_says(size, data, coordinates):
    """Independently: every place from the pixel's left edge on and short of its right one is that pixel."""
    pixel = data.draw(st.tuples(*(st.integers(0, side - 1) for side in size)))
    inside = data.draw(st.fractions(0, 1).filter(lambda part: part < 1))
    extent = coordinates.extent(size)
    place = [(Fraction(p) + inside) * edge / side for p, side, edge in zip(pixel, size, extent, strict=True)]
    assert coordinates.to_pixel(tuple(place), size) == pixel


@given(SIZES, st.data(), st.sampled_from([RELATIVE, ABSOLUTE, Coordinates(7)]))
def test_the_text_of_a_pixel_is_the_shortest_that_reads_back(size, data, coordinates):
    pixel = data.draw(st.tuples(*(st.integers(0, side - 1) for side in size)))
    texts = coordinates.to_text(pixel, size)
    assert coordinates.to_pixel(tuple(Fraction(text) for text in texts), size) == pixel
    for text, p, side, edge in zip(texts, pixel, size, coordinates.extent(size), strict=True):
        digits = len(text.partition(".")[2])
        if digits:  # none with one digit less lies in the pixel
            coarse = 10 ** (digits - 1)
            assert math.ceil(Fraction(p * edge * coarse, side)) >= Fraction((p + 1) * edge * coarse, side)


@given(st.integers(0, 1932), st.integers(0, 1092))
def test_pixels_of_ui_tars_1_5_against_its_formula(x, y):
    """x / resized * width, cut off, but for floating point's error where that is a whole number, and for the edge."""
    found = UI_TARS_1_5.coordinates.to_pixel((Fraction(x), Fraction(y)), (1920, 1080))
    formula = (x / 1932 * 1920, y / 1092 * 1080)
    for ours, theirs, side in zip(found, formula, (1920, 1080), strict=True):
        assert ours == min(math.floor(theirs + 1e-9), side - 1)


def test_whole_numbers_are_not_lost_to_floating_point():
    """9 of 1000 on 3000 pixels is where pixel 27 begins; 9 / 1000 * 3000 in floating point falls short of it."""
    assert int(9 / 1000 * 3000) == 26
    assert RELATIVE.to_pixel((Fraction(9), Fraction(0)), (3000, 10)) == (27, 0)


@pytest.mark.parametrize(
    ("x", "y", "name"), [(-1, 0, "x"), (1001, 0, "x"), (0, -1, "y"), (0, Fraction(10001, 10), "y")]
)
def test_a_place_outside_is_refused(x, y, name):
    with pytest.raises(InputError, match=f"{name}: expected 0 to 1000, got"):
        RELATIVE.to_pixel((Fraction(x), Fraction(y)), (100, 100))


@given(
    st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
    st.sampled_from([1.0, 1.25, 1.5, 1.75, 2.0, 2.625, 3.0]),
    st.tuples(st.integers(-8000, 8000), st.integers(-8000, 8000)),
)
def test_pixels_of_any_monitor_survive_its_coordinates(point, scale, origin):
    place = to_screen(point, scale=scale, origin=origin)
    assert to_screenshot(place, scale=scale, origin=origin) == point


def test_monitors_of_a_desk():
    """A HiDPI laptop, and a second monitor left of it: the same pixel is at two places."""
    assert to_screen((300, 100), scale=2.0) == (150.0, 50.0)
    assert to_screen((300, 100), origin=(-1920.0, -200.0)) == (-1620.0, -100.0)
