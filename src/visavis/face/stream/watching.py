"""Who is there: faces detected, followed, looked at and compared with the gallery, told as events.

Nothing is written. Of people without a name a number, a few embeddings and the best face are kept in memory, for as
long as they are there and a little longer, so that who comes back has the same number.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Event as Flag

import numpy as np
from numpy.typing import NDArray

from visavis.errors import LandmarkError
from visavis.face import quality
from visavis.face.analyze import thumbnail
from visavis.face.records import AlignedFace, Detection
from visavis.face.stream.appearance import Appearance, Known, corrected
from visavis.face.stream.events import Event, EventKind, Verdict
from visavis.face.stream.sources import Source
from visavis.face.stream.tracker import Tracker, TrackingOptions
from visavis.face.stream.video import Frame, frames
from visavis.face.system import FaceSystem

__all__ = ["Present", "WatchOptions", "Watcher", "watch"]

REFRESH_S = 10.0  # of the video, between two looks at whether the gallery has changed
SAME_RATE = 1e-3  # so rarely is a stranger taken for one of those who were there before
WAIT_S, WAIT_LOOKS = 1.0, 3  # at most, to find out whether somebody was here before
REMEMBERED = 1000  # people who have left, at most
THUMBNAIL_GAIN = 0.02  # of quality, for which a thumbnail is made again

_NORM = quality.MEASURES.index("norm")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a stream is watched; the defaults suit people who walk by within a few metres."""

    min_score: float = 0.3  # of the detector: doubtful faces only go on with a track
    min_size_px: float = 24.0  # of a face
    long_side_px: int = 1280  # of the image the detector sees; 1280 x 720 in full: in half of it small faces are lost
    faces_per_frame: int = 4  # looked at closely, those longest waiting first: bounds the time a frame takes
    remember_s: float = 300.0  # how long one who has left is known again
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """Somebody who is in the frame looked at last."""

    track: int
    box_xyxy_px: NDArray[np.float32]
    from_s: float
    verdict: Verdict


@dataclass(slots=True, eq=False)
class _Person:
    """Somebody who is there or was."""

    detection: Detection
    from_s: float
    until_s: float
    appearance: Appearance = field(default_factory=Appearance)
    number: int | None = None  # once it has been told of
    told: bool = False  # that it appeared, this time
    told_person: int | None = None
    searches: int = 0  # among those who were there before


