import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import LandmarkError, TensorError
from visavis.face.align import TEMPLATES, align, fit_similarity

TEMPLATE = TEMPLATES["arcface-112"]
SIZE = {"arcface-112": (112, 112), "retail-0095-128": (128, 128), "dlib-150": (150, 150)}
SQUARE = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def similarity(scale, degrees, shift):
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def head(template, size, *, scale, degrees, at):
    """The template turned, scaled and brought with its crop's middle to `at`: landmarks in a photo."""
    middle = (np.array(size) - 1) / 2
    return moved(template - middle, similarity(scale, degrees, at))


def grid(width, height):
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2).astype(float)  # [height, width, 2] x, y


def dots(landmarks, radius_px, width, height):
    """uint8 [height, width, 3]: a soft dot a landmark, each with a weight of its own, by the formula: no warp."""
    squared = np.square(grid(width, height)[:, :, None] - landmarks).sum(3)
    value = np.exp(-squared / (2 * radius_px**2)) @ np.array([200, 160, 240, 120, 80])
    return np.round(value[..., None] * [1.0, 0.5, 0.25]).astype(np.uint8)


@given(
    st.floats(0.01, 100),
    st.floats(-180, 180),
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    st.sampled_from(sorted(TEMPLATES)),
)
def test_a_similarity_is_recovered_exactly(scale, degrees, shift, template):
    matrix = similarity(scale, degrees, shift)
    found = fit_similarity(TEMPLATES[template], moved(TEMPLATES[template], matrix))
    np.testing.assert_allclose(found[:, :2], matrix[:, :2], rtol=0, atol=1e-10 * (scale + 1))
    np.testing.assert_allclose(moved(TEMPLATES[template], found), moved(TEMPLATES[template], matrix), atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_no_similarity_fits_better(seed):
    random = np.random.default_rng(seed)
    source = TEMPLATE + random.normal(0, 8, (5, 2))
    best = fit_similarity(source, TEMPLATE)

    def misfit(parameters):
        a, b, x, y = parameters
        return np.square(moved(source, np.array([[a, -b, x], [b, a, y]])) - TEMPLATE).sum()

    own = np.array([best[0, 0], best[1, 0], *best[:, 2]])
    for step in np.concatenate([np.eye(4), -np.eye(4), random.normal(size=(20, 4))]) * [1e-3, 1e-3, 0.1, 0.1]:
        assert misfit(own + step) > misfit(own)


def test_mirrored_points_are_not_mirrored_back():
    assert np.linalg.det(fit_similarity(TEMPLATE * [-1, 1], TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize("points", [SQUARE * 0 + 7, SQUARE * np.nan, SQUARE + np.inf, SQUARE * [1, -1], SQUARE * 1e-9])
def test_points_without_a_pose_are_refused(points):
    with pytest.raises(LandmarkError, match="source: expected points that fix a pose, got a scale of"):
        fit_similarity(points, SQUARE)


def test_shapes_and_dtypes_are_refused():
    with pytest.raises(TensorError, match=r"target: expected float \[4, 2\], got float64 \[5, 2\]"):
        fit_similarity(SQUARE, TEMPLATE)
    with pytest.raises(TensorError, match=r"source: expected float \[any, 2\], got int64 \[4, 2\]"):
        fit_similarity(SQUARE.astype(np.int64), SQUARE)
    with pytest.raises(TensorError, match=r"image: expected uint8 \[any, any, 3\], got uint8 \[9, 9\]"):
        align(np.zeros((9, 9), np.uint8), TEMPLATE, TEMPLATE, width=112, height=112)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6, 3.0])
def test_crop_does_not_depend_on_how_large_and_turned_the_head_is(name, degrees, scale):
    template, (width, height) = TEMPLATES[name], SIZE[name]
    landmarks = head(template, (width, height), scale=scale, degrees=degrees, at=(210.4, 215.7))
    face = align(dots(landmarks, 6.0 * scale, 420, 440), landmarks, template, width=width, height=height)
    assert face.crop.shape == (height, width, 3)
    difference = face.crop.astype(float) - dots(template, 6.0, width, height)
    # A triangle of two pixels before and one in the interpolation flatten a dot of 6 px by a few per cent.
    assert np.abs(difference).max() <= 10
    assert face.residual_px < 1e-5
    np.testing.assert_allclose(moved(landmarks, face.matrix), template, atol=1e-5)


@pytest.mark.parametrize("degrees", [11, 100, -37])
@pytest.mark.parametrize("scale", [0.55, 1.0, 1.37, 2.9, 6.1])
def test_pixel_centres_are_whole_numbers(scale, degrees):
    """A ramp comes out as the same ramp seen through the matrix; half a pixel's slip would show."""
    side = math.ceil(112 * scale * 1.5) + 20
    slope = 200 / side
    ramp = np.round(20 + slope * np.append(grid(side, side), np.zeros((side, side, 1)), 2)).astype(np.uint8)
    landmarks = head(TEMPLATE, (112, 112), scale=scale, degrees=degrees, at=(side / 2 + 0.3, side / 2 - 0.2))
    face = align(ramp, landmarks, TEMPLATE, width=112, height=112)
    inverse = np.linalg.inv(np.vstack([face.matrix, [0, 0, 1]]))
    off = face.crop[..., :2] - (20 + slope * moved(grid(112, 112), inverse[:2]))
    assert np.abs(off + 0.5).max() <= 2  # rounded up to three times and then, by Pillow, cut down to whole numbers
    slip_px = np.abs(off.mean((0, 1)) + 0.5) / (slope * scale)  # in the crop
    assert slip_px.max() < 0.1


def zone_plate(xy, middle, scale):
    """Rings as fine as one crop pixel at the crop's edge."""
    squared = np.square(xy - middle).sum(-1)
    return 127.5 + 127.5 * np.cos(math.pi / (2 * 62 * scale) * squared)


@pytest.mark.parametrize(("scale", "gain"), [(2.0, 2.5), (3.0, 5.0), (5.0, 9.0), (8.0, 14.0)])
def test_a_large_face_does_not_alias(scale, gain):
    """Against the rings averaged by the formula, the error falls by `gain` from that of plain bilinear sampling."""
    side = math.ceil(112 * scale * 1.6)
    middle = np.array([side / 2 + 0.37, side / 2 - 0.21])
    image = np.repeat(zone_plate(grid(side, side), middle, scale)[..., None], 3, 2).round().astype(np.uint8)
    landmarks = head(TEMPLATE, (112, 112), scale=scale, degrees=25, at=middle)
    face = align(image, landmarks, TEMPLATE, width=112, height=112)
    inverse = np.linalg.inv(np.vstack([face.matrix, [0, 0, 1]]))[:2]
    steps = (np.arange(16) + 0.5) / 8 - 1  # of a triangle one crop pixel to each side
    weights = np.outer(1 - np.abs(steps), 1 - np.abs(steps)).ravel()
    shifts = np.stack(np.meshgrid(steps, steps), 2).reshape(-1, 2)
    ideal = sum(
        weight * zone_plate(moved(grid(112, 112) + shift, inverse), middle, scale)
        for weight, shift in zip(weights, shifts, strict=True)
    ) / np.sum(weights)
    corner = np.floor(moved(grid(112, 112), inverse)).astype(int)
    share = moved(grid(112, 112), inverse) - corner
    plain = sum(
        image[corner[..., 1] + j, corner[..., 0] + i, 0]
        * (share[..., 0] if i else 1 - share[..., 0])
        * (share[..., 1] if j else 1 - share[..., 1])
        for i in (0, 1)
        for j in (0, 1)
    )
    ours = np.sqrt(np.square(face.crop[..., 0] + 0.5 - ideal).mean())
    assert gain * ours < np.sqrt(np.square(plain - ideal).mean())


@pytest.mark.parametrize("scale", [0.8, 2.2, 8.0])
def test_the_crop_s_edge_is_as_good_as_its_middle(scale):
    side = math.ceil(112 * scale * 1.6)
    rows, columns = np.mgrid[0:side, 0:side] / scale
    image = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], 2) * 100 + 128
    image = image.astype(np.uint8)
    landmarks = head(TEMPLATE, (112, 112), scale=scale, degrees=0, at=(side / 2 + 0.37, side / 2 - 0.21))
    own = align(image, landmarks, TEMPLATE, width=112, height=112).crop
    wider = align(image, landmarks, TEMPLATE + 20, width=152, height=152).crop[20:-20, 20:-20]
    off = np.abs(own.astype(int) - wider).max(2)
    assert off[[0, -1]].max() <= off[2:-2, 2:-2].max() + 2
    assert off[:, [0, -1]].max() <= off[2:-2, 2:-2].max() + 2


