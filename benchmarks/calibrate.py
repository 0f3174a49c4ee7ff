"""Writes the calibration a pack ships with, from the first 250 people of CFP; the other 250 are left for
measuring.

    python benchmarks/calibrate.py fast

Every photo is taken as it is, and twice more made worse at random (smaller, blurred, darker, compressed), as
CFP's own photos are all good and would teach the quality nothing about bad ones. Analysed faces are kept in
build/, so that a second run starts where the first stopped.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from protocols import central, cfp_photos, stages_hash

from visavis.face.analyze import Analyzer
from visavis.face.calibrate import UNCALIBRATED, calibrate, fit_quality
from visavis.face.models import Pack, load_pack
from visavis.face.photos import read

ROOT = Path(__file__).parents[1]
PEOPLE = 250


def worsen(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random mix of small, blurred, dark and compressed."""
    image = Image.fromarray(pixels)
    if rng.random() < 0.7:
        factor = float(np.exp(rng.uniform(np.log(0.1), np.log(0.7))))
        image = image.resize([max(8, round(side * factor)) for side in image.size], Image.Resampling.BILINEAR)
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.005, 0.04) * max(image.size)))
    if rng.random() < 0.3:
        image = image.point([round(255 * rng_free) for rng_free in np.linspace(0, rng.uniform(0.1, 0.6), 256)] * 3)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(8, 60)))
        image = Image.open(buffer)
    return np.asarray(image.convert("RGB"))


def faces_of(pack: Pack) -> dict[str, NDArray[np.generic]]:
    """Person, kind (0 frontal, 1 profile), worse (0, 1, 2), measures and embedding of each face found."""
    cache = ROOT / "build" / f"calibrate-{pack.name}-{stages_hash()}.npz"
    if cache.exists():
        return dict(np.load(cache))
    analyzer = Analyzer(pack, calibration=UNCALIBRATED)
    rng = np.random.default_rng(0)
    rows = []
    for person, kind, path in cfp_photos():
        if person > PEOPLE:
            continue
        photo = read(path)
        for worse in range(3):
            if worse:
                photo = photo._replace(pixels=worsen(photo.pixels, rng))
            face = central(analyzer([photo], thumbnails=False, min_score=0.3, min_size_px=4)[0], photo)
            if face is not None:
                rows.append((person, kind == "profile", worse, face.measures, face.embedding))
            photo = read(path)
    names = ("person", "profile", "worse", "measures", "embedding")
    faces = {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    cache.parent.mkdir(exist_ok=True)
    np.savez(cache, **faces)  # type: ignore[arg-type]
    return faces


def main() -> None:
    """Calibrate the pack named on the command line."""
    pack = load_pack(sys.argv[1])
    faces = faces_of(pack)
    people, embeddings, measures = faces["person"].astype(np.int64), faces["embedding"], faces["measures"]
    original, frontal = faces["worse"] == 0, faces["profile"] == 0
    quality = fit_quality(embeddings, people, measures, original & frontal)
    calibration = calibrate(
        embeddings[original],
        people[original],
        quality,
        cluster_on=frontal[original],
        measured_on=f"CFP, the first {PEOPLE} of 500 people: 10 frontal and 4 profile photos each",
    )
    folder = ROOT / "src" / "visavis" / "face" / "calibrations"
    folder.mkdir(exist_ok=True)
    path = folder / f"{pack.detector.name}--{pack.embedder.name}.json"
    path.write_text(json.dumps(calibration.to_json(), indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
