import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import LandmarkError, TensorError
from visavis.face.align import TEMPLATES
from visavis.face.process.pose import Pose, fit_pose, fit_poses, project
from visavis.face.process.shape import CENTRE, LANDMARKS, MAP_SIDE, REACH, depth_map, front, rotation


def poses(most_yaw=1.4, most_pitch=0.7):
    return st.builds(
        lambda yaw, pitch, roll, scale, x, y: Pose(yaw, pitch, roll, scale, np.array([x, y]), 0.0),
        *(st.floats(-most, most) for most in (most_yaw, most_pitch, 3.0)),
        st.floats(4, 400),
        *(st.floats(-1000, 1000) for _ in "xy"),
    )


@given(poses())
def test_the_pose_of_a_projected_head_is_found(true):
    found = fit_pose(project(LANDMARKS, true))
    for name in ("yaw", "pitch", "roll"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), abs=1e-5)
    assert found.scale_px == pytest.approx(true.scale_px, rel=1e-5)
    np.testing.assert_allclose(found.shift_xy_px, true.shift_xy_px, atol=1e-4 * true.scale_px)
    assert found.residual_px < 1e-5 * true.scale_px


@given(poses(1.0, 0.4), st.integers(0, 2**32 - 1))
def test_the_fit_is_the_nearest_of_all_poses_around(true, seed):
    generator = np.random.default_rng(seed)
    landmarks = project(LANDMARKS, true) + true.scale_px * generator.normal(0, 0.03, (5, 2))
    found = fit_pose(landmarks)

    def off(pose):
        return math.sqrt(np.square(project(LANDMARKS, pose) - landmarks).sum(1).mean())

    assert found.residual_px == pytest.approx(off(found), rel=1e-6)
    assert found.residual_px <= off(true) * (1 + 1e-9)
    for yaw, pitch, roll, scale, x, y in np.eye(6) * 1e-3:
        for sign in (-1, 1):
            near = Pose(
                found.yaw + sign * yaw,
                found.pitch + sign * pitch,
                found.roll + sign * roll,
                found.scale_px * (1 + sign * scale),
                found.shift_xy_px + sign * found.scale_px * np.array([x, y]),
                0.0,
            )
            assert off(near) >= found.residual_px * (1 - 1e-7)


@given(poses(1.0, 0.4))
def test_a_mirrored_face_looks_the_other_way(true):
    mirrored = project(LANDMARKS, true)[[1, 0, 2, 4, 3]] * [-1, 1]
    found = fit_pose(mirrored)
    assert [found.yaw, found.pitch, found.roll] == pytest.approx([-true.yaw, true.pitch, -true.roll], abs=1e-5)


def test_an_aligned_crop_looks_straight_ahead():
    pose = fit_pose(TEMPLATES["arcface-112"])
    assert max(abs(pose.yaw), abs(pose.pitch), abs(pose.roll)) < 0.25
    assert pose.residual_px < 0.05 * pose.scale_px


FACE = project(LANDMARKS, Pose(0.2, 0.1, 0.0, 40.0, np.array([50.0, 50.0]), 0.0))


@pytest.mark.parametrize(
    "landmarks",
    [
        np.zeros((5, 2)),
        FACE * np.nan,
        np.where(np.arange(5)[:, None] == 3, np.inf, FACE),
        FACE[[1, 0, 2, 4, 3]],  # image-right first
        FACE[[3, 4, 2, 0, 1]],  # mouth first
    ],
    ids=["one spot", "NaN", "infinite", "right first", "mouth first"],
)
def test_points_of_no_face_are_refused(landmarks):
    with pytest.raises(LandmarkError, match="landmarks: expected eyes, nose tip and mouth corners"):
        fit_pose(landmarks)
    both = fit_poses(np.stack([landmarks, FACE]))
    assert both[0] is None
    assert both[1] is not None
    assert both[1].yaw == pytest.approx(0.2)


