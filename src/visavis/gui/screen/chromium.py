"""A page in Chromium as a screen: pixels by the DevTools protocol, input as from a mouse and a keyboard."""

import base64
import math
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from visavis.errors import InputError, ScreenError
from visavis.gui._png import from_png
from visavis.gui.actions import (
    Action,
    Back,
    Click,
    Drag,
    Hotkey,
    LongPress,
    Move,
    Navigate,
    Point,
    Press,
    Release,
    Scroll,
    Type,
)
from visavis.gui.actions.checks import check
from visavis.gui.actions.keys import canonical
from visavis.gui.screen._browser import Browser
from visavis.gui.screen._dialogs import Dialog
from visavis.gui.screen._pages import Pages
from visavis.gui.screen._path import along
from visavis.gui.screen._us_keyboard import BITS, STROKES, stroke
from visavis.gui.screen.protocol import Screenshot

__all__ = ["ChromiumScreen"]

_NOTCH_PX = 100  # of the page, as a wheel gives
_LONG_PRESS_S = 1.0
_DRAG_STEP_PX = 16  # of the page
_AGAIN_S = 0.02
_FRAME_S = 1.0  # for a look, before it is asked for anew
_QUIET_S = 0.1  # two looks this far apart that are alike: the screen has come to rest
_SEEN = {"format": "png", "optimizeForSpeed": True}
_COMPARED = {"format": "jpeg", "quality": 90}  # of a page with photos this takes a fifth of the time
_DIALOG_WIDTH = 420
_TABS = {("ctrl", "tab"), ("ctrl", "w"), ("ctrl", "pagedown")}
_RELOAD, _HISTORY = {("f5",), ("ctrl", "r")}, {("alt", "left"): -1, ("alt", "right"): 1}


