"""Who is said to be there, on drawn scenes whose truth is known; how often a stranger would be named, by simulation."""

import json
import threading
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.special import betainc

from tests.face.clips import write
from tests.face.fake_pack import photo
from tests.face.scenes import FPS, pixels, play, stay, told
from visavis.errors import InputError, TensorError
from visavis.face.match import Calibration, template
from visavis.face.quality import MEASURES, QualityModel
from visavis.face.stream.appearance import Appearance, Known, corrected
from visavis.face.stream.events import Event, Verdict
from visavis.face.stream.video import Frame
from visavis.face.stream.watching import Watcher, WatchOptions, watch

ADA, BOB, EVE = 0, 1, 2
HERE, THERE = (1, 1), (8, 4)


@pytest.fixture
def known(system, photos):
    """The system, which knows Ada and Bob."""
    for name, person in (("Ada", ADA), ("Bob", BOB)):
        system.enroll(name, [photo(photos / f"{name}{number}.png", person) for number in range(3)])
    return system


def walk(start, end, row):
    """A cell a frame."""
    step = 1 if end > start else -1
    return [(column, row) for column in range(start, end + step, step)]


# Events


def test_someone_known_appears_is_identified_and_leaves(known):
    watcher = Watcher(known)
    events = play(watcher, [*stay(2, {ADA: HERE}), *stay(3, {})])
    assert told(events) == [("appeared", 1, "Ada"), ("identified", 1, "Ada"), ("left", 1, "Ada")]
    appeared, _, left = events
    assert (appeared.from_s, appeared.time_s) == (0.0, 0.2)  # believed at the third frame
    assert (left.from_s, left.until_s) == (0.0, pytest.approx(1.9))
    assert left.time_s == pytest.approx(4.0)
    assert left.verdict.person_id == known.gallery.find_person("Ada")
    assert left.verdict.false_match_rate < 1e-3
    assert left.verdict.probability > 0.99
    assert left.thumbnail.startswith(b"\xff\xd8\xff")
    assert left.quality > 0.5
    assert left.box_xyxy_px == (31.5, 31.5, 63.5, 63.5)


def test_a_stranger_has_a_number_and_no_name(known):
    events = play(Watcher(known), [*stay(1, {EVE: HERE}), *stay(1, {EVE: HERE, ADA: THERE}), *stay(3, {})])
    assert told(events) == [
        ("appeared", 1, None),
        ("appeared", 2, "Ada"),
        ("identified", 2, "Ada"),
        ("left", 1, None),
        ("left", 2, "Ada"),
    ]
    eve = next(event for event in events if event.kind == "left" and event.verdict.person is None)
    assert eve.verdict.false_match_rate > 1e-3
    assert eve.verdict.probability < 0.5


def test_nothing_of_a_stranger_is_written(known, tmp_path):
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    watcher = Watcher(known)
    play(watcher, stay(2, {EVE: HERE}))
    watcher.finish()
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
    assert known.gallery.counts().faces == 6


def test_an_empty_gallery_names_nobody(system):
    events = play(Watcher(system), stay(1, {ADA: HERE}))
    assert told(events) == [("appeared", 1, None)]
    assert events[0].verdict == Verdict()


def test_who_comes_back_has_the_same_number_for_a_while(known):
    watcher = Watcher(known, options=WatchOptions(remember_s=20))
    events = play(watcher, [*stay(1, {EVE: HERE}), *stay(10, {}), *stay(1, {EVE: THERE, ADA: HERE}), *stay(3, {})])
    assert [(event.kind, event.track) for event in events if event.verdict.person is None] == [
        ("appeared", 1),
        ("left", 1),
        ("appeared", 1),
        ("left", 1),
    ]
    assert [event.from_s for event in events if event.track == 1][2:] == [pytest.approx(11.0)] * 2
    assert [event.track for event in play(watcher, stay(1, {EVE: HERE}), from_s=60)] == [3]


def test_a_number_survives_a_second_behind_a_pillar_and_a_jump_across_the_room(known):
    events = play(Watcher(known), [*stay(1, {EVE: HERE}), *stay(1, {}), *stay(1, {EVE: THERE})])
    assert told(events) == [("appeared", 1, None)]


def test_two_strangers_who_cross_keep_their_numbers(known):
    watcher = Watcher(known)
    forth, back = walk(0, 9, 2), walk(9, 0, 3)
    scenes = [*stay(1, {EVE: forth[0], 5: back[0]})]
    scenes += [{EVE: one, 5: other} for one, other in zip(forth, back, strict=True)]
    scenes += stay(1, {EVE: forth[-1], 5: back[-1]})
    events = play(watcher, scenes)
    assert sorted(told(events)) == [("appeared", 1, None), ("appeared", 2, None)]


