import importlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visavis.errors import InputError, LandmarkError, TensorError
from visavis.face.process import augment, blur, coarsen, compress, motion_blur, occlude, relight, tint
from visavis.face.process.pose import Pose, project
from visavis.face.process.shape import LANDMARKS

CROP = np.random.default_rng(0).integers(256, size=(112, 96, 3), dtype=np.uint8)
GREY = np.full((112, 112, 3), 128, np.uint8)
POINTS = project(LANDMARKS, Pose(0.1, 0.0, 0.0, 35.0, np.array([55.5, 51.0]), 0.0))


def smooth(height=112, width=96):
    y, x = np.mgrid[:height, :width]
    return np.stack([128 + 60 * np.sin(x / 20), 128 + 60 * np.cos(y / 25), 100 + 0.5 * x], -1).astype(np.uint8)


# Each effect at an amount that changes nothing, and at one that changes something.
EFFECTS = {
    "tint": (lambda c: tint(c), lambda c: tint(c, gains=(1.1, 1, 0.9), gamma=0.8)),
    "blur": (lambda c: blur(c, sigma_px=0.0), lambda c: blur(c, sigma_px=2.0)),
    "motion": (
        lambda c: motion_blur(c, length_px=0.0, angle_rad=0.3),
        lambda c: motion_blur(c, length_px=5.0, angle_rad=0.3),
    ),
    "coarsen": (lambda c: coarsen(c, factor=1.0), lambda c: coarsen(c, factor=3.0)),
    "relight": (
        lambda c: relight(c, POINTS, direction=(1, 0, 1), ambient=1.0),
        lambda c: relight(c, POINTS, direction=(1, 0, 1), ambient=0.2),
    ),
    "compress": (None, lambda c: compress(c, quality=10)),
    "occlude": (None, lambda c: occlude(c, box_xyxy_px=(0, 0, 9, 9), colour=(1, 2, 3))),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_change_pixels_but_not_the_kind_of_image_nor_the_image_given(name):
    nothing, something = EFFECTS[name]
    before = CROP.copy()
    if nothing:
        np.testing.assert_array_equal(nothing(CROP), CROP)
    after = something(CROP)
    assert (after.dtype, after.shape) == (np.uint8, CROP.shape)
    assert not np.array_equal(after, CROP)
    np.testing.assert_array_equal(CROP, before)
    np.testing.assert_array_equal(something(CROP), after)
    with pytest.raises(TensorError, match=r"crop: expected uint8 \[any, any, 3\], got float64"):
        something(CROP / 255)


def test_tint_is_its_formula():
    got = tint(CROP, gains=(1.5, 1.0, 0.5), gamma=1.7)
    want = 255 * (np.array([1.5, 1.0, 0.5]) * CROP / 255) ** 1.7
    np.testing.assert_array_equal(got, np.clip(np.rint(want), 0, 255))


def test_blur_is_a_gaussians():
    """Against scipy's, in the middle; three box filters come near, not equal."""
    from scipy.ndimage import gaussian_filter

    want = gaussian_filter(CROP.astype(float), (2, 2, 0))
    assert np.abs(blur(CROP, sigma_px=2.0) - want)[12:-12, 12:-12].mean() < 2


@given(st.floats(0, 20), st.floats(-math.pi, math.pi))
def test_motion_smears_a_point_along_its_line(length_px, angle_rad):
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    smeared = motion_blur(point, length_px=length_px, angle_rad=angle_rad)[..., 0].astype(float)
    y, x = np.mgrid[-30:31, -30:31]
    off_line = np.abs(x * math.sin(angle_rad) - y * math.cos(angle_rad))
    along = np.abs(x * math.cos(angle_rad) + y * math.sin(angle_rad))
    assert smeared[(off_line > 1.5) | (along > length_px / 2 + 1.5)].max() == 0
    assert smeared.sum() == pytest.approx(255, abs=0.5 * (smeared > 0).sum() + 3 * length_px + 3)  # rounding


def test_motion_along_a_row_is_the_mean_of_it():
    image = smooth()
    got = motion_blur(image, length_px=8.0, angle_rad=0.0).astype(float)
    padded = np.pad(image.astype(float), ((0, 0), (6, 6), (0, 0)), mode="edge")
    fine = np.linspace(-4, 4, 1601)
    columns = np.arange(96) + 6
    want = np.mean(
        [
            (1 - t % 1) * padded[:, columns + math.floor(t)] + (t % 1) * padded[:, columns + math.floor(t) + 1]
            for t in fine
        ],
        axis=0,
    )
    assert np.abs(got - want).max() < 1.5


def test_compress_is_pillows_jpeg_of_that_quality():
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG", quality=30, subsampling="4:2:0")
    want = np.asarray(Image.open(file)).astype(float)
    assert np.abs(compress(smooth(), quality=30) - want).mean() < 1.0


def test_coarsen_keeps_means_and_loses_detail():
    fine = coarsen(CROP, factor=8.0).astype(float)
    assert fine.mean() == pytest.approx(CROP.mean(), abs=2)
    assert fine.std() < 0.3 * CROP.std()


def test_occlude_paints_the_box_and_nothing_else():
    covered = occlude(CROP, box_xyxy_px=(10, 20, 30, 50), colour=(7, 8, 9))
    assert (covered[20:50, 10:30] == [7, 8, 9]).all()
    changed = (covered != CROP).any(-1)
    changed[20:50, 10:30] = False
    assert not changed.any()


def test_light_from_a_side_brightens_that_side_and_not_the_whole():
    lit = relight(GREY, POINTS, direction=(2, 0, 1), ambient=0.2).astype(float)[..., 0]
    left, right = lit[40:80, 25:50], lit[40:80, 65:90]
    assert right.mean() > 128 > left.mean()
    assert right.mean() - left.mean() > 40
    above = relight(GREY, POINTS, direction=(0, -1, 1), ambient=0.2).astype(float)[..., 0]
    assert above[75:80, 50:60].mean() < above[20:35, 50:60].mean()  # under the nose against the forehead
    for light in (lit, above):
        assert ((light / 128) ** 2.2)[20:100, 25:90].mean() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tint(CROP, gamma=0.0), "gamma: expected numbers in .0, 10., got 0.0"),
        (lambda: tint(CROP, gains=(1, 2)), "gains: expected three, got 2"),
        (lambda: blur(CROP, sigma_px=-1), r"sigma_px: expected pixels in \[0, 100\], got -1"),
        (lambda: blur(CROP, sigma_px=math.nan), r"sigma_px: expected pixels in \[0, 100\], got nan"),
        (lambda: motion_blur(CROP, length_px=3, angle_rad=90), r"angle_rad: expected radians in .*, got 90"),
        (lambda: compress(CROP, quality=0), r"quality: expected a JPEG quality in \[1, 100\], got 0"),
        (lambda: coarsen(CROP, factor=0.5), r"factor: expected a factor in \[1, 100\], got 0.5"),
        (lambda: occlude(CROP, box_xyxy_px=(5, 5, 5, 9), colour=(0, 0, 0)), "expected a box within 96 x 112 px"),
        (lambda: occlude(CROP, box_xyxy_px=(5, 5, 97, 9), colour=(0, 0, 0)), "expected a box within 96 x 112 px"),
        (lambda: occlude(CROP, box_xyxy_px=(5, 5, 9, 9), colour=(0, 0, 256)), "colour: expected values of 0..255"),
        (lambda: relight(CROP, POINTS, direction=(0, 0, 0)), "direction: expected three numbers that are not all 0"),
        (lambda: relight(CROP, POINTS, direction=(0, 0, 1), ambient=1.5), "ambient: expected a share"),
    ],
)
def test_amounts_out_of_range_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_light_needs_a_face():
    with pytest.raises(LandmarkError):
        relight(CROP, POINTS * 0, direction=(0, 0, 1))


