"""Who looks like whom, among the people of a gallery: by one template a person, made anew only when its faces change.

P: people with faces, D: embedding length.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.face.gallery import Gallery
from visavis.face.match import TEMPLATE_FACES, Calibration, members_of, template

__all__ = ["Alike", "Likeness"]

BEST = 12  # faces by which a person is shown


class Alike(NamedTuple):
    """Someone, or a face, beside a person."""

    id: int
    probability: float
    false_match_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """Everybody who has a face, at one moment."""

    face_ids: NDArray[np.int64]  # of all faces, rising
    owners: NDArray[np.int64]  # whose they are; 0: nobody's
    people: NDArray[np.int64]  # [P] ids, rising
    templates: NDArray[np.float32]  # [P, D]
    best: dict[int, list[int]]  # by person: the faces of the highest quality, the best first


class Likeness:
    """Of one gallery; for any number of threads."""

    def __init__(self, gallery: Gallery, calibration: Calibration) -> None:
        self._gallery, self._calibration = gallery, calibration
        nothing = np.empty(0, np.int64)
        self._known = _Known(nothing, nothing, nothing, np.empty((0, gallery.model.dim), np.float32), {})
        self._lock = threading.Lock()

    def best_faces(self, people: Collection[int]) -> dict[int, list[int]]:
        """The best faces of each of some people, the best first, as the last call of `alike` has found them."""
        best = self._known.best
        return {person: best[person] for person in people if person in best}

    def alike(self, people: Collection[int], among: Collection[int], k: int) -> dict[int, list[Alike]]:
        """Of `among` the `k` most alike to each of some people, but nobody who is known to be someone else."""
        known = self._current()
        apart = self._gallery.separated()
        places = np.flatnonzero(np.isin(known.people, np.array(sorted(among), np.int64)))
        candidates, templates = known.people[places].tolist(), known.templates[places]
        found = {}
        for person in people:
            found[person] = list[Alike]()
            if person not in known.best:
                continue
            similarities = templates @ known.templates[np.searchsorted(known.people, person)]
            for place in np.argsort(-similarities, kind="stable").tolist():
                if len(found[person]) == k:
                    break
                other = candidates[place]
                if other != person and (min(person, other), max(person, other)) not in apart:
                    found[person].append(self._alike(other, float(similarities[place]), len(candidates)))
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
            known = self._known
            others = known.people != person
            best = {other: faces for other, faces in known.best.items() if other != person}
            people, templates = known.people[others], known.templates[others]
            self._known = replace(known, people=people, templates=templates, best=best)

    def _alike(self, identity: int, similarity: float, candidates: int) -> Alike:
        return Alike(
            identity,
            self._calibration.probability(similarity, candidates=candidates),
            self._calibration.false_match_rate(similarity, candidates=candidates),
        )

    def _current(self) -> _Known:
        """The people as the gallery has them now; vectors are read only of those whose faces are others than before."""
        with self._lock:
            face_ids, owners, _ = self._gallery.placements()
            known = self._known
            if np.array_equal(face_ids, known.face_ids) and np.array_equal(owners, known.owners):
                return known
            changed = _differing(known.face_ids, known.owners, face_ids, owners)
            faces = self._gallery.embeddings(people=changed.tolist())
            kept = np.isin(known.people, changed, invert=True)
            best = {person: known.best[person] for person in known.people[kept].tolist()}
            people, templates = [known.people[kept]], [known.templates[kept]]
            for person, places in members_of(faces.person_ids):
                vectors, quality = faces.vectors[places], faces.quality[places]
                best[person] = faces.face_ids[places[_best(quality, BEST)]].tolist()
                people.append(np.array([person]))
                templates.append(template(vectors, quality)[None])
            everybody = np.concatenate(people)
            order = np.argsort(everybody)
            self._known = _Known(face_ids, owners, everybody[order], np.concatenate(templates)[order], best)
            return self._known


def _best(quality: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    return np.argsort(-quality, kind="stable")[:count]


def _differing(
    face_ids: NDArray[np.int64],
    owners: NDArray[np.int64],
    later_face_ids: NDArray[np.int64],
    later_owners: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The people who have lost or got a face between two moments."""
    either = np.union1d(face_ids, later_face_ids)
    before, after = np.zeros((2, len(either)), np.int64)
    before[np.searchsorted(either, face_ids)] = owners
    after[np.searchsorted(either, later_face_ids)] = later_owners
    moved = before != after
    people: NDArray[np.int64] = np.union1d(before[moved], after[moved])
    return people[people > 0]