def test_a_track_that_goes_over_to_another_person_is_parted(known):
    """Two change places between two frames: whoever goes by boxes alone takes each for the other."""
    watcher = Watcher(known)
    places = {}
    play(watcher, stay(3, {ADA: HERE, EVE: (2, 1)}))
    places = {one.verdict.person: one.track for one in watcher.present}
    play(watcher, stay(3, {ADA: (2, 1), EVE: HERE}), from_s=3)
    after = {one.verdict.person: (one.track, round(float(one.box_xyxy_px[0] + 0.5))) for one in watcher.present}
    assert after == {"Ada": (places["Ada"], 64), None: (places[None], 32)}


def test_time_and_pixels_are_checked(known):
    watcher = Watcher(known)
    watcher.look(Frame(0, 1.0, pixels({})))
    with pytest.raises(InputError, match="time_s: expected a time after 1.0"):
        watcher.look(Frame(1, 1.0, pixels({})))
    with pytest.raises(TensorError, match="image: expected uint8"):
        watcher.look(Frame(1, 2.0, np.zeros((4, 4), np.uint8)))
    with pytest.raises(InputError, match="false_match_rate: expected a rate in"):
        Watcher(known, false_match_rate=0)


def test_a_stricter_rate_names_nobody(known):
    assert told(play(Watcher(known, false_match_rate=1e-9), stay(1, {ADA: HERE}))) == [("appeared", 1, None)]


