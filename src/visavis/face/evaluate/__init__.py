"""How good is it: the measures of face recognition as functions of arrays, and the protocols that use them.

A pair is accepted when its similarity is at or above the threshold: equal ones together or not at all.
FAR is the share of the pairs of different people that are accepted, TAR that of the pairs of one person.
`verification_report` takes embeddings and names, `run` a data set and a pack of models.
"""

from visavis.face.evaluate.bootstrap import Estimate, estimates, resample
from visavis.face.evaluate.embeddings import Faces, embed_photos
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
from visavis.face.evaluate.pairs import all_pairs, similarities_of
from visavis.face.evaluate.plots import det_plot, png, roc_plot
from visavis.face.evaluate.protocols import PairList, Protocol, Search, read_groups, read_protocol
from visavis.face.evaluate.reports import (
    GroupErrors,
    IdentificationReport,
    OpenSetPoint,
    OperatingPoint,
    VerificationReport,
    identify,
    verification_report,
    verify,
)
from visavis.face.evaluate.run import Evaluation, evaluate_faces, run
from visavis.face.evaluate.templates import pool

__all__ = [
    "Agreement",
    "Candidates",
    "Estimate",
    "Evaluation",
    "Faces",
    "GroupErrors",
    "IdentificationReport",
    "Interval",
    "OpenSetPoint",
    "OperatingPoint",
    "PairList",
    "Protocol",
    "Roc",
    "Search",
    "Verification",
    "VerificationReport",
    "all_pairs",
    "bcubed",
    "candidates",
    "cumulative_match",
    "det_plot",
    "embed_photos",
    "equal_error_rate",
    "estimates",
    "evaluate_faces",
    "identification_rate_at_far",
    "identify",
    "pairwise",
    "png",
    "pool",
    "rank_one",
    "read_groups",
    "read_protocol",
    "resample",
    "roc",
    "roc_plot",
    "run",
    "similarities_of",
    "tar_at_far",
    "verification",
    "verification_report",
    "verify",
    "wilson",
]
