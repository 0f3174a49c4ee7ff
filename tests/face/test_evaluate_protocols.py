"""Data sets as they lie on disk, small ones made here; nothing is decoded."""

import re

import numpy as np
import pytest

from tests.conftest import shared
from visavis.errors import InputError
from visavis.face.evaluate import read_groups, read_protocol

JPEG = b"\xff\xd8\xff\xe0"


def touch(path, content=JPEG):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def named(protocol, rows):
    return [tuple(protocol.photos[row].name for row in pair) for pair in rows.tolist()]


# LFW

PAIRS = """2\t1
Ada\t1\t2
Bob\t1\tCat\t1
Bob\t1\t2
Ada\t2\tBob\t2
"""


def lfw(folder, photos="lfw_funneled", suffix=".jpg", text=PAIRS):
    for name in ("Ada", "Bob"):
        for number in (1, 2):
            touch(folder / photos / name / f"{name}_{number:04d}{suffix}")
    touch(folder / photos / "Cat" / f"Cat_0001{suffix}")
    touch(folder / "pairs.txt", text.encode())
    return folder


@pytest.mark.parametrize("photos", [".", "lfw", "lfw-deepfunneled/lfw-deepfunneled"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_lfw(tmp_path, photos, suffix):
    protocol = read_protocol(lfw(tmp_path, photos, suffix))
    assert protocol.kind == "lfw"
    [pairs] = protocol.pairs
    assert pairs.name == "LFW"
    assert [tuple(name.split(".")[0] for name in pair) for pair in named(protocol, pairs.rows)] == [
        ("Ada_0001", "Ada_0002"),
        ("Bob_0001", "Cat_0001"),
        ("Bob_0001", "Bob_0002"),
        ("Ada_0002", "Bob_0002"),
    ]
    people = np.array(protocol.people)[pairs.rows]
    assert (people[:, 0] == people[:, 1]).tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    assert len(protocol.photos) == 5  # each once
    assert protocol.searches == []


def test_a_list_of_one_fold_has_the_number_of_pairs_for_its_header(tmp_path):
    lfw(tmp_path)
    rows = PAIRS.splitlines()
    file = touch(tmp_path / "pairsDevTest.txt", "\n".join(["2", rows[1], rows[3], rows[2], rows[4]]).encode())
    protocol = read_protocol(file)
    [pairs] = protocol.pairs
    assert (protocol.kind, pairs.name, pairs.folds) == ("lfw", "pairsDevTest", None)
    people = np.array(protocol.people)[pairs.rows]
    assert (people[:, 0] == people[:, 1]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("2\t1\n", "two folds\n"), "pairs.txt:1: expected the number of folds and of pairs in each, .* 'two folds'"),
        (("2\t1\n", "10\t300\n"), "pairs.txt: expected 6000 pairs after its header, got 4"),
        (("Ada\t1\t2\n", "Ada\t1\tBob\t2\n"), "pairs.txt:2: expected NAME NUMBER NUMBER, got 'Ada 1 Bob 2'"),
        (("Bob\t1\tCat\t1\n", "Bob\t1\tBob\t2\n"), "pairs.txt:3: expected NAME NUMBER NAME NUMBER"),
        (("Ada\t1\t2\n", "../Ada\t1\t2\n"), "pairs.txt:2: expected NAME NUMBER NUMBER, got '../Ada 1 2'"),
        (("Ada\t1\t2\n", "Ada\tx\t2\n"), "pairs.txt:2: expected NAME NUMBER NUMBER, got 'Ada x 2'"),
        (("Ada\t1\t2\n", "Ada\t1\t9\n"), r"pairs.txt: expected its 6 photos, got 1 missing: Ada/Ada_0009.jpg; put the"),
        ((PAIRS, ""), "pairs.txt:1: expected the number of folds"),
    ],
)
def test_a_list_of_lfw_that_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_protocol(lfw(tmp_path, text=PAIRS.replace(*change)))


def test_lfw_without_photos_says_where_to_put_them(tmp_path):
    touch(tmp_path / "pairs.txt", PAIRS.encode())
    with pytest.raises(
        InputError, match=r"got 5 missing: Ada/Ada_0001.jpg, .*, \.\.\.; put the folder of photos beside"
    ):
        read_protocol(tmp_path)


# CFP


def cfp(folder):
    """Two people with two frontal photos and a profile each; one fold."""
    lists = {"F": [], "P": []}
    for person in ("001", "002"):
        for letter, kind, count in (("F", "frontal", 2), ("P", "profile", 1)):
            for number in range(1, count + 1):
                name = f"Data/Images/{person}/{kind}/{number:02d}.jpg"
                touch(folder / name)
                lists[letter].append(f"{len(lists[letter]) + 1} ../{name}")
    for letter, lines in lists.items():
        touch(folder / "Protocol" / f"Pair_list_{letter}.txt", "\n".join(lines).encode())
    for name, same, diff in (("FF", "1,2\n3,4", "1,3\n2,4"), ("FP", "1,1\n3,2", "1,2\n3,1")):
        for fold in ("01", "02"):
            touch(folder / "Protocol" / "Split" / name / fold / "same.txt", same.encode())
            touch(folder / "Protocol" / "Split" / name / fold / "diff.txt", diff.encode())
    return folder


