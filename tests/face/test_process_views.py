"""Against photos of a painted head: its colour is a formula of the place on it, so each view can be drawn directly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.errors import InputError, LandmarkError, TensorError
from visavis.face.process import fit_pose, frontalize, views
from visavis.face.process.pose import Pose, project
from visavis.face.process.shape import CENTRE, LANDMARKS, MAP_SIDE, REACH, depth_map, rotation

SIDE = 160


def paint(points):
    """[..., 3] places on the head to colours, alike on both its sides."""
    x, y, z = np.moveaxis(points, -1, 0)
    waves = [np.cos(3 * x) * np.cos(2 * y), np.sin(2.5 * y + z), np.cos(2 * x * x + y)]
    return 128 + 90 * np.stack(waves, -1)


def pose(yaw, pitch=0.0, roll=0.0):
    return Pose(yaw, pitch, roll, 40.0, np.array([79.5, 70.0]), 0.0)


def photo(of, colour=paint):
    """[SIDE, SIDE, 3] the painted head on grey, and where it is; no warp involved."""
    xs, ys = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    flat = np.stack([xs, ys], -1) - project(CENTRE[None], of)[0]
    plane = flat @ rotation(0, 0, of.roll)[:2, :2] / of.scale_px
    cell = np.clip((plane + REACH) / (2 * REACH) * (MAP_SIDE - 1), 0, MAP_SIDE - 1.001)
    low = cell.astype(int)
    depth = depth_map(of.yaw, of.pitch)
    share = cell - low
    z = sum(
        depth[low[..., 1] + down, low[..., 0] + right]
        * (share[..., 0] if right else 1 - share[..., 0])
        * (share[..., 1] if down else 1 - share[..., 1])
        for right in (0, 1)
        for down in (0, 1)
    )
    there = ~np.isnan(z)
    points = np.concatenate([plane, np.nan_to_num(z)[..., None]], -1) @ rotation(of.yaw, of.pitch) + CENTRE
    image = np.where(there[..., None], colour(points), 100)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), there


def off(image, other, where):
    """Mean difference, grey values."""
    return np.abs(image.astype(float) - other)[where].mean()


@pytest.mark.parametrize(("own", "wanted"), [(0.0, 0.6), (0.0, -0.6), (0.5, 0.9), (0.5, -0.3), (-0.8, 0.0)])
def test_a_view_is_what_the_turned_head_looks_like(own, wanted):
    before = pose(own, pitch=0.05)
    [view] = views(photo(before)[0], project(LANDMARKS, before), yaws=[wanted])
    np.testing.assert_allclose(view.landmarks_xy_px.mean(0), project(LANDMARKS, before).mean(0), atol=1e-3)
    found = fit_pose(view.landmarks_xy_px)
    assert [found.yaw, found.pitch, found.scale_px] == pytest.approx([wanted, 0.05, 40.0], abs=1e-3)
    truth, there = photo(found)
    shown = there & (view.hidden < 0.05)
    assert shown.sum() > 0.5 * there.sum()
    difference = off(view.image, truth, shown)
    assert difference < 4
    assert difference < 0.2 * off(photo(before)[0], truth, shown)  # what doing nothing would give


def test_pitch_and_roll_are_turned_too():
    before = pose(0.2, -0.1)
    image, _ = photo(before)
    [view] = views(image, project(LANDMARKS, before), yaws=[0.2], pitches=[0.3], rolls=[-0.5])
    found = fit_pose(view.landmarks_xy_px)
    assert [found.yaw, found.pitch, found.roll] == pytest.approx([0.2, 0.3, -0.5], abs=1e-4)
    truth, there = photo(found)
    assert off(view.image, truth, there & (view.hidden < 0.05)) < 4


@pytest.mark.parametrize("yaw", [-0.7, 0.5, 1.0])
def test_frontalizing_completes_a_symmetric_face(yaw):
    before = pose(yaw, 0.1, 0.2)
    front = frontalize(photo(before)[0], project(LANDMARKS, before))
    found = fit_pose(front.landmarks_xy_px)
    assert [found.yaw, found.pitch, found.roll] == pytest.approx([0, 0, 0], abs=1e-4)
    truth, _ = photo(found)
    left, top, right, bottom = (*front.landmarks_xy_px.min(0).astype(int), *front.landmarks_xy_px.max(0).astype(int))
    face = np.zeros((SIDE, SIDE), bool)
    face[top - 5 : bottom + 8, left - 5 : right + 5] = True
    assert off(front.image, truth, face) < 7
    assert off(front.image, truth, face) < 0.3 * off(photo(before)[0], truth, face)
    assert front.hidden[face].mean() < 0.1


def test_an_asymmetric_face_is_shown_as_it_is_where_seen():
    """Symmetry only fills: a mark on the seen cheek stays, and a mark on neither is not made up."""

    def marked(points):
        spot = ((points - [0.55, 0.6, 0.0]) ** 2)[..., :2].sum(-1) < 0.15**2
        return np.where(spot[..., None], [255, 0, 0], [128, 128, 128])

    before = pose(-0.3)
    image, _ = photo(before, marked)
    front = frontalize(image, project(LANDMARKS, before))
    truth, there = photo(fit_pose(front.landmarks_xy_px), marked)
    assert off(front.image, truth, there & (front.hidden < 0.05)) < 3


@settings(max_examples=15)
@given(st.floats(-1, 1), st.floats(-0.4, 0.4), st.floats(-1, 1), st.integers(0, 2**32 - 1))
def test_a_view_of_the_photos_own_pose_is_the_photo(yaw, pitch, roll, seed):
    """For any face: its landmarks need not be the mean face's."""
    generator = np.random.default_rng(seed)
    true = pose(yaw, pitch, roll)
    image, there = photo(true)
    landmarks = project(LANDMARKS, true) + generator.normal(0, 1.5, (5, 2))
    own = fit_pose(landmarks)
    [view] = views(image, landmarks, yaws=[own.yaw])
    np.testing.assert_allclose(view.landmarks_xy_px, landmarks, atol=1e-3)
    assert off(view.image, image, there & (view.hidden < 0.05)) < 3


