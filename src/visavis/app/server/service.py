"""What the routes work with: the face system of one gallery, made fit for many requests at once."""

import contextlib
import itertools
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from visavis.app.server.changes import Changes
from visavis.app.server.decoding import Decoders, Limits, TooLargeError
from visavis.app.server.jobs import Jobs, forget_jobs
from visavis.app.server.likeness import Likeness
from visavis.app.server.streams import Streams
from visavis.app.server.tokens import Tokens
from visavis.errors import BusyError, GalleryError, InputError, PhotoError
from visavis.face.forgetting import Forgotten, forget
from visavis.face.gallery import Gallery, Imported
from visavis.face.gallery.audit import Audit
from visavis.face.gallery.milvus import is_address
from visavis.face.indexing import IndexReport, absolute
from visavis.face.match import Calibration
from visavis.face.models import Pack, status
from visavis.face.photos import Decoded
from visavis.face.stream.sources import Source
from visavis.face.system import ClusterReport, FaceSystem, Hit, Identified, Verified
from visavis.face.workers import AnalysisOptions, cores

__all__ = ["Service", "state_folder"]

MOST_AT_ONCE = 4  # photos looked at, each with models of its own in memory
SCRATCH = "scratch-"  # in the state's folder, where what is private belongs and its size does not surprise


@dataclass(frozen=True, slots=True)
class _Uploaded(AnalysisOptions):
    """Has photos decoded by a process which may die of them; no other way leads to a decoder."""

    decode: Callable[..., Decoded] = field(kw_only=True)
    data: dict[Path, bytes] = field(default_factory=dict)

    def read(self, path: Path) -> Decoded:
        """The photo that was uploaded under this path."""
        return self.decode(self.data[path], path, long_side_px=self.decode_px)


