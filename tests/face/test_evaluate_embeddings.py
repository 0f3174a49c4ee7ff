"""The faces of a data set: found, embedded, kept; and the whole evaluation of a pack."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, shared
from tests.face.fake_pack import photo
from visavis.errors import InputError
from visavis.face import evaluate
from visavis.face.evaluate import embeddings
from visavis.face.evaluate.embeddings import central, embed_photos
from visavis.face.models import load_pack
from visavis.face.records import Detection, Photo
from visavis.face.workers import Workers

# Which of the photos of six people shows whom; the last has no face.
WHO = (0, 0, 0, 1, 1, 5, 5, 9, 9, 14)


@pytest.fixture
def paths(tmp_path):
    return [photo(tmp_path / f"{number}.png", person) for number, person in enumerate(WHO)] + [
        photo(tmp_path / "nobody.png")
    ]


@pytest.fixture
def pack(squares):
    return load_pack(squares)


@pytest.fixture
def looked_at(monkeypatch, in_process):  # noqa: ARG001 - what it puts in place is wrapped here
    """The names of the photos that were analysed, one call of the workers after another."""
    seen = []
    inner = Workers.run

    def run(recipe, chunks):
        for [file] in (chunk for chunk in chunks):
            seen.append(file.path.name)
            yield from inner(recipe, [[file]])

    monkeypatch.setattr(Workers, "run", run)
    return seen


def test_each_photo_gives_its_face(paths, pack, looked_at):
    report = []
    faces = embed_photos([*paths, paths[0]], pack, progress=lambda *now: report.append(now))
    assert faces.found.tolist() == [True] * 10 + [False, True]
    assert np.linalg.norm(faces.embeddings, axis=1) == pytest.approx([1.0] * 10 + [0.0, 1.0])
    assert (faces.embeddings[11] == faces.embeddings[0]).all()
    likeness = faces.embeddings[:10] @ faces.embeddings[:10].T
    same = np.equal.outer(WHO, WHO)
    assert likeness[same].min() > likeness[~same].max()
    assert faces.boxes_xyxy_px[0] == pytest.approx([-0.5, -0.5, 31.5, 31.5])
    assert faces.unreadable == {}
    assert sorted(looked_at) == sorted(path.name for path in paths)  # the one that comes twice, once
    assert report[0] == (0, 11)
    assert report[-1] == (11, 11)


def test_a_photo_that_cannot_be_read_is_told_and_gives_no_face(paths, pack, looked_at):
    assert looked_at == []
    paths[2].write_bytes(b"not a photo")
    paths[4].unlink()
    faces = embed_photos(paths, pack)
    assert faces.found.tolist() == [True, True, False, True, False, True, True, True, True, True, False]
    assert sorted(faces.unreadable) == [2, 4]
    assert faces.unreadable[2].startswith("file: expected a photo (JPEG")
    assert "No such file" in faces.unreadable[4]


def test_nothing_is_looked_at_twice(paths, pack, looked_at, tmp_path):
    cache = tmp_path / "kept" / "faces.sqlite3"
    first = embed_photos(paths, pack, cache=cache)
    assert len(looked_at) == 11
    assert cache.stat().st_mode & 0o077 == 0  # it holds faces
    looked_at.clear()
    paths[3] = paths[3].rename(tmp_path / "moved.png")  # content counts, not the name
    paths[5].write_bytes(paths[0].read_bytes())
    again = embed_photos(paths, pack, cache=cache)
    assert looked_at == []
    assert (again.embeddings[5] == first.embeddings[0]).all()
    others = [row for row in range(11) if row != 5]
    assert (again.embeddings[others] == first.embeddings[others]).all()
    assert (again.boxes_xyxy_px[others] == first.boxes_xyxy_px[others]).all()


def test_other_models_or_another_precision_are_kept_apart(paths, pack, looked_at, tmp_path, monkeypatch):
    cache = tmp_path / "faces.sqlite3"
    embed_photos(paths, pack, cache=cache)
    looked_at.clear()
    embed_photos(paths, pack, cache=cache, precision="float32")
    assert len(looked_at) == 11
    looked_at.clear()
    text = pack.calibration.with_suffix(".toml").read_text()
    other = pack.calibration.with_name("other.toml")
    other.write_text(text.replace('colour = "RGB"', 'colour = "BGR"'))  # the same weights, fed otherwise
    embed_photos(paths, load_pack(other), cache=cache)
    assert len(looked_at) == 11
    looked_at.clear()
    monkeypatch.setattr(embeddings, "__version__", "99.0")
    embed_photos(paths, pack, cache=cache)
    assert len(looked_at) == 11


def test_a_run_that_failed_keeps_what_it_did(paths, pack, tmp_path, monkeypatch, looked_at):
    cache = tmp_path / "faces.sqlite3"
    monkeypatch.setattr(embeddings, "_KEEP_EVERY", 2)

    def progress(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_photos(paths, pack, cache=cache, progress=progress)
    looked_at.clear()
    assert embed_photos(paths, pack, cache=cache).found.sum() == 10
    assert len(looked_at) == 6


SCRIPT = """
import sys
from pathlib import Path
from visavis.face.evaluate import embeddings
from visavis.face.models import load_pack
embeddings._KEEP_EVERY = 2
photos = sorted(Path(sys.argv[2]).glob("*.png"))
embeddings.embed_photos(photos, load_pack(sys.argv[1]), cache=Path(sys.argv[3]), workers=1,
                        progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("paths")
def test_a_run_that_was_killed_goes_on(squares, pack, tmp_path, looked_at):
    cache = tmp_path / "faces.sqlite3"
    command = [sys.executable, "-c", SCRIPT, squares, tmp_path, cache]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == "7\n":
                process.send_signal(signal.SIGKILL)
                break
    faces = embed_photos(sorted(tmp_path.glob("*.png")), pack, cache=cache)
    assert faces.found.sum() == 10
    assert 11 - 7 <= len(looked_at) <= 11 - 6


@pytest.mark.usefixtures("in_process")
def test_a_damaged_cache_says_so(paths, pack, tmp_path):
    cache = tmp_path / "faces.sqlite3"
    cache.write_bytes(b"not a database, and long enough to see that" * 100)
    with pytest.raises(InputError, match=r"faces.sqlite3: expected the embeddings .* not a database; delete the file"):
        embed_photos(paths, pack, cache=cache)


@pytest.mark.usefixtures("in_process")
def test_photos_without_any_face_are_refused(pack, tmp_path):
    with pytest.raises(InputError, match="data: expected photos with faces, got none among 2$"):
        embed_photos([photo(tmp_path / f"{n}.png") for n in range(2)], pack)
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match="got none among 2; of the first: file: expected a photo, got an empty file"):
        embed_photos([tmp_path / "0.png", tmp_path / "1.png"], pack)


