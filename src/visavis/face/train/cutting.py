"""Cuts faces out of photos into a cache, each photo once, in worker processes where there are many.

S: side of a crop, px. Points are (x, y) in pixels.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, LandmarkError, PhotoError
from visavis.face.align import align
from visavis.face.detect import Detector
from visavis.face.models import ModelSpec
from visavis.face.photos import Decoded
from visavis.face.runtime import Network
from visavis.face.train.cache import CropCache, Cut, HashedFile, Stored
from visavis.face.workers import AnalysisOptions, cores, process_pool

__all__ = ["Bad", "Cutter", "Shot", "cut_all"]

Points = NDArray[np.float32]
Progress = Callable[[int, int | None], None]  # photos done, and their number
Bad = list[tuple[Path, str]]  # what cannot be used, with the reason

_OPTIONS = AnalysisOptions()
_CHUNK = 8  # photos a worker takes at once
_PHOTOS_A_WORKER = 64  # fewer are done sooner than another process has started
_WRITE_EVERY = 64  # photos, about a second of work to lose


class Shot(NamedTuple):
    """A photo to cut faces out of, or one face of it."""

    path: Path
    person: str
    landmarks: Points | None = None  # [5, 2] in pixels of the upright photo; None: to be looked for
    sha256: str | None = None  # of the photo those landmarks are of


_Result = list[Cut] | str  # a string says why there is none
_Pair = tuple[str, Shot]  # the key and what to cut


@dataclass(frozen=True)
class Cutter:
    """Looks for the faces of photos and cuts them out; goes to worker processes as it is."""

    spec: ModelSpec | None  # of the detector; None: all landmarks are known
    network: Path | None
    template: NDArray[np.float64]  # [5, 2], in a crop with its border
    side: int

    def __call__(self, shots: list[Shot]) -> list[_Result]:
        results: list[_Result] = []
        decoded: list[tuple[int, Decoded]] = []
        for place, shot in enumerate(shots):
            try:
                photo = _OPTIONS.read(shot.path)
                results.append([])
            except PhotoError as error:
                results.append(str(error))
                continue
            if shot.landmarks is None:
                decoded.append((place, photo))
            else:
                results[place] = self._cut(photo, [(shot.landmarks + 0.5) * np.float32(photo.scale) - np.float32(0.5)])
        if decoded:
            assert self.spec is not None
            assert self.network is not None
            found = _detector(self.spec, self.network)(
                [photo.pixels for _, photo in decoded],
                min_score=_OPTIONS.min_score,
                min_size_px=[_OPTIONS.min_size_px * photo.scale for _, photo in decoded],
                long_side_px=_OPTIONS.long_side_px,
            )
            for (place, photo), detections in zip(decoded, found, strict=True):
                areas = [np.prod(one.box_xyxy_px[2:] - one.box_xyxy_px[:2]) for one in detections]
                order = np.argsort(-np.array(areas), kind="stable")
                results[place] = self._cut(photo, [detections[number].landmarks_xy_px for number in order])
        return results

    def _cut(self, photo: Decoded, faces: Iterable[Points]) -> list[Cut]:
        cuts = []
        for landmarks in faces:
            try:
                face = align(photo.pixels, landmarks, self.template, width=self.side, height=self.side)
            except LandmarkError:  # landmarks on one spot: whatever was detected, it is no face
                continue
            cuts.append(Cut(face.crop, (landmarks @ face.matrix[:, :2].T + face.matrix[:, 2]).astype(np.float32)))
        return cuts


@functools.lru_cache(maxsize=1)
def _detector(spec: ModelSpec, network: Path) -> Detector:
    """Loaded once in each process."""
    return Detector(Network(network, network.name, fixed_size=False), spec)


def cut_all(
    cache: CropCache, cutter: Cutter, shots: Sequence[Shot], workers: int | None, progress: Progress
) -> tuple[list[list[Stored]], Bad]:
    """The crops of each shot from the cache, into which those come that it lacks; and why there are none.

    Raises:
        InputError: `workers` is not positive, or the cache cannot be written.
    """
    bad: Bad = []
    keys: list[str | None] = []
    for shot, digest in zip(shots, _digests(cache, shots), strict=True):
        keys.append(None)
        if digest is None:
            bad.append((shot.path, "file: cannot be read"))
        elif shot.sha256 not in (None, digest):
            bad.append((shot.path, "photo: changed since the gallery saw it; run `visavis face index` first"))
        else:
            keys[-1] = digest if shot.landmarks is None else f"{digest}:{shot.landmarks.astype('<f4').tobytes().hex()}"
    fresh: dict[str, Shot] = {}
    for key, shot in zip(keys, shots, strict=True):
        if key is not None and cache.stored(key) is None:
            fresh.setdefault(key, shot)
    count = cores() if workers is None else workers
    if count < 1:
        raise InputError(f"workers: expected at least 1, got {count}")
    if workers is None:
        count = min(count, -(-len(fresh) // _PHOTOS_A_WORKER))
    done, failed = len(shots) - len(fresh), dict[str, str]()
    waiting: list[tuple[str, Sequence[Cut]]] = []
    progress(done, len(shots))
    for pairs, results in _run(cutter, list(fresh.items()), count):
        for (key, _), result in zip(pairs, results, strict=True):
            if isinstance(result, str):
                failed[key] = result
            else:
                waiting.append((key, result))
        if len(waiting) >= _WRITE_EVERY:
            cache.add(waiting)
            waiting = []
        done += len(pairs)
        progress(done, len(shots))
    cache.add(waiting)
    taken: list[list[Stored]] = []
    for key, shot in zip(keys, shots, strict=True):
        if key is None:
            taken.append([])
            continue
        taken.append(cache.stored(key) or [])
        if not taken[-1]:
            bad.append((shot.path, failed.get(key, "photo: expected a face, found none")))
    return taken, bad


def _digests(cache: CropCache, shots: Sequence[Shot]) -> Iterator[str | None]:
    """The hash of each shot's file, noted or made now; None where it cannot be read."""
    fresh = []
    for shot in shots:
        try:
            status = shot.path.stat()
            digest = cache.sha256(shot.path, status.st_size, status.st_mtime_ns)
            if digest is None:
                with shot.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                fresh.append(HashedFile(shot.path, status.st_size, status.st_mtime_ns, digest))
            yield digest
        except OSError:
            yield None
    cache.note(fresh)


