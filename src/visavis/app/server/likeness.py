"""Who looks like whom, among the people of a gallery: by one template a person, made anew only when its faces change.

P: people with faces, D: embedding length.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.face.gallery import Gallery
from visavis.face.match import TEMPLATE_FACES, Calibration, template

__all__ = ["Alike", "Likeness"]

BEST = 12  # faces by which a person is shown


class Alike(NamedTuple):
    """Someone, or a face, beside a person."""

    id: int
    probability: float
    false_match_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    members: NDArray[np.int64]  # ids of all faces, rising
    best: list[int]  # ids of those of the highest quality
    template: NDArray[np.float32]  # [D]


class Likeness:
    """Of one gallery; for any number of threads."""

    def __init__(self, gallery: Gallery, calibration: Calibration) -> None:
        self._gallery, self._calibration = gallery, calibration
        self._known: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def best_faces(self, people: Collection[int]) -> dict[int, list[int]]:
        """The best faces of each of some people, the best first."""
        known = self._current()
        return {person: known[person].best for person in people if person in known}

    def alike(self, people: Collection[int], among: Collection[int], k: int) -> dict[int, list[Alike]]:
        """Of `among` the `k` most alike to each of some people, but nobody who is known to be someone else."""
        known = self._current()
        apart = self._gallery.separated()
        candidates = np.array(sorted(known.keys() & set(among)), np.int64)
        if not len(candidates):
            return {person: [] for person in people}
        templates = np.stack([known[person].template for person in candidates.tolist()])
        found = {}
        for person in people:
            found[person] = list[Alike]()
            if person not in known:
                continue
            similarities = templates @ known[person].template
            for place in np.argsort(-similarities, kind="stable").tolist():
                other = int(candidates[place])
                if other != person and (min(person, other), max(person, other)) not in apart:
                    found[person].append(self._alike(other, float(similarities[place]), len(candidates)))
                if len(found[person]) == k:
                    break
        return found

    def doubts(self, person: int, k: int) -> list[Alike]:
        """The `k` faces of a person that are least like the person's other faces, the least first."""
        faces = self._gallery.embeddings(people=[person])
        if len(faces.face_ids) < 2:
            return []
        similarities = faces.vectors @ template(faces.vectors, faces.quality)
        for place in _best(faces.quality, TEMPLATE_FACES):  # the template is made of these, and none is its own witness
            others = np.arange(len(faces.face_ids)) != place
            similarities[place] = faces.vectors[place] @ template(faces.vectors[others], faces.quality[others])
        order = np.argsort(similarities, kind="stable")[:k]
        return [self._alike(int(faces.face_ids[place]), float(similarities[place]), 1) for place in order]

    def forget(self, person: int) -> None:
        """Drop what is held of a person in memory."""
        with self._lock:
            self._known.pop(person, None)

    def _alike(self, identity: int, similarity: float, candidates: int) -> Alike:
        return Alike(
            identity,
            self._calibration.probability(similarity, candidates=candidates),
            self._calibration.false_match_rate(similarity, candidates=candidates),
        )

    def _current(self) -> dict[int, _Known]:
        """Everybody who has a face, as the gallery is now; vectors are read only of those who have changed."""
        with self._lock:
            ids, people, _ = self._gallery.placements()
            members = _members(ids, people)
            changed = [
                person
                for person, mine in members.items()
                if person not in self._known or not np.array_equal(self._known[person].members, mine)
            ]
            known = {person: self._known[person] for person in members if person in self._known}
            if changed:
                faces = self._gallery.embeddings(people=changed)
                for person, places in _members(np.arange(len(faces.face_ids)), faces.person_ids).items():
                    vectors, quality = faces.vectors[places], faces.quality[places]
                    best = faces.face_ids[places[_best(quality, BEST)]].tolist()
                    known[person] = _Known(faces.face_ids[places], best, template(vectors, quality))
            self._known = known
            return known


def _best(quality: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    return np.argsort(-quality, kind="stable")[:count]


def _members(items: NDArray[np.int64], people: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The items of each person, in their order; 0 is nobody."""
    order = np.argsort(people, kind="stable")
    values, starts = np.unique(people[order], return_index=True)
    found = dict(zip(values.tolist(), np.split(items[order], starts[1:]), strict=False))
    found.pop(0, None)
    return found