class Watcher:
    """Watches one stream with a face system, a frame at a time. Not for two threads at once.

    Args:
        system: its gallery is read, and read again when it has changed.
        false_match_rate: name a person only where fewer strangers than this, of all who walk by, would ever be.
        options: how to look.
        began_at: when the video's time 0 is by the clock.
    """

    def __init__(
        self,
        system: FaceSystem,
        *,
        false_match_rate: float = 1e-3,
        options: WatchOptions | None = None,
        began_at: datetime | None = None,
    ) -> None:
        system.calibration.similarity_at(false_match_rate)  # refuses a rate out of range
        self._system, self._calibration = system, system.calibration
        self._rate, self._options, self._began_at = false_match_rate, options or WatchOptions(), began_at
        self._tracker = Tracker(self._options.tracking)
        self._by_key: dict[int, _Person] = {}  # of the tracker's tracks
        self._away: list[_Person] = []  # lost, with no track to find them by
        self._before: list[_Person] = []  # have left
        self._numbers = itertools.count(1)
        self._time_s = -np.inf
        self._people: object = None
        self._refreshed_s = -np.inf
        self._known = Known(np.empty(0, np.int64), np.empty((0, 0), np.float32), {})

    @property
    def present(self) -> list[Present]:
        """Those in the frame looked at last, by number."""
        return sorted(
            (
                Present(person.number, person.detection.box_xyxy_px, person.from_s, self._verdict(person))
                for person in self._by_key.values()
                if person.number is not None and person.until_s == self._time_s
            ),
            key=lambda one: one.track,
        )

    def look(self, frame: Frame) -> list[Event]:
        """Take in a frame.

        Returns:
            What has happened, in its order.

        Raises:
            InputError: the frame's time is not after the one before.
            TensorError: its pixels are not uint8 [height, width, 3].
        """
        events: list[Event] = []
        [detections] = self._system.analyzer.detector(
            [frame.pixels],
            min_score=self._options.min_score,
            min_size_px=self._options.min_size_px,
            long_side_px=self._options.long_side_px,
        )
        tracks = self._tracker.update(frame.time_s, detections)
        self._time_s = frame.time_s
        for track in tracks:
            person = self._by_key.setdefault(track.key, _Person(track.detection, track.first_s, track.last_s))
            person.detection, person.until_s = track.detection, track.last_s
        visible = {track.key: self._by_key[track.key] for track in tracks}
        if frame.time_s - self._refreshed_s >= REFRESH_S:
            self.refresh()
        self._look_closely(frame, visible)
        for key in visible:
            self._tell(key, events)
        self._let_go(events)
        return events

    def finish(self) -> list[Event]:
        """The stream has ended: everybody has left."""
        events: list[Event] = []
        for person in [*self._by_key.values(), *self._away]:
            self._leave(person, events)
        self._by_key, self._away = {}, []
        return events

    def refresh(self) -> None:
        """Read the gallery again if its people have changed; whoever was forgotten is so here, too."""
        self._refreshed_s = self._time_s
        people = self._system.gallery.people()
        if people == self._people:
            return
        self._people, before = people, self._known
        self._known = Known(*self._system.templates())
        if self._known == before:  # of people without a name nothing is asked
            return
        self._before = [person for person in self._before if not self._is_gone(person)]
        for person in [*self._by_key.values(), *self._away]:
            if self._is_gone(person):
                person.appearance.forget_verdict()
                person.told_person = None
            person.appearance.compare(self._known, self._calibration, anew=True)

    # Inside

    def _is_gone(self, person: _Person) -> bool:
        return person.appearance.verdict.person_id not in {None, *self._known.names}

    def _look_closely(self, frame: Frame, visible: dict[int, _Person]) -> None:
        """Embed the faces that tell something new, and compare whose looks have become enough."""
        due = [key for key, person in visible.items() if person.appearance.is_due(frame.time_s)]
        due.sort(key=lambda key: visible[key].appearance.last_s)
        chosen: list[tuple[int, AlignedFace]] = []
        for key in due[: self._options.faces_per_frame]:
            person = visible[key]
            try:
                aligned = self._system.analyzer.embedder.align(frame.pixels, person.detection.landmarks_xy_px)
            except LandmarkError:  # not to be tried in every frame, before those that can be looked at
                person.appearance.last_s = frame.time_s
                continue
            guess = self._quality(person.detection, aligned, float(np.exp(self._calibration.quality.mean[_NORM])))
            if guess > person.appearance.thumbnail_quality + THUMBNAIL_GAIN:
                person.appearance.thumbnail = thumbnail(frame.pixels, person.detection)
                person.appearance.thumbnail_quality = guess
            if person.appearance.wants(frame.time_s, guess):
                chosen.append((key, aligned))
        if not chosen:
            return
        embeddings, norms = self._system.analyzer.embedder(
            np.stack([aligned.crop for _, aligned in chosen]), flip=self._system.pack.embedder.flip
        )
        for (key, aligned), embedding, norm in zip(chosen, embeddings, norms, strict=True):
            person = self._by_key[key]
            measured = self._quality(person.detection, aligned, float(norm))
            other = person.appearance.add(embedding, measured, self._calibration)
            if other is not None:  # the track has gone over from one person to another
                self._away.append(person)
                other.thumbnail, other.thumbnail_quality = thumbnail(frame.pixels, person.detection), measured
                person = self._by_key[key] = _Person(person.detection, self._time_s, self._time_s, other)
            person.appearance.compare(self._known, self._calibration)
            if not person.told:
                self._recognize(key)

    def _quality(self, detection: Detection, aligned: AlignedFace, norm: float) -> float:
        return float(self._calibration.quality(quality.measure(detection, aligned, norm)[None])[0])

    def _recognize(self, key: int) -> None:
        """Find out whether somebody who was not told of yet is one of those who were here before."""
        person = self._by_key[key]
        others = [other for other in self._absent() if other.appearance.quality is not None]
        if not others or person.appearance.quality is None:
            return
        person.searches += 1
        named = self._verdict(person).person_id
        same = [other for other in others if named is not None and self._verdict(other).person_id == named]
        if same:
            found = max(same, key=lambda other: other.until_s)
        else:
            faces = person.appearance.template
            similarities = [float(other.appearance.template @ faces) for other in others]
            best = int(np.argmax(similarities))
            rate = self._calibration.false_match_rate(similarities[best], candidates=len(others))
            if corrected(rate, person.searches) > SAME_RATE:
                return
            found = others[best]
        self._join(key, found)

    def _absent(self) -> list[_Person]:
        """Those who could come into view: out of it and told of."""
        lost = [person for person in self._by_key.values() if person.until_s < self._time_s]
        return [person for person in (*lost, *self._away, *self._before) if person.number is not None]

    def _join(self, key: int, found: _Person) -> None:
        """The track of `key` is `found` again."""
        new = self._by_key[key]
        if found in self._before:
            self._before.remove(found)
            found.told, found.told_person, found.from_s = False, None, new.from_s
        elif found in self._away:
            self._away.remove(found)
        else:
            [old] = [other for other, person in self._by_key.items() if person is found]
            self._tracker.drop(old)
            del self._by_key[old]
        found.detection, found.until_s = new.detection, new.until_s
        found.appearance.absorb(new.appearance)
        self._by_key[key] = found

    def _tell(self, key: int, events: list[Event]) -> None:
        person = self._by_key[key]
        verdict = self._verdict(person)
        if not person.told:
            may_be_known = any(other.appearance.quality is not None for other in self._absent())
            decided = not may_be_known or verdict.person_id is not None or person.searches >= WAIT_LOOKS
            if not decided and self._time_s - person.from_s < WAIT_S:
                return
            if person.number is None:
                person.number = next(self._numbers)
            person.told = True
            events.append(self._event("appeared", person))
        if verdict.person_id not in (None, person.told_person):
            person.told_person = verdict.person_id
            events.append(self._event("identified", person))

    def _let_go(self, events: list[Event]) -> None:
        """Of those not seen for too long, now and, in the end, in memory."""
        tracked = {track.key for track in self._tracker.tracks}
        for key in [key for key in self._by_key if key not in tracked]:
            self._leave(self._by_key.pop(key), events)
        for person in [*self._away]:
            if self._time_s - person.until_s > self._options.tracking.lost_s:
                self._away.remove(person)
                self._leave(person, events)
        self._before = [person for person in self._before if self._time_s - person.until_s <= self._options.remember_s][
            -REMEMBERED:
        ]

    def _leave(self, person: _Person, events: list[Event]) -> None:
        if person.told:
            events.append(self._event("left", person))
        if person.number is not None:
            self._before.append(person)

    def _verdict(self, person: _Person) -> Verdict:
        """Without a name where that is not sure enough."""
        verdict = person.appearance.verdict
        if verdict.false_match_rate is None or verdict.false_match_rate <= self._rate:
            return verdict
        return replace(verdict, person_id=None, person=None)

    def _event(self, kind: EventKind, person: _Person) -> Event:
        assert person.number is not None
        left, top, right, bottom = (float(value) for value in person.detection.box_xyxy_px)
        return Event(
            kind,
            person.number,
            self._time_s,
            person.from_s,
            person.until_s,
            self._verdict(person),
            (left, top, right, bottom),
            person.appearance.quality,
            person.appearance.thumbnail,
            self._began_at,
        )