def test_few_faces_are_embedded_however_many_are_there(known, monkeypatch):
    counts, embedder = [], known.analyzer.embedder
    call = type(embedder).__call__

    def counting(self, crops, **options):
        counts.append(len(crops))
        return call(self, crops, **options)

    monkeypatch.setattr(type(embedder), "__call__", counting)
    everybody = {person: (person % 5 * 2, person // 5 * 2) for person in range(12)}
    watcher = Watcher(known, options=WatchOptions(faces_per_frame=2))
    events = play(watcher, stay(8, everybody))
    assert max(counts) == 2
    assert len(watcher.present) == 12
    assert sum(event.kind == "identified" for event in events) == 2
    assert sum(counts) < 12 * 20  # 16 each, and a few that were better


# The gallery changes


def test_whoever_gets_a_name_meanwhile_is_identified(known, photos):
    watcher = Watcher(known)
    events = play(watcher, stay(5, {EVE: HERE}))
    known.enroll("Eve", [photo(photos / "eve.png", EVE)])
    events += play(watcher, stay(10, {EVE: HERE}), from_s=5)
    assert told(events) == [("appeared", 1, None), ("identified", 1, "Eve")]


def test_whoever_is_forgotten_has_no_name_any_more_and_is_not_remembered_by_it(known):
    watcher = Watcher(known)
    events = play(watcher, [*stay(2, {ADA: HERE, BOB: THERE}), *stay(3, {ADA: HERE})])
    assert {event.verdict.person for event in events} == {"Ada", "Bob"}
    for name in ("Ada", "Bob"):
        known.gallery.forget(known.gallery.find_person(name))
    watcher.refresh()
    assert [one.verdict.person for one in watcher.present] == [None]
    assert watcher.finish()[0].verdict == Verdict()
    after = play(watcher, stay(2, {BOB: THERE}), from_s=20)
    assert {event.verdict.person for event in after} == {None}
    assert {event.track for event in after} == {3}  # the remembered Bob is gone, too


@pytest.mark.usefixtures("in_process")
def test_changes_that_concern_nobody_with_a_name_are_no_looks(known, photos):
    watcher = Watcher(known)
    play(watcher, stay(1, {ADA: HERE}))
    [before] = [one.verdict for one in watcher.present]
    known.index(photo(photos / "other.png", 7))
    watcher.refresh()
    assert [one.verdict for one in watcher.present] == [before]


# How often a stranger is named

COSINES, DIM = np.linspace(-1, 1, 401), 16
TAILS = 0.5 * betainc((DIM - 1) / 2, 0.5, 1 - COSINES**2)  # of the cosine of two random directions, where above 0
RANDOM = Calibration(  # exact for strangers whose faces are random directions
    COSINES,
    np.log10(np.maximum(np.where(COSINES < 0, 1 - TAILS, TAILS), 1e-12)),
    30.0,
    -15.0,
    0.5,
    QualityModel(*(np.full(len(MEASURES), value, float) for value in (0, 1, 0, 0)), bias=0.0),
    "a law that is known",
)


def named_share(rate, strangers=1000):
    """Of strangers looked at 16 times, each look near the last, the share who are ever named."""
    random, named = np.random.default_rng(0), 0
    known = Known(np.array([1]), np.eye(1, DIM, dtype=np.float32), {1: "Ada"})
    for _ in range(strangers):
        face, appearance = random.normal(size=DIM), Appearance()
        for _look in range(16):
            face = 0.8 * face + 0.6 * random.normal(size=DIM)
            appearance.add((face / np.linalg.norm(face)).astype(np.float32), 0.1, RANDOM)
            appearance.compare(known, RANDOM)
        named += appearance.verdict.false_match_rate <= rate
    return named / strangers


def test_many_looks_at_a_stranger_are_told_as_the_many_they_are(monkeypatch):
    rate = 0.1
    deviation = np.sqrt(rate * (1 - rate) / 1000)
    assert 0.2 * rate < named_share(rate) < rate
    monkeypatch.setattr("visavis.face.stream.appearance.corrected", lambda rate, _look: rate)
    assert named_share(rate) > rate + 3 * deviation  # what taking each look for the only one comes to


def test_the_corrections_share_out_the_rate():
    assert sum(1 / corrected(1e-9, look) * 1e-9 for look in range(1, 10_000)) == pytest.approx(1, abs=1e-3)
    assert corrected(0.4, 3) == 1.0


def test_a_template_is_that_of_the_gallery():
    random = np.random.default_rng(0)
    faces = random.normal(size=(30, 8)).astype(np.float32)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    qualities = random.uniform(0, 0.4, 30).astype(np.float32)
    appearance = Appearance()
    with pytest.raises(InputError, match="appearance: expected at least one face"):
        _ = appearance.template
    for face, quality in zip(faces, qualities, strict=True):
        assert appearance.add(face, float(quality), RANDOM) is None
    assert np.allclose(appearance.template, template(faces, qualities))
    assert appearance.quality == pytest.approx(qualities.max())


# As JSON, and from a file


def test_events_as_json():
    event = Event(
        *("left", 3, 5.0, 1.5, 4.25, Verdict(7, "Ada\x1b", 0.999, 1e-5), (1.0, 2.04, 3.0, 4.0), 0.9, b"jpeg"),
        began_at=datetime(2026, 5, 1, 12, 0, tzinfo=UTC),
    )
    value = json.loads(json.dumps(event.to_json()))
    assert (value["event"], value["track"], value["person"], value["name"]) == ("left", 3, 7, "Ada\x1b")
    assert value["from"] == "2026-05-01T12:00:01.500+00:00"
    assert value["until"] == "2026-05-01T12:00:04.250+00:00"
    assert b64decode(value["thumbnail_jpeg"]) == b"jpeg"
    assert value["box_xyxy_px"] == [1.0, 2.0, 3.0, 4.0]
    assert "similarity" not in value
    without = replace(event, began_at=None).to_json(thumbnail=False)
    assert without["at"] is None
    assert "thumbnail_jpeg" not in without


def test_a_file_is_watched_to_its_end(known, tmp_path):
    scenes = [*stay(1, {}), *stay(2, {ADA: HERE})]
    times = [number / FPS for number in range(len(scenes))]
    clip = write(tmp_path / "clip.mkv", map(pixels, scenes), times_s=times)
    looked = []
    events = list(watch(known, str(clip), on_frame=lambda frame, _: looked.append(frame.number)))
    assert told(events) == [("appeared", 1, "Ada"), ("identified", 1, "Ada"), ("left", 1, "Ada")]
    assert looked == list(range(30))
    assert events[-1].began_at is None
    few = list(watch(known, str(clip), fps=5, on_frame=lambda frame, _: looked.append(frame.number)))
    assert told(few) == told(events)
    assert looked[30:] == list(range(0, 30, 2))


def test_a_stop_lets_everybody_leave(known, tmp_path):
    clip = write(tmp_path / "clip.mkv", map(pixels, stay(3, {ADA: HERE})))
    stop, events = threading.Event(), []
    for event in watch(known, str(clip), stop=stop):
        events.append(event)
        stop.set()
    assert [event.kind for event in events][-1] == "left"
    assert events[-1].until_s < 1
