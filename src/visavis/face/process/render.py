"""From one view of a head to another: where in the photo each pixel of the new view is seen, and its colour.

Per pixel of the new view: the depth map of the mean head in the new pose gives the point of the surface, the pose in
the photo gives where that point is in the photo, and the photo's own depth map whether it is seen there at all.
Around the head the photo is moved along with the head's outline, so that hair and neck stay joined to it.

Shapes: N pictures, P pixels of a picture. "View plane": interocular distances about `shape.CENTRE`, roll taken out.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from visavis.face.process.pose import Pose, project
from visavis.face.process.shape import CENTRE, LANDMARKS, MAP_SIDE, MAP_STEP, REACH, depth_map, rotation

__all__ = ["Rendered", "Turn", "fill", "normals", "render", "shade", "turn"]

_ANGLES = 72  # directions in which the head's outline is kept
_PERSONAL_REACH = 0.7  # IOD over which a landmark's distance from the mean face bends the face around it
# Seen: not behind more than _BIAS of the head, and turned to the viewer by more than the cosine _FACING.
_BIAS, _SOFT = 0.14, 0.08
_FACING, _FACING_SOFT = 0.15, 0.3
# The two sides of a head are alike up to the temples; behind are ears, hair and whatever is beyond.
_SYMMETRIC_FROM_Z, _SYMMETRIC_SOFT = -0.6, 0.4
_CACHED = 1024  # depth maps kept, 0.2 MB each


class Turn(NamedTuple):
    """What it takes to see one photo's head in another pose."""

    source: Pose
    target: Pose
    personal: NDArray[np.float64]  # [5, 3] how far this face's landmarks lie from the mean face's, IOD


class Rendered(NamedTuple):
    pixels: Tensor  # [N, 3, H, W] float
    hidden: Tensor  # [N, H, W] in [0, 1]: how much of it nothing in the photo shows


def turn(landmarks: NDArray[np.float64], source: Pose, target: Pose) -> tuple[Turn, NDArray[np.float64]]:
    """The turn from the pose in a photo to another one, and where the landmarks [5, 2] come to lie."""
    off = (landmarks - project(LANDMARKS, source)) / source.scale_px
    # What the photo does not show, how far the landmarks lie off in depth, is taken to be nothing.
    personal = off @ rotation(source.yaw, source.pitch, source.roll)[:2]
    return Turn(source, target, personal), project(LANDMARKS + personal, target)


class _Look(NamedTuple):
    """The mean head in one pose."""

    maps: Tensor  # [5, S, S] on the view plane: depth, whether the head is there, normal; smooth beyond its edge
    outline: Tensor  # [_ANGLES] radius at which the head ends


