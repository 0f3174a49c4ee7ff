import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import betainc, expit
from scipy.stats import norm

from visavis.errors import InputError, TensorError
from visavis.face import calibrate as calibrating
from visavis.face.calibrate import UNCALIBRATED, calibrate, calibrate_folder, fit_quality
from visavis.face.models import load_pack
from visavis.face.quality import MEASURES

M = len(MEASURES)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def crowd(people, photos, dim, spread, seed=0):
    """[people * photos, dim] embeddings around directions drawn evenly, and who each is."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 1, dim))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    noise = random.normal(0, spread / math.sqrt(dim), (people, photos, dim))
    return unit((centres + noise).reshape(-1, dim)), np.repeat(np.arange(people), photos)


def share_above(similarity, dim):
    """Of pairs of directions drawn evenly: (1 + cosine) / 2 follows Beta((dim - 1) / 2, (dim - 1) / 2)."""
    half = (dim - 1) / 2
    return 1 - betainc(half, half, (1 + np.clip(similarity, -1, 1)) / 2)


@pytest.fixture(scope="module")
def measured():
    embeddings, people = crowd(700, 3, 16, 0.6)
    return calibrate(embeddings, people, UNCALIBRATED.quality, measured_on="a crowd")


def test_the_false_match_rate_is_the_closed_form(measured):
    pairs = 2100 * 2097 / 2
    expected = share_above(measured.similarity[1:], 16)
    # Distinct pairs are independent two by two but for the nine of the same two people: three times the spread at most.
    spread = 3 * np.sqrt(expected * (1 - expected) / pairs)
    found = 10 ** measured.log10_false_match_rate[1:]
    assert (np.abs(found - expected) < 4 * spread).all()
    assert len(found) == 22
    assert found[-1] * pairs >= 20
    assert found[-1] < 1e-5


def test_the_pairs_of_different_people_lie_as_the_closed_form_says(measured):
    pairs = measured.pairs
    expected = -np.diff(share_above(pairs.edges, 16))
    expected[[0, -1]] += 1 - share_above(pairs.edges[0], 16), share_above(pairs.edges[-1], 16)
    np.testing.assert_allclose(pairs.different, expected, atol=0.002)
    assert pairs.same.sum() == pytest.approx(1)
    assert pairs.same @ pairs.edges[:-1] > pairs.different @ pairs.edges[1:] + 0.5  # one person's are more alike


def test_between_its_points_the_rate_is_near_the_closed_form(measured):
    for similarity in np.linspace(measured.similarity[1], measured.similarity[-1], 50):
        decades = math.log10(measured.false_match_rate(float(similarity)) / share_above(similarity, 16))
        assert abs(decades) < 0.2  # the last points stand on a few dozen pairs


def test_rates_beyond_the_points_are_not_too_low(measured):
    """The closed form falls ever faster, so a line in its logarithm errs on the side of caution."""
    for similarity in np.linspace(measured.similarity[-1] + 0.01, 0.99, 20):
        assert measured.false_match_rate(float(similarity)) > 0.5 * share_above(similarity, 16)


def test_a_rate_is_a_level_or_the_next_below(measured):
    levels = [1.0, 0.99, 0.9, *10.0 ** -np.arange(0.25, 9, 0.25)]
    for rate, level in zip(10**measured.log10_false_match_rate, sorted(levels, reverse=True), strict=False):
        assert 0.9 * level < rate <= level * (1 + 1e-9)


def test_pairs_are_counted_once_each_by_enumeration():
    embeddings, people = crowd(300, 5, 8, 0.5)  # more than one block of rows
    same, different = calibrating._histograms(embeddings, people)
    similarities = embeddings.astype(np.float64) @ embeddings.T.astype(np.float64)
    upper = np.triu(np.ones_like(similarities, bool), 1)
    alike = people[:, None] == people
    assert (same.sum(), different.sum()) == ((upper & alike).sum(), (upper & ~alike).sum())
    edges = np.linspace(-1, 1, len(same) + 1)
    for found, mask in ((same, upper & alike), (different, upper & ~alike)):
        expected, _ = np.histogram(similarities[mask], edges)
        assert np.abs(np.cumsum(found - expected)).max() <= 3  # float32 may put one on the other side of an edge


def two_normals(edges, mean_same, mean_different, deviation):
    return (1e6 * np.diff(norm.cdf(edges, mean, deviation)) for mean in (mean_same, mean_different))


def test_probability_of_two_normals_is_the_closed_form():
    edges = np.linspace(-1, 1, 8001)
    same, different = two_normals(edges, 0.5, 0.1, 0.1)
    slope, intercept = calibrating._balanced_logistic((edges[:-1] + edges[1:]) / 2, same, different)
    assert slope == pytest.approx((0.5 - 0.1) / 0.1**2, rel=0.01)
    assert intercept == pytest.approx(-(0.5**2 - 0.1**2) / (2 * 0.1**2), rel=0.01)


@pytest.mark.parametrize("shares", [(1, 1), (1, 1000)])
def test_probability_by_scipy(shares):
    random = np.random.default_rng(0)
    centres = np.linspace(-0.9, 0.9, 19)
    same, different = random.integers(1, 50, (2, 19)) * np.array(shares)[:, None] * np.exp([3 * centres, -3 * centres])

    def loss(parameters):
        odds = parameters[0] * centres + parameters[1]
        cost = np.logaddexp(0, -odds) @ same / same.sum() + np.logaddexp(0, odds) @ different / different.sum()
        return 1e4 * cost + 0.5 * 1e-3 * parameters[0] ** 2

    expected = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-3}).x
    assert calibrating._balanced_logistic(centres, same, different) == pytest.approx(expected, abs=1e-3)


def test_separable_similarities_have_a_steep_but_finite_slope():
    centres = np.linspace(-0.9, 0.9, 19)
    slope, intercept = calibrating._balanced_logistic(centres, (centres > 0.5) * 5.0, (centres < 0.3) * 9.0)
    assert 50 < slope < 1e4
    assert 0.3 < -intercept / slope < 0.6


def test_the_clustering_threshold_lies_between_strangers_and_friends(measured):
    assert share_above(measured.cluster_similarity, 16) < 0.04
    embeddings, people = crowd(700, 3, 16, 0.6)
    own = np.sum(embeddings[0::3] * embeddings[1::3], axis=1)
    assert (own > measured.cluster_similarity).mean() > 0.5
    assert people[0] == people[2] != people[3]


def test_the_calibration_s_record(measured):
    assert measured.measured_on == "a crowd"
    assert measured.quality is UNCALIBRATED.quality
    assert measured.similarity[0] == -1.0
    assert (np.diff(measured.similarity) > 0).all()
    assert (np.diff(measured.log10_false_match_rate) < 0).all()
    assert type(measured).from_json(measured.to_json()).slope == pytest.approx(measured.slope, abs=1e-5)


def test_uncalibrated_says_nothing():
    assert UNCALIBRATED.false_match_rate(0.99) == pytest.approx(1.0)
    assert UNCALIBRATED.probability(0.99) == 0.5
    assert UNCALIBRATED.quality(np.random.default_rng(0).normal(size=(3, M))) == pytest.approx([0.5] * 3)


def test_photos_filed_under_two_people_do_not_stop_it():
    embeddings, people = crowd(200, 3, 16, 0.6)
    embeddings[300:360] = embeddings[:60]
    found = calibrate(embeddings, people, UNCALIBRATED.quality, measured_on="with doubles")
    assert found.similarity[-1] < 1
    assert 10 ** found.log10_false_match_rate[-1] > 60 / (600 * 597 / 2)


def test_embeddings_that_tell_nobody_apart_are_refused():
    people = np.repeat(np.arange(100), 3)
    with pytest.raises(InputError, match="embeddings: expected different people to differ, got hardly more than one"):
        calibrate(np.tile(unit(np.ones(8)), (300, 1)), people, UNCALIBRATED.quality, measured_on="one face")


@pytest.mark.parametrize(("people", "photos"), [(20, 5), (300, 1), (1, 300)])
def test_too_few_pairs_are_refused(people, photos):
    embeddings, labels = crowd(people, photos, 8, 0.5)
    with pytest.raises(
        InputError, match="people: expected at least 20000 pairs of different people and 100 of the same"
    ):
        calibrate(embeddings, labels, UNCALIBRATED.quality, measured_on="too few")


def test_what_does_not_fit_is_refused():
    embeddings, people = crowd(10, 3, 8, 0.5)
    with pytest.raises(TensorError, match=r"people: expected int64 \[30\], got int64 \[29\]"):
        calibrate(embeddings, people[1:], UNCALIBRATED.quality, measured_on="")
    with pytest.raises(TensorError, match=rf"measures: expected float \[30, {M}\], got float64 \[30, 2\]"):
        fit_quality(embeddings, people, np.zeros((30, 2)), np.ones(30, bool))


def planted(seed, count=6000):
    """Faces that match their person's references with a chance known from their measures."""
    random = np.random.default_rng(seed)
    references, owners = crowd(60, 3, 64, 0.2, seed)
    measures = random.normal(size=(count, M)) * np.linspace(0.5, 3, M) + np.linspace(-2, 2, M)
    standard = (measures - np.linspace(-2, 2, M)) / np.linspace(0.5, 3, M)
    weights, curvature = np.linspace(-1, 1, M), np.zeros(M)
    curvature[2] = -0.5
    chance = expit(0.3 + standard @ weights + standard**2 @ curvature)
    people = random.integers(0, 60, count)
    good = random.uniform(size=count) < chance
    faces = np.where(good[:, None], references[people * 3] + 0.01 * random.normal(size=(count, 64)), 0)
    faces = unit(faces + ~good[:, None] * random.normal(size=(count, 64)))
    best = np.tile(np.linspace(-2, 2, M), (180, 1))
    return np.concatenate([references, faces]), np.concatenate([owners, people]), measures, best, chance


