"""The whole evaluation of a pack on a data set: photos in, every number with its interval out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visavis.face.evaluate.bootstrap import Estimate
from visavis.face.evaluate.embeddings import Faces, embed_photos
from visavis.face.evaluate.pairs import similarities_of
from visavis.face.evaluate.protocols import Kind, Protocol, read_groups, read_protocol
from visavis.face.evaluate.reports import GroupErrors, IdentificationReport, VerificationReport, identify, verify
from visavis.face.evaluate.templates import pool
from visavis.face.models import Pack
from visavis.face.runtime import Precision

__all__ = ["Evaluation", "evaluate_faces", "run"]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    protocol: Protocol
    faces: Faces
    groups: dict[str, str]  # of people; empty: none given
    verification: list[VerificationReport]  # one for each list of pairs
    similarities: list[Any]  # [P] of each list
    identification: list[IdentificationReport]
    resamples: int
    seed: int

    def without_face(self) -> list[Path]:
        """The photos that were read and gave no face."""
        rows = np.flatnonzero(~self.faces.found)
        return list(dict.fromkeys(self.protocol.photos[row] for row in rows if int(row) not in self.faces.unreadable))

    def unreadable(self) -> dict[Path, str]:
        """The files that are no photo we can read, with the reason."""
        return {self.protocol.photos[row]: reason for row, reason in self.faces.unreadable.items()}

    def photo_row(self, template: int) -> int:
        """The photo that shows a template best: its first with a face."""
        rows = np.flatnonzero(self.protocol.templates == template)
        return int(max(rows, key=lambda row: bool(self.faces.found[row])))

    def to_json(self) -> dict[str, Any]:
        """Plain values; no infinity and no NaN among them, which JSON has no words for."""
        value = {
            "protocol": self.protocol.kind,
            "photos": len(dict.fromkeys(self.protocol.photos)),
            "people": len(set(self.protocol.people)),
            "without_face": [str(path) for path in self.without_face()],
            "unreadable": [{"path": str(path), "reason": reason} for path, reason in self.unreadable().items()],
            "people_without_group": len(set(self.protocol.people) - set(self.groups)) if self.groups else None,
            "verification": [self._verification(index) for index in range(len(self.verification))],
            "identification": [_identification(report) for report in self.identification],
            "intervals": {
                "level": 0.95,
                "method": "percentiles of resamples over people; Wilson's over people where all resamples agree",
                "resamples": self.resamples,
                "seed": self.seed,
            },
        }
        finite: dict[str, Any] = _finite(value)
        return finite

    def _verification(self, index: int) -> dict[str, Any]:
        report = self.verification[index]

        def pairs(numbers: Any) -> list[dict[str, Any]]:
            rows = []
            for number in numbers:
                templates = [int(row) for row in self.protocol.pairs[index].rows[number]]
                rows.append(
                    {
                        "similarity": float(self.similarities[index][number]),
                        "people": [self.protocol.people[row] for row in templates],
                        "photos": [str(self.protocol.photos[self.photo_row(row)]) for row in templates],
                    }
                )
            return rows

        return {
            "name": report.name,
            "people": report.people,
            "pairs_of_one_person": report.genuine,
            "pairs_of_two_people": report.impostor,
            "pairs_without_face": report.without_face,
            "accuracy": None if report.accuracy is None else _estimate(report.accuracy),
            "accuracy_std": report.accuracy_std,
            "equal_error_rate": _estimate(report.equal_error_rate),
            "tar_at_far": [
                {"far": point.far, "threshold": point.threshold, **_estimate(point.tar)}
                for point in report.operating_points
            ],
            "groups_at_far": report.usual.far if report.usual and report.groups else None,
            "groups": [_group(group) for group in report.groups],
            "hardest_pairs_of_two_people": pairs(report.hardest_impostors),
            "hardest_pairs_of_one_person": pairs(report.hardest_genuine),
            "roc": {name: column.tolist() for name, column in report.roc._asdict().items()},
        }


def run(
    data: Path,
    pack: Pack,
    *,
    protocol: Kind = "auto",
    groups: Path | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    precision: Precision = "bfloat16",
    accept_licence: bool = False,
    max_pairs: int = 1_000_000,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Evaluate a pack on a data set; arguments as `read_protocol`, `read_groups`, `embed_photos` and `verify`.

    Raises:
        InputError: not such a data set, or one that leaves nothing to compare.
        ModelError: the pack's models cannot be had or loaded.
    """
    read = read_protocol(data, kind=protocol, max_pairs=max_pairs, seed=seed)
    group_of = {} if groups is None else read_groups(groups, read.people)
    faces = embed_photos(
        read.photos,
        pack,
        cache=cache,
        workers=workers,
        precision=precision,
        accept_licence=accept_licence,
        progress=progress,
    )
    return evaluate_faces(read, faces, groups=group_of, resamples=resamples, seed=seed)


def evaluate_faces(
    protocol: Protocol, faces: Faces, *, groups: dict[str, str] | None = None, resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """Evaluate faces that are embedded already; `groups` by person.

    Raises:
        InputError: the pairs leave nothing to compare.
    """
    vectors = faces.embeddings
    if len(protocol.people) < len(protocol.photos) or protocol.kind == "ijb":
        vectors = pool(vectors, protocol.templates, protocol.media)
    names, people = np.unique(protocol.people, return_inverse=True)
    group_of = [groups.get(str(name)) for name in names] if groups else None
    similarities = [similarities_of(vectors, pairs.rows) for pairs in protocol.pairs]
    verification = [
        verify(
            pairs.name, values, pairs.rows, people, folds=pairs.folds, groups=group_of, resamples=resamples, seed=seed
        )
        for pairs, values in zip(protocol.pairs, similarities, strict=True)
    ]
    identification = [
        identify(
            search.name,
            vectors,
            people,
            gallery=search.gallery,
            probes=search.probes,
            known=search.known,
            resamples=resamples,
            seed=seed,
        )
        for search in protocol.searches
    ]
    return Evaluation(protocol, faces, groups or {}, verification, similarities, identification, resamples, seed)


def _identification(report: IdentificationReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "enrolled": report.enrolled,
        "probes": report.probes,
        "cumulative_match": [
            {"rank": rank, **_estimate(share)} for rank, share in enumerate(report.cumulative_match, 1)
        ],
        "open_set": {
            "enrolled": report.known,
            "mated_probes": report.mated,
            "non_mated_probes": report.non_mated,
            "identification_rate_at_far": [
                {"far": point.far, "threshold": point.threshold, **_estimate(point.rate)} for point in report.open_set
            ],
        },
    }


def _group(group: GroupErrors) -> dict[str, Any]:
    rates = (group.false_match_rate, group.false_non_match_rate)
    match, non_match = (None if rate is None else _estimate(rate) for rate in rates)
    return {
        "group": group.group,
        "people": group.people,
        "pairs_of_one_person": group.genuine,
        "pairs_of_two_people": group.impostor,
        "false_match_rate": match,
        "false_non_match_rate": non_match,
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return dict(estimate._asdict())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
