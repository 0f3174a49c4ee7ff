"""What a gallery on Milvus does beyond what holds of all, see test_gallery.py: crashes, several writers, secrets."""

import contextlib
import hashlib
import itertools
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.face.fake_pack import photo as draw
from tests.face.milvus_gallery import empty, milvus, server, server_folder
from tests.face.small_gallery import DIM, JPEG, MODEL, add, new_face, unit
from tests.face.test_gallery_crashes import environment
from visavis.errors import GalleryError, InputError
from visavis.face.gallery import EmbedderId, open_gallery
from visavis.face.gallery.claims import Taken
from visavis.face.gallery.copying import pages
from visavis.face.gallery.milvus import Address, is_address, lease
from visavis.face.gallery.milvus.tables import Tables
from visavis.face.records import Photo

__all__ = ["milvus", "server", "server_folder"]  # fixtures

# Addresses


def test_addresses_are_read_and_secrets_are_not_shown(monkeypatch):
    plain = Address.parse("milvus://host/family")
    assert (plain.uri, plain.name, plain.database, plain.token) == ("http://host:19530", "family", "", "")
    full = Address.parse("milvus+tls://ada:s%40cret@[::1]:443/db/family_2")
    assert (full.uri, full.database, full.name) == ("https://[::1]:443", "db", "family_2")
    assert full.token == "ada:s@cret"
    assert full.place == "milvus+tls://[::1]:443/db/family_2"
    assert "cret" not in repr(full)
    monkeypatch.setenv("VISAVIS_MILVUS_TOKEN", "key")
    assert Address.parse("milvus://host/family").token == "key"
    assert Address.parse("milvus://ada:x@host/family").token == "ada:x"
    assert is_address("milvus+tls://x")
    assert not any(map(is_address, ("family.visavis", "http://x", Path("milvus://x"))))


WRONG = """milvus://host milvus:///x milvus://host/a/b/c milvus://host/a__b milvus://host/9 milvus://host/_a
    milvus://host/a?b milvus://host:port/a milvus://host/a%20b milvus://[x/a"""


@pytest.mark.parametrize("url", [*WRONG.split(), f"milvus://host/{'a' * 65}"])
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match="gallery: expected milvus://HOST:PORT/NAME"):
        Address.parse(url)
    with pytest.raises(InputError) as told:
        Address.parse(url.replace("//", "//ada:secret@"))
    assert "secret" not in str(told.value)


def test_without_the_client_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ImportError, match=r"pip install 'visavis\[milvus\]'"):
        open_gallery("milvus://127.0.0.1:1/x")


# Crashes


def rows_of(url):
    with open_gallery(url) as gallery:
        tables = ("photo", "person", "separate", "file", "face", "vector", "thumbnail")
        return {table: [row for page in pages(gallery.rows(), table) for row in page] for table in tables}


def check(url):
    """Nothing is there in part."""
    with open_gallery(url) as gallery:
        tables = gallery._session.tables
        assert tables.count("journal") == 0
        counted = {row["id"]: row["faces"] for row in tables.select("person")}
        best = {row["id"]: row["best_face"] for row in tables.select("person")}
    rows = rows_of(url)
    ids = {table: [row["id"] for row in found] for table, found in rows.items()}
    assert ids["face"] == ids["vector"] == ids["thumbnail"]
    assert {row["photo_id"] for row in rows["face"]} <= set(ids["photo"])
    assert {row["photo_id"] for row in rows["file"] if row["photo_id"]} <= set(ids["photo"])
    assert max(Counter(row["sha256"] for row in rows["photo"]).values(), default=1) == 1
    owners = Counter(row["person_id"] for row in rows["face"] if row["person_id"])
    assert counted == {person: owners[person] for person in ids["person"]}
    assert {row["id"]: row["person_id"] for row in rows["face"]}.items() >= {
        (face, person) for person, face in best.items() if face
    }
    assert set(owners) <= set(ids["person"])
    assert {person for row in rows["separate"] for person in (row["person_a"], row["person_b"])} <= set(ids["person"])
    return {table: [str(sorted(row.items())) for row in found] for table, found in rows.items()}


class Killed(BaseException):
    """As abrupt as a signal."""


