"""Search at a million faces: the gallery in a folder, and the one on a Milvus server.

    nice -n 10 python benchmarks/bench_store.py --work /tmp/bench_store              # 1,000,000 x 256 on both; root
    nice -n 10 python benchmarks/bench_store.py --work /tmp/bench_store --dim 512

The folder is filled with photos of one face, a thousand a transaction, and migrated to the server. Both are asked the
same single queries, strangers and members alternately, by a process of its own; the oracle of recall is numpy in
float64. How quickly indexing could store photos is measured on empty galleries, in transactions of eight as it does.
What is done is kept in the work folder: a run that was stopped goes on. The server is Milvus 2.3.5 as the package
`milvus` brings it, in a network namespace, with a tick of 20 ms, as reads that see all writes wait for one after each.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import ROOT, rss_mb, write_result
from numpy.typing import NDArray

from visavis.face.gallery import EmbedderId, NewFace, open_gallery
from visavis.face.gallery.migrate import migrate
from visavis.face.records import Detection, Photo

sys.path.insert(0, str(ROOT))
from tests.face import milvus_server

K = 10
QUERIES = 200
AT_ONCE = 1000  # photos a transaction
FEW = 400  # photos
BLOCK = 50_000  # vectors drawn at once
THUMBNAIL = b"\xff\xd8" + bytes(1500)
PLACES = ("folder", "milvus")

Floats = NDArray[np.float32]


def model(dim: int) -> EmbedderId:
    """Whose embeddings the galleries hold."""
    return EmbedderId("benchmark", "0" * 64, dim)


def block(number: int, dim: int) -> Floats:
    """[BLOCK, dim] unit: people with 20 photos each, 0.5 to 0.8 similar to one another."""
    rng = np.random.default_rng([number, dim])
    array = rng.standard_normal((BLOCK, dim), dtype=np.float32) * rng.uniform(0.5, 1.0, (BLOCK, 1)).astype(np.float32)
    array += np.repeat(rng.standard_normal((BLOCK // 20, dim), dtype=np.float32), 20, axis=0)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    return array


def questions(count: int, dim: int) -> Floats:
    """[QUERIES, dim] unit: strangers, and more photos of people in the gallery."""
    rng = np.random.default_rng([10**6, dim])
    array = rng.standard_normal((QUERIES, dim), dtype=np.float32)
    known = block(int(rng.integers(count // BLOCK)), dim)
    array[1::2] += 16 * known[rng.integers(BLOCK, size=QUERIES // 2)]
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def exactly(count: int, dim: int) -> NDArray[np.int64]:
    """The numbers of the nearest faces of each question [QUERIES, K], counted from 1 as they were put in."""
    asked = questions(count, dim).astype(np.float64)
    best = np.full((QUERIES, 0), 0.0)
    ids = np.zeros((QUERIES, 0), np.int64)
    for number in range(count // BLOCK):
        cosines = np.concatenate([best, asked @ block(number, dim).astype(np.float64).T], axis=1)
        both = np.concatenate([ids, np.tile(np.arange(BLOCK) + number * BLOCK + 1, (QUERIES, 1))], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :K]
        best, ids = np.take_along_axis(cosines, order, axis=1), np.take_along_axis(both, order, axis=1)
    return ids


def store(place: str, first: int, count: int, dim: int, at_once: int) -> float:
    """Put in photos of one face from number `first` on; returns the seconds it took."""
    detection = Detection(np.array([10, 20, 110, 140], np.float32), np.zeros((5, 2), np.float32), 0.9)
    with open_gallery(place, model=model(dim)) as gallery:
        start, drawn = time.perf_counter(), -1
        faces = np.empty((0, dim), np.float32)
        for begin in range(first, count, at_once):
            if begin // BLOCK != drawn:
                drawn = begin // BLOCK
                faces = block(drawn, dim)
            with gallery.transaction():
                for number in range(begin, min(begin + at_once, count)):
                    photo = Photo(Path(f"/photos/{number:07d}.jpg"), f"{number:064x}", 4000, 3000, None)
                    face = NewFace(detection, 1.0, 0.9, faces[number % BLOCK], THUMBNAIL)
                    gallery.add_photo(photo, size_bytes=1, mtime_ns=number, faces=[face])
        return time.perf_counter() - start


def fill(place: str, origin: str, count: int, dim: int) -> dict[str, Any]:
    """Fill a folder, or copy it; what an earlier run has done stays. Also how quickly indexing could store."""
    with open_gallery(f"{place}_few", model=model(dim)) as gallery:
        few = gallery.counts().faces
    seconds_few = store(f"{place}_few", few, few + FEW, dim, 8)
    start = time.perf_counter()
    if origin == place:
        with open_gallery(place, model=model(dim)) as gallery:
            held = gallery.counts().faces
        store(place, held, count, dim, AT_ONCE)
        rows = count - held
    else:
        rows = migrate(origin, place).written
    seconds = time.perf_counter() - start
    return {"rows": rows, "seconds": round(seconds, 1), "index_photos_per_s": round(FEW / seconds_few, 1)}


def ask(place: str, count: int, dim: int) -> dict[str, Any]:
    """Open, and search with single queries; times in milliseconds."""
    asked = questions(count, dim)
    before = rss_mb()
    start = time.perf_counter()
    with open_gallery(place) as gallery:
        opened = time.perf_counter() - start
        gallery.search(asked[:1], K)
        searched = time.perf_counter() - start
        found, times = [], []
        for query in asked:
            at = time.perf_counter()
            found.append(gallery.search(query[None], K)[0][0].tolist())
            times.append(1000 * (time.perf_counter() - at))
        at = time.perf_counter()
        gallery.search(asked[:64], K)
        together = (time.perf_counter() - at) * 1000 / 64
        added = rss_mb() - before
    return {
        "open_s": round(opened, 3),
        "open_and_search_s": round(searched, 3),
        "ms_p50": round(float(np.percentile(times, 50)), 1),
        "ms_p95": round(float(np.percentile(times, 95)), 1),
        "ms_each_of_64_at_once": round(together, 2),
        "client_rss_added_mb": round(added, 1),
        "found": found,
    }


@contextmanager
def place_of(kind: str, work: Path) -> Iterator[tuple[str, Path]]:
    """The gallery's place, and the folder its bytes are in."""
    if kind == "folder":
        yield str(work / "gallery"), work / "gallery"
        return
    data = work / "milvus"
    data.mkdir(exist_ok=True)
    with milvus_server.running(data, **{"dataCoord.gc.dropTolerance": 600}) as port:
        yield f"milvus://127.0.0.1:{port}/bench", data / "data"


