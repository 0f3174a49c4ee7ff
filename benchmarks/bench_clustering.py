"""Time, memory and quality of clustering 7,000 and 100,000 synthetic faces.

    python benchmarks/bench_clustering.py

A person has a direction; an embedding lies at a drawn angle from it, on a drawn side. Directions and sides come from
a normal law with falling variances, so that strangers are as alike as an embedder of 256 numbers makes them (the
likeness measured is part of the result). Faces per person follow a power law, cut at a twentieth of all faces.
Real strangers have rare closer pairs (relatives), so the quality here is that of the method, not of an embedder.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
from harness import peak_rss_mb, rss_mb, write_result
from numpy.typing import NDArray

from visavis.face.cluster import cluster
from visavis.face.evaluate import bcubed, pairwise

DIM = 256
THRESHOLD = 0.4
COUNTS = (7_000, 100_000)
RUNS = 3


def directions(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """[count, DIM] unit vectors, the first dimensions the strongest."""
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    vectors *= np.exp(-1.5 * np.arange(DIM, dtype=np.float32) / DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def faces(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[count, DIM] unit vectors in random order, and whose they are."""
    sizes = np.minimum(1 + 2 * rng.pareto(1.1, count), count // 20).astype(np.int64)
    people = rng.permutation(np.repeat(np.arange(count), sizes)[:count])
    centres = directions(people.max() + 1, rng)
    cosines = np.clip(rng.normal(0.78, 0.105, count), 0.2, 0.99).astype(np.float32)[:, None]
    vectors = directions(count, rng)
    for block in np.array_split(np.arange(count), 1 + count // 10_000):
        centre, side = centres[people[block]], vectors[block]
        side -= centre * (side * centre).sum(axis=1, keepdims=True)
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        vectors[block] = cosines[block] * centre + np.sqrt(1 - cosines[block] ** 2) * side
    return vectors, people


def likeness(vectors: NDArray[np.float32], people: NDArray[np.int64]) -> dict[str, float]:
    """Mean and spread of the cosines in pairs drawn at random: of strangers, and of one person."""
    strangers = (vectors[:-1] * vectors[1:]).sum(axis=1)[people[:-1] != people[1:]]
    order = np.argsort(people, kind="stable")
    beside = people[order[:-1]] == people[order[1:]]
    own = (vectors[order[:-1][beside]] * vectors[order[1:][beside]]).sum(axis=1)
    return {
        "genuine_mean": round(float(own.mean()), 3),
        "genuine_std": round(float(own.std()), 3),
        "impostor_mean": round(float(strangers.mean()), 3),
        "impostor_std": round(float(strangers.std()), 3),
    }


def run(count: int, seed: int) -> dict[str, object]:
    """One measurement, in this process."""
    vectors, people = faces(count, np.random.default_rng(seed))
    alike = likeness(vectors, people)
    before, load = rss_mb(), os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    labels = cluster(vectors, threshold=THRESHOLD)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "load_before": round(load, 1),  # processes that wanted a core in the minute before, this one among them
        "wall_s": round(wall, 2),  # torch's import included
        "cpu_s": round(cpu, 2),
        "rss_before_mb": round(before),
        "peak_rss_mb": round(peak_rss_mb()),
        "people": len(np.unique(people)),
        "largest_person": int(np.bincount(people).max()),
        "clusters": len(np.unique(labels)),
        "bcubed": bcubed(people, labels)._asdict(),
        "pairwise": pairwise(people, labels)._asdict(),
        **alike,
    }


def main() -> None:
    """All measurements, each in a process of its own: a peak of memory never falls again."""
    results = {}
    for count in COUNTS:
        command = [sys.executable, __file__, str(count)]
        runs = [
            json.loads(subprocess.run([*command, str(seed)], check=True, capture_output=True).stdout)
            for seed in range(RUNS)
        ]
        results[f"{count} faces"] = runs
        print(json.dumps(runs, indent=2))
    payload = {"dim": DIM, "threshold": THRESHOLD, "runs, a seed each": results}
    write_result("clustering", payload, packages=("numpy", "torch", "visavis"))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
