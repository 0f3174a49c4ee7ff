"""A connection to an X display: where its monitors are, fake input, and whether it has come to rest.

Points and rectangles are in pixels of the root window, which spans all monitors.
"""

import math
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from visavis.errors import InputError, MissingExtraError, ScreenError

__all__ = ["Connection", "Monitor"]

QUIET_S = 0.1  # at rest: nothing has been drawn for so long; a text cursor blinks at half a second, frames come at 1/60
_LATE_S = QUIET_S / 2  # an answer that took longer: the program was at work
_EXTENSIONS = {"XTEST": "fake input", "DAMAGE": "whether it is drawn on", "RANDR": "monitors"}


class Monitor(NamedTuple):
    """A rectangle of the display that one monitor shows."""

    name: str
    left: int
    top: int
    width: int
    height: int


class Connection:
    """The display's root window, and what this connection holds down.

    Args:
        name: as in $DISPLAY; None: what that says.
        beat: called whenever the server has answered.
    """

    def __init__(self, name: str | None, beat: Callable[[], None]) -> None:
        try:
            from Xlib import XK, X, display, error
            from Xlib.protocol.event import ClientMessage
        except ImportError as failure:
            raise MissingExtraError('python-xlib: expected it to be installed; pip install "visavis[gui]"') from failure
        self._beat, self._message = beat, ClientMessage
        self.X, self.gone_errors = X, (error.ConnectionClosedError, OSError)
        self._x_error = error.XError
        XK.load_keysym_group("xkb")
        self.keysym: Callable[[str], int] = XK.string_to_keysym
        try:
            self.display = display.Display(name)
        except (error.DisplayError, OSError) as failure:
            shown = name if name is not None else "$DISPLAY"
            raise ScreenError(f"display: expected an X display at {shown}, got {failure}; is it running?") from failure
        self.name: str = self.display.get_display_name()
        missing = [ext for ext in _EXTENSIONS if not self.display.has_extension(ext)]
        if missing:
            self.display.close()
            why = ", ".join(f"{ext} ({_EXTENSIONS[ext]})" for ext in missing)
            raise ScreenError(f"display: expected a server with the extensions XTEST, DAMAGE and RANDR, {why} missing")
        # Windows belong to other programs and may vanish at any moment: what fails for that reason may fail.
        self.display.set_error_handler(lambda *_: None)
        self.root = self.display.screen().root
        self.down: list[tuple[str, int]] = []  # ("key" | "button", code), in the order they were pressed
        self._serial = 0
        self._protocols = self.display.intern_atom("WM_PROTOCOLS")
        self._ping = self.display.intern_atom("_NET_WM_PING")
        self.display.damage_query_version()
        self._damage = self.root.damage_create(2)  # DamageReportBoundingBox: one event for each time the box grows
        self.root.change_attributes(event_mask=X.SubstructureNotifyMask)
        self.sync()

    def sync(self) -> None:
        """Return when the server has taken in everything sent so far."""
        self.display.sync()
        self._beat()

    def pause(self, seconds: float) -> None:
        """Wait, and notice meanwhile when the server is gone."""
        self.sync()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, QUIET_S))
            self.sync()

    def close(self) -> None:
        with suppress(*self.gone_errors):
            self.display.close()

    def monitors(self) -> list[Monitor]:
        """What RandR lists, in its order."""
        found = self.root.xrandr_get_monitors().monitors
        self._beat()
        return [
            Monitor(self.display.get_atom_name(each.name), each.x, each.y, each.width_in_pixels, each.height_in_pixels)
            for each in found
        ]

    def rectangle(self, monitor: str | int | None) -> Monitor:
        """The monitor of this name, or of this number in RandR's order; None: all of the display.

        Raises:
            InputError: there is none.
        """
        if monitor is None:
            whole = self.root.get_geometry()
            self._beat()
            return Monitor("", 0, 0, whole.width, whole.height)
        found = self.monitors()
        for number, each in enumerate(found):
            if monitor in (number, each.name):
                return each
        names = ", ".join(f"{number} ({each.name})" for number, each in enumerate(found))
        raise InputError(f"monitor: expected one of {names or 'none, for there are no monitors'}, got {monitor!r}")

    def move(self, x: int, y: int) -> None:
        self.display.xtest_fake_input(self.X.MotionNotify, 0, root=self.root, x=x, y=y)

    def hold(self, kind: str, code: int) -> bool:
        """Press a key or a button down; False: it is down already."""
        if (kind, code) in self.down:
            return False
        self.down.append((kind, code))  # first: an error on the way may still have pressed it
        self.display.xtest_fake_input(self.X.KeyPress if kind == "key" else self.X.ButtonPress, code)
        return True

    def let_go(self, kind: str, code: int) -> None:
        self.display.xtest_fake_input(self.X.KeyRelease if kind == "key" else self.X.ButtonRelease, code)
        self.down.remove((kind, code))

    def button(self, number: int) -> int:
        """The physical button that acts as this one: they differ where the mouse is set up for the left hand."""
        order = list(self.display.get_pointer_mapping())
        self._beat()
        if number not in order:
            raise ScreenError(f"pointer: expected button {number} among its own, got {len(order)} buttons without it")
        return order.index(number) + 1

    def locked(self) -> bool:
        """Whether caps lock is on."""
        return bool(self._pointer().mask & self.X.LockMask)

    def group(self) -> int:
        """The keyboard group (the layout) in use, from 0."""
        return int(self._pointer().mask >> 13 & 3)

    def _pointer(self) -> Any:
        state = self.root.query_pointer()
        self._beat()
        return state

    def listeners(self) -> list[Any]:
        """The windows under the pointer and in focus, of those whose programs answer a ping.

        A program answers in the order of its input: an answer says that everything before has been handled.
        """
        found: dict[int, Any] = {}
        for window in (self._under_pointer(), self._in_focus()):
            if window is not None:
                found[window.id] = window
        for window in found.values():
            window.change_attributes(event_mask=self.X.StructureNotifyMask)  # to hear of its end
        return list(found.values())

    def _answers_ping(self, window: Any) -> bool:
        protocols = window.get_full_property(self._protocols, self.X.AnyPropertyType)
        return protocols is not None and self._ping in protocols.value

    def _under_pointer(self) -> Any:
        with suppress(self._x_error):
            window = self._pointer().child
            while window:
                if self._answers_ping(window):
                    return window
                window = window.query_pointer().child
        return None

    def _in_focus(self) -> Any:
        with suppress(self._x_error):
            window = self.display.get_input_focus().focus
            while not isinstance(window, int) and window != self.root:  # 0: none, 1: where the pointer is
                if self._answers_ping(window):
                    return window
                window = window.query_tree().parent
        return None

    def settle(self, listeners: Iterable[Any], within: Monitor, settle_s: float) -> None:
        """Return when the screen has come to rest, or after `settle_s`.

        At rest: for QUIET_S nothing was drawn, no window came or went, and the listeners answered at once, the last
        time at the end of it: a program may answer between a key and what the key sets off.
        """
        begun = active_at = time.monotonic()
        asked_at = -math.inf
        windows = {window.id: window for window in listeners}
        waiting: dict[int, int] = {}  # window by the serial number of its ping

        def hear(event: Any) -> None:
            nonlocal active_at
            now = time.monotonic()
            if event.type == self.X.ClientMessage and event.client_type == self._protocols:
                answer, serial = event.data[1][:2]
                if answer == self._ping and waiting.pop(serial, None) and now > asked_at + _LATE_S:
                    active_at = now
            elif event.type in (self.X.MapNotify, self.X.UnmapNotify, self.X.DestroyNotify):
                active_at = now
                if event.type != self.X.MapNotify and windows.pop(event.window.id, None):
                    for serial in [serial for serial, window in waiting.items() if window == event.window.id]:
                        del waiting[serial]
            elif self._drawn(event, within):
                active_at = now

        while (left := begun + settle_s - time.monotonic()) > 0:
            quiet_left = active_at + QUIET_S - time.monotonic()
            if not waiting and (asked_at < begun or quiet_left <= 0):
                if asked_at >= active_at + QUIET_S or (not windows and quiet_left <= 0):
                    break
                asked_at = time.monotonic()
                waiting.update((self._send_ping(window), window.id) for window in windows.values())
                self.sync()
            self._hear(hear, left if waiting else min(left, max(0.0, quiet_left)))

    def _send_ping(self, window: Any) -> int:
        """Ask a window for an answer; the serial number that it will have."""
        self._serial = self._serial % 0x7FFFFFFF + 1
        data = (32, [self._ping, self._serial, window.id, 0, 0])
        window.send_event(self._message(window=window, client_type=self._protocols, data=data), event_mask=0)
        return self._serial

    def wait_for_window(self, still: Callable[[], bool], within_s: float) -> None:
        """Return when a window of its own has been mapped, or when `still` is no more, or after `within_s`."""
        begun, mapped = time.monotonic(), False

        def hear(event: Any) -> None:
            nonlocal mapped
            mapped = mapped or event.type == self.X.MapNotify

        while not mapped and still() and (left := begun + within_s - time.monotonic()) > 0:
            self._hear(hear, left)

    def forget(self) -> None:
        """Drop the events that came while nobody asked."""
        self._hear(lambda _: None, 0)

    def _hear(self, hear: Callable[[Any], None], timeout_s: float) -> None:
        """Pass on the events that are there, or that come first within `timeout_s`."""
        if not self.display.pending_events():
            select.select([self.display.fileno()], [], [], min(timeout_s, QUIET_S))
            self.sync()
        damaged = False
        for _ in range(self.display.pending_events()):
            event = self.display.next_event()
            damaged = damaged or hasattr(event, "damage")
            hear(event)
        if damaged:
            self.display.damage_subtract(self._damage)  # or it would not report again
            self.display.flush()

    def _drawn(self, event: Any, within: Monitor) -> bool:
        if not hasattr(event, "damage"):
            return False
        area = event.area
        return bool(
            area.x < within.left + within.width
            and area.x + area.width > within.left
            and area.y < within.top + within.height
            and area.y + area.height > within.top
        )
