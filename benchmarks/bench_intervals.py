"""How often a 95 % interval holds the truth, where the truth is known: drawn similarities of drawn people.

Everybody brings their own part to each of their pairs, normally distributed, as does the pair itself; TAR at a FAR
then follows from two normal distributions. Once with all pairs of 40 people with 4 photos, once with a list like LFW's,
1,000 pairs of either kind among 1,500 people. "over pairs" is Wilson's interval, which takes the pairs as independent.
"""

import math
from statistics import NormalDist

import numpy as np
from harness import write_result
from numpy.typing import NDArray

from visavis.face import evaluate
from visavis.face.evaluate.weighted import WeightedPairs

PERSON, PAIR, GAP = 0.08, 0.15, 0.5
RUNS, RESAMPLES = 200, 200
FARS = (0.1, 0.01)


def all_of_forty(_random: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """Who is in each pair, and the number of people."""
    who = np.repeat(np.arange(40), 4)
    return who[evaluate.all_pairs(who)], 40


def listed(random: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """As `all_of_forty`."""
    one, first = random.integers(1500, size=(2, 1000))
    second = (first + random.integers(1, 1500, size=1000)) % 1500
    people = np.concatenate([np.stack([one, one], 1), np.stack([first, second], 1)])
    names, numbers = np.unique(people, return_inverse=True)
    return numbers.reshape(-1, 2), len(names)


def true_tar(far: float) -> float:
    """Of all people there could be."""
    threshold = math.hypot(PERSON, PERSON, PAIR) * NormalDist().inv_cdf(1 - far)
    return 1 - NormalDist().cdf((threshold - GAP) / math.hypot(2 * PERSON, PAIR))


def main() -> None:
    """Measure and write the result."""
    result: dict[str, object] = {"runs": RUNS, "resamples": RESAMPLES}
    for name, draw in (("all pairs of 40 people", all_of_forty), ("1,000 + 1,000 listed pairs", listed)):
        hits = {(kind, far): 0 for kind in ("over people", "over pairs") for far in FARS}
        for run in range(RUNS):
            random = np.random.default_rng(run)
            people, count = draw(random)
            same = people[:, 0] == people[:, 1]
            similarities = (
                random.normal(0, PERSON, count)[people].sum(1) + random.normal(0, PAIR, len(people)) + GAP * same
            )
            pairs = WeightedPairs(similarities, people)
            values = pairs.measure(np.ones(count), FARS)[1:]
            drawn = evaluate.resample(
                lambda weight, pairs=pairs: pairs.measure(weight, FARS)[1:], count, resamples=RESAMPLES, seed=run
            )
            for far, estimate in zip(FARS, evaluate.estimates(values, drawn, [count] * len(FARS)), strict=True):
                naive = evaluate.wilson(round(estimate.value * same.sum()), int(same.sum()))
                hits["over people", far] += estimate.low <= true_tar(far) <= estimate.high
                hits["over pairs", far] += naive.low <= true_tar(far) <= naive.high
        result[name] = {f"{kind}, FAR {far:g}": hit / RUNS for (kind, far), hit in hits.items()}
        print(name, result[name], flush=True)
    write_result("intervals", result)


if __name__ == "__main__":
    main()
