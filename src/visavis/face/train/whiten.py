"""A linear layer in closed form that takes out what changes in a face when its head turns.

Features of one person differ from photo to photo, in some directions more than in others: those in which a turned head
moves them differ most. Made shorter, they say less in a comparison.

N: faces, D: features.
"""

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect

__all__ = ["turned", "whiten"]

Features = NDArray[np.float32]

_MOST_TURNED = 1.5  # beyond it landmarks tell no more than that it is a profile


def turned(landmarks: Features) -> NDArray[np.float64]:
    """[N, 5, 2] px to [N]: how far a head is turned, as the nose tip's way from between the eyes in eye distances."""
    expect("landmarks", landmarks, "float", None, 5, 2)
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    apart = np.maximum(np.linalg.norm(right - left, axis=1), 1.0)
    aside: NDArray[np.float64] = np.abs(nose[:, 0] - (left + right)[:, 0] / 2).astype(np.float64) / apart
    return np.minimum(aside, _MOST_TURNED)


def whiten(
    features: Features, labels: NDArray[np.int64], turns: NDArray[np.float64], *, shrinkage: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The layer ``y = A x + b`` that makes the photos of a person differ alike in all directions.

    W is the mean of ``(x_i - x_j) (x_i - x_j)'`` over the pairs of photos of one person, each with the weight
    ``(turn_i - turn_j)**2``, and ``A = g (W + r I)**-1/2``, r being `shrinkage` times the mean variance and g such that
    features vary as much as before. ``b = m - A m`` keeps the mean m in its place: a cosine is taken from the origin,
    and an embedder whose features lie all to one side of it has learned to be compared from there. The usual method
    weighs all pairs alike and moves the mean to the origin, both of which did worse, see the docs.

    Args:
        features: float [N, D], not normalised.
        labels: int64 [N], who each face is.
        turns: [N] as from `turned`.
        shrinkage: more than 0; the larger, the nearer the layer is to none.

    Returns:
        A [D, D], symmetric, and b [D], float64.

    Raises:
        TensorError: shapes or types other than these.
        InputError: `shrinkage` out of range, or no person with photos from different sides.

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
    scatter, total = np.zeros((len(mean), len(mean))), 0.0
    for person in np.unique(labels):
        own = labels == person
        weights = (turns[own, None] - turns[own]) ** 2
        # The sum over pairs of w_ij (x_i - x_j)(x_i - x_j)' is X' L X, with the graph's Laplacian L.
        scatter += centred[own].T @ (np.diag(weights.sum(1)) - weights) @ centred[own]
        total += weights.sum() / 2
    if not total > 0.0:
        raise InputError("crops: expected people with photos from different sides, got every head turned alike")
    scatter /= total
    values, vectors = np.linalg.eigh(scatter + shrinkage * np.trace(scatter) / len(mean) * np.eye(len(mean)))
    matrix = (vectors * values**-0.5) @ vectors.T
    matrix *= np.sqrt(np.square(centred).sum() / np.square(centred @ matrix).sum())
    return matrix, mean - matrix @ mean
