"""What adapting the embedder of the pack `default` brings on CFP, to people whom the layers have not seen.

The closed form: ten times learned on the people of nine folds, measured on the tenth. Layers that learn by steps,
five losses, three seeds: learned on people 1..400, of whom a fifth decide when to stop, measured on the pairs of the
last two folds. Features are computed once and kept in build/adapting.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import write_result
from numpy.typing import NDArray
from protocols import DATA, cfp_pairs, cfp_photos

from visavis.blocks import margins
from visavis.face.evaluate import tar_at_far, verification
from visavis.face.models import load_pack
from visavis.face.train.adapt import AdaptConfig, Kind, Layers, learn, split_people
from visavis.face.train.data import Crops, crops
from visavis.face.train.export import fed
from visavis.face.train.frozen import Features, Frozen, features_of, frozen, template_of
from visavis.face.train.whiten import turned, whiten

BUILD = Path(__file__).parents[1] / "build" / "adapting"
SEEDS = (0, 1, 2)
LEARN = 400
STEPPED: tuple[Kind, ...] = ("linear", "head")
LOSSES: dict[str, Callable[[], margins.Margin | None]] = {
    "softmax of cosines (NormFace)": lambda: None,
    "SphereFace, m 4 annealed": lambda: margins.SphereFace(4),
    "CosFace, m .35": lambda: margins.CosFace(0.35),
    "ArcFace, m .5": lambda: margins.ArcFace(0.5),
    "AdaFace, m .4": lambda: margins.AdaFace(0.4),
}


class Pairs:
    """CFP's pairs as rows of the crops; -1: a photo without a face."""

    def __init__(self, faces: Crops) -> None:
        place = {Path(path).resolve(): number for number, path in enumerate(faces.paths)}
        rows = np.array([place.get(path, -1) for _, _, path in cfp_photos()])
        self.of = {}
        for protocol in ("FF", "FP"):
            pairs, same, folds = cfp_pairs(protocol)
            self.of[protocol] = rows[pairs], same, folds

    def cosines(self, protocol: str, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """[P]; a photo without a face is unlike all others."""
        first, second = self.of[protocol][0].T
        values = np.einsum("pd,pd->p", vectors[first], vectors[second]).astype(np.float64)
        return np.where((first < 0) | (second < 0), -1.0, values)

    def measured(self, protocol: str, cosines: NDArray[np.float64], folds: tuple[int, ...]) -> dict[str, float]:
        """In percent, over some folds."""
        _, same, of = self.of[protocol]
        some = np.isin(of, folds)
        accuracy, std = verification(cosines[some], same[some], of[some])
        rates = {f"TAR at FAR {far:g}": tar_at_far(cosines[some], same[some], far) for far in (1e-2, 1e-3)}
        values = {"accuracy": accuracy, "std": std, **rates}
        return {name: round(100 * value, 2) for name, value in values.items()}


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Rows of length 1."""
    scaled: NDArray[Any] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def closed_form(pairs: Pairs, faces: Crops, features: Features) -> dict[str, Any]:
    """Ten folds, each adapted by the people of the nine others; and what became better in how many folds."""
    rows, turns = features.mean(1), turned(faces.landmarks)
    person = np.array([int(name) for name in faces.people])[faces.labels]
    shrinkage = AdaptConfig().shrinkage
    report: dict[str, Any] = {"shrinkage": shrinkage}
    for protocol in pairs.of:
        before = pairs.cosines(protocol, unit(rows))
        after = before.copy()
        for fold in range(1, 11):
            learned = (person - 1) // 50 != fold - 1  # the folds are fifty people each, in order
            matrix, shift = whiten(rows[learned], faces.labels[learned], turns[learned], shrinkage=shrinkage)
            some = pairs.of[protocol][2] == fold
            after[some] = pairs.cosines(protocol, unit(rows @ matrix + shift))[some]
        folds = tuple(range(1, 11))
        for name, cosines in (("as it is", before), ("whitened", after)):
            report.setdefault(name, {})[protocol] = pairs.measured(protocol, cosines, folds)
    return report


def cfp_faces() -> Crops:
    """All of CFP, cut for the embedder of the pack `default`."""
    pack = load_pack("default")
    return crops(
        DATA / "cfp" / "Data" / "Images",
        pack,
        cache=BUILD / "crops",
        size=pack.embedder.input.width or 0,
        template=template_of(pack.embedder),
        skip_bad=True,
    )


def cut_before(kind: Kind, faces: Crops) -> tuple[Frozen, Features]:
    """The embedder as far as layers of this kind leave it, and its features of all faces."""
    base = frozen(load_pack("default").embedder, head=kind == "head")
    network = base.network()
    return base, features_of(
        faces, lambda images: network(fed(images, base.spec.input)), BUILD / "features", key=base.key
    )


def stepped(
    base: Frozen,
    features: Features,
    faces: Crops,
    known: NDArray[np.int64],
    kind: Kind,
    seed: int,
    *,
    margin: margins.Margin | None = None,
    normalize: bool = True,
) -> tuple[NDArray[Any], int]:
    """Unit embeddings of all faces by layers that learned from the people of these numbers, and the step kept."""
    learners, judges = (known[some] for some in split_people(len(known), 0.2, seed))
    parts = [np.isin(faces.labels, some) for some in (learners, judges)]
    torch.manual_seed(seed)
    layers = Layers(base, features[parts[0]][:, 0], kind)
    (x, y), held_out = (
        (features[part], np.unique(faces.labels[part], return_inverse=True)[1].astype(np.int64)) for part in parts
    )
    config = AdaptConfig(layers=kind, seed=seed)
    learned = learn(config, layers, x, y, margin, held_out=held_out, normalize=normalize, flip=True)
    with torch.no_grad():
        found = layers(torch.from_numpy(np.asarray(features))).sum(1)
    return unit(found.numpy()), learned.step


def by_steps(pairs: Pairs, faces: Crops, kind: Kind) -> dict[str, Any]:
    """Five losses on the last two folds; a value a seed."""
    base, features = cut_before(kind, faces)
    known = np.flatnonzero(np.array([int(name) for name in faces.people]) <= LEARN)
    report: dict[str, Any] = {}
    for loss, margin in LOSSES.items():
        for seed in SEEDS:
            vectors, step = stepped(base, features, faces, known, kind, seed, margin=margin())
            row = report.setdefault(loss, {"steps": []})
            row["steps"].append(step)
            for protocol in pairs.of:
                found = pairs.measured(protocol, pairs.cosines(protocol, vectors), (9, 10))
                for name, value in found.items():
                    row.setdefault(protocol, {}).setdefault(name, []).append(value)
        print(kind, loss, report[loss], flush=True)
    return report


def main() -> None:
    """Measure."""
    if not DATA.exists():
        print(f"not measured: needs the data sets in {DATA}")
        return
    torch.set_num_threads(1)
    faces = cfp_faces()
    _, features = cut_before("linear", faces)
    pairs = Pairs(faces)
    whitened = closed_form(pairs, faces, features)
    print(whitened, flush=True)
    plain = unit(features.mean(1))
    last = {name: pairs.measured(name, pairs.cosines(name, plain), (9, 10)) for name in pairs.of}
    write_result(
        "adapting",
        {
            "ten folds": whitened,
            "last two folds, as it is": last,
            "last two folds, by steps, a value a seed": {kind: by_steps(pairs, faces, kind) for kind in STEPPED},
        },
        packages=("numpy", "torch", "openvino"),
    )


if __name__ == "__main__":
    main()
