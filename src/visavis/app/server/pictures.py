"""Pictures of photos as pages show them: made when asked for, held in memory only, so that there is none to forget."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

from visavis.app.server.decoding import Decoders
from visavis.errors import NotFoundError
from visavis.face.gallery import PhotoRow
from visavis.face.photos import MAX_BYTES

__all__ = ["Pictures"]

HELD_BYTES = 64 * 2**20  # some 4,000 tiles of a grid
JPEG_QUALITY = 82


class Pictures:
    """For any number of threads; photos are decoded in processes that may die of them."""

    def __init__(self, decoders: Decoders, *, held_bytes: int = HELD_BYTES) -> None:
        self._decoders, self._most = decoders, held_bytes
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()  # the one longest unused first
        self._bytes = 0
        self._lock = threading.Lock()

    def jpeg(self, photo: PhotoRow, long_side_px: int) -> bytes:
        """A photo as a JPEG, upright, no larger than itself and than this long side.

        Raises:
            NotFoundError: no file of it is there, or none has the content that was taken in.
            PhotoError: it cannot be decoded within the server's limits.
        """
        key = photo.sha256, long_side_px
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        picture = self._make(photo, long_side_px)
        with self._lock:
            self._bytes += len(picture) - len(self._held.pop(key, b""))
            self._held[key] = picture
            while self._bytes > self._most:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return picture

    def _make(self, photo: PhotoRow, long_side_px: int) -> bytes:
        from PIL import Image

        for path in photo.paths:
            data = _read(path)
            if data is None:
                continue
            decoded = self._decoders.decode(data, path, long_side_px=long_side_px)
            if decoded.photo.sha256 != photo.sha256:  # another photo now, perhaps one that is nobody's business
                continue
            image = Image.fromarray(decoded.pixels)
            image.thumbnail((long_side_px, long_side_px))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=JPEG_QUALITY)
            return stream.getvalue()
        raise NotFoundError(f"photo {photo.id}: expected a file as it was taken in, found none; index its folder again")


def _read(path: Path) -> bytes | None:
    """What is at a path; None where no file is, or one longer than any photo."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_BYTES else None
    except OSError:
        return None