BATCH = np.stack([GREY // 2 + 40, *(np.roll(smooth(112, 112), 7 * n, 1) for n in range(23))])
PLACES = np.stack(
    [
        project(LANDMARKS, Pose(yaw, 0.05, 0.0, 33.0, np.array([55.5, 50.0]), 0.0))
        for yaw in np.linspace(-1.2, 1.2, len(BATCH))
    ]
).astype(np.float32)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_augmenting_hangs_on_the_seed_alone(seed):
    before = BATCH.copy()
    first, again, other = (augment(BATCH, PLACES, np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    assert (first.dtype, first.shape) == (np.uint8, BATCH.shape)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).mean() > 0.5
    np.testing.assert_array_equal(BATCH, before)


def test_most_crops_change_yet_stay_what_they_are():
    results = augment(BATCH, PLACES, np.random.default_rng(0)).astype(float)
    changed = (results != BATCH).any(axis=(1, 2, 3))
    assert changed.mean() > 0.8
    # Still nearer to its own crop than to those of others, in most cases.
    apart = np.abs(results[:, None, ::4, ::4] - BATCH[None, :, ::4, ::4]).mean((2, 3, 4))
    assert (apart.argmin(1) == np.arange(len(BATCH))).mean() > 0.3


def test_landmarks_of_no_face_neither_stop_a_batch_nor_change_the_others():
    broken = PLACES.copy()
    broken[3] = np.nan
    broken[5] = 7
    whole, rest = (augment(BATCH, places, np.random.default_rng(1)) for places in (PLACES, broken))
    others = np.setdiff1d(np.arange(len(BATCH)), [3, 5])
    np.testing.assert_allclose(rest[others].astype(int), whole[others].astype(int), atol=1)


def test_an_empty_batch_stays_empty_and_other_shapes_are_refused():
    empty = augment(BATCH[:0], PLACES[:0], np.random.default_rng(0))
    assert empty.shape == (0, 112, 112, 3)
    with pytest.raises(TensorError, match=r"landmarks: expected float \[24, 5, 2\], got float32 \[23, 5, 2\]"):
        augment(BATCH, PLACES[1:], np.random.default_rng(0))
    with pytest.raises(TensorError, match=r"crops: expected uint8 \[any, any, any, 3\], got float64"):
        augment(BATCH / 255, PLACES, np.random.default_rng(0))


def test_crops_of_any_size_are_augmented():
    for height, width in ((64, 48), (33, 57)):
        crops = np.stack([smooth(height, width)] * 8)
        places = np.stack([POINTS * [width / 112, height / 112]] * 8)
        assert augment(crops, places, np.random.default_rng(0)).shape == crops.shape


@pytest.fixture
def only(monkeypatch):
    """Leaves of all changes only those named, at the chances given."""
    module = importlib.import_module("visavis.face.process.augment")  # the package's name `augment` is the function

    def chosen(**chances):
        for name in ("TURNED", "LIT", "TINTED", "OCCLUDED", "COARSE", "BLURRED", "MOVED", "COMPRESSED"):
            monkeypatch.setattr(module, f"_{name}", chances.get(name, 0.0))

    return chosen


def test_without_any_change_crops_stay(only):
    only()
    np.testing.assert_array_equal(augment(BATCH, PLACES, np.random.default_rng(0)), BATCH)


@pytest.mark.parametrize("side", [48, 112])
def test_faces_are_turned_to_both_sides(only, side):
    """A dot on either eye and on the nose tip, a channel each: turned, the nose leaves the middle of the eyes."""
    only(TURNED=0.5)
    points = project(LANDMARKS, Pose(0.0, 0.0, 0.0, 0.31 * side, np.array([0.5, 0.45]) * (side - 1), 0.0))
    y, x = np.mgrid[:side, :side]
    dots = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / (0.03 * side) ** 2 / 2) for u, v in points[:3]]
    crops = np.stack([np.rint(255 * np.stack(dots, -1)).astype(np.uint8)] * 128)
    results = augment(crops, np.stack([points] * 128), np.random.default_rng(0))
    changed = (results != crops).any(axis=(1, 2, 3))
    assert 0.35 < changed.mean() < 0.65  # four deviations of a half of 128, about
    weights = results.astype(float)
    left, right, nose = np.moveaxis((weights * x[..., None]).sum((1, 2)) / weights.sum((1, 2)), 1, 0)
    aside = (nose - (left + right) / 2) / (right - left)
    assert np.abs(aside[~changed]).max() < 0.01
    assert aside.min() < -0.2
    assert aside.max() > 0.2


@pytest.mark.parametrize("side", [48, 112])
def test_faces_are_lit_from_all_sides_and_stay_as_bright(only, side):
    only(LIT=0.5)
    points = np.stack([POINTS * side / 112] * 128)
    crops = np.full((128, side, side, 3), 128, np.uint8)
    results = augment(crops, points, np.random.default_rng(0)).astype(float)
    changed = (results != crops).any(axis=(1, 2, 3))
    assert 0.35 < changed.mean() < 0.65
    rows, left, right = (
        slice(int(side * low), int(side * high)) for low, high in ((0.35, 0.7), (0.22, 0.45), (0.58, 0.8))
    )
    apart = results[:, rows, right, 0].mean((1, 2)) - results[:, rows, left, 0].mean((1, 2))
    assert apart.min() < -20
    assert apart.max() > 20
    light = (results / 128) ** 2.2
    assert np.abs(light[:, :, :, 0].mean((1, 2)) - 1).max() < 0.1


@pytest.mark.parametrize("side", [1, 2, 5, 9])
def test_something_stands_in_front_of_the_smallest_crops_too(only, side):
    only(OCCLUDED=1.0)
    crops = np.full((32, side, side, 3), 128, np.uint8)
    results = augment(crops, np.zeros((32, 5, 2), np.float32), np.random.default_rng(0))
    assert (results != crops).any(axis=(1, 2, 3)).all()
