"""Faces that move on known paths, detections of them that are made worse on purpose, and what a tracker made of it.

The measures are computed here from their definitions, with scipy's assignment, which the tracker does not use.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from visavis.face.records import Detection
from visavis.face.stream.tracker import overlap

__all__ = ["Score", "detection", "measure", "walk"]


def detection(x, y, size=40.0, score=0.9):
    """A face whose centre is at (x, y)."""
    box = np.float32([x - size / 2, y - 0.6 * size, x + size / 2, y + 0.6 * size])
    return Detection(box, np.zeros((5, 2), np.float32), score)


def walk(count, frames, *, fps=25.0, seed=0, size=40.0, width=1280, height=720, speed=3.0):
    """[frames, count, 2] centres of faces that wander and turn back at the edges; speed in sizes a second."""
    random = np.random.default_rng(seed)
    place = random.uniform(0, 1, (count, 2)) * [width, height]
    velocity = random.normal(0, speed * size, (count, 2))
    path = []
    for _ in range(frames):
        velocity += random.normal(0, speed * size * np.sqrt(1 / fps), (count, 2)) - velocity / fps
        place = place + velocity / fps
        for axis, most in enumerate((width, height)):
            out = (place[:, axis] < 0) | (place[:, axis] > most)
            velocity[out, axis] *= -1
        place = np.clip(place, 0, [width, height])
        path.append(place)
    return np.array(path)


@dataclass
class Score:
    truths: int = 0
    misses: int = 0
    false: int = 0
    switches: int = 0  # a face's track is another one than when it was last followed
    fragments: int = 0  # a face's following was interrupted
    idf1: float = 0.0
    tracks: set = field(default_factory=set)

    @property
    def mota(self):
        return 1 - (self.misses + self.false + self.switches) / self.truths


def measure(frames):
    """CLEAR MOT and IDF1 (arXiv:1609.01775) of [({person: box}, {track: box}), ...]; half an overlap makes a pair."""
    score, last, followed = Score(), {}, {}
    together, of_person, of_track = Counter(), Counter(), Counter()
    for truth, found in frames:
        people, tracks = list(truth), list(found)
        score.truths += len(people)
        score.tracks |= set(tracks)
        shares = overlap(
            np.array([truth[i] for i in people], float).reshape(-1, 4),
            np.array([found[i] for i in tracks], float).reshape(-1, 4),
        )
        # Pairs of the frame before stay while they still overlap, as CLEAR MOT has it.
        bonus = np.array([[last.get(i) == j for j in tracks] for i in people], float).reshape(shares.shape)
        costs = np.where(shares >= 0.5, 1 - shares - 10 * bonus, 1000.0)
        rows, columns = linear_sum_assignment(costs)
        matched = {people[r]: tracks[c] for r, c in zip(rows, columns, strict=True) if costs[r, c] < 100}
        score.misses += len(people) - len(matched)
        score.false += len(tracks) - len(matched)
        for person, track in matched.items():
            score.switches += last.get(person, track) != track
            score.fragments += followed.get(person) is False
            last[person] = track
        followed |= {person: person in matched for person in people if person in matched or person in followed}
        of_person.update(people)
        of_track.update(tracks)
        together.update((people[r], tracks[c]) for r, c in np.argwhere(shares >= 0.5))
    people, tracks = sorted(of_person), sorted(of_track)
    table = np.array([[together[i, j] for j in tracks] for i in people]).reshape(len(people), len(tracks))
    rows, columns = linear_sum_assignment(-table)
    score.idf1 = 2 * table[rows, columns].sum() / (of_person.total() + of_track.total())
    return score
