import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.face.gallery import FolderGallery
from visavis.face.system import FaceSystem

pytestmark = pytest.mark.usefixtures("in_process")

NAMES = ("ada 1.png", "ada 2.png", "ada\n3.png", "bob 1.png", "bob [red]2.png", "single.png")
WHO = (0, 0, 0, 1, 1, 2)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, person in zip(NAMES, WHO, strict=True):
        photo(folder / name, person)
    return folder


@pytest.fixture
def gallery(tmp_path, squares, monkeypatch):
    """Where the commands look for a gallery, and the pack it is of."""
    monkeypatch.setenv("VISAVIS_GALLERY", str(tmp_path / "family.visavis"))
    monkeypatch.setenv("VISAVIS_PACK", str(squares))
    return tmp_path / "family.visavis"


@pytest.fixture
def indexed(gallery, photos):
    """With ada, 1, and bob, 2, sorted and without a name."""
    with FaceSystem.open(gallery, pack=os.environ["VISAVIS_PACK"]) as system:
        system.index(photos)
    return gallery


@pytest.fixture
def face(capsys):
    """Runs ``visavis face ...`` and returns the exit code with what was printed, as JSON or as text."""

    def run(*arguments):
        code = main(["face", *map(str, arguments)])
        seen = capsys.readouterr()
        assert code in (2, 3) or seen.err == ""  # no progress in a pipe
        if "--json" in arguments and code != 2:
            assert seen.out.count("\n") == 1
            return code, json.loads(seen.out)
        return code, seen.err if code in (2, 3) else seen.out

    return run


# Photos come in


def test_index(face, gallery, photos):
    (photos / "bad\x1b.jpg").write_bytes(b"bad")
    code, value = face("index", photos, "--workers", "1", "--json")
    [skipped] = value.pop("skipped")
    assert skipped["path"] == str(photos / "bad\x1b.jpg")
    assert skipped["reason"].startswith("file: expected a photo")
    counts = {"changed": 0, "known": 0, "removed": 0, "ignored": 0, "kept_missing": []}
    held = {"photos": 6, "faces": 6, "people": 2}
    assert (code, value) == (1, {"added": 6, "unchanged": 0, "faces": 6, "gallery": held, **counts})
    code, text = face("index", photos)
    assert code == 1
    first, second, third = text.splitlines()
    assert first.startswith("0 photos added, 0 changed, 0 moved or copied, 0 removed, 6 unchanged; 0 new faces")
    assert second == "The gallery holds 6 photos with 6 faces of 2 people."
    assert third.startswith(f"skipped {photos}/bad\\x1b.jpg: file: expected a photo")
    (photos / "bad\x1b.jpg").unlink()
    assert face("index", photos)[0] == 0
    for name in NAMES:
        (photos / name).unlink()
    code, text = face("index", photos)
    assert code == 1
    assert f"{photos} is empty but held photos" in text
    assert face("index", photos, "--prune", "--json")[1]["removed"] == 6
    assert gallery.is_dir()


def test_a_real_run_prints_no_progress_in_a_pipe_and_leaves_nothing_behind(gallery, photos, tmp_path):
    command = [sys.executable, "-m", "visavis", "face", "index", photos]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("6 photos added,")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", gallery.name}


def test_enroll_then_identify(face, gallery, photos):
    party = photo(photos / "party.png", 0, 1, 5)
    assert face("enroll", "Ada", photos / "ada 1.png", photos / "ada 2.png", "--json") == (
        0,
        {"person": 1, "name": "Ada", "faces": 2},
    )
    assert face("enroll", "[b]Bob", photos / "bob 1.png") == (0, "[b]Bob, person 2, has 1 faces.\n")
    code, values = face("identify", party, "--json")
    assert code == 0
    assert [(value["person"], value["name"]) for value in values] == [(1, "Ada"), (2, "[b]Bob"), (None, None)]
    assert values[0]["box_xyxy_px"] == [-0.5, -0.5, 31.5, 31.5]
    assert values[0]["photo"] == str(party)
    assert values[0]["probability"] > 0.9 > values[2]["probability"]
    code, text = face("identify", party, photos / "ada\n3.png", photo(photos / "nobody.png"))
    head, *rows = text.splitlines()
    assert head.split() == ["photo", "box", "person", "probability", "strangers", "as", "near"]
    assert [len(rows), "Ada" in rows[0], "[b]Bob" in rows[1], "unknown" in rows[2]] == [5, True, True, True]
    assert f"{photos}/ada\\n3.png  0 0 32 32 " in rows[3]
    assert "no face" in rows[4]
    assert gallery.is_dir()


