"""Photos uploaded to stay: kept beside the gallery under names made of their content, and indexed from there."""

import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from visavis.app.server.decoding import Decoders, TooLargeError
from visavis.app.server.jobs import Jobs
from visavis.errors import GalleryError, PhotoError
from visavis.face.gallery import Gallery
from visavis.face.gallery.encryption import PHOTOS
from visavis.face.wire import Job, UploadedPhoto

__all__ = ["Uploads"]

LOOKED_AT_PX = 64  # a photo is decoded before it is kept, as small as that goes
SUFFIXES = (  # for those who look into the folder; content decides
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
    (b"\0\0\0\x0cjP", ".jp2"),
    (b"P", ".pnm"),
)


class Uploads:
    """The folder `photos` of a server's state.

    Args:
        gallery: whose photos are known.
        folder: the state's.
        decoders: look at each photo before it is kept.
        jobs: index the folder.
        most_bytes: of a photo.
    """

    def __init__(self, gallery: Gallery, folder: Path, decoders: Decoders, jobs: Jobs, *, most_bytes: int) -> None:
        self._gallery, self._decoders, self._jobs = gallery, decoders, jobs
        self.most_bytes = most_bytes
        self.folder = folder.resolve() / PHOTOS
        self._queueing = threading.Lock()

    def known(self, digests: Sequence[str]) -> list[str]:
        """Those of the SHA-256 whose photos the gallery has, and so needs not be sent."""
        return [digest for digest in digests if self._gallery.has_content(digest)]

    def take(self, data: bytes) -> UploadedPhoto:
        """Keep a photo, unless the gallery has it or it is none.

        Raises:
            GalleryError: the disk is full, the folder cannot be written, or the gallery is encrypted.
        """
        if self._gallery.encrypted:
            raise GalleryError(
                "upload: expected a gallery that is not encrypted, as the photo would lie beside it in plain"
            )
        try:
            if len(data) > self.most_bytes:
                raise TooLargeError(f"photo: expected at most {self.most_bytes} bytes, got more")
            digest = self._decoders.decode(data, Path("/"), long_side_px=LOOKED_AT_PX).photo.sha256
        except PhotoError as error:
            return UploadedPhoto("refused", None, str(error))
        if self._gallery.has_content(digest):
            return UploadedPhoto("known", digest, None)
        try:
            self._write(digest, data)
        except OSError as error:
            raise GalleryError(f"{self.folder}: expected room for a photo: {error.strerror}") from error
        return UploadedPhoto("stored", digest, None)

    def index(self) -> Job:
        """A job that takes in what has been kept: one that waits already, else a new one."""
        with self._queueing:
            for job in self._jobs.all():
                if job.state == "waiting" and job.folder == str(self.folder):
                    return job
            return self._jobs.start(self.folder, prune=False)

    def resume(self) -> None:
        """Go on with what a server that was killed had not taken in yet."""
        jobs = [job for job in self._jobs.all() if job.folder == str(self.folder)]
        if jobs and jobs[0].state == "interrupted":
            self.index()

    def _write(self, digest: str, data: bytes) -> None:
        folder = self.folder / digest[:2]
        self.folder.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{digest}{_suffix(data)}"
        draft = folder / f".{secrets.token_hex(8)}.new"  # hidden: indexing passes it over
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, not a path
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _suffix(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return ".avif" if b"avi" in data[8:12] else ".heic"
    return next((suffix for magic, suffix in SUFFIXES if data.startswith(magic)), "")
