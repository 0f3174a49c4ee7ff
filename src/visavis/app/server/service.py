"""What the routes work with: the face system of one gallery, made fit for many requests at once."""

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visavis.app.server.audit import Audit
from visavis.app.server.decoding import Decoders, Limits, TooLargeError
from visavis.app.server.jobs import Jobs
from visavis.app.server.tokens import Tokens
from visavis.errors import BusyError, PhotoError
from visavis.face.gallery import Gallery, Imported
from visavis.face.indexing import IndexReport
from visavis.face.photos import Decoded
from visavis.face.system import ClusterReport, FaceSystem, Hit, Identified, Verified
from visavis.face.workers import AnalysisOptions, cores

__all__ = ["Service"]


@dataclass(frozen=True, slots=True)
class _DecodedBefore(AnalysisOptions):
    """Takes photos that a process which may die of them has decoded; no other way leads to a decoder."""

    photos: dict[Path, Decoded] = field(default_factory=dict)

    def read(self, path: Path) -> Decoded:
        """The photo that was decoded for this path."""
        return self.photos[path]


class Service:
    """One gallery. Its methods may be called from any thread: those that look at photos take turns.

    Args:
        folder: the gallery, which exists.
        pack: its models, where they are the user's own.
        roots: folders that may be indexed, resolved.
        limits: of an uploaded photo.
        upload_bytes: of one photo.
        workers: processes of an index job; as many as there are cores when absent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pack: str | Path | None = None,
        roots: Sequence[Path] = (),
        limits: Limits | None = None,
        upload_bytes: int = 32 * 2**20,
        workers: int | None = None,
    ) -> None:
        self._pack, self._workers = pack, workers
        self._options = _DecodedBefore()
        self._system = FaceSystem.open(folder, pack=pack, create=False, options=self._options)
        self.gallery: Gallery = self._system.gallery
        self.roots = tuple(roots)
        self.upload_bytes = upload_bytes
        self.tokens = Tokens(self.gallery.folder)
        self.audit = Audit(self.gallery.folder)
        self.jobs = Jobs(self.gallery.folder, self._index)
        self.decoders = Decoders(cores(), limits or Limits())
        self._turn = threading.Lock()  # of who uses the models
        self._whole = threading.Lock()  # of who works on all faces at once
        self._uploads = tempfile.TemporaryDirectory(prefix="visavis-")
        self._numbers = itertools.count(1)
        self._closed = False

    def close(self) -> None:
        """Stop jobs and processes, and let go of the gallery; once is enough."""
        if self._closed:
            return
        self._closed = True
        self.jobs.close()
        self.decoders.close()
        self._system.close()
        self._uploads.cleanup()

    # Questions

    def identify(self, photo: bytes, *, false_match_rate: float) -> list[Identified]:
        """As `FaceSystem.identify`."""
        with self._decoded([photo]) as [path], self._turn:
            return self._system.identify(path, false_match_rate=false_match_rate)

    def verify(self, photo: bytes, other: bytes, *, false_match_rate: float) -> Verified:
        """As `FaceSystem.verify`."""
        with self._decoded([photo, other]) as [path, path_of_other], self._turn:
            return self._system.verify(path, path_of_other, false_match_rate=false_match_rate)

    def search(self, photo: bytes, *, k: int) -> list[Hit]:
        """As `FaceSystem.search`."""
        with self._decoded([photo]) as [path], self._turn:
            return self._system.search(path, k=k)

    # Changes

    def enroll(self, name: str, photos: Sequence[bytes]) -> int:
        """As `FaceSystem.enroll`; the faces stay, the photos are not kept."""
        with self._decoded(photos) as paths:
            for path, data in zip(paths, photos, strict=True):
                path.write_bytes(data)
            with self._turn, self.gallery.transaction():
                person = self._system.enroll(name, paths)
                for path in paths:
                    self.gallery.remove_file(path)
            return person

    def cluster(self, *, fresh: bool) -> ClusterReport:
        """As `FaceSystem.cluster`."""
        with self._alone("cluster"), self._another() as system:
            return system.cluster(fresh=fresh)

    def forget(self, person: int) -> int:
        """As `Gallery.forget`; the log of who asked forgets, too."""
        with self._alone("forget"):
            if any(job.state == "running" for job in self.jobs.all()):
                raise BusyError("forget: expected no index job that runs; cancel it or wait for it")
            self.audit.forget(person)
            return self.gallery.forget(person)

    def import_from(self, path: Path) -> Imported:
        """As `Gallery.import_from`."""
        with self._alone("import"):
            return self.gallery.import_from(path)

    @contextlib.contextmanager
    def scratch(self, suffix: str) -> Iterator[Path]:
        """A path for a file that nobody else can read, gone afterwards."""
        path = self._new_path(suffix)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _index(self, folder: Path, prune: bool, progress: Callable[[int, int | None], None]) -> IndexReport:
        with self._another() as system:
            return system.index(folder, workers=self._workers, prune=prune, progress=progress)

    @contextlib.contextmanager
    def _decoded(self, photos: Sequence[bytes]) -> Iterator[list[Path]]:
        """Names under which the system finds the photos while the block runs."""
        paths = [self._new_path("") for _ in photos]
        try:
            for number, (path, data) in enumerate(zip(paths, photos, strict=True), 1):
                if len(data) > self.upload_bytes:
                    raise TooLargeError(f"photo {number}: expected at most {self.upload_bytes} bytes, got {len(data)}")
                try:
                    self._options.photos[path] = self.decoders.decode(data, path, long_side_px=self._options.decode_px)
                except PhotoError as error:
                    raise type(error)(f"photo {number}: {error}") from error
            yield paths
        except PhotoError as error:
            text = str(error)
            for number, path in enumerate(paths, 1):  # the place it lies in is nobody's business
                text = text.replace(str(path), f"photo {number}")
            raise type(error)(text) from error
        finally:
            for path in paths:
                self._options.photos.pop(path, None)
                path.unlink(missing_ok=True)

    def _new_path(self, suffix: str) -> Path:
        return Path(self._uploads.name) / f"{next(self._numbers)}{suffix}"

    @contextlib.contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        if not self._whole.acquire(blocking=False):
            raise BusyError(f"{what}: expected no other work on the whole gallery; try again when it is done")
        try:
            yield
        finally:
            self._whole.release()

    @contextlib.contextmanager
    def _another(self) -> Iterator[FaceSystem]:
        """A system of its own for long work, for one is not for two threads."""
        with FaceSystem.open(self.gallery.folder, pack=self._pack, create=False) as system:
            yield system
