"""Accuracy of both packs by the field's protocols, with what the calibration claims checked on people it never saw.

Faces are found, aligned and embedded by the system's own stages, only that weaker and smaller ones count too (scores
from .3, sides from 4 px; the defaults are .5 and 24), for these photos are known to show a face. Of several the
one nearest to the middle counts. A photo without a face counts against us: its pairs get the lowest similarity.
Embedders run in bfloat16, the default, where the CPU has it. Embeddings are kept in build/ under a hash of the code
that made them, so that a run that was cut goes on.
"""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_result
from numpy.typing import NDArray
from protocols import DATA, att_photos, celeb_photos, central, cfp_pairs, cfp_photos, stages_hash

from visavis.face.analyze import Analyzer
from visavis.face.cluster import cluster
from visavis.face.evaluate import bcubed, identification_rate_at_far, pairwise, rank_one, tar_at_far, verification
from visavis.face.match import Calibration, calibration_of, template
from visavis.face.models import load_pack
from visavis.face.photos import read

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PEERS = BUILD / "peers" / "bin" / "python"
NO_FACE = -1.0


class Faces:
    """The face of each photo of a list; rows of photos without one are zero."""

    def __init__(self, pack: str, name: str, paths: Sequence[Path], precision: str = "bfloat16") -> None:
        cache = BUILD / f"accuracy-{pack}-{precision}-{name}-{stages_hash()}.npz"
        if not cache.exists():
            BUILD.mkdir(exist_ok=True)
            np.savez(cache, **_analyze(pack, paths, precision))
        kept = np.load(cache)
        self.vectors: NDArray[np.float32] = kept["vectors"]  # [N, D]
        self.quality: NDArray[np.float64] = kept["quality"]
        self.boxes: NDArray[np.float32] = kept["boxes"]  # [N, 4]
        self.found: NDArray[np.bool_] = kept["found"]
        self.paths = list(paths)

    def similarities(self, pairs: NDArray[np.int64], other: "Faces | None" = None) -> NDArray[np.float64]:
        """[P] of pairs [P, 2] of rows."""
        other = other or self
        first, second = pairs.T
        values = np.einsum("pd,pd->p", self.vectors[first], other.vectors[second]).astype(np.float64)
        return np.where(self.found[first] & other.found[second], values, NO_FACE)


def _analyze(pack: str, paths: Sequence[Path], precision: str) -> dict[str, NDArray[Any]]:
    analyzer = Analyzer(load_pack(pack), precision=precision)  # type: ignore[arg-type]
    rows: dict[str, list[Any]] = {"vectors": [], "quality": [], "boxes": [], "found": []}
    start = time.monotonic()
    for number, path in enumerate(paths, 1):
        photo = read(path)
        face = central(analyzer([photo], min_score=0.3, min_size_px=4, thumbnails=False)[0], photo)
        rows["found"].append(face is not None)
        rows["vectors"].append(np.zeros(analyzer.embedder.dim, np.float32) if face is None else face.embedding)
        rows["quality"].append(0.0 if face is None else face.quality)
        rows["boxes"].append(np.zeros(4, np.float32) if face is None else face.detection.box_xyxy_px)
        if number % 500 == 0:
            print(f"{pack} {precision}: {number} of {len(paths)} photos, {time.monotonic() - start:.0f} s")
    return {name: np.array(column) for name, column in rows.items()}


def verification_row(faces: Faces, protocol: str) -> dict[str, float]:
    """CFP's ten folds: accuracy, its deviation, TAR at FAR 1e-2 and 1e-3, in percent."""
    pairs, same, folds = cfp_pairs(protocol)
    similarities = faces.similarities(pairs)
    accuracy, std = verification(similarities, same, folds)
    return {
        "accuracy": _percent(accuracy),
        "std": _percent(std),
        "tar_at_far_1e-2": _percent(tar_at_far(similarities, same, 1e-2)),
        "tar_at_far_1e-3": _percent(tar_at_far(similarities, same, 1e-3)),
    }


def identification_rows(faces: Faces) -> dict[str, float]:
    """One frontal photo enrolled a person: closed set over all 500; open set with people 251..500 unknown."""
    people, kinds = zip(*((person, kind) for person, kind, _ in cfp_photos()), strict=True)
    person, frontal = np.array(people), np.array(kinds) == "frontal"
    first = np.zeros(len(person), bool)
    first[np.unique(person[frontal], return_index=True)[1]] = True
    rows = {}
    for name, probe in (("frontal", frontal & ~first), ("profile", ~frontal)):
        rows[f"rank_1_{name}"] = rank_one(faces.vectors[probe], person[probe], faces.vectors[first], person[first])
        known = first & (person <= 250)
        rows[f"dir_at_far_1e-2_{name}"] = identification_rate_at_far(
            faces.vectors[probe], person[probe], faces.vectors[known], person[known], 1e-2
        )
    return {name: _percent(value) for name, value in rows.items()}


