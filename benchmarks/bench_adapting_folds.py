"""Whether what bench_adapting.py finds is more than chance: CFP's ten folds in pairs, adapted against not.

A fold is fifty people, and always adapted by the other 450. Accuracy: the mean of the ten differences and its standard
error. TAR: the difference over all folds, and where it lies in 95 of 100 draws of ten folds with replacement. The
closed form with several shrinkages (its default was chosen on these folds), and the linear layer learned by steps of a
softmax of cosines. Also, beside bench_adapting.py's losses, the plain softmax on the last two folds.
"""

from typing import Any

import numpy as np
import torch
from bench_adapting import LEARN, SEEDS, STEPPED, Pairs, cfp_faces, cut_before, stepped, unit
from harness import write_result
from numpy.typing import NDArray
from protocols import DATA

from visavis.face.evaluate import tar_at_far, verification
from visavis.face.train.adapt import AdaptConfig
from visavis.face.train.whiten import turned, whiten

FOLDS = tuple(range(1, 11))
SHRINKAGES = (3.0, 10.0, 30.0)
RATES = (1e-2, 1e-3)


def compared(pairs: Pairs, protocol: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    """After less before, in percent."""
    _, same, of = pairs.of[protocol]
    differences = fold_accuracies(after, same, of) - fold_accuracies(before, same, of)
    report: dict[str, Any] = {
        "accuracy": round(100 * differences.mean(), 2),
        "accuracy, standard error": round(100 * differences.std(ddof=1) / len(FOLDS) ** 0.5, 2),
        "folds better": int((differences > 0).sum()),
        "folds worse": int((differences < 0).sum()),
    }
    random = np.random.default_rng(0)
    rows = [np.flatnonzero(of == fold) for fold in FOLDS]
    draws = [np.concatenate([rows[k] for k in random.integers(0, len(FOLDS), len(FOLDS))]) for _ in range(500)]
    for far in RATES:

        def gain(some: NDArray[np.int64], far: float = far) -> float:
            return 100 * (tar_at_far(after[some], same[some], far) - tar_at_far(before[some], same[some], far))

        low, high = np.percentile([gain(some) for some in draws], [2.5, 97.5])
        report[f"TAR at FAR {far:g}"] = [round(v, 2) for v in (low, gain(np.arange(len(of))), high)]
    return report


def fold_accuracies(cosines: NDArray[np.float64], same: NDArray[Any], of: NDArray[Any]) -> NDArray[np.float64]:
    """Of each fold, by the best threshold of the nine others."""
    accuracies = []
    for fold in FOLDS:
        test = of == fold
        tried = np.sort(cosines[~test])
        ups = np.cumsum(same[~test][np.argsort(cosines[~test], kind="stable")])
        right = ups[-1] - ups + np.arange(1, len(tried) + 1) - ups  # accepted are those above each value
        accuracies.append(((cosines[test] > tried[right.argmax()]) == same[test]).mean())
    return np.array(accuracies)


def main() -> None:
    """Measure."""
    if not DATA.exists():
        print(f"not measured: needs the data sets in {DATA}")
        return
    torch.set_num_threads(1)
    faces = cfp_faces()
    cut = {kind: cut_before(kind, faces) for kind in STEPPED}
    pairs, rows, turns = Pairs(faces), cut["linear"][1].mean(1), turned(faces.landmarks)
    person = np.array([int(name) for name in faces.people])
    block = (person - 1) // 50 + 1  # the folds are fifty people each, in order

    def whitened(known: NDArray[np.int64], shrinkage: float) -> NDArray[Any]:
        some = np.isin(faces.labels, known)
        matrix, shift = whiten(rows[some], faces.labels[some], turns[some], shrinkage=shrinkage)
        return unit(rows @ matrix + shift)

    ways: dict[str, Any] = {f"whitened, shrinkage {r:g}": lambda known, r=r: whitened(known, r) for r in SHRINKAGES} | {
        "linear, softmax of cosines, one seed": lambda known: stepped(*cut["linear"], faces, known, "linear", 0)[0]
    }
    ten: dict[str, Any] = {}
    for way, adapted in ways.items():
        vectors = {fold: adapted(np.flatnonzero(block != fold)) for fold in FOLDS}
        for protocol in pairs.of:
            before = pairs.cosines(protocol, unit(rows))
            after = before.copy()
            for fold in FOLDS:
                own = pairs.of[protocol][2] == fold
                after[own] = pairs.cosines(protocol, vectors[fold])[own]
            assert np.isclose(
                fold_accuracies(after, *pairs.of[protocol][1:]).mean(),
                verification(after, *pairs.of[protocol][1:])[0],
                atol=2e-3,
            )  # another way to the same figure, but for ties of thresholds
            ten.setdefault(way, {})[protocol] = {
                **pairs.measured(protocol, after, FOLDS),
                "after less before": compared(pairs, protocol, before, after),
            }
        print(way, ten[way], flush=True)
    known = np.flatnonzero(person <= LEARN)
    closed = whitened(known, AdaptConfig().shrinkage)
    last: dict[str, Any] = {"whitened": {p: pairs.measured(p, pairs.cosines(p, closed), (9, 10)) for p in pairs.of}}
    for layer in STEPPED:
        row: dict[str, Any] = {}
        for seed in SEEDS:
            found, _ = stepped(*cut[layer], faces, known, layer, seed, normalize=False)
            for protocol in pairs.of:
                for name, value in pairs.measured(protocol, pairs.cosines(protocol, found), (9, 10)).items():
                    row.setdefault(protocol, {}).setdefault(name, []).append(value)
        last[f"{layer}, plain softmax"] = row
        print(layer, row, flush=True)
    write_result("adapting_folds", {"ten folds": ten, "last two folds": last}, packages=("numpy", "torch", "openvino"))


if __name__ == "__main__":
    main()
