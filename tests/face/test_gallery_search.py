import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.face.small_gallery import DIM, JPEG, MODEL, add, unit
from tests.face.test_gallery_crashes import environment
from visavis.errors import GalleryError, InputError, TensorError
from visavis.face.gallery import EmbedderId, FolderGallery, Gallery, NewFace
from visavis.face.gallery import index as implementation
from visavis.face.records import Detection, Photo


def normalised(array):
    array = np.asarray(array, np.float64)
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def filled(folder: Path, vectors) -> Gallery:
    """A gallery whose face ids are 1, 2, ... in the order of the vectors."""
    gallery = FolderGallery.open(folder, model=EmbedderId("test", "ab" * 32, vectors.shape[1]))
    detection = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.5)
    faces = [NewFace(detection, 1.0, 0.5, vector, JPEG) for vector in vectors]
    photo = Photo(Path("/a.jpg"), "0" * 64, 1, 1, None)
    assert gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=faces) == list(range(1, len(vectors) + 1))
    return gallery


def exactly(vectors, queries, k, among=None):
    """The definition: float64 cosines sorted, of equals the lower id first."""
    allowed = np.arange(1, len(vectors) + 1) if among is None else np.unique(among)
    cosines = queries.astype(np.float64) @ vectors[allowed - 1].astype(np.float64).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return allowed[order], np.take_along_axis(cosines, order, axis=1)


def check(gallery, vectors, queries, k, among=None):
    ids, similarities = gallery.search(queries, k, among=among)
    expected, cosines = exactly(vectors, queries, k, among)
    found = expected.shape[1]
    assert ids.shape == similarities.shape == (len(queries), k)
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(similarities[:, :found], cosines, rtol=0, atol=1e-7)
    # float64 sums in another order may swap cosines closer than that
    same = np.einsum("qd,qkd->qk", queries.astype(np.float64), vectors[ids[:, :found] - 1].astype(np.float64))
    np.testing.assert_allclose(same, cosines, rtol=0, atol=1e-13)
    assert all(len(set(row)) == found for row in ids[:, :found].tolist())
    assert (ids[:, found:] == -1).all()
    assert np.isneginf(similarities[:, found:]).all()


def clustered(rng, people, photos, dim, spread):
    centres = normalised(rng.standard_normal((people, 1, dim)))
    return normalised((centres + spread * rng.standard_normal((people, photos, dim))).reshape(-1, dim))


SCENES = {
    "spread over the sphere": lambda rng: normalised(rng.standard_normal((20_000, 64))),
    "identities": lambda rng: clustered(rng, 400, 50, 64, 0.08),
    "near duplicates": lambda rng: clustered(rng, 4, 2_000, 64, 1e-4),
    "duplicates": lambda rng: np.repeat(normalised(rng.standard_normal((10, 64))), 300, axis=0),
    "single coordinates": lambda _: np.tile(np.eye(64, dtype=np.float32), (50, 1)),
    "one large coordinate": lambda rng: normalised(rng.standard_normal((5_000, 64)) + 9 * np.eye(64)[0]),
    "a dimension that fits no register": lambda rng: normalised(rng.standard_normal((5_000, 37))),
    "one dimension": lambda rng: normalised(rng.standard_normal((50, 1))),
    "growing similarity": lambda rng: normalised(
        np.linspace(0, 1, 20_000)[:, None] * np.eye(64)[0] + 0.1 * rng.standard_normal((1, 64))
    ),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_search_is_exact_whatever_the_vectors(tmp_path, scene):
    rng = np.random.default_rng(0)
    vectors = scene(rng)
    with filled(tmp_path / "g", vectors) as gallery:
        queries = np.concatenate([vectors[rng.integers(len(vectors), size=10)], normalised(vectors[:10] + 0.02)])
        for k in (1, 10):
            check(gallery, vectors, queries[:1], k)
            check(gallery, vectors, queries, k)
        some = rng.permutation(np.arange(1, len(vectors) + 1))[: len(vectors) // 10 + 1]
        check(gallery, vectors, queries, 10, among=some)


@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 35),
    st.integers(1, 50),
    st.floats(1e-6, 1),
    st.integers(0, 99),
)
@settings(max_examples=200)
def test_the_bounds_hold_and_the_best_are_among_the_hits(count, dim, queries, k, spread, seed):
    rng = np.random.default_rng(seed)
    vectors = normalised(rng.standard_normal((1, dim)) + spread * rng.standard_normal((count, dim)))
    asked = normalised(rng.standard_normal((1, dim)) + spread * rng.standard_normal((min(queries, 15), dim)))
    ids = np.arange(1, count + 1)
    which, hits, lower, upper = implementation._scan(
        [implementation._Part.quantised(ids, vectors)], asked, min(k, count), None
    )
    exact = np.einsum("nd,nd->n", asked[which].astype(np.float64), vectors[hits - 1].astype(np.float64))
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    cosines = exactly(vectors, asked, k)[1]
    for q in range(len(asked)):
        assert cosines[q].min() >= lower[which == q].min()
        assert (which == q).sum() >= min(k, count)
        best = np.sort(exact[which == q])[::-1][: min(k, count)]
        np.testing.assert_allclose(best, cosines[q], rtol=0, atol=1e-12)