def calibration_rows(faces: Faces, calibration: Calibration) -> dict[str, Any]:
    """What the calibration claims against what happens between people 251..500."""
    person = np.array([number for number, _, _ in cfp_photos()])
    held_out = (person > 250) & faces.found
    vectors, people, quality = faces.vectors[held_out], person[held_out], faces.quality[held_out]
    similarities = vectors @ vectors.T
    upper = np.triu(np.ones(similarities.shape, bool), 1)
    same = people[:, None] == people
    strangers, mates = similarities[upper & ~same], similarities[upper & same]
    claimed = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    measured = [float((strangers >= calibration.similarity_at(rate)).mean()) for rate in claimed]
    threshold = calibration.similarity_at(1e-3)
    lower_quality = np.minimum(quality[:, None], quality)[upper & same]
    rejected = {}
    for share in (0.0, 0.1, 0.2, 0.3):
        kept = mates[lower_quality >= np.quantile(lower_quality, share)]
        rejected[f"{share:.0%}"] = _percent(float((kept < threshold).mean()))
    # Expected calibration error of the probability, both classes weighing the same.
    values = np.concatenate([mates, strangers])
    weight = np.concatenate([np.full(len(mates), 0.5 / len(mates)), np.full(len(strangers), 0.5 / len(strangers))])
    odds = calibration.slope * values + calibration.intercept
    claimed_chance = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    cells = np.minimum((claimed_chance * 15).astype(int), 14)
    truth = np.arange(len(values)) < len(mates)
    gaps = [abs(np.sum(weight[c] * (claimed_chance[c] - truth[c]))) for c in (cells == n for n in range(15))]
    return {
        "pairs_of_strangers": len(strangers),
        "false_match_rate_claimed": claimed,
        "false_match_rate_measured": [float(f"{rate:.3g}") for rate in measured],
        "probability_calibration_error": round(float(sum(gaps)), 4),
        "false_non_match_percent_at_fmr_1e-3_without_the_worst": rejected,
    }


def template_rows(faces: Faces, calibration: Calibration) -> dict[str, Any]:
    """People 251..500: their last seven frontal photos against templates of one and of three others.

    Shows that thresholds calibrated on single pairs hold for templates, and what more photos bring.
    """
    person = np.array([number for number, kind, _ in cfp_photos() if kind == "frontal"])
    vectors, quality = faces.vectors[: len(person)], faces.quality[: len(person)].astype(np.float32)
    order = np.arange(len(person)) % 10
    probe = (person > 250) & (order >= 3) & faces.found[: len(person)]
    threshold = calibration.similarity_at(1e-3)
    rows = {}
    for count in (1, 3):
        enrolled = [np.flatnonzero((person == number) & (order < count)) for number in range(251, 501)]
        templates = np.stack([template(vectors[rows_], quality[rows_]) for rows_ in enrolled])
        similarities = vectors[probe] @ templates.T
        same = person[probe][:, None] == np.arange(251, 501)
        rows[f"{count} photos"] = {
            "false_match_rate_claimed": 1e-3,
            "false_match_rate_measured": float(f"{(similarities[~same] >= threshold).mean():.3g}"),
            "false_non_match_percent": _percent(float((similarities[same] < threshold).mean())),
        }
    return rows


def att_rows(faces: Faces) -> dict[str, float]:
    """All pairs of the 400 photos, and rank 1 with the first photo of each of the 40 people enrolled."""
    person = np.repeat(np.arange(40), 10)
    pairs = np.stack(np.triu_indices(400, 1), 1)
    same = person[pairs[:, 0]] == person[pairs[:, 1]]
    similarities = faces.similarities(pairs)
    first = np.arange(400) % 10 == 0
    return {
        "faces_found": int(faces.found.sum()),
        "tar_at_far_1e-2": _percent(tar_at_far(similarities, same, 1e-2)),
        "tar_at_far_1e-3": _percent(tar_at_far(similarities, same, 1e-3)),
        "rank_1": _percent(rank_one(faces.vectors[~first], person[~first], faces.vectors[first], person[first])),
    }


def deepface_rows(pack: str, calibration: Calibration) -> dict[str, Any]:
    """The pairs of deepface's own tests, decided at the shipped threshold for a false-match rate of 1e-3."""
    folder = DATA / "deepface_tests"
    rows = list(csv.DictReader((folder / "master.csv").read_text().splitlines()))
    names = sorted({row[key] for row in rows for key in ("file_x", "file_y")})
    faces = Faces(pack, "deepface", [folder / name for name in names])
    pairs = np.array([[names.index(row["file_x"]), names.index(row["file_y"])] for row in rows])
    same = np.array([row["Decision"] == "Yes" for row in rows])
    similarities = faces.similarities(pairs)
    said = similarities >= calibration.similarity_at(1e-3)
    return {
        "pairs": len(rows),
        "accuracy": _percent(float((said == same).mean())),
        "false_matches": int((said & ~same).sum()),
        "false_non_matches": int((~said & same).sum()),
        "photos_without_face": int((~faces.found).sum()),
    }


