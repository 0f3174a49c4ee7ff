import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import InputError, ModelError, TensorError
from visavis.face.match import Calibration, Pairs, calibration_of, template
from visavis.face.models import packs
from visavis.face.quality import MEASURES, QualityModel

M = len(MEASURES)
CALIBRATION = Calibration(
    similarity=np.array([-1.0, -0.1, 0.2, 0.3, 0.35, 0.5]),
    log10_false_match_rate=np.array([0.0, -0.1, -1.0, -2.5, -3.0, -5.0]),
    slope=25.0,
    intercept=-8.0,
    cluster_similarity=0.33,
    quality=QualityModel(np.arange(M) / 3, np.ones(M) / 7, np.ones(M), np.zeros(M), bias=0.1),
    measured_on="made up",
    pairs=Pairs(np.linspace(-0.5, 0.7, 5), np.array([0.1, 0.8, 0.1, 0.0]), np.array([0.0, 0.0, 0.25, 0.75])),
)
SIMILARITY = st.floats(-1, 1)
CANDIDATES = st.integers(1, 10**7)


@given(SIMILARITY, SIMILARITY, CANDIDATES)
def test_the_rate_falls_with_the_similarity(first, second, candidates):
    low, high = sorted((first, second))
    rates = [CALIBRATION.false_match_rate(s, candidates=candidates) for s in (low, high)]
    assert 1 >= rates[0] >= rates[1] >= 1e-9


@given(SIMILARITY, CANDIDATES, CANDIDATES)
def test_the_rate_rises_with_the_candidates(similarity, first, second):
    few, many = sorted((first, second))
    assert CALIBRATION.false_match_rate(similarity, candidates=few) <= CALIBRATION.false_match_rate(
        similarity, candidates=many
    )


@given(SIMILARITY, st.integers(1, 1000))
def test_many_candidates_are_as_many_independent_tries(similarity, candidates):
    one = CALIBRATION.false_match_rate(similarity)
    expected = 1 - (1 - one) ** candidates
    assert CALIBRATION.false_match_rate(similarity, candidates=candidates) == pytest.approx(expected, rel=1e-6)


def test_the_rate_at_between_and_beyond_the_measured_points():
    for similarity, exponent in zip(CALIBRATION.similarity, CALIBRATION.log10_false_match_rate, strict=True):
        assert math.log10(CALIBRATION.false_match_rate(similarity)) == pytest.approx(exponent, abs=1e-9)
    assert CALIBRATION.false_match_rate(0.25) == pytest.approx(10**-1.75)
    # The last three points fall from -2.5 to -5 over .2: so it goes on, down to 1e-9.
    assert CALIBRATION.false_match_rate(0.6) == pytest.approx(10**-6.25)
    assert CALIBRATION.false_match_rate(1.0) == 1e-9
    assert CALIBRATION.false_match_rate(-1.5) == pytest.approx(1.0)


@given(st.floats(-8.9, -0.01), st.sampled_from([1, 10, 1000]))
def test_similarity_at_is_the_inverse(exponent, candidates):
    rate = 10**exponent
    similarity = CALIBRATION.similarity_at(rate, candidates=candidates)
    if similarity >= 1.9:  # the floor of 1e-9 a candidate keeps so many candidates above it
        assert CALIBRATION.false_match_rate(1.0, candidates=candidates) > rate
        return
    assert CALIBRATION.false_match_rate(similarity, candidates=candidates) <= rate
    assert CALIBRATION.false_match_rate(similarity - 1e-6, candidates=candidates) > rate
    assert CALIBRATION.false_match_rate(similarity - 1e-6, candidates=candidates) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("rate", [0.0, 1e-10, 1.0, 2.0, -1.0, math.nan])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(InputError, match=r"false_match_rate: expected a rate in \[1e-9, 1\), got"):
        CALIBRATION.similarity_at(rate)


@given(SIMILARITY, CANDIDATES)
def test_probability_by_bayes(similarity, candidates):
    ratio = math.exp(25.0 * similarity - 8.0)  # likelihood of "same" against "different"
    # Of the candidates and "none of them" each is as likely as any other before: one against `candidates`.
    expected = ratio / (ratio + candidates)
    assert CALIBRATION.probability(similarity, candidates=candidates) == pytest.approx(expected, rel=1e-6)


def test_probability_does_not_overflow():
    steep = replace(CALIBRATION, slope=1e6)
    assert (steep.probability(-1.0), steep.probability(1.0)) == (pytest.approx(0), 1.0)


def test_json_round_trip():
    values = json.loads(json.dumps(CALIBRATION.to_json()))
    back = Calibration.from_json(values)
    for field in fields(Calibration):
        if field.name == "quality":
            for part in fields(QualityModel):
                found, expected = (getattr(c.quality, part.name) for c in (back, CALIBRATION))
                np.testing.assert_allclose(found, expected, atol=1e-6)
        elif field.name == "pairs":
            for part in fields(Pairs):
                np.testing.assert_allclose(getattr(back.pairs, part.name), getattr(CALIBRATION.pairs, part.name))
        elif field.name == "measured_on":
            assert back.measured_on == CALIBRATION.measured_on
        else:
            np.testing.assert_allclose(getattr(back, field.name), getattr(CALIBRATION, field.name), atol=1e-4)
    assert back.to_json() == values


