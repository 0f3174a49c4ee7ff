"""Does it pay to optimise TAR at a FAR itself: a linear map after the embedder, learned by it or by cross-entropy.

CFP's photos embedded by the fast pack; people 1..250 to learn from, 251..500 to measure on, all their pairs. The map
starts as the identity. Every loss sees the same batches, 64 people with 4 photos each, for the same number of steps by
the same optimizer; its learning rate is the best of four on people 201..250, learned from 1..200.
"""

import json
from collections.abc import Callable

import numpy as np
import torch
from harness import ROOT, write_result
from protocols import DATA, cfp_photos
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from visavis.blocks.margins import arcface
from visavis.blocks.surrogates import tar_at_far
from visavis.face import evaluate
from visavis.face.evaluate import embed_photos
from visavis.face.models import load_pack

FAR = 1e-3
STEPS = 150
SEEDS = (0, 1, 2)
RATES = (1e-5, 3e-5, 1e-4, 3e-4)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def softmax(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Of cosines with the class centres, scale 32."""
    return cross_entropy(32 * features @ normalize(centres).T, labels)


def margin(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The same with ArcFace's margin of .3 rad."""
    return cross_entropy(arcface(features @ normalize(centres).T, labels, margin=0.3, scale=32.0), labels)


def smooth(features: Tensor, labels: Tensor, _centres: Tensor) -> Tensor:
    """One minus the smooth TAR of the batch's pairs."""
    upper = torch.ones(len(features), len(features), dtype=torch.bool).triu(1)
    same = labels[:, None] == labels
    return 1 - tar_at_far((features @ features.T)[upper], same[upper], far=FAR, temperature=0.05)


def both(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Their sum."""
    return softmax(features, labels, centres) + smooth(features, labels, centres)


LOSSES: dict[str, Loss] = {"softmax": softmax, "arcface": margin, "smooth TAR": smooth, "softmax + smooth TAR": both}


def learn(loss: Loss, vectors: Tensor, people: Tensor, rate: float, seed: int) -> Tensor:
    """The map, [D, D]."""
    random = np.random.default_rng(seed)
    matrix = torch.eye(vectors.shape[1], requires_grad=True)
    count = int(people.max()) + 1
    rows = [np.flatnonzero((people == who).numpy()) for who in range(count)]
    # A class begins at the mean of its photos.
    centres = torch.stack([vectors[mine].mean(0) for mine in rows]).requires_grad_()
    optimizer = torch.optim.Adam([{"params": [matrix], "lr": rate}, {"params": [centres], "lr": 10 * rate}])
    for _ in range(STEPS):
        chosen = random.permutation(count)[:64]
        batch = torch.from_numpy(np.concatenate([random.permutation(rows[who])[:4] for who in chosen]))
        optimizer.zero_grad()
        loss(normalize(vectors[batch] @ matrix), people[batch], centres).backward()
        optimizer.step()
    return matrix.detach()


def measure(vectors: Tensor, people: Tensor, matrix: Tensor | None) -> float:
    """TAR at the FAR over all pairs."""
    mapped = vectors if matrix is None else normalize(vectors @ matrix)
    upper = np.triu(np.ones((len(people), len(people)), bool), 1)
    similarities = (mapped @ mapped.T).numpy()[upper]
    return evaluate.tar_at_far(similarities, (people[:, None] == people).numpy()[upper], FAR)


def main() -> None:
    """Measure and write the result."""
    if not DATA.exists():
        print(f"not measured: needs the data sets in {DATA}")
        return
    torch.set_num_threads(1)
    rows = list(cfp_photos())
    cache = ROOT / "build" / "embeddings.sqlite3"
    faces = embed_photos([path for _, _, path in rows], load_pack("fast"), cache=cache, workers=1)
    person = np.array([number for number, _, _ in rows])

    def part(low: int, high: int) -> tuple[Tensor, Tensor]:
        inside = faces.found & (person >= low) & (person <= high)
        return torch.from_numpy(faces.embeddings[inside]), torch.from_numpy(person[inside] - low)

    learned, unseen, inner, judged = part(1, 250), part(251, 500), part(1, 200), part(201, 250)
    result: dict[str, object] = {"far": FAR, "steps": STEPS, "without_map": round(100 * measure(*unseen, None), 2)}
    for name, loss in LOSSES.items():
        tried = {rate: measure(*judged, learn(loss, *inner, rate, 0)) for rate in RATES}
        rate = max(tried, key=lambda each: tried[each])
        values = [100 * measure(*unseen, learn(loss, *learned, rate, seed)) for seed in SEEDS]
        result[name] = {
            "rate": rate,
            "tar": round(float(np.mean(values)), 2),
            "spread": [round(min(values), 2), round(max(values), 2)],
        }
        print(name, json.dumps(result[name]), flush=True)
    write_result("surrogates", result, packages=("numpy", "torch"))


if __name__ == "__main__":
    main()
