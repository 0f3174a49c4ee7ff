"""The measures of verification and clustering as functions of arrays.

Shapes: N pairs or faces.
A pair is accepted when its similarity is at or above the threshold: equal ones together or not at all.
FAR is the share of the pairs of different people that are accepted, TAR that of the pairs of one person.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visavis.errors import InputError, TensorError, expect

__all__ = [
    "Agreement",
    "Interval",
    "Roc",
    "Verification",
    "bar",
    "bcubed",
    "equal_error_rate",
    "pairwise",
    "refuse_infinite",
    "roc",
    "tar_at_far",
    "verification",
    "wilson",
]


class Verification(NamedTuple):
    accuracy: float  # mean over the folds
    std: float  # of the folds' accuracies, dividing by their number


class Roc(NamedTuple):
    thresholds: NDArray[np.float64]  # [T] falling, from +inf: every distinct similarity
    far: NDArray[np.float64]  # [T] rising from 0 to 1
    tar: NDArray[np.float64]  # [T] rising from 0 to 1


class Agreement(NamedTuple):
    precision: float
    recall: float
    f: float  # their harmonic mean


class Interval(NamedTuple):
    low: float
    high: float


def verification(similarities: ArrayLike, same: ArrayLike, folds: ArrayLike) -> Verification:
    """Accuracy of each fold at the threshold that is best on all other folds: mean and standard deviation.

    Thresholds tried lie midway between neighbouring similarities of the other folds, or accept all or none;
    of equally good ones the highest is taken.

    Args:
        similarities: [N] float.
        same: [N] bool, whether the pair shows one person.
        folds: [N] any numbers or names, a pair's fold; ten folds for LFW and CFP.

    Raises:
        InputError: fewer than two folds, or as `roc`.

    Source: Huang et al., Labeled Faces in the Wild, UMass TR 07-49, 2007, view 2.
    """
    values, truth = _pairs(similarities, same)
    names, place = np.unique(np.asarray(folds), return_inverse=True)
    if len(place) != len(values) or len(names) < 2:
        raise InputError(
            f"folds: expected a fold for each of {len(values)} pairs, at least two folds, "
            f"got {len(place)} pairs in {len(names)}"
        )
    accuracies = []
    for fold in range(len(names)):
        test = place == fold
        threshold = _best_threshold(values[~test], truth[~test])
        accuracies.append(np.mean((values[test] >= threshold) == truth[test]))
    return Verification(float(np.mean(accuracies)), float(np.std(accuracies)))


def roc(similarities: ArrayLike, same: ArrayLike) -> Roc:
    """FAR and TAR at every threshold that makes a difference; similarities [N] float, same [N] bool.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a similarity not finite, no pair of one person, or no pair of different people.

    Source: ISO/IEC 19795-1.
    """
    values, truth = _pairs(similarities, same)
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # of each run of equal similarities
    far = np.cumsum(~truth)[last] / (~truth).sum()
    tar = np.cumsum(truth)[last] / truth.sum()
    return Roc(np.append(np.inf, values[last]), np.append(0.0, far), np.append(0.0, tar))


def tar_at_far(similarities: ArrayLike, same: ArrayLike, far: float) -> float:
    """The highest TAR a threshold reaches while its FAR is at most `far`; arguments and errors as `roc`.

    That is the TAR of the lowest such threshold. Nothing is interpolated: with 1,000 pairs of different
    people a `far` of .0015 is one of .001. A pair of different people that would bring the FAR above `far`
    keeps out the pairs of equal similarity too.

    Source: ISO/IEC 19795-1; as in the IJB protocols.
    """
    values, truth = _pairs(similarities, same)
    return float(np.mean(values[truth] > bar(values[~truth], far)))


def equal_error_rate(similarities: ArrayLike, same: ArrayLike) -> float:
    """The FAR where it equals 1 - TAR, on straight lines between the points of the ROC; as `roc`.

    Source: ISO/IEC 19795-1.
    """
    _, far, tar = roc(similarities, same)
    excess = far + tar - 1.0  # from -1 to 1, never falling
    right = int(np.argmax(excess >= 0.0))
    share = -excess[right - 1] / (excess[right] - excess[right - 1])
    return float(far[right - 1] + share * (far[right] - far[right - 1]))


def pairwise(labels_true: ArrayLike, labels_predicted: ArrayLike) -> Agreement:
    """Of the pairs put together, the share that belong together; of those that do, the share put together.

    A clustering without pairs has precision 1, a truth without pairs recall 1.

    Args:
        labels_true: [N] numbers or names.
        labels_predicted: [N] numbers or names; only their equality counts.

    Raises:
        InputError: no labels, or of different number.

    Source: Amigo et al., A comparison of extrinsic clustering metrics, Information Retrieval 12, 2009.
    """
    cells, true, predicted = _contingency(labels_true, labels_predicted)

    def pairs(sizes: NDArray[np.int64]) -> int:
        return int((sizes * (sizes - 1)).sum()) // 2

    right, claimed, due = pairs(cells[:, 2]), pairs(predicted), pairs(true)
    return _agreement(right / claimed if claimed else 1.0, right / due if due else 1.0)


def bcubed(labels_true: ArrayLike, labels_predicted: ArrayLike) -> Agreement:
    """Means over faces: the share of a face's cluster that is its person, and of its person its cluster.

    A face counts itself. With n faces of person i in cluster j, precision is the sum of
    ``n**2 / |cluster j|`` over all i and j, divided by N; recall that of ``n**2 / |person i|``.
    Arguments and errors as `pairwise`.

    Source: Bagga and Baldwin, COLING-ACL 1998.
    """
    cells, true, predicted = _contingency(labels_true, labels_predicted)
    person, group, count = cells.T
    precision = np.sum(count**2 / predicted[group]) / true.sum()
    recall = np.sum(count**2 / true[person]) / true.sum()
    return _agreement(float(precision), float(recall))


def wilson(successes: int, trials: int) -> Interval:
    """The 95 % confidence interval of a share; unlike the normal one it holds near 0 and 1.

    Raises:
        InputError: no trials, or successes outside [0, trials].

    Source: Wilson, JASA 22(158), 1927.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(f"successes: expected 0 to {trials} in at least one trial, got {successes}")
    from visavis.blocks.approximation import intervals

    return Interval(*intervals.wilson(successes / trials, trials))