SHARES = "expected the shares of pairs by similarity, which sum to 1, got others"
RISING = "expected similarities that rise with rates that fall"


def test_a_calibration_without_its_pairs_is_read_and_written():
    without = replace(CALIBRATION, pairs=None)
    assert "pairs" not in without.to_json()
    assert Calibration.from_json(without.to_json()).pairs is None


def damaged(**changes):
    values = CALIBRATION.to_json()
    for part in ("quality", "pairs"):
        values[part] |= changes.pop(part, {})
    return values | changes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected the file that calibrating writes, got KeyError"),
        ([1, 2], "expected the file that calibrating writes, got TypeError"),
        (damaged(slope="steep"), "expected the file that calibrating writes, got ValueError"),
        (damaged(quality={"measures": ["beauty"]}), "expected the quality measures of this version, got others"),
        (damaged(quality={"weights": [1.0]}), "expected 9 numbers of each kind for the quality, got others"),
        (damaged(similarity=[0.1, 0.2]), RISING),
        (
            damaged(similarity=[0.1], log10_false_match_rate=[0.0]),
            "expected similarities that rise with rates that fall",
        ),
        (damaged(similarity=[0.1] * 6), RISING),
        (
            damaged(log10_false_match_rate=[0, -1, -2, -1, -3, -4]),
            "expected similarities that rise with rates that fall",
        ),
        (damaged(similarity=[-1, 0, math.nan, 0.2, 0.3, 0.4]), RISING),
        (damaged(pairs={"same": [0.5, 0.5]}), SHARES),
        (damaged(pairs={"same": [0.5, 0.5, 0.5, math.nan]}), SHARES),
        (damaged(pairs={"low": 0.9}), SHARES),
    ],
)
def test_a_foreign_calibration_is_refused(values, message):
    with pytest.raises(ModelError, match=f"calibration: {message}"):
        Calibration.from_json(values)


def test_a_pack_s_own_calibration(tmp_path):
    pack = replace(packs()["default"], calibration=tmp_path / "own.json")
    with pytest.raises(ModelError, match="expected one for centerface with dlib-resnet-v1, got none: "):
        calibration_of(pack)
    for text in ("", "{", "\N{BOM}not json"):
        pack.calibration.write_text(text)
        with pytest.raises(ModelError, match=r"own.json: expected a calibration, got no JSON"):
            calibration_of(pack)
    pack.calibration.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ModelError, match=r"own.json: expected a calibration, got no JSON"):
        calibration_of(pack)
    pack.calibration.write_text(json.dumps(CALIBRATION.to_json()))
    assert calibration_of(pack).measured_on == "made up"


@pytest.mark.parametrize("name", ["default", "fast"])
def test_the_calibrations_we_ship(name):
    calibration = calibration_of(packs()[name])
    assert calibration.log10_false_match_rate[0] == 0.0
    assert calibration.log10_false_match_rate[-1] < -5
    low, high = calibration.similarity_at(1e-2), calibration.similarity_at(1e-5)
    assert -1 < low < calibration.similarity_at(1e-3) < high < 1
    assert calibration.probability(low) < 0.9 < calibration.probability(high)
    assert low < calibration.cluster_similarity < high
    assert "CFP" in calibration.measured_on


def unit_vectors(count, dim=24, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(1, 30), st.integers(0, 1000))
def test_a_template_s_similarity_is_the_weighted_mean_of_its_best_faces(count, seed):
    faces, probe = unit_vectors(count, seed=seed), unit_vectors(1, seed=seed + 5000)[0]
    qualities = np.random.default_rng(seed).uniform(0, 1, count).astype(np.float32)
    best = sorted(range(count), key=lambda i: -qualities[i])[:16]
    weights = np.array([qualities[i] + 1e-3 for i in best])
    expected = sum(w * float(faces[i] @ probe) for w, i in zip(weights, best, strict=True)) / weights.sum()
    found = template(faces, qualities)
    assert found.dtype == np.float32
    assert found @ probe == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(found) <= 1 + 1e-6
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_allclose(template(faces[order], qualities[order]), found, atol=1e-6)


def test_templates_of_one_face_and_of_one_face_twice():
    face = unit_vectors(1)
    for quality in (0.0, 1.0):
        np.testing.assert_allclose(template(face, np.array([quality], np.float32)), face[0], atol=1e-7)
        twice = template(face.repeat(2, 0), np.array([quality, 0.5], np.float32))
        np.testing.assert_allclose(twice, face[0], atol=1e-6)


def test_a_bad_face_hardly_counts():
    faces = unit_vectors(2)
    found = template(faces, np.array([0.9, 0.0], np.float32))
    assert found @ faces[0] > 0.99


def test_a_template_of_nothing_or_of_unequal_lists_is_refused():
    with pytest.raises(InputError, match="embeddings: expected at least one face, got none"):
        template(np.zeros((0, 8), np.float32), np.zeros(0, np.float32))
    with pytest.raises(TensorError, match=r"qualities: expected float \[2\], got float32 \[3\]"):
        template(unit_vectors(2), np.ones(3, np.float32))
    with pytest.raises(TensorError, match=r"embeddings: expected float \[any, any\], got float32 \[24\]"):
        template(unit_vectors(1)[0], np.ones(1, np.float32))
