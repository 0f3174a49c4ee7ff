"""The measuring data beside the repository and the protocols that come with it."""

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis.face.analyze import AnalyzedFace
from visavis.face.evaluate import Protocol, embeddings, read_protocol
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


@functools.cache
def _cfp() -> Protocol:
    return read_protocol(DATA / "cfp", kind="cfp")


def cfp_photos() -> Iterator[tuple[int, str, Path]]:
    """(person 1..500, "frontal" or "profile", path) of CFP's 7,000 photos, in the order of its pair lists."""
    for path in _cfp().photos:
        yield int(path.parts[-3]), path.parts[-2], path


def cfp_pairs(protocol: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """CFP's ten folds of protocol "FF" or "FP": [P, 2] rows of `cfp_photos`, same or not [P], fold [P]."""
    [pairs] = [pairs for pairs in _cfp().pairs if pairs.name == protocol]
    people = np.array(_cfp().people)[pairs.rows]
    assert pairs.folds is not None
    return pairs.rows, people[:, 0] == people[:, 1], pairs.folds


def central(faces: Sequence[AnalyzedFace], photo: Decoded) -> AnalyzedFace | None:
    """The face nearest to the middle: the one such data sets mean."""
    number = embeddings.central([face.detection for face in faces], photo.photo)
    return None if number is None else faces[number]


def att_photos() -> list[Path]:
    """The 400 photos of att_faces, ten a person."""
    return [DATA / "att_faces" / f"s{person}" / f"{number}.pgm" for person in range(1, 41) for number in range(1, 11)]


def celeb_photos() -> list[Path]:
    """The photos of celeb5; the folder's name is the person."""
    return sorted((DATA / "celeb5").glob("*/*/*.jpg"))
