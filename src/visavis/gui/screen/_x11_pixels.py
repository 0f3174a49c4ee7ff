"""Looks at an X display, through shared memory where the server is on this machine."""

from contextlib import suppress
from typing import Any

import numpy as np

from visavis.errors import MissingExtraError, ScreenError
from visavis.gui.screen._x11_display import Monitor

__all__ = ["Camera"]


class Camera:
    """Takes the pixels of a display."""

    def __init__(self, display: str) -> None:
        try:
            import mss
        except ImportError as error:
            raise MissingExtraError('mss: expected it to be installed; pip install "visavis[gui]"') from error
        self._mss, self._display = mss, display
        self._grabber = self._open()

    def look(self, within: Monitor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A rectangle of the display.

        Returns:
            uint8 [H, W, 3], RGB, its own copy.
        """
        box = {"left": within.left, "top": within.top, "width": within.width, "height": within.height}
        try:
            raw = self._grabber.grab(box).raw
        except self._mss.ScreenShotError:  # its memory is of the size that the display had
            self.close()
            self._grabber = self._open()
            try:
                raw = self._grabber.grab(box).raw
            except self._mss.ScreenShotError as error:
                raise ScreenError(f"display: expected a look at {self._display}, got {error}") from error
        bgrx = np.frombuffer(raw, np.uint8).reshape(within.height, within.width, 4)
        rgb = np.empty((within.height, within.width, 3), np.uint8)
        for channel in range(3):  # a third of the time of one assignment of all three
            rgb[..., channel] = bgrx[..., 2 - channel]
        return rgb

    def close(self) -> None:
        with suppress(self._mss.ScreenShotError):
            self._grabber.close()

    def _open(self) -> Any:
        try:
            return self._mss.MSS(display=self._display)
        except self._mss.ScreenShotError as error:
            raise ScreenError(f"display: expected a look at {self._display}, got {error}") from error