def test_identify_exits_with_1_when_nobody_is_known(face, indexed, photos):
    code, values = face("identify", photos / "ada 1.png", "--json")
    assert indexed.is_dir()
    assert (code, values[0]["person"], values[0]["probability"]) == (1, None, None)
    assert face("name", "1", "Ada")[0] == 0
    assert face("identify", photos / "single.png")[0] == 1
    assert face("identify", photos / "ada 1.png")[0] == 0
    code, values = face("identify", photos / "ada 1.png", "--false-match-rate", "1e-9", "--json")
    assert (code, values[0]["person"]) == (1, None)


def test_identify_goes_on_when_a_photo_cannot_be_read(gallery, photos, face, capsys):
    assert face("enroll", "Ada", photos / "ada 1.png")[0] == 0
    assert gallery.is_dir()
    asked = [photos / "gone\x1b.png", photos, photos / "ada 2.png"]
    code, (gone, folder, ada) = face("identify", *asked, "--json")
    assert (code, ada["name"]) == (3, "Ada")
    reason = "file: cannot be read (No such file or directory)"
    assert gone == {"photo": str(asked[0]), "error": f"{asked[0]}: {reason}"}
    assert folder["error"] == f"{photos}: file: expected a file, got a folder, pipe or device"
    assert main(["face", "identify", *map(str, asked)]) == 3
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [reason in rows[0], r"gone\x1b.png" in rows[0], "Ada" in rows[2], len(rows)] == [True, True, True, 3]


def test_verify(face, squares, photos):
    same = [photos / "ada 1.png", photos / "ada 2.png"]
    code, value = face("verify", *same, "--pack", squares, "--json")
    assert (code, value["same"], [one["photo"] for one in value["faces"]]) == (0, True, [str(path) for path in same])
    code, text = face("verify", photos / "ada 1.png", photos / "bob 1.png", "--pack", squares)
    assert code == 1
    assert text.startswith("not shown to be the same person: probability ")


def test_search(face, indexed, photos):
    assert indexed.is_dir()
    code, values = face("search", photos / "bob 1.png", "-k", "3", "--json")
    assert code == 0
    assert [Path(value["photo"]).name for value in values[:2]] == ["bob 1.png", NAMES[4]]
    assert [value["person"] for value in values[:2]] == [2, 2]
    code, text = face("search", photos / "bob 1.png")
    assert f"/{NAMES[4]} " in text  # and its [red] is no markup
    assert r"/ada\n3.png " in text
    assert len(text.splitlines()) == 1 + 6


# People


def test_people_names_merges_and_splits(face, indexed):
    assert indexed.is_dir()
    assert face("people", "--json") == (
        0,
        [{"person": 1, "name": None, "faces": 3}, {"person": 2, "name": None, "faces": 2}],
    )
    assert face("name", "1", "Ada", "--json") == (0, {"person": 1, "name": "Ada"})
    assert face("name", "Ada", "Ada L.") == (0, "Person 1 is Ada L..\n")
    code, text = face("people")
    assert [line.split() for line in text.splitlines()] == [
        ["person", "name", "faces"],
        ["1", "Ada", "L.", "3"],
        ["2", "-", "2"],
    ]
    code, values = face("people", "Ada L.", "--json")
    assert {Path(value["photo"]).name for value in values} == set(NAMES[:3])
    assert [value["pinned"] for value in values] == [True] * 3
    numbers = [value["face"] for value in values]
    assert face("split", *numbers[:2], numbers[0], "--json") == (0, {"person": 3, "faces": 2})
    assert face("merge", "Ada L.", "3", "--json") == (0, {"person": 1, "faces": 3})
    assert face("name", "2", "7") == (0, "Person 2 is 7.\n")
    assert face("merge", "7", "Ada L.") == (0, "Person 2 has 5 faces now.\n")  # a name goes before a number
    code, value = face("cluster", "--json")
    assert (code, value) == (0, {"people": 1, "new": 0, "placed": 0, "alone": 1})
    code, text = face("cluster", "--fresh")
    assert text == "1 people, 0 of them new; 0 faces placed, 1 alone.\n"