def test_cfp(tmp_path):
    protocol = read_protocol(cfp(tmp_path))
    assert protocol.kind == "cfp"
    places = ["/".join(path.parts[-3:]) for path in protocol.photos]
    assert places[:2] == ["001/frontal/01.jpg", "001/frontal/02.jpg"]
    assert places[4:] == ["001/profile/01.jpg", "002/profile/01.jpg"]
    assert protocol.people == ["001", "001", "002", "002", "001", "002"]
    frontal, profile = protocol.pairs
    assert (frontal.name, profile.name) == ("FF", "FP")
    assert frontal.rows.tolist() == [[0, 1], [2, 3], [0, 2], [1, 3]] * 2
    assert profile.rows.tolist() == [[0, 4], [2, 5], [0, 5], [2, 4]] * 2
    assert profile.folds.tolist() == [1] * 4 + [2] * 4
    by_name = {search.name: search for search in protocol.searches}
    assert by_name["frontal"].gallery.tolist() == by_name["profile"].gallery.tolist() == [0, 2]
    assert by_name["frontal"].probes.tolist() == [1, 3]
    assert by_name["profile"].probes.tolist() == [4, 5]
    assert by_name["profile"].known.tolist() == [0]


def test_cfp_that_is_not_whole_is_refused(tmp_path):
    cfp(tmp_path)
    (tmp_path / "Data" / "Images" / "002" / "frontal" / "01.jpg").unlink()
    with pytest.raises(
        InputError, match="got 1 missing: .*002/frontal/01.jpg; unpack CFP's Data and Protocol into one"
    ):
        read_protocol(tmp_path)
    touch(tmp_path / "Data" / "Images" / "002" / "frontal" / "01.jpg")
    touch(tmp_path / "Protocol" / "Split" / "FP" / "01" / "same.txt", b"1,99")
    with pytest.raises(InputError, match="Protocol/Split/FP: expected pairs of the 6 photos listed"):
        read_protocol(tmp_path)
    touch(tmp_path / "Protocol" / "Split" / "FP" / "01" / "same.txt", b"1;2")
    with pytest.raises(InputError, match="FP/01/same.txt: expected NUMBER,NUMBER, got '1;2'"):
        read_protocol(tmp_path)
    with pytest.raises(InputError, match=r"Pair_list_F.txt: expected a list of CFP's photos, got none"):
        read_protocol(tmp_path / "Data", kind="cfp")


def test_the_real_cfp():
    protocol = read_protocol(shared("data", "cfp"))
    assert (len(protocol.photos), len(set(protocol.people))) == (7000, 500)
    for pairs in protocol.pairs:
        people = np.array(protocol.people)[pairs.rows]
        same = people[:, 0] == people[:, 1]
        assert np.bincount(pairs.folds, same).tolist() == [0] + [350] * 10
        assert np.bincount(pairs.folds, ~same).tolist() == [0] + [350] * 10
        # No person is in two folds: what makes the folds independent.
        assert all(len(set(pairs.folds[(people == name).any(axis=1)])) == 1 for name in set(protocol.people[::50]))
    assert [len(search.probes) for search in protocol.searches] == [4500, 2000]
    assert [len(search.known) for search in protocol.searches] == [250, 250]


# IJB


def templates(folder, rows, head="template,person,media,path"):
    for row in rows:
        touch(folder / row.split(",")[3])
    return touch(folder / "templates.csv", "\n".join([head, *rows]).encode())


ROWS = ["t1,ada,v1,a/1.jpg", "t1,ada,v1,a/2.jpg", "t1,ada,s,a/3.jpg", "t2,ada,s,a/3.jpg", "t3,bob,s2,b.jpg"]


@pytest.mark.parametrize("whole_folder", [True, False])
def test_ijb(tmp_path, whole_folder):
    file = templates(tmp_path, ROWS)
    protocol = read_protocol(tmp_path if whole_folder else file)
    assert protocol.kind == "ijb"
    assert protocol.people == ["ada", "ada", "bob"]
    assert protocol.templates.tolist() == [0, 0, 0, 1, 2]
    assert protocol.media.tolist() == [0, 0, 1, 1, 2]
    assert protocol.photos[2] == protocol.photos[3] == tmp_path / "a" / "3.jpg"
    assert sorted(map(tuple, protocol.pairs[0].rows.tolist())) == [(0, 1), (0, 2), (1, 2)]
    [search] = protocol.searches
    assert (search.gallery.tolist(), search.probes.tolist(), len(search.known)) == ([0, 2], [1], 1)