class ChromiumScreen:
    """The newest tab of a Chromium of its own, which has a fresh profile and keeps nothing.

    What a browser shows outside of the page is made part of the picture: dialogs, lists that drop down, and the word
    that a download or a file was refused. A page that opens another is followed there, and back when that closes;
    Ctrl-Tab goes through the tabs and Ctrl-W closes one. Back, Navigate and F5 work as in any browser; there are no
    other programs to open.

    Args:
        url: where to start.
        size: width and height of the page, in its own pixels.
        scale: pixels of the screenshot for one of the page, as on a dense display.
        headless: without a window.
        origins: the only ones the browser may ask anything of, such as "https://example.org",
            "https://*.example.org" or "http://127.0.0.1:*"; None: any.
        settle_s: how long to wait at most until the page has come to rest after an action, in seconds.
        answer_s: how long the browser may take to answer, in seconds.

    Raises:
        ScreenError: there is no Chromium, or nothing answers at `url`.
        InputError: a value out of range, or an address that is none or not of `origins`.
        MissingExtraError: websockets is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        size: tuple[int, int] = (1280, 800),
        scale: float = 1.0,
        headless: bool = True,
        origins: Iterable[str] | None = None,
        settle_s: float = 3.0,
        answer_s: float = 15.0,
    ) -> None:
        if not all(1 <= side <= 10_000 for side in size):
            raise InputError(f"size: expected a width and a height from 1 to 10000, got {size}")
        if not 0.1 <= scale <= 10:
            raise InputError(f"scale: expected .1 to 10, got {scale}")
        for name, seconds in ("settle_s", settle_s), ("answer_s", answer_s):
            if not 0 < seconds < math.inf:
                raise InputError(f"{name}: expected seconds above 0, got {seconds}")
        self._size, self._scale, self._settle_s, self._answer_s = size, scale, settle_s, answer_s
        self._pages = Pages(size, scale, None if origins is None else tuple(origins))
        self._held = 0  # modifiers, as the sum of `BITS`
        self._seen = b""  # the last look at the page, as PNG
        self._stuck = False  # the page did not give a picture in time
        self._closed = False
        address = self._pages.address(url)
        self._browser = Browser(headless=headless, flags=self._pages.flags(), answer_s=answer_s)
        try:
            self._connection = self._browser.connection
            self._pages.start(self._connection, within_s=answer_s)
            self._navigate(address, failing=True)
            self._rest()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """`chromium`, and the size of its page."""
        return f"chromium {self._size[0]}x{self._size[1]}" + ("" if self._scale == 1 else f" scale {self._scale:g}")

    def size(self) -> tuple[int, int]:
        """Width and height of the next screenshot in pixels."""
        width, height = (math.floor(side * self._scale + 0.5) for side in self._size)  # as the browser rounds
        return width, height

    def screenshot(self) -> Screenshot:
        """Look.

        Raises:
            ScreenError: the browser or the page is gone, or does not answer in time.
        """
        self._check_open()
        dialog = self._pages.dialog
        if dialog is None:
            try:
                self._seen = self._capture(self._answer_s, _SEEN, again=True)
            except ScreenError:
                if (dialog := self._pages.dialog) is None:  # it has opened in this moment
                    raise
        pixels = from_png(self._seen) if self._seen else None
        if dialog:
            pixels = self._draw(dialog, pixels)
        return Screenshot(pixels, self._scale, self._url())

    def _url(self) -> str:
        until = time.monotonic() + self._answer_s
        while True:
            try:
                pages = self._connection.call("Page.getNavigationHistory", session=self._pages.session)
            except ScreenError as error:  # no page is active for a moment after one has lost its process
                if "Not attached to an active page" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                url: str = pages["entries"][pages["currentIndex"]]["url"]
                return url

    def perform(self, action: Action) -> None:
        """Act, and wait until the page has come to rest; see `Screen.perform`."""
        self._check_open()
        check(action, self.size())
        dialog = self._pages.dialog
        if dialog and not _is_browsers(action):
            dialog.take(action)
            if dialog.accepted is not None:
                self._pages.answer(dialog)
        else:
            self._perform(action)
        self._rest()

    def close(self) -> None:
        """End the browser and remove its profile; more than once is the same as once."""
        if not self._closed:
            self._closed = True
            self._browser.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ScreenError("screen: expected one that is open, it was closed", acted=False)

    def _perform(self, action: Action) -> None:
        match action:
            case Move(point):
                self._mouse("mouseMoved", point)
            case Click(point, button, count):
                self._mouse("mouseMoved", point)
                for number in range(1, count + 1):
                    self._mouse("mousePressed", point, button=button, clickCount=number)
                    self._mouse("mouseReleased", point, button=button, clickCount=number)
            case LongPress(point):
                self._mouse("mouseMoved", point)
                self._mouse("mousePressed", point, button="left", clickCount=1)
                time.sleep(_LONG_PRESS_S)
                self._mouse("mouseReleased", point, button="left", clickCount=1)
            case Drag(path):
                self._drag(path)
            case Scroll(point, down, right):
                self._mouse("mouseWheel", point, deltaX=right * _NOTCH_PX, deltaY=down * _NOTCH_PX)
            case Type(text):
                self._type(text)
            case Hotkey(keys):
                self._hotkey(tuple(canonical(key) for key in keys))
            case Press(key):
                self._key(canonical(key), down=True)
            case Release(key):
                self._key(canonical(key), down=False)
            case Navigate(url):
                self._navigate(self._pages.address(url))
            case Back():
                self._history(-1)
            case _:
                raise InputError(f"action: expected one a browser has, got {type(action).__name__}")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the page do something, until it has, or a dialog stops it."""
        return self._answer(method, self._connection.send(method, session=self._pages.session, **parameters))

    def _answer(self, method: str, answer: Future[dict[str, Any]]) -> dict[str, Any]:
        self._await(answer, self._answer_s)
        if answer.done() and (answer.exception() is None or not self._pages.dialog):
            return answer.result()
        if self._pages.dialog:
            return {}
        raise ScreenError(f"page: expected it to take {method} within {self._answer_s:g} s, it did not; is it busy?")

    def _await(self, answer: Future[dict[str, Any]], within_s: float) -> None:
        """Until there is an answer, or a dialog that stops the page."""
        either: list[Future[Any]] = [answer, self._pages.opened]
        wait(either, timeout=within_s, return_when=FIRST_COMPLETED)

    def _mouse(self, kind: str, point: Point, **parameters: Any) -> None:
        x, y = self._place(point)
        self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, modifiers=self._held, **parameters)

    def _place(self, point: Point) -> Point:
        """The pixel of the page in which one of the screenshot lies; the browser rounds a fraction up to the next."""
        return math.floor(point[0] / self._scale), math.floor(point[1] / self._scale)

    def _drag(self, path: tuple[Point, ...]) -> None:
        """By small steps; what a page has made draggable goes by the browser's own drag and drop."""
        self._pages.dragged = None
        points = list(along(path, _DRAG_STEP_PX * self._scale))
        self._send("Input.setInterceptDrags", enabled=True)
        self._mouse("mouseMoved", path[0])
        self._mouse("mousePressed", path[0], button="left", clickCount=1)
        entered = False
        for point in [*points, path[-1]]:  # stays at the end for a moment, even if only the last step took hold
            if self._pages.dragged is None:
                self._mouse("mouseMoved", point, button="left", buttons=1)
            else:
                self._drop("dragOver" if entered else "dragEnter", point)
                entered = True
        if self._pages.dragged is not None:
            self._drop("drop", path[-1])
        self._mouse("mouseReleased", path[-1], button="left", clickCount=1)
        self._send("Input.setInterceptDrags", enabled=False)

    def _drop(self, kind: str, point: Point) -> None:
        x, y = self._place(point)
        data = self._pages.dragged
        self._send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data, modifiers=self._held)

    def _type(self, text: str) -> None:
        """Keys for what a keyboard has, one after the other; what it has not comes as from an input method."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        for on_keyboard, characters in groupby(text, STROKES.__contains__):
            if not on_keyboard:
                self._send("Input.insertText", text="".join(characters))
                continue
            method, session = "Input.dispatchKeyEvent", self._pages.session
            strokes = [stroke(key, self._held, down=down) for key in characters for down in (True, False)]
            for answer in [self._connection.send(method, session=session, **each) for each in strokes]:
                self._answer(method, answer)

    def _key(self, key: str, *, down: bool) -> None:
        bit = BITS.get(key, 0)
        self._held = self._held | bit if down else self._held & ~bit
        self._send("Input.dispatchKeyEvent", **stroke(key, self._held, down=down))

    def _hotkey(self, keys: tuple[str, ...]) -> None:
        if keys in _RELOAD:
            self._leave()
            self._connection.send("Page.reload", session=self._pages.session)
        elif keys in _HISTORY:
            self._history(_HISTORY[keys])
        elif keys in _TABS:
            self._pages.dismiss()
            self._pages.turn(close=keys[1] == "w")
        else:
            for key in keys:
                self._key(key, down=True)
            for key in reversed(keys):
                self._key(key, down=False)
            if keys == ("escape",):
                script = "document.fullscreenElement && document.exitFullscreen()"
                self._connection.send("Runtime.evaluate", session=self._pages.session, expression=script)

    def _leave(self) -> None:
        """Make way for another page."""
        self._pages.leave(stuck=self._stuck)
        self._stuck = False

    def _navigate(self, address: str, *, failing: bool = False) -> None:
        """Set out for an address; a page that does not come is left to load.

        Raises:
            ScreenError: `failing`, and nothing answers there.
        """
        self._leave()
        answer = self._connection.send("Page.navigate", session=self._pages.session, url=address)
        self._await(answer, self._settle_s)
        dialog = self._pages.dialog
        asks = dialog and dialog.session == self._pages.session and dialog.kind in ("alert", "confirm", "prompt")
        if asks and not answer.done():  # the page opens one after the other
            self._pages.leave(stuck=True)
            answer = self._connection.send("Page.navigate", session=self._pages.session, url=address)
            self._await(answer, self._settle_s)
        problem = answer.result().get("errorText") if answer.done() else None
        if problem and failing:
            raise ScreenError(f"url: expected a page at {address}, got {problem}", acted=False)

    def _history(self, step: int) -> None:
        self._pages.dismiss()
        pages = self._connection.call("Page.getNavigationHistory", session=self._pages.session)
        place = pages["currentIndex"] + step
        if 0 <= place < len(pages["entries"]):
            self._leave()
            self._send("Page.navigateToHistoryEntry", entryId=pages["entries"][place]["id"])

    def _rest(self) -> None:
        """Wait until nothing loads and two looks are alike; no longer than `settle_s`."""
        until = time.monotonic() + self._settle_s
        look, since = b"", math.inf
        while (left := until - time.monotonic()) > 0 and self._pages.dialog is None:
            try:
                now = self._capture(min(left, _FRAME_S), _COMPARED)
            except ScreenError:  # between two pages there is nothing to look at; or one is busy, or stopped by a dialog
                if not self._connection.alive:
                    raise
                now = b""
            if now != look or self._pages.loading():
                look, since = now, time.monotonic()
            elif time.monotonic() - since >= _QUIET_S:
                return
            time.sleep(_AGAIN_S)

    def _capture(self, within_s: float, form: dict[str, Any], *, again: bool = False) -> bytes:
        """The page as a file; `again`: asked for anew if none comes, as the page asked may just have been left."""
        until, patience_s = time.monotonic() + within_s, _FRAME_S if again else within_s
        while True:
            answer = self._connection.send("Page.captureScreenshot", session=self._pages.session, **form)
            self._await(answer, min(patience_s, max(0.0, until - time.monotonic())))
            over = not again or time.monotonic() >= until or not self._connection.alive
            if answer.done() and (over or answer.exception() is None):
                return base64.b64decode(answer.result()["data"])
            if over or self._pages.dialog:
                self._stuck = again and self._pages.dialog is None
                raise ScreenError(f"page: expected a picture within {within_s:.3g} s, got none; is it busy?")
            if answer.done():  # between two pages there is nothing to look at
                time.sleep(_AGAIN_S)
            else:
                patience_s *= 2

    def _draw(self, dialog: Dialog, below: Any) -> Any:
        """The picture with a dialog over it, whose buttons are noted."""
        import numpy as np

        width, height = self.size()
        pixels = np.full((height, width, 3), 255, np.uint8) if below is None else below
        pixels = (pixels * 0.6).astype(np.uint8)
        boxes, picture = self._pages.draw(dialog, min(_DIALOG_WIDTH, self._size[0]))
        panel = from_png(picture)[:height, :width]
        top, left = (height - panel.shape[0]) // 2, (width - panel.shape[1]) // 2
        pixels[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        scaled = [[side * self._scale for side in box] for box in boxes]
        dialog.boxes = [(box[0] + left, box[1] + top, box[2], box[3]) for box in scaled]
        return pixels


def _is_browsers(action: Action) -> bool:
    """Whether the browser itself takes an action, which works over a dialog too."""
    keys = action.keys if isinstance(action, Hotkey) else ()
    return isinstance(action, Navigate | Back) or keys in _RELOAD | _HISTORY.keys() | _TABS
