import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import shared
from tests.face import fake_pack
from visavis.errors import ModelError
from visavis.face import analyze, photos, quality
from visavis.face.align import TEMPLATES
from visavis.face.analyze import Analyzer
from visavis.face.models import load_pack
from visavis.face.photos import Decoded
from visavis.face.records import Detection, Photo

CELL = fake_pack.CELL_PX


@pytest.fixture
def analyzer(squares):
    return Analyzer(load_pack(squares))


def decoded(pixels, scale=1.0):
    height, width = (round(side / scale) for side in pixels.shape[:2])
    return Decoded(Photo(Path("a.jpg"), "0" * 64, width, height, None), np.ascontiguousarray(pixels), scale)


def squares_at(*people, **options):
    return decoded(fake_pack.pixels(*people, **options))


def test_boxes_landmarks_and_embeddings_of_drawn_faces(analyzer):
    (faces,) = analyzer([squares_at(0, 5, 9)])
    lefts = sorted(float(face.detection.box_xyxy_px[0]) for face in faces)
    assert lefts == pytest.approx([-0.5, 2 * CELL - 0.5, 4 * CELL - 0.5], abs=0.01)
    for face in faces:
        left, top, right, bottom = face.detection.box_xyxy_px
        assert (right - left, bottom - top) == pytest.approx((CELL, CELL), abs=0.01)
        expected = TEMPLATES["arcface-112"] * CELL / 112 + [left, top]
        np.testing.assert_allclose(face.detection.landmarks_xy_px, expected, atol=0.5)
        assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
        assert face.embedding.dtype == np.float32
        assert face.residual_px < 0.01
        assert 0 < face.quality < 1
        assert face.measures.shape == (len(quality.MEASURES),)


def test_the_same_person_is_near_and_others_are_far(analyzer):
    found = analyzer([squares_at(7), squares_at(7, seed=9)])
    first, second = (face.embedding for (face,) in found)
    others = [face.embedding for face in analyzer([squares_at(1, 12, 18)])[0]]
    assert first @ second > 0.9
    assert max(first @ other for other in others) < 0.5


def test_stages_in_a_row_are_the_stages_one_by_one(analyzer):
    photo = squares_at(3, 8)
    (faces,) = analyzer([photo])
    (detections,) = analyzer.detector([photo.pixels])
    assert len(faces) == len(detections) == 2
    for face, detection in zip(faces, detections, strict=True):
        aligned = analyzer.embedder.align(photo.pixels, detection.landmarks_xy_px)
        (embedding,), (norm,) = analyzer.embedder(aligned.crop[None])
        measures = quality.measure(detection, aligned, norm)
        np.testing.assert_allclose(face.embedding, embedding, atol=1e-5)
        np.testing.assert_allclose(face.measures, measures, atol=1e-5)
        assert face.quality == pytest.approx(analyzer.calibration.quality(measures[None])[0], abs=1e-5)
        assert face.detection.score == detection.score


def test_unequal_photos_together_are_the_photos_alone(analyzer):
    several = [squares_at(0), squares_at(), squares_at(1, 2, 3, 4, 5, 6, 7), squares_at(9, columns=10), squares_at(3)]
    together = analyzer(several)
    assert [len(faces) for faces in together] == [1, 0, 7, 1, 1]
    for faces, photo in zip(together, several, strict=True):
        for face, alone in zip(faces, analyzer([photo])[0], strict=True):
            np.testing.assert_allclose(face.embedding, alone.embedding, atol=1e-5)
            np.testing.assert_allclose(face.detection.box_xyxy_px, alone.detection.box_xyxy_px, atol=1e-4)
            assert face.thumbnail == alone.thumbnail


def test_no_photo_and_no_face(analyzer):
    assert analyzer([]) == []
    assert analyzer([squares_at()]) == [[]]
    assert analyzer([decoded(np.zeros((1, 1, 3), np.uint8))]) == [[]]


def test_of_a_reduced_photo_boxes_are_in_pixels_of_the_photo(analyzer):
    pixels = fake_pack.pixels(4, 11)
    (whole,), (reduced,) = analyzer([decoded(pixels)]), analyzer([decoded(pixels, scale=0.25)])
    for face, of_quarter in zip(whole, reduced, strict=True):
        for name in ("box_xyxy_px", "landmarks_xy_px"):
            corner = getattr(face.detection, name) + 0.5  # from the corner of the first pixel the factor is exact
            np.testing.assert_allclose(getattr(of_quarter.detection, name) + 0.5, corner * 4, rtol=1e-5)
        assert of_quarter.quality == face.quality  # of the pixels there are


