"""From embeddings of known people to a report: every number with an interval, and which pairs went wrong.

Shapes: N faces, P pairs, D embedding length, K people.
A row of zeros stands for a photo without a face: its pairs have the lowest similarity, -1, and count against.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visavis.errors import InputError, expect
from visavis.face.evaluate.bootstrap import Estimate, estimates, resample
from visavis.face.evaluate.identification import candidates
from visavis.face.evaluate.measures import Roc, bar, refuse_infinite, roc
from visavis.face.evaluate.pairs import NO_FACE, all_pairs, similarities_of
from visavis.face.evaluate.weighted import WeightedPairs

__all__ = [
    "FARS",
    "GroupErrors",
    "IdentificationReport",
    "OpenSetPoint",
    "OperatingPoint",
    "VerificationReport",
    "identify",
    "verification_report",
    "verify",
]

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_USUAL_FAR = 1e-3
_RANKS = 20
_CURVE = 400  # points of a ROC that are kept, at most twice as many
_HARDEST = 12  # pairs of a kind


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    far: float
    threshold: float  # the similarity to exceed
    tar: Estimate


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """Errors at the threshold that all groups share."""

    group: str
    people: int
    genuine: int  # pairs of one person of the group
    impostor: int  # pairs of two people of the group
    false_match_rate: Estimate | None  # None: no such pairs
    false_non_match_rate: Estimate | None


@dataclass(frozen=True, slots=True, eq=False)
class VerificationReport:
    name: str
    people: int
    genuine: int  # pairs of one person
    impostor: int  # pairs of two people
    without_face: int  # pairs of which a photo gave no face
    equal_error_rate: Estimate
    operating_points: list[OperatingPoint]  # those FARs that are one pair of two people or more
    accuracy: Estimate | None  # over folds; None: no folds
    accuracy_std: float | None  # of the folds' accuracies
    roc: Roc  # thinned to some hundred points
    groups: list[GroupErrors]  # at the threshold of `usual`
    hardest_impostors: NDArray[np.int64]  # pairs with faces of two people, the most similar first, a photo once
    hardest_genuine: NDArray[np.int64]  # pairs with faces of one person, the least similar first, a photo once

    @property
    def usual(self) -> OperatingPoint | None:
        """The operating point at a FAR of 1e-3, or the nearest there is; None: too few pairs for any."""
        return min(self.operating_points, key=_distance_from_usual, default=None)


@dataclass(frozen=True, slots=True)
class OpenSetPoint:
    far: float  # of the probes of people who are not enrolled
    threshold: float  # the similarity to exceed
    rate: Estimate  # DIR: of the probes of people who are, those named rightly


@dataclass(frozen=True, slots=True)
class IdentificationReport:
    name: str
    enrolled: int  # people
    probes: int
    cumulative_match: list[Estimate]  # at ranks 1, 2, ...; everybody enrolled
    known: int  # people enrolled for the open set
    mated: int  # probes of these
    non_mated: int  # probes of all others
    open_set: list[OpenSetPoint]


def verification_report(
    embeddings: NDArray[np.float32],
    people: ArrayLike,
    *,
    groups: Sequence[str | None] | None = None,
    max_pairs: int = 1_000_000,
    resamples: int = 1000,
    seed: int = 0,
) -> VerificationReport:
    """Verification on all pairs of faces of known people, or a sample of them; quick enough to call while training.

    Args:
        embeddings: float [N, D], rows of unit length, or zero for a photo without a face.
        people: [N] numbers or names, who each face is.
        groups: [N] the group each face's person belongs to, None where unknown; for errors per group.
        max_pairs: of one person, and of two people; above that a sample is drawn, see `all_pairs`.
        resamples: for the intervals; a hundred are enough to watch a training by.
        seed: of both draws.

    Raises:
        TensorError: shapes or types other than these.
        InputError: embeddings not finite, no two faces of one person, or one person only.

    >>> embeddings = np.float32([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]])
    >>> verification_report(embeddings, ["ada", "ada", "bob", "bob"]).equal_error_rate.value
    0.0
    """
    expect("embeddings", embeddings, "float", None, None)
    refuse_infinite("embeddings", embeddings)
    names, numbers = np.unique(np.asarray(people), return_inverse=True)
    if len(numbers) != len(embeddings):
        raise InputError(f"people: expected one for each of {len(embeddings)} faces, got {len(numbers)}")
    if groups is not None and len(groups) != len(embeddings):
        raise InputError(f"groups: expected one for each of {len(embeddings)} faces, got {len(groups)}")
    pairs = all_pairs(numbers, max_pairs=max_pairs, seed=seed)
    group_of = None if groups is None else [groups[int(np.argmax(numbers == who))] for who in range(len(names))]
    return verify(
        "all pairs",
        similarities_of(embeddings, pairs),
        pairs,
        numbers.astype(np.int64),
        groups=group_of,
        resamples=resamples,
        seed=seed,
    )


def verify(
    name: str,
    similarities: NDArray[np.float64],
    pairs: NDArray[np.int64],
    people: NDArray[np.int64],
    *,
    folds: NDArray[np.int64] | None = None,
    groups: Sequence[str | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> VerificationReport:
    """Verification on given pairs.

    Args:
        name: what the report calls it.
        similarities: float [P]; -1 where a photo gave no face.
        pairs: int64 [P, 2], rows of `people`.
        people: int64 [N] in [0, K), who each face is.
        folds: int64 [P] for the accuracy over folds.
        groups: [K] the group of each person, None where unknown.
        resamples: for the intervals.
        seed: of the resamples.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a similarity not finite, or one kind of pairs only.
    """
    expect("pairs", pairs, "int64", len(similarities), 2)
    expect("people", people, "int64", None)
    seen, who = np.unique(people[pairs], return_inverse=True)
    who = who.reshape(-1, 2).astype(np.int64)  # [P, 2], those who are in no pair left out
    same, with_faces = who[:, 0] == who[:, 1], similarities != NO_FACE
    compared = WeightedPairs(similarities, who, folds)
    fars = [far for far in FARS if far * (~same).sum() >= 1]
    once = np.ones(len(seen))
    totals = compared.totals(once)
    bars = [compared.bar(totals, far) for far in fars]
    values = compared.measure(once, fars)
    drawn = resample(lambda weight: compared.measure(weight, fars), len(seen), resamples=resamples, seed=seed)
    # For what resampling cannot see, those count who have a pair of their own.
    trials = [len(np.unique(who[same]))] * len(values)
    error, *shares = estimates(values, drawn, trials)
    accuracy = shares.pop() if folds is not None else None
    points = [OperatingPoint(*row) for row in zip(fars, bars, shares, strict=True)]
    by_group: list[GroupErrors] = []
    if groups is not None and points:
        threshold = min(points, key=_distance_from_usual).threshold
        by_group = _groups(similarities, who, [groups[int(number)] for number in seen], threshold, resamples, seed)
    return VerificationReport(
        name=name,
        people=len(seen),
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        without_face=int((~with_faces).sum()),
        equal_error_rate=error,
        operating_points=points,
        accuracy=accuracy,
        accuracy_std=None if folds is None else float(np.std(compared.accuracies(once))),
        roc=_thinned(roc(similarities, same)),
        groups=by_group,
        hardest_impostors=_hardest(-similarities, pairs, ~same & with_faces),
        hardest_genuine=_hardest(similarities, pairs, same & with_faces),
    )


def identify(
    name: str,
    embeddings: NDArray[np.float32],
    people: NDArray[np.int64],
    *,
    gallery: NDArray[np.int64],
    probes: NDArray[np.int64],
    known: NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
) -> IdentificationReport:
    """Identification: in the closed set everybody is enrolled, in the open set only some are.

    For the intervals the enrolled stay and the people asked about are drawn anew: they hold for other people who ask
    a gallery of this size.

    Args:
        name: what the report calls it.
        embeddings: float [N, D], rows of unit length or zero.
        people: int64 [N], who each face is.
        gallery: int64 [G] rows that are enrolled for the closed set.
        probes: int64 rows that are asked about; all of enrolled people.
        known: int64 rows that are enrolled for the open set.
        resamples: for the intervals.
        seed: of the resamples.

    Raises:
        TensorError: shapes or types other than these.
        InputError: no probes, nobody enrolled, or a probe of somebody who is not.
    """
    rank = candidates(embeddings[probes], people[probes], embeddings[gallery], people[gallery]).rank
    if strangers := int((rank == 0).sum()):
        raise InputError(f"probes: expected people of the gallery, got {strangers} photos of others")
    seen, who = np.unique(people[probes], return_inverse=True)
    enrolled = len(np.unique(people[gallery]))
    ranks = np.arange(1, min(_RANKS, enrolled) + 1)

    def closed(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = weight[who]
        # From the last on, as the sum up to the last rank asked for need not be all.
        shares: NDArray[np.float64] = (
            np.bincount(rank, weights, minlength=len(ranks) + 1).cumsum()[ranks] / weights.sum()
        )
        return shares

    drawn = resample(closed, len(seen), resamples=resamples, seed=seed)
    curve = estimates(closed(np.ones(len(seen))), drawn, [len(seen)] * len(ranks))
    own, other, place = candidates(embeddings[probes], people[probes], embeddings[known], people[known])
    mated = place > 0
    points = _open_set(own, other, place, who, len(seen), resamples, seed) if mated.any() and not mated.all() else []
    return IdentificationReport(
        name, enrolled, len(probes), curve, len(np.unique(people[known])), int(mated.sum()), int((~mated).sum()), points
    )


def _open_set(
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    rank: NDArray[np.int64],
    who: NDArray[np.intp],
    people: int,
    resamples: int,
    seed: int,
) -> list[OpenSetPoint]:
    mated = rank > 0
    fars = [far for far in FARS if far * (~mated).sum() >= 1]
    order = np.argsort(-other[~mated], kind="stable")
    strangers, strangers_who = other[~mated][order], who[~mated][order]
    own, first, own_who = own[mated], rank[mated] == 1, who[mated]

    def rates(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, weights = weight[strangers_who].cumsum(), weight[own_who]
        if not (sums[-1] > 0 and weights.sum() > 0):
            return np.full(len(fars), np.nan)
        allowed = np.searchsorted(sums / sums[-1], fars, side="right")
        bars = np.append(strangers, -np.inf)[allowed]
        right = first & (own > bars[:, None])
        shares: NDArray[np.float64] = (right @ weights) / weights.sum()
        return shares

    drawn = resample(rates, people, resamples=resamples, seed=seed)
    found = estimates(rates(np.ones(people)), drawn, [len(np.unique(own_who))] * len(fars))
    return [OpenSetPoint(far, bar(strangers, far), rate) for far, rate in zip(fars, found, strict=True)]


def _distance_from_usual(point: OperatingPoint) -> float:
    return abs(math.log(point.far / _USUAL_FAR))


def _groups(
    similarities: NDArray[np.float64],
    who: NDArray[np.int64],
    group_of: Sequence[str | None],
    threshold: float,
    resamples: int,
    seed: int,
) -> list[GroupErrors]:
    """Each group's errors at one threshold, which is taken as given: it is what an operator would set."""
    names = sorted({group for group in group_of if group is not None})
    number = np.array([-1 if group is None else names.index(group) for group in group_of])
    accepted = similarities > threshold
    inside = np.where(number[who[:, 0]] == number[who[:, 1]], number[who[:, 0]], -1)  # [P] the group of both
    same = who[:, 0] == who[:, 1]
    chosen = []  # for each group its pairs of two people and then of one: who, which are wrong
    for index in range(len(names)):
        for kind, wrong in ((~same, accepted), (same, ~accepted)):
            among = (inside == index) & kind
            chosen.append((who[among], wrong[among]))

    def rates(weight: NDArray[np.float64]) -> list[float]:
        row = []
        for (first, second), wrong in ((pairs.T, wrong) for pairs, wrong in chosen):
            weights = weight[first] * np.where(first == second, 1.0, weight[second])
            total = weights.sum()
            row.append(float(weights[wrong].sum() / total) if total > 0 else np.nan)
        return row

    drawn = resample(rates, len(group_of), resamples=resamples, seed=seed)
    counts = [len(np.unique(pairs)) for pairs, _ in chosen]
    found = [
        estimate if len(pairs) else None
        for estimate, (pairs, _) in zip(estimates(rates(np.ones(len(group_of))), drawn, counts), chosen, strict=True)
    ]
    return [
        GroupErrors(
            name,
            int(np.equal(number, index).sum()),
            len(chosen[2 * index + 1][0]),
            len(chosen[2 * index][0]),
            found[2 * index],
            found[2 * index + 1],
        )
        for index, name in enumerate(names)
    ]


def _hardest(hardness: NDArray[np.float64], pairs: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pairs of least `hardness`, as numbers; no photo twice, lest one bad photo be all there is to see."""
    index = np.flatnonzero(among)
    used: set[int] = set()
    chosen = []
    for number in index[np.argsort(hardness[index], kind="stable")]:
        first, second = (int(row) for row in pairs[number])
        if used.isdisjoint((first, second)):
            used.update((first, second))
            chosen.append(number)
            if len(chosen) == _HARDEST:
                break
    return np.array(chosen, np.int64)


def _thinned(curve: Roc) -> Roc:
    """Points spread over the logarithm of the FAR and over the TAR; the first and last stay."""
    if len(curve.far) <= _CURVE:
        return curve
    least = curve.far[curve.far > 0][0]
    kept = np.concatenate(
        [
            [0, len(curve.far) - 1],
            np.searchsorted(curve.far, np.geomspace(least, 1.0, _CURVE)),
            np.searchsorted(curve.tar, np.linspace(0.0, 1.0, _CURVE)),
        ]
    )
    kept = np.unique(np.minimum(kept, len(curve.far) - 1))
    return Roc(*(column[kept] for column in curve))
