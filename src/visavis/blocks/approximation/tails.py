"""The upper end of a stream, exactly: thresholds for small rates, such as of false matches.

N scores seen, M kept, of which the largest is the first.
"""

import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from visavis.errors import InputError, TensorError

__all__ = ["Tail", "Threshold"]


class Threshold(NamedTuple):
    """The score above which a share `rate` of all scores lies, and how sure it is."""

    value: float
    low: float  # with the confidence asked for, the true threshold is at or above this
    high: float  # and at or below this
    rate: float  # of the scores seen, the share above `value`: at most the one asked for


class Tail:
    """Keeps the M largest scores of a stream and counts all; for rates up to M / N the threshold is exact.

    Of N independent scores the number above the true threshold t is binomial(N, rate), whatever their law. With
    ``P(fewer than j above) <= a / 2`` the j-th largest score is at or above t in all but a / 2 of cases, and so below:
    two order statistics enclose t with confidence 1 - a or more. Pairs of the same faces are not independent: there the
    interval is too narrow, and N should count people, not pairs.

    Args:
        keep: M, more than rate * N by a few of its square roots, lest the interval be open below. With 50 scores above
            the threshold its rate is known within ``1.96 / sqrt(50)``, 28 %, at 95 %.

    Raises:
        InputError: `keep` is not positive.

    Source: David and Nagaraja, Order Statistics, 2003, section 7.1.

    >>> tail = Tail(100).update(torch.arange(1000.0))
    >>> tail.threshold(0.05)
    Threshold(value=949.0, low=935.0, high=963.0, rate=0.05)
    """

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise InputError(f"keep: expected at least 1, got {keep}")
        self.keep = keep
        self.count = 0
        self._largest = torch.zeros(0, dtype=torch.float64)

    @torch.no_grad()
    def update(self, scores: Tensor) -> Self:
        """Take float [N] in; order and batches do not matter.

        Raises:
            TensorError: another shape or dtype.
            InputError: a score is not finite.
        """
        if not scores.is_floating_point() or scores.ndim != 1:
            dtype = str(scores.dtype).removeprefix("torch.")
            raise TensorError(f"scores: expected float [any], got {dtype} {list(scores.shape)}")
        if not bool(scores.isfinite().all()):
            raise InputError("scores: expected finite numbers, got infinity or NaN")
        self.count += len(scores)
        largest = scores.topk(min(self.keep, len(scores))).values
        both = torch.cat([self._largest, largest.to(self._largest)])
        self._largest = both.topk(min(self.keep, len(both))).values
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another saw, exactly; `other` stays as it is.

        Raises:
            InputError: it keeps another number.
        """
        if other.keep != self.keep:
            raise InputError(f"other: expected one that keeps {self.keep}, got {other.keep}")
        count = self.count + other.count
        self.update(other._largest)
        self.count = count
        return self

    def threshold(self, rate: float, *, confidence: float = 0.95) -> Threshold:
        """The least score seen that at most a share `rate` of all exceeds, with its interval.

        An end that would need scores that are not kept, or more than were seen, is infinite.

        Raises:
            InputError: `rate` is outside (0, 1), `confidence` outside (0, 1), or too few scores are kept or seen.
        """
        if not 0.0 < rate < 1.0:
            raise InputError(f"rate: expected a share in (0, 1), got {rate}")
        if not 0.0 < confidence < 1.0:
            raise InputError(f"confidence: expected a share in (0, 1), got {confidence}")
        allowed = math.floor(rate * self.count * (1 + 1e-12))  # a product that is whole but for rounding is whole
        if allowed >= len(self._largest):
            raise InputError(
                f"rate: expected more than {allowed} scores kept for a rate of {rate:g} of {self.count}, "
                f"got {len(self._largest)}; keep more"
            )
        below = self._binomial(rate)  # [M + 1]: the chance of at most k = 0 .. M scores above
        miss = (1 - confidence) / 2
        # The j-th largest is at or above t unless j or more lie above t; and below it unless fewer than j do.
        upper = int((below <= miss).sum())  # fewer than `upper` above: a / 2 at most
        lower = int((below < 1 - miss).sum()) + 1
        kept = self._largest
        return Threshold(
            float(kept[allowed]),
            float(kept[lower - 1]) if lower <= len(kept) else -math.inf,
            float(kept[upper - 1]) if upper >= 1 else math.inf,
            float((kept > kept[allowed]).sum()) / self.count,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything; goes on to the bit when loaded."""
        return {"keep": self.keep, "count": self.count, "largest": self._largest.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the object that `state` was taken of.

        Raises:
            InputError: that one keeps another number.
        """
        if state["keep"] != self.keep:
            raise InputError(f"state: expected one that keeps {self.keep}, got {state['keep']}")
        self.count = state["count"]
        self._largest = state["largest"].clone()

    def _binomial(self, rate: float) -> Tensor:
        n = torch.tensor(float(self.count), dtype=torch.float64)
        k = torch.arange(min(self.keep, self.count) + 1, dtype=torch.float64)
        ways = (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()
        return (ways + k * math.log(rate) + (n - k) * math.log1p(-rate)).logcumsumexp(0).exp()