def test_stored_in_several_pieces_is_still_one_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(implementation, "CHUNK", 32)
    monkeypatch.setattr(implementation, "BATCH", 50)
    monkeypatch.setattr(implementation, "SAVE_ROWS", 70)
    vectors = normalised(np.random.default_rng(0).standard_normal((501, DIM)))
    with filled(tmp_path / "g", vectors) as gallery:
        check(gallery, vectors, vectors[:40], 7)
        check(gallery, vectors, vectors[:40], 600)
        check(gallery, vectors, vectors[:3], 5, among=[500, 1, 33, 33, 250])
    with FolderGallery.open(tmp_path / "g") as gallery:
        check(gallery, vectors, vectors[-40:], 7)


def test_few_faces_none_and_strangers_among(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        ids, similarities = gallery.search(unit(0)[None], 3)
        assert (ids == -1).all()
        assert np.isneginf(similarities).all()
        assert gallery.search(np.zeros((0, DIM), np.float32), 3)[0].shape == (0, 3)
        [only] = add(gallery, 1, 1)
        np.testing.assert_array_equal(gallery.search(unit(1)[None], 3)[0], [[only, -1, -1]])
        np.testing.assert_array_equal(gallery.search(unit(1)[None], 1, among=[only + 1, 0, -5])[0], [[-1]])
        np.testing.assert_array_equal(gallery.search(unit(1)[None], 1, among=[])[0], [[-1]])


def test_wrong_queries_are_refused(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        for queries, error, message in (
            (2 * unit(0)[None], InputError, "queries: expected float32 of unit length"),
            (np.full((1, DIM), np.nan, np.float32), InputError, "unit length"),
            (unit(0)[None].astype(np.float64), InputError, "got float64"),
            (unit(0), TensorError, "queries: expected float .any, 32., got float32 .32."),
            (unit(0, 8)[None], TensorError, "queries: expected float .any, 32., got float32 .1, 8."),
        ):
            with pytest.raises(error, match=message):
                gallery.search(queries, 1)
        with pytest.raises(InputError, match="k: expected at least 1, got 0"):
            gallery.search(unit(0)[None], 0)


OTHER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.face.test_gallery import add, unit
    from visavis.face.gallery import FolderGallery
    with FolderGallery.open(Path(sys.argv[1])) as gallery:
        [face] = add(gallery, 2, 2)
        gallery.remove_file(Path("/photos/1.jpg"))
        gallery.search(unit(2)[None], 1)
        print(face)
    """
)


def test_search_sees_what_another_process_committed(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        [first, kept] = add(gallery, 1, 1)[0], add(gallery, 3, 3)[0]
        gallery._index.save()
        assert gallery.search(unit(1)[None], 1)[0] == first
        run = subprocess.run(
            [sys.executable, "-c", OTHER, str(tmp_path / "g")],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert gallery.search(unit(2)[None], 1)[0] == int(run.stdout)
        np.testing.assert_array_equal(np.sort(gallery.search(unit(1)[None], 3)[0]), [[-1, kept, int(run.stdout)]])


def damaged(change):
    """A file of the index after `change` of its bytes."""

    def apply(path: Path) -> None:
        data = bytearray(path.read_bytes())
        path.unlink()
        if (changed := change(data)) is not None:
            path.write_bytes(changed)

    return apply


def flip(position):
    def change(data):
        data[position] ^= 0x10
        return data

    return change


DAMAGE = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "first bit": flip(0),
    "a bit inside": flip(1001),
    "rows in another order": lambda data: data[len(data) // 2 :] + data[: len(data) // 2],
}


@pytest.mark.parametrize("kind", ["vectors", "rows"])
@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index_is_made_again(tmp_path, kind, change):
    vectors = normalised(np.random.default_rng(0).standard_normal((200, DIM)))
    filled(tmp_path / "g", vectors).close()
    [path] = (tmp_path / "g" / "search").glob(f"*.{kind}")
    damaged(change)(path)
    with FolderGallery.open(tmp_path / "g") as gallery:
        check(gallery, vectors, vectors, 5)
        gallery.remove_file(Path("/nowhere"))
    with FolderGallery.open(tmp_path / "g") as gallery:
        check(gallery, vectors, vectors, 5)


def test_an_index_damaged_while_it_is_open_is_noticed(tmp_path):
    vectors = normalised(np.random.default_rng(0).standard_normal((200, DIM)))
    filled(tmp_path / "g", vectors).close()
    with FolderGallery.open(tmp_path / "g") as gallery:
        check(gallery, vectors, vectors, 5)
        [path] = (tmp_path / "g" / "search").glob("*.vectors")
        with path.open("r+b") as file:
            file.seek(150 * DIM)
            file.write(bytes(DIM))
        check(gallery, vectors, vectors, 5)


def test_an_index_of_another_history_is_made_again(tmp_path):
    """A copy of the database put back beside a newer index, where faces it still has were deleted."""
    vectors = normalised(np.random.default_rng(0).standard_normal((200, DIM)))
    gallery = filled(tmp_path / "g", vectors)
    gallery.close()
    old = (tmp_path / "g" / "gallery.sqlite").read_bytes()
    with FolderGallery.open(tmp_path / "g") as gallery:
        gallery.forget(gallery.enroll([7, 8], "Ada"))
    (tmp_path / "g" / "gallery.sqlite").write_bytes(old)
    with FolderGallery.open(tmp_path / "g") as gallery:
        check(gallery, vectors, vectors, 5)


def test_appending_writes_only_what_is_new_and_deleting_zeroes_in_place(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        for content in range(20):
            add(gallery, content, content)
        gallery._index.save()
        [path] = (tmp_path / "g" / "search").glob("*.vectors")
        before = path.read_bytes()
        add(gallery, 20, 20)
        gallery.remove_file(Path("/photos/3.jpg"))
        gallery.search(unit(3)[None], 20)
        with path.open("ab") as file:
            file.write(b"left by a crash" * 9)
        gallery._index.save()
        after = path.read_bytes()
        assert len(after) == len(before) + DIM
        assert after[: 3 * DIM] + after[4 * DIM : 20 * DIM] == before[: 3 * DIM] + before[4 * DIM :]
        assert after[3 * DIM : 4 * DIM] == bytes(DIM)
        for content in range(4, 20):
            gallery.remove_file(Path(f"/photos/{content}.jpg"))
        gallery._index.save()
        assert gallery.search(unit(20)[None], 1)[1] == pytest.approx(1, abs=1e-6)
        add(gallery, 21, 21)
    [path] = (tmp_path / "g" / "search").glob("*.vectors")
    assert path.stat().st_size == 5 * DIM, "the living only: 0, 1, 2, 20, 21"


def test_bytes_of_deleted_faces_go_when_the_process_that_deleted_them_was_killed(tmp_path):
    gallery = FolderGallery.open(tmp_path / "g", model=MODEL)
    for content in range(20):
        add(gallery, content, content)
    gallery._index.save()
    gallery.remove_file(Path("/photos/3.jpg"))
    [path] = (tmp_path / "g" / "search").glob("*.vectors")
    assert path.read_bytes()[3 * DIM : 4 * DIM] != bytes(DIM)
    gallery._database.close()  # without the save of close()
    FolderGallery.open(tmp_path / "g").close()
    assert path.read_bytes()[3 * DIM : 4 * DIM] == bytes(DIM)


def test_a_folder_that_cannot_hold_the_index_still_answers(tmp_path):
    vectors = normalised(np.random.default_rng(0).standard_normal((50, DIM)))
    gallery = filled(tmp_path / "g", vectors)
    (tmp_path / "g" / "search").write_text("in the way")
    check(gallery, vectors, vectors, 5)
    with pytest.raises(GalleryError, match="the search index cannot be written"):
        gallery._index.save()
    gallery.close()
