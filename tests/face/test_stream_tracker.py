"""The tracker on drawn ground truth, its filter against dense algebra, its assignment against enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from tests.face.crowd import detection, measure, walk
from visavis.errors import InputError, TensorError
from visavis.face.records import Detection
from visavis.face.stream import motion
from visavis.face.stream.assignment import assign
from visavis.face.stream.tracker import Tracker, TrackingOptions, overlap

COSTS = arrays.arrays(
    float,
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    elements=st.one_of(st.floats(-3, 3), st.integers(-2, 2).map(float), st.just(np.inf)),
)

# Assignment


def gain(costs, pairs, limit):
    return sum(limit - costs[pair] for pair in pairs)


def best(costs, limit):
    """By trying all: rows take a column each, or none."""
    rows, columns = costs.shape
    gains = []
    for chosen in itertools.product(range(-1, columns), repeat=rows):
        taken = [column for column in chosen if column >= 0]
        if len(set(taken)) == len(taken):
            gains.append(gain(costs, [(row, column) for row, column in enumerate(chosen) if column >= 0], limit))
    return max(gains)


@given(COSTS, st.floats(-2, 2))
def test_an_assignment_is_as_good_as_the_best_of_all(costs, limit):
    pairs = assign(costs, limit)
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(side)
    assert all(costs[pair] < limit for pair in pairs)
    assert pairs == sorted(pairs)
    assert gain(costs, pairs, limit) == pytest.approx(best(costs, limit), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.05, 0.5, 1.0]))
def test_large_assignments_are_as_good_as_those_of_scipy(seed, rows, columns, share):
    random = np.random.default_rng(seed)
    costs = np.where(random.random((rows, columns)) < share, random.random((rows, columns)), np.inf)
    free = np.minimum(costs - 0.8, 0)
    assert gain(costs, assign(costs, 0.8), 0.8) == pytest.approx(-free[linear_sum_assignment(free)].sum())


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="costs, limit: expected numbers"):
        assign(np.array([[np.nan]]), 1.0)
    with pytest.raises(InputError, match="costs, limit: expected numbers"):
        assign(np.zeros((1, 1)), np.inf)
    with pytest.raises(InputError, match="costs: expected numbers above minus infinity"):
        assign(np.full((1, 1), -np.inf), 1.0)
    with pytest.raises(TensorError, match="costs: expected float"):
        assign(np.zeros(3), 1.0)


# The filter

BOXES = st.tuples(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(8, 400), st.floats(8, 400)).map(
    lambda v: np.array([[v[0], v[1], v[0] + v[2], v[1] + v[3]]])
)


def test_a_filter_is_that_of_the_eight_states_at_once():
    random = np.random.default_rng(5)
    seen = [np.array([[100, 50, 140, 100]]) + random.normal(0, 2, (1, 4)) + 3 * n for n in range(8)]
    gaps = random.uniform(0.01, 0.5, 8)
    ours = motion.start(seen[0])
    size = np.sqrt(np.prod(motion.from_corners(seen[0])[0, 2:]))
    state = np.concatenate([motion.from_corners(seen[0])[0], np.zeros(4)])
    covariance = np.diag(np.concatenate([motion._MEASUREMENT, motion._FIRST_SPEED]) * size) ** 2
    look = np.eye(4, 8)
    for box, gap in zip(seen[1:], gaps, strict=False):
        step = np.eye(8) + gap * np.eye(8, k=4)
        force = np.diag((motion._ACCELERATION * size) ** 2)
        # The integral of the noise that came in at every moment of the gap, by Gauss-Legendre: exact for cubes.
        moments, weights = np.polynomial.legendre.leggauss(4)
        noise = np.zeros((8, 8))
        for moment, weight in zip((moments + 1) / 2 * gap, weights / 2 * gap, strict=True):
            carried = np.concatenate([moment * np.eye(4), np.eye(4)])
            noise += weight * carried @ force @ carried.T
        state, covariance = step @ state, step @ covariance @ step.T + noise
        ours = motion.predict(ours, gap)
        value = motion.from_corners(box)[0]
        size = np.sqrt(np.prod(value[2:]))
        error = np.diag((motion._MEASUREMENT * size) ** 2)
        gain = covariance @ look.T @ np.linalg.inv(look @ covariance @ look.T + error)
        state, covariance = state + gain @ (value - look @ state), covariance - gain @ look @ covariance
        ours = motion.correct(ours, box)
        assert np.allclose(ours.mean[0].T.ravel(), state)
        blocks = covariance.reshape(2, 4, 2, 4)[:, range(4), :, range(4)]
        assert np.allclose(ours.covariance[0], blocks)
        assert np.allclose(covariance.reshape(2, 4, 2, 4).sum((0, 2)) * (1 - np.eye(4)), 0)


@given(BOXES, BOXES, st.floats(0.01, 1), st.floats(0, 1))
def test_a_prediction_in_two_steps_is_that_in_one(box, second, gap, share):
    track = motion.correct(motion.predict(motion.start(box), 0.1), second)
    whole = motion.predict(track, gap)
    halves = motion.predict(motion.predict(track, share * gap), (1 - share) * gap)
    assert np.allclose(whole.mean, halves.mean)
    assert np.allclose(whole.covariance, halves.covariance, rtol=1e-6)


@given(BOXES)
def test_corners_and_centres_are_each_others_reverse(box):
    assert np.allclose(motion.to_corners(motion.from_corners(box)), box)
    assert np.allclose(motion.start(box).boxes, box)


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(TensorError, match="boxes_xyxy"):
        motion.start(np.zeros((2, 3)))
    with pytest.raises(TensorError, match="boxes_xyxy"):
        motion.correct(motion.start(np.zeros((2, 4))), np.zeros((1, 4)))


@given(BOXES, BOXES)
def test_overlap_is_a_share_and_grows_with_the_boxes(box, other):
    [[share]] = overlap(box, other)
    width, height = (min(box[0, i + 2], other[0, i + 2]) - max(box[0, i], other[0, i]) for i in (0, 1))
    inner = max(width, 0) * max(height, 0)
    areas = [(one[0, 2] - one[0, 0]) * (one[0, 3] - one[0, 1]) for one in (box, other)]
    assert share == pytest.approx(inner / (sum(areas) - inner))
    assert overlap(box, box) == pytest.approx(1)


# Tracks


def run(
    paths, *, fps=25.0, drop=0.0, jitter=0.0, clutter=0.0, seed=0, size=40.0, hidden=None, scores=None, options=None
):
    """What a tracker makes of detections of these paths, beside the truth, see `measure`."""
    random, tracker, frames = np.random.default_rng(seed), Tracker(options), []
    for number, places in enumerate(paths):
        truth, given_ = {}, []
        for person, (x, y) in enumerate(places):
            if np.isnan(x) or (hidden is not None and hidden(number, person)):
                continue
            truth[person] = detection(x, y, size).box_xyxy_px
            if random.random() >= drop:
                x, y = random.normal((x, y), jitter * size)
                given_.append(
                    detection(x, y, size * np.exp(random.normal(0, jitter)), scores[person] if scores else 0.9)
                )
        given_ += [
            detection(*random.uniform(0, 700, 2), size, random.uniform(0.3, 0.75))
            for _ in range(random.poisson(clutter))
        ]
        random.shuffle(given_)
        seen = tracker.update(number / fps, given_)
        assert len({track.key for track in seen}) == len(seen)
        assert all(any(track.detection is one for one in given_) for track in seen)
        frames.append((truth, {track.key: track.detection.box_xyxy_px for track in seen}))
    return measure(frames)


def straight(*lines, frames=50):
    """Paths from one point to another."""
    share = np.linspace(0, 1, frames)[:, None, None]
    ends = np.array(lines, float)
    return ends[:, 0] * (1 - share) + ends[:, 1] * share


def test_one_face_is_one_track_from_the_third_frame_on():
    score = run(straight(((50, 100), (600, 100))))
    assert (score.misses, score.false, score.switches, len(score.tracks)) == (2, 0, 0, 1)


@settings(max_examples=25)
@given(st.floats(0, 0.2), st.floats(0, 0.06), st.integers(0, 1000))
def test_faces_apart_keep_their_tracks_with_detections_dropped_and_jittered(drop, jitter, seed):
    paths = straight(*(((100, 100 + 120 * i), (700, 100 + 120 * i)) for i in range(5)), frames=60)
    score = run(paths, drop=drop, jitter=jitter, seed=seed)
    assert score.switches == 0
    assert len(score.tracks) == 5
    assert score.idf1 > 0.8


def test_faces_that_cross_keep_their_tracks():
    score = run(straight(((100, 100), (700, 400)), ((700, 110), (100, 410)), ((400, 50), (400, 500))), jitter=0.02)
    assert (score.switches, len(score.tracks)) == (0, 3)
    assert score.mota > 0.9


def test_a_face_hidden_for_a_second_is_the_same_track_and_for_three_another():
    path = straight(((100, 100), (700, 100)), frames=150)
    score = run(path, hidden=lambda frame, _: 50 <= frame < 75)
    assert (score.switches, len(score.tracks), score.fragments) == (0, 1, 0)
    score = run(path, hidden=lambda frame, _: 50 <= frame < 125)
    assert len(score.tracks) == 2


def test_two_faces_pass_while_one_hides_the_other():
    paths = straight(((100, 100), (700, 104)), ((700, 100), (100, 104)), frames=75)
    score = run(paths, hidden=lambda frame, person: person == 1 and np.ptp(paths[frame, :, 0]) < 40)
    assert (score.switches, len(score.tracks)) == (0, 2)


def test_doubtful_detections_go_on_with_a_track_but_begin_none():
    path = straight(((100, 100), (500, 100)))
    assert run(path, scores=[0.5]).tracks == set()
    tracker = Tracker()
    for number, (x, y) in enumerate(path[:, 0]):
        seen = tracker.update(number / 25, [detection(x, y, score=0.9 if number < 5 else 0.35)])
    assert [track.hits for track in seen] == [50]


def test_clutter_of_single_frames_begins_no_track():
    score = run(straight(((100, 100), (700, 100)), frames=100), clutter=1.0, seed=3)
    assert len(score.tracks) == 1
    assert score.false == 0


@pytest.mark.parametrize("fps", [5.0, 10.0, 25.0, 60.0])
def test_a_walker_is_followed_at_any_frame_rate(fps):
    frames = int(4 * fps)  # 1.3 metres a second: eight face widths
    score = run(straight(((0, 200), (4 * 8 * 40, 200)), ((1280, 420), (0, 420)), frames=frames), fps=fps, jitter=0.03)
    assert (score.switches, len(score.tracks)) == (0, 2)


def test_frames_may_come_at_any_times():
    random, tracker = np.random.default_rng(2), Tracker()
    times = np.cumsum(random.exponential(0.1, 80))
    keys = {track.key for t in times for track in tracker.update(t, [detection(100 + 100 * t, 90)])}
    assert len(keys) == 1


def test_a_crowd():
    score = run(walk(12, 250, seed=4), drop=0.1, jitter=0.04, clutter=0.5, seed=4)
    plain = TrackingOptions(min_overlap=0.3, high_score=0.3)
    assert score.mota > 0.8
    assert score.switches < 15
    assert (
        score.switches <= run(walk(12, 250, seed=4), drop=0.1, jitter=0.04, clutter=0.5, seed=4, options=plain).switches
    )


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-100, 900), st.floats(-100, 900), st.floats(1, 300), st.floats(0, 1)), max_size=6),
        max_size=12,
    )
)
def test_whatever_comes_each_track_has_one_detection(frames):
    tracker = Tracker()
    for number, faces in enumerate(frames):
        given_ = [detection(*face) for face in faces]
        seen = tracker.update(number / 25, given_)
        assert len({id(track.detection) for track in seen}) == len(seen)
        assert {track.key for track in seen} <= {track.key for track in tracker.tracks}


def test_whoever_stands_there_after_a_gap_is_somebody_new():
    tracker, face = Tracker(), Detection(np.float32([10, 10, 50, 60]), np.zeros((5, 2), np.float32), 0.9)
    for frame in range(4):
        [*_, before] = [None, *tracker.update(frame / 25, [face])]
    assert before.key == 0
    found = [tracker.update(600 + frame / 25, [face]) for frame in range(3)]
    assert [[track.key for track in seen] for seen in found] == [[], [], [1]]


def test_rare_frames_are_no_gap():
    tracker, face = Tracker(), Detection(np.float32([10, 10, 50, 60]), np.zeros((5, 2), np.float32), 0.9)
    found = [tracker.update(5.0 * frame, [face]) for frame in range(8)]
    assert len({track.key for seen in found for track in seen}) == 1
    assert len(found[-1]) == 1


def test_a_track_may_be_believed_at_once():
    face = Detection(np.float32([10, 10, 50, 60]), np.zeros((5, 2), np.float32), 0.9)
    [track] = Tracker(TrackingOptions(confirm=1)).update(0.0, [face])
    assert track.confirmed


def test_a_track_can_be_dropped_and_time_rises():
    tracker = Tracker()
    for number in range(3):
        [*seen] = tracker.update(number / 25, [detection(100, 100), detection(300, 300)])
    tracker.drop(seen[0].key)
    assert [track.key for track in tracker.tracks] == [seen[1].key]
    with pytest.raises(InputError, match="time_s: expected a time after"):
        tracker.update(2 / 25, [])


# The measures themselves


def test_the_measures_by_hand():
    box, other = [0, 0, 10, 10], [100, 0, 110, 10]
    frames = [({1: box}, {7: box}), ({1: box}, {}), ({1: box}, {8: box, 9: other}), ({1: box}, {8: box})]
    score = measure(frames)
    assert (score.misses, score.false, score.switches, score.fragments) == (1, 1, 1, 1)
    assert score.mota == pytest.approx(1 - 3 / 4)
    assert score.idf1 == pytest.approx(2 * 2 / (4 + 4))
