"""Does face processing pay? Verification on CFP with and without it, for both packs; and what it costs.

Faces are found as in bench_accuracy, once. Of each a context is cut out, turned by `views` or `frontalize`, and what
comes out is aligned and embedded as any face is. A mix adds a weight times the second embedding to the first; it
was chosen on folds 1..5, by accuracy. Folds 6..10 are other people, and all ten are told too. A photo without a face
counts against us. What was computed is kept in build/ under a hash of the code that did.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import compare, write_result
from numpy.typing import NDArray
from protocols import DATA, central, cfp_pairs, cfp_photos, stages_hash

from visavis.errors import InputError, LandmarkError
from visavis.face.align import TEMPLATES, align
from visavis.face.analyze import Analyzer
from visavis.face.evaluate import tar_at_far, verification
from visavis.face.match import template
from visavis.face.models import load_pack
from visavis.face.photos import read
from visavis.face.process import augment, frontalize, views
from visavis.face.process.views import View

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
SIDE = 192
# 52 px between the eyes, as many as the larger of the embedders' crops has, and all that those crops show.
CONTEXT = (TEMPLATES["arcface-112"] - 55.5) * (52 / 35.24) + (SIDE - 1) / 2
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
YAW = 0.8  # rad: of views towards profile
FOLDS = {"folds 6..10, other people": (6, 7, 8, 9, 10), "ten folds": tuple(range(1, 11))}

Vectors = NDArray[np.float32]
Turn = Callable[[NDArray[np.uint8], NDArray[np.float32]], View]


def profile_of(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> View:
    """The head turned aside; to which side does not matter, embeddings are averaged with the mirror image's."""
    [view] = views(image, landmarks, yaws=[YAW])
    return view


def faces_of(pack: str) -> dict[str, NDArray[Any]]:
    """Landmarks in the photo, embedding and quality of the face that each photo means."""
    cache = BUILD / f"process-{pack}-faces-{stages_hash()}.npz"
    if not cache.exists():
        analyzer = Analyzer(load_pack(pack))
        rows: dict[str, list[Any]] = {"landmarks": [], "vectors": [], "quality": [], "found": []}
        for _, _, path in cfp_photos():
            photo = read(path)
            face = central(analyzer([photo], min_score=0.3, min_size_px=4, thumbnails=False)[0], photo)
            rows["found"].append(face is not None)
            rows["landmarks"].append(np.zeros((5, 2), np.float32) if face is None else face.detection.landmarks_xy_px)
            rows["vectors"].append(np.zeros(analyzer.embedder.dim, np.float32) if face is None else face.embedding)
            rows["quality"].append(0.0 if face is None else face.quality)
        BUILD.mkdir(exist_ok=True)
        np.savez(cache, **{name: np.array(column) for name, column in rows.items()})
    with np.load(cache) as kept:
        return dict(kept)


def turned(pack: str, name: str, turn: Turn, kind: str, faces: dict[str, NDArray[Any]]) -> Vectors:
    """Embeddings of the turned faces of one kind of photos; of the others, and where it cannot be turned, the own."""
    source = (ROOT / "src" / "visavis" / "face" / "process").glob("*.py")
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source))).hexdigest()[:12]
    cache = BUILD / f"process-{pack}-{name}-{stages_hash()}-{code}.npy"
    if cache.exists():
        return np.asarray(np.load(cache), np.float32)
    analyzer, vectors, start = Analyzer(load_pack(pack)), faces["vectors"].copy(), time.monotonic()
    for row, (_, its_kind, path) in enumerate(cfp_photos()):
        if its_kind != kind or not faces["found"][row]:
            continue
        photo = read(path)
        points = (faces["landmarks"][row] + 0.5) * photo.scale - 0.5
        context = align(photo.pixels, points, CONTEXT, width=SIDE, height=SIDE)
        inside = (points @ context.matrix[:, :2].T + context.matrix[:, 2]).astype(np.float32)
        try:
            view = turn(context.crop, inside)
            crop = analyzer.embedder.align(view.image, view.landmarks_xy_px).crop
        except (InputError, LandmarkError):
            continue
        vectors[row] = analyzer.embedder(crop[None], flip=analyzer.pack.embedder.flip)[0][0]
        if row % 500 == 0:
            print(f"{pack} {name}: photo {row}, {time.monotonic() - start:.0f} s", flush=True)
    np.save(cache, vectors)
    return vectors


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; zeros stay."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def measured(protocol: str, vectors: Vectors, found: NDArray[np.bool_], folds: tuple[int, ...]) -> dict[str, float]:
    """In percent."""
    pairs, same, of = cfp_pairs(protocol)
    first, second = pairs.T
    cosines = np.einsum("pd,pd->p", vectors[first], vectors[second]).astype(np.float64)
    cosines[~(found[first] & found[second])] = -1.0
    some = np.isin(of, folds)
    accuracy, std = verification(cosines[some], same[some], of[some])
    rates = {f"TAR at FAR {far:g}": tar_at_far(cosines[some], same[some], far) for far in (1e-2, 1e-3)}
    return {name: round(100 * value, 2) for name, value in {"accuracy": accuracy, "std": std, **rates}.items()}


