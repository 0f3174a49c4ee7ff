"""Analyses photos in worker processes, one core each.

A file that brings its decoder down, by a crash or by more memory than there is, costs a worker and nothing else: the
photos that were in work are tried again one by one, and the culprit is named.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from visavis.errors import LandmarkError, ModelError, PhotoError
from visavis.face.analyze import AnalyzedFace, Analyzer
from visavis.face.gallery import NewFace
from visavis.face.match import Calibration
from visavis.face.models import Pack
from visavis.face.photos import Decoded, read
from visavis.face.records import Photo
from visavis.face.runtime import Precision

__all__ = ["AnalysisOptions", "File", "Outcome", "Workers", "cores", "new_face", "process_pool"]


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How photos are looked at; the defaults suit photos of people."""

    min_score: float = 0.5  # of the detector
    min_size_px: float = 24.0  # in pixels of the photo
    long_side_px: int = 1024  # of the image the detector sees
    tiles: bool = False  # look for small faces in large photos too
    decode_px: int = 2000  # no photo is decoded larger than this long side needs: 12 megapixels at half

    def read(self, path: Path) -> Decoded:
        """Decode a photo as large as these options need it; errors as `photos.read`."""
        return read(path, long_side_px=None if self.tiles else max(self.decode_px, self.long_side_px))

    def analyze(self, analyzer: Analyzer, photos: list[Decoded]) -> list[list[AnalyzedFace]]:
        """The faces of each photo."""
        return analyzer(
            photos,
            min_score=self.min_score,
            min_size_px=self.min_size_px,
            long_side_px=self.long_side_px,
            tiles=self.tiles,
        )


class File(NamedTuple):
    path: Path
    size_bytes: int
    mtime_ns: int


class Outcome(NamedTuple):
    file: File
    photo: Photo | str  # a string says why the file was skipped
    faces: list[NewFace]
    passing: bool = False  # the reason may be gone by the next run: a right to read, memory


@dataclass(frozen=True)
class Workers:
    """A recipe for worker processes; they live as long as a `run`."""

    pack: Pack  # pulled already
    calibration: Calibration
    options: AnalysisOptions
    precision: Precision
    count: int

    def run(self, chunks: Iterable[list[File]]) -> Generator[list[Outcome], None, None]:
        """Analyse chunks of files, several at once, and yield each as it gets done; close it to end the processes."""
        source = iter(chunks)
        first = next(source, None)
        if first is None:
            return
        waiting: dict[Future[list[Outcome]], list[File]] = {}
        pool = self._pool(self.count)
        try:
            waiting[_submit(pool, first)] = first
            while True:
                while len(waiting) < 2 * self.count and (chunk := next(source, None)):
                    waiting[_submit(pool, chunk)] = chunk
                if not waiting:  # asked after the refill, for all that waited may have been done at once
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                broken = []
                for future in done:
                    chunk = waiting.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        broken.append(chunk)
                if broken:  # and with it all that was handed to the pool
                    pool.shutdown()
                    yield from self._one_by_one(file for chunk in [*broken, *waiting.values()] for file in chunk)
                    waiting.clear()
                    pool = self._pool(self.count)
        finally:
            pool.shutdown(kill_workers=True)  # what is still in work is not wanted any more

    def _one_by_one(self, files: Iterable[File]) -> Iterator[list[Outcome]]:
        pool = self._pool(1)
        try:
            self._wait_for_models(pool)
            for file in files:
                try:
                    outcomes = pool.submit(_analyze, [file]).result()
                except BrokenProcessPool:
                    reason = "file: decoding it ended the process (damaged, or made to do harm)"
                    outcomes = [Outcome(file, reason, [])]
                    pool.shutdown()
                    pool = self._pool(1)
                    self._wait_for_models(pool)
                yield outcomes
        finally:
            pool.shutdown(kill_workers=True)

    def _wait_for_models(self, pool: Any) -> None:
        """Else a photo would be blamed for models that end the process."""
        try:
            pool.submit(_load).result()
        except BrokenProcessPool as error:
            raise ModelError(
                f"pack {self.pack.name}: expected models that a worker process can load, but it ended"
            ) from error

    def analyze(self, analyzer: Analyzer, files: list[File]) -> list[Outcome]:
        """Look at a chunk of files here and now, as a worker does; what cannot be used is skipped with the reason."""
        results: dict[Path, Outcome] = {}
        decoded: list[tuple[File, Decoded]] = []
        for file in files:
            try:
                decoded.append((file, self.options.read(file.path)))
            except PhotoError as error:
                results[file.path] = Outcome(file, str(error), [], passing=_may_pass(error.__cause__))
            except MemoryError:
                results[file.path] = Outcome(
                    file, "photo: decoding it takes more memory than there is", [], passing=True
                )
        found = self._faces(analyzer, [photo for _, photo in decoded])
        for (file, photo), faces in zip(decoded, found, strict=True):
            results[file.path] = (
                Outcome(file, faces, [], passing=True)
                if isinstance(faces, str)
                else Outcome(file, photo.photo, [new_face(face) for face in faces])
            )
        return [results[file.path] for file in files]

    def _faces(self, analyzer: Analyzer, photos: list[Decoded]) -> list[list[AnalyzedFace] | str]:
        """Of each photo its faces, or why none can be told; one that fails does not take others with it."""
        try:
            return list(self.options.analyze(analyzer, photos))
        except (LandmarkError, MemoryError, RuntimeError) as error:  # the last is what OpenVINO raises
            if len(photos) > 1:
                return [result for photo in photos for result in self._faces(analyzer, [photo])]
            return [f"photo: its faces cannot be analysed ({str(error) or 'not enough memory'})"]

    def _pool(self, count: int) -> Any:
        return process_pool(count, _start, self)