def disk_mb(folder: Path) -> float:
    """All files below a folder."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20, 1)


def server_rss_mb(work: Path) -> float:
    """Of the server whose program lies below `work`."""
    found = [process for process in psutil.process_iter(["exe"]) if (process.info["exe"] or "").startswith(str(work))]
    return round(sum(process.memory_info().rss for process in found) / 2**20, 1)


def in_child(place: str, origin: str, count: int, dim: int) -> dict[str, Any]:
    """Run `fill`, or `ask` where there is no origin, in a fresh process."""
    command = [sys.executable, __file__, "--child", place, origin, str(count), str(dim)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def measure(kind: str, work: Path, count: int, dim: int) -> dict[str, Any]:
    """Everything about one engine."""
    with place_of(kind, work) as (place, data):
        notes = work / f"{kind}.filled"
        fills = json.loads(notes.read_text()) if notes.exists() else []
        fills.append(in_child(place, str(work / "gallery"), count, dim))
        notes.write_text(json.dumps(fills))
        asked = [in_child(place, "", count, dim) for _ in range(3)]
        exact = exactly(count, dim).tolist()
        pairs = list(zip(asked[0]["found"], exact, strict=True))
        return {
            "engine": kind,
            "faces": count,
            "dim": dim,
            "fills": fills,
            "recall_at_10": float(np.mean([len(set(one) & set(other)) / K for one, other in pairs])),
            "disk_mb": disk_mb(data),
            "server_rss_mb": server_rss_mb(work.resolve()) if kind == "milvus" else 0.0,
            "rounds": [{key: value for key, value in one.items() if key != "found"} for one in asked],
        }


def main() -> None:
    """Measure both engines, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="a folder, kept for the next run")
    parser.add_argument("--faces", type=int, default=1_000_000, help=f"a multiple of {BLOCK}")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--engines", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        place, origin, count, dim = arguments.child
        done = fill(place, origin, int(count), int(dim)) if origin else ask(place, int(count), int(dim))
        print(json.dumps(done))
        return
    work = arguments.work / f"{arguments.faces}x{arguments.dim}"
    work.mkdir(parents=True, exist_ok=True)
    for kind in arguments.engines:
        kept = work / f"{kind}.json"
        if not kept.exists():
            record = measure(kind, work, arguments.faces, arguments.dim)
            kept.write_text(json.dumps(record))
            print(json.dumps(record))
    found = [json.loads(path.read_text()) for path in sorted(arguments.work.glob("*/*.json")) if path.stem in PLACES]
    write_result("store", {"galleries": found}, packages=("numpy", "numkong", "pymilvus", "milvus"))


if __name__ == "__main__":
    main()
