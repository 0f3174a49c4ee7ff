"""Where faces will be: a Kalman filter of constant velocity for each number of a box.

N: tracks. A box is [centre x, centre y, width, height] in pixels here. Its four numbers are filtered each by itself:
their noises are independent, so the filter of all eight states falls apart into four of two, without approximation.

Speeds wander as by white noise of acceleration, so that a prediction over one second is the prediction over two halves
of it: frames may come at any times. All noises are in sizes of the face, as near faces move by more pixels than far
ones.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import expect

__all__ = ["Motion", "correct", "from_corners", "predict", "start", "to_corners"]

Values = NDArray[np.float64]

# Of x, y, width, height. Somebody who walks past moves by up to ten face widths a second.
_FIRST_SPEED = np.array([5.0, 2.5, 0.5, 0.5])  # standard deviation, sizes a second
_ACCELERATION = np.array([4.0, 2.0, 0.5, 0.5])  # what the speed wanders in a second: sizes a second, standard deviation
_MEASUREMENT = np.array([0.05, 0.05, 0.08, 0.08])  # standard deviation of the detector's boxes, sizes


class Motion(NamedTuple):
    """Means and covariances of (value, speed): pixels and pixels a second."""

    mean: Values  # [N, 4, 2]
    covariance: Values  # [N, 4, 2, 2]
    size_px: Values  # [N] of the face, when the track began or was last seen

    @property
    def boxes(self) -> Values:
        """[N, 4] where the faces are believed to be, left, top, right, bottom."""
        return to_corners(self.mean[:, :, 0])

    @property
    def doubt_px(self) -> Values:
        """[N] standard deviation of the centre, along the axis where it is larger."""
        doubt: Values = np.sqrt(self.covariance[:, :2, 0, 0].max(1, initial=0.0))
        return doubt


def from_corners(boxes_xyxy: NDArray[np.floating]) -> Values:
    """[N, 4] left, top, right, bottom to centre x, centre y, width, height."""
    low, high = np.asarray(boxes_xyxy[:, :2], np.float64), np.asarray(boxes_xyxy[:, 2:], np.float64)
    return np.concatenate([(low + high) / 2, high - low], 1)


def to_corners(boxes_cxywh: Values) -> Values:
    """The reverse of `from_corners`."""
    centre, size = boxes_cxywh[:, :2], boxes_cxywh[:, 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def start(boxes_xyxy: NDArray[np.floating]) -> Motion:
    """Tracks of which one box each is known.

    Raises:
        TensorError: `boxes_xyxy` is not [N, 4].
    """
    expect("boxes_xyxy", boxes_xyxy, "float", None, 4)
    values = from_corners(boxes_xyxy)
    size_px = _size(values)
    mean = np.stack([values, np.zeros_like(values)], 2)
    covariance = np.zeros((*values.shape, 2, 2))
    covariance[:, :, 0, 0] = (_MEASUREMENT * size_px[:, None]) ** 2
    covariance[:, :, 1, 1] = (_FIRST_SPEED * size_px[:, None]) ** 2
    return Motion(mean, covariance, size_px)


def predict(motion: Motion, after_s: float) -> Motion:
    """The same tracks so many seconds later, at least 0."""
    step = np.array([[1.0, after_s], [0.0, 1.0]])
    spread = np.array([[after_s**3 / 3, after_s**2 / 2], [after_s**2 / 2, after_s]])
    density = (_ACCELERATION * motion.size_px[:, None]) ** 2
    return Motion(
        motion.mean @ step.T,
        step @ motion.covariance @ step.T + density[:, :, None, None] * spread,
        motion.size_px,
    )


def correct(motion: Motion, boxes_xyxy: NDArray[np.floating]) -> Motion:
    """The same tracks once a box each, [N, 4], has been seen."""
    expect("boxes_xyxy", boxes_xyxy, "float", len(motion.mean), 4)
    values = from_corners(boxes_xyxy)
    size_px = _size(values)
    noise = (_MEASUREMENT * size_px[:, None]) ** 2
    gain = motion.covariance[..., 0] / (motion.covariance[..., 0, 0] + noise)[..., None]  # [N, 4, 2]
    mean = motion.mean + gain * (values - motion.mean[..., 0])[..., None]
    covariance = motion.covariance - gain[..., :, None] * motion.covariance[..., None, 0, :]
    return Motion(mean, covariance, size_px)


def _size(values: Values) -> Values:
    """The geometric mean of width and height, at least a pixel."""
    size: Values = np.sqrt(np.maximum(values[:, 2], 1.0) * np.maximum(values[:, 3], 1.0))
    return size
