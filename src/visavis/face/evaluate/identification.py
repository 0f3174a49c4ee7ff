"""Identification: who of the enrolled is it, with everybody enrolled (closed set) or not (open set).

Shapes: P probes, G gallery templates, D embedding length, K ranks.
A row of zeros stands for a photo without a face: with everything its similarity is -1, the lowest.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visavis.errors import InputError, TensorError, expect
from visavis.face.evaluate.measures import bar, refuse_infinite

__all__ = ["Candidates", "candidates", "cumulative_match", "identification_rate_at_far", "rank_one"]

_BLOCK = 1024  # probes compared with the whole gallery at once


class Candidates(NamedTuple):
    own: NDArray[np.float64]  # [P] the best similarity with a template of the probe's person; -inf: none is enrolled
    other: NDArray[np.float64]  # [P] that with a template of anybody else; -inf: nobody else is enrolled
    rank: NDArray[np.int64]  # [P] 1 + the number of other people at least as similar as the own; 0: none is enrolled


def candidates(
    probe: NDArray[Any], probe_labels: ArrayLike, gallery: NDArray[Any], gallery_labels: ArrayLike
) -> Candidates:
    """What every probe finds in the gallery, from which the rates here are counted.

    Args:
        probe: [P, D] float, unit length or zero.
        probe_labels: [P] whose they are.
        gallery: [G, D] float, unit length or zero; several templates of a person are allowed.
        gallery_labels: [G].

    Raises:
        TensorError: shapes or types other than these.
        InputError: no probes, no templates, or not finite.
    """
    labels, names = np.asarray(probe_labels), np.asarray(gallery_labels)
    expect("probe", probe, "float", None, None)
    expect("gallery", gallery, "float", None, probe.shape[1])
    for name, array, count in (
        ("probe_labels", labels, len(probe)),
        ("gallery_labels", names, len(gallery)),
    ):
        if array.shape != (count,):
            raise TensorError(f"{name}: expected [{count}], got {list(array.shape)}")
        if count == 0:
            raise InputError(f"{name}: expected at least one, got none")
    refuse_infinite("probe", probe)
    refuse_infinite("gallery", gallery)
    order = np.argsort(names, kind="stable")
    people, starts = np.unique(names[order], return_index=True)
    gallery = gallery[order]
    empty, empty_template = (~np.any(rows, axis=1, keepdims=True) for rows in (probe, gallery))
    place = np.minimum(np.searchsorted(people, labels), len(people) - 1)
    mated = people[place] == labels
    own, other = np.empty(len(probe)), np.full(len(probe), -np.inf)
    rank = np.zeros(len(probe), np.int64)
    for first in range(0, len(probe), _BLOCK):
        rows = slice(first, first + _BLOCK)
        similarities = (probe[rows] @ gallery.T).astype(np.float64)
        similarities[empty[rows] | empty_template.T] = -1.0
        best = np.maximum.reduceat(similarities, starts, axis=1)  # a column a person
        mine = np.arange(len(best)), place[rows]
        own[rows] = np.where(mated[rows], best[mine], -np.inf)
        best[mine] = np.where(mated[rows], -np.inf, best[mine])
        other[rows] = best.max(axis=1)
        rank[rows] = np.where(mated[rows], 1 + (best >= own[rows, None]).sum(axis=1), 0)
    return Candidates(own, other, rank)


def rank_one(probe: NDArray[Any], probe_labels: ArrayLike, gallery: NDArray[Any], gallery_labels: ArrayLike) -> float:
    """Closed-set identification: share of probes whose most similar template is of their own person.

    A tie between the own person and another counts as wrong. Arguments and errors as `cumulative_match`.

    Source: Grother and Phillips, Models of large population recognition performance, CVPR 2004.
    """
    return float(cumulative_match(probe, probe_labels, gallery, gallery_labels, ranks=1)[0])


def cumulative_match(
    probe: NDArray[Any], probe_labels: ArrayLike, gallery: NDArray[Any], gallery_labels: ArrayLike, *, ranks: int = 20
) -> NDArray[np.float64]:
    """The CMC curve: the share of probes whose own person is among the 1, 2, ..., `ranks` most similar people.

    People are ranked, not templates: several templates of one person take one place. Ties count against.

    Args:
        probe: [P, D] float, unit length or zero.
        probe_labels: [P] whose they are; all of them in the gallery.
        gallery: [G, D] float, unit length or zero; several templates of a person are allowed.
        gallery_labels: [G].
        ranks: how many, at least one.

    Returns:
        [K] never falling; the first is `rank_one`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: no probes, no templates, not finite, or a probe without a template of its person.

    Source: Grother and Phillips, Models of large population recognition performance, CVPR 2004.
    """
    if ranks < 1:
        raise InputError(f"ranks: expected at least 1, got {ranks}")
    rank = candidates(probe, probe_labels, gallery, gallery_labels).rank
    if strangers := int((rank == 0).sum()):
        raise InputError(f"probe_labels: expected people of the gallery, got {strangers} probes of others")
    shares: NDArray[np.float64] = np.mean(rank[:, None] <= np.arange(1, ranks + 1), axis=0)
    return shares


def identification_rate_at_far(
    probe: NDArray[Any],
    probe_labels: ArrayLike,
    gallery: NDArray[Any],
    gallery_labels: ArrayLike,
    far: float,
) -> float:
    """Open-set identification, DIR@FAR: share of mated probes found at rank one above a threshold.

    Mated: the probe's person has a template. The threshold is the lowest at which no more than `far` of the
    non-mated probes have a template that similar. Arguments as `candidates`; ties as in `rank_one` and `tar_at_far`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: no templates, not finite, no mated probes, or no non-mated ones.

    Source: Phillips, Grother and Micheals, Handbook of Face Recognition, 2nd ed., chapter 21, 2011.
    """
    own, other, rank = candidates(probe, probe_labels, gallery, gallery_labels)
    mated = rank > 0
    if mated.all() or not mated.any():
        raise InputError(
            "probe_labels: expected people inside and outside the gallery, "
            f"got {mated.sum()} probes inside and {(~mated).sum()} outside"
        )
    return float(np.mean((rank[mated] == 1) & (own[mated] > bar(other[~mated], far))))