def test_turned_and_mirrored_photos_give_turned_and_mirrored_crops():
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (160, 200, 3), np.uint8)
    landmarks = head(TEMPLATE, (112, 112), scale=1.0, degrees=0, at=(99.0, 80.0)) + 0.5
    upright = align(image, landmarks, TEMPLATE, width=112, height=112).crop
    quarter = np.stack([landmarks[:, 1], 199 - landmarks[:, 0]], 1)
    crop = align(np.rot90(image), quarter, TEMPLATE, width=112, height=112).crop
    assert np.abs(crop.astype(int) - upright).max() <= 1
    mirrored = (landmarks * [-1, 1] + [199, 0])[[1, 0, 2, 4, 3]]
    twin = (TEMPLATE * [-1, 1] + [111, 0])[[1, 0, 2, 4, 3]]
    crop = align(image[:, ::-1], mirrored, twin, width=112, height=112).crop
    assert np.abs(crop[:, ::-1].astype(int) - upright).max() <= 1


def test_outside_the_photo_is_black():
    image = np.full((200, 300, 3), 200, np.uint8)
    landmarks = head(TEMPLATE, (112, 112), scale=1.0, degrees=0, at=(0.0, 100.0))
    crop = align(image, landmarks, TEMPLATE, width=112, height=112).crop
    assert (crop[:, :55] == 0).all()
    assert (crop[:, 57:] == 200).all()


