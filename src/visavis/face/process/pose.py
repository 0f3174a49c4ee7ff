"""Where a head looks, from its five landmarks: the mean face turned, scaled and shifted onto them.

The camera is a scaled orthographic one, ``u = scale * (R @ X)[:2] + shift``, which suits faces much smaller than their
distance. Points X are in interocular distances, see `shape`; u in pixels, centres of pixels being integers.
N: faces.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.errors import LandmarkError, expect
from visavis.face.process.shape import LANDMARKS, rotation

__all__ = ["Pose", "fit_pose", "fit_poses", "project"]

Array = NDArray[np.float64]
Points = NDArray[np.float32] | NDArray[np.float64]

_FIRST_STEPS, _LAST_STEPS = 4, 10
_MOST_RESIDUAL = 0.3  # of an interocular distance, root mean square
_MOST_TURNED = -0.3  # cosine between the face's direction and the viewer's
_STARTS = [(yaw, pitch) for yaw in (-1.0, 0.0, 1.0) for pitch in (-0.4, 0.4)]


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    yaw: float  # radians, positive: the nose points to the image's right
    pitch: float  # radians, positive: the nose points down
    roll: float  # radians, positive: clockwise in the image
    scale_px: float  # of an interocular distance seen frontally
    shift_xy_px: Array  # [2] where the point midway between the pupils falls
    residual_px: float  # root mean square distance of the landmarks from the mean face's


def project(points: Array, pose: Pose) -> Array:
    """[K, 3] points in interocular distances to [K, 2] in pixels."""
    turned = points @ rotation(pose.yaw, pose.pitch, pose.roll).T
    return pose.scale_px * turned[:, :2] + pose.shift_xy_px


def fit_pose(landmarks: Points) -> Pose:
    """The pose at which the mean face's five landmarks come nearest to float [5, 2], in the least-squares sense.

    Raises:
        TensorError: not five points.
        LandmarkError: the points fix no pose: not finite, on one spot, or those of no face, such as eyes swapped.

    Source: Gauss-Newton on the three angles, a little from six starts, as the problem has several minima, then
        from the best; for given angles scale and shift are a linear least-squares problem's.

    >>> pose = fit_pose(project(LANDMARKS, Pose(0.6, -0.2, 0.1, 40.0, np.array([50.0, 60.0]), 0.0)))
    >>> round(pose.yaw, 6), round(pose.pitch, 6), round(pose.scale_px, 6), round(pose.residual_px, 6)
    (0.6, -0.2, 40.0, 0.0)
    """
    expect("landmarks", landmarks, "float", 5, 2)
    [pose] = fit_poses(landmarks[None])
    if pose is None:
        listed = ", ".join(f"({x:.4g}, {y:.4g})" for x, y in landmarks)
        raise LandmarkError(
            "landmarks: expected eyes, nose tip and mouth corners of a face, in pixels and image-left first, "
            f"got {listed}"
        )
    return pose


def fit_poses(landmarks: Points) -> list[Pose | None]:
    """As `fit_pose` for float [N, 5, 2], all at once; None where the points fix no pose."""
    expect("landmarks", landmarks, "float", None, 5, 2)
    points = landmarks.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite points, left out in the next lines
        middle = points.mean(1, keepdims=True)
        spread = np.sqrt(np.square(points - middle).sum(2).mean(1))
    good = np.flatnonzero(np.isfinite(spread) & (spread > 1e-3))
    poses: list[Pose | None] = [None] * len(points)
    if len(good) == 0:
        return poses
    centred = (points[good] - middle[good]) / spread[good, None, None]
    starts = np.zeros((len(_STARTS), len(good), 3))
    starts[..., :2] = np.array(_STARTS)[:, None]
    # In the plane a turn and a scale are one complex number.
    seen = np.stack([(_CENTRED @ rotation(*start).T)[:, :2] @ [1, 1j] for start in _STARTS])
    starts[..., 2] = np.angle(np.einsum("sk,nk->sn", seen.conj(), centred @ [1, 1j]))
    angles, cost, _ = _descend(starts.reshape(-1, 3), np.tile(centred, (len(_STARTS), 1, 1)), _FIRST_STEPS)
    best = cost.reshape(len(_STARTS), -1).argmin(0) * len(good) + np.arange(len(good))
    angles, cost, scale = _descend(angles[best], centred, _LAST_STEPS)
    scales_px, residuals_px = scale * spread[good], np.sqrt(cost / 5) * spread[good]
    turned = _rotations(angles)
    shifts = middle[good, 0] - scales_px[:, None] * (turned[:, :2] @ LANDMARKS.mean(0))
    for place, index in enumerate(good):
        scale_px, residual_px = float(scales_px[place]), float(residuals_px[place])
        if residual_px < _MOST_RESIDUAL * scale_px and turned[place, 2, 2] > _MOST_TURNED:
            poses[index] = Pose(*_upright(*angles[place]), scale_px, shifts[place], residual_px)
    return poses


_CENTRED: Array = LANDMARKS - LANDMARKS.mean(0)


def _descend(angles: Array, target: Array, steps: int) -> tuple[Array, Array, Array]:
    """Gauss-Newton with a step control from [P, 3] angles to target [P, 5, 2]: angles, cost and scale."""
    damping = np.full(len(angles), 1e-3)
    cost, scale, residual, jacobian = _linearized(angles, target)
    for _ in range(steps):
        normal = np.einsum("pri,prj->pij", jacobian, jacobian)
        normal += damping[:, None, None] * np.eye(3)
        step = np.linalg.solve(normal, np.einsum("pri,pr->pi", jacobian, residual)[..., None])[..., 0]
        trial = angles - np.clip(step, -0.5, 0.5)
        new_cost, new_scale, new_residual, new_jacobian = _linearized(trial, target)
        better = new_cost < cost
        damping = np.where(better, damping / 4, damping * 8)
        angles, jacobian = (
            np.where(better[:, None], trial, angles),
            np.where(better[:, None, None], new_jacobian, jacobian),
        )
        residual = np.where(better[:, None], new_residual, residual)
        cost, scale = np.where(better, new_cost, cost), np.where(better, new_scale, scale)
    return angles, cost, scale


def _linearized(angles: Array, target: Array) -> tuple[Array, Array, Array, Array]:
    """At the best scale: cost [P], scale [P], residual [P, 10] and its derivative by the angles [P, 10, 3]."""
    seen = np.einsum("kc,pic->pki", _CENTRED, _rotations(angles)[:, :2]).reshape(-1, 10)
    goal = target.reshape(-1, 10)
    length = np.square(seen).sum(1)
    scale = np.maximum((seen * goal).sum(1), 0) / length
    residual = scale[:, None] * seen - goal
    change = np.einsum("kc,paic->pkia", _CENTRED, _rotation_changes(angles)[:, :, :2]).reshape(-1, 10, 3)
    of_scale = (np.einsum("pra,pr->pa", change, goal - 2 * scale[:, None] * seen)) / length[:, None]
    jacobian = scale[:, None, None] * change + seen[..., None] * of_scale[:, None]
    return np.square(residual).sum(1), scale, residual, jacobian


def _rotations(angles: Array) -> Array:
    """[P, 3] yaw, pitch, roll to [P, 3, 3]; as `shape.rotation`."""
    nod, turn, tilt = (axis for axis, _ in _axes(angles))
    return tilt @ turn @ nod


def _rotation_changes(angles: Array) -> Array:
    """[P, 3, 3, 3]: derivatives of `_rotations` by yaw, pitch and roll."""
    (nod, d_nod), (turn, d_turn), (tilt, d_tilt) = _axes(angles)
    return np.stack([tilt @ d_turn @ nod, tilt @ turn @ d_nod, d_tilt @ turn @ nod], 1)


def _axes(angles: Array) -> list[tuple[Array, Array]]:
    """Pitch's, yaw's and roll's rotations [P, 3, 3], each with its derivative."""
    planes = ((1, 2, angles[:, 1]), (0, 2, angles[:, 0]), (1, 0, angles[:, 2]))
    results = []
    for first, second, angle in planes:
        value, change = np.zeros((2, len(angle), 3, 3))
        c, s = np.cos(angle), np.sin(angle)
        other = 3 - first - second
        value[:, other, other] = 1
        value[:, first, first] = value[:, second, second] = c
        value[:, first, second], value[:, second, first] = s, -s
        change[:, first, first] = change[:, second, second] = -s
        change[:, first, second], change[:, second, first] = c, -c
        results.append((value, change))
    return results


def _upright(yaw: float, pitch: float, roll: float) -> tuple[float, float, float]:
    """Of the two ways to name one rotation that whose pitch lies in [-pi/2, pi/2]."""
    if math.cos(pitch) < 0:
        yaw, pitch, roll = math.pi - yaw, pitch + math.pi, roll + math.pi
    return tuple(math.remainder(angle, math.tau) for angle in (yaw, pitch, roll))  # type: ignore[return-value]
