"""One page of a Chromium of its own, over the DevTools protocol."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from visavis.errors import ScreenError

__all__ = ["Link"]

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --mute-audio "
    "--force-color-profile=srgb --disable-frame-rate-limit --disable-gpu-vsync --disable-smooth-scrolling "
    "--remote-debugging-port=0 --remote-allow-origins=*"
)
FLAGS = _FLAGS.split()
PATIENCE_S = 60.0


class Link:
    """Open until `close`."""

    def __init__(self) -> None:
        from websockets.sync.client import connect

        binary = shutil.which("chromium") or shutil.which("google-chrome")
        if binary is None:
            raise ScreenError("chromium: expected it on PATH, found none")
        self._profile = tempfile.mkdtemp(prefix="visavis-")
        self._process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        port = Path(self._profile, "DevToolsActivePort")
        until = time.monotonic() + PATIENCE_S
        while not (port.exists() and port.stat().st_size > 5):
            if time.monotonic() > until or self._process.poll() is not None:
                raise ScreenError("chromium: expected it to start, it did not")
            time.sleep(0.02)
        with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
            (address,) = [page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page"]
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(address, max_size=None, compression=None))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.send_all([(method, parameters)])[0]

    def send_all(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Send all, then wait for all answers."""
        numbers = [next(self._numbers) for _ in calls] if isinstance(calls, list) else []
        for number, (method, parameters) in zip(numbers, calls, strict=True):
            self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(numbers):
            answer = json.loads(self._socket.recv(PATIENCE_S))
            if answer.get("id") in numbers:
                if "error" in answer:
                    raise ScreenError(f"chromium: {answer['error']}")
                answers[answer["id"]] = answer["result"]
        return [answers[number] for number in numbers]

    def goto(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        while not self.evaluate("document.readyState === 'complete' && typeof grid !== 'undefined'"):
            time.sleep(0.01)

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ScreenError(f"page: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def close(self) -> None:
        self._stack.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)
