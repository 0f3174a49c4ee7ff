import sys

import numpy as np
import pytest

from tests.face.fake_pack import photo
from visavis.errors import GalleryError, InputError, ModelError, PhotoError
from visavis.face.gallery import Counts
from visavis.face.system import FaceSystem

pytestmark = pytest.mark.usefixtures("in_process")


def people(system):
    """The people as sets of their photos' names."""
    return {
        frozenset(face.path.name for face in system.gallery.faces(person=row.id)) for row in system.gallery.people()
    }


def person_in(system, name):
    """The number of the person in a photo of one face."""
    [number] = {face.person_id for face in system.gallery.faces() if face.path is not None and face.path.name == name}
    return number


# Opening


def test_a_gallery_keeps_its_models_and_refuses_others(system, squares):
    system.close()
    with pytest.raises(GalleryError, match=r"got a gallery of square-embedder .* or index into a new folder"):
        FaceSystem.open(system.gallery.folder, pack="default")
    with pytest.raises(GalleryError, match=r"one of square-embedder .*; name its pack's TOML"):
        FaceSystem.open(system.gallery.folder)
    with FaceSystem.open(system.gallery.folder, pack=squares, create=False) as again:
        assert again.pack.embedder.name == "square-embedder"


def test_models_that_cannot_be_had_leave_no_gallery_behind(tmp_path, squares, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(squares.read_text().replace("squares.json", str(squares.with_name("squares.json"))))
    with pytest.raises(ModelError, match="square-detector: expected a source that works, got none"):
        FaceSystem.open(tmp_path / "g", pack=elsewhere)
    assert not (tmp_path / "g").exists()


def test_an_unknown_pack_and_a_file_in_the_way(tmp_path, squares):
    with pytest.raises(ModelError, match=r"pack: expected default, fast or the path of a .toml file, got 'slow'"):
        FaceSystem.open(tmp_path / "g", pack="slow")
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="expected a place for a new gallery"):
        FaceSystem.open(tmp_path / "file", pack=squares)