def test_a_planted_quality_is_recovered():
    embeddings, people, measures, best, chance = planted(0)
    reference = np.arange(len(people)) < 180
    model = fit_quality(embeddings, people, np.concatenate([best, measures]), reference)
    found = model(measures)
    # The references all match at average measures and pull the constant up a little.
    assert np.corrcoef(found, chance)[0, 1] > 0.98
    assert np.abs(found - chance).mean() < 0.04
    fresh = planted(1, 2000)
    assert np.corrcoef(model(fresh[2]), fresh[4])[0, 1] > 0.97


def test_a_face_is_not_its_own_reference():
    """Strangers to themselves: every goal is 0, though each face equals itself."""
    embeddings, people = unit(np.random.default_rng(0).normal(size=(400, 128))), np.repeat(np.arange(100), 4)
    measures = np.random.default_rng(1).normal(size=(400, M))
    assert fit_quality(embeddings, people, measures, np.ones(400, bool))(measures).max() < 0.1


def test_quality_needs_two_people_and_a_second_photo():
    embeddings, people = crowd(30, 1, 16, 0.5)
    measures = np.zeros((30, M))
    with pytest.raises(InputError, match="reference: expected another photo of the person for one face at least"):
        fit_quality(embeddings, people, measures, np.ones(30, bool))
    with pytest.raises(InputError, match="reference: expected photos of two people or more, got fewer"):
        fit_quality(embeddings, people * 0, measures, np.ones(30, bool))
    with pytest.raises(InputError, match="reference: expected photos of two people or more, got fewer"):
        fit_quality(embeddings, people, measures, np.zeros(30, bool))


def test_an_empty_folder_is_refused(tmp_path, squares):
    with pytest.raises(InputError, match="folder: expected a sub-folder a person with photos, got 0 with a face"):
        calibrate_folder(tmp_path, load_pack(squares))
