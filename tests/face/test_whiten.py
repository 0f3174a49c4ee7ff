"""The linear layer in closed form, against scipy and by what it promises."""

import hypothesis
import numpy as np
import pytest
import scipy.linalg
from hypothesis import strategies as st

from visavis.errors import InputError, TensorError
from visavis.face.align import TEMPLATES
from visavis.face.train.whiten import turned, whiten


def drawn(people=40, photos=6, dim=5, seed=0):
    """Features far from the origin, whose third and first number a turned head moves."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), photos)
    turns = np.tile(np.where(np.arange(photos) < photos - 2, 0.1, 0.8), people)
    features = random.normal(size=(people, dim))[labels] + 0.2 * random.normal(size=(len(labels), dim))
    features += (turns > 0.4)[:, None] * random.normal(size=(people, dim))[labels] * [1.0, 0.1, 3.0, 0.1, 0.1]
    return (features + 4.0).astype(np.float32), labels, turns


def scatter(features, labels, turns):
    """Person by person, the slow way."""
    total, people = np.zeros((features.shape[1],) * 2), 0
    for person in set(labels.tolist()):
        facing = [x for x, who, turn in zip(features, labels, turns, strict=True) if who == person and turn <= 0.4]
        aside = [x for x, who, turn in zip(features, labels, turns, strict=True) if who == person and turn > 0.4]
        if facing and aside:
            difference = np.mean(aside, 0) - np.mean(facing, 0)
            total, people = total + np.outer(difference, difference), people + 1
    return total / people


def test_is_the_inverse_root_of_the_scatter_up_to_a_gain():
    features, labels, turns = drawn()
    matrix, _ = whiten(features, labels, turns, shrinkage=0.5)
    w = scatter(features.astype(np.float64), labels, turns)
    wanted = scipy.linalg.inv(scipy.linalg.sqrtm(w + 0.5 * np.trace(w) / 5 * np.eye(5)))
    gains = matrix / wanted
    np.testing.assert_allclose(gains, gains[0, 0], rtol=1e-6)


@hypothesis.given(st.integers(0, 1000), st.sampled_from([0.01, 1.0, 10.0]))
@hypothesis.settings(max_examples=20)
def test_mean_and_variance_stay_and_turning_moves_more_alike(seed, shrinkage):
    features, labels, turns = drawn(seed=seed)
    matrix, shift = whiten(features, labels, turns, shrinkage=shrinkage)
    after = features @ matrix + shift
    np.testing.assert_allclose(after.mean(0), features.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after.var(0).sum(), features.var(0).sum(), rtol=1e-4)
    assert np.linalg.cond(scatter(after, labels, turns)) < np.linalg.cond(scatter(features, labels, turns))


def test_no_shrinkage_worth_the_name_makes_all_directions_alike():
    features, labels, turns = drawn()
    matrix, shift = whiten(features, labels, turns, shrinkage=1e-9)
    after = scatter(features @ matrix + shift, labels, turns)
    np.testing.assert_allclose(after, after[0, 0] * np.eye(5), atol=1e-4 * after[0, 0])


def test_endless_shrinkage_changes_nothing():
    matrix, shift = whiten(*drawn(), shrinkage=1e9)
    np.testing.assert_allclose(matrix, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(shift, 0.0, atol=1e-5)


def test_strangers_come_no_nearer_but_turned_heads_do():
    learned, unseen = drawn(seed=1), drawn(people=30, seed=2)
    matrix, shift = whiten(*learned, shrinkage=0.1)

    def distances(features):
        centres = np.array([features[unseen[1] == who].mean(0) for who in range(30)])
        apart = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(30, 1)].mean()
        return np.linalg.norm(features - centres[unseen[1]], axis=1).mean() / apart

    assert distances(unseen[0] @ matrix + shift) < 0.8 * distances(unseen[0])


def test_a_frontal_face_is_not_turned_and_a_nose_beyond_an_eye_is():
    facing = TEMPLATES["arcface-112"].astype(np.float32)
    profile = facing.copy()
    profile[2, 0] = facing[0, 0] - 5
    one, other = turned(np.stack([facing, profile]))
    assert one < 0.05
    assert other > 0.5
    left, right = facing[0], facing[1]
    assert other == pytest.approx(((left + right)[0] / 2 - profile[2, 0]) / np.linalg.norm(right - left), rel=1e-6)
    assert np.isfinite(turned(np.zeros((1, 5, 2), np.float32))).all()  # landmarks on one spot


@pytest.mark.parametrize("turns", [np.zeros(4), np.ones(4), np.array([0.0, 0.0, 1.0, 1.0])])
def test_nobody_seen_from_both_sides_is_refused(turns):
    with pytest.raises(InputError, match="crops: expected people with photos facing the camera and turned aside"):
        whiten(np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1]), turns, shrinkage=1.0)


def test_what_does_not_fit_is_refused():
    features, labels, turns = drawn()
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="shrinkage: expected more than 0, got"):
            whiten(features, labels, turns, shrinkage=wrong)
    with pytest.raises(TensorError, match=r"turns: expected float \[240\]"):
        whiten(features, labels, turns[:3], shrinkage=1.0)
    with pytest.raises(TensorError, match=r"landmarks: expected float \[any, 5, 2\]"):
        turned(np.zeros((2, 4, 2), np.float32))
