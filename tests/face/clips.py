"""Videos drawn and written by the tests, and an RTSP server on the loopback that plays one."""

import base64
import io
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["RtspServer", "encode", "grey", "write"]

TICKS = 1000  # of a clip's clock in a second


def grey(number: int, *, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A frame that tells its number by how bright it is, with a white corner at the top left."""
    pixels = np.full((height, width, 3), 20 + 8 * number, np.uint8)
    pixels[: height // 4, : width // 4] = 255
    return pixels


def write(path: Path, images: Iterable[NDArray[np.uint8]], *, times_s: Sequence[float] | None = None) -> Path:
    """A video of these frames, 25 a second or at these times; the suffix tells its container."""
    path.write_bytes(encode(images, container=path.suffix[1:], times_s=times_s))
    return path


def encode(
    images: Iterable[NDArray[np.uint8]],
    *,
    container: str = "mp4",
    times_s: Sequence[float] | None = None,
    ratio: Fraction | None = None,
    lossless: bool = True,
) -> bytes:
    """A video file's bytes."""
    stream = None
    kind = {"mkv": "matroska", "ts": "mpegts"}.get(container, container)
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as output:
        for number, pixels in enumerate(images):
            if stream is None:
                # Odd sizes need pixels that are not shared by two; lossless, so that colours come back.
                options = {"qp": "0", "preset": "ultrafast"} if lossless else {"preset": "veryfast"}
                stream = output.add_stream("libx264", rate=25, options=options)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv444p" if lossless else "yuv420p"
                stream.codec_context.time_base = Fraction(1, TICKS)
                stream.codec_context.gop_size = 5
                if ratio is not None:
                    stream.codec_context.sample_aspect_ratio = ratio
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = round(TICKS * (number / 25 if times_s is None else times_s[number]))
            frame.time_base = Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode())
    return file.getvalue()


class RtspServer:
    """Plays an MPEG transport stream over RTSP on the loopback: a run of it for each client, in real time or not.

    Args:
        video: the stream's bytes.
        login: "user:password" that it asks for.
        pause_s: between two packets.
        stall: rather than ending the connection, be silent at the end.
    """

    def __init__(self, video: bytes, *, login: str | None = None, pause_s: float = 0.0, stall: bool = False) -> None:
        self.video, self.login, self.pause_s, self.stall = video, login, pause_s, stall
        self.plays = 0
        self.requests: list[str] = []
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"rtsp://{f'{self.login}@' if self.login else ''}127.0.0.1:{self.port}/door"

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                client, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError), client.makefile("rb") as lines:
            client.settimeout(30)
            while request := self._request(lines):
                method = request.partition(" ")[0]
                self.requests.append(request)
                number = re.search(r"cseq: *(\d+)", request, re.IGNORECASE)[1]
                allowed = self.login is None or base64.b64encode(self.login.encode()).decode() in request
                if not allowed and method != "OPTIONS":
                    answer, body = 'WWW-Authenticate: Basic realm="door"', ""
                    client.sendall(f"RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\n{answer}\r\n\r\n".encode())
                    continue
                body = ""
                answer = "Session: 7"
                if method == "OPTIONS":
                    answer = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                elif method == "DESCRIBE":
                    body = (
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=door\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:t\r\n"
                    )
                    answer = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}"
                elif method == "SETUP":
                    answer += "\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1"
                client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{answer}\r\n\r\n{body}".encode())
                if method == "PLAY":
                    self.plays += 1
                    self._play(client)
                    return

    @staticmethod
    def _request(lines: io.BufferedIOBase) -> str:
        """One request's head, none at the end."""
        head = b""
        while (line := lines.readline()) not in (b"\r\n", b""):
            head += line
        return head.decode()

    def _play(self, client: socket.socket) -> None:
        for number, start in enumerate(range(0, len(self.video), 7 * 188)):
            data = self.video[start : start + 7 * 188]
            packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 3600, 7) + data
            client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            if self._ended.wait(self.pause_s):
                return
        if self.stall:
            self._ended.wait()


@contextmanager
def rtsp(video: bytes, **options: object) -> Iterator[RtspServer]:
    """A server while the block runs."""
    server = RtspServer(video, **options)
    try:
        yield server
    finally:
        server.close()