def _run(cutter: Cutter, pairs: list[_Pair], workers: int) -> Iterator[tuple[list[_Pair], list[_Result]]]:
    """Cut all, in any order; with one worker here and now."""
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield chunk, cutter([shot for _, shot in chunk])
        return
    left: Iterator[list[_Pair]] = iter(chunks)
    lost: list[list[_Pair]] = []
    waiting: dict[Future[list[_Result]], list[_Pair]] = {}
    pool = process_pool(workers)
    try:
        while True:
            while not lost and len(waiting) < 2 * workers and (chunk := next(left, [])):
                try:
                    waiting[pool.submit(cutter, [shot for _, shot in chunk])] = chunk
                except BrokenProcessPool:
                    lost.append(chunk)
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                chunk = waiting.pop(future)
                try:
                    yield chunk, future.result()
                except BrokenProcessPool:  # and with it all that was handed to the pool
                    lost.append(chunk)
    finally:
        pool.shutdown(kill_workers=True)
    for chunk in lost:
        for pair in chunk:
            yield [pair], [_alone(cutter, pair[1])]
    yield from _run(cutter, [pair for chunk in left for pair in chunk], workers) if lost else ()


def _alone(cutter: Cutter, shot: Shot) -> _Result:
    """Cut one photo in a process of its own, for it may be the one that brings its decoder down."""
    pool: Any = process_pool(1)
    try:
        result: _Result = pool.submit(cutter, [shot]).result()[0]
        return result
    except BrokenProcessPool:
        return "file: decoding it ended the process (damaged, or made to do harm)"
    finally:
        pool.shutdown(kill_workers=True)
