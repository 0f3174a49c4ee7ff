"""Memory of indexing 10,000 photos with two workers, for each pack: parent, workers and all.

    python benchmarks/bench_memory.py [photos] [packs ...]

The photos are made from 380 of the measuring data, cut to sizes from 200 px to 12 megapixels and to many aspect ratios,
and told apart by a comment in the file; so everything but their number is as in a folder of 10,000. Memory is the
proportional set size (PSS): what several processes share, such as libraries, counts once. Each pack runs in a process
of its own; one that is done is kept in build/ until the result is written, so that a run can be taken up again.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import ROOT, write_result
from PIL import Image, ImageOps
from protocols import DATA, SHARED, cfp_photos

from visavis.face import FaceSystem

PHOTOS = 10_000
MARKS = (0.1, 0.25, 0.5, 1.0)  # of the photos
WORKERS = 2
LIMIT_MB = 1500
PERIOD_S = 0.5
ASPECTS = (4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4, 2 / 3, 9 / 16)


def make_photos(folder: Path, count: int) -> None:
    """Write `count` JPEGs, 1,000 a folder."""
    rng = np.random.default_rng(0)
    cfp = [path for _, _, path in cfp_photos()][::35]
    sources = [*sorted((DATA / "celeb5").rglob("*.jpg")), *sorted((DATA / "deepface_tests").glob("*.jpg")), *cfp]
    jpegs = []
    for path in sources:
        kind = rng.random()
        long = 4032 if kind < 0.02 else rng.integers(1024, 3000) if kind < 0.15 else np.exp(rng.uniform(5.3, 6.9))
        aspect = rng.choice(ASPECTS) if rng.random() < 0.7 else np.exp(rng.uniform(-0.7, 0.7))
        size = round(long * min(1.0, aspect)), round(long / max(1.0, aspect))
        with Image.open(path) as photo:
            buffer = BytesIO()
            ImageOps.fit(photo.convert("RGB"), size).save(buffer, "JPEG", quality=85)
        jpegs.append(buffer.getvalue())
    for index in range(count):
        place = folder / f"{index // 1000:02d}"
        place.mkdir(exist_ok=True)
        jpeg = jpegs[int(rng.integers(len(jpegs)))]
        comment = b"\xff\xfe\x00\x0a%08d" % index  # a segment of 10 bytes, its length among them
        (place / f"{index:05d}.jpg").write_bytes(jpeg[:2] + comment + jpeg[2:])


def memory_mb() -> tuple[float, float, float, float]:
    """PSS of this process, of all below it and of both, and their RSS, which counts shared memory more than once."""
    me = psutil.Process()
    own = me.memory_full_info()
    below = [0, 0]
    for child in me.children(recursive=True):
        try:
            info = child.memory_full_info()
        except psutil.Error:
            continue
        below[0] += info.pss
        below[1] += info.rss
    return tuple(v / 2**20 for v in (own.pss, below[0], own.pss + below[0], own.rss + below[1]))  # type: ignore[return-value]


def run(pack: str, folder: Path, place: Path) -> dict[str, Any]:
    """Index `folder` in this process and its workers."""
    samples: list[tuple[int, float, float, float, float]] = []
    done, ended, total = 0, threading.Event(), 0

    def progress(count: int, of: int | None) -> None:
        nonlocal done, total
        done, total = count, of or 0

    def sample() -> None:
        while not ended.wait(PERIOD_S):
            samples.append((done, *memory_mb()))

    sampler = threading.Thread(target=sample)
    wall, load = time.perf_counter(), os.getloadavg()[0]
    with FaceSystem.open(place / f"{pack}.visavis", pack=pack) as faces:
        sampler.start()
        report = faces.index(folder, workers=WORKERS, clusters=False, progress=progress)
        wall = time.perf_counter() - wall
        indexed = len(samples)
        faces.cluster()
        ended.set()
        sampler.join()
    marks = {}
    for share in MARKS:
        recent = [row for row in samples[:indexed] if 0.8 * share * total < row[0] <= share * total]
        before = [row for row in samples[:indexed] if row[0] <= share * total]
        if recent:
            names = ("parent_mb", "workers_mb", "total_mb", "total_rss_mb")
            row: dict[str, float] = {
                name: round(statistics.median(column))
                for name, column in zip(names, list(zip(*recent, strict=True))[1:], strict=True)
            }
            marks[str(round(share * total))] = {**row, "peak_total_mb": round(max(row[3] for row in before))}
    return {
        "load_before": round(load, 1),
        "photos": report.added,
        "faces": report.faces,
        "skipped": len(report.skipped),
        "index_s": round(wall),
        "photos_per_s": round(report.added / wall, 1),
        "after photos": marks,
        "peak_indexing_mb": round(max(row[3] for row in samples[:indexed])),
        "peak_with_clustering_mb": round(max(row[3] for row in samples)),
    }


def main() -> None:
    """Measure every pack, each in a process of its own."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PHOTOS
    os.environ.setdefault("VISAVIS_MODEL_PATH", str(SHARED / "models"))
    results = {}
    kept = ROOT / "build" / "bench_memory"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        for pack in sys.argv[2:] or ("fast", "default"):
            path = kept / f"{pack}-{count}.json"
            if not path.exists():
                if not folder.exists():
                    folder.mkdir()
                    make_photos(folder, count)
                command = [sys.executable, __file__, "--run", pack, str(folder), place]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                path.write_text(out.splitlines()[-1])
            results[pack] = json.loads(path.read_text())
            print(pack, json.dumps(results[pack], indent=1))
    payload = {"workers": WORKERS, "memory": "PSS, MB", "limit_mb": LIMIT_MB, "packs": results}
    write_result("memory", payload, packages=("visavis", "numpy", "openvino", "torch"))
    for path in kept.glob("*.json"):
        path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))))
    else:
        main()