def test_what_needs_no_models_works_without_them(face, indexed, tmp_path, monkeypatch):
    monkeypatch.delenv("VISAVIS_PACK")
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "none"))
    for arguments in (["people"], ["name", 1, "Ada"], ["export", tmp_path / "file"], ["forget", "Ada", "--yes"]):
        assert face(*arguments)[0] == 0
    code, told = face("cluster")
    assert code == 3
    assert "expected a gallery of a known pack, got one of square-embedder" in told
    assert indexed.is_dir()
    assert not (tmp_path / "none").exists()


def test_forget_asks(face, indexed, monkeypatch, capsys):
    code, told = face("forget", "1")
    assert code == 2
    assert "--yes" in told
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, expected in ((False, 1), (True, 0)):
        monkeypatch.setattr("typer.confirm", confirming(answer))
        assert main(["face", "forget", "1"]) == expected
        with FolderGallery.open(indexed) as gallery:
            assert len(gallery.people()) == 2 - answer
    told = capsys.readouterr().out
    assert told.startswith("Deleted person 1: 3 faces, 0 names, 0 entries of the log, 0 uploads.\nLooked through ")
    assert told.count(": nothing of it is left.\nStill shown in ") == 1
    assert told.count("Still shown in ") == 3


def confirming(answer):
    import typer

    def confirm(text, *, abort, err):
        assert (text, abort, err) == ("Delete all that is held of person 1?", True, True)
        if not answer:
            raise typer.Abort
        return True

    return confirm


def test_forgotten_people_do_not_come_back(face, indexed, photos):
    assert face("name", "1", "Ada Lovelace")[0] == 0
    code, proof = face("forget", "Ada Lovelace", "--yes", "--json")
    assert (code, proof["person"], proof["faces"], proof["names"], proof["traces"]) == (0, 1, 3, 1, 0)
    assert sorted(proof["photos"]) == sorted(str(photos / name) for name in NAMES[:3])
    assert face("index", photos, "--json")[1]["gallery"] == {"photos": 6, "faces": 3, "people": 1}
    for file in indexed.rglob("*"):
        assert not file.is_file() or b"Ada Lovelace" not in file.read_bytes()


def test_export_and_import(face, indexed, tmp_path, photos):
    face("name", "1", "Ada")
    code, value = face("export", tmp_path / "family.zip", "--json")
    size = (tmp_path / "family.zip").stat().st_size
    assert (code, value) == (0, {"file": str(tmp_path / "family.zip"), "photos": 6, "faces": 6, "bytes": size})
    assert indexed.is_dir()
    other = ["--gallery", tmp_path / "other.visavis"]
    assert face("import", tmp_path / "family.zip", *other, "--json") == (0, {"photos": 6, "faces": 6, "people": 2})
    assert face("import", tmp_path / "family.zip", *other) == (0, "Took in 0 photos with 0 faces.\n")
    assert face("people", "--json", *other) == face("people", "--json")
    assert face("index", photos, "--json", *other)[1]["unchanged"] == 6
    (tmp_path / "family.zip").write_bytes(b"no export")
    code, value = face("import", tmp_path / "family.zip", *other, "--json")
    assert (code, value["error"]["type"]) == (3, "GalleryError")


def test_report_and_demo(face, indexed, photos, tmp_path, squares):
    (photos / "bad.jpg").write_bytes(b"bad")
    face("index", photos)
    assert indexed.is_dir()
    assert face("report", tmp_path / "people.html") == (0, f"{tmp_path}/people.html\n")
    assert "bad.jpg" in (tmp_path / "people.html").read_text(encoding="utf-8")
    assert face("report", tmp_path / "people.PNG", "--json") == (0, {"file": f"{tmp_path}/people.PNG"})
    with Image.open(tmp_path / "people.PNG") as sheet:
        assert sheet.format == "PNG"
    assert face("report", tmp_path / "nowhere" / "people.html")[0] == 3
    code, value = face("demo", photos, "--output", tmp_path / "out", "--pack", squares, "--json")
    assert (code, value["photos_added"], value["skipped"], value["people"]) == (0, 6, 1, 2)
    assert len(value["identified_in"]) == 2
    code, text = face("demo", photos, "--output", tmp_path / "out", "--pack", squares)
    first, second, page, picture = text.splitlines()
    assert first == "0 photos added, 6 known already, 1 files skipped; 2 people."
    assert second.startswith("Somebody, named from ")
    assert (page, picture) == (f"page:    {tmp_path}/out/report.html", f"picture: {tmp_path}/out/contact-sheet.png")


