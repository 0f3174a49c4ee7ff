"""The screen of an X display: looks through shared memory, input by the server's test extension, in this process."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from visavis.errors import InputError, ScreenError
from visavis.gui.actions import (
    Action,
    Click,
    Drag,
    Hotkey,
    LongPress,
    Move,
    OpenApp,
    Point,
    Press,
    Release,
    Scroll,
    Type,
)
from visavis.gui.actions.checks import check
from visavis.gui.screen._desktop_entries import find_program
from visavis.gui.screen._path import along
from visavis.gui.screen._x11_display import Connection, Monitor
from visavis.gui.screen._x11_keyboard import Keyboard
from visavis.gui.screen._x11_lane import Lane
from visavis.gui.screen._x11_pixels import Camera
from visavis.gui.screen.protocol import Screenshot

__all__ = ["X11Screen"]

T = TypeVar("T")

_BUTTONS = {"left": 1, "middle": 2, "right": 3}
_UP, _DOWN, _LEFT, _RIGHT = 4, 5, 6, 7  # the wheel's buttons
_DOUBLE_CLICK_S, _DOUBLE_CLICK_PX = 0.5, 8  # two clicks nearer than this are taken for one double click
_LONG_PRESS_S = 1.0  # twice what toolkits ask for
_DRAG_STEP_PX = 16  # a pointer that jumps is taken for no drag by some programs
_START_S = 15.0  # for a program's first window


class X11Screen:
    """An X display, all of it or one monitor; keys and buttons held down are let go of at the end.

    Args:
        display: as in $DISPLAY; None: what that says.
        monitor: its name, or its number in RandR's order; None: all monitors together.
        settle_s: how long to wait at most until the screen has come to rest after an action, in seconds.
        answer_s: how long the server may take to answer, in seconds.

    Raises:
        ScreenError: there is no such display, or it lacks XTEST, DAMAGE or RANDR.
        InputError: it has no such monitor, or a time is out of range.
        MissingExtraError: python-xlib or mss is not installed.
    """

    def __init__(
        self,
        display: str | None = None,
        *,
        monitor: str | int | None = None,
        settle_s: float = 3.0,
        answer_s: float = 10.0,
    ) -> None:
        if not 0 <= settle_s < math.inf:
            raise InputError(f"settle_s: expected seconds from 0, got {settle_s}")
        if not 0 < answer_s < math.inf:
            raise InputError(f"answer_s: expected seconds above 0, got {answer_s}")
        display = os.environ.get("DISPLAY") if display is None else display
        if not display:
            raise ScreenError("display: expected a name such as :0, got none and $DISPLAY is not set; is X running?")
        self._monitor, self._settle_s = monitor, settle_s
        self._held: dict[str, list[int]] = {}  # keycodes by the key that `Press` holds
        self._clicked: tuple[float, Point, str] = (-math.inf, (0, 0), "")
        self._started: list[int] = []
        self._closed = False
        self._lane = Lane(answer_s)
        try:
            self._connection = self._lane.call(lambda: Connection(display, self._lane.beat))
        except BaseException:
            self._lane.close(lambda: None)
            raise
        try:
            self._keyboard = Keyboard(self._connection, self._handled)
            self._camera: Camera = self._call(lambda: Camera(self._connection.name))
            self._call(lambda: self._connection.rectangle(monitor))
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """`x11`, the display, the monitor."""
        return f"x11 {self._connection.name}" + ("" if self._monitor is None else f" monitor {self._monitor}")

    def monitors(self) -> tuple[str, ...]:
        """The names of the display's monitors, in RandR's order."""
        return tuple(each.name for each in self._call(self._connection.monitors))

    def size(self) -> tuple[int, int]:
        """Width and height of the next screenshot in pixels."""
        area = self._call(self._area)
        return area.width, area.height

    def screenshot(self) -> Screenshot:
        """Look.

        Raises:
            ScreenError: the display is gone, its monitor is, or it does not answer in time.
        """
        return Screenshot(self._call(lambda: self._camera.look(self._area())))

    def perform(self, action: Action) -> None:
        """Act, and wait until programs have handled it and nothing is drawn any more, or for `settle_s`.

        Raises:
            InputError: an action this screen does not have, a point outside of it, a key that is not held,
                a program that no menu has.
            ScreenError: the display is gone or does not answer in time.
        """
        self._call(lambda: self._perform(action))

    def close(self) -> None:
        """Let go of keys and buttons, give the keyboard back as it was, and leave the display."""
        if self._closed:
            return
        self._closed = True
        with suppress(ScreenError):
            self._lane.close(self._leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise ScreenError("screen: expected an open one, got one that is closed", acted=False)
        try:
            return self._lane.call(function)
        except self._connection.gone_errors as error:
            raise ScreenError(f"display: expected {self._connection.name}, got {error}; it is gone") from error

    def _leave(self) -> None:
        with suppress(*self._connection.gone_errors):
            self._let_go(self._connection.down)
            self._keyboard.close()
            self._connection.sync()
        if hasattr(self, "_camera"):
            self._camera.close()
        self._connection.close()
        self._reap()

    def _area(self) -> Monitor:
        try:
            return self._connection.rectangle(self._monitor)
        except InputError as error:
            message = f"display: expected monitor {self._monitor} as before, got none; {error}"
            raise ScreenError(message, acted=False) from error

    def _handled(self) -> None:
        self._connection.settle(self._connection.listeners(), self._area(), self._settle_s)

    def _perform(self, action: Action) -> None:
        area = self._area()
        check(action, (area.width, area.height))
        self._connection.forget()
        before = list(self._connection.down)
        try:
            listeners = self._act(action, area)
        except BaseException:
            with suppress(*self._connection.gone_errors):
                self._let_go([each for each in self._connection.down if each not in before])
                self._connection.sync()
            raise
        self._connection.settle(listeners, area, self._settle_s)

    def _let_go(self, held: list[tuple[str, int]]) -> None:
        for kind, code in reversed(held.copy()):
            self._connection.let_go(kind, code)

    def _act(self, action: Action, area: Monitor) -> list[Any]:
        """Do it.

        Returns:
            The windows that had to do with it.
        """
        match action:
            case Move(point) | Click(point) | LongPress(point) | Scroll(point) | Drag((point, *_)):
                self._apart(action)
                self._connection.move(area.left + point[0], area.top + point[1])
        self._connection.sync()
        listeners = self._connection.listeners()  # before: what is clicked may close
        match action:
            case Move():
                pass
            case Click(point, button, count):
                physical = self._connection.button(_BUTTONS[button])
                for _ in range(count):
                    with self._down(physical):
                        pass
                self._connection.sync()
                self._clicked = (time.monotonic(), point, button)
            case LongPress():
                with self._down(self._connection.button(_BUTTONS["left"])):
                    self._connection.pause(_LONG_PRESS_S)
            case Drag(path):
                first, *rest = along(path, _DRAG_STEP_PX)
                with self._down(self._connection.button(_BUTTONS["left"])):
                    for points in ([first], rest):  # the program takes hold; at the end it says whether it takes it
                        for x, y in points:
                            self._connection.move(area.left + x, area.top + y)
                        self._handled()
                listeners = self._connection.listeners()
            case Scroll(_, down, right):
                self._turn(_DOWN if down > 0 else _UP, abs(down))
                self._turn(_RIGHT if right > 0 else _LEFT, abs(right))
            case Type(text):
                self._keyboard.type(text)
            case Hotkey(keys):
                self._keyboard.release(self._keyboard.press(keys))
            case Press(key):
                if key in self._held:
                    raise InputError(f"key: expected one that is not held yet, got {key}")
                self._held[key] = self._keyboard.press([key])
            case Release(key):
                if key not in self._held:
                    raise InputError(f"key: expected one that is held, got {key}")
                self._keyboard.release(self._held.pop(key))
            case OpenApp(name):
                self._start(name)
                listeners = self._connection.listeners()
            case _:
                raise InputError(
                    f"action: expected one that a desktop has, got {type(action).__name__}; "
                    "press keys, click, or open a program instead"
                )
        return listeners

    @contextmanager
    def _down(self, physical: int) -> Iterator[None]:
        self._connection.hold("button", physical)
        yield
        self._connection.let_go("button", physical)

    def _turn(self, button: int, notches: int) -> None:
        if notches:
            physical = self._connection.button(button)
        for _ in range(notches):
            with self._down(physical):
                pass

    def _apart(self, action: Action) -> None:
        """Wait until a new click at the place of the last cannot be taken for its second half."""
        if not isinstance(action, Click | Drag | LongPress):
            return
        at, last, button = self._clicked
        point = action.path[0] if isinstance(action, Drag) else action.point
        same = button == (action.button if isinstance(action, Click) else "left")
        if same and math.dist(point, last) < _DOUBLE_CLICK_PX:
            self._connection.pause(at + _DOUBLE_CLICK_S - time.monotonic())

    def _start(self, name: str) -> None:
        """Start a program in a session of its own, so that it outlives this one, and wait for its window."""
        command = find_program(name).command
        environment = {**os.environ, "DISPLAY": self._connection.name}
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        try:
            started = os.posix_spawnp(command[0], command, environment, file_actions=nothing, setsid=True)
        except OSError as error:
            raise ScreenError(f"name: expected to start {command[0]}, got {error}", acted=False) from error
        self._started.append(started)
        self._connection.wait_for_window(lambda: started in self._running(), _START_S)

    def _running(self) -> list[int]:
        self._reap()
        return self._started

    def _reap(self) -> None:
        """Of the programs started, forget those that have ended."""
        self._started = [started for started in self._started if os.waitpid(started, os.WNOHANG) == (0, 0)]
