"""An X server of its own for a test, and a window that writes down what arrives: the oracle of every event."""

import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from Xlib import X, display
from Xlib.protocol import rq
from Xlib.protocol.event import ClientMessage

BOUND_S = 30.0  # for conditions that hold within milliseconds, on a machine with much else to do


def until(condition: Callable[[], Any]) -> Any:
    """What the condition says, once it is true."""
    end = time.monotonic() + BOUND_S
    while not (said := condition()):
        assert time.monotonic() < end, f"still not so after {BOUND_S:g} s"
        time.sleep(0.01)
    return said


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program, ended with all it started."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def x_server(size: str = "1280x800", *, manager: bool = True) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Xvfb on a free number, with a window manager; its name and process."""
    reading, writing = os.pipe()
    screen = ("-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset")
    with running("Xvfb", "-displayfd", str(writing), *screen, pass_fds=(writing,)) as process:
        os.close(writing)
        with os.fdopen(reading) as answer:
            name = f":{int(answer.readline())}"
        if not manager:
            yield name, process
            return
        with running("openbox", env={**os.environ, "DISPLAY": name}), opened(name) as connection:
            check = connection.intern_atom("_NET_SUPPORTING_WM_CHECK")
            until(lambda: connection.screen().root.get_full_property(check, X.AnyPropertyType))
            yield name, process


@contextmanager
def opened(name: str) -> Iterator[Any]:
    connection = display.Display(name)
    try:
        yield connection
    finally:
        connection.close()


class _SetMonitor(rq.Request):  # python-xlib's own cannot pack its list
    _request = rq.Struct(
        *(rq.Card8("opcode"), rq.Opcode(43), rq.RequestLength(), rq.Window("window"), rq.Card32("name")),
        *(rq.Bool("primary"), rq.Bool("automatic"), rq.LengthOf("outputs", 2)),
        *(rq.Int16("x"), rq.Int16("y"), rq.Card16("width"), rq.Card16("height")),
        *(rq.Card32("width_mm"), rq.Card32("height_mm"), rq.List("outputs", rq.Card32Obj)),
    )


def set_monitor(connection: Any, name: str, box: tuple[int, int, int, int], outputs: list[int]) -> None:
    """A monitor of RandR at a place of the display, of some of its outputs or of none."""
    _SetMonitor(
        display=connection.display,
        opcode=connection.display.get_extension_major("RANDR"),
        window=connection.screen().root,
        name=connection.intern_atom(name),
        primary=False,
        automatic=False,
        **dict(zip(("x", "y", "width", "height"), box, strict=True)),
        width_mm=box[2] // 4,
        height_mm=box[3] // 4,
        outputs=outputs,
    )


@dataclass
class Heard:
    """An event as it arrived: a key's or a button's number, what was held, where, and what the key writes."""

    kind: str
    detail: int
    state: int
    at: tuple[int, int]
    sym: int = 0
    time_ms: int = field(default=0, compare=False)  # by the server's clock


@dataclass
class Listener:
    """A window that writes down its input, answers pings in turn, and handles nothing while `busy` is set."""

    name: str
    box: tuple[int, int, int, int] = (100, 120, 500, 400)
    answers: bool = True
    heard: list[Heard] = field(default_factory=list)
    busy: threading.Event = field(default_factory=threading.Event)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Listener":
        self._connection = connection = display.Display(self.name)
        screen = connection.screen()
        mask = X.KeyPressMask | X.KeyReleaseMask | X.ButtonPressMask | X.ButtonReleaseMask | X.PointerMotionMask
        self.window = screen.root.create_window(
            *self.box,
            0,
            screen.root_depth,
            event_mask=mask | X.ExposureMask,
            background_pixel=screen.white_pixel,
            override_redirect=True,
        )
        self._ping = connection.intern_atom("_NET_WM_PING")
        self._protocols = connection.intern_atom("WM_PROTOCOLS")
        if self.answers:
            self.window.set_wm_protocols([self._ping])
        self.window.map()
        connection.sync()
        self.window.set_input_focus(X.RevertToParent, X.CurrentTime)
        connection.sync()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.window.destroy()
        self._connection.close()

    def of(self, *kinds: str) -> list[Heard]:
        return [each for each in self.heard if each.kind in kinds]

    def text(self) -> str:
        """What its keys wrote."""
        return "".join(
            {0xFF0D: "\n", 0xFF09: "\t"}.get(each.sym) or chr(each.sym & 0xFFFFFF)
            for each in self.of("KeyPress")
            if 0 < each.sym < 0xFE00 or each.sym in (0xFF0D, 0xFF09) or each.sym >= 0x1000000
        )

    def _listen(self) -> None:
        while not self._end.is_set():
            if self.busy.is_set() or not self._connection.pending_events():
                select.select([self._connection.fileno()], [], [], 0.01)
                continue
            self._handle(self._connection.next_event())

    def _handle(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "MappingNotify":
            self._connection.refresh_keyboard_mapping(event)
        elif kind == "ClientMessage" and event.data[1][0] == self._ping:
            root = self._connection.screen().root
            answer = ClientMessage(window=root, client_type=self._protocols, data=event.data)
            root.send_event(answer, event_mask=X.SubstructureNotifyMask | X.SubstructureRedirectMask)
            self._connection.flush()
        elif kind in ("KeyPress", "KeyRelease", "ButtonPress", "ButtonRelease", "MotionNotify"):
            sym = 0
            if kind.startswith("Key"):
                column = bool(event.state & X.ShiftMask) + 4 * bool(event.state & X.Mod5Mask)
                sym = self._connection.keycode_to_keysym(event.detail, column)
            self.heard.append(Heard(kind, event.detail, event.state, (event.root_x, event.root_y), sym, event.time))
