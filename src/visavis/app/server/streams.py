"""Streams that are watched for clients: each by a process of its own, what it tells in bounded memory.

A client may name a source that whoever started the server has allowed, or a file below a root; never an address.
Nothing is kept on disk, and nothing of people who are forgotten.
"""

import itertools
import json
import subprocess
import sys
import threading
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, get_args

from visavis.errors import BusyError, InputError
from visavis.face import wire
from visavis.face.stream.sources import Source
from visavis.face.wire import Stream, Visit

__all__ = ["Happened", "Streams"]

AT_ONCE = 4  # each with models of its own in memory
ENDED = 20  # streams that have ended and are still listed
VISITS, EVENTS = 1000, 1000
LINE_BYTES = 8 * 2**20
STOPPING_S = 5.0
COMMAND = ("-P", "-m", "visavis.app.server.watcher")

EventKind = Literal["appeared", "identified", "left"]


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened in a stream, with the visit as it was then."""

    id: int
    event: EventKind
    visit: Visit


@dataclass(frozen=True, slots=True)
class _Told:
    """An event as the process tells it; see `visavis.face.stream.events.Event.to_json`."""

    event: EventKind
    track: int
    from_s: float
    until_s: float
    person: int | None
    name: str | None
    probability: float | None
    false_match_rate: float | None
    thumbnail_jpeg: str
    began_at: str | None  # named `from` there
    last_at: str | None  # `until`

    @classmethod
    def of(cls, value: dict[str, Any]) -> "_Told":
        """Checked, as whoever tells it is not to be believed.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        value = {**value, "began_at": value["from"], "last_at": value["until"]}
        if value["event"] not in get_args(EventKind):
            raise ValueError("another event")
        for name, kinds in _KINDS.items():
            if not isinstance(value[name], kinds) or isinstance(value[name], bool):
                raise TypeError(name)
        return cls(**{name: value[name] for name in ("event", *_KINDS)})


_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "track": (int,),
    "from_s": (int, float),
    "until_s": (int, float),
    "person": (int, _NONE),
    "name": (str, _NONE),
    "probability": (int, float, _NONE),
    "false_match_rate": (int, float, _NONE),
    "thumbnail_jpeg": (str,),
    "began_at": (str, _NONE),
    "last_at": (str, _NONE),
}


