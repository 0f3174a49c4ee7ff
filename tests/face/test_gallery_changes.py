"""Undo: after any change of people the gallery is, row for row, what it was."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.face.small_gallery import MODEL, add, gallery
from visavis.errors import GalleryError
from visavis.face.gallery import FolderGallery
from visavis.face.gallery.changes import difference

__all__ = ["gallery"]  # a fixture

NAMES = ("Ada", "Bob", "Eve")


def rows(gallery):
    """All that a user can change, read without the code under test."""
    database = gallery._database
    tables = ("SELECT id, person_id, pinned, enrolled FROM face", "SELECT * FROM name", "SELECT * FROM separate")
    return [sorted(database.rows(table)) for table in (*tables, "SELECT id FROM person")]


def changed(gallery, people, change, faces=()):
    """Do it; both states, as short as they are kept."""
    before = gallery.people_state(people, faces=faces)
    new = change()
    after = gallery.people_state([*people, *([] if new is None else [new])], faces=faces)
    return difference(before, after)


@pytest.fixture
def four(gallery):
    """Four people of three faces each, one with a name, and a face of nobody."""
    for number in range(4):
        person = gallery.new_person()
        gallery.assign(add(gallery, number, *range(10 * number, 10 * number + 3)), person, pinned=False)
    add(gallery, 9, 90)
    gallery.name(1, "Ada")
    gallery.separate(2, 3)
    gallery.separate(1, 4)
    return gallery


@pytest.mark.parametrize(
    ("people", "change", "faces"),
    [
        ([2], lambda g: g.name(2, "Bob"), ()),
        ([1], lambda g: g.name(1, "Bob"), ()),
        ([2, 3], lambda g: g.merge(2, [3]), ()),
        ([1, 2, 3], lambda g: g.merge(2, [3, 1]), ()),
        ([1], lambda g: g.split([1]), ()),
        ([2, 4], lambda g: g.separate(2, 4), ()),
        ([2, 3], lambda g: g.separate(2, 3), ()),
        ([1, 2], lambda g: g.assign([4, 5, 6], 1, pinned=True) and None, ()),
        ([1], lambda g: g.assign([13], 1, pinned=True) and None, [13]),
    ],
    ids=["name", "rename", "merge", "merge with a name", "split", "separate", "nothing", "all to another", "of nobody"],
)
def test_undo_restores_every_row(four, people, change, faces):
    was = rows(four)
    states = changed(four, people, lambda: change(four), faces)
    four.restore(*states)
    assert rows(four) == was


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changes_are_undone_one_after_another(tmp_path_factory, data):
    with FolderGallery.open(tmp_path_factory.mktemp("undo") / "g", model=MODEL) as four:
        for number in range(4):
            person = four.new_person()
            four.assign(add(four, number, *range(10 * number, 10 * number + 3)), person, pinned=False)
        done = []
        for _ in range(data.draw(st.integers(1, 6))):
            people = [row.id for row in four.people()]
            one, other = data.draw(st.sampled_from(people)), data.draw(st.sampled_from(people))
            mine = [face.id for face in four.faces(person=one)]
            chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, unique=True)) if mine else []
            name = data.draw(st.sampled_from(NAMES))
            change = data.draw(
                st.sampled_from(
                    [
                        lambda: four.name(one, name),  # noqa: B023  called before the next round
                        lambda: four.merge(one, [other]),  # noqa: B023
                        lambda: four.separate(one, other),  # noqa: B023
                        lambda: four.split(chosen),  # noqa: B023
                        lambda: four.assign(chosen, other, pinned=True) and None,  # noqa: B023
                    ]
                )
            )
            was = rows(four)
            with contextlib.suppress(GalleryError, ValueError):  # a name that is taken, all faces, nobody else
                done.append((was, changed(four, {one, other}, change)))
        for was, states in reversed(done):
            four.restore(*states)
            assert rows(four) == was


@pytest.mark.parametrize(
    "later",
    [
        lambda g: g.name(2, "Bob"),
        lambda g: g.assign([4], 4, pinned=True),
        lambda g: g.merge(4, [2]),
    ],
    ids=["another name", "a face moved", "merged away"],
)
def test_what_was_changed_again_is_left_as_it_is(four, later):
    states = changed(four, [2, 3], lambda: four.merge(2, [3]))
    later(four)
    now = rows(four)
    with pytest.raises(GalleryError, match="undo: expected what was changed to be as it was left, but"):
        four.restore(*states)
    assert rows(four) == now


def test_a_new_person_whom_others_have_joined_is_not_undone(four):
    states = changed(four, [1], lambda: four.split([1]))
    four.assign([13], 5, pinned=False)
    with pytest.raises(GalleryError, match="undo: expected what was changed"):
        four.restore(*states)


def test_a_name_that_somebody_else_got_is_not_taken_back(four):
    states = changed(four, [1], lambda: four.name(1, "Countess"))
    four.name(2, "Ada")
    with pytest.raises(GalleryError, match="undo: expected what was changed"):
        four.restore(*states)


def test_faces_deleted_since_stay_deleted(four):
    states = changed(four, [2, 3], lambda: four.merge(2, [3]))
    four.remove_file(next(row.path for row in four.files() if row.path.name == "2.jpg"))
    four.restore(*states)
    assert [(row.id, row.faces) for row in four.people()] == [(1, 3), (2, 3), (4, 3)]


def test_faces_that_came_since_stay_where_they_are(four):
    states = changed(four, [2, 3], lambda: four.merge(2, [3]))
    four.assign([13], 2, pinned=False)
    four.restore(*states)
    assert {row.id: row.faces for row in four.people()} == {1: 3, 2: 4, 3: 3, 4: 3}