def test_the_central_face_counts():
    picture = Photo(Path("x"), "", 101, 51, None)

    def at(x, y):
        return Detection(np.float32([x - 5, y - 5, x + 5, y + 5]), np.zeros((5, 2), np.float32), 0.9)

    assert central([at(10, 25), at(60, 25), at(50, 49)], picture) == 1
    assert central([at(50, 40), at(30, 25)], picture) == 0
    assert central([], picture) is None


# The whole


def folder_of(tmp_path, who=WHO):
    for number, person in enumerate(who):
        place = tmp_path / "people" / f"person {person}"
        place.mkdir(parents=True, exist_ok=True)
        photo(place / f"{number}.png", person)
    return tmp_path / "people"


@pytest.mark.usefixtures("in_process")
def test_a_folder_is_evaluated(tmp_path, pack):
    folder = folder_of(tmp_path)
    photo(folder / "person 0" / "nobody.png")
    (folder / "person 1" / "damaged.jpg").write_bytes(b"\xff\xd8\xff but no more")
    groups = tmp_path / "groups.csv"
    groups.write_text("person,group\nperson 0,a\nperson 1,a\nperson 5,b\nperson 9,b\n")
    found = evaluate.run(folder, pack, groups=groups, resamples=50)
    [report] = found.verification
    assert (report.people, report.genuine, report.impostor) == (5, 6 + 3 + 1 + 1, 55)
    # Both photos that give no face are refused in every pair of theirs; all others are told apart.
    assert report.without_face == 11 + 11 - 1
    assert [point.tar.value for point in report.operating_points] == pytest.approx([6 / 11])
    assert found.without_face() == [folder / "person 0" / "nobody.png"]
    assert list(found.unreadable()) == [folder / "person 1" / "damaged.jpg"]
    [search] = found.identification
    assert search.cumulative_match[0].value == pytest.approx(5 / 7)
    assert [(group.group, group.people) for group in report.groups] == [("a", 2), ("b", 2)]
    assert report.groups[1].false_non_match_rate.value == 0.0
    value = found.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["people_without_group"] == 1
    [row] = value["verification"]
    assert row["tar_at_far"][0]["value"] == report.operating_points[0].tar.value
    assert row["roc"]["thresholds"][0] is None  # accepts nothing
    for pair in row["hardest_pairs_of_one_person"]:
        assert pair["people"][0] == pair["people"][1]
        first, second = (embed_photos([Path(path)], pack).embeddings[0] for path in pair["photos"])
        assert float(first @ second) == pytest.approx(pair["similarity"], abs=1e-6)


