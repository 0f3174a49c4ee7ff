"""Streams: frames a second end to end, where the time goes, and how well people keep their numbers.

    VISAVIS_MODEL_PATH=../shared/models python benchmarks/bench_stream.py [pack]

Films are made from frontal photos of CFP: heads walk over a blurred photo and hide each other; each second person is in
the gallery, by another photo. What a frame costs is told as processor time over all threads, which other work on the
machine changes little, and as frames a second by the clock, beside the load of the machine. Crowds without pictures, of
boxes that are jittered and dropped, show the tracker alone. Plain IoU tracking is what is commonly used: boxes of one
frame against boxes of the last, without motion, appearance or doubtful detections.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, write_result
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from protocols import DATA, SHARED, cfp_photos

from visavis.face import FaceSystem
from visavis.face.records import Detection
from visavis.face.stream.assignment import assign
from visavis.face.stream.sources import Source
from visavis.face.stream.tracker import Tracker, overlap
from visavis.face.stream.video import frames
from visavis.face.stream.watching import Watcher

sys.path.insert(0, str(ROOT))
from tests.face.clips import encode
from tests.face.crowd import detection, measure, walk

FPS, FRAMES = 25, 250
SIZES = ((640, 360, 48), (1280, 720, 80))  # width, height, width of a head in px
COUNTS = (1, 5, 20)
Boxes = dict[int, NDArray[np.float32]]


class Plain:
    """Plain IoU tracking."""

    def __init__(self) -> None:
        self._tracks: dict[int, tuple[NDArray[np.float64], float]] = {}
        self._next = 0

    def update(self, time_s: float, detections: Sequence[Detection]) -> Boxes:
        boxes = np.array([one.box_xyxy_px for one in detections if one.score >= 0.5], float).reshape(-1, 4)
        self._tracks = {key: one for key, one in self._tracks.items() if time_s - one[1] <= 2.0}
        keys = list(self._tracks)
        shares = overlap(np.array([self._tracks[key][0] for key in keys], float).reshape(-1, 4), boxes)
        whose = {column: keys[row] for row, column in assign(1 - shares, 0.7)}
        seen = {}
        for number, box in enumerate(boxes):
            key = whose.get(number)
            if key is None:
                key, self._next = self._next, self._next + 1
            self._tracks[key] = box, time_s
            seen[key] = box
        return seen


class Timed:
    """Adds up the processor time that some calls take."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - start

        return timed


