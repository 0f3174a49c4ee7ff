"""Which photos make the batch of a step: a function of the seed and the step, so that a run can go on anywhere.

B: photos of a batch, N: photos to learn from.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError

__all__ = ["Order"]


class Order:
    """Batches of all photos in an order drawn anew for each epoch; epochs follow one another without a gap.

    So every batch is full, no photo is left out, and one batch may hold the end of an epoch and the start of the next.
    """

    def __init__(self, labels: NDArray[np.int64], *, batch: int, per_person: int = 0, seed: int) -> None:
        """Set up the order.

        Args:
            labels: int64 [N], whose each photo is.
            batch: B.
            per_person: 0: photos are drawn one by one; else in groups of so many of one person, of which the last may
                hold some twice. It divides `batch`.
            seed: of the order.

        Raises:
            InputError: `batch` is no positive multiple of `per_person`, or there is no photo.
        """
        if batch < 1 or len(labels) == 0 or not 0 <= per_person <= batch or (per_person and batch % per_person):
            raise InputError(
                f"batch, per_person: expected a multiple of the other and at least one photo, got {batch}, {per_person}"
                f" and {len(labels)} photos"
            )
        self.batch = batch
        self._per_person = per_person
        self._seed = seed
        order = np.argsort(labels, kind="stable")
        self._of_people = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.epoch_photos = len(self._epoch(0))  # N, or somewhat more in groups
        self._cached = functools.lru_cache(maxsize=2)(self._epoch)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """int64 [B], the photos of step 0, 1, ..."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs = places // self.epoch_photos
        parts = [
            self._cached(int(epoch))[places[epochs == epoch] % self.epoch_photos]
            for epoch in range(epochs[0], epochs[-1] + 1)
        ]
        return np.concatenate(parts)

    def epochs_done(self, step: int) -> int:
        """Whole epochs in the first `step` batches."""
        return step * self.batch // self.epoch_photos

    def steps(self, epochs: float) -> int:
        """The batches that so many epochs take, the last one whole."""
        return max(1, int(np.ceil(epochs * self.epoch_photos / self.batch)))

    def _epoch(self, number: int) -> NDArray[np.int64]:
        random = np.random.default_rng([self._seed, number])
        if not self._per_person:
            return random.permutation(sum(map(len, self._of_people)))
        groups = []
        for photos in self._of_people:
            count = -(-len(photos) // self._per_person)
            groups.append(np.resize(random.permutation(photos), (count, self._per_person)))
        return random.permutation(np.concatenate(groups)).ravel()