class Streams:
    """The streams of one server; for any thread.

    Args:
        gallery: whose people are named, as `FaceSystem.open` takes it.
        pack: its models, where they are the user's own.
        sources: what may be started, by name.
        key: of an encrypted gallery.
    """

    def __init__(
        self,
        gallery: str | Path,
        *,
        pack: str | Path | None = None,
        sources: Mapping[str, Source] | None = None,
        key: str | None = None,
    ) -> None:
        self._task = {"gallery": str(gallery), "pack": None if pack is None else str(pack), "key": key}
        self._sources = dict(sources or {})
        self._lock = threading.Lock()
        self._ids, self._visit_ids, self._event_ids = itertools.count(1), itertools.count(1), itertools.count(1)
        self._streams: dict[int, Stream] = {}
        self._watched: dict[int, _Process] = {}
        self._frames: dict[int, bytes] = {}
        self._visits: dict[int, Visit] = {}
        self._pictures: dict[int, bytes] = {}
        self._events: deque[Happened] = deque(maxlen=EVENTS)
        self._forgotten: set[int] = set()
        self._closed = False

    @property
    def sources(self) -> list[wire.Source]:
        """What may be started, by name; addresses are not told."""
        return [wire.Source(name, source.kind) for name, source in sorted(self._sources.items())]

    def all(self) -> list[Stream]:
        """The newest first."""
        with self._lock:
            return sorted(self._streams.values(), key=lambda stream: -stream.id)

    def get(self, stream: int) -> Stream | None:
        """The stream of that number."""
        return self._streams.get(stream)

    def start(self, name: str, *, fps: float | None, false_match_rate: float) -> Stream:
        """Watch an allowed source.

        Raises:
            InputError: no source of that name is allowed.
            BusyError: it is watched already, or too many are.
        """
        source = self._sources.get(name)
        if source is None:
            raise InputError(f"source: expected a name that the server allows with --stream, got {name!r}")
        return self._start(name, source, fps, false_match_rate)

    def start_file(self, path: Path, *, fps: float | None, false_match_rate: float) -> Stream:
        """Watch a file, which the caller has found to be allowed.

        Raises:
            BusyError: it is watched already, or too many are.
        """
        return self._start(path.name, Source("file", path.name, str(path)), fps, false_match_rate)

    def stop(self, stream: int) -> Stream:
        """End a stream; nothing happens to one that is over."""
        with self._lock:
            process = self._watched.get(stream)
            if process is not None:
                self._put(stream, state="stopped")
        if process is not None:
            process.stop()
        return self._streams[stream]

    def close(self) -> None:
        """Stop all."""
        with self._lock:
            self._closed = True
            processes = list(self._watched.values())
        for process in processes:
            process.stop()

    def frame(self, stream: int) -> bytes | None:
        """JPEG of the newest frame that there is a picture of; None: none yet, or it is over."""
        found = self._streams.get(stream)
        return None if found is None or found.over else self._frames.get(stream)

    def visits(self, *, known: Callable[[Iterable[int]], Mapping[int, str | None]]) -> list[Visit]:
        """Who was seen, the newest first, with the names they have now; `known` tells those by number.

        People who are not in the gallery any more are forgotten here, too.
        """
        with self._lock:
            visits = list(self._visits.values())
        names = known({visit.person for visit in visits if visit.person is not None})
        for person in {visit.person for visit in visits} - {None, *names}:
            assert person is not None
            self.forget(person)
        return [
            replace(visit, name=None if visit.person is None else names[visit.person])
            for visit in reversed(visits)
            if visit.person is None or visit.person in names
        ]

    def picture(self, visit: int) -> bytes | None:
        """JPEG of the best face of a visit."""
        return self._pictures.get(visit)

    def events(self, after: int) -> list[Happened]:
        """What happened after the event of that number, as far as it is still known."""
        with self._lock:
            return [event for event in self._events if event.id > after]

    @property
    def last_event(self) -> int:
        """The number of the newest event; 0: there is none."""
        return self._events[-1].id if self._events else 0

    def forget(self, person: int) -> None:
        """Keep nothing of a person, and let nothing more come in."""
        with self._lock:
            self._forgotten.add(person)
            gone = [visit.id for visit in self._visits.values() if visit.person == person]
            for visit in gone:
                self._drop(visit)
            self._events = deque((one for one in self._events if one.visit.id not in gone), maxlen=EVENTS)
            self._frames.clear()  # which may show the face
            processes = list(self._watched.values())
        for process in processes:
            process.refresh()

    def _start(self, name: str, source: Source, fps: float | None, false_match_rate: float) -> Stream:
        with self._lock:
            if self._closed:
                raise BusyError("server: expected one that goes on, but it is being closed")
            if any(stream.name == name and not stream.over for stream in self._streams.values()):
                raise BusyError(f"source: expected one that is not watched already, got {name!r}")
            if len(self._watched) >= AT_ONCE:
                raise BusyError(f"streams: expected at most {AT_ONCE} at once; stop one")
            number = next(self._ids)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            stream = self._streams[number] = Stream(number, name, source.live, "starting", now)
            for old in [old.id for old in self._streams.values() if old.over][: max(0, len(self._streams) - ENDED)]:
                del self._streams[old]
            task = {**self._task, "source": source.location, "fps": fps, "false_match_rate": false_match_rate}
            self._watched[number] = _Process(task, lambda line: self._take(number, line), lambda: self._end(number))
        return stream

    def _take(self, number: int, line: dict[str, Any]) -> None:
        """A line of a process, which is not to be believed more than a stranger.

        Raises:
            ValueError, KeyError, TypeError: it is not what a process of ours says.
        """
        with self._lock:
            if "event" in line:
                self._happened(number, _Told.of(line["event"]))
            elif "frame" in line:
                self._frames[number] = b64decode(line["frame"], validate=True)
                changes = {"time_s": float(line["time_s"]), "frames": int(line["looked"])}
                self._put(number, **({} if self._streams[number].over else {"state": "running"}), **changes)
            elif "lost" in line:
                self._put(number, state="lost")
            elif "error" in line:
                self._put(number, state="failed", error=str(line["error"])[:500])
            elif "end" in line:
                changes = {"time_s": float(line["time_s"]), "frames": int(line["looked"])}
                self._put(number, **({} if self._streams[number].over else {"state": "ended"}), **changes)

    def _happened(self, number: int, told: _Told) -> None:
        if told.person in self._forgotten:
            told = replace(told, person=None, name=None, probability=None, false_match_rate=None)
        there = [one for one in self._visits.values() if one.stream == number and one.track == told.track]
        visit = next((one.id for one in there if one.present), None)
        visit = next(self._visit_ids) if visit is None else visit
        if told.thumbnail_jpeg:
            self._pictures[visit] = b64decode(told.thumbnail_jpeg, validate=True)
        self._visits[visit] = Visit(
            visit,
            number,
            told.track,
            told.event != "left",
            told.from_s,
            told.until_s,
            told.began_at,
            told.last_at,
            told.person,
            told.name,
            told.probability,
            told.false_match_rate,
            visit in self._pictures,
        )
        self._events.append(Happened(next(self._event_ids), told.event, self._visits[visit]))
        for old in list(itertools.islice(self._visits, max(0, len(self._visits) - VISITS))):
            self._drop(old)

    def _end(self, number: int) -> None:
        """The process is gone."""
        with self._lock:
            self._watched.pop(number, None)
            self._frames.pop(number, None)
            if not self._streams[number].over:
                self._put(
                    number, state="failed", error="the process that watches ended (damaged video, or made to harm)"
                )
            for visit in [one for one in self._visits.values() if one.stream == number and one.present]:
                self._visits[visit.id] = replace(visit, present=False)

    def _drop(self, visit: int) -> None:
        del self._visits[visit]
        self._pictures.pop(visit, None)

    def _put(self, number: int, **changes: Any) -> None:
        self._streams[number] = replace(self._streams[number], **changes)