def heads(system: FaceSystem, count: int, width_px: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Heads of different people, and where the face is in each."""
    found = []
    for person, kind, path in cfp_photos():
        if kind != "frontal" or path.stem != "02" or len(found) == count:
            continue
        with Image.open(path) as photo:
            head = photo.convert("RGB").resize((width_px, round(width_px * photo.height / photo.width)))
        pixels = np.asarray(head)
        around = np.pad(pixels, ((width_px, width_px), (width_px, width_px), (0, 0)), constant_values=90)
        [faces] = system.analyzer.detector([around])
        if faces:
            found.append((person, pixels, faces[0].box_xyxy_px - width_px))
    return found


def film(system: FaceSystem, count: int, size: tuple[int, int, int]) -> tuple[Iterator[NDArray[np.uint8]], list[Boxes]]:
    """Its frames, and in each where the faces that can be seen are."""
    width, height, head_px = size
    cast = heads(system, count, head_px)
    with Image.open(min((DATA / "celeb5").rglob("*.jpg"))) as photo:
        ground = np.asarray(photo.convert("RGB").resize((width, height)).filter(ImageFilter.GaussianBlur(40)))
    margin = 1.4 * head_px
    paths = walk(count, FRAMES, seed=count, size=head_px, width=width - margin, height=height - margin, speed=1.5)
    corners = paths.round().astype(int)
    truths: list[Boxes] = []
    for places in corners:
        boxes = [face + np.tile(place, 2) for place, (_, _, face) in zip(places, cast, strict=True)]
        whole = [
            np.array([*p, p[0] + h.shape[1], p[1] + h.shape[0]]) for p, (_, h, _) in zip(places, cast, strict=True)
        ]
        hidden = [any(_covered(box, other) > 0.3 for other in whole[i + 1 :]) for i, box in enumerate(boxes)]
        truths.append({cast[i][0]: box for i, box in enumerate(boxes) if not hidden[i]})

    def draw() -> Iterator[NDArray[np.uint8]]:
        for places in corners:
            canvas = ground.copy()
            for (x, y), (_, head, _) in zip(places, cast, strict=True):
                part = canvas[y : y + head.shape[0], x : x + head.shape[1]]
                part[...] = head[: part.shape[0], : part.shape[1]]
            yield canvas

    return draw(), truths


def _covered(box: NDArray[np.float32], other: NDArray[np.int64]) -> float:
    inner = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None).prod()
    return float(inner / (box[2:] - box[:2]).prod())


def end_to_end(
    system: FaceSystem, names: Mapping[int, str], count: int, size: tuple[int, int, int], folder: Path
) -> Any:
    """One film watched."""
    images, truths = film(system, count, size)
    path = folder / f"{count}-{size[0]}.mp4"
    path.write_bytes(encode(images, lossless=False))
    watcher, plain, timed = Watcher(system), Plain(), Timed()
    found, ours, theirs = [], [], []
    detector = system.analyzer.detector

    def detect(*arguments: Any, **options: Any) -> Any:
        found.append(detector(*arguments, **options)[0])
        return [found[-1]]

    system.analyzer.detector = timed.wrap("detector", detect)  # type: ignore[assignment]
    watcher._look_closely = timed.wrap("embeddings, quality", watcher._look_closely)  # type: ignore[method-assign]
    watcher._tracker.update = timed.wrap("tracker", watcher._tracker.update)  # type: ignore[method-assign]
    named, wrong, looked_s = set(), 0, 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    for frame in frames(Source.parse(str(path))):
        start = time.process_time()
        events = watcher.look(frame)
        looked_s += time.process_time() - start
        ours.append({one.track: one.box_xyxy_px for one in watcher.present})
        for event in events:
            if event.kind == "identified":
                near = _nearest(truths[frame.number], event.box_xyxy_px)
                named.add(near)
                wrong += names.get(near) != event.verdict.person
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    system.analyzer.detector = detector
    theirs = [plain.update(number / FPS, faces) for number, faces in enumerate(found)]
    scores = [measure(list(zip(truths, tracks, strict=True))) for tracks in (ours, theirs)]
    parts = {name: round(1e3 * spent / FRAMES, 2) for name, spent in timed.cpu_s.items()}
    return {
        "size": list(size[:2]),
        "faces": count,
        "head_px": size[2],
        "frames_per_s": round(FRAMES / wall, 1),
        "cpu_ms_per_frame": round(1e3 * cpu / FRAMES, 2),
        "cpu_ms_of": {**parts, "decoding": round(1e3 * (cpu - looked_s) / FRAMES, 2)},
        "load": round(os.getloadavg()[0], 1),
        "in_gallery": len({person for truth in truths for person in truth} & names.keys()),
        "named": len(named),
        "named_wrongly": wrong,
        **{
            who: {"switches": s.switches, "tracks": len(s.tracks), "idf1": round(s.idf1, 4), "mota": round(s.mota, 4)}
            for who, s in zip(("ours", "plain"), scores, strict=True)
        },
    }


def _nearest(truth: Boxes, box: Sequence[float]) -> int | None:
    shares = overlap(np.array([box], float), np.array(list(truth.values()), float).reshape(-1, 4))[0]
    return list(truth)[int(shares.argmax())] if shares.size and shares.max() > 0.3 else None


def crowd(count: int, fps: float, seed: int) -> Any:
    """Boxes alone: 20 s of a crowd, 10 % of detections dropped, boxes jittered by 4 % of the face."""
    paths = walk(count, round(20 * fps), fps=fps, seed=seed, width=3840, height=2160)
    random, tracker, plain = np.random.default_rng(seed), Tracker(), Plain()
    ours, theirs, spent = [], [], []
    for number, places in enumerate(paths):
        truth = {person: detection(*place).box_xyxy_px for person, place in enumerate(places)}
        seen = [detection(*random.normal(place, 1.6)) for place in places if random.random() >= 0.1]
        start = time.process_time()
        tracks = tracker.update(number / fps, seen)
        spent.append(1e3 * (time.process_time() - start))
        ours.append((truth, {track.key: track.detection.box_xyxy_px for track in tracks}))
        theirs.append((truth, plain.update(number / fps, seen)))
    mine, other = measure(ours), measure(theirs)
    return {
        "ms": statistics.median(spent),
        "switches": mine.switches,
        "plain_switches": other.switches,
        "idf1": mine.idf1,
        "plain_idf1": other.idf1,
    }


def crowds() -> list[Any]:
    """Medians of five crowds each."""
    rows = []
    for count in (20, 100):
        for fps in (5.0, 10.0, 25.0):
            runs = [crowd(count, fps, seed) for seed in range(5)]
            middle = {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
            spread = {name: [min(run[name] for run in runs), max(run[name] for run in runs)] for name in ("switches",)}
            rows.append({"tracks": count, "fps": fps, **middle, "spread": spread})
    return rows


def main() -> None:
    """Measure and write the result."""
    os.environ.setdefault("VISAVIS_MODEL_PATH", str(SHARED / "models"))
    pack = sys.argv[1] if len(sys.argv) > 1 else "fast"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FaceSystem.open(folder / "g.visavis", pack=pack) as system:
            names = {}
            for person, kind, path in cfp_photos():
                if kind == "frontal" and path.stem in ("01", "03") and person % 2 == 1 and person <= 30:
                    names[person] = f"person {person}"
                    system.enroll(names[person], [path])
            films = [end_to_end(system, names, count, size, folder) for size in SIZES for count in COUNTS]
    payload = {"pack": pack, "frames": FRAMES, "fps": FPS, "films": films, "crowds": crowds()}
    write_result("stream", payload, packages=("numpy", "av", "openvino"))


if __name__ == "__main__":
    main()
