"""Gallery: insertion, exact search beside a numpy matrix product, memory and cold start.

    python benchmarks/bench_gallery.py                # 100,000 and 1,000,000 faces x 256; minutes, about 5 GB of disk
    python benchmarks/bench_gallery.py 20000          # other sizes

Each size runs in a process of its own, for an honest memory figure; so does each cold start. Both sides of every
comparison run in turn in one process with the same number of BLAS threads; numpy gets the matrix in memory and
only multiplies, while the gallery also follows the database, selects and compares again in float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
from harness import compare, peak_rss_mb, rss_mb, write_result
from numpy.typing import NDArray

from visavis.face.gallery import EmbedderId, FolderGallery, NewFace
from visavis.face.records import Detection, Photo

DIM = 256
K = 10
ROUNDS = 40
QUERIES = 200  # for recall
MODEL = EmbedderId("benchmark", "0" * 64, DIM)
THUMBNAIL = b"\xff\xd8" + bytes(1500)


def vectors(kind: str, count: int, seed: int = 0) -> NDArray[np.float32]:
    """[count, DIM] unit: spread evenly, or people with 20 photos each, 0.5 to 0.8 similar to one another."""
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((count, DIM), dtype=np.float32)
    if kind == "identities":
        array *= rng.uniform(0.5, 1.0, (count, 1)).astype(np.float32)
        array += np.repeat(rng.standard_normal((-(-count // 20), DIM), dtype=np.float32), 20, axis=0)[:count]
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    return array[rng.permutation(count)]


def queries(kind: str, faces: NDArray[np.float32]) -> NDArray[np.float32]:
    """More photos of people in the gallery, or of strangers."""
    rng = np.random.default_rng(1)
    array = rng.standard_normal((QUERIES, DIM), dtype=np.float32)
    if kind == "identities":
        array += 16 * faces[rng.integers(len(faces), size=QUERIES)]  # a face is about 1/16 of its normal draw
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def insert(folder: Path, faces: NDArray[np.float32], photos_at_once: int) -> float:
    """Fill a gallery with photos of one face; returns faces a second."""
    detection = Detection(np.array([10, 20, 110, 140], np.float32), np.zeros((5, 2), np.float32), 0.9)
    start = time.perf_counter()
    with FolderGallery.open(folder, model=MODEL) as gallery:
        for first in range(0, len(faces), photos_at_once):
            with gallery.transaction():
                for number in range(first, min(first + photos_at_once, len(faces))):
                    photo = Photo(Path(f"/photos/{number}.jpg"), f"{number:064x}", 4000, 3000, None)
                    face = NewFace(detection, 1.0, 0.9, faces[number], THUMBNAIL)
                    gallery.add_photo(photo, size_bytes=1, mtime_ns=number, faces=[face])
        seconds = time.perf_counter() - start
    return len(faces) / seconds


def measure(folder: Path, kind: str, count: int, threads: int) -> dict[str, object]:
    """Everything about one gallery; runs in a process of its own."""
    faces = vectors(kind, count)
    asked = queries(kind, faces)
    result: dict[str, object] = {"faces": count, "dim": DIM, "vectors": kind, "k": K, "blas_threads": threads}
    if not folder.exists():
        result["insert_faces_per_s"] = {
            "a photo a transaction": round(insert(folder.with_name("single"), faces[:5000], 1)),
            "1000 photos a transaction": round(insert(folder, faces, 1000)),
        }
    with FolderGallery.open(folder) as gallery:
        found = np.concatenate([gallery.search(query[None], K)[0] for query in asked])
        batch = gallery.search(asked, K)[0]
        exact = [np.argsort(-(faces @ query), kind="stable")[:K] + 1 for query in asked]
        # The ids are in the order of insertion, from 1.
        result["recall_at_10"] = float(np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]))
        result["recall_at_10_batch"] = float(np.mean([np.isin(a, b).mean() for a, b in zip(batch, exact, strict=True)]))
        one, other = cycle(asked), cycle(asked)
        tenth = np.arange(1, count, 10)
        timings = compare(
            {
                "search": lambda: gallery.search(next(one)[None], K),
                "numpy": lambda: faces @ next(other),
                "search among a tenth": lambda: gallery.search(next(one)[None], K, among=tenth),
                "search 64 at once": lambda: gallery.search(asked[:64], K),
                "numpy 64 at once": lambda: faces @ asked[:64].T,
            },
            ROUNDS,
        )
    for ours, theirs in (("search", "numpy"), ("search 64 at once", "numpy 64 at once")):
        result[f"{ours} / {theirs}"] = {
            f"{clock}_p{percent}": round(
                timings[ours][f"{clock}_ms_p{percent}"] / timings[theirs][f"{clock}_ms_p{percent}"], 3
            )
            for clock in ("wall", "cpu")
            for percent in (50, 95)
        }
    return {**result, "timings": timings}


def cold(folder: Path) -> dict[str, float]:
    """First search of a fresh process, whose files the system has in memory; and what it then occupies."""
    query = vectors("even", 1, seed=2)
    import numkong  # noqa: F401  loading libraries is not opening a gallery

    before = rss_mb()
    start = time.perf_counter()
    gallery = FolderGallery.open(folder)
    opened = time.perf_counter()
    gallery.search(query, K)
    searched = time.perf_counter()
    return {
        "open_s": round(opened - start, 4),
        "open_and_search_s": round(searched - start, 4),
        "rss_added_mb": round(rss_mb() - before, 1),  # most of it the index on disk, mapped and shared
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def in_child(what: str, folder: Path, kind: str, count: int, threads: int) -> dict[str, object]:
    """Run `measure` or `cold` in a fresh process whose BLAS has that many threads."""
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_THREAD_TIMEOUT": "4",  # idle BLAS threads sleep, else they spin on into the other side's time
    }
    command = [sys.executable, __file__, "--child", what, str(folder), kind, str(count), str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    record: dict[str, object] = json.loads(done.stdout)
    return record


def main() -> None:
    """Measure all sizes, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[100_000, 1_000_000], help="faces")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, folder, kind, count, threads = arguments.child
        if what == "cold":
            record: object = cold(Path(folder))
        else:
            record = measure(Path(folder), kind, int(count), int(threads))
        print(json.dumps(record))
        return
    galleries = []
    for count in arguments.sizes:
        for kind in ("even", "identities"):
            with tempfile.TemporaryDirectory() as parent:
                folder = Path(parent) / "gallery"
                for threads in (1, 2):
                    record = in_child("measure", folder, kind, count, threads)
                    record["cold"] = [in_child("cold", folder, kind, count, threads) for _ in range(3)]
                    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                    record["disk_mb"] = round(size / 2**20, 1)
                    galleries.append(record)
                    print(json.dumps({key: value for key, value in record.items() if key != "timings"}))
    write_result("gallery", {"galleries": galleries}, packages=("numpy", "numkong"))


if __name__ == "__main__":
    main()