@lru_cache(maxsize=_CACHED)
def _look(yaw: float, pitch: float) -> _Look:
    depth = torch.from_numpy(depth_map(yaw, pitch))[None, None]
    mask = depth.isfinite().float()
    depth = fill(depth.nan_to_num(), mask)
    smooth = avg_pool2d(pad(depth, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    slope_y, slope_x = torch.gradient(smooth[0, 0], spacing=MAP_STEP)
    normal = torch.stack([-slope_x, -slope_y, torch.ones_like(slope_x)])
    normal /= normal.norm(dim=0)
    angles = torch.arange(_ANGLES) * (2 * torch.pi / _ANGLES)
    radii = torch.linspace(0, 1, MAP_SIDE)
    rays = radii[:, None, None] * torch.stack([angles.cos(), angles.sin()], 1)
    there = grid_sample(mask, rays[None], align_corners=True)[0, 0] > 0.5
    outline = (radii[:, None] * there).amax(0) * REACH
    around = torch.cat([outline[-2:], outline, outline[:2]])
    return _Look(
        torch.cat([depth[0], mask[0], normal]), avg_pool2d(around[None, None, None], (1, 5), stride=1)[0, 0, 0]
    )


def fill(values: Tensor, weight: Tensor) -> Tensor:
    """Extend [N, C, H, W] smoothly from where weight [N, 1, H, W] in [0, 1] says it is known to everywhere.

    Means of what is known over ever larger squares come in where nothing nearer is known.

    Source: the pull-push pyramid of Gortler et al., The Lumigraph, SIGGRAPH 1996.
    """
    height, width = values.shape[2:]
    if max(height, width) <= 2:
        total = weight.sum((2, 3), keepdim=True)
        mean = (values * weight).sum((2, 3), keepdim=True) / total.clamp_min(1e-12)
        return values * weight + mean * (1 - weight)
    share = avg_pool2d(weight, 2, ceil_mode=True)
    below = avg_pool2d(values * weight, 2, ceil_mode=True) / share.clamp_min(1e-12)
    coarse = fill(below, (share * 2).clamp_max(1))
    return values * weight + interpolate(coarse, (height, width), mode="bilinear") * (1 - weight)


def render(
    images: Tensor, turns: Sequence[Turn], *, symmetric: bool, stride: int = 1, looks_rad: float = 0.0
) -> Rendered:
    """Each picture's head in its new pose.

    Args:
        images: [N, 3, H, W] float.
        turns: N of them.
        symmetric: fill what is hidden from the other side of the face where that is seen.
        stride: find the places only of every so many pixels, and those between by interpolation.
        looks_rad: take the head's shape from the nearest pose on a grid so wide, kept from earlier calls; 0: exactly.
    """
    count, _, height, width = images.shape
    rows, columns = -(-height // stride), -(-width // stride)
    source = _Side.of([turn.source for turn in turns], looks_rad)
    target = _Side.of([turn.target for turn in turns], looks_rad)
    weights = _stacked([turn.personal.T @ _COEFFICIENTS for turn in turns])  # [N, 3, 5]

    def personal(points: Tensor) -> Tensor:
        """[N, 3, P] points of the mean face to how far this face's lie from them."""
        squared = points.square().sum(1, keepdim=True) - 2 * (_KNOTS @ points) + _KNOTS.square().sum(1, keepdim=True)
        return weights @ squared.div(-2 * _PERSONAL_REACH**2).exp()

    def in_source(points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points [N, 3, P] are in the photo, in pixels, and how surely they are seen there."""
        about = source.turned @ (points - _MIDDLE)
        there = source.sample(about[:, :2])
        in_front = ((about[:, 2:] - there[:, :1] + _BIAS) / _SOFT).clamp(0, 1)
        facing = ((there[:, 4:] - _FACING) / _FACING_SOFT).clamp(0, 1)
        own = about[:, :2] + source.turned[:, :2] @ personal(points)
        sure = (in_front * facing).reshape(count, 1, rows, columns)
        # The depth maps' cells would show as teeth.
        smooth = avg_pool2d(sure, 5, stride=1, padding=2, count_include_pad=False)
        return source.to_pixels(own), torch.minimum(sure, smooth).flatten(2)

    last = torch.tensor([[width - 1], [height - 1]])
    plane = target.to_plane(_pixels(rows, columns) * (last / torch.tensor([[columns - 1], [rows - 1]])))
    points, _ = target.surface(plane)
    # The pixel shows the mean face's point that this face's own shape has brought there.
    points, seen = target.surface(plane - target.turned[:, :2] @ personal(points))
    there = seen[:, 1:2]
    place, sure = in_source(points)
    around = source.to_pixels(_around(plane, target.outline, source.outline))
    fields = [place, around, there]
    if symmetric:
        opposite, opposite_sure = in_source(points * torch.tensor([-1.0, 1.0, 1.0])[:, None])
        opposite_sure = opposite_sure * ((points[:, 2:] - _SYMMETRIC_FROM_Z) / _SYMMETRIC_SOFT).clamp(0, 1)
        share = (1 - sure) * opposite_sure
        known = sure + share
        fields += [known * there, opposite, share / known.clamp_min(1e-6)]
    else:
        fields += [sure * there]
    spread = torch.cat(fields, 1).reshape(count, -1, rows, columns)
    if stride > 1:
        spread = interpolate(spread, (height, width), mode="bilinear", align_corners=True)

    def colour(pixels: Tensor) -> Tensor:
        grid = pixels.permute(0, 2, 3, 1) * (2 / last[:, 0]) - 1
        return grid_sample(images, grid, align_corners=True, padding_mode="border")

    there, known = spread[:, 4:5], spread[:, 5:6]
    head = colour(spread[:, :2])
    if symmetric:
        head = torch.lerp(head, colour(spread[:, 6:8]), spread[:, 8:9])
    head = torch.lerp(colour(spread[:, 2:4]), fill(head, known), there)
    return Rendered(head, (there - known)[:, 0])


def normals(poses: Sequence[Pose], height: int, width: int, *, looks_rad: float = 0.0) -> tuple[Tensor, Tensor]:
    """The mean head's normals [N, 3, H, W], z towards the viewer, and where the head is [N, 1, H, W] in [0, 1]."""
    side = _Side.of(poses, looks_rad)
    maps = side.sample(side.to_plane(_pixels(height, width))).reshape(len(poses), 5, height, width)
    return maps[:, 2:], maps[:, 1:2]


class _Side(NamedTuple):
    """One side of the turns: the poses in the photos, or those wanted. Points are columns."""

    turned: Tensor  # [N, 3, 3] yaw and pitch only
    maps: Tensor  # [N, 5, S, S]
    outline: Tensor  # [N, _ANGLES]
    frame: Tensor  # [N, 2, 2] from the view plane to pixels
    shift: Tensor  # [N, 2, 1]

    @classmethod
    def of(cls, poses: Sequence[Pose], looks_rad: float) -> "_Side":
        def nearest(angle: float) -> float:
            return round(angle / looks_rad) * looks_rad if looks_rad else angle

        looks = [_look(nearest(pose.yaw), nearest(pose.pitch)) for pose in poses]
        return cls(
            _stacked([rotation(pose.yaw, pose.pitch) for pose in poses]),
            torch.stack([look.maps for look in looks]),
            torch.stack([look.outline for look in looks]),
            _stacked([pose.scale_px * rotation(0.0, 0.0, pose.roll)[:2, :2] for pose in poses]),
            _stacked([project(CENTRE[None], pose).T for pose in poses]),
        )

    def to_pixels(self, plane: Tensor) -> Tensor:
        return self.frame @ plane + self.shift

    def to_plane(self, pixels: Tensor) -> Tensor:
        return self.frame.inverse() @ (pixels - self.shift)

    def sample(self, plane: Tensor) -> Tensor:
        """[N, 2, P] places of the view plane to [N, 5, P] of `_Look.maps`."""
        grid = (plane / REACH).mT[:, None]
        return grid_sample(self.maps, grid, align_corners=True, padding_mode="border")[:, :, 0]

    def surface(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        """The points of the head [N, 3, P] seen at places of the view plane, and the maps there."""
        seen = self.sample(plane)
        return self.turned.mT @ torch.cat([plane, seen[:, :1]], 1) + _MIDDLE, seen


_MIDDLE = torch.from_numpy(CENTRE).float()[:, None]
_KNOTS = torch.from_numpy(LANDMARKS).float()


def _stacked(values: Sequence[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(values)).float()


def _pixels(height: int, width: int) -> Tensor:
    """[2, H * W] x and y, row by row."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([xs.ravel(), ys.ravel()]).float()


_BETWEEN = np.linalg.norm(LANDMARKS[:, None] - LANDMARKS, axis=2) / _PERSONAL_REACH
_COEFFICIENTS: NDArray[np.float64] = np.linalg.inv(np.exp(-np.square(_BETWEEN) / 2))


def _around(plane: Tensor, target_outline: Tensor, source_outline: Tensor) -> Tensor:
    """What lies around the head is moved with its outline, the less the farther off it is."""
    radius = plane.norm(dim=1).clamp_min(1e-6)
    place = torch.atan2(plane[:, 1], plane[:, 0]) * (_ANGLES / (2 * torch.pi)) % _ANGLES
    low = place.floor()
    first = low.long() % _ANGLES
    second = (first + 1) % _ANGLES

    def at(outline: Tensor) -> Tensor:
        return torch.lerp(outline.gather(1, first), outline.gather(1, second), place - low)

    own = at(target_outline)
    beyond = (radius - own).clamp_min(0)
    factor: Tensor = 1 + (at(source_outline) - own) * (-beyond).exp() / radius
    return plane * factor[:, None]


def shade(normals: Tensor, there: Tensor, direction: Tensor, ambient: Tensor) -> Tensor:
    """What directed light multiplies pixel values by: [N, 1, H, W], in the mean over the head 1 and 1 beside it.

    Args:
        normals: [N, 3, H, W], as `normals` gives them.
        there: [N, 1, H, W].
        direction: [N, 3] towards the light, of any length.
        ambient: [N] share of the light that comes from everywhere.

    Source: Lambert's cosine law.
    """
    unit: Tensor = direction / direction.norm(dim=1, keepdim=True)
    facing: Tensor = torch.einsum("nchw,nc->nhw", normals, unit)[:, None].clamp_min(0)
    share = ambient[:, None, None, None]
    light: Tensor = share + (1 - share) * facing + 0.02  # no place is quite black
    mean = (light * there).mean((1, 2, 3), keepdim=True) / there.mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
    # Pixel values are about this root of the light.
    gain: Tensor = torch.lerp(torch.ones_like(light), (light / mean.clamp_min(1e-6)) ** (1 / 2.2), there)
    return gain
