"""From cosines to answers: false-match rates, probabilities, thresholds and templates.

A similarity is a cosine in [-1, 1] and means something only beside the calibration of the model it comes from.
N: faces, D: embedding length.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, ModelError, expect
from visavis.face.models import Pack
from visavis.face.quality import MEASURES, QualityModel

__all__ = ["Calibration", "Pairs", "calibration_of", "members_of", "template"]

_LOWEST_RATE = 1e-9
TEMPLATE_FACES = 16


@dataclass(frozen=True, slots=True)
class Pairs:
    """How similar pairs were that the calibration was measured on: shares by similarity, in bins of one width."""

    edges: NDArray[np.float64]  # [B + 1] rising evenly; what lies beyond stands in the first and the last bin
    different: NDArray[np.float64]  # [B], of pairs of different people; their sum is 1
    same: NDArray[np.float64]  # [B], of pairs of one person; their sum is 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """What similarities of one detector-embedder pair mean, measured on photos of known people."""

    similarity: NDArray[np.float64]  # [K] rising
    log10_false_match_rate: NDArray[np.float64]  # [K] falling: of pairs of different people at or above `similarity`
    slope: float  # log odds of "same person" at even prior odds: slope * similarity + intercept
    intercept: float
    cluster_similarity: float  # mean similarity at which two clusters are one person
    quality: QualityModel
    measured_on: str
    pairs: Pairs | None = None  # None: written before they were kept

    def false_match_rate(self, similarity: float, *, candidates: int = 1) -> float:
        """The chance that at least one of so many different people reaches `similarity`, in [1e-9, 1].

        Between the measured points, and beyond the last, the logarithm of the rate is continued linearly.
        """
        xs, ys = self.similarity, self.log10_false_match_rate
        if similarity > xs[-1]:
            fall = (ys[-1] - ys[-3]) / (xs[-1] - xs[-3])
            exponent = float(ys[-1] + fall * (similarity - xs[-1]))
        else:
            exponent = float(np.interp(similarity, xs, ys))
        one = max(10.0**exponent, _LOWEST_RATE)
        return float(-np.expm1(candidates * np.log1p(-min(one, 1 - 1e-12))))

    def similarity_at(self, false_match_rate: float, *, candidates: int = 1) -> float:
        """The similarity whose `false_match_rate` is the one given; in [1e-9, 1).

        Raises:
            InputError: the rate is out of range.
        """
        if not _LOWEST_RATE <= false_match_rate < 1:
            raise InputError(f"false_match_rate: expected a rate in [1e-9, 1), got {false_match_rate}")
        low, high = -1.0, 2.0
        for _ in range(60):  # the rate falls with the similarity
            middle = (low + high) / 2
            if self.false_match_rate(middle, candidates=candidates) > false_match_rate:
                low = middle
            else:
                high = middle
        return high

    def probability(self, similarity: float, *, candidates: int = 1) -> float:
        """The chance that it is the same person, when each candidate and "none of them" are equally likely before."""
        odds = self.slope * similarity + self.intercept - np.log(candidates)
        return float(1 / (1 + np.exp(-np.clip(odds, -500, 500))))

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        quality = self.quality
        return {
            "measured_on": self.measured_on,
            "similarity": [round(float(x), 5) for x in self.similarity],
            "log10_false_match_rate": [round(float(y), 4) for y in self.log10_false_match_rate],
            "slope": round(self.slope, 5),
            "intercept": round(self.intercept, 5),
            "cluster_similarity": round(self.cluster_similarity, 4),
            "quality": {
                "measures": list(MEASURES),
                **{
                    name: [round(float(v), 6) for v in getattr(quality, name)]
                    for name in ("mean", "deviation", "weights", "curvature")
                },
                "bias": round(quality.bias, 6),
            },
            **({} if self.pairs is None else {"pairs": _pairs_to_json(self.pairs)}),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Calibration":
        """The reverse of `to_json`.

        Raises:
            ModelError: not a calibration, or one for other measures.
        """
        try:
            quality = values["quality"]
            if quality["measures"] != list(MEASURES):
                raise ModelError("calibration: expected the quality measures of this version, got others")
            arrays = {
                name: np.array(quality[name], np.float64) for name in ("mean", "deviation", "weights", "curvature")
            }
            if any(array.shape != (len(MEASURES),) for array in arrays.values()):
                raise ModelError(
                    f"calibration: expected {len(MEASURES)} numbers of each kind for the quality, got others"
                )
            xs, ys = (np.array(values[name], np.float64) for name in ("similarity", "log10_false_match_rate"))
            if not (len(xs) == len(ys) > 2 and (np.diff(xs) > 0).all() and (np.diff(ys) <= 0).all()):  # NaN too
                raise ModelError("calibration: expected similarities that rise with rates that fall, got others")
            return cls(
                xs,
                ys,
                float(values["slope"]),
                float(values["intercept"]),
                float(values["cluster_similarity"]),
                QualityModel(**arrays, bias=float(quality["bias"])),
                str(values["measured_on"]),
                _pairs_from_json(values["pairs"]) if "pairs" in values else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"calibration: expected the file that calibrating writes, got {error!r}") from error


def _pairs_to_json(pairs: Pairs) -> dict[str, Any]:
    return {
        "low": round(float(pairs.edges[0]), 5),
        "high": round(float(pairs.edges[-1]), 5),
        "different": [round(float(share), 7) for share in pairs.different],
        "same": [round(float(share), 7) for share in pairs.same],
    }


def _pairs_from_json(values: dict[str, Any]) -> Pairs:
    different, same = (np.array(values[name], np.float64) for name in ("different", "same"))
    edges = np.linspace(values["low"], values["high"], len(different) + 1)
    sums = [float(shares.sum()) for shares in (different, same)]
    if not (len(different) == len(same) > 1 and edges[0] < edges[-1] and np.allclose(sums, 1, atol=1e-3)):  # NaN too
        raise ModelError("calibration: expected the shares of pairs by similarity, which sum to 1, got others")
    return Pairs(edges, different, same)


def calibration_of(pack: Pack) -> Calibration:
    """The calibration that the pack's TOML names, or else the one shipped for its pair of models.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    detector, embedder = pack.detector.name, pack.embedder.name
    path = pack.calibration or Path(__file__).with_name("calibrations") / f"{detector}--{embedder}.json"
    if not path.is_file():
        raise ModelError(
            f"calibration: expected one for {detector} with {embedder}, got none: nobody knows what its similarities "
            "mean; make one from photos of known people with `visavis face calibrate`"
        )
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path.name}: expected a calibration, got no JSON ({error})") from error
    return Calibration.from_json(values)


def template(embeddings: NDArray[np.float32], qualities: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, D] faces of one person to [D]: the mean of the best 16, weighted by quality, left shorter than 1.

    Its product with a face is the weighted mean of the similarities to those faces, so it may be read by the
    calibration of single pairs: the spread of a mean of such similarities is at most that of one.

    Raises:
        TensorError: the shapes do not fit.
        InputError: no face.
    """
    expect("embeddings", embeddings, "float", None, None)
    expect("qualities", qualities, "float", len(embeddings))
    if len(embeddings) == 0:
        raise InputError("embeddings: expected at least one face, got none")
    best = np.argsort(-qualities, kind="stable")[:TEMPLATE_FACES]
    weights = qualities[best] + 1e-3
    mean: NDArray[np.float32] = (weights @ embeddings[best] / weights.sum()).astype(np.float32)
    return mean


def members_of(labels: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each label, rising, with the places that bear it."""
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=False)
