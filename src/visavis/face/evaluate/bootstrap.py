"""Confidence intervals for measures on pairs of photos, by drawing people anew.

Photos of one person are alike, and everybody is in many pairs: pairs are not independent, people are. So a resample
draws as many people as there are, with replacement, and counts a pair of one person as often as the person was drawn,
a pair of two people as often as the product of both. Copies of one person are not compared with one another. The
measure is computed anew with these weights, threshold included, and the middle 95 % of its values are the interval.

Shapes: K people, R resamples, M measures.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles); for pairs, Bolle, Ratha
and Pankanti, Error analysis of pattern recognition systems: the subsets bootstrap, CVIU 93(1), 2004, and Fogliato,
Patil and Perona, Confidence intervals for error rates in 1:1 matching tasks, IJCV 132, 2024, arXiv:2306.01198.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError

__all__ = ["Estimate", "estimates", "resample"]


class Estimate(NamedTuple):
    value: float
    low: float  # of the 95 % interval
    high: float


def resample(
    measure: Callable[[NDArray[np.float64]], Sequence[float] | NDArray[np.float64]],
    people: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The measures of every resample.

    Args:
        measure: takes float64 [K], how often each person was drawn, and returns M values; NaN where it is undefined.
        people: K.
        resamples: R.
        seed: of the draws.

    Returns:
        [R, M].

    Raises:
        InputError: no people, or no resamples.
    """
    if people < 1 or resamples < 1:
        raise InputError(f"people: expected at least one person and one resample, got {people} and {resamples}")
    random = np.random.default_rng(seed)
    return np.array(
        [
            measure(np.bincount(random.integers(people, size=people), minlength=people).astype(np.float64))
            for _ in range(resamples)
        ]
    )


def estimates(
    values: Sequence[float] | NDArray[np.float64], replicates: NDArray[np.float64], people: Sequence[int]
) -> list[Estimate]:
    """Shares with their intervals: the middle 95 % of the resamples.

    Where all resamples agree, because no error was seen or nothing else, they say nothing about the next person. Then
    the interval is Wilson's with as many trials as people: photos of one person are taken as one trial, the
    least they can be.

    Args:
        values: [M] shares, measured.
        replicates: [R, M] of `resample`; NaN is left out.
        people: [M] the number of people that each measure is about.

    Returns:
        M estimates; an undefined measure is NaN with the interval [0, 1].

    Raises:
        InputError: the shapes do not fit.
    """
    if replicates.ndim != 2 or not replicates.shape[1] == len(values) == len(people):
        raise InputError(
            f"replicates: expected [R, {len(values)}] and as many numbers of people, "
            f"got {list(replicates.shape)} and {len(people)}"
        )
    from visavis.blocks.approximation.intervals import wilson

    results = []
    for value, column, count in zip(values, replicates.T, people, strict=True):
        known = column[np.isfinite(column)]
        if not np.isfinite(value) or not len(known):
            results.append(Estimate(float(value), 0.0, 1.0))
            continue
        low, high = np.quantile(known, [0.025, 0.975])
        if low == high == value:
            low, high = wilson(float(value), count)
        results.append(Estimate(float(value), float(min(low, value)), float(max(high, value))))
    return results