@pytest.mark.slow
def test_a_writer_that_dies_anywhere_leaves_all_of_a_change_or_nothing(milvus, monkeypatch):
    """It dies before each of its writes in turn; whoever opens next finishes what it did, or undoes it."""
    monkeypatch.setattr(lease, "LEASE_S", 2.5)
    with open_gallery(milvus) as gallery:
        ids = [add(gallery, content, content)[0] for content in range(1, 5)]
        gallery.enroll(ids[:1], "Ada")
        gallery.assign(ids[2:], gallery.new_person(), pinned=False)
    before, undone, finished, point = check(milvus), 0, 0, 0
    while True:
        try:
            with monkeypatch.context() as patch, open_gallery(milvus) as gallery:
                for name in ("_put", "delete"):
                    patch.setattr(Tables, name, dying(getattr(Tables, name), point))
                change(gallery, point)
        except Killed:
            point += 1
        else:
            break
        with open_gallery(milvus) as gallery, gallery.transaction():
            pass  # takes the turn of the dead, also where the journal tells of nothing
        if (after := check(milvus)) == before:
            undone += 1
            assert not finished, "a write later than one that made it happen"
            continue
        finished += 1
        with open_gallery(milvus) as gallery:
            check_changed(gallery, point - 1)
        before = after
    assert undone == 4, "before the journal, the vectors, the thumbnails and the journal's last row"
    assert finished == point - 4 > 5
    check(milvus)


def dying(call, point, number=None):
    """A method that counts, with its like of the same number, the writes, and dies at one."""
    left = COUNTERS.setdefault(point if number is None else number, itertools.count())

    def method(self, *arguments, **options):
        if next(left) >= point:
            raise Killed
        return call(self, *arguments, **options)

    return method


COUNTERS: dict[int, "itertools.count[int]"] = {}


def change(gallery, number):
    """Several rows of all tables: a photo comes, its people are merged, one is named anew, and another photo goes."""
    with gallery.transaction():
        first, second = add(gallery, 100 + number, 1000 + number, 2000 + number)
        bob, eve = (gallery.enroll([face], f"{name} {number}") for face, name in ((first, "Bob"), (second, "Eve")))
        gallery.separate(bob, gallery.find_person("Ada"))
        gallery.merge(bob, [eve])
        gallery.remove_file(Path(f"/photos/{99 + number}.jpg"))


def check_changed(gallery, number):
    """After `change`."""
    bob = gallery.find_person(f"Bob {number}")
    assert gallery.find_person(f"Eve {number}") is None
    assert len(gallery.faces(person=bob)) == 2
    assert bob in {person for pair in gallery.separated() for person in pair}
    assert gallery.search(unit(1000 + number)[None], 1)[1] == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_one_who_dies_over_finishing_what_another_began_is_followed_by_a_third(milvus, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 2.5)
    with open_gallery(milvus) as gallery:
        gallery.enroll(add(gallery, 99, 99), "Ada")

    def die(point, number, act):
        with monkeypatch.context() as patch:
            for name in ("_put", "delete"):
                patch.setattr(Tables, name, dying(getattr(Tables, name), point, number))
            with open_gallery(milvus) as gallery:
                act(gallery)

    with pytest.raises(Killed):
        die(6, 1000, lambda gallery: change(gallery, 0))  # after it has happened, with some rows put
    for point, number in ((0, 1001), (2, 1002), (4, 1003)):
        with pytest.raises(Killed):
            die(point, number, lambda _: None)  # over opening it
    with open_gallery(milvus) as gallery:
        check_changed(gallery, 0)
    check(milvus)


