"""One photo of a face to many poses, and a turned face to the frontal one.

Images are uint8 [H, W, 3] RGB: a crop, or a photo; landmarks float [5, 2] in its pixels. Angles are radians: positive
yaw turns the nose to the image's right, positive pitch down, positive roll is clockwise. They are the head's own, not
changes: a yaw of 0 looks at the viewer, however the photo was.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, LandmarkError, expect
from visavis.face.process.pose import Points, Pose, fit_pose
from visavis.face.process.shape import MAP_STEP

__all__ = ["MAX_PITCH", "MAX_YAW", "View", "frontalize", "views"]

MAX_YAW, MAX_PITCH = 1.5, 0.8  # radians; beyond there is more invented than shown
_LEAST_SCALE_PX = 4.0  # between the eyes


class View(NamedTuple):
    image: NDArray[np.uint8]  # [H, W, 3] RGB
    landmarks_xy_px: NDArray[np.float32]  # [5, 2] where they have come to lie
    hidden: NDArray[np.float32]  # [H, W] in [0, 1], how much of a pixel the photo does not show and was filled


def views(
    image: NDArray[np.uint8],
    landmarks: Points,
    *,
    yaws: Sequence[float],
    pitches: Sequence[float] | None = None,
    rolls: Sequence[float] | None = None,
) -> list[View]:
    """The face of a photo as it would look with the head turned, one view an angle.

    The photo is draped over the mean head, bent so that its landmarks are the face's own, and that is turned. What the
    photo does not show is taken from the other side of the face where that is seen, else filled smoothly from
    around. The face keeps its size, and the landmarks their middle, so that a crop's face stays in the crop.

    Args:
        image: [H, W, 3]; a crop with the whole head in it does better than a tight one.
        landmarks: [5, 2] eyes, nose tip, mouth corners, image-left first.
        yaws: V angles in [-1.5, 1.5].
        pitches: V angles in [-0.8, 0.8]; None: the photo's own.
        rolls: V angles in [-pi, pi]; None: the photo's own.

    Raises:
        TensorError: not an image and five points.
        LandmarkError: the points fix no pose, or lie outside the image.
        InputError: an angle out of range, of which degrees are the usual cause, or lists that differ in length.
    """
    own = _own_pose(image, landmarks)
    count = len(yaws)
    # The photo's own angles are what they are; limits are for those wished for.
    angles = [
        _angles("yaws", yaws, count, MAX_YAW),
        [own.pitch] * count if pitches is None else _angles("pitches", pitches, count, MAX_PITCH),
        [own.roll] * count if rolls is None else _angles("rolls", rolls, count, math.pi),
    ]
    poses = [replace(own, yaw=yaw, pitch=pitch, roll=roll) for yaw, pitch, roll in zip(*angles, strict=True)]
    return _render(image, landmarks, own, poses)


def frontalize(image: NDArray[np.uint8], landmarks: Points) -> View:
    """The face of a photo looking straight at the viewer and upright; arguments and errors as `views`."""
    own = _own_pose(image, landmarks)
    return _render(image, landmarks, own, [replace(own, yaw=0.0, pitch=0.0, roll=0.0)])[0]


def _own_pose(image: NDArray[np.uint8], landmarks: Points) -> Pose:
    expect("image", image, "uint8", None, None, 3)
    pose = fit_pose(landmarks)
    middle = landmarks.mean(0)
    if not (0 <= middle[0] < image.shape[1] and 0 <= middle[1] < image.shape[0]):
        raise LandmarkError(
            f"landmarks: expected them in an image of {image.shape[1]} x {image.shape[0]} px, got their middle at "
            f"({middle[0]:.4g}, {middle[1]:.4g})"
        )
    if pose.scale_px < _LEAST_SCALE_PX:
        raise LandmarkError(
            f"landmarks: expected at least {_LEAST_SCALE_PX:g} px between the eyes, got {pose.scale_px:.3g}; "
            "fractions of the image's side are a likely cause"
        )
    return pose


def _angles(name: str, values: Sequence[float], count: int, limit: float) -> list[float]:
    if len(values) != count:
        raise InputError(f"{name}: expected an angle for each of {count} yaws, got {len(values)}")
    for value in values:
        if not abs(value) <= limit:  # NaN fails too
            hint = "; degrees?" if abs(value) > math.tau else ""
            raise InputError(f"{name}: expected radians in [-{limit:.4g}, {limit:.4g}], got {value:.4g}{hint}")
    return [float(value) for value in values]


def _render(image: NDArray[np.uint8], landmarks: Points, own: Pose, poses: Sequence[Pose]) -> list[View]:
    import torch

    from visavis.face.process.render import render, turn

    points = landmarks.astype(np.float64)
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    stride = max(1, int(own.scale_px * MAP_STEP))  # finer than the head's own depth map there is nothing to find
    results = []
    for pose in poses:
        _, moved = turn(points, own, pose)
        stays = points.mean(0) - moved.mean(0)
        wanted, moved = turn(points, own, replace(pose, shift_xy_px=pose.shift_xy_px + stays))
        rendered = render(pixels, [wanted], symmetric=True, stride=stride)
        colours = rendered.pixels[0].round().clamp(0, 255).byte().permute(1, 2, 0)
        results.append(
            View(colours.contiguous().numpy(), moved.astype(np.float32), rendered.hidden[0].clamp(0, 1).numpy())
        )
    return results
