"""Decodes photos of strangers in processes of their own: what a file does to its decoder, it does to nothing else.

The other end is `visavis.app.server.decoder`. It gets bytes and gives back JSON and pixels, never objects, and what it
says is believed only where it can be true: so even a decoder that was taken over gets no further than its own photo.
"""

import contextlib
import hashlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import BusyError, PhotoError
from visavis.face.photos import Decoded
from visavis.face.records import Photo

__all__ = ["Decoders", "Limits", "TooLargeError"]

COMMAND = (sys.executable, "-P", "-m", "visavis.app.server.decoder")
LINE_BYTES = 64 * 2**10  # of an answer, before its pixels
STARTING_S = 60.0  # a machine under load takes its time to import numpy
ENDED = "file: decoding it ended the process (damaged, or made to do harm)"


class TooLargeError(PhotoError):
    """A photo of more pixels or bytes than the server takes."""


class Limits(NamedTuple):
    """What one photo may cost."""

    pixels: int = 50_000_000  # by its header, before anything is decoded
    seconds: float = 20.0
    memory_bytes: int = 3 * 2**30  # of address space, libraries and all


class Decoders:
    """Some processes, started when needed and again when one has died. For any number of threads.

    Args:
        count: of processes, and so of photos in work at once.
        limits: for each photo.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self.limits = limits
        self.deaths = 0  # of processes that a photo has ended, or that took too long over one
        self._counting = threading.Lock()
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._count = count
        self._closed = False

    def decode(self, data: bytes, path: Path, *, long_side_px: int) -> Decoded:
        """As `visavis.face.photos.decode`, which does it.

        Raises:
            TooLargeError: more pixels than the limit.
            PhotoError: what it raises, and when the process died, lied or took too long.
            BusyError: they have been closed.
        """
        process = self._free.get()
        try:
            if self._closed:
                raise BusyError("photo: the server is being stopped")
            if process is not None and process.has_ended():  # idle: no photo is to blame
                process.close()
                process = None
            process = process or _Process(self.limits)
            answer = process.ask(data, long_side_px)
        except _EndedError as ended:
            with self._counting:
                self.deaths += 1
            process = None
            raise PhotoError(str(ended)) from ended
        except BaseException:
            if process is not None:
                process.close()
            process = None
            raise
        finally:
            self._free.put(process)
        if isinstance(answer, PhotoError):
            raise answer
        photo = Photo(path, hashlib.sha256(data).hexdigest(), answer.width_px, answer.height_px, answer.taken_at)
        return Decoded(photo, answer.pixels, answer.scale)

    def close(self) -> None:
        """End the processes, once the photos in work are done; who waits for one is told. Once is enough."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._count):
            process = self._free.get()
            if process is not None:
                process.close()
        self._free.put(None)


class _Answer(NamedTuple):
    width_px: int
    height_px: int
    taken_at: datetime | None
    scale: float
    pixels: NDArray[np.uint8]


class _EndedError(Exception):
    """The process is gone; the text says why."""


class _Process:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = subprocess.Popen(
            [
                *COMMAND,
                *(str(limits.pixels), str(limits.memory_bytes), str(limits.seconds + 5)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with self._killed_after(STARTING_S), contextlib.suppress(ValueError):
            if json.loads(self._output.readline(LINE_BYTES)) == "ready":
                return
        self.close()
        raise RuntimeError("decoder: expected a process that starts, but it ended")

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def ask(self, data: bytes, long_side_px: int) -> _Answer | PhotoError:
        """What one photo comes to."""
        with self._killed_after(self._limits.seconds) as late:
            try:
                head = json.dumps({"bytes": len(data), "long_side_px": long_side_px})
                self._input.write(head.encode() + b"\n" + data)
                self._input.flush()
                return self._answer()
            except (OSError, KeyError, RecursionError, TypeError, ValueError):  # a closed pipe, half a line, a lie
                pass
            self.close()
            reason = f"photo: decoding it took longer than {self._limits.seconds:g} s" if late.is_set() else ENDED
            raise _EndedError(reason)

    def _answer(self) -> _Answer | PhotoError:
        """Read an answer; raises any of the errors above when it cannot be one."""
        said = json.loads(self._output.readline(LINE_BYTES))
        if "error" in said:
            return (TooLargeError if said["large"] else PhotoError)(str(said["error"])[:500])
        width_px, height_px, scale = int(said["width_px"]), int(said["height_px"]), float(said["scale"])
        rows, columns = (int(side) for side in said["shape"])
        taken_at = None if said["taken_at"] is None else datetime.fromisoformat(said["taken_at"])
        if not (width_px > 0 < height_px and width_px * height_px <= self._limits.pixels and 0 < scale <= 1):
            raise ValueError("not a photo that was asked for")
        if not (0 < rows <= height_px * scale + 1 and 0 < columns <= width_px * scale + 1):
            raise ValueError("not its pixels")
        pixels = self._output.read(3 * rows * columns)
        return _Answer(width_px, height_px, taken_at, scale, np.frombuffer(pixels, np.uint8).reshape(rows, columns, 3))

    def close(self) -> None:
        """Kill it; it holds nothing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not written yet is not wanted any more
                if stream is not None:
                    stream.close()

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[threading.Event]:
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout
