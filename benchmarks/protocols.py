"""The measuring data beside the repository and the protocols that come with it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.face.analyze import AnalyzedFace
from visavis.face.photos import Decoded

ROOT = Path(__file__).parents[1]
# The folder of data sets and models: VISAVIS_SHARED, or one named `shared` beside the repository.
SHARED = Path(os.environ.get("VISAVIS_SHARED", ROOT.parent / "shared"))
DATA = SHARED / "data"


def stages_hash() -> str:
    """Of all code and settings that a face passes on its way to an embedding."""
    face = ROOT / "src" / "visavis" / "face"
    names = ("align", "analyze", "detect", "dlib_format", "embed", "photos", "quality", "runtime")
    files = [*(face / f"{name}.py" for name in names), face / "models" / "manifest.toml", Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def cfp_photos() -> Iterator[tuple[int, str, Path]]:
    """(person 1..500, "frontal" or "profile", path) of CFP's 7,000 photos, in the order of its pair lists."""
    folder = DATA / "cfp"
    for letter, kind in (("F", "frontal"), ("P", "profile")):
        for line in (folder / "Protocol" / f"Pair_list_{letter}.txt").read_text().splitlines():
            path = folder / "Protocol" / line.split()[1]
            yield int(path.parts[-3]), kind, path.resolve()


def cfp_pairs(protocol: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """CFP's ten folds of protocol "FF" or "FP": [P, 2] rows of `cfp_photos`, same or not [P], fold [P]."""
    pairs, same, folds = [], [], []
    for fold in range(1, 11):
        for name in ("same", "diff"):
            text = (DATA / "cfp" / "Protocol" / "Split" / protocol / f"{fold:02d}" / f"{name}.txt").read_text()
            for line in text.split():
                first, second = (int(number) - 1 for number in line.split(","))
                pairs.append((first, second + (5000 if protocol == "FP" else 0)))
                same.append(name == "same")
                folds.append(fold)
    return np.array(pairs), np.array(same), np.array(folds)


def central(faces: Sequence[AnalyzedFace], photo: Decoded) -> AnalyzedFace | None:
    """The face nearest to the middle: the one such data sets mean."""
    middle = (np.array([photo.photo.width_px, photo.photo.height_px]) - 1) / 2

    def distance(face: AnalyzedFace) -> float:
        return float(np.hypot(*(face.detection.box_xyxy_px.reshape(2, 2).mean(0) - middle)))

    return min(faces, key=distance, default=None)


def att_photos() -> list[Path]:
    """The 400 photos of att_faces, ten a person."""
    return [DATA / "att_faces" / f"s{person}" / f"{number}.pgm" for person in range(1, 41) for number in range(1, 11)]


def celeb_photos() -> list[Path]:
    """The photos of celeb5; the folder's name is the person."""
    return sorted((DATA / "celeb5").glob("*/*/*.jpg"))