@settings(max_examples=15)
@given(st.floats(-0.8, 0.8), st.floats(-0.8, 0.8))
def test_a_mirrored_photo_has_mirrored_views(yaw, wanted):
    image, _ = photo(pose(yaw), lambda points: paint(points) + 30 * np.sin(3 * points[..., :1]))
    landmarks = project(LANDMARKS, pose(yaw))
    mirrored = landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [SIDE - 1, 0]
    [view] = views(image, landmarks, yaws=[wanted])
    [other] = views(image[:, ::-1], mirrored, yaws=[-wanted])
    shown = (view.hidden < 0.02) & (other.hidden[:, ::-1] < 0.02)  # means over squares of pixels do not mirror exactly
    assert shown.mean() > 0.5
    assert off(view.image, other.image[:, ::-1], shown) < 1.0


def stripes(points):
    """Fine enough that a pixel's shift shows."""
    x, y, _ = np.moveaxis(points, -1, 0)
    return 128 + 100 * np.stack([np.sin(14 * x), np.sin(14 * y), np.sin(10 * (x + y))], -1)


def test_a_face_unlike_the_mean_one_is_not_moved_towards_it():
    true = pose(0.3)
    image, there = photo(true, stripes)
    landmarks = project(LANDMARKS, true) + np.array([[-3, 2], [2, -2], [3, 3], [-2, 3], [3, -2]])
    own = fit_pose(landmarks)
    [view] = views(image, landmarks, yaws=[own.yaw])
    np.testing.assert_allclose(view.landmarks_xy_px, landmarks, atol=1e-3)
    assert off(view.image, image, there & (view.hidden < 0.05)) < 3


def test_what_stands_beside_the_head_moves_with_its_outline():
    """A blue rim around the head is around the turned one too, and far away nothing moves but with the head."""
    before = pose(0.0)
    image, there = photo(before)
    image[~there] = [0, 0, 255]
    xs, ys = np.meshgrid(np.arange(SIDE), np.arange(SIDE))

    def near(mask, reach):
        grown = mask.copy()
        for _ in range(reach):
            grown[1:] |= grown[:-1].copy()
            grown[:-1] |= grown[1:].copy()
            grown[:, 1:] |= grown[:, :-1].copy()
            grown[:, :-1] |= grown[:, 1:].copy()
        return grown

    image[~near(there, 6)] = [255, 255, 0]
    [view] = views(image, project(LANDMARKS, before), yaws=[-0.8])
    _, head = photo(fit_pose(view.landmarks_xy_px))
    rim = near(head, 4) & ~near(head, 2) & (xs > 5) & (xs < SIDE - 6) & (ys > 5) & (ys < SIDE - 6)
    blue = (view.image[..., 2] > 150) & (view.image[..., 1] < 100)
    assert blue[rim].mean() > 0.7