class Service:
    """One gallery. Its methods may be called from any thread; `at_once` look at photos, the others wait.

    Args:
        gallery: the place of one that exists.
        state: a folder for what the server itself keeps: tokens, the log of who asked, jobs, uploads. The gallery's
            own when absent.
        pack: its models, where they are the user's own.
        roots: folders that may be indexed, resolved.
        limits: of an uploaded photo.
        upload_bytes: of one photo.
        workers: processes of an index job; as many as there are cores when absent.
        streams: sources of moving pictures that clients may have watched, by name.
        key: of an encrypted gallery. Beside it nothing is kept in plain that tells of people: jobs are forgotten at
            the server's end, uploads to be kept, imports and exports are refused.
    """

    def __init__(
        self,
        gallery: str | Path,
        *,
        state: Path | None = None,
        pack: str | Path | None = None,
        roots: Sequence[Path] = (),
        limits: Limits | None = None,
        upload_bytes: int = 32 * 2**20,
        workers: int | None = None,
        streams: Mapping[str, Source] | None = None,
        key: str | None = None,
    ) -> None:
        self._place, self._pack, self._workers, self._key = gallery, pack, workers, key
        self.state = state_folder(gallery, state)
        self.decoders = Decoders(cores(), limits or Limits())
        self._options = _Uploaded(decode=self.decoders.decode)
        self._plain = self._open()
        self.gallery: Gallery = self._plain.gallery
        self.roots = tuple(roots)
        self.upload_bytes = upload_bytes
        self.tokens = Tokens(self.state)
        self.audit = Audit(self.state)
        self.changes = Changes(self.gallery)
        self.likeness = Likeness(self.gallery, self.calibration)
        if self.gallery.encrypted:
            forget_jobs(self.state)  # of before it was
        self.jobs = Jobs(None if self.gallery.encrypted else self.state, self._index)
        self.streams = Streams(gallery, pack=pack, sources=streams, key=key)
        self.at_once = min(cores(), MOST_AT_ONCE)
        self._systems: queue.LifoQueue[FaceSystem | None] = queue.LifoQueue()  # one is not for two threads
        for _ in range(self.at_once):
            self._systems.put(self._open(options=self._options, threads=-(-cores() // self.at_once)))
        self._whole = threading.Lock()  # of who works on all faces at once
        _remove_scratch_of_the_dead(self.state)
        self._scratch = tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", dir=self.state)
        self._numbers = itertools.count(1)
        self._closed = False

    def close(self) -> None:
        """Stop jobs and processes, and let go of the gallery; once is enough."""
        if self._closed:
            return
        self._closed = True
        self.streams.close()
        self.jobs.close()
        for _ in range(self.at_once):
            if (system := self._systems.get()) is not None:
                system.close()
        self._systems.put(None)  # for whoever comes late
        self.decoders.close()
        self._plain.close()
        self._scratch.cleanup()

    @property
    def pack(self) -> Pack:
        """The models, whose embeddings the gallery holds."""
        return self._plain.pack

    @property
    def calibration(self) -> Calibration:
        """What their similarities mean."""
        return self._plain.calibration

    # Questions

    def identify(self, photo: bytes, *, false_match_rate: float, liveness: bool) -> list[Identified]:
        """As `FaceSystem.identify`; nothing is fetched for it.

        Raises:
            InputError: liveness is asked for, and this computer has no model for it.
        """
        self._check_liveness(liveness)
        with self._uploaded([photo]) as [path], self._system() as system:
            return system.identify(path, false_match_rate=false_match_rate, liveness=liveness)

    def verify(self, photo: bytes, other: bytes, *, false_match_rate: float, liveness: bool) -> Verified:
        """As `FaceSystem.verify`; errors as `identify`."""
        self._check_liveness(liveness)
        with self._uploaded([photo, other]) as [path, path_of_other], self._system() as system:
            return system.verify(path, path_of_other, false_match_rate=false_match_rate, liveness=liveness)

    def search(self, photo: bytes, *, k: int, face: int | None) -> list[Hit]:
        """As `FaceSystem.search`."""
        with self._uploaded([photo]) as [path], self._system() as system:
            return system.search(path, k=k, face=face)

    # Changes

    def enroll(self, name: str, photos: Sequence[bytes]) -> int:
        """As `FaceSystem.enroll`; the faces stay, the photos are not kept."""
        with self._uploaded(photos) as paths, self._system() as system:
            for path in paths:
                path.touch()  # what the system asks of a file is when it changed
            return system.enroll(name, paths, keep_files=False)

    def cluster(self, *, fresh: bool) -> ClusterReport:
        """As `FaceSystem.cluster`."""
        with self._alone("cluster"), self._another() as system:
            return system.cluster(fresh=fresh)

    def forget(self, person: int, *, uploads: bool) -> Forgotten:
        """As `forgetting.forget`; what is in memory forgets, too."""
        with self._alone("forget"):
            if any(job.state == "running" for job in self.jobs.all()):
                raise BusyError("forget: expected no index job that runs; cancel it or wait for it")
            proof = forget(self.gallery, person, state=self.state, uploads=uploads)
            self.audit.leave_out(person)
            self.changes.forget(person)
            self.likeness.forget(person)
            self.streams.forget(person)
            return proof

    def export_to(self, path: Path) -> None:
        """As `Gallery.export_to`."""
        with self._alone("export"), self._another() as system:
            system.gallery.export_to(path)

    def import_from(self, upload: IO[bytes]) -> Imported:
        """As `Gallery.import_from`."""
        if self.gallery.encrypted:
            raise GalleryError(
                "import: expected a gallery that is not encrypted, as the upload would lie beside it in plain"
            )
        with self._alone("import"), self.scratch(".visavis") as path, self._another() as system:
            with path.open("xb") as copy:
                shutil.copyfileobj(upload, copy)
            try:
                return system.gallery.import_from(path)
            except GalleryError as error:  # the place it lies in is nobody's business
                raise GalleryError(str(error).replace(str(path), "file")) from error.__cause__

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
    def _uploaded(self, photos: Sequence[bytes]) -> Iterator[list[Path]]:
        """Names under which a system finds the photos while the block runs."""
        paths = [self._new_path(".photo") for _ in photos]
        for number, data in enumerate(photos, 1):
            if len(data) > self.upload_bytes:
                raise TooLargeError(f"photo {number}: expected at most {self.upload_bytes} bytes, got {len(data)}")
        try:
            self._options.data.update(zip(paths, photos, strict=True))
            yield paths
        except PhotoError as error:
            text = str(error)
            for number, path in enumerate(paths, 1):  # the place it lies in is nobody's business
                text = text.replace(str(path), f"photo {number}")
            raise (TooLargeError if isinstance(error.__cause__, TooLargeError) else PhotoError)(text) from error
        finally:
            for path in paths:
                self._options.data.pop(path, None)
                path.unlink(missing_ok=True)

    def _check_liveness(self, wanted: bool) -> None:
        spec = self.pack.liveness
        if wanted and (spec is None or not status(spec).present):
            cure = "none is in its pack" if spec is None else f"there run `visavis face models pull {spec.name}`"
            raise InputError(f"liveness: expected a server that has the model, got one without; {cure}")

    @contextlib.contextmanager
    def _system(self) -> Iterator[FaceSystem]:
        """One for the block's own; there are `at_once`."""
        system = self._systems.get()
        try:
            if system is None:
                raise BusyError("server: expected one that goes on, but it is being closed")
            yield system
        finally:
            self._systems.put(system)

    def _new_path(self, suffix: str) -> Path:
        return Path(self._scratch.name) / f"{next(self._numbers)}{suffix}"

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
        """A system of its own for long work."""
        with self._open() as system:
            yield system

    def _open(self, **options: Any) -> FaceSystem:
        return FaceSystem.open(self._place, pack=self._pack, create=False, key=self._key, **options)


def state_folder(gallery: str | Path, state: Path | None) -> Path:
    """Where a server of this gallery keeps its tokens and the like; made when needed, for its owner alone.

    Raises:
        InputError: there is no folder: the gallery is not in one, and none is named.
    """
    if state is None:
        if is_address(gallery):
            raise InputError("state: expected a folder for tokens, log and uploads, as the gallery is in none; --state")
        return absolute(gallery)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return absolute(state)


def _remove_scratch_of_the_dead(folder: Path) -> None:
    """What servers that were killed have left."""
    for left in folder.glob(f"{SCRATCH}*") if os.name == "posix" else ():
        try:
            os.kill(int(left.name.split("-")[1]), 0)  # asks only
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (OSError, ValueError, IndexError):  # it runs, as somebody else
            continue
