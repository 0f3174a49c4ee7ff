"""The process that decodes photos for `visavis.app.server.decoding`: run as a module, it answers on standard output.

It may use so much memory and write no file; who starts it ends it when it takes too long, and when nobody is left to do
that, the system does. A request is a line of JSON and the file's bytes, an answer a line of JSON and the pixels' bytes.
"""

import io
import json
import signal
import sys
from pathlib import Path
from typing import IO, Any

from visavis.errors import PhotoError

__all__ = ["answer", "main"]


def answer(data: bytes, *, long_side_px: int, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """What a photo's bytes come to: facts and RGB pixels, or an error and none."""
    from visavis.face.photos import decode

    try:
        size = _size(data)
        if size is not None and size[0] * size[1] > max_pixels:
            most = max_pixels / 1e6
            return {"error": f"photo: expected at most {most:g} megapixels, got {size[0]} x {size[1]}", "large": 1}, b""
        photo, pixels, scale = decode(data, Path("/"), long_side_px=long_side_px)
    except PhotoError as error:
        return {"error": str(error), "large": 0}, b""
    facts = {
        "width_px": photo.width_px,
        "height_px": photo.height_px,
        "taken_at": photo.taken_at and photo.taken_at.isoformat(),
        "scale": scale,
        "shape": pixels.shape[:2],
    }
    return facts, pixels.tobytes()


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header; None: `decode` will tell what is wrong with it."""
    import warnings

    from PIL import Image

    from visavis.face.photos import looks_like_photo

    if not looks_like_photo(data[:32]):
        return None
    if data[4:8] == b"ftyp":
        import pillow_heif

        pillow_heif.register_heif_opener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.size
        except Exception:  # a damaged header makes it raise anything
            return None


def main(source: IO[bytes], sink: IO[bytes], *, max_pixels: int, seconds: float) -> None:
    """Answer until the source ends; a photo that takes more than so many seconds ends the process."""
    sink.write(b'"ready"\n')
    sink.flush()
    while line := source.readline():
        request = json.loads(line)
        data = source.read(request["bytes"])
        _alarm_in(seconds)
        facts, pixels = answer(data, long_side_px=request["long_side_px"], max_pixels=max_pixels)
        _alarm_in(0)
        sink.write(json.dumps(facts).encode() + b"\n" + pixels)
        sink.flush()


def _alarm_in(seconds: float) -> None:
    """By default an alarm ends a process, in whatever code it is; 0: none."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _confine(memory_bytes: int) -> None:
    """Set limits, where the system knows them; elsewhere time is the only one."""
    try:
        import resource
    except ImportError:
        return
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    import numpy as np  # noqa: F401
    import pillow_heif
    import simplejpeg  # noqa: F401
    from PIL import Image

    import visavis.face.photos  # noqa: F401

    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    Image.init()
    pillow_heif.register_heif_opener()
    _confine(int(sys.argv[2]))
    main(sys.stdin.buffer, sys.stdout.buffer, max_pixels=int(sys.argv[1]), seconds=float(sys.argv[3]))
