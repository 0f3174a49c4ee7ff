"""A Chromium of our own: found, started with a profile that nobody else has, and ended with all its processes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from visavis.errors import ScreenError
from visavis.gui.screen._cdp import Connection

__all__ = ["Browser", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
    "--remote-debugging-port=0",
)
# Once its input ends, as it does when Python is killed too: ends a process group, and removes a profile and the folder
# of its socket, which Chromium keeps beside it.
_END = """
read -r _
kill -s KILL -- "-$1"
socket=$(readlink "$2/SingletonSocket") && rm -rf -- "$(dirname "$socket")"
rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }
"""
_LOOK_AGAIN_S = 0.01


def find_chromium() -> str:
    """The path of a Chromium on this machine.

    Raises:
        ScreenError: there is none on PATH.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise ScreenError(
            "chromium: expected it on PATH, found none; install Debian's `chromium` or Google Chrome", acted=False
        )
    return found


class Browser:
    """A running Chromium, until `close`; a context manager closes it.

    Args:
        headless: without a window; otherwise on $DISPLAY.
        profile: a folder for what it keeps, which stays; None: a temporary one that is removed.
        flags: more words for its command line.
        start_s: how long it may take to start, in seconds.
        answer_s: how long an answer may take, in seconds.

    Raises:
        ScreenError: there is none, or it does not start.
    """

    def __init__(
        self,
        *,
        headless: bool = True,
        profile: Path | None = None,
        flags: Iterable[str] = (),
        start_s: float = 60.0,
        answer_s: float = 30.0,
    ) -> None:
        binary = find_chromium()
        self._temporary = tempfile.mkdtemp(prefix="visavis-chromium-") if profile is None else None
        folder = Path(self._temporary or profile or "").absolute()
        port = folder / "DevToolsActivePort"
        port.unlink(missing_ok=True)  # of a run before
        modes = [*(["--headless"] if headless else []), *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        try:
            path = os.pathsep.join([_nothing(folder), os.environ.get("PATH", os.defpath)])
            self._process = subprocess.Popen(
                [binary, *_FLAGS, *modes, *flags, f"--user-data-dir={folder}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PATH": path},
            )
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", _END, "sh", str(self._process.pid), self._temporary or ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._connection = Connection(self._address(port, start_s), answer_s=answer_s)
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> Connection:
        """To the browser itself; `attach` gives the sessions of its pages."""
        assert self._connection is not None
        return self._connection

    @property
    def pid(self) -> int:
        """The number of its process and of its process group."""
        assert self._process is not None
        return self._process.pid

    def attach(self) -> str:
        """The session of the page it started with.

        Raises:
            ScreenError: it has none, or does not answer in time.
        """
        targets = self.connection.call("Target.getTargets")["targetInfos"]
        page = next((each["targetId"] for each in targets if each["type"] == "page"), None)
        if page is None:
            raise ScreenError("browser: expected a page to be open, got none", acted=False)
        session: str = self.connection.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        return session

    def close(self) -> None:
        """Hang up, end all its processes, and remove a profile that is temporary; once more changes nothing."""
        if self._connection is not None:
            self._connection.close()
        if self._watcher is not None:
            self._watcher.communicate()
            self._watcher = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _address(self, port: Path, start_s: float) -> str:
        """Where it listens, from the file it writes when it does."""
        assert self._process is not None
        until = time.monotonic() + start_s
        while True:
            lines = port.read_text().splitlines() if port.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            if self._process.poll() is not None:
                raise ScreenError(
                    f"chromium: expected it to start, it ended with {self._process.returncode}; "
                    "without headless it needs a display, and a profile may be in use by another",
                    acted=False,
                )
            if time.monotonic() > until:
                raise ScreenError(f"chromium: expected it to start within {start_s:g} s, it did not", acted=False)
            time.sleep(_LOOK_AGAIN_S)


def _nothing(folder: Path) -> str:
    """A folder of programs that do nothing in place of those by which a page would open others, as for `mailto:`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in "xdg-open", "xdg-email":
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(shutil.which("true") or "/bin/true")
    return str(programs)
