import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from visavis.errors import TensorError
from visavis.face.align import TEMPLATES, align
from visavis.face.quality import MEASURES, QualityModel, measure
from visavis.face.records import AlignedFace, Detection

TEMPLATE = TEMPLATES["arcface-112"]
NOISE = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
CHECKERS = np.indices((112, 112)).sum(0)[..., None].repeat(3, 2) % 2 * 255
M = len(MEASURES)


def face(*, crop=NOISE, landmarks=TEMPLATE, matrix=((1, 0, 0), (0, 1, 0)), residual_px=0.5, score=0.9, norm=10.0):
    box = np.array([0, 0, 112, 112], np.float32)
    detection = Detection(box, np.asarray(landmarks, np.float32), score)
    aligned = AlignedFace(crop, np.array(matrix, np.float64), residual_px)
    return dict(zip(MEASURES, measure(detection, aligned, norm), strict=True))


def in_photo(*, scale=1.0, degrees=0.0, landmarks=TEMPLATE):
    """The measures of a face that lies so in a noisy photo."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    points = ((landmarks - 55.5) @ np.array([[c, s], [-s, c]]) + 400).astype(np.float32)
    photo = np.random.default_rng(1).integers(0, 256, (800, 800, 3), np.uint8)
    aligned = align(photo, points, TEMPLATE, width=112, height=112)
    found = measure(Detection(np.zeros(4, np.float32), points, 0.9), aligned, 10.0)
    return dict(zip(MEASURES, found, strict=True))


@pytest.mark.parametrize("crop", [NOISE * 0, NOISE * 0 + 255, NOISE // 128 * 255, CHECKERS])
@pytest.mark.parametrize("landmarks", [TEMPLATE, TEMPLATE * 0 + 50, TEMPLATE[::-1], TEMPLATE * 1e6, TEMPLATE * [0, 1]])
@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_measures_are_finite_however_awkward_the_face(crop, landmarks, score, scale):
    matrix = ((scale, 0, 0), (0, scale, 0))
    found = face(
        crop=crop.astype(np.uint8), landmarks=landmarks, matrix=matrix, score=score, residual_px=0.0, norm=1e-30
    )
    assert all(math.isfinite(value) for value in found.values()), found


def test_blur_lowers_sharpness():
    crop = Image.fromarray(NOISE)
    blurred = [face(crop=np.asarray(crop.filter(ImageFilter.GaussianBlur(r))))["sharpness"] for r in (0, 0.5, 1, 2, 4)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] - blurred[-1] > 2


def test_an_enlarged_small_face_is_less_sharp():
    crop = Image.fromarray(NOISE)
    sharpness = [face(crop=np.asarray(crop.resize((n, n)).resize((112, 112))))["sharpness"] for n in (112, 56, 28, 14)]
    assert sharpness == sorted(sharpness, reverse=True)


def test_sharpness_does_not_depend_on_contrast_nor_contrast_on_brightness():
    half = face(crop=NOISE // 2)
    assert half["sharpness"] == pytest.approx(face()["sharpness"], abs=0.02)
    assert face()["contrast"] - half["contrast"] == pytest.approx(math.log(2), abs=0.02)
    assert face(crop=NOISE // 2 + 100)["contrast"] == pytest.approx(half["contrast"], abs=1e-9)


@pytest.mark.parametrize("degrees", [0, 35])
def test_size_counts_doublings(degrees):
    sizes = [in_photo(scale=scale, degrees=degrees)["size"] for scale in (0.5, 1.0, 2.0, 4.0)]
    assert sizes == pytest.approx([-1, 0, 1, 2], abs=1e-5)


@pytest.mark.parametrize("degrees", [-60, -10, 0, 20, 90])
def test_roll_is_the_sine_of_the_turn_and_other_pose_measures_do_not_see_it(degrees):
    upright, turned = in_photo(), in_photo(degrees=degrees)
    assert turned["roll"] == pytest.approx(abs(math.sin(math.radians(degrees))), abs=1e-5)
    for name in ("yaw", "pitch", "size"):
        assert turned[name] == pytest.approx(upright[name], abs=1e-4)


def nose_moved(x, y):
    return TEMPLATE + np.array([[0, 0], [0, 0], [x, y], [0, 0], [0, 0]])


def test_yaw_grows_as_the_nose_leaves_the_middle_and_sides_are_alike():
    eyes = TEMPLATE[:2].mean(0)
    centred = nose_moved(eyes[0] - TEMPLATE[2, 0], 0)
    assert face(landmarks=centred)["yaw"] == pytest.approx(0, abs=1e-6)
    distance = np.hypot(*(TEMPLATE[1] - TEMPLATE[0]))
    for share in (0.1, 0.3, 0.6):
        for side in (-1, 1):
            landmarks = centred + np.array([[0, 0], [0, 0], [side * share * distance, 0], [0, 0], [0, 0]])
            assert face(landmarks=landmarks)["yaw"] == pytest.approx(share, abs=1e-5)


def test_pitch_is_the_nose_s_place_between_eyes_and_mouth():
    eyes_y, mouth_y = TEMPLATE[:2, 1].mean(), TEMPLATE[3:, 1].mean()
    for share in (-0.2, 0.0, 0.5, 1.0):
        moved = nose_moved(0, eyes_y + share * (mouth_y - eyes_y) - TEMPLATE[2, 1])
        assert face(landmarks=moved)["pitch"] == pytest.approx(share, abs=1e-5)


def test_a_mirrored_face_measures_the_same():
    mirrored = (TEMPLATE * [-1, 1] + [111, 0])[[1, 0, 2, 4, 3]]
    ours, theirs = face(), face(crop=NOISE[:, ::-1], landmarks=mirrored)
    assert theirs == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("residual", {"residual_px": 0.2}, {"residual_px": 4.0}),
        ("score", {"score": 0.6}, {"score": 0.99}),
        ("norm", {"norm": 2.0}, {"norm": 20.0}),
    ],
)
def test_the_rest_rises_with_its_cause(name, low, high):
    assert face(**low)[name] < face(**high)[name]


def test_score_and_norm_by_the_formula():
    found = face(score=0.8, norm=7.0)
    assert found["score"] == pytest.approx(math.log(4))
    assert found["norm"] == pytest.approx(math.log(7))


MODEL = QualityModel(
    np.linspace(-1, 1, M), np.linspace(0.5, 2, M), np.linspace(1, -1, M), np.linspace(-0.3, 0.2, M), bias=0.4
)


@given(st.lists(st.floats(-3, 3), min_size=M, max_size=M))
def test_the_model_by_its_formula(standard):
    odds = 0.4 + sum(w * z + c * z * z for w, c, z in zip(MODEL.weights, MODEL.curvature, standard, strict=True))
    found = MODEL((MODEL.mean + MODEL.deviation * np.array(standard))[None])
    assert found == pytest.approx([1 / (1 + math.exp(-odds))])


@given(st.lists(st.floats(-1e12, 1e12), min_size=M, max_size=M))
def test_scores_stay_inside_and_stop_at_four_deviations(values):
    measures = np.array(values)
    (score,) = MODEL(measures[None])
    assert 0 < score < 1
    held = MODEL.mean + MODEL.deviation * np.clip((measures - MODEL.mean) / MODEL.deviation, -4, 4)
    assert score == pytest.approx(MODEL(held[None])[0])


def test_many_faces_at_once_and_none():
    measures = np.random.default_rng(0).normal(size=(7, M))
    alone = [MODEL(row[None])[0] for row in measures]
    assert MODEL(measures) == pytest.approx(alone)
    assert MODEL(measures[:0]).shape == (0,)
    with pytest.raises(TensorError, match=rf"measures: expected float \[any, {M}\], got float64 \[7, {M - 1}\]"):
        replace(MODEL)(measures[:, 1:])
