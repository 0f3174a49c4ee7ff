"""Faces followed from frame to frame by where they are; who they are, `visavis.face.stream.watching` looks at.

As ByteTrack (arXiv:2110.06864) it joins sure detections to tracks first and then gives the doubtful ones to the tracks
left over: a face half hidden scores low, and so does what is no face, which lies near no track. Other than there, the
filter keeps time in seconds, and boxes are compared after both have grown by the filter's doubt, so that fast faces
and slow frame rates do not need overlap.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError
from visavis.face.records import Detection
from visavis.face.stream.assignment import assign
from visavis.face.stream.motion import Motion, correct, predict, start

__all__ = ["Track", "Tracker", "TrackingOptions", "overlap"]


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """How detections become tracks."""

    high_score: float = 0.6  # begins a track; lower ones only go on with one
    min_overlap: float = 0.2  # of grown boxes, intersection over union
    min_overlap_low: float = 0.4  # the same for doubtful detections
    confirm: int = 3  # detections in a row before it is believed
    lost_s: float = 2.0  # a track not seen for longer has ended


@dataclass(slots=True, eq=False)
class Track:
    """One face followed; `detection` is the last that was seen."""

    key: int  # unique in its tracker
    detection: Detection
    first_s: float
    last_s: float
    hits: int = 1
    confirmed: bool = field(default=False)


class Tracker:
    """Follows any number of faces; give it all frames looked at, those without a face, too.

    >>> face = Detection(np.float32([10, 10, 50, 60]), np.zeros((5, 2), np.float32), 0.9)
    >>> tracker = Tracker()
    >>> [[track.key for track in tracker.update(n / 25, [face])] for n in range(4)]
    [[], [], [0], [0]]
    """

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self._options = options or TrackingOptions()
        self._keys = itertools.count()
        self._time_s = -np.inf
        self._gap_s = 0.0  # between the last two frames
        self._tracks: list[Track] = []
        self._motion = start(np.empty((0, 4)))

    @property
    def tracks(self) -> list[Track]:
        """Those seen and those lost but not yet ended."""
        return [track for track in self._tracks if track.confirmed]

    def update(self, time_s: float, detections: Sequence[Detection]) -> list[Track]:
        """Go on to a frame.

        Args:
            time_s: of the frame; rises from call to call.
            detections: the faces found in it, doubtful ones, too.

        Returns:
            The confirmed tracks that are seen in it, their `detection` being one of these.

        Raises:
            InputError: the time does not rise.
        """
        if not time_s > self._time_s:
            raise InputError(f"time_s: expected a time after {self._time_s}, got {time_s}")
        before_s, self._time_s = self._time_s, time_s
        self._drop_stale(before_s)
        if self._tracks:
            self._motion = predict(self._motion, time_s - before_s)
        boxes = np.array([one.box_xyxy_px for one in detections], np.float64).reshape(-1, 4)
        scores = np.array([one.score for one in detections])
        affinity = self._affinity(boxes)
        confirmed = np.array([track.confirmed for track in self._tracks], bool)
        fresh = np.array([track.last_s == before_s for track in self._tracks], bool)  # seen in the frame before
        high = scores >= self._options.high_score
        pairs: list[tuple[int, int]] = []
        free_tracks, free = np.ones(len(self._tracks), bool), np.ones(len(detections), bool)
        for whose, which, least in (
            (confirmed, high, self._options.min_overlap),
            (confirmed & fresh, ~high, self._options.min_overlap_low),
            (~confirmed, high, self._options.min_overlap),
        ):
            rows, columns = np.flatnonzero(whose & free_tracks), np.flatnonzero(which & free)
            for row, column in assign(1 - affinity[np.ix_(rows, columns)], 1 - least):
                pairs.append((rows[row], columns[column]))
                free_tracks[rows[row]] = free[columns[column]] = False
        seen = self._correct(pairs, detections, boxes)
        self._drop()
        return seen + self._begin(np.flatnonzero(high & free), detections, boxes)

    def drop(self, key: int) -> None:
        """End a track: another one turned out to go on with it."""
        self._keep(np.array([track.key != key for track in self._tracks], bool))

    def _drop_stale(self, before_s: float) -> None:
        """Let go of tracks that a gap has ended, as of a camera that was away; where frames are rare it is none."""
        gap_s = self._time_s - before_s
        if gap_s > max(self._options.lost_s, 2 * self._gap_s):
            self._keep(np.zeros(len(self._tracks), bool))
        self._gap_s = gap_s

    def _affinity(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """[tracks, detections] intersection over union, both grown by the track's doubt."""
        grow = np.minimum(self._motion.doubt_px, self._motion.size_px)
        return overlap(self._motion.boxes, boxes, grow)

    def _correct(
        self, pairs: Sequence[tuple[int, int]], detections: Sequence[Detection], boxes: NDArray[np.float64]
    ) -> list[Track]:
        if not pairs:
            return []
        rows, columns = (np.array(part) for part in zip(*sorted(pairs), strict=True))
        after = correct(Motion(*(part[rows] for part in self._motion)), boxes[columns])
        for whole, part in zip(self._motion, after, strict=True):
            whole[rows] = part
        seen = []
        for row, column in zip(rows, columns, strict=True):
            track = self._tracks[row]
            track.detection, track.last_s, track.hits = detections[column], self._time_s, track.hits + 1
            track.confirmed = track.confirmed or track.hits >= self._options.confirm
            if track.confirmed:
                seen.append(track)
        return seen

    def _drop(self) -> None:
        """Let go of tracks lost too long, and at once of those not confirmed."""
        self._keep(
            np.array(
                [
                    track.last_s == self._time_s
                    or (track.confirmed and self._time_s - track.last_s <= self._options.lost_s)
                    for track in self._tracks
                ],
                bool,
            )
        )

    def _begin(
        self, which: NDArray[np.int64], detections: Sequence[Detection], boxes: NDArray[np.float64]
    ) -> list[Track]:
        """Begin tracks; returns those that are believed at once."""
        believed = self._options.confirm <= 1
        new = [Track(next(self._keys), detections[i], self._time_s, self._time_s, confirmed=believed) for i in which]
        self._tracks += new
        begun = start(boxes[which])
        self._motion = Motion(
            *(np.concatenate([there, added]) for there, added in zip(self._motion, begun, strict=True))
        )
        return new if believed else []

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if not kept.all():
            self._tracks = [track for track, keep in zip(self._tracks, kept, strict=True) if keep]
            self._motion = Motion(*(part[kept] for part in self._motion))


def overlap(
    boxes: NDArray[np.float64], others: NDArray[np.float64], grow_px: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    """[N, M] intersection over union of [N, 4] and [M, 4] boxes, both grown by [N] pixels on each side."""
    grow = np.broadcast_to(np.asarray(grow_px, np.float64), len(boxes))[:, None, None] * np.array([-1, -1, 1, 1])
    a, b = boxes[:, None] + grow, others[None] + grow
    inner = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(-1) for box in (a, b)]
    union = areas[0] + areas[1] - inner
    shares: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return shares
