"""The measures of verification with a weight for every person: each is what `measures` gives for repeated pairs.

Built once and asked often: pairs are sorted here, so that a resample costs a few passes over them.
Shapes: N pairs, G of one person, I of two people, K people.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, TensorError, expect
from visavis.face.evaluate.measures import refuse_infinite

__all__ = ["Totals", "WeightedPairs"]

Values = NDArray[np.float64]


class Totals(NamedTuple):
    """Weights of the pairs summed up from the most similar on."""

    genuine: Values  # [G + 1] from 0
    impostor: Values  # [I + 1] from 0


class WeightedPairs:
    """Pairs of photos of known people, sorted by similarity."""

    def __init__(
        self, similarities: NDArray[np.float64], people: NDArray[np.int64], folds: NDArray[np.int64] | None = None
    ) -> None:
        """Sort the pairs.

        Args:
            similarities: [N] float.
            people: int64 [N, 2] in [0, K), who is compared with whom.
            folds: int64 [N], see `measures.verification`; None: no accuracy is asked for.

        Raises:
            TensorError: shapes or types other than these.
            InputError: a similarity not finite, no pair of one person, or no pair of different people.
        """
        expect("similarities", similarities, "float", None)
        expect("people", people, "int64", len(similarities), 2)
        if folds is not None and folds.shape != similarities.shape:
            raise TensorError(f"folds: expected [{len(similarities)}], got {list(folds.shape)}")
        refuse_infinite("similarities", similarities)
        order = np.argsort(-similarities, kind="stable")
        self._similarities = similarities[order].astype(np.float64)  # falling
        self._first, self._second = people[order].T
        self._same = self._first == self._second
        self._folds = None if folds is None else folds[order]
        self._genuine, self._impostors = self._similarities[self._same], self._similarities[~self._same]
        if not len(self._genuine) or not len(self._impostors):
            raise InputError(
                "people: expected pairs of one person and pairs of different people, "
                f"got {len(self._genuine)} and {len(self._impostors)}"
            )
        self._genuine_of = self._first[self._same]
        self._impostors_of = self._first[~self._same], self._second[~self._same]
        thresholds = self._similarities[np.append(np.diff(self._similarities) != 0, True)]  # each once, falling
        # How many of each kind are at or above each of them.
        self._genuine_at = np.searchsorted(-self._genuine, -thresholds, side="right")
        self._impostors_at = np.searchsorted(-self._impostors, -thresholds, side="right")

    def totals(self, weight: Values) -> Totals:
        """The sums on which all other methods work, for [K] weights of people."""
        genuine = weight[self._genuine_of]
        first, second = self._impostors_of
        return Totals(_sums(genuine), _sums(weight[first] * weight[second]))

    def bar(self, totals: Totals, far: float) -> float:
        """The similarity to exceed, as `measures.bar`; NaN: no pair of different people has weight."""
        sums = totals.impostor
        if not sums[-1] > 0:
            return np.nan
        allowed = int(np.searchsorted(sums[1:] / sums[-1], far, side="right"))
        return float(self._impostors[allowed]) if allowed < len(self._impostors) else -np.inf

    def tar(self, totals: Totals, bar: float) -> float:
        """The share of pairs of one person above `bar`."""
        if not totals.genuine[-1] > 0 or np.isnan(bar):
            return np.nan
        return float(totals.genuine[np.searchsorted(-self._genuine, -bar)] / totals.genuine[-1])

    def equal_error_rate(self, totals: Totals) -> float:
        """As `measures.equal_error_rate`; NaN where one kind of pairs has no weight."""
        genuine, impostor = totals
        if not (genuine[-1] > 0 and impostor[-1] > 0):
            return np.nan

        def rates(index: int) -> tuple[float, float]:
            """FAR at a threshold, and how far it and TAR together exceed 1, which never falls."""
            if index < 0:
                return 0.0, -1.0
            far = float(impostor[self._impostors_at[index]] / impostor[-1])
            return far, far + float(genuine[self._genuine_at[index]] / genuine[-1]) - 1.0

        low, high = -1, len(self._genuine_at) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if rates(middle)[1] >= 0.0 else (middle, high)
        (far, below), (next_far, above) = rates(low), rates(high)
        return far - below / (above - below) * (next_far - far)

    def accuracies(self, weight: Values) -> Values:
        """Of each fold the accuracy as in `measures.verification`; NaN: no pair of it has weight."""
        assert self._folds is not None
        weights = weight[self._first] * np.where(self._same, 1.0, weight[self._second])
        gain = np.where(self._same, weights, -weights)
        results = []
        for fold in np.unique(self._folds):
            test = self._folds == fold
            train = ~test & (weights > 0)
            threshold = _best_threshold(self._similarities[train], gain[train])
            right = (self._similarities[test] >= threshold) == self._same[test]
            total = weights[test].sum()
            results.append(float(weights[test][right].sum() / total) if total > 0 else np.nan)
        return np.array(results)

    def measure(self, weight: Values, fars: Sequence[float]) -> Values:
        """In a row: the equal error rate, TAR at every FAR, and with folds the mean accuracy over them."""
        totals = self.totals(weight)
        row = [self.equal_error_rate(totals), *(self.tar(totals, self.bar(totals, far)) for far in fars)]
        if self._folds is not None:
            accuracies = self.accuracies(weight)
            row.append(float(np.nanmean(accuracies)) if np.isfinite(accuracies).any() else np.nan)
        return np.array(row)


def _sums(weights: Values) -> Values:
    sums = np.empty(len(weights) + 1)
    sums[0] = 0.0
    np.cumsum(weights, out=sums[1:])
    return sums


def _best_threshold(similarities: Values, gain: Values) -> float:
    """Midway below the similarity down to which accepting gains most; the highest of equally good ones."""
    if not len(similarities):
        return np.inf
    last = np.append(np.flatnonzero(np.diff(similarities)), len(similarities) - 1)  # of each run of equal ones
    best = int(np.argmax(np.append(0.0, np.cumsum(gain)[last])))
    ends = np.concatenate([[np.inf], similarities[last], [-np.inf]])
    return float((ends[best] + ends[best + 1]) / 2)
