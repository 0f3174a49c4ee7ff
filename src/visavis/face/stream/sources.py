"""Where moving pictures come from: a file, a camera of this computer, or an RTSP server.

A source's address may hold a password. It is kept out of every text: `str` and `repr` tell the rest.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from visavis.errors import InputError

__all__ = ["Source"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_CAMERA = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """A source that can be opened; made by `parse`.

    >>> Source.parse("rtsp://ada:secret@10.0.0.7/door?token=1")
    Source(kind='rtsp', shown='rtsp://10.0.0.7/door')
    """

    kind: Literal["file", "camera", "rtsp"]
    shown: str
    location: str = field(repr=False)  # a path, a device, or a URL with its password

    def __str__(self) -> str:
        return self.shown

    @property
    def live(self) -> bool:
        """Whether it goes on without us: what is not taken in time is lost."""
        return self.kind != "file"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A source by what a user writes for it.

        Args:
            text: the path or `file:` URL of a video; `camera:0`, `0` or `/dev/video0`; `rtsp://` or `rtsps://`.

        Raises:
            InputError: another scheme, whatever ffmpeg might make of it, or an address without a host.
        """
        if text.isdecimal() and text.isascii():
            text = f"camera:{text}"
        if _CAMERA.fullmatch(text):
            text = f"camera:{text}"
        found = _SCHEME.match(text)
        scheme = found[1].lower() if found else "file"
        if "\0" in text or not text:
            raise InputError("source: expected a file, a camera or an RTSP URL, got text that is none")
        if scheme == "camera":
            return cls._camera(text.partition(":")[2])
        if scheme in ("rtsp", "rtsps"):
            return cls._rtsp(text)
        if scheme != "file":
            raise InputError(
                f"source: expected a file, camera:NUMBER, rtsp:// or rtsps://, got {scheme}:; "
                "a file whose name looks so is ./NAME"
            )
        if not found:
            return cls("file", text, text)
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InputError("source: expected file:///PATH, a file of this computer, got another file: URL")
        path = unquote(parts.path)
        return cls("file", path, path)

    @classmethod
    def _camera(cls, device: str) -> Self:
        path = f"/dev/video{int(device)}" if device.isdecimal() and device.isascii() else device
        if not _CAMERA.fullmatch(path) and not path.startswith("/dev/v4l/by-"):
            raise InputError(f"source: expected camera:NUMBER or camera:/dev/videoNUMBER, got camera:{device}")
        if ".." in Path(path).parts:
            raise InputError(f"source: expected a camera's device, got camera:{device}")
        return cls("camera", f"camera:{path}", path)

    @classmethod
    def _rtsp(cls, url: str) -> Self:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or any(ord(char) <= 32 for char in url):
            raise InputError("source: expected rtsp://HOST/PATH, got a URL without a host that can be read")
        # Some cameras take the password in the path, after an equals sign.
        path = "/..." if "=" in parts.path or "@" in parts.path else parts.path
        name = f"[{host}]" if ":" in host else host
        shown = f"{parts.scheme.lower()}://{name}{f':{port}' if port else ''}{path}"
        return cls("rtsp", shown, url)