def test_other_shapes_are_refused():
    with pytest.raises(TensorError, match=r"landmarks: expected float \[5, 2\], got int64 \[5, 2\]"):
        fit_pose(np.zeros((5, 2), np.int64))
    with pytest.raises(TensorError, match=r"landmarks: expected float \[5, 2\], got float64 \[68, 2\]"):
        fit_pose(np.zeros((68, 2)))
    assert fit_poses(np.empty((0, 5, 2))) == []


@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_rotations_turn_as_documented(angles):
    yaw, pitch, roll = angles
    matrix = rotation(yaw, pitch, roll)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert (rotation(0.1, 0) @ [0, 0, 1])[0] > 0  # the nose to the right
    assert (rotation(0, 0.1) @ [0, 0, 1])[1] > 0  # and down
    assert (rotation(0, 0, 0.1) @ [1, 0, 0])[1] > 0  # x towards y: clockwise, as y points down


def test_the_face_has_a_faces_proportions():
    """Against the published means in the head of shape.py, in interocular distances of 63 mm, to 10 mm."""
    y = np.linspace(-2, 2, 4001)
    midline = front(np.zeros_like(y), y)
    top, bottom = y[~np.isnan(midline)][[0, -1]]
    assert bottom - top == pytest.approx(225 / 63, abs=0.16)
    assert bottom == pytest.approx(120 / 63, abs=0.16)
    x = np.linspace(-2, 2, 4001)
    wide = {level: np.ptp(x[~np.isnan(front(x, np.full_like(x, level)))]) for level in (0.0, 1.25)}
    assert wide[0.0] == pytest.approx(145 / 63, abs=0.16)
    assert wide[1.25] == pytest.approx(115 / 63, abs=0.2)
    tip = y[np.nanargmax(midline)]
    assert tip == pytest.approx(LANDMARKS[2, 1], abs=0.05)
    lip = midline[np.argmin(np.abs(y - 0.80))]
    assert np.nanmax(midline) - lip == pytest.approx(20 / 63, abs=0.1)
    assert np.abs(LANDMARKS[:2, 2]).max() < 0.05  # the corneas' plane
    assert np.ptp(LANDMARKS[3:, 0]) == pytest.approx(50 / 63, abs=0.05)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.7, 0.2), (-1.3, -0.3)])
def test_a_depth_map_shows_the_nearest_of_all_points_of_the_surface(yaw, pitch):
    """Against a z-buffer filled with very many points of the front."""
    ticks = np.arange(-1.9, 1.9, 0.004)
    x, y = (plane.ravel() for plane in np.meshgrid(ticks, ticks))
    z = front(x, y)
    points = (np.stack([x, y, z], 1)[~np.isnan(z)] - CENTRE) @ rotation(yaw, pitch).T
    step = 2 * REACH / (MAP_SIDE - 1)
    column, row = (np.rint((points[:, axis] + REACH) / step).astype(int) for axis in (0, 1))
    buffer = np.full((MAP_SIDE, MAP_SIDE), -np.inf)
    np.maximum.at(buffer, (row, column), points[:, 2])
    found = depth_map(yaw, pitch)
    both = np.isfinite(buffer) & ~np.isnan(found)
    assert both.sum() > 0.95 * np.isfinite(buffer).sum()
    off = np.abs(buffer - found)[both]  # a cell of the buffer holds the nearest of .05 x .05 IOD
    assert np.median(off) < 0.04
    assert np.mean(off > 0.15) < 0.03


def test_from_the_front_a_depth_map_is_the_surfaces_formula():
    ticks = np.linspace(-REACH, REACH, MAP_SIDE)
    x, y = np.meshgrid(ticks, ticks)
    off = np.abs(depth_map(0.0, 0.0) - (front(x, y) - CENTRE[2]))
    inside = np.hypot(x, y / 1.5) < 0.9  # but for the steep rim, where a cell of the grid counts for much
    assert np.nanmedian(off[inside]) < 0.005
    assert np.nanpercentile(off[inside], 99) < 0.05
