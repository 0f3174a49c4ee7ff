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
from torch.nn.functional import normalize

from visavis.blocks import margins
from visavis.face.evaluate import tar_at_far, verification
from visavis.face.models import load_pack
from visavis.face.train.adapt import AdaptConfig, Layers, learn, split_people
from visavis.face.train.data import Crops, crops
from visavis.face.train.export import fed
from visavis.face.train.frozen import Features, features_of, frozen, template_of
from visavis.face.train.whiten import turned, whiten

BUILD = Path(__file__).parents[1] / "build" / "adapting"
SEEDS = (0, 1, 2)
LEARN = 400
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


def by_steps(pairs: Pairs, faces: Crops, kind: Any) -> dict[str, Any]:
    """Five losses on the last two folds; a value a seed."""
    base = frozen(load_pack("default").embedder, head=kind == "head")
    network = base.network()
    features = features_of(
        faces, lambda images: network(fed(images, base.spec.input)), BUILD / "features", key=base.key
    )
    people = np.array([int(name) for name in faces.people])
    report: dict[str, Any] = {}
    for loss, margin in LOSSES.items():
        for seed in SEEDS:
            config = AdaptConfig(layers=kind, seed=seed, held_out=0.2)
            learners, judges = (np.flatnonzero(people <= LEARN)[some] for some in split_people(LEARN, 0.2, seed))
            parts = [np.isin(faces.labels, some) for some in (learners, judges)]
            torch.manual_seed(seed)
            layers = Layers(base, features[parts[0]][:, 0], kind)
            (learn_x, learn_y), held_out = (
                (features[part], np.unique(faces.labels[part], return_inverse=True)[1]) for part in parts
            )
            learned = learn(config, layers, learn_x, learn_y, margin(), held_out=held_out, flip=True)
            with torch.no_grad():
                y = layers(torch.from_numpy(np.asarray(features)))
            vectors = normalize(y[:, 0] + y[:, 1]).numpy()
            row = report.setdefault(loss, {"steps": []})
            row["steps"].append(learned.step)
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
    pack = load_pack("default")
    faces = crops(
        DATA / "cfp" / "Data" / "Images",
        pack,
        cache=BUILD / "crops",
        size=pack.embedder.input.width or 0,
        template=template_of(pack.embedder),
        skip_bad=True,
    )
    base = frozen(pack.embedder, head=False)
    network = base.network()
    features = features_of(
        faces, lambda images: network(fed(images, base.spec.input)), BUILD / "features", key=base.key
    )
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
            "last two folds, by steps, a value a seed": {
                kind: by_steps(pairs, faces, kind) for kind in ("linear", "head")
            },
        },
        packages=("numpy", "torch", "openvino"),
    )


if __name__ == "__main__":
    main()
