"""How much a face can be trusted to match: what is measurable about it, weighed by what calibration found.

The score estimates the chance that this face matches a good frontal photo of the same person at a false-match rate of
1 in 1000. It ranks photos of one person; it says nothing about a person.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.errors import expect
from visavis.face.records import AlignedFace, Detection

__all__ = ["MEASURES", "QualityModel", "measure"]

MEASURES = (
    "size",  # log2 of the crop's scale: how many photo pixels one crop pixel is made of
    "sharpness",  # log of the crop's mean squared Laplacian over its variance
    "contrast",  # log of the standard deviation of the crop's grey values
    "yaw",  # how far the nose tip lies from the middle of the eyes, in eye distances
    "pitch",  # how far the nose tip lies from its usual place between eyes and mouth, as a share of that height
    "roll",  # sine of the head's turn in the photo
    "residual",  # log of the landmarks' misfit, as a share of the crop
    "score",  # log odds of the detector's score
    "norm",  # log of the features' length before normalising
)


@dataclass(frozen=True, slots=True)
class QualityModel:
    """A logistic model of the measures: ``sigmoid(bias + weights @ m + curvature @ m**2)`` with m standardised."""

    mean: NDArray[np.float64]  # [M]
    deviation: NDArray[np.float64]  # [M]
    weights: NDArray[np.float64]  # [M]
    curvature: NDArray[np.float64]  # [M]
    bias: float

    def __call__(self, measures: NDArray[np.float64]) -> NDArray[np.float64]:
        """[N, M] measures to [N] scores in (0, 1)."""
        expect("measures", measures, "float", None, len(MEASURES))
        # Beyond four deviations nothing was ever calibrated; the extrapolation stops there.
        standard = np.clip((measures - self.mean) / self.deviation, -4, 4)
        return 1 / (1 + np.exp(-(self.bias + standard @ self.weights + standard**2 @ self.curvature)))


def measure(detection: Detection, aligned: AlignedFace, norm: float) -> NDArray[np.float64]:
    """[M] the measures of one face, in the order of `MEASURES`; all are finite.

    Args:
        detection: the face in its photo, whose pixels are those of the decoded photo.
        aligned: the same face cut out.
        norm: length of its features before normalising.
    """
    rows, columns = aligned.crop.shape[:2]
    face = aligned.crop[rows // 5 : -(rows // 5), columns // 5 : -(columns // 5)]  # without hair and ground
    grey = face @ np.full(3, 1 / 3)
    inner = grey[1:-1, 1:-1]
    laplacian = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    variance = inner.var() + 1.0
    scale = np.hypot(aligned.matrix[0, 0], aligned.matrix[1, 0])
    left_eye, right_eye, nose, left_mouth, right_mouth = (
        detection.landmarks_xy_px @ aligned.matrix[:, :2].T + aligned.matrix[:, 2]
    )
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across = right_eye - left_eye
    wide = max(float(np.hypot(*across)), 1e-3 * columns)
    tall = max(abs(float(mouth[1] - eyes[1])), 1e-3 * rows)
    score = min(max(detection.score, 1e-4), 1 - 1e-4)
    return np.array(
        [
            -np.log2(scale),
            np.log((laplacian.var() + 1e-3) / variance),
            0.5 * np.log(variance),
            abs(float(nose[0] - eyes[0])) / wide,
            float(nose[1] - eyes[1]) / tall,
            abs(aligned.matrix[1, 0]) / scale,
            np.log(aligned.residual_px / columns + 1e-4),
            np.log(score / (1 - score)),
            np.log(norm),
        ]
    )
