"""Encryption at rest: what a gallery costs with a key beside one without.

    python benchmarks/bench_encryption.py                 # 20,000 and 100,000 faces x 256; minutes
    python benchmarks/bench_encryption.py 5000            # other sizes
    python benchmarks/bench_encryption.py --starts 1000000    # cold starts only, added to the results there are

Insertion, search and thumbnails run in turn on both galleries in one process. A cold start is a process of its own that
opens a gallery and searches once, which with a key reads every vector: an encrypted gallery has its search index in
memory only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import numpy as np
from bench_gallery import DIM, MODEL, K, vectors
from harness import RESULTS, compare, machine, rss_mb, write_result
from numpy.typing import NDArray

from visavis.face.forgetting import forget
from visavis.face.gallery import FolderGallery, NewFace
from visavis.face.gallery.encryption import decrypt, encrypt
from visavis.face.records import Detection, Photo

KEY = "the key of a benchmark"
KEYS = {"plain": None, "encrypted": KEY}
ROUNDS = 40
STARTS = 3


def fill(folder: Path, faces: NDArray[np.float32]) -> dict[str, float]:
    """A photo a face, 1,000 a transaction, in turn into both; returns milliseconds of processor time a face."""
    detection = Detection(np.array([10, 20, 110, 140], np.float32), np.zeros((5, 2), np.float32), 0.9)
    rng = np.random.default_rng(0)
    spent = dict.fromkeys(KEYS, 0.0)
    with ExitStack() as stack:
        galleries = {
            way: stack.enter_context(FolderGallery.open(folder / way, model=MODEL, key=key))
            for way, key in KEYS.items()
        }
        for first in range(0, len(faces), 1000):
            numbers = range(first, min(first + 1000, len(faces)))
            pictures = [b"\xff\xd8\xff" + rng.bytes(3000) for _ in numbers]
            for way, gallery in galleries.items():
                start = time.process_time()
                with gallery.transaction():
                    for number, picture in zip(numbers, pictures, strict=True):
                        photo = Photo(Path(f"/photos/{number}.jpg"), f"{number:064x}", 4000, 3000, None)
                        face = NewFace(detection, 1.0, 0.9, faces[number], picture)
                        gallery.add_photo(photo, size_bytes=number, mtime_ns=number, faces=[face])
                spent[way] += time.process_time() - start
    return {way: round(1e3 * seconds / len(faces), 3) for way, seconds in spent.items()}


def fill_tables(folder: Path, key: str | None, faces: NDArray[np.float32]) -> None:
    """The rows that a search reads, without what is around them: for sizes that take hours to insert."""
    with FolderGallery.open(folder, model=MODEL, key=key) as gallery, gallery.transaction():
        database = gallery._database
        photo = database.change("INSERT INTO photo VALUES (1, ?, 1, 1, NULL, '', 0, 0)", ("0" * 64,))
        face = (photo, bytes(16), bytes(40), 0.9, 1.0, 0.9, None, 0, 0)
        for first in range(0, len(faces), 10_000):
            ids = range(first + 1, min(first + 10_000, len(faces)) + 1)
            database.change_many(f"INSERT INTO face VALUES ({', '.join('?' * 10)})", [(i, *face) for i in ids])
            database.change_many("INSERT INTO vector VALUES (?, ?)", [(i, faces[i - 1].tobytes()) for i in ids])


def cold(folder: Path, key: str | None) -> dict[str, float]:
    """A fresh process: opening, the first search, and what it then occupies."""
    query = vectors("even", 1, seed=2)
    import numkong  # noqa: F401  loading libraries is not opening a gallery

    if key is not None:
        import sqlcipher3  # noqa: F401
    before = rss_mb()
    marks = [(time.perf_counter(), time.process_time())]
    with FolderGallery.open(folder, key=key) as gallery:
        marks.append((time.perf_counter(), time.process_time()))
        gallery.search(query, K)
        marks.append((time.perf_counter(), time.process_time()))
        result = {"rss_mb": rss_mb() - before}
    for what, (start, end) in (("open", marks[:2]), ("first_search", marks[1:])):
        result |= {f"{what}_s": end[0] - start[0], f"{what}_cpu_s": end[1] - start[1]}
    return result


def cold_starts(folder: Path, way: str) -> dict[str, list[float]]:
    """Lowest, median and highest of a few cold starts."""
    command = [sys.executable, __file__, "--cold", str(folder), way]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(STARTS)]
    return {name: [round(value, 3) for value in sorted(run[name] for run in runs)] for name in runs[0]}


def measure(folder: Path, count: int) -> dict[str, object]:
    """Everything about one size."""
    faces = vectors("even", count)
    result: dict[str, object] = {"faces": count, "dim": DIM}
    result["insert_cpu_ms"] = fill(folder, faces)
    result["file_mb"] = {way: round((folder / way / "gallery.sqlite").stat().st_size / 2**20, 1) for way in KEYS}
    result["cold"] = {way: cold_starts(folder / way, way) for way in KEYS}
    asked = cycle(vectors("even", 200, seed=1))
    ids = cycle(np.random.default_rng(1).integers(1, count, 200).tolist())
    with FolderGallery.open(folder / "plain") as plain, FolderGallery.open(folder / "encrypted", key=KEY) as encrypted:
        for gallery in (plain, encrypted):
            gallery.search(next(asked)[None], K)
        result["timings"] = compare(
            {
                f"{what}, {way}": call
                for way, gallery in (("plain", plain), ("encrypted", encrypted))
                for what, call in (
                    ("search", lambda gallery=gallery: gallery.search(next(asked)[None], K)),
                    ("50 thumbnails", lambda gallery=gallery: [gallery.thumbnail(next(ids)) for _ in range(50)]),
                )
            },
            ROUNDS,
        )
        start = time.perf_counter()
        proof = forget(plain, plain.enroll(list(range(1, 21)), "Somebody"))
        result["forget"] = {
            "seconds": round(time.perf_counter() - start, 2),
            "bytes": proof.bytes,
            "traces": proof.traces,
        }
    converted: dict[str, float] = {}
    for way, call in (("decrypt", decrypt), ("encrypt", encrypt)):
        start = time.perf_counter()
        call(folder / "encrypted", KEY)
        converted[way] = round(time.perf_counter() - start, 1)
    result["convert_s"] = converted
    return result


def add_starts(sizes: list[int]) -> None:
    """Measure cold starts of these sizes, and write them beside what was measured last on this machine."""
    starts = []
    for count in sizes:
        faces = vectors("even", count)
        found: dict[str, object] = {"faces": count, "load_before": round(os.getloadavg()[0], 1)}
        for way, key in KEYS.items():
            with tempfile.TemporaryDirectory() as folder:
                fill_tables(Path(folder) / way, key, faces)
                with FolderGallery.open(Path(folder) / way, key=key) as gallery:
                    gallery.search(faces[:1], K)
                found[way] = cold_starts(Path(folder) / way, way)
        starts.append(found)
        print(json.dumps(found, indent=1))
    path = RESULTS / f"encryption--{machine()['slug']}.json"
    record = json.loads(path.read_text()) | {"starts": starts}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--starts", action="store_true", help="cold starts only")
    parser.add_argument("--cold", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cold:
        folder, way = arguments.cold
        print(json.dumps(cold(Path(folder), KEYS[way])))
        return
    if arguments.starts:
        add_starts(arguments.sizes)
        return
    results, load = [], os.getloadavg()[0]
    for count in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder), count))
            print(json.dumps(results[-1], indent=1))
    write_result(
        "encryption", {"load_before": round(load, 1), "sizes": results}, packages=("numpy", "numkong", "sqlcipher3")
    )


if __name__ == "__main__":
    main()
