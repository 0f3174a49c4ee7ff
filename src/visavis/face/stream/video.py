"""Frames of a source: a file's all, in their order; of a live source the newest, as it comes.

A frame's pixels are uint8 [height, width, 3] RGB, turned upright, its pixels square; its time is in seconds.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, VideoError
from visavis.face.stream.sources import Source

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

__all__ = ["BACKOFF_S", "Frame", "frames"]

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # waited before the first, second, ... try to reach it again
MAX_PIXELS = 8192 * 8192
_OPEN_S, _READ_S = 10.0, 5.0  # a source that is silent for so long is lost

# Whatever a file's content says it is, it is read as one of these and leads to no other file and no network: playlists,
# concatenations and session descriptions would.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,mjpeg,ivf,mxf,dv"
_NO_PROTOCOL = "none"
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp",  # a lost packet of UDP smears faces
    "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls",
    "analyzeduration": "1000000",  # microseconds: frames that are looked at to learn what comes, and come late
}

_log = logging.getLogger(__name__)


class Frame(NamedTuple):
    number: int  # from 0; those passed over count
    time_s: float  # since the first frame; rises
    pixels: NDArray[np.uint8]  # [height, width, 3]


def frames(
    source: Source,
    *,
    fps: float | None = None,
    backoff_s: Sequence[float] = BACKOFF_S,
    on_lost: Callable[[str], None] = lambda _reason: None,
    stop: threading.Event | None = None,
) -> Generator[Frame, None, None]:
    """The frames of a source; close the iterator to let go of it.

    A live source that is lost is tried again until it is back. One that cannot be reached at first is an error.

    Args:
        source: to read.
        fps: at most so many frames a second of the source; all of them when absent.
        backoff_s: seconds to wait before the first, second, ... try to reach a lost source; the last goes on.
        on_lost: called with the reason, on another thread, when a live source is lost.
        stop: set it to have the frames end, also while a live source is silent.

    Raises:
        VideoError: it cannot be opened or holds no frame; the message holds no password.
        InputError: `fps` is not above 0.
    """
    if fps is not None and not fps > 0:
        raise InputError(f"fps: expected a rate above 0, got {fps}")
    gap_s = 0.0 if fps is None else 1 / fps
    stop = threading.Event() if stop is None else stop
    return _newest(source, gap_s, backoff_s, on_lost, stop) if source.live else _all(source, gap_s, stop)


def _all(source: Source, gap_s: float, stop: threading.Event) -> Generator[Frame, None, None]:
    import av

    due_s, start_s, last_s, number = 0.0, None, -1.0, -1
    try:
        with _opened(source) as container:
            stream = container.streams.video[0]
            rate, ratio = float(stream.average_rate or 25), stream.sample_aspect_ratio
            for number, frame in enumerate(_decoded(container)):
                if stop.is_set():
                    return
                at_s = (start_s or 0.0) + number / rate if frame.pts is None else frame.time
                start_s = at_s if start_s is None else start_s
                time_s = max(at_s - start_s, last_s + 1e-3)  # some files' clocks stand still or go back
                if time_s < due_s - 1e-6:
                    continue
                due_s = max(due_s + gap_s, time_s + gap_s / 2)  # keeps to the rate where the video's is no multiple
                last_s = time_s
                yield Frame(number, time_s, _pixels(frame, ratio))
    except av.error.FFmpegError as error:
        raise _unreadable(source, error) from None  # the error's own text holds the address
    if number < 0:
        raise VideoError(f"{source}: expected a video, got one without a frame")


def _newest(
    source: Source,
    gap_s: float,
    backoff_s: Sequence[float],
    on_lost: Callable[[str], None],
    stop: threading.Event,
) -> Generator[Frame, None, None]:
    reader = _Reader(source, backoff_s, on_lost)
    with closing(reader):
        start_s, due_s = None, 0.0
        while (taken := reader.take(due_s, stop)) is not None:
            number, at_s, pixels = taken
            start_s = at_s if start_s is None else start_s
            due_s = max(due_s + gap_s, at_s + gap_s / 2)
            yield Frame(number, at_s - start_s, pixels())


_Taken = tuple[int, float, Callable[[], NDArray[np.uint8]]]  # number, when it came, its pixels for the asking


class _Reader:
    """Reads a live source on a thread of its own and keeps the newest frame."""

    def __init__(self, source: Source, backoff_s: Sequence[float], on_lost: Callable[[str], None]) -> None:
        self._source, self._backoff_s, self._on_lost = source, backoff_s, on_lost
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._newest: _Taken | None = None
        self._number = -1
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="visavis-video", daemon=True)
        self._thread.start()

    def take(self, due_s: float, stop: threading.Event) -> "_Taken | None":
        """The newest frame not yet taken that came at `due_s` or later, once there is one; None: stopped."""
        with self._changed:
            while True:
                if self._newest is not None and self._newest[1] >= due_s:
                    taken, self._newest = self._newest, None
                    return taken
                if self._error is not None:
                    raise self._error
                if stop.is_set():
                    return None
                self._changed.wait(0.2)

    def close(self) -> None:
        """A read that waits for a silent source ends by itself, a little later."""
        self._closed.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        tries = 0
        while not self._closed.is_set():
            before = self._number
            try:
                reason = self._read()
            except Exception as error:  # whatever it is, the one who waits is to know
                with self._changed:
                    self._error = error
                    self._changed.notify()
                return
            if self._closed.is_set():
                return
            tries = 0 if self._number > before else tries + 1
            wait_s = self._backoff_s[min(tries, len(self._backoff_s) - 1)]
            _log.warning("%s: lost (%s); next try in %g s", self._source, reason, wait_s)
            self._on_lost(reason)
            self._closed.wait(wait_s)

    def _read(self) -> str:
        """Frames until the source is lost, and why it was; an error where it was never there."""
        import av

        try:
            with _opened(self._source) as container:
                ratio = container.streams.video[0].sample_aspect_ratio
                for frame in _decoded(container):
                    if self._closed.is_set():
                        break
                    with self._changed:
                        self._number += 1
                        self._newest = self._number, time.monotonic(), partial(_pixels, frame, ratio)
                        self._changed.notify()
            reason = "it ended"
        except av.error.FFmpegError as error:
            if self._number < 0:
                raise _unreadable(self._source, error) from None
            reason = _reason(error)
        except VideoError:  # a camera that is just starting again
            if self._number < 0:
                raise
            reason = "no video"
        if self._number < 0 and not self._closed.is_set():
            raise VideoError(f"{self._source}: expected a video, got one without a frame")
        return reason


@contextmanager
def _opened(source: Source) -> "Iterator[InputContainer]":
    import av

    timeout = (_OPEN_S, _READ_S)
    if source.kind == "file":
        path = Path(source.location)
        try:
            if not path.is_file():  # opening a pipe would wait for somebody to write
                raise VideoError(f"{source}: expected a video file, got {'no file' if path.exists() else 'nothing'}")
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": _NO_PROTOCOL}
            with path.open("rb") as file, av.open(file, "r", options=options, metadata_errors="replace") as container:
                yield _checked(source, container)
        except OSError as error:
            if isinstance(error, av.error.FFmpegError):
                raise
            raise VideoError(f"{source}: cannot be read ({error.strerror})") from None
        return
    if source.kind == "camera":
        with av.open(source.location, "r", format="v4l2", metadata_errors="replace", timeout=timeout) as container:
            yield _checked(source, container)
        return
    with av.open(
        source.location, "r", format="rtsp", options=_RTSP_OPTIONS, metadata_errors="replace", timeout=timeout
    ) as container:
        yield _checked(source, container)


def _checked(source: Source, container: "InputContainer") -> "InputContainer":
    if not container.streams.video:
        raise VideoError(f"{source}: expected a video, got a file without pictures")
    context = container.streams.video[0].codec_context
    if context is None:
        raise VideoError(f"{source}: expected a video in a known coding, got another")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(f"{source}: expected at most {MAX_PIXELS} pixels, got {context.width} x {context.height}")
    context.options = {"max_pixels": str(MAX_PIXELS)}  # also where the size changes later on
    if source.live:
        context.thread_type = "SLICE"  # threads by frames hold some back
        context.thread_count = 1
    else:
        context.thread_type = "AUTO"
    return container


def _decoded(container: "InputContainer") -> "Iterator[VideoFrame]":
    """The frames; packets that are damaged are passed over, and a file ends where no more packets can be told."""
    import av

    given = False
    packets = container.demux(container.streams.video[0])
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            if given and container.format.name != "rtsp":
                return
            raise
        if packet is None:
            return
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                given = True
                yield frame


def _pixels(frame: "VideoFrame", ratio: Fraction | None) -> NDArray[np.uint8]:
    """Upright, with square pixels: `ratio` is the width of one by its height, as far as it is to be believed."""
    width = round(frame.width * ratio) if ratio is not None and 1 / 4 <= ratio <= 4 else frame.width
    if width * frame.height > MAX_PIXELS:
        raise VideoError(f"video: expected at most {MAX_PIXELS} pixels, got {width} x {frame.height}")
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4), np.uint8)


def _reason(error: Exception) -> str:
    """Without the address, which its own text holds."""
    return getattr(error, "strerror", None) or type(error).__name__


def _unreadable(source: Source, error: Exception) -> VideoError:
    return VideoError(f"{source}: expected a video that can be read, got an error: {_reason(error)}")