def _submit(pool: Any, files: list[File]) -> "Future[list[Outcome]]":
    """A pool that broke a moment ago refuses work; as a result that tells so, it is met where results are."""
    try:
        future: Future[list[Outcome]] = pool.submit(_analyze, files)
    except BrokenProcessPool as error:
        future = Future()
        future.set_exception(error)
    return future


def _may_pass(cause: BaseException | None) -> bool:
    """Whether the system refused, and not a decoder: those raise OSError too, but without a number."""
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)


def new_face(face: AnalyzedFace) -> NewFace:
    """An analysed face as the gallery takes it."""
    return NewFace(face.detection, face.residual_px, face.quality, face.embedding, face.thumbnail)


def process_pool(count: int, start: Callable[..., None] | None = None, *arguments: Any) -> Any:
    """Worker processes as a loky executor, each of one thread, that end with this process however it ends.

    `start`, a function of a module, is called in each with the `arguments`. Ctrl-C is left to this process to answer.
    """
    from loky import ProcessPoolExecutor  # its workers do not import the user's script again

    return ProcessPoolExecutor(
        count,
        initializer=_begin,
        initargs=(os.getpid(), start, *arguments),
        # Photos and canvases go back to the system (glibc), lest sizes that come and go tear the heap.
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(4 << 20)},
    )


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What follows runs in a worker.

_recipe: Workers
_analyzer: Analyzer | None = None


def _begin(parent: int, start: Callable[..., None] | None, *arguments: Any) -> None:
    if start is not None:
        start(*arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _start(recipe: Workers) -> None:
    global _recipe
    _recipe = recipe


def _end_with(parent: int) -> None:
    """A parent that was killed cannot tell its workers to stop."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _load() -> None:
    global _analyzer
    if _analyzer is None:
        _analyzer = Analyzer(_recipe.pack, calibration=_recipe.calibration, precision=_recipe.precision)


def _analyze(files: list[File]) -> list[Outcome]:
    _load()
    assert _analyzer is not None
    return _recipe.analyze(_analyzer, files)
