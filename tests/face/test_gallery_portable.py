import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.face.small_gallery import DIM, JPEG, MODEL, add, contents, gallery, unit
from visavis.errors import GalleryError
from visavis.face.gallery import Counts, FolderGallery, Imported

__all__ = ["gallery"]  # a fixture


# Export and import


@pytest.fixture
def export(gallery, tmp_path):
    """An export with two copies of a photo, a named person, an unnamed one, a separation, a skipped file."""
    first = add(gallery, 1, 11, 12)
    second = add(gallery, 2, 21, 22, 23)
    add(gallery, 1, path="/photos/copy.jpg")
    gallery.add_skipped(Path("/photos/x.txt"), 1, 1, "no photo")
    ada = gallery.enroll([first[0], second[0]], "Ada")
    cluster = gallery.new_person()
    gallery.assign([first[1], second[1]], cluster, pinned=False)
    gallery.separate(ada, cluster)
    gallery.export_to(tmp_path / "export.zip")
    return tmp_path / "export.zip"


def test_import_into_a_new_gallery_restores_all_but_skipped_files(gallery, export, tmp_path):
    with FolderGallery.open(tmp_path / "h", model=MODEL) as other:
        assert other.import_from(export) == Imported(photos=2, faces=5, people=2)
        assert other.counts() == Counts(2, 3, 0, 5, 2, 1)
        for mine, theirs in zip(gallery.faces(), other.faces(), strict=True):
            assert (mine.person, mine.pinned, mine.enrolled) == (theirs.person, theirs.pinned, theirs.enrolled)
            assert (mine.quality, mine.residual_px) == (theirs.quality, theirs.residual_px)
            assert gallery.thumbnail(mine.id) == other.thumbnail(theirs.id)
            assert mine.path == theirs.path
        other.export_to(tmp_path / "again.zip")
        with zipfile.ZipFile(export) as first, zipfile.ZipFile(tmp_path / "again.zip") as second:
            [photo, _] = map(json.loads, second.read("photos.jsonl").splitlines())
            assert (photo["width_px"], photo["height_px"], photo["taken_at"]) == (640, 480, "2020-01-02T03:04:05")
            assert first.read("photos.jsonl") == second.read("photos.jsonl")
        assert contents(gallery)[3] == contents(other)[3]
        assert len(other.separated()) == 1
        before = contents(other)
        assert other.import_from(export) == Imported(0, 0, 0)
        assert contents(other) == before


def test_import_joins_people_of_one_name_and_leaves_known_content(export, tmp_path):
    with FolderGallery.open(tmp_path / "h", model=MODEL) as other:
        [known] = add(other, 1, 11)
        ada = other.enroll([known], "Ada")
        assert other.import_from(export) == Imported(photos=1, faces=3, people=1)
        assert len(other.faces(person=ada)) == 2
        assert other.counts() == Counts(2, 3, 0, 4, 2, 1)


def test_import_brings_back_the_faces_a_photo_lacks(gallery, tmp_path):
    ids = add(gallery, 1, 1, 40, 80)
    gallery.enroll(ids[:1], "Ada")
    gallery.export_to(tmp_path / "export.zip")
    before = gallery.counts()
    gallery.remove_file(Path("/photos/1.jpg"))
    assert gallery.import_from(tmp_path / "export.zip") == Imported(photos=0, faces=2, people=0)
    assert gallery.has_content(f"{1:064x}")
    assert gallery.counts() == before
    assert gallery.faces()[0].id == ids[0]
    assert {row.path for row in gallery.faces()} == {Path("/photos/1.jpg")}


def rewrite(source: Path, target: Path, change) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, data in change(members).items():
            new.writestr(name, data)


def with_field(member: str, line: int, key: str, value: object):
    def change(members):
        lines = members[member].splitlines()
        record = json.loads(lines[line])
        record[key] = value
        lines[line] = json.dumps(record).encode()
        return {**members, member: b"\n".join(lines) + b"\n"}

    return change


def npy(array) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