@pytest.mark.parametrize(("scale", "least", "count"), [(1.0, 31, 1), (1.0, 33, 0), (0.25, 127, 1), (0.25, 129, 0)])
def test_least_size_is_in_pixels_of_the_photo(analyzer, scale, least, count):
    (faces,) = analyzer([decoded(fake_pack.pixels(4), scale)], min_size_px=least)
    assert len(faces) == count


def test_landmarks_on_one_spot_are_no_face(analyzer, monkeypatch):
    (good,) = analyzer.detector([squares_at(4).pixels])[0]
    bad = replace(good, landmarks_xy_px=np.full((5, 2), 40, np.float32))
    monkeypatch.setattr(analyzer, "detector", lambda images, **_: [[bad, good, bad] for _ in images])
    (faces,) = analyzer([squares_at(4)])
    assert len(faces) == 1
    np.testing.assert_array_equal(faces[0].detection.box_xyxy_px, good.box_xyxy_px)


def test_thumbnails_show_the_face_and_are_small(analyzer):
    person = 4
    (face,) = analyzer([squares_at(person, columns=8)])[0]
    image = np.asarray(Image.open(io.BytesIO(face.thumbnail)))
    assert image.ndim == 3
    assert max(image.shape) <= 112
    colour = image[: CELL // 2, : CELL // 2].mean((0, 1))
    assert np.abs(colour - fake_pack.COLOURS[person]).max() < 25
    assert len(face.thumbnail) < 8000
    (bare,) = analyzer([squares_at(person)], thumbnails=False)[0]
    assert bare.thumbnail == b""


@pytest.mark.parametrize(
    "box",
    [(-80, -80, -40, -40), (300, 20, 340, 60), (20, 900, 60, 940), (-5, -5, 500, 400), (9, 9, 9, 9), (3, 3, 4, 4)],
)
def test_a_thumbnail_can_be_cut_wherever_the_box_lies(box):
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    detection = Detection(np.array(box, np.float32), np.zeros((5, 2), np.float32), 0.9)
    data = analyze.thumbnail(image, detection)
    assert max(Image.open(io.BytesIO(data)).size) <= 112


def test_a_pack_without_calibration_is_refused(squares):
    pack = replace(load_pack(squares), calibration=None)
    with pytest.raises(ModelError, match="calibration: expected one for square-detector with square-embedder, got"):
        Analyzer(pack)


# With the real networks.


@pytest.fixture(params=["default", "fast"])
def real(request):
    return Analyzer(request.getfixturevalue(f"{request.param}_pack"))


@pytest.fixture(scope="module")
def people():
    """Three photos of each of three people, 140 to 350 px."""
    folders = sorted(path for path in shared("data", "celeb5", "train").iterdir() if path.is_dir())[:3]
    return [sorted(folder.glob("*"))[:3] for folder in folders]


def test_friends_are_nearer_than_strangers(real, people):
    found = real([photos.read(path) for paths in people for path in paths])
    best = [max(faces, key=lambda face: face.detection.score) for faces in found]
    vectors = np.stack([face.embedding for face in best])
    who = np.repeat(np.arange(3), 3)
    rates = np.array([[real.calibration.false_match_rate(float(s)) for s in row] for row in vectors @ vectors.T])
    same = (who[:, None] == who) & ~np.eye(9, dtype=bool)
    assert np.median(rates[same]) < 1e-3
    assert np.median(rates[who[:, None] != who]) > 0.1


def test_a_reduced_jpeg_gives_the_same_faces(real, people):
    """Decoded at half its size, and at its own: the same box in the photo, the same person."""
    image = Image.open(people[0][2]).convert("RGB")
    large = image.resize((image.width * 8, image.height * 8), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=92)
    half = photos.decode(buffer.getvalue(), Path("a.jpg"), long_side_px=max(large.size) // 2)
    assert half.scale == 0.5
    ((whole,), (reduced,)) = real([photos.decode(buffer.getvalue(), Path("a.jpg")), half])
    extent = np.ptp(whole.detection.box_xyxy_px.reshape(2, 2), axis=0).max()
    np.testing.assert_allclose(reduced.detection.landmarks_xy_px, whole.detection.landmarks_xy_px, atol=0.04 * extent)
    assert whole.embedding @ reduced.embedding > real.calibration.similarity_at(1e-4)
