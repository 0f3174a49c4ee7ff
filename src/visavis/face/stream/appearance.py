"""What a person before the camera looks like: the best faces, one template of them, and who that is.

A person is compared again and again, and each look is a chance for a stranger to be taken for somebody. So the k-th
comparison has to be k (k + 1) times as sure as a single one: as 1/2 + 1/6 + 1/12 + ... = 1, the chance that a stranger
is ever named stays below the rate asked for, however the looks depend on each other. There are few of them: at the
first, second, fourth, eighth, ... face.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError
from visavis.face.match import Calibration, template
from visavis.face.stream.events import Verdict

__all__ = ["Appearance", "Known", "corrected"]

FACES = 16  # the best that are kept, as many as a template takes
FEW = 4  # faces, with which one is known well enough to be told from another
GAPS_S = (0.1, 0.3, 1.0)  # between two looks while faces are few, not all, all: frames in a row show the same
STRANGE = 0.05  # probability of the same person, below which a face is doubted
STRANGE_FACES = 2  # so many in a row that agree with each other are another person's
GOOD_QUALITY = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """The people with a name, as `FaceSystem.templates` gives them."""

    ids: NDArray[np.int64]  # [P]
    templates: NDArray[np.float32]  # [P, D]
    names: dict[int, str]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Known)
            and self.names == other.names
            and np.array_equal(self.ids, other.ids)
            and np.array_equal(self.templates, other.templates)
        )


def corrected(rate: float, look: int) -> float:
    """The false-match rate of the `look`-th comparison, from 1, that accounts for all before and after it."""
    return min(1.0, rate * look * (look + 1))


class Appearance:
    """The faces of one person that were looked at, best and last. Cosines stay inside."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self.thumbnail, self.thumbnail_quality = b"", -1.0
        self._faces: list[tuple[float, NDArray[np.float32]]] = []  # quality and embedding, the best first
        self._strange: list[tuple[float, NDArray[np.float32]]] = []
        self._added = 0
        self._comparisons = 0
        self._next = 1  # added faces at which to compare
        self.last_s = -np.inf

    @property
    def quality(self) -> float | None:
        """Of the best face."""
        return self._faces[0][0] if self._faces else None

    @property
    def template(self) -> NDArray[np.float32]:
        """[D] of the best faces, weighted by quality.

        Raises:
            InputError: there is no face yet.
        """
        if not self._faces:
            raise InputError("appearance: expected at least one face, got none")
        qualities, embeddings = zip(*self._faces, strict=True)
        return template(np.stack(embeddings), np.array(qualities, np.float32))

    def is_due(self, time_s: float) -> bool:
        """Whether it is time to look again."""
        return time_s - self.last_s >= GAPS_S[(len(self._faces) >= FEW) + (len(self._faces) >= FACES)]

    def wants(self, time_s: float, quality: float) -> bool:
        """Whether a face of about this quality is worth its embedding; notes that it was looked at."""
        self.last_s = time_s
        return len(self._faces) < FACES or bool(self._strange) or quality > self._faces[-1][0]

    def add(self, embedding: NDArray[np.float32], quality: float, calibration: Calibration) -> "Appearance | None":
        """Take in a face.

        Returns:
            None, or, when this and the faces before it are another person's, what that one looks like.
        """
        if len(self._faces) >= FEW - 1 and quality >= GOOD_QUALITY:
            if calibration.probability(float(self.template @ embedding)) < STRANGE:
                agree = not self._strange or calibration.probability(float(self._strange[-1][1] @ embedding)) > 0.5
                self._strange = [*(self._strange if agree else []), (quality, embedding)]
                if len(self._strange) < STRANGE_FACES:
                    return None
                other = Appearance()
                for one_quality, one in self._strange:
                    other._put(one, one_quality)
                self._strange = []
                return other
            self._strange = []
        self._put(embedding, quality)
        return None

    def absorb(self, other: "Appearance") -> None:
        """Take in what was seen of the same person under another number."""
        for quality, embedding in other._faces:
            self._put(embedding, quality)
        self._comparisons += other._comparisons
        if other.thumbnail_quality > self.thumbnail_quality:
            self.thumbnail, self.thumbnail_quality = other.thumbnail, other.thumbnail_quality
        self.verdict = _surer(self.verdict, other.verdict)

    def compare(self, known: Known, calibration: Calibration, *, anew: bool = False) -> bool:
        """Tell who it is, when enough faces have come since last time, or `anew`. Returns whether it was compared."""
        if not self._faces or (self._added < self._next and not anew):
            return False
        self._next = 2 * self._added
        if len(known.ids) == 0:
            return False
        self._comparisons += 1
        similarities = known.templates @ self.template
        best = int(similarities.argmax())
        similarity, count = float(similarities[best]), len(known.ids)
        person = int(known.ids[best])
        rate = corrected(calibration.false_match_rate(similarity, candidates=count), self._comparisons)
        verdict = Verdict(person, known.names[person], calibration.probability(similarity, candidates=count), rate)
        self.verdict = _surer(self.verdict, verdict)
        return True

    def forget_verdict(self) -> None:
        """Whoever it was taken for is gone."""
        self.verdict = Verdict()

    def _put(self, embedding: NDArray[np.float32], quality: float) -> None:
        self._added += 1
        self._faces.append((quality, embedding))
        self._faces.sort(key=lambda face: -face[0])
        del self._faces[FACES:]


def _surer(one: Verdict, other: Verdict) -> Verdict:
    """The one of the lower false-match rate: the least of corrected rates may be trusted as each of them."""
    return min(one, other, key=lambda verdict: 2.0 if verdict.false_match_rate is None else verdict.false_match_rate)
