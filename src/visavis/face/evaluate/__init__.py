"""How good is it: the measures of face recognition as functions of arrays, and the protocols that use them.

A pair is accepted when its similarity is at or above the threshold: equal ones together or not at all.
FAR is the share of the pairs of different people that are accepted, TAR that of the pairs of one person.
"""

from visavis.face.evaluate.identification import (
    Candidates,
    candidates,
    cumulative_match,
    identification_rate_at_far,
    rank_one,
)
from visavis.face.evaluate.measures import (
    Agreement,
    Interval,
    Roc,
    Verification,
    bcubed,
    equal_error_rate,
    pairwise,
    roc,
    tar_at_far,
    verification,
    wilson,
)

__all__ = [
    "Agreement",
    "Candidates",
    "Interval",
    "Roc",
    "Verification",
    "bcubed",
    "candidates",
    "cumulative_match",
    "equal_error_rate",
    "identification_rate_at_far",
    "pairwise",
    "rank_one",
    "roc",
    "tar_at_far",
    "verification",
    "wilson",
]