def clustering_rows(cfp: Faces, att: Faces, celeb: Faces, calibration: Calibration) -> dict[str, Any]:
    """All faces of celeb5, att_faces and CFP's frontal photos in one gallery, sorted at the shipped threshold."""
    person = np.array([number for number, kind, _ in cfp_photos() if kind == "frontal"])
    names = sorted({path.parent.name for path in celeb.paths})
    celebrity = np.array([2000 + names.index(path.parent.name) for path in celeb.paths])
    truth = np.concatenate([person, 1000 + np.repeat(np.arange(40), 10), celebrity])
    vectors = np.concatenate([cfp.vectors[: len(person)], att.vectors, celeb.vectors])
    found = np.concatenate([cfp.found[: len(person)], att.found, celeb.found])
    start = time.process_time()
    labels = cluster(vectors[found], threshold=calibration.cluster_similarity)
    seconds = time.process_time() - start
    report: dict[str, Any] = {
        "faces": int(found.sum()),
        "cpu_seconds": round(seconds, 2),
        "threshold": calibration.cluster_similarity,
    }
    unseen = truth[found] > 250  # the threshold was chosen on CFP's people 1..250
    for name, measure in (("pairwise", pairwise), ("bcubed", bcubed)):
        for people, part in (("", slice(None)), ("_of_unseen_people", unseen)):
            precision, recall, f = measure(truth[found][part], labels[part])
            report[name + people] = {"precision": round(precision, 4), "recall": round(recall, 4), "f": round(f, 4)}
    return report


def dlib_rows(ours: Faces) -> dict[str, Any] | str:
    """The same detections embedded by dlib itself, aligned by its own five-point predictor."""
    if not PEERS.exists():
        return "not measured: build/peers is not installed"
    cache = BUILD / f"accuracy-dlib-cfp-{stages_hash()}.npy"
    if not cache.exists():
        request = [
            [str(path), [float(value) for value in box]]
            for path, box, found in zip(ours.paths, ours.boxes, ours.found, strict=True)
            if found
        ]
        script = Path(__file__).parent / "peers" / "dlib_embed.py"
        subprocess.run([PEERS, script, cache], input=json.dumps(request), text=True, check=True)
    theirs = object.__new__(Faces)
    theirs.found, theirs.paths, theirs.quality, theirs.boxes = ours.found, ours.paths, ours.quality, ours.boxes
    vectors = np.load(cache).astype(np.float32)
    theirs.vectors = np.zeros((len(ours.paths), vectors.shape[1]), np.float32)
    theirs.vectors[ours.found] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"cfp_ff": verification_row(theirs, "FF"), "cfp_fp": verification_row(theirs, "FP")}


def _percent(share: float) -> float:
    return round(100 * share, 2)


def main() -> None:
    """Measure the packs named on the command line, or both."""
    if not DATA.exists():
        print(f"not measured: needs the data sets in {DATA}")
        return
    results: dict[str, Any] = {}
    for pack in sys.argv[1:] or ["fast", "default"]:
        calibration = calibration_of(load_pack(pack))
        paths = [path for _, _, path in cfp_photos()]
        cfp, att, celeb = (
            Faces(pack, name, files)
            for name, files in (("cfp", paths), ("att", att_photos()), ("celeb", celeb_photos()))
        )
        frontal = np.array([kind == "frontal" for _, kind, _ in cfp_photos()])
        exact = Faces(pack, "cfp", paths, "float32")
        results[pack] = {
            "cfp_faces_not_found": {
                "frontal": int((~cfp.found[frontal]).sum()),
                "profile": int((~cfp.found[~frontal]).sum()),
            },
            "cfp_ff": verification_row(cfp, "FF"),
            "cfp_fp": verification_row(cfp, "FP"),
            "cfp_identification": identification_rows(cfp),
            "att_faces": att_rows(att),
            "deepface_tests": deepface_rows(pack, calibration),
            "clustering": clustering_rows(cfp, att, celeb, calibration),
            "calibration_on_unseen_people": calibration_rows(cfp, calibration),
            "templates_of_unseen_people": template_rows(cfp, calibration),
            "float32": {"cfp_ff": verification_row(exact, "FF"), "cfp_fp": verification_row(exact, "FP")},
        }
        if pack == "default":
            results["dlib itself, on the same detections"] = dlib_rows(cfp)
        print(json.dumps(results[pack], indent=1))
    write_result("accuracy", results, packages=("numpy", "openvino", "pillow", "simplejpeg"))


if __name__ == "__main__":
    main()
