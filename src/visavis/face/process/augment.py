"""Training crops changed at random: pose, light, colour, things in front, blur, file. One call a batch.

N crops of H x W pixels. Mirroring is left to the caller, who may want both images.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visavis.errors import expect
from visavis.face.align import fit_similarity
from visavis.face.process.photometric import blur, coarsen, compress, motion_blur, occlude, tint
from visavis.face.process.pose import Points, Pose, fit_poses
from visavis.face.process.views import MAX_PITCH, MAX_YAW

__all__ = ["augment"]

# How often each change is made.
_TURNED, _LIT, _TINTED, _OCCLUDED, _COARSE, _BLURRED, _MOVED, _COMPRESSED = 0.5, 0.25, 0.5, 0.15, 0.2, 0.1, 0.1, 0.3
_YAW, _PITCH = 0.9, 0.3  # radians a frontal face is turned at most
_ROLL, _SCALE, _SHIFT = 0.05, 0.04, 0.02  # deviations of the alignment: radians, share, share of the crop
_LOOKS_RAD = math.radians(4)  # the mean head's shape is kept for poses so far apart


def augment(crops: NDArray[np.uint8], landmarks: Points, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Change each of a batch of aligned crops at random; what a crop becomes depends on the generator's state only.

    Half of the faces are turned, the farther the more of the face the photo shows, and aligned anew as a turned face
    would be. Crops whose landmarks fix no pose are not turned or lit, everything else happens to them too.

    Args:
        crops: uint8 [N, H, W, 3] RGB.
        landmarks: float [N, 5, 2] in pixels of the crops.
        generator: where chance comes from.

    Returns:
        uint8 [N, H, W, 3], new.

    Raises:
        TensorError: shapes or types other than these.
    """
    expect("crops", crops, "uint8", None, None, None, 3)
    expect("landmarks", landmarks, "float", len(crops), 5, 2)
    points = landmarks.astype(np.float64)
    poses = fit_poses(points)
    turned, lit = (generator.random(len(crops)) < chance for chance in (_TURNED, _LIT))
    # Drawn for all, so that a crop's fate does not hang on whether another's landmarks are good.
    draws = generator.uniform(-1, 1, (len(crops), 2))
    jitter = generator.standard_normal((len(crops), 4))
    lights = generator.standard_normal((len(crops), 3))
    ambients = generator.uniform(0.2, 0.7, len(crops))
    seeds = generator.integers(2**63, size=len(crops))
    results = crops.copy()
    _turn(results, points, poses, turned, draws, jitter)
    _light(results, poses, lit, lights, ambients)
    for index, seed in enumerate(seeds):
        results[index] = _photographed(results[index], np.random.default_rng(seed))
    return results


def _turn(
    crops: NDArray[np.uint8],
    points: NDArray[np.float64],
    poses: list[Pose | None],
    wanted: NDArray[np.bool_],
    draws: NDArray[np.float64],
    jitter: NDArray[np.float64],
) -> None:
    """Turn the wanted ones, in place; `poses` become the new ones."""
    import torch

    from visavis.face.process.render import render, turn

    size = np.array(crops.shape[2:0:-1])
    chosen, turns = [], []
    for index, pose in enumerate(poses):
        if pose is None or not wanted[index]:
            continue
        seen = abs(math.cos(pose.yaw))  # the less of the face is seen, the less it can be turned
        target = replace(
            pose,
            yaw=float(np.clip(pose.yaw + _YAW * seen * draws[index, 0], -MAX_YAW, MAX_YAW)),
            pitch=float(np.clip(pose.pitch + _PITCH * seen * draws[index, 1], -MAX_PITCH, MAX_PITCH)),
        )
        _, moved = turn(points[index], pose, target)
        roll, scale = _ROLL * jitter[index, 0], math.exp(_SCALE * jitter[index, 1])
        middle = points[index].mean(0)
        matrix = fit_similarity(moved, points[index])
        c, s = scale * math.cos(roll), scale * math.sin(roll)
        shaken = np.array([[c, -s], [s, c]])
        linear = shaken @ matrix[:, :2]
        shift = shaken @ (matrix[:, 2] - middle) + middle + _SHIFT * size * jitter[index, 2:]
        target = replace(
            target,
            roll=target.roll + math.atan2(linear[1, 0], linear[0, 0]),
            scale_px=target.scale_px * math.hypot(linear[0, 0], linear[1, 0]),
            shift_xy_px=linear @ target.shift_xy_px + shift,
        )
        poses[index] = target
        chosen.append(index)
        turns.append(turn(points[index], pose, target)[0])
    if chosen:
        pixels = torch.from_numpy(crops[chosen]).permute(0, 3, 1, 2).float()
        rendered = render(pixels, turns, symmetric=True, stride=2, looks_rad=_LOOKS_RAD).pixels
        crops[chosen] = rendered.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def _light(
    crops: NDArray[np.uint8],
    poses: list[Pose | None],
    wanted: NDArray[np.bool_],
    lights: NDArray[np.float64],
    ambients: NDArray[np.float64],
) -> None:
    """Light the wanted ones from somewhere before them, in place."""
    import torch

    from visavis.face.process.render import normals, shade

    chosen = [index for index, pose in enumerate(poses) if pose is not None and wanted[index]]
    if not chosen:
        return
    surface, there = normals(
        [pose for index in chosen if (pose := poses[index])], *crops.shape[1:3], looks_rad=_LOOKS_RAD
    )
    directions = torch.from_numpy(lights[chosen]).float()
    directions[:, 2] = directions[:, 2].abs() + 0.2
    gain = shade(surface, there, directions, torch.from_numpy(ambients[chosen]).float())
    lit = crops[chosen] * gain.permute(0, 2, 3, 1).numpy()
    crops[chosen] = np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def _photographed(crop: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """What lies between a face and its file, in that order."""
    height, width = crop.shape[:2]
    happens = generator.random(6) < [_TINTED, _OCCLUDED, _COARSE, _BLURRED, _MOVED, _COMPRESSED]
    if happens[0]:
        exposure = math.exp(generator.normal(0, 0.15))
        gains = exposure * np.exp(generator.normal(0, 0.05, 3))
        crop = tint(crop, gains=[float(gain) for gain in gains], gamma=math.exp(generator.normal(0, 0.2)))
    if happens[1]:
        sides = np.array([width, height]) * generator.uniform(0.1, 0.45, 2)
        low = (generator.random(2) * (np.array([width, height]) - sides)).astype(int)
        high = np.maximum(low + sides.astype(int), low + 1)
        crop = occlude(
            crop, box_xyxy_px=[*low.tolist(), *high.tolist()], colour=generator.integers(256, size=3).tolist()
        )
    if happens[2]:
        crop = coarsen(crop, factor=max(1.0, generator.uniform(1.2, 4) * max(width, height) / 112))
    if happens[3]:
        crop = blur(crop, sigma_px=generator.uniform(0.3, 1.8) * max(width, height) / 112)
    if happens[4]:
        length_px = generator.uniform(1, 6) * max(width, height) / 112
        crop = motion_blur(crop, length_px=length_px, angle_rad=generator.uniform(-math.pi / 2, math.pi / 2))
    if happens[5]:
        crop = compress(crop, quality=int(generator.integers(20, 90)))
    return crop