@pytest.mark.usefixtures("in_process")
def test_templates_are_pooled(tmp_path, pack):
    """The photo without a face does not spoil the template it is in."""
    folder = folder_of(tmp_path)
    photo(folder / "person 0" / "nobody.png")
    rows = [
        f"{template},{who},{media},people/person {who}/{name}.png"
        for template, who, media, name in [
            ("a", 0, "v", 0), ("a", 0, "v", "nobody"), ("a", 0, "s", 1), ("b", 0, "w", 2), ("c", 1, "x", 3),
            ("d", 1, "y", 4), ("e", 5, "z", 5), ("f", 5, "z", 6), ("g", 9, "q", 7),
        ]
    ]  # fmt: skip
    (tmp_path / "templates.csv").write_text("\n".join(["template,person,media,path", *rows]))
    found = evaluate.run(tmp_path / "templates.csv", pack, resamples=20)
    [report] = found.verification
    assert (report.people, report.genuine, report.impostor, report.without_face) == (4, 3, 18, 0)
    assert report.equal_error_rate.value == 0.0
    assert found.identification[0].cumulative_match[0].value == 1.0
    vectors = embed_photos(found.protocol.photos[:3], pack).embeddings
    pooled = vectors[0] + vectors[2]
    expected = float(pooled @ found.faces.embeddings[3] / np.linalg.norm(pooled))
    number = found.protocol.pairs[0].rows.tolist().index([0, 1])
    assert found.similarities[0][number] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_att_faces_gives_the_figures_of_the_benchmark(fast_pack):
    """The benchmark counts by its own way; half a percent is left for the CPU's bfloat16."""
    [file] = (ROOT / "benchmarks" / "results").glob("accuracy--*.json")
    expected = json.loads(file.read_text())["fast"]["att_faces"]
    found = evaluate.run(shared("data", "att_faces"), fast_pack, workers=1, resamples=100)
    [report], [search] = found.verification, found.identification
    tars = {point.far: 100 * point.tar.value for point in report.operating_points}
    assert int(found.faces.found.sum()) == expected["faces_found"]
    assert tars[1e-2] == pytest.approx(expected["tar_at_far_1e-2"], abs=0.5)
    assert tars[1e-3] == pytest.approx(expected["tar_at_far_1e-3"], abs=0.5)
    assert 100 * search.cumulative_match[0].value == pytest.approx(expected["rank_1"], abs=0.5)
    for estimate in [report.equal_error_rate, *(point.tar for point in report.operating_points)]:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert math.isfinite(estimate.high)
