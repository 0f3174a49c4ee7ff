"""Decodes photos of strangers in processes of their own: what a file does to its decoder, it does to nothing else.

The other end is `visavis.app.server.decoder`. It gets bytes and gives back JSON and pixels, never objects, so that even
a decoder that was taken over cannot make this process run anything.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from visavis.errors import PhotoError
from visavis.face.photos import Decoded
from visavis.face.records import Photo

__all__ = ["Decoders", "Limits", "TooLargeError"]

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
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._count = count

    def decode(self, data: bytes, path: Path, *, long_side_px: int) -> Decoded:
        """As `visavis.face.photos.decode`, which does it.

        Raises:
            TooLargeError: more pixels than the limit.
            PhotoError: what it raises, and when the process died or took too long.
        """
        process = self._free.get()
        try:
            process = process or _Process(self.limits)
            answer, pixels = process.ask(data, long_side_px)
        except _EndedError as ended:
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
        if "error" in answer:
            raise (TooLargeError if answer["large"] else PhotoError)(answer["error"])
        taken_at = answer["taken_at"] and datetime.fromisoformat(answer["taken_at"])
        photo = Photo(path, answer["sha256"], answer["width_px"], answer["height_px"], taken_at)
        return Decoded(photo, np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), answer["scale"])

    def close(self) -> None:
        """End the processes, once the photos in work are done."""
        for _ in range(self._count):
            process = self._free.get()
            if process is not None:
                process.close()


class _EndedError(Exception):
    """The process is gone; the text says why."""


class _Process:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "visavis.app.server.decoder"),
                *(str(limits.pixels), str(limits.memory_bytes)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with self._killed_after(STARTING_S), contextlib.suppress(ValueError):
            if json.loads(self._output.readline()) == "ready":
                return
        self.close()
        raise RuntimeError("decoder: expected a process that starts, but it ended")

    def ask(self, data: bytes, long_side_px: int) -> tuple[dict[str, Any], bytes]:
        """One photo's answer and pixels."""
        with self._killed_after(self._limits.seconds) as late:
            try:
                head = json.dumps({"bytes": len(data), "long_side_px": long_side_px})
                self._input.write(head.encode() + b"\n" + data)
                self._input.flush()
                answer = json.loads(self._output.readline())
                size = 0 if "error" in answer else int(np.prod(answer["shape"], dtype=np.int64))
                if size > 3 * self._limits.pixels:
                    raise ValueError("more pixels than asked for")
                pixels = self._output.read(size)
                if len(pixels) == size:
                    return answer, pixels
            except (OSError, ValueError):  # a closed pipe, half a line
                pass
            self.close()
            reason = f"photo: decoding it took longer than {self._limits.seconds:g} s" if late.is_set() else ENDED
            raise _EndedError(reason)

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
