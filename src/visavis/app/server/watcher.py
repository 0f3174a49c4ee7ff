"""The process that watches one stream for `visavis.app.server.streams`: run as a module, it tells on standard output.

What a hostile video does to its decoder, it does to this process alone. The first line it reads is what to watch, as
JSON: addresses hold passwords, which do not belong on a command line. Of the lines after it each asks to read the
gallery again, and their end ends it. It writes JSON lines: an event, a frame, a loss, an error, or the end.
"""

import json
import math
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

import numpy as np

from visavis.app.libraries import cure
from visavis.errors import VisavisError
from visavis.face.stream.video import Frame
from visavis.face.stream.watching import Present, Watcher, watch
from visavis.face.system import FaceSystem

__all__ = ["annotated", "main"]

FRAME_GAP_S = 0.5  # between two pictures
FRAME_LONG_PX = 960
COLOURS = ("#ffd166", "#06d6a0", "#4cc9f0", "#ef476f", "#b5e48c", "#f4a261", "#c77dff", "#ffffff")


def annotated(frame: Frame, present: list[Present]) -> bytes:
    """A frame as JPEG with a box and the number of everybody; names are not drawn, so that none has to be unlearned."""
    import simplejpeg
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame.pixels)
    scale = min(1.0, FRAME_LONG_PX / max(image.size))
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(12, image.width // 40))
    for one in present:
        colour = COLOURS[one.track % len(COLOURS)]
        left, top, right, bottom = (float(value + 0.5) * scale for value in one.box_xyxy_px)
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=2)
        _, _, width, height = draw.textbbox((0, 0), str(one.track), font=font)
        draw.rectangle((left, top, left + width + 6, top + height + 4), fill=colour)
        draw.text((left + 3, top + 1), str(one.track), fill="black", font=font)
    jpeg: bytes = simplejpeg.encode_jpeg(np.asarray(image), quality=80, colorsubsampling="420")
    return jpeg


def main(source: IO[bytes], sink: IO[bytes]) -> None:
    """Watch what the first line says until the lines end."""
    stop, stale = threading.Event(), threading.Event()
    sending = threading.Lock()

    def tell(**value: Any) -> None:
        with sending, suppress(BrokenPipeError):  # then nobody listens, and the lines end, too
            sink.write(json.dumps(value).encode() + b"\n")
            sink.flush()

    frames = _Frames(tell, stale)
    try:
        task = json.loads(source.readline())
        threading.Thread(target=_listen, args=(source, stop, stale), daemon=True).start()
        with FaceSystem.open(task["gallery"], pack=task["pack"], create=False, key=task["key"]) as system:
            for event in watch(
                system,
                task["source"],
                fps=task["fps"],
                false_match_rate=task["false_match_rate"],
                on_frame=frames,
                on_lost=lambda reason: tell(lost=reason),
                stop=stop,
            ):
                tell(event=event.to_json())
        tell(end=True, time_s=round(frames.time_s, 3), looked=frames.looked)
    except (VisavisError, OSError) as error:
        tell(error=str(error))
    except ModuleNotFoundError as error:
        tell(error=f"{error.name}: expected it to be installed; {cure((error.name or '').partition('.')[0])}")
    except Exception as error:  # its text might hold anything
        tell(error=f"the process that watches failed: {type(error).__name__}")


class _Frames:
    """Sends a picture now and then, and reads the gallery again when asked to."""

    def __init__(self, tell: Callable[..., None], stale: threading.Event) -> None:
        self._tell, self._stale = tell, stale
        self._sent_s = -math.inf
        self.looked, self.time_s = 0, 0.0

    def __call__(self, frame: Frame, watcher: Watcher) -> None:
        self.looked, self.time_s = self.looked + 1, frame.time_s
        if self._stale.is_set():
            self._stale.clear()
            watcher.refresh()
        now_s = time.monotonic()  # a file may pass quicker than its own time
        if now_s - self._sent_s >= FRAME_GAP_S:
            self._sent_s = now_s
            jpeg = b64encode(annotated(frame, watcher.present)).decode()
            self._tell(frame=jpeg, time_s=round(frame.time_s, 3), looked=self.looked)


def _listen(source: IO[bytes], stop: threading.Event, stale: threading.Event) -> None:
    while source.readline():
        stale.set()
    stop.set()


if __name__ == "__main__":
    from signal import SIG_IGN, SIGINT, signal

    signal(SIGINT, SIG_IGN)  # Ctrl-C is for the server, which then ends this
    main(sys.stdin.buffer, sys.stdout.buffer)