WORKER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from tests.face.small_gallery import add
    from visavis.face.gallery import open_gallery
    from visavis.face.gallery.milvus import lease
    lease.LEASE_S = 3.0
    url, start, stop, seed = sys.argv[1], *map(int, sys.argv[2:])
    rng = np.random.default_rng(seed)
    with open_gallery(url) as gallery:
        print("ready", flush=True)
        for content in range(start, stop):
            ids = add(gallery, content, content, 5000 + content)
            if rng.random() < 0.4 and ids:
                gallery.enroll(ids[:1], f"Person {content}")
            if rng.random() < 0.3:
                with gallery.transaction():
                    people = [row.id for row in gallery.people()]
                    if len(people) > 2:
                        gallery.merge(people[0], people[1:2])
            print(content, flush=True)
    """
)


def worker(url, start, stop, seed=0):
    command = [sys.executable, "-c", WORKER, url, str(start), str(stop), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


@pytest.mark.slow
def test_kill_loses_nothing_acknowledged_and_leaves_nothing_in_part(milvus, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    rng = np.random.default_rng(0)
    done = set()
    for round_ in range(5):
        with worker(milvus, 100 * round_, 100 * round_ + 100, round_) as process:
            assert process.stdout.readline() == "ready\n"
            done.add(int(process.stdout.readline()))
            time.sleep(rng.uniform(0, 0.5))  # not a wait for anything: the moment of death
            process.send_signal(signal.SIGKILL)
            done |= {int(line) for line in process.stdout.read().split("\n") if line.isdigit()}
        with open_gallery(milvus) as gallery, gallery.transaction():
            held = {row.mtime_ns for row in gallery.files()}
        check(milvus)
        assert done <= held
        assert len(held - done) <= round_ + 1, "one more a kill may be stored, unacknowledged"


@pytest.mark.slow
def test_two_processes_that_take_in_the_same_photos_store_each_once(milvus):
    workers = [worker(milvus, 0, 25, 1), worker(milvus, 0, 25, 2)]
    for process in workers:
        assert len(process.communicate()[0].split()) == 26
        assert process.returncode == 0
    check(milvus)
    with open_gallery(milvus) as gallery:
        counts = gallery.counts()
        assert (counts.photos, counts.files, counts.faces) == (25, 25, 50)


@pytest.mark.slow
def test_two_commands_index_one_folder_into_one_gallery(server, squares, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        draw(photos / f"{number}.png", number % 5)
    url = f"{server}/indexed"
    command = [sys.executable, "-m", "visavis", "face", "index", str(photos), "--gallery", url, "--pack", str(squares)]
    running = [
        subprocess.Popen([*command, "--workers", "1", "--json"], stdout=subprocess.PIPE, env=environment())
        for _ in range(2)
    ]
    for process in running:
        process.communicate()
        assert process.returncode == 0
    with open_gallery(url) as gallery:
        contents = {row.sha256 for row in gallery.files()}
        assert len(gallery.files()) == 40
        assert gallery.counts().photos == len(contents)
        assert len(gallery.photos()) == len(contents)
        people = [row for row in gallery.people() if row.faces]
        assert len(people) <= 5
    check(url)


@pytest.mark.slow
def test_a_run_passes_over_what_others_have_stored_meanwhile(milvus, tmp_path):
    paths = [tmp_path / name for name in ("stored", "copy", "skipped", "new", "changed")]
    for path, content in zip(paths, (b"one", b"one", b"text", b"two", b"six"), strict=True):
        path.write_bytes(content)
    digest = hashlib.sha256(b"one").hexdigest()
    with open_gallery(milvus) as gallery:
        with contextlib.closing(gallery.claims()) as claims, gallery.transaction():
            assert claims.take(paths[0], 3, 7) == (Taken.HERE, None)
        gallery.add_photo(Photo(paths[0], digest, 1, 1, None), size_bytes=3, mtime_ns=7, faces=[new_face(1)])
        gallery.add_skipped(paths[2], 4, 7, "no photo")
        gallery.add_skipped(paths[4], 3, 6, "no photo")
        with contextlib.closing(gallery.claims()) as claims, gallery.transaction():
            told = [claims.take(path, path.stat().st_size, 7) for path in paths]
    here = (Taken.HERE, None)
    assert told == [(Taken.STORED, None), (Taken.COPY, digest), (Taken.STORED, "no photo"), here, here]


# Several at once


@pytest.mark.slow
def test_a_turn_that_was_taken_is_not_written_in(milvus, monkeypatch):
    """A writer that was stopped for too long finds out before it writes."""
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    with open_gallery(milvus) as slow, open_gallery(milvus) as quick:

        def overtaken():
            with slow.transaction():
                add(slow, 1, 11)
                slow._session.lease._end_renewing()  # as if the process stood still
                add(quick, 2, 22)

        with pytest.raises(GalleryError, match="expected to (keep|have) the turn to write"):
            overtaken()
        assert [row.mtime_ns for row in quick.files()] == [2]
        add(slow, 3, 33)
        assert [row.mtime_ns for row in quick.files()] == [2, 3]
    check(milvus)


@pytest.mark.slow
def test_two_makers_make_one_gallery(server):
    url = f"{server}/made"
    code = "import sys; from visavis.face.gallery import open_gallery; from tests.face.small_gallery import *; "
    code += "g = open_gallery(sys.argv[1], model=MODEL); add(g, int(sys.argv[2]), 1); g.close()"
    makers = [subprocess.Popen([sys.executable, "-c", code, url, str(n)], env=environment()) for n in (1, 2)]
    assert [process.wait() for process in makers] == [0, 0]
    with open_gallery(url) as gallery:
        assert gallery.counts().photos == 2
        names = gallery._session.server.names()
        assert len({name.split("_")[2] for name in names if name.startswith("made__")}) == 1, "nothing else is left"


# Search, models, forgetting


@pytest.mark.slow
def test_search_is_exact_among_equals_and_in_parts(milvus):
    with open_gallery(milvus) as gallery:
        for content in range(3):
            add(gallery, content, *[7] * 60, *range(100 * content + 8, 100 * content + 50))
        with gallery.transaction():
            for content in range(10, 40):
                add(gallery, content, *range(1000 * content, 1000 * content + 20))
        held = gallery.embeddings()
        asked = np.array([unit(7), unit(1003), unit(5)])
        for among in (None, held.face_ids[::3], [int(held.face_ids[0]), 10**9], []):
            allowed = np.isin(held.face_ids, held.face_ids if among is None else among)
            cosines = asked.astype(np.float64) @ held.vectors[allowed].astype(np.float64).T
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :70]
            ids, similarities = gallery.search(asked, 70, among=among)
            np.testing.assert_array_equal(ids[:, : order.shape[1]], held.face_ids[allowed][order])
            np.testing.assert_allclose(
                similarities[:, : order.shape[1]], np.take_along_axis(cosines, order, 1), atol=1e-6
            )
            assert (ids[:, order.shape[1] :] == -1).all()
        with pytest.raises(InputError, match="k: expected at most 16000"):
            gallery.search(asked, 20_000)


@pytest.mark.slow
def test_other_models_names_and_servers_are_refused(server, milvus):
    with pytest.raises(GalleryError, match="expected embeddings of other"):
        open_gallery(milvus, model=EmbedderId("other", MODEL.sha256, DIM))
    with pytest.raises(GalleryError, match="expected a gallery, found none"):
        open_gallery(f"{server}/none")
    with open_gallery(milvus) as gallery:
        gallery._session.server.create_empty("foreign")
        with pytest.raises(GalleryError, match="another program's collection"):
            open_gallery(f"{server}/foreign")
        big = replace(new_face(1), thumbnail=JPEG + bytes(60_000))
        photo = Photo(Path("/x"), "0" * 64, 1, 1, None)
        with pytest.raises(InputError, match="thumbnail: expected at most 49000 bytes"):
            gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=[big])
        assert gallery.counts().photos == 0


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_without_the_secret():
    with pytest.raises(GalleryError, match="milvus://127.0.0.1:9/x: Milvus: ") as told:
        open_gallery("milvus://ada:hunter2@127.0.0.1:9/x")
    assert "hunter2" not in str(told.value)


@pytest.mark.slow
def test_what_is_forgotten_leaves_the_segments_on_the_servers_disk(server, server_folder):
    url, data = f"{server}/forgetting", server_folder / "data"
    empty(url)
    with open_gallery(url) as gallery:
        for content in range(20):
            add(gallery, content, content)
        victim, other = gallery.faces()[7], gallery.faces()[8]
        name = "Nobody Known"
        person = gallery.enroll([victim.id], name)
        gallery.enroll([other.id], "Ada")
        gallery._session.server.client.flush(f"{gallery._session.tables.prefix}_vector")  # to disk, to be found there
        assert segments_with(data, unit(7)), "what is looked for cannot be found"
        assert gallery.forget(person) == 1
        assert gallery.find_person(name) is None
        assert gallery.search(unit(7)[None], 1)[1] < 0.9
        until = time.monotonic() + 90
        while segments_with(data, unit(7)) and time.monotonic() < until:
            time.sleep(1)
        assert not segments_with(data, unit(7))
        assert segments_with(data, unit(8))


def segments_with(data: Path, vector) -> list[Path]:
    """The files of segments that hold a vector's bytes; the server's log, kept for days, is none of them."""
    files = [path for path in data.rglob("*") if path.is_file() and "insert_log" in path.parts]
    return [path for path in files if vector.tobytes()[:32] in path.read_bytes()]