def one_to_one(pack: str, faces: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Frontal against profile photos: the profiles frontalized, or the frontal ones turned aside."""
    own, found = faces["vectors"], faces["found"]
    tries: dict[str, Vectors | None] = {
        "as they are": None,
        "profiles frontalized": turned(pack, "frontalized", frontalize, "profile", faces),
        f"frontal photos turned by {YAW} rad": turned(pack, "profiles", profile_of, "frontal", faces),
    }
    report: dict[str, Any] = {}
    for name, other in tries.items():
        if other is None:
            report[name] = {label: measured("FP", own, found, folds) for label, folds in FOLDS.items()}
            continue
        report[f"{name}, instead"] = {label: measured("FP", other, found, folds) for label, folds in FOLDS.items()}
        mixes = {weight: unit(own + weight * other) for weight in WEIGHTS}
        best = max(WEIGHTS, key=lambda w: measured("FP", mixes[w], found, (1, 2, 3, 4, 5))["accuracy"])
        mixed = {label: measured("FP", mixes[best], found, folds) for label, folds in FOLDS.items()}
        report[f"{name}, mixed in"] = {"weight chosen on folds 1..5": best, **mixed}
    return report


def many_to_one(faces: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """People 251..500: their last photos against templates of one, three and five others, frontal and turned mixed.

    TAR in percent over all pairs of a template and a photo.
    """
    people, kinds = (np.array(column) for column in zip(*((p, k) for p, k, _ in cfp_photos()), strict=True))
    quality, vectors, found = faces["quality"].astype(np.float32), faces["vectors"], faces["found"]
    random = np.random.default_rng(0)
    enrolled, probes = {}, []
    for person in range(251, 501):
        rows = np.flatnonzero((people == person) & found)
        frontal, profile = rows[kinds[rows] == "frontal"], rows[kinds[rows] == "profile"]
        # Half of either kind for templates, in a random order; the rest asks.
        order = np.concatenate([frontal[:5], profile[:2]])
        enrolled[person] = random.permutation(order)
        probes += [*frontal[5:], *profile[2:]]
    asked = np.array(probes)
    report: dict[str, Any] = {}
    for count in (1, 3, 5):
        for name, weigh in (("mean", np.ones_like(quality)), ("weighted by quality", quality)):
            made = np.stack([template(vectors[rows[:count]], weigh[rows[:count]]) for rows in enrolled.values()])
            cosines = vectors[asked] @ made.T
            same = people[asked][:, None] == np.array(list(enrolled))
            rates = {f"TAR at FAR {far:g}": tar_at_far(cosines.ravel(), same.ravel(), far) for far in (1e-3, 1e-4)}
            report[f"{count} photos, {name}"] = {key: round(100 * value, 2) for key, value in rates.items()}
    return report


def costs() -> dict[str, Any]:
    """CPU milliseconds a crop."""
    photo = read(next(path for _, _, path in cfp_photos()))
    face = Analyzer(load_pack("default"))([photo])[0][0]
    points = (face.detection.landmarks_xy_px + 0.5) * photo.scale - 0.5
    report = {}
    for side in (112, SIDE):
        goal = TEMPLATES["arcface-112"] if side == 112 else CONTEXT
        cut = align(photo.pixels, points, goal, width=side, height=side)
        inside = (points @ cut.matrix[:, :2].T + cut.matrix[:, 2]).astype(np.float32)
        batch, landmarks = np.stack([cut.crop] * 32), np.stack([inside] * 32)
        random = np.random.default_rng(0)
        times = compare(
            {
                "augment, 32 at once": lambda b=batch, m=landmarks, r=random: augment(b, m, r),
                "views, one": lambda c=cut.crop, p=inside: views(c, p, yaws=[0.5]),
                "frontalize": lambda c=cut.crop, p=inside: frontalize(c, p),
            },
            rounds=15,
        )
        for name, row in times.items():
            share = 32 if "32" in name else 1
            report[f"{name}, {side} px"] = [round(row[f"cpu_ms_p{p}"] / share, 2) for p in (25, 50, 75)]
    return report


def main() -> None:
    """Measure."""
    if not DATA.exists():
        print(f"not measured: needs the data sets in {DATA}")
        return
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for pack in ("fast", "default"):
        faces = faces_of(pack)
        results[pack] = {"frontal-profile": one_to_one(pack, faces), "templates": many_to_one(faces)}
        print(results[pack], flush=True)
    results["cpu ms a crop, quartiles"] = costs()
    write_result("process", results, packages=("numpy", "torch", "openvino"))


if __name__ == "__main__":
    main()