class _Process:
    """A process of `visavis.app.server.watcher`, and the thread that reads what it tells."""

    def __init__(self, task: dict[str, Any], take: Callable[[dict[str, Any]], None], end: Callable[[], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._take, self._end = take, end
        self._sending = threading.Lock()
        self._send(json.dumps(task).encode() + b"\n")
        self._thread = threading.Thread(target=self._read, name="visavis-stream", daemon=True)
        self._thread.start()

    def refresh(self) -> None:
        """Have it read the gallery again."""
        self._send(b"refresh\n")

    def stop(self) -> None:
        """End it, by force when it does not end by itself; all it told until then counts."""
        with self._sending:
            self._input.close()
        try:
            self._process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            while line := lines.readline(LINE_BYTES):
                try:
                    self._take(json.loads(line, parse_constant=_refuse))
                except (KeyError, TypeError, ValueError):
                    self._process.kill()  # it does not say what it should
                    break
        with self._sending:
            self._input.close()
        self._process.wait()
        self._end()

    def _send(self, line: bytes) -> None:
        with self._sending:
            if not self._input.closed:
                try:
                    self._input.write(line)
                    self._input.flush()
                except BrokenPipeError:  # the reading thread notices, too
                    return

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def _refuse(constant: str) -> None:
    raise ValueError(f"a number, not {constant}")