def test_a_gallery_stays_where_it_was_opened(squares, tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(photos / "a.png", 0)
    with FaceSystem.open("g.visavis", pack=squares) as system:
        monkeypatch.chdir(photos)
        system.index(".")
        assert len(system.search("a.png")) == 1
    assert [path.name for path in photos.iterdir()] == ["a.png"]
    assert (tmp_path / "g.visavis" / "search").is_dir()


# Enrolling


def test_enroll_by_two_photos_then_a_third(system, photos):
    paths = [photo(photos / f"{number}.png", 0) for number in range(3)]
    ada = system.enroll("Ada", paths[:2])
    assert system.enroll("Ada", paths[2:]) == ada
    rows = system.gallery.faces(person=ada)
    assert [(row.path, row.person, row.pinned, row.enrolled) for row in rows] == [(p, "Ada", True, True) for p in paths]
    assert system.enroll("Ada", paths) == ada
    assert system.gallery.counts() == Counts(3, 3, 0, 3, 1, 1)


def test_enroll_takes_the_clearly_largest_face(system, photos, monkeypatch):
    """The squares are all of one size, so their boxes are made smaller behind the first."""
    path = photo(photos / "group.png", 0, 1, 2)
    look = system._look

    def look_again(path):
        record, faces = look(path)
        for face in faces[1:]:
            face.detection.box_xyxy_px[2:] -= shrink
        return record, faces

    monkeypatch.setattr(system, "_look", look_again)
    shrink = 8  # (24/32)**2 is above a half
    with pytest.raises(PhotoError, match=r"group.png: expected one face or one clearly largest, found 3"):
        system.enroll("Ada", [path])
    shrink = 10
    ada = system.enroll("Ada", [path])
    [row] = system.gallery.faces(person=ada)
    assert row.detection.box_xyxy_px[0] == -0.5
    assert system.gallery.counts() == Counts(1, 1, 0, 3, 1, 1)


def test_enroll_refuses_what_does_not_tell_who_it_is_and_takes_none(system, photos):
    good = photo(photos / "good.png", 0)
    bad = {
        photo(photos / "none.png"): "none.png: expected a face, found none",
        photo(photos / "two.png", 1, 2): "two.png: expected one face or one clearly largest, found 2",
        photos / "gone.png": "gone.png: file: cannot be read",
    }
    for path, message in bad.items():
        with pytest.raises(PhotoError, match=message):
            system.enroll("Ada", [good, path])
    for name in ("", "a\nb"):
        with pytest.raises(InputError, match="name: expected printable text"):
            system.enroll(name, [good])
    with pytest.raises(InputError, match="photos: expected at least one, got none"):
        system.enroll("Ada", [])
    assert system.gallery.counts() == Counts(0, 0, 0, 0, 0, 0)


def test_enroll_from_a_photo_known_already_names_the_person_it_was_sorted_to(system, photos):
    paths = [photo(photos / f"{number}.png", 0) for number in range(3)]
    other = photo(photos / "other.png", 1)
    system.index(photos)
    ada = system.enroll("Ada", paths[:1])
    rows = system.gallery.faces(person=ada)
    assert [(row.path, row.enrolled, row.pinned) for row in rows] == [
        (paths[0], True, True),
        (paths[1], False, True),
        (paths[2], False, True),
    ]
    system.enroll("Ada", [other])
    assert system.gallery.counts() == Counts(4, 4, 0, 4, 1, 1)


def test_enroll_takes_one_face_from_those_the_user_placed(system, photos):
    paths = [photo(photos / f"{number}.png", 0) for number in range(4)]
    system.index(photos)
    system.name(person_in(system, "0.png"), "Ada")
    bob = system.enroll("Bob", paths[:1])
    assert [row.path for row in system.gallery.faces(person=bob)] == paths[:1]
    assert len(system.gallery.faces(person=system.gallery.find_person("Ada"))) == 3


def test_a_forgotten_face_is_not_mistaken_for_its_neighbour(system, photos):
    path = photo(photos / "both.png", 0, 1)
    system.index(photos)
    left, _ = system.gallery.faces()
    system.gallery.enroll([left.id], "Ada")
    system.gallery.forget(system.gallery.find_person("Ada"))
    decoded, faces = system._look(path)
    with pytest.raises(GalleryError, match=r"both.png: its face was forgotten; enroll from another photo"):
        system._find(decoded.photo, faces[0])
    assert system._find(decoded.photo, faces[1]) == 2


# Questions


def test_identify_knows_named_people_and_nobody_else(system, photos):
    for number in range(6):
        photo(photos / f"{number}.png", number % 3)
    party = photo(photos.parent / "party.png", 0, 1, 7)
    [*found] = system.identify(party)
    assert [(one.person_id, one.similarity, one.probability, one.false_match_rate) for one in found] == [
        (None,) * 4
    ] * 3
    system.index(photos)
    system.name(person_in(system, "0.png"), "Ada")
    system.name(person_in(system, "1.png"), "Bob")
    ada, bob, stranger = system.identify(party)
    assert [one.person for one in (ada, bob, stranger)] == ["Ada", "Bob", None]
    assert [one.face.person for one in (ada, bob, stranger)] == ["Ada", "Bob", None]
    assert ada.person_id == person_in(system, "0.png")
    assert ada.similarity > 0.9
    assert ada.probability > 0.9 > 0.1 > stranger.probability
    assert ada.false_match_rate <= 1e-3 < stranger.false_match_rate
    assert stranger.person_id is None
    # Each candidate is another chance to err: with two, a rate between one's and both's says no.
    one_candidate = system.calibration.false_match_rate(ada.similarity)
    assert ada.false_match_rate == pytest.approx(2 * one_candidate, rel=1e-3)
    strict = system.identify(party, false_match_rate=1.5 * one_candidate)
    assert strict[0].person is None
    assert strict[0].similarity == ada.similarity
    assert system.identify(photo(photos.parent / "empty.png")) == []


def test_verify_and_search(system, photos):
    for number in range(6):
        photo(photos / f"{number}.png", number % 3)
    system.index(photos)
    one, same, other = (photos / f"{number}.png" for number in (0, 3, 1))
    answer = system.verify(one, same)
    assert (answer.same, [face.photo.path for face in answer.faces]) == (True, [one, same])
    assert answer.similarity > 0.9
    assert not system.verify(one, other).same
    assert system.verify(one, other, false_match_rate=0.999).same
    hits = system.search(one, k=3)
    assert [hit.face.path for hit in hits[:2]] == [one, same]
    assert hits[0].similarity == pytest.approx(1)
    assert hits[0].probability >= hits[1].probability > 0.5 > hits[2].probability
    assert hits[0].false_match_rate <= hits[1].false_match_rate < 0.01 < hits[2].false_match_rate
    assert len(system.search(one, k=50)) == 6


def test_questions_that_make_no_sense(system, photos):
    face, nobody = photo(photos / "face.png", 0), photo(photos / "nobody.png")
    for rate in (0.0, 1.0, -1.0, float("nan")):
        for ask in (
            lambda rate: system.identify(face, false_match_rate=rate),
            lambda rate: system.verify(face, face, false_match_rate=rate),
        ):
            with pytest.raises(InputError, match=r"false_match_rate: expected a rate in \[1e-9, 1\), got"):
                ask(rate)
    with pytest.raises(InputError, match="k: expected at least 1, got 0"):
        system.search(face, k=0)
    for ask in (system.search, lambda path: system.verify(face, path)):
        with pytest.raises(PhotoError, match="nobody.png: expected a face, found none"):
            ask(nobody)
    for ask in (system.search, system.identify, system.analyze, lambda path: system.verify(path, face)):
        with pytest.raises(PhotoError, match="gone.png: file: cannot be read"):
            ask(photos / "gone.png")
    with pytest.raises(InputError, match="workers: expected at least 1, got 0"):
        system.index(photos, workers=0)
    assert system.search(face) == []


def test_analyzing_touches_no_gallery(system, photos):
    path = photo(photos / "two.png", 3, 4)
    before = {file.name: file.stat().st_mtime_ns for file in system.gallery.folder.iterdir()}
    faces = system.analyze(path)
    assert [(face.id, face.person, face.photo.path, face.photo.width_px) for face in faces] == [
        (None, None, path, 192)
    ] * 2
    assert all(face.embedding.dtype == np.float32 for face in faces)
    np.testing.assert_allclose([np.linalg.norm(face.embedding) for face in faces], 1, atol=1e-6)
    assert {file.name: file.stat().st_mtime_ns for file in system.gallery.folder.iterdir()} == before
    assert system.gallery.counts().photos == 0


# People


def test_people_are_found_and_singles_stay_alone(system, photos):
    for name, person in (("a1", 0), ("a2", 0), ("b1", 1), ("b2", 1), ("b3", 1), ("c", 2)):
        photo(photos / f"{name}.png", person)
    system.index(photos, clusters=False)
    report = system.cluster()
    assert (report.people, report.new, report.placed, report.alone) == (2, 2, 5, 1)
    assert people(system) == {frozenset({"a1.png", "a2.png"}), frozenset({"b1.png", "b2.png", "b3.png"})}
    report = system.cluster()
    assert (report.people, report.new, report.placed, report.alone) == (2, 0, 0, 1)
    photo(photos / "c2.png", 2)
    system.index(photos)
    assert frozenset({"c.png", "c2.png"}) in people(system)


def test_new_faces_join_the_people_there(system, photos):
    photo(photos / "a1.png", 0)
    photo(photos / "a2.png", 0)
    system.index(photos)
    number = person_in(system, "a1.png")
    system.name(number, "Ada")
    photo(photos / "a3.png", 0)
    photo(photos / "b.png", 1)
    system.index(photos)
    assert person_in(system, "a3.png") == number
    assert person_in(system, "b.png") is None


def test_what_the_user_said_outlives_sorting(system, photos):
    """A name, a merge, a split and an enrolled face; sorted anew from nothing, and when more photos come."""
    for number in range(4):
        photo(photos / f"named{number}.png", 0)
        photo(photos / f"merged{number}.png", 1 + number % 2)  # two colours, one person
        photo(photos / f"split{number}.png", 3)  # one colour, two people
    system.index(photos)
    system.name(person_in(system, "named0.png"), "Ada")
    system.gallery.merge(person_in(system, "merged0.png"), [person_in(system, "merged1.png")])
    halves = [row.id for row in system.gallery.faces() if row.path.name in ("split0.png", "split1.png")]
    system.gallery.split(halves)
    system.enroll("Bob", [photo(photos / "bob.png", 9)])
    told = {
        frozenset(f"named{number}.png" for number in range(4)),
        frozenset(f"merged{number}.png" for number in range(4)),
        frozenset({"split0.png", "split1.png"}),
        frozenset({"split2.png", "split3.png"}),
        frozenset({"bob.png"}),
    }
    assert people(system) == told
    for _ in range(2):
        system.cluster(fresh=True)
        assert people(system) == told
    photo(photos / "named-later.png", 0)
    photo(photos / "merged-later.png", 2)
    photo(photos / "split-later.png", 3)
    photo(photos / "bob-later.png", 9)
    system.index(photos)
    now = people(system)
    assert len(now) == 5
    for before in told:
        [after] = [group for group in now if before <= group]
        assert len(after) <= len(before) + 1
    assert sum(map(len, now)) == 17
    assert {row.name for row in system.gallery.people()} == {"Ada", "Bob", None}


def test_people_told_apart_stay_apart_also_without_a_name(system, photos):
    for number in range(4):
        photo(photos / f"{number}.png", 0)
    system.index(photos, clusters=False)
    for apart, people_left in ((True, 2), (False, 1)):
        pair = [system.gallery.new_person() for _ in range(2)]
        for place, person in enumerate(pair):
            system.gallery.assign([1 + 2 * place, 2 + 2 * place], person, pinned=False)
        if apart:
            system.gallery.separate(*pair)
        assert system.cluster().people == people_left


def test_what_has_been_sorted_once_counts_as_sorted(system, photos):
    for number in range(3):
        photo(photos / f"{number}.png", 0)
    assert not system.gallery.has_unsorted_faces()
    system.index(photos, clusters=False)
    assert system.gallery.has_unsorted_faces()
    system.gallery.mark_sorted(3)
    system.gallery.mark_sorted(1)  # by a process that began earlier
    assert not system.gallery.has_unsorted_faces()
    photo(photos / "later.png", 1)
    system.index(photos)
    assert not system.gallery.has_unsorted_faces()


def test_sorting_anew_gives_new_people_and_not_the_numbers_of_others(system, photos):
    for number in range(12):
        photo(photos / f"{number}.png", number % 4)
    photo(photos / "single.png", 5)
    system.index(photos)
    before = people(system)
    numbers = {row.id for row in system.gallery.people()}
    for _ in range(3):
        report = system.cluster(fresh=True)
        assert (report.people, report.new, report.alone) == (4, 4, 1)
        assert people(system) == before
        now = {row.id for row in system.gallery.people()}
        assert not now & numbers
        numbers |= now


def test_sorting_starts_again_when_somebody_else_has_sorted_meanwhile(system, photos, squares, monkeypatch):
    for number in range(6):
        photo(photos / f"{number}.png", number % 3)
    system.index(photos, clusters=False)
    calls = []

    def slow_cluster(*arguments, cluster=sys.modules["visavis.face.system"].cluster, **options):
        labels = cluster(*arguments, **options)
        if not calls:
            calls.append(1)
            with FaceSystem.open(system.gallery.folder, pack=squares) as other:
                other.gallery.remove_file(photos / "0.png")
                other.cluster()
        return labels

    monkeypatch.setattr("visavis.face.system.cluster", slow_cluster)
    report = system.cluster()
    assert (report.people, report.alone) == (2, 1)
    assert people(system) == {frozenset({"1.png", "4.png"}), frozenset({"2.png", "5.png"})}


def test_a_name_confirms_the_faces(system, photos):
    photo(photos / "a1.png", 0)
    photo(photos / "a2.png", 0)
    system.index(photos)
    number = person_in(system, "a1.png")
    system.name(number, "Ada")
    assert all(row.pinned for row in system.gallery.faces(person=number))
    with pytest.raises(GalleryError, match="person: expected one of the gallery, got 99"):
        system.name(99, "Bob")
    with pytest.raises(InputError, match="name: expected printable text"):
        system.name(number, " ")


# The five lines


def test_the_five_lines_of_the_design(squares, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, person in (("Photos/a.jpg", 0), ("Photos/b.jpg", 0), ("ada1.jpg", 0), ("ada2.jpg", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo(tmp_path / name, person, quality=95)
    photo(tmp_path / "party.jpg", 0, 1, quality=95)
    faces = FaceSystem.open("family.visavis", pack=squares)
    faces.index("~/Photos")
    faces.enroll("Ada", ["ada1.jpg", "ada2.jpg"])
    assert [one.person for one in faces.identify("party.jpg")] == ["Ada", None]
    assert faces.verify("ada1.jpg", "Photos/b.jpg").same
    assert len(faces.search("ada1.jpg", k=20)) == 4
    assert faces.cluster().people == 1
    assert len(faces.analyze("party.jpg")) == 2
    faces.close()


def test_enroll_names_the_whole_of_a_person_the_user_has_merged(system, photos):
    paths = [photo(photos / f"{number}.png", number // 2) for number in range(4)]
    system.index(photos)
    system.gallery.merge(person_in(system, "0.png"), [person_in(system, "2.png")])
    ada = system.enroll("Ada", paths[:1])
    assert [row.path for row in system.gallery.faces(person=ada)] == paths


def test_a_gallery_is_of_one_detector_and_one_way_to_cut_faces_out(squares, tmp_path):
    text = squares.read_text()
    other = squares.with_name("other.toml")
    with FaceSystem.open(tmp_path / "g", pack=squares) as system:
        model = system.gallery.model
    other.write_text(text.replace('template = "arcface-112"', 'template = "arcface-112"\nflip = true'))
    assert other.read_text() != text
    with pytest.raises(GalleryError, match="expected embeddings of"):
        FaceSystem.open(tmp_path / "g", pack=other)
    assert model.name in text