# What goes wrong


QUESTIONS = [
    ["identify", "a.png"],
    ["search", "a.png"],
    ["cluster"],
    ["people"],
    ["people", "Ada"],
    ["name", "1", "Ada"],
    ["merge", "1", "2"],
    ["split", "1"],
    ["forget", "1", "--yes"],
    ["export", "file"],
    ["report", "file.html"],
]


@pytest.mark.parametrize("arguments", QUESTIONS, ids=" ".join)
@pytest.mark.parametrize("folder", [False, True])
def test_a_question_makes_no_gallery(face, gallery, arguments, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if folder:
        gallery.mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, value = face(*arguments, "--json")
    assert (code, value["error"]["type"]) == (3, "GalleryError")
    assert f"{gallery}: expected a gallery, " in value["error"]["message"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["identify", "PHOTOS/ada 1.png", "--false-match-rate", "2"], "false_match_rate: expected a rate in [1e-9, 1)"),
        (["verify", "PHOTOS/ada 1.png", "PHOTOS/ada 2.png", "--false-match-rate", "0"], "false_match_rate: expected"),
        (["verify", "PHOTOS/ada 1.png", "PHOTOS/ada 2.png", "--pack", "slow"], "pack: expected default, fast or"),
        (["search", "PHOTOS/none.png"], "none.png: expected a face, found none"),
        (["enroll", "Ada", "PHOTOS/none.png"], "none.png: expected a face, found none"),
        (["enroll", " ", "PHOTOS/ada 1.png"], "name: expected printable text, got ' '"),
        (["people", "Nobody"], "person: expected a name or number that `visavis face people` shows, got 'Nobody'"),
        (["name", "99", "Ada"], "person: expected a name or number that `visavis face people` shows, got '99'"),
        (["name", "1", "a\x1b"], "name: expected printable text, got 'a\\x1b'"),
        (["forget", "--yes", "Nobody"], "person: expected a name or number"),
        (["split", "1", "4"], "face_ids: expected faces of one person, got others"),
        (["split", "1", "2", "3"], "face_ids: expected some of the person's faces, got all 3"),
        (["index", "PHOTOS/nowhere"], "folder: expected one that exists, got"),
        (["index", "PHOTOS", "--pack", "default"], "expected embeddings of dlib-resnet-v1"),
        (["import", "PHOTOS/ada 1.png"], "expected a gallery's export, whole"),
        (["import", "PHOTOS/gone"], "expected a gallery's export, whole"),
        (["export", "PHOTOS/nowhere/file"], "No such file or directory"),
        (["demo", "PHOTOS/nowhere"], "photos: expected a folder, got"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_used_exits_with_3(face, indexed, photos, arguments, message):
    photo(photos / "none.png")
    before = FolderGallery.open(indexed).counts()
    arguments = [text.replace("PHOTOS", str(photos)) for text in arguments]
    if arguments[0] == "verify" and "--pack" not in arguments:
        arguments += ["--pack", os.environ["VISAVIS_PACK"]]
    code, told = face(*arguments)
    assert code == 3
    assert told.startswith("visavis: ")
    assert told.count("\n") == 1
    assert message in told
    assert FolderGallery.open(indexed).counts() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["index", ".", "--workers", "0"],
        ["search", "a.png", "-k", "0"],
        ["identify"],
        ["identify", "a.png", "--false-match-rate", "often"],
        ["split", "one"],
        ["forget"],
        ["nope"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2(face, gallery, arguments):
    code, told = face(*arguments)
    assert code == 2
    assert "Usage: visavis face" in told
    assert not gallery.exists()


def test_without_a_name_the_gallery_is_in_the_data_folder(face, gallery, photos, tmp_path, monkeypatch):
    monkeypatch.delenv("VISAVIS_GALLERY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # of Linux; elsewhere the home folder decides
    monkeypatch.setenv("HOME", str(tmp_path))
    assert face("index", photos)[0] == 0
    assert len(face("people", "--json")[1]) == 2
    assert not gallery.exists()
    [made] = tmp_path.rglob("faces.visavis")
    shutil.rmtree(made)
    assert face("people")[0] == 3