@pytest.mark.parametrize("at", [(-900.0, 50.0), (5e5, -5e5), (1e9, 1e9)])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_a_face_wholly_outside_is_all_black(at, scale):
    landmarks = head(TEMPLATE, (112, 112), scale=scale, degrees=20, at=at)
    assert not align(np.full((90, 80, 3), 255, np.uint8), landmarks, TEMPLATE, width=112, height=112).crop.any()


@pytest.mark.parametrize("scale", [0.01, 0.5, 30.0])
def test_a_photo_of_one_pixel(scale):
    landmarks = head(TEMPLATE, (112, 112), scale=scale, degrees=0, at=(0.0, 0.0))
    crop = align(np.full((1, 1, 3), 90, np.uint8), landmarks, TEMPLATE, width=112, height=112).crop
    assert set(np.unique(crop)) <= {0, 90}
    assert (crop == 90).mean() == pytest.approx(min(1.0, 1 / (112 * scale) ** 2), rel=0.1, abs=1e-3)


def test_swapped_eyes_show_in_the_residual():
    image = np.zeros((112, 112, 3), np.uint8)
    face = align(image, TEMPLATE[[1, 0, 2, 4, 3]], TEMPLATE, width=112, height=112)
    expected = np.sqrt(np.square(moved(TEMPLATE[[1, 0, 2, 4, 3]], face.matrix) - TEMPLATE).sum(1).mean())
    assert face.residual_px == pytest.approx(expected)
    assert face.residual_px > 10


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_have_a_face_s_order(name):
    left_eye, right_eye, nose, left_mouth, right_mouth = TEMPLATES[name]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (TEMPLATES[name] > 0).all()
    assert (TEMPLATES[name] < np.array(SIZE[name])).all()