def watch(
    system: FaceSystem,
    source: Source | str,
    *,
    false_match_rate: float = 1e-3,
    fps: float | None = None,
    options: WatchOptions | None = None,
    on_frame: Callable[[Frame, Watcher], None] = lambda _frame, _watcher: None,
    on_lost: Callable[[str], None] = lambda _reason: None,
    stop: Flag | None = None,
) -> Iterator[Event]:
    """The events of a source, as they happen.

    Args:
        system: with the gallery of those to be named.
        source: as `Source.parse` takes it.
        false_match_rate: name a person only where fewer strangers than this, of all who walk by, would ever be.
        fps: look at so many frames a second at most. Of a live source those that come too fast are passed over anyway.
        options: how to look.
        on_frame: called after each frame looked at.
        on_lost: called with the reason when a live source is lost; it is tried again.
        stop: set it to have the stream end, and everybody leave.

    Raises:
        InputError: what `source` or a number is cannot be.
        VideoError: the source cannot be opened or holds no video.
    """
    source = Source.parse(source) if isinstance(source, str) else source
    watcher: Watcher | None = None
    with closing(frames(source, fps=fps, on_lost=on_lost, stop=stop)) as video:
        for frame in video:
            if watcher is None:
                began_at = datetime.now(UTC) - timedelta(seconds=frame.time_s) if source.live else None
                watcher = Watcher(system, false_match_rate=false_match_rate, options=options, began_at=began_at)
            yield from watcher.look(frame)
            on_frame(frame, watcher)
    if watcher is not None:
        yield from watcher.finish()
