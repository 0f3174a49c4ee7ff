"""Forgetting with the proof: that it finds what is left, and nothing else; uploads, and the log of who asked."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.face.small_gallery import MODEL, add, gallery, new_face, unit
from visavis.errors import GalleryError
from visavis.face.forgetting import Forgotten, forget
from visavis.face.gallery import FolderGallery, NewFace, scanning, traces
from visavis.face.gallery.audit import Audit
from visavis.face.gallery.index import quantise
from visavis.face.records import Photo

__all__ = ["gallery"]  # a fixture

NAME = "Ada Lovelace"


@pytest.fixture
def known(gallery):
    """Forty photos with a face each; Ada is in two, whose number is the answer, once with somebody else."""
    for seed in range(40):
        add(gallery, seed, seed)
    add(gallery, 90, 90, 91, path="/photos/Ada Lovelace/party.jpg")
    gallery.search(unit(0)[None], 1)
    gallery._index.save()
    return gallery, gallery.enroll([8, 41], NAME)


def test_what_is_deleted_is_told_and_nothing_is_left(known):
    gallery, ada = known
    gallery.name(gallery.split([41]), "Ada Lovelace the Second")
    gallery.merge(ada, [gallery.find_person("Ada Lovelace the Second")])
    proof = forget(gallery, ada)
    assert proof == Forgotten(2, 1, 0, 0, (), proof.files, proof.bytes, 0), "its photos are not there any more"
    sizes = [path.stat().st_size for path in gallery.folder.rglob("*") if path.is_file()]
    assert (proof.files, proof.bytes) == (len(sizes), sum(sizes))
    assert gallery.find_person(NAME) is None
    assert gallery.counts().faces == 40
    with pytest.raises(GalleryError, match="person: expected one of the gallery"):
        forget(gallery, ada)


@pytest.mark.parametrize("kind", ["vector", "row", "picture", "name", "index of names", "quoted name", "half a vector"])
def test_whatever_is_left_is_found(known, kind):
    gallery, ada = known
    face = new_face(7)
    data = {
        "vector": face.embedding.tobytes(),
        "half a vector": face.embedding.tobytes()[64:80],
        "row": quantise(face.embedding[None])[0].tobytes(),
        "picture": face.thumbnail,
        "name": b"\x03\0\x25" + NAME.encode(),
        "index of names": b"\x03\x25\x01" + NAME.encode(),
        "quoted name": json.dumps([NAME]).encode(),
    }[kind]
    (gallery.folder / "below").mkdir()
    (gallery.folder / "below" / "left").write_bytes(bytes(10_001) + data + b"\xff" * 9)
    assert forget(gallery, ada).traces > 0


def test_all_that_an_untouched_copy_holds_is_found(known):
    """So the pieces are those that lie on the disk."""
    gallery, ada = known
    gallery._database.truncate_log()
    shutil.copytree(gallery.folder, gallery.folder.parent / "copy")
    pieces = {"vector": [], "row": [], "picture": []}
    for seed in (7, 90):
        face = new_face(seed)
        row = quantise(face.embedding[None])[0]
        for kind, parts in zip(pieces, split(face, row), strict=True):
            pieces[kind] += parts
    pieces["name"] = traces.name_pieces(NAME)
    for kind, parts in pieces.items():
        _, _, found = scanning.scan(gallery.folder.parent / "copy", parts)
        least = {"name": 2}.get(kind, len(parts))  # of the ways to write it: a row, and one of the index
        assert len(set(found)) == least, kind
    shutil.copytree(gallery.folder.parent / "copy", gallery.folder / "copy")
    assert forget(gallery, ada).traces == sum(map(len, (pieces["vector"], pieces["row"], pieces["picture"]))) + 2


def split(face, row):
    pieces = traces.face_pieces(face.embedding, row, face.thumbnail)
    data = (face.embedding.tobytes(), row.tobytes(), face.thumbnail)
    return [[piece for piece in pieces if piece in held] for held in data]


@pytest.mark.parametrize("name", ["X", "王", "Ada", "Zoë Äpfel", "A" * 57, "A" * 58, "n" * 300])
def test_names_as_sqlite_writes_them(gallery, name):
    add(gallery, 1, 1, path=f"/photos/{name}/1.jpg")
    person = gallery.enroll([1], name)
    gallery._database.truncate_log()
    shutil.copytree(gallery.folder, gallery.folder.parent / "copy")
    _, _, found = scanning.scan(gallery.folder.parent / "copy", traces.name_pieces(name))
    assert len(set(found)) == 2, "as a row of the table, and of its index"
    assert forget(gallery, person).traces == 0, "a folder of that name is no trace"


def test_a_log_that_another_process_reads_is_told(known):
    gallery, ada = known
    with (
        FolderGallery.open(gallery.folder) as other,
        other._database.snapshot(),
    ):
        other.counts()
        with pytest.raises(GalleryError, match="another process is reading it"):
            forget(gallery, ada)


def test_a_file_that_cannot_be_looked_through_is_told(known, monkeypatch):
    gallery, ada = known
    monkeypatch.setattr(scanning, "__file__", "/nowhere/scanning.py")
    with pytest.raises(
        GalleryError, match="person 1 is forgotten, but not all files can be looked through: .*No such file"
    ):
        forget(gallery, ada)
    assert gallery.find_person(NAME) is None


def test_pictures_that_share_flat_parts_are_told_apart(gallery):
    """JPEGs of one colour, of two people: alike but for a corner."""

    def picture(seed):
        pixels = np.full((112, 112, 3), 90, np.uint8)
        pixels[:32, :32] = np.random.default_rng(seed).integers(0, 255, (32, 32, 3))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=80)
        return stream.getvalue()

    for seed in (1, 2):
        face = new_face(seed)
        face = NewFace(face.detection, face.residual_px, face.quality, face.embedding, picture(seed))
        photo = Photo(Path(f"/photos/{seed}.jpg"), f"{seed:064x}", 640, 480, None)
        gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=[face])
    assert forget(gallery, gallery.enroll([1], NAME)).traces == 0


# Photos


def test_photos_that_show_the_person_are_named_and_uploads_deleted_when_told(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        uploads = gallery.folder / "photos" / "ab"
        uploads.mkdir(parents=True)
        paths = [uploads / "alone.jpg", uploads / "both.jpg", tmp_path / "elsewhere.jpg"]
        for content, path in enumerate(paths):
            path.write_bytes(b"\xff\xd8\xff" + bytes([content]) * 99)
            add(gallery, content, *(([20] if path.stem == "both" else []) + [content]), path=str(path))
        ada = gallery.enroll([1, 3, 4], NAME)
        witness = tmp_path / "witness"
        witness.hardlink_to(paths[0])
        before = forget_and_restore(gallery, ada)
        assert before.photos == tuple(paths), "without being told nothing of them is deleted"
        proof = forget(gallery, ada, uploads=True)
        assert (proof.uploads, proof.photos, proof.traces) == (1, tuple(paths[1:]), 0)
        assert [path.exists() for path in paths] == [False, True, True]
        assert not any(witness.read_bytes())
        assert [row.path for row in gallery.files()] == sorted(paths[1:])


def forget_and_restore(gallery, person):
    """What forgetting would tell, in a copy of the gallery."""
    gallery._database.truncate_log()
    copy = gallery.folder.parent / "copy"
    shutil.copytree(gallery.folder, copy)
    with FolderGallery.open(copy) as other:
        return forget(other, person)


# The log


def test_the_log_forgets_in_place(known):
    gallery, ada = known
    log = Audit(gallery.folder)
    path = gallery.folder / "audit.jsonl"
    for number in range(20):
        log.note("phone", "identify", [ada, 1000 + number] if number % 2 else [1000 + number])
    (gallery.folder / "audit.1.jsonl").write_text(
        json.dumps({"at": "", "client": "", "action": "", "people": [ada]}) + "\n"
    )
    with path.open("ab") as file:
        file.write(b'{"at": "2026", "people": [')  # of a crash
    size = path.stat().st_size
    before = path.open("rb")
    with before:
        proof = forget(gallery, ada)
        assert before.read() == path.read_bytes(), "the same file: no old one is left on the disk"
    assert (proof.log_entries, proof.traces) == (12, 0)
    assert path.stat().st_size == size
    log.note("phone", "people", [7])
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["people"] for entry in entries] == [*([1000 + number] for number in range(20)), [7]]
    assert json.loads((gallery.folder / "audit.1.jsonl").read_text())["people"] == []
    assert log.forget(ada) == 0


# The scan


@given(
    st.binary(max_size=300), st.lists(st.binary(min_size=4, max_size=20), min_size=1, max_size=5), st.integers(1, 64)
)
def test_the_scan_finds_what_find_finds(data, pieces, chunk):
    pieces = sorted(set(pieces))
    for place, piece in enumerate(pieces):
        data = data[: place * 7] + piece + data[place * 7 :]
    expected = sorted(piece for piece in pieces for start in range(len(data)) if data.startswith(piece, start))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "CHUNK", chunk)
        assert sorted(scanning.search(io.BytesIO(data), pieces)) == expected
