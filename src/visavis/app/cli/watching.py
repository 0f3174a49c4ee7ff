"""``visavis face watch``: who is before a camera or in a video."""

import json as json_
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.app.cli.keys import KeyFile
from visavis.app.cli.opening import GalleryFolder, OwnPack, Rate, open_system
from visavis.app.output import percent, printable, rate

if TYPE_CHECKING:
    from rich.console import Group

    from visavis.face.stream.events import Event
    from visavis.face.stream.video import Frame
    from visavis.face.stream.watching import Watcher

__all__ = ["app"]

app = typer.Typer()
EVENTS = 10  # the last ones, below the table


@app.command("watch")
def _watch(
    source: Annotated[
        str, typer.Argument(help="A video file, camera:0, /dev/video0, or an rtsp:// or rtsps:// address.")
    ],
    gallery: GalleryFolder = None,
    key_file: KeyFile = None,
    pack: OwnPack = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames looked at a second, at most; all when not given, of a live source all it can."),
    ] = None,
    false_match_rate: Rate = 1e-3,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document a line, an event each.")] = False,
) -> None:
    """Tell who comes, who that is, and who goes.

    In a terminal as a table, in a pipe as lines of JSON. People without a name in the gallery get a number; nothing of
    them is kept. Ends with the video, or with Ctrl-C, when everybody who is there is told to have left.
    """
    from visavis.face.stream.sources import Source
    from visavis.face.stream.watching import watch

    opened = Source.parse(source)
    lines = json or not sys.stdout.isatty()
    screen = _Screen(str(opened))

    def lost(reason: str) -> None:
        print(f"visavis: {printable(str(opened))}: lost ({printable(reason)}), trying again", file=sys.stderr)  # noqa: T201

    with (
        open_system(gallery, pack=pack, key_file=key_file) as faces,
        _stopped_by_ctrl_c() as stop,
        nullcontext() if lines else screen.shown(),
    ):
        for event in watch(
            faces, opened, false_match_rate=false_match_rate, fps=fps, on_frame=screen.look, on_lost=lost, stop=stop
        ):
            if lines:
                print(json_.dumps(event.to_json(thumbnail=event.kind == "left")), flush=True)  # noqa: T201
            else:
                screen.tell(event)
    if stop.is_set():
        raise typer.Exit(130)


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second ends the process as ever."""
    stop = threading.Event()

    def interrupted(_number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Screen:
    """Who is there now, and what happened last."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._watcher: Watcher | None = None
        self._frames: deque[float] = deque(maxlen=30)
        self._time_s = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        console = Console(markup=False, emoji=False, highlight=False)
        with Live(console=console, get_renderable=self._render, refresh_per_second=4):
            yield

    def look(self, frame: "Frame", watcher: "Watcher") -> None:
        self._watcher, self._time_s = watcher, frame.time_s
        self._frames.append(time.monotonic())

    def tell(self, event: "Event") -> None:
        about = f"{event.time_s:8.1f} s  {event.kind:10}  {_who(event.track, event.verdict.person)}"
        if event.kind == "left":
            about += f", there from {event.from_s:.1f} s to {event.until_s:.1f} s"
        self._events.append(about)

    def _render(self) -> "Group":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("who", "since", "probability", "strangers as near", box=None)
        for one in self._watcher.present if self._watcher else ():
            verdict = one.verdict
            table.add_row(
                _who(one.track, verdict.person),
                f"{one.from_s:.1f} s",
                percent(verdict.probability),
                rate(verdict.false_match_rate),
            )
        taken_s = self._frames[-1] - self._frames[0] if len(self._frames) > 1 else 0.0
        speed = f", {(len(self._frames) - 1) / taken_s:.1f} frames/s" if taken_s > 0 else ""
        head = Text(f"{printable(self._title)}: {self._time_s:.1f} s{speed}; Ctrl-C ends")
        return Group(head, table, Text("\n".join(self._events)))


def _who(track: int, name: str | None) -> str:
    return f"unknown {track}" if name is None else f"{printable(name)} ({track})"