MALFORMED = {
    "a member missing": lambda m: {k: v for k, v in m.items() if k != "people.jsonl"},
    "a member too many": lambda m: {**m, "../../etc/passwd": b"x"},
    "no JSON": lambda m: {**m, "photos.jsonl": b"{"},
    "deep JSON": lambda m: {**m, "photos.jsonl": b"[" * 500_000},
    "an endless line": lambda m: {**m, "photos.jsonl": b" " * 2_000_000},
    "not an object": lambda m: {**m, "faces.jsonl": b"[]\n"},
    "no manifest": lambda m: {**m, "manifest.json": b""},
    "a newer version": with_field("manifest.json", 0, "version", 2),
    "another model": with_field("manifest.json", 0, "model", {"name": "x", "sha256": "ab" * 32, "dim": DIM}),
    "a hash that is none": with_field("photos.jsonl", 0, "sha256", "../x"),
    "a path with NUL": with_field("photos.jsonl", 0, "files", [["/a\0b", 1, 1]]),
    "a path that is no path": with_field("photos.jsonl", 0, "files", [["\ud800", 1, 1]]),
    "a file without size": with_field("photos.jsonl", 0, "files", [["/a", 1]]),
    "a size too large": with_field("photos.jsonl", 0, "files", [["/a", 2**70, 1]]),
    "a file of a photo in part": with_field("photos.jsonl", 0, "partial", True),
    "a time that is none": with_field("photos.jsonl", 0, "taken_at", "yesterday"),
    "a width of zero": with_field("photos.jsonl", 0, "width_px", 0),
    "true for a number": with_field("photos.jsonl", 0, "width_px", True),
    "a name with a newline": with_field("people.jsonl", 0, "name", "a\nb"),
    "a face of no photo": with_field("faces.jsonl", 4, "photo", 99),
    "a face of no person": with_field("faces.jsonl", 4, "person", 99),
    "a score of NaN": with_field("faces.jsonl", 4, "score", float("nan")),
    "a box of three": with_field("faces.jsonl", 4, "box", [1, 2, 3]),
    "a box of text": with_field("faces.jsonl", 4, "box", ["a", 2, 3, 4]),
    "a box of lists": with_field("faces.jsonl", 4, "box", [[1], [2], [3], [4]]),
    "a box out of all range": with_field("faces.jsonl", 4, "box", [1, 2, 3, 10**400]),
    "an infinite box": with_field("faces.jsonl", 4, "box", [1.0, 2.0, 3.0, float("inf")]),
    "a thumbnail that is no JPEG": lambda m: {**m, "thumbnails.bin": m["thumbnails.bin"].replace(JPEG, b"<svg")},
    "a thumbnail too long": with_field("faces.jsonl", 4, "thumbnail_bytes", 10_000),
    "a thumbnail too short": with_field("faces.jsonl", 4, "thumbnail_bytes", 10),
    "a negative thumbnail": with_field("faces.jsonl", 4, "thumbnail_bytes", -1),
    "a face too few": lambda m: {**m, "faces.jsonl": m["faces.jsonl"][: m["faces.jsonl"][:-1].rindex(b"\n") + 1]},
    "bytes too many": lambda m: {**m, "thumbnails.bin": m["thumbnails.bin"] + b"x"},
    "a pickle": lambda m: {**m, "embeddings.npy": npy(np.array([{"a": 1}], object))},
    "float64": lambda m: {**m, "embeddings.npy": npy(np.zeros((5, DIM)))},
    "Fortran order": lambda m: {**m, "embeddings.npy": npy(np.asfortranarray(np.zeros((5, DIM), np.float32)))},
    "embeddings not of unit length": lambda m: {**m, "embeddings.npy": npy(np.zeros((5, DIM), np.float32))},
    "a claim of terabytes": lambda m: {
        **m,
        "embeddings.npy": m["embeddings.npy"].replace(b"(5, 32), }" + b" " * 8, b"(5, 3200000000), }"),
    },
    "embeddings cut short": lambda m: {**m, "embeddings.npy": m["embeddings.npy"][:-4]},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_malformed_imports_are_refused_and_change_nothing(export, tmp_path, change):
    rewrite(export, tmp_path / "bad.zip", change)
    with FolderGallery.open(tmp_path / "h", model=MODEL) as other:
        add(other, 7, 7)
        before = contents(other)
        with pytest.raises(GalleryError, match="bad.zip: .*expected"):
            other.import_from(tmp_path / "bad.zip")
        assert contents(other) == before
        rewrite(export, tmp_path / "good.zip", dict)
        assert other.import_from(tmp_path / "good.zip").faces == 5


def test_damaged_compressed_and_absent_files_are_refused(gallery, export, tmp_path):
    data = export.read_bytes()
    middle = data.index(unit(22).tobytes()[:16])
    bad = tmp_path / "bad.zip"
    for broken in (b"", data[: len(data) // 2], data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]):
        bad.write_bytes(broken)
        with pytest.raises(GalleryError, match="bad.zip: expected a gallery's export, whole"):
            gallery.import_from(bad)
    with zipfile.ZipFile(export) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(GalleryError, match="expected stored ones, side by side"):
        gallery.import_from(bad)
    with pytest.raises(GalleryError, match="No such file"):
        gallery.import_from(tmp_path / "absent.zip")
    with pytest.raises(GalleryError, match="No such file"):
        gallery.export_to(tmp_path / "absent" / "export.zip")


def test_a_directory_of_many_members_is_not_read(gallery, tmp_path):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for number in range(45_000):
            archive.writestr(str(number), b"")
    with pytest.raises(GalleryError, match="expected a directory of 6 members, got [0-9]{7} bytes of it"):
        gallery.import_from(bad)