def _pairs(similarities: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truth = np.asarray(similarities), np.asarray(same)
    expect("similarities", values, "float", None)
    if truth.dtype != np.bool_ or truth.shape != values.shape:
        raise TensorError(f"same: expected bool [{len(values)}], got {truth.dtype} {list(truth.shape)}")
    refuse_infinite("similarities", values)
    if truth.all() or not truth.any():
        raise InputError(
            f"same: expected pairs of one person and pairs of different people, got {truth.sum()} and {(~truth).sum()}"
        )
    return values.astype(np.float64), truth


def refuse_infinite(name: str, array: NDArray[Any]) -> None:
    """Raise InputError where a number is infinite or NaN."""
    if bad := int((~np.isfinite(array)).sum()):
        raise InputError(f"{name}: expected finite numbers, got {bad} of {array.size} infinite or NaN")


def bar(impostors: NDArray[np.floating[Any]], far: float) -> float:
    """The similarity to exceed, lest more than a share of `far` of `impostors` be accepted; -inf: all may be.

    Args:
        impostors: [N] similarities of different people.
        far: share in [0, 1].

    Raises:
        InputError: `far` is no share.
    """
    if not 0.0 <= far <= 1.0:
        raise InputError(f"far: expected a share in [0, 1], got {far}")
    shares = np.arange(1, len(impostors) + 1) / len(impostors)
    allowed = int(np.searchsorted(shares, far, side="right"))
    return float(-np.sort(-impostors)[allowed]) if allowed < len(impostors) else -np.inf


def _best_threshold(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    points = roc(values, truth)
    right = points.tar * truth.sum() - points.far * (~truth).sum()  # right answers, but for a constant
    best = int(np.argmax(np.round(right)))
    return float(np.mean([points.thresholds[best], np.append(points.thresholds, -np.inf)[best + 1]]))


def _contingency(
    labels_true: ArrayLike, labels_predicted: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """[cells, 3] person, cluster and number of faces of every cell that is not empty; the sizes of both."""
    true, predicted = np.asarray(labels_true), np.asarray(labels_predicted)
    if true.ndim != 1 or true.shape != predicted.shape or len(true) == 0:
        raise InputError(
            f"labels_predicted: expected as many labels as labels_true, at least one, "
            f"got {list(predicted.shape)} for {list(true.shape)}"
        )
    people, person = np.unique(true, return_inverse=True)
    groups, group = np.unique(predicted, return_inverse=True)
    cell, count = np.unique(person * len(groups) + group, return_counts=True)
    cells = np.stack([cell // len(groups), cell % len(groups), count], axis=1)
    return cells, np.bincount(person, minlength=len(people)), np.bincount(group, minlength=len(groups))


def _agreement(precision: float, recall: float) -> Agreement:
    total = precision + recall
    return Agreement(precision, recall, 2 * precision * recall / total if total else 0.0)
