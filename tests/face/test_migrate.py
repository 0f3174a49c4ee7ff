"""Migration: what arrives is what was there, bit for bit, wherever it was stopped; nothing else is written over."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.face.milvus_gallery import milvus, server, server_folder
from tests.face.small_gallery import MODEL, add, unit
from visavis.app.cli import main
from visavis.errors import GalleryError, InputError
from visavis.face.gallery import EmbedderId, FolderGallery, copying, migrate, open_gallery

__all__ = ["milvus", "server", "server_folder"]  # fixtures


def filled(place):
    """A gallery with everything a gallery can hold."""
    with open_gallery(place, model=MODEL) as gallery:
        for content in range(1, 31):
            add(gallery, content, content, 100 + content)
        ids = gallery.placements()[0].tolist()
        ada = gallery.enroll(ids[:2], "Ada")
        bob = gallery.enroll(ids[2:4], "Bob 'ß' \U0001f642")
        cluster = gallery.new_person()
        gallery.assign(ids[10:16], cluster, pinned=False)
        gallery.separate(ada, bob)
        gallery.forget(gallery.enroll([ids[20]], "Eve"))  # its photo is settled, its number given for ever
        gallery.remove_file(Path("/photos/1.jpg"))  # which is partial now
        add(gallery, 2, path="/photos/a copy\udcff.jpg")
        gallery.add_skipped(Path("/photos/notes.txt"), 3, 4, "no photo\n'\"")
        gallery.mark_sorted(ids[8])


def seen(place):
    """All that a gallery shows."""
    with open_gallery(place) as gallery:
        embeddings = gallery.embeddings()
        faces = [
            (row.id, row.photo_id, row.path, row.residual_px, row.quality, row.person, row.pinned, row.enrolled)
            for row in gallery.faces()
        ]
        return (
            gallery.counts(),
            sorted(gallery.people(), key=lambda row: row.id),
            gallery.files(),
            gallery.photos(),
            faces,
            [gallery.thumbnail(face[0]) for face in faces],
            [part.tobytes() for part in (embeddings.face_ids, embeddings.vectors, embeddings.person_ids)],
            gallery.separated(),
            gallery.has_unsorted_faces(),
            gallery.timeline(),
            gallery.rows().next_ids(),
        )


@pytest.fixture
def source(tmp_path):
    filled(tmp_path / "source")
    return tmp_path / "source"


def test_a_copy_is_the_same_and_made_again_nothing_is_written(source, tmp_path):
    steps = []
    done = migrate.migrate(source, tmp_path / "copy", progress=lambda *at: steps.append(at))
    assert done.written > 0
    assert done.searches == 32
    assert steps[-1][0] == steps[-1][1]
    assert seen(tmp_path / "copy") == seen(source)
    again = migrate.migrate(source, tmp_path / "copy")
    assert (again.written, again.checksum, again.rows) == (0, done.checksum, done.rows)
    with open_gallery(tmp_path / "copy") as copy, open_gallery(source) as original:
        assert add(copy, 99, 99) == add(original, 99, 99), "ids go on where they were"


class Killed(BaseException):
    """As abrupt as a signal."""


def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(source, tmp_path, monkeypatch):
    monkeypatch.setattr(migrate, "PAGE", 7)
    monkeypatch.setattr(copying, "PAGE", 7)
    put, calls = copying.FolderRows.put, itertools.count()
    limit = 0

    def dying(self, *arguments):
        if next(calls) == limit:
            raise Killed
        put(self, *arguments)

    monkeypatch.setattr(copying.FolderRows, "put", dying)
    ended = False
    while not ended:
        calls = itertools.count()
        try:
            migrate.migrate(source, tmp_path / "copy")
            ended = True
        except Killed:
            with pytest.raises(GalleryError, match="expected a gallery whole, got a copy of .*source, unfinished; run"):
                open_gallery(tmp_path / "copy")
            limit += 1 + limit // 8
    assert limit > 5
    assert seen(tmp_path / "copy") == seen(source)


def test_what_changed_between_two_runs_is_copied(source, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "_search_alike", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            migrate.migrate(source, tmp_path / "copy")
    with open_gallery(source) as gallery:
        gallery.name(gallery.find_person("Ada"), "Ada II")
        gallery.remove_file(Path("/photos/5.jpg"))
        add(gallery, 77, 77)
    migrate.migrate(source, tmp_path / "copy")
    assert seen(tmp_path / "copy") == seen(source)


def test_other_galleries_and_other_models_are_not_written_over(source, tmp_path):
    with open_gallery(tmp_path / "other", model=MODEL) as other:
        add(other, 1, 1)
    before = seen(tmp_path / "other")
    with pytest.raises(GalleryError, match="expected a new place, got another gallery"):
        migrate.migrate(source, tmp_path / "other")
    assert seen(tmp_path / "other") == before
    FolderGallery.open(tmp_path / "model", model=EmbedderId("other", MODEL.sha256, MODEL.dim)).close()
    with pytest.raises(GalleryError, match="expected embeddings of"):
        migrate.migrate(source, tmp_path / "model")
    with pytest.raises(GalleryError, match="target: expected another place than"):
        migrate.migrate(source, source)
    filled(tmp_path / "second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "_search_alike", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            migrate.migrate(tmp_path / "second", tmp_path / "copy")
    with pytest.raises(GalleryError, match="expected a copy of .*source, got a part of one of .*second"):
        migrate.migrate(source, tmp_path / "copy")


def test_rows_that_arrive_otherwise_are_noticed(source, tmp_path, monkeypatch):
    put = copying.FolderRows.put

    def noisy(self, table, rows):
        if table == "vector":
            rows = [row | {"embedding": np.nextafter(row["embedding"], np.float32(2))} for row in rows]
        put(self, table, rows)

    monkeypatch.setattr(copying.FolderRows, "put", noisy)
    with pytest.raises(GalleryError, match="target: expected the rows of the source, got others; run it again"):
        migrate.migrate(source, tmp_path / "copy")


def test_answers_that_differ_are_noticed(source, tmp_path, monkeypatch):
    search = FolderGallery.search

    def wrong(self, queries, k, **options):
        ids, cosines = search(self, queries, k, **options)
        return (ids[:, ::-1], cosines) if "copy" in self.place else (ids, cosines)

    monkeypatch.setattr(FolderGallery, "search", wrong)
    with pytest.raises(GalleryError, match="expected the answers of the source to searches"):
        migrate.migrate(source, tmp_path / "copy")


def test_the_command_tells_what_it_did(source, tmp_path, capsys):
    assert main(["face", "migrate", str(source), str(tmp_path / "copy")]) == 0
    text = capsys.readouterr().out
    assert "holds 30 photos with 59 faces of 3 people, the same as" in text
    assert "rows and 32 searches compared" in text
    assert main(["face", "migrate", str(tmp_path / "nothing"), str(tmp_path / "x"), "--json"]) == 3
    assert not (tmp_path / "x").exists()


def test_an_encrypted_gallery_stays_one(tmp_path):
    pytest.importorskip("sqlcipher3")
    key = "a key of many letters, kept well"
    with open_gallery(tmp_path / "secret", model=MODEL, key=key) as gallery:
        gallery.enroll(add(gallery, 1, 11), "Ada")
    assert migrate.migrate(tmp_path / "secret", tmp_path / "copy", key=key).counts.named == 1
    with open_gallery(tmp_path / "copy", key=key) as copy:
        assert copy.encrypted
        assert copy.find_person("Ada") == 1
    with pytest.raises(GalleryError):
        open_gallery(tmp_path / "copy")
    with pytest.raises(InputError, match="target: expected a folder for an encrypted gallery, got a server"):
        migrate.migrate(tmp_path / "secret", "milvus://127.0.0.1:9/x", key=key)


@pytest.mark.slow
def test_to_milvus_and_back_nothing_changes(source, server, tmp_path, capsys):
    url = f"{server}/moved"
    done = migrate.migrate(source, url)
    assert seen(url) == seen(source)
    back = migrate.migrate(url, tmp_path / "back")
    assert back.checksum == done.checksum
    assert seen(tmp_path / "back") == seen(source)
    with open_gallery(url) as gallery:
        np.testing.assert_array_equal(gallery.search(unit(7)[None], 1)[1].round(6), [[1]])
    assert main(["face", "migrate", str(source), url, "--json"]) == 0
    assert '"written": 0' in capsys.readouterr().out
