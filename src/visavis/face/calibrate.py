"""Measures what a model's similarities mean, on faces of people who are known. N: faces, D: embedding, M: measures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, PhotoError, expect
from visavis.face.analyze import Analyzer
from visavis.face.cluster import cluster
from visavis.face.evaluate import bcubed
from visavis.face.match import Calibration, Pairs
from visavis.face.models import Pack
from visavis.face.photos import read
from visavis.face.quality import MEASURES, QualityModel
from visavis.face.workers import cores

__all__ = ["UNCALIBRATED", "calibrate", "calibrate_folder", "fit_quality"]

_BINS = 8000  # of the similarity's range [-1, 1]
_LEAST_PAIRS = 20  # a rate seen on fewer pairs is too uncertain to keep
_QUALITY_RATE = 1e-3
_SHOWN_BINS = 64  # of the pairs kept to be shown

# Stands in where a pack has no calibration yet: every rate is 1, every quality one half.
UNCALIBRATED = Calibration(
    np.array([-1.0, 0.0, 1.0]),
    np.zeros(3),
    0.0,
    0.0,
    1.0,
    QualityModel(np.zeros(9), np.ones(9), np.zeros(9), np.zeros(9), bias=0.0),
    "nothing",
)

Values = NDArray[np.float64]


def calibrate(
    embeddings: NDArray[np.float32],
    people: NDArray[np.int64],
    quality: QualityModel,
    *,
    cluster_on: NDArray[np.bool_] | None = None,
    measured_on: str,
) -> Calibration:
    """Count every pair of faces: pairs of different people give the false-match rate, all give the probability.

    Args:
        embeddings: float32 [N, D] of unit length.
        people: int64 [N], who each face is.
        quality: from `fit_quality`.
        cluster_on: bool [N], the faces to choose the clustering threshold on; all when absent.
        measured_on: one sentence on the photos and what was left out of them.

    Raises:
        InputError: too few pairs of different people or of the same person to tell a rate of 1 in 1000, or
            embeddings that tell nobody apart.
    """
    expect("embeddings", embeddings, "float", None, None)
    expect("people", people, "int64", len(embeddings))
    same, different = _histograms(embeddings, people)
    if different.sum() < 1000 * _LEAST_PAIRS or same.sum() < 100:
        raise InputError(
            f"people: expected at least {1000 * _LEAST_PAIRS} pairs of different people and 100 of the same person, "
            f"got {different.sum():.0f} and {same.sum():.0f}"
        )
    edges = np.linspace(-1, 1, _BINS + 1)
    at_or_above = np.cumsum(different[::-1])[::-1]
    rates = at_or_above / different.sum()
    levels = np.append([0.99, 0.9], 10.0 ** -np.arange(0, 9, 0.25))
    levels = levels[levels * different.sum() >= _LEAST_PAIRS]
    # The first edge at or past which the rate is no higher than the level; rates fall along the edges.
    index = np.unique(np.searchsorted(-rates, -levels))
    index = index[index < _BINS]  # what more pairs reach than that, reach all similarities
    if len(index) < 3:
        raise InputError("embeddings: expected different people to differ, got hardly more than one similarity")
    slope, intercept = _balanced_logistic((edges[:-1] + edges[1:]) / 2, same, different)
    chosen = np.ones(len(people), bool) if cluster_on is None else cluster_on
    return Calibration(
        edges[index],
        np.log10(rates[index]),
        slope,
        intercept,
        _best_cluster_similarity(embeddings[chosen], people[chosen], edges, rates),
        quality,
        measured_on,
        _pairs(same, different),
    )


def fit_quality(
    embeddings: NDArray[np.float32],
    people: NDArray[np.int64],
    measures: Values,
    reference: NDArray[np.bool_],
) -> QualityModel:
    """Learn from faces good and bad which of them match the reference faces of the same person.

    The goal for a face is the share of its person's reference faces, itself left out, that it matches at a
    false-match rate of 1 in 1000; the model is a logistic regression on the measures and their squares.

    Args:
        embeddings: float32 [N, D] of unit length.
        people: int64 [N].
        measures: float64 [N, M].
        reference: bool [N], the good frontal photos.

    Raises:
        InputError: no two people among the reference faces, or no face to compare with one of its own person.
    """
    expect("measures", measures, "float", len(embeddings), len(MEASURES))
    _, different = _histograms(embeddings[reference], people[reference])
    if not different.any():
        raise InputError("reference: expected photos of two people or more, got fewer")
    rates = np.cumsum(different[::-1])[::-1] / different.sum()
    threshold = np.linspace(-1, 1, _BINS + 1)[np.searchsorted(-rates, -_QUALITY_RATE)]
    goal = np.full(len(people), np.nan)
    for person in np.unique(people):
        mine = np.flatnonzero(people == person)
        references = mine[reference[mine]]
        matched = embeddings[mine] @ embeddings[references].T >= threshold
        other = mine[:, None] != references
        with np.errstate(invalid="ignore"):
            goal[mine] = (matched & other).sum(1) / other.sum(1)
    known = np.isfinite(goal)
    if not known.any():
        raise InputError("reference: expected another photo of the person for one face at least, got none")
    measures, goal = measures[known], goal[known]
    mean, deviation = measures.mean(0), measures.std(0) + 1e-9
    standard = np.clip((measures - mean) / deviation, -4, 4)
    inputs = np.concatenate([standard, standard**2, np.ones((len(standard), 1))], 1)
    weights = _logistic(inputs, goal, np.ones(len(goal)), ridge=10.0)
    count = len(MEASURES)
    return QualityModel(mean, deviation, weights[:count], weights[count:-1], float(weights[-1]))


def _histograms(embeddings: NDArray[np.float32], people: NDArray[np.int64]) -> tuple[Values, Values]:
    """Counts by similarity of the pairs of one person and of the pairs of two, each pair once; [bins] each."""
    same, different = np.zeros(_BINS), np.zeros(_BINS)
    for start in range(0, len(people), 1024):
        rows = embeddings[start : start + 1024]
        similarities = rows @ embeddings[start:].T
        bins = np.clip(((similarities + 1) / 2 * _BINS).astype(np.int64), 0, _BINS - 1)
        one = people[start : start + 1024, None] == people[start:]
        pair = np.arange(len(rows))[:, None] < np.arange(len(people) - start)
        same += np.bincount(bins[one & pair], minlength=_BINS)
        different += np.bincount(bins[~one & pair], minlength=_BINS)
    return same, different


def _pairs(same: Values, different: Values) -> Pairs:
    """Both histograms in few bins, over the similarities that all but one in 1000 pairs of either kind have."""
    centres = (np.arange(_BINS) + 0.5) * 2 / _BINS - 1
    ends = [np.interp([1e-3, 1 - 1e-3], np.cumsum(counts) / counts.sum(), centres) for counts in (same, different)]
    edges = np.linspace(min(low for low, _ in ends), max(high for _, high in ends), _SHOWN_BINS + 1)
    inside = np.clip(centres, edges[0], edges[-1])
    return Pairs(
        edges, *(np.histogram(inside, edges, weights=counts)[0] / counts.sum() for counts in (different, same))
    )


def _balanced_logistic(centres: Values, same: Values, different: Values) -> tuple[float, float]:
    """Slope and intercept of the log odds of "same", both classes weighing the same."""
    inputs = np.stack([np.tile(centres, 2), np.ones(2 * len(centres))], 1)
    goal = np.repeat([1.0, 0.0], len(centres))
    weight = np.concatenate([same / same.sum(), different / different.sum()]) * 1e4
    slope, intercept = _logistic(inputs, goal, weight, ridge=1e-3)
    return float(slope), float(intercept)


def _logistic(inputs: Values, goal: Values, weight: Values, *, ridge: float) -> Values:
    """Weighted logistic regression by Newton's method; the last input is the constant and carries no penalty."""
    penalty = np.full(inputs.shape[1], ridge)
    penalty[-1] = 1e-9
    beta = np.zeros(inputs.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ beta, -30, 30)))
        slope = inputs.T @ (weight * (goal - chance)) - penalty * beta
        curvature = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        beta += step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))  # a far first step may not overshoot
        if np.abs(step).max() < 1e-8:
            break
    return beta


