"""A linear layer in closed form that takes out what changes in a face when its head turns.

Each person's photos are of two kinds, facing the camera and turned aside. How the means of both differ, person by
person, tells the directions in which a turning head moves features. Made shorter, they say less in a comparison.

N: faces, D: features.
"""

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect

__all__ = ["turned", "whiten"]

Features = NDArray[np.float32]

_ASIDE = 0.4  # eye distances that the nose tip is off the middle: some 30 degrees


def turned(landmarks: Features) -> NDArray[np.float64]:
    """[N, 5, 2] px to [N]: how far a head is turned, as the nose tip's way from between the eyes in eye distances."""
    expect("landmarks", landmarks, "float", None, 5, 2)
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    apart = np.maximum(np.linalg.norm(right - left, axis=1), 1.0)
    aside: NDArray[np.float64] = np.abs(nose[:, 0] - (left + right)[:, 0] / 2).astype(np.float64) / apart
    return aside


def whiten(
    features: Features, labels: NDArray[np.int64], turns: NDArray[np.float64], *, shrinkage: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The layer ``y = A x + b`` in which a turned head moves the features alike in all directions.

    W is the mean of ``d d'`` over the people with photos of both kinds, d being the difference between the means of the
    two; ``A = g (W + r I)**-1/2``, r being `shrinkage` times the mean variance and g such that features vary as much as
    before. ``b = m - A m`` keeps the mean m in its place: a cosine is taken from the origin, and an embedder whose
    features lie all to one side of it has learned to be compared from there. The usual method takes all differences
    within a person and moves the mean to the origin. What to expect of this one: docs/training.md.

    Args:
        features: float [N, D], not normalised.
        labels: int64 [N], who each face is.
        turns: [N] as from `turned`; a head is taken to be turned aside from 0.4 on.
        shrinkage: more than 0; the larger, the nearer the layer is to none.

    Returns:
        A [D, D], symmetric, and b [D], float64.

    Raises:
        TensorError: shapes or types other than these.
        InputError: `shrinkage` out of range, or nobody with photos of both kinds.

    Source: Hatch, Kajarekar and Stolcke, Within-class covariance normalization for SVM-based speaker recognition,
        Interspeech 2006.
    """
    expect("features", features, "float", None, None)
    expect("labels", labels, "int64", len(features))
    expect("turns", turns, "float", len(features))
    if not 0.0 < shrinkage < np.inf:
        raise InputError(f"shrinkage: expected more than 0, got {shrinkage}")
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    aside = turns > _ASIDE
    differences = [
        centred[own & aside].mean(0) - centred[own & ~aside].mean(0)
        for own in (labels == person for person in np.unique(labels))
        if (own & aside).any() and (own & ~aside).any()
    ]
    if not differences:
        raise InputError(
            "crops: expected people with photos facing the camera and turned aside, got nobody with both; "
            "adapt by other layers"
        )
    scatter = np.array(differences).T @ np.array(differences) / len(differences)
    values, vectors = np.linalg.eigh(scatter + shrinkage * np.trace(scatter) / len(mean) * np.eye(len(mean)))
    matrix = (vectors * values**-0.5) @ vectors.T
    matrix *= np.sqrt(np.square(centred).sum() / np.square(centred @ matrix).sum())
    return matrix, mean - matrix @ mean