def test_templates_that_do_not_fit_are_refused(tmp_path):
    file = templates(tmp_path, [*ROWS, "t3,ada,s3,b.jpg"])
    with pytest.raises(InputError, match="templates.csv:7: expected one person in template 't3', got two"):
        read_protocol(file)
    templates(tmp_path, ROWS, head="template,person,frame,path")
    with pytest.raises(InputError, match="templates.csv:1: expected the columns media, path, person, template, got"):
        read_protocol(file)
    templates(tmp_path, ["t1,ada,,a/1.jpg"])
    with pytest.raises(InputError, match="templates.csv:2: expected a value in every column"):
        read_protocol(file)
    templates(tmp_path, [])
    with pytest.raises(InputError, match="templates.csv: expected a row or more below the columns"):
        read_protocol(file)
    templates(tmp_path, ROWS)
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(InputError, match="expected its 5 photos, got 1 missing: b.jpg; its paths are relative to"):
        read_protocol(file)
    touch(file, b"\xff\xfe\x00")
    with pytest.raises(InputError, match="templates.csv: expected a CSV, got none"):
        read_protocol(file)


# Any folder


def people_folder(folder, **counts):
    for name, count in counts.items():
        for number in range(count):
            touch(folder / name / f"{number}.jpg")
    return folder


def test_a_folder_of_people(tmp_path):
    people_folder(tmp_path, bob=2, ada=3)
    touch(tmp_path / "README", b"about")
    touch(tmp_path / "ada" / "notes.txt", b"not a photo")
    touch(tmp_path / "ada" / ".hidden.jpg")
    touch(tmp_path / "ada" / "no suffix")
    touch(tmp_path / "ada" / "broken.jpg", b"")  # named like a photo: it gives no face
    (tmp_path / ".trash").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bob" / "profile").mkdir()
    (tmp_path / "bob" / "1.jpg").rename(tmp_path / "bob" / "profile" / "1.jpg")
    protocol = read_protocol(tmp_path)
    assert protocol.kind == "folder"
    names = [str(path.relative_to(tmp_path)) for path in protocol.photos]
    ada = [f"ada/{name}" for name in ("0.jpg", "1.jpg", "2.jpg", "broken.jpg", "no suffix")]
    assert names == [*ada, "bob/0.jpg", "bob/profile/1.jpg"]
    assert protocol.people == ["ada"] * 5 + ["bob"] * 2
    assert len(protocol.pairs[0].rows) == 21
    [search] = protocol.searches
    assert search.gallery.tolist() == [0, 5]
    assert search.probes.tolist() == [1, 2, 3, 4, 6]


def test_a_large_folder_is_sampled_by_seed(tmp_path):
    people_folder(tmp_path, **{f"p{number}": 4 for number in range(10)})
    first, again, other = (read_protocol(tmp_path, max_pairs=30, seed=seed).pairs[0].rows for seed in (1, 1, 2))
    assert first.shape == (60, 2)
    assert (first == again).all()
    assert (first != other).any()
    known = [tuple(read_protocol(tmp_path, seed=seed).searches[0].known) for seed in range(5)]
    assert {len(rows) for rows in known} == {5}
    assert len(set(known)) > 1


@pytest.mark.parametrize(("people", "count"), [({"ada": 5}, 1), ({}, 0)])
def test_a_folder_of_one_person_says_what_to_do(tmp_path, people, count):
    people_folder(tmp_path, **people)
    with pytest.raises(
        InputError, match=f"expected a sub-folder of photos for each of two people or more, got {count} "
    ):
        read_protocol(tmp_path)


def test_a_folder_of_single_photos_is_refused(tmp_path):
    with pytest.raises(InputError, match="people: expected one with two faces or more, got one face each"):
        read_protocol(people_folder(tmp_path, ada=1, bob=1))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=re.escape(f"data: expected a folder or file that exists, got '{tmp_path}/no'")
    ):
        read_protocol(tmp_path / "no")


# Groups


def test_groups(tmp_path):
    file = touch(tmp_path / "groups.csv", b"\xef\xbb\xbfperson,age,group\nada,30,a\nbob,40,b\nada,30,a\nzoe,1,a\n")
    assert read_groups(file, ["bob", "ada", "cat", "ada"]) == {"bob": "b", "ada": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person,group\nada,a\nada,b\n", "groups.csv:3: expected one group for 'ada', got another before"),
        (
            "person,group\nzoe,a\n",
            "groups.csv: expected people of the data, such as 'ada', got only others, such as 'zoe'",
        ),
        ("name,group\nada,a\n", "groups.csv:1: expected the columns group, person"),
        ("person,group\nada,\n", "groups.csv:2: expected a value in every column"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_groups(touch(tmp_path / "groups.csv", text.encode()), ["ada", "bob"])