@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 2**32 - 1))
def test_filling_keeps_what_is_known_and_makes_up_nothing_beyond_it(height, width, seed):
    import torch

    from visavis.face.process.render import fill

    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, 3, height, width, generator=generator)
    known = (torch.rand(2, 1, height, width, generator=generator) < 0.3).float()
    filled = fill(values, known)
    torch.testing.assert_close(filled * known, values * known)
    for one, of, where in zip(filled, values, known, strict=True):
        if where.any():
            seen = of[:, where[0] > 0]
            assert (one.amin((1, 2)) >= seen.amin(1) - 1e-5).all()
            assert (one.amax((1, 2)) <= seen.amax(1) + 1e-5).all()


def test_a_photo_looking_far_down_can_be_turned_aside():
    """Limits are for the angles wished for, not for those a photo has."""
    before = pose(0.0, 0.9)
    [view] = views(photo(before)[0], project(LANDMARKS, before), yaws=[0.3])
    found = fit_pose(view.landmarks_xy_px)
    assert [found.yaw, found.pitch] == pytest.approx([0.3, 0.9], abs=1e-3)


def test_nothing_is_hidden_of_a_face_that_stays_and_half_of_one_that_turns_far():
    before = pose(0.0)
    image, _ = photo(before)
    stays, turns = views(image, project(LANDMARKS, before), yaws=[0.0, 1.3])
    assert turns.hidden.mean() > stays.hidden.mean() + 0.1
    assert stays.hidden[40:110, 50:110].max() < 0.2
    for view in (stays, turns):
        assert 0 <= view.hidden.min() <= view.hidden.max() <= 1


IMAGE, LANDMARKS_PX = np.zeros((SIDE, SIDE, 3), np.uint8), project(LANDMARKS, pose(0.1))


def test_degrees_are_refused():
    with pytest.raises(InputError, match=r"yaws: expected radians in \[-1.5, 1.5\], got 30; degrees\?"):
        views(IMAGE, LANDMARKS_PX, yaws=[0.0, 30])
    with pytest.raises(InputError, match=r"pitches: expected radians in \[-0.8, 0.8\], got -0.9$"):
        views(IMAGE, LANDMARKS_PX, yaws=[0.0], pitches=[-0.9])
    with pytest.raises(InputError, match="rolls: expected radians in .*, got nan"):
        views(IMAGE, LANDMARKS_PX, yaws=[0.0], rolls=[math.nan])


def test_lists_of_other_length_are_refused_and_empty_ones_give_nothing():
    with pytest.raises(InputError, match="pitches: expected an angle for each of 2 yaws, got 1"):
        views(IMAGE, LANDMARKS_PX, yaws=[0.0, 0.1], pitches=[0.1])
    assert views(IMAGE, LANDMARKS_PX, yaws=[]) == []


@pytest.mark.parametrize("function", [frontalize, lambda image, landmarks: views(image, landmarks, yaws=[0.1])])
def test_what_is_no_image_of_a_face_is_refused(function):
    with pytest.raises(TensorError, match=r"image: expected uint8 \[any, any, 3\], got float64"):
        function(IMAGE / 255, LANDMARKS_PX)
    with pytest.raises(TensorError, match=r"image: expected uint8 \[any, any, 3\], got uint8 \[160, 160\]"):
        function(IMAGE[..., 0], LANDMARKS_PX)
    with pytest.raises(LandmarkError, match="landmarks: expected them in an image of 160 x 160 px, got their middle"):
        function(IMAGE, LANDMARKS_PX + 150)
    with pytest.raises(LandmarkError, match="at least 4 px between the eyes, got .*; fractions"):
        function(IMAGE, LANDMARKS_PX / SIDE)
    with pytest.raises(LandmarkError, match="landmarks: expected eyes"):
        function(IMAGE, LANDMARKS_PX * 0 + 80)