def _best_cluster_similarity(
    embeddings: NDArray[np.float32], people: NDArray[np.int64], edges: Values, rates: Values
) -> float:
    """The cut with the highest BCubed F, of those at false-match rates from 1 in 30 to 1 in 30,000."""
    best = (-1.0, 0.0)
    for rate in 10.0 ** np.linspace(-1.5, -4.5, 13):
        threshold = float(edges[np.searchsorted(-rates, -rate)])
        best = max(best, (bcubed(people, cluster(embeddings, threshold=threshold))[2], threshold))
    return best[1]


def calibrate_folder(
    folder: Path, pack: Pack, *, progress: Callable[[int, int | None], None] | None = None
) -> Calibration:
    """Calibrate a pack on photos of known people: a sub-folder a person, its photos of that person alone.

    The quality is learned from the photos as they are, so they should be good and bad.

    Raises:
        InputError: too few people or photos.
        ModelError: the pack's models cannot be had.
    """
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    analyzer = Analyzer(pack, calibration=UNCALIBRATED, threads=cores())
    names = sorted({path.parent.name for path in files})
    embeddings, people, measures = [], [], []
    for done, path in enumerate(files, 1):
        try:
            [faces] = analyzer([read(path)], thumbnails=False)
        except PhotoError:
            faces = []
        if faces:
            face = max(faces, key=lambda one: one.detection.score)
            embeddings.append(face.embedding)
            people.append(names.index(path.parent.name))
            measures.append(face.measures)
        if progress:
            progress(done, len(files))
    if len(set(people)) < 2:
        raise InputError(f"folder: expected a sub-folder a person with photos, got {len(set(people))} with a face")
    stacked, labels, table = np.stack(embeddings), np.array(people, np.int64), np.stack(measures)
    quality = fit_quality(stacked, labels, table, np.ones(len(labels), bool))
    sentence = f"{len(labels)} photos of {len(names)} people of the user's own"
    return calibrate(stacked, labels, quality, measured_on=sentence)
