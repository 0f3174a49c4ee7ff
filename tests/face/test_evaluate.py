import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import InputError, TensorError
from visavis.face import evaluate

# Few distinct similarities, so that ties are the rule.
SIMILARITIES = st.lists(
    st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75]), st.booleans()), min_size=2, max_size=12
).filter(lambda rows: {same for _, same in rows} == {True, False})
LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=10)


def rates(rows, threshold):
    """FAR and TAR by counting."""
    accepted = {same: [s >= threshold for s, truth in rows if truth == same] for same in (False, True)}
    return tuple(sum(accepted[same]) / len(accepted[same]) for same in (False, True))


@given(SIMILARITIES)
def test_roc_counts_what_is_accepted(rows):
    curve = evaluate.roc(*map(np.array, zip(*rows, strict=True)))
    assert list(curve.thresholds) == [math.inf, *sorted({s for s, _ in rows}, reverse=True)]
    for threshold, far, tar in zip(*curve, strict=True):
        assert (far, tar) == rates(rows, threshold)


@given(SIMILARITIES, st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_tar_at_far_is_the_best_over_all_thresholds(rows, far):
    thresholds = [*np.arange(-0.6, 1.0, 0.05), math.inf]
    allowed = [tar for f, tar in (rates(rows, threshold) for threshold in thresholds) if f <= far]
    assert evaluate.tar_at_far(*map(np.array, zip(*rows, strict=True)), far) == max(allowed)


def test_tar_at_far_does_not_lose_a_pair_to_rounding():
    similarities = np.linspace(1.0, 0.0, 101)
    same = np.arange(101) == 28
    assert evaluate.tar_at_far(similarities, same, 0.29) == 1.0  # 0.29 * 100 is a little less than 29
    assert evaluate.tar_at_far(similarities, same, 0.28) == 1.0  # 28 pairs lie above it
    assert evaluate.tar_at_far(similarities, same, 0.27) == 0.0


@pytest.mark.parametrize(
    ("genuine", "impostor", "rate"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.9, 0.8], 1.0),
        ([0.5], [0.5], 0.5),  # a straight line from (0, 0) to (1, 1)
        ([0.9, 0.3], [0.6, 0.1], 0.5),
        ([0.9, 0.8, 0.4], [0.6, 0.1, 0.0], 1 / 3),
        ([0.9, 0.7, 0.5, 0.3], [0.7, 0.2, 0.1, 0.0], 0.25),  # met inside the step of a tie at .7, then level
    ],
)
def test_equal_error_rate(genuine, impostor, rate):
    similarities = np.array(genuine + impostor)
    same = np.arange(len(similarities)) < len(genuine)
    assert evaluate.equal_error_rate(similarities, same) == pytest.approx(rate)


def test_equal_error_rate_of_two_normals():
    # Equal spreads two deviations apart cross in the middle, at one deviation: 1 - Phi(1).
    draws = np.random.default_rng(0).standard_normal((2, 200_000))
    draws[0] += 2.0
    same = np.repeat([True, False], 200_000)
    assert evaluate.equal_error_rate(draws.ravel(), same) == pytest.approx(0.158655, abs=4 * 0.0008)


@given(SIMILARITIES, SIMILARITIES, st.randoms(use_true_random=False))
def test_verification_is_the_best_accuracy_on_the_other_folds(first, second, random):
    rows = [*first, *second]
    folds = np.repeat(["a", "b"], [len(first), len(second)])
    order = random.sample(range(len(rows)), len(rows))
    similarities, same = map(np.array, zip(*rows, strict=True))
    expected = []
    for fold in "ab":
        train = [rows[i] for i in range(len(rows)) if folds[i] != fold]
        values = sorted({s for s, _ in train})
        middles = [(low + high) / 2 for low, high in itertools.pairwise(values)]
        tries = [-math.inf, *middles, math.inf]
        best = max(tries, key=lambda t: (sum((s >= t) == truth for s, truth in train), t))
        test = [rows[i] for i in range(len(rows)) if folds[i] == fold]
        expected.append(sum((s >= best) == truth for s, truth in test) / len(test))
    result = evaluate.verification(similarities[order], same[order], folds[order])
    assert result.accuracy == pytest.approx(sum(expected) / 2)
    assert result.std == pytest.approx(abs(expected[0] - expected[1]) / 2)


def test_separable_pairs_verify_perfectly():
    similarities = np.tile([0.6, 0.1], 50)
    same = np.tile([True, False], 50)
    assert evaluate.verification(similarities, same, np.repeat(np.arange(10), 10)) == (1.0, 0.0)


def identification(seed):
    """Probes, labels, gallery, labels: small whole numbers, for ties; two templates a person."""
    random = np.random.default_rng(seed)
    return (
        random.integers(-1, 2, (30, 3)).astype(np.float32),
        random.integers(0, 6, 30),
        random.integers(-1, 2, (8, 3)).astype(np.float32),
        np.repeat(np.arange(4), 2),
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("far", [0.0, 0.1, 0.5, 1.0])
def test_identification_by_enumeration(seed, far):
    probe, probe_labels, gallery, gallery_labels = identification(seed)
    mated, strangers = [], []
    for x, label in zip(probe, probe_labels, strict=True):
        products = [g @ x if g.any() and x.any() else -1.0 for g in gallery]  # zeros stand for no face
        likeness = list(zip(products, gallery_labels, strict=True))
        own = max((s for s, of in likeness if of == label), default=None)
        other = max(s for s, of in likeness if of != label)
        if own is None:
            strangers.append(other)
        else:
            mated.append((own, own > other))
    rates_of = [
        np.mean([first and own >= threshold for own, first in mated])
        for threshold in [*np.arange(-3.5, 4.0, 0.5), math.inf]
        if np.mean([s >= threshold for s in strangers]) <= far
    ]
    assert evaluate.identification_rate_at_far(probe, probe_labels, gallery, gallery_labels, far) == max(rates_of)
    inside = probe_labels < 4
    rank_one = evaluate.rank_one(probe[inside], probe_labels[inside], gallery, gallery_labels)
    assert rank_one == np.mean([first for _, first in mated])


@pytest.mark.parametrize("seed", range(20))
def test_cumulative_match_by_enumeration(seed):
    probe, probe_labels, gallery, gallery_labels = identification(seed)
    inside = probe_labels < 4
    ranks = []
    for x, label in zip(probe[inside], probe_labels[inside], strict=True):
        best = dict.fromkeys(range(4), -math.inf)
        for g, who in zip(gallery, gallery_labels, strict=True):
            best[who] = max(best[who], float(g @ x) if g.any() and x.any() else -1.0)
        own = best.pop(label)
        ranks.append(1 + sum(similarity >= own for similarity in best.values()))
    curve = evaluate.cumulative_match(probe[inside], probe_labels[inside], gallery, gallery_labels, ranks=4)
    assert list(curve) == [np.mean([rank <= k for rank in ranks]) for k in (1, 2, 3, 4)]
    assert curve[3] == 1.0  # among all four people everybody is found
    shuffled = np.random.default_rng(seed).permutation(8)
    again = evaluate.cumulative_match(
        probe[inside], probe_labels[inside], gallery[shuffled], gallery_labels[shuffled], ranks=4
    )
    assert list(again) == list(curve)


def test_a_photo_without_a_face_is_never_identified():
    gallery, none = np.eye(3)[:2], np.zeros((1, 3))
    facing_away = -np.ones((1, 3)) / np.sqrt(3)
    assert evaluate.rank_one(none, [0], gallery, [0, 1]) == 0.0
    # Enrolled without a face: even a probe that is unlike everybody is not taken for them.
    assert evaluate.rank_one(facing_away, [0], np.concatenate([none, gallery]), [0, 1, 2]) == 0.0
    found = evaluate.candidates(none, [7], gallery, [0, 1])
    assert (found.own[0], found.other[0], found.rank[0]) == (-np.inf, -1.0, 0)


def test_more_probes_than_fit_a_block():
    labels = np.arange(3000) % 7
    assert evaluate.rank_one(np.eye(7)[labels], labels, np.eye(7), np.arange(7)) == 1.0


@given(LABELS)
def test_pairwise_by_counting_pairs(rows):
    pairs = list(itertools.combinations(rows, 2))
    right = sum(a == b for a, b in pairs)
    claimed = sum(a[1] == b[1] for a, b in pairs)
    due = sum(a[0] == b[0] for a, b in pairs)
    result = evaluate.pairwise(*zip(*rows, strict=True))
    precision, recall = right / claimed if claimed else 1.0, right / due if due else 1.0
    assert result[:2] == (precision, recall)
    assert result.f == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9))


@given(LABELS)
def test_bcubed_by_its_definition(rows):
    precision, recall = [], []
    for person, group in rows:
        cluster = [a for a, b in rows if b == group]
        everywhere = [b for a, b in rows if a == person]
        precision.append(cluster.count(person) / len(cluster))
        recall.append(everywhere.count(group) / len(everywhere))
    result = evaluate.bcubed(*zip(*rows, strict=True))
    assert result.precision == pytest.approx(np.mean(precision))
    assert result.recall == pytest.approx(np.mean(recall))
    assert result.f == pytest.approx(2 / (1 / np.mean(precision) + 1 / np.mean(recall)))


def test_names_serve_as_labels():
    assert evaluate.bcubed(["ada", "ada", "bob"], [5, 5, -1]) == (1.0, 1.0, 1.0)
    assert evaluate.pairwise(["ada", "ada", "bob"], [5, 5, -1]) == (1.0, 1.0, 1.0)


def test_wilson_solves_its_quadratic():
    # The ends are the shares p from which the observed one is 1.96 deviations away.
    for successes, trials in [(3, 10), (99, 100), (1, 7), (0, 5), (5, 5)]:
        share = successes / trials
        for p in evaluate.wilson(successes, trials):
            deviations = (share - p) ** 2 - 1.959964**2 * p * (1 - p) / trials
            assert deviations == pytest.approx(0.0, abs=1e-6)
    assert evaluate.wilson(0, 5).low == 0.0
    assert evaluate.wilson(5, 5).high == 1.0


def test_wilson_of_a_known_case():
    assert evaluate.wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)


ONE = np.array([0.5, 0.4])
EYE = np.eye(2)


@pytest.mark.parametrize("function", [evaluate.roc, evaluate.equal_error_rate])
@pytest.mark.parametrize("same", [[True, True], [False, False]])
def test_one_kind_of_pair_is_refused(function, same):
    with pytest.raises(InputError, match="same: expected pairs of one person and pairs of different people, got"):
        function(ONE, np.array(same))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: evaluate.roc(np.array([np.nan, 0.1]), np.array([True, False])),
            "similarities: expected finite",
        ),
        (lambda: evaluate.roc(np.array([]), np.array([], bool)), "same: expected pairs of one person"),
        (
            lambda: evaluate.tar_at_far(ONE, np.array([True, False]), 1.5),
            r"far: expected a share in \[0, 1\]",
        ),
        (
            lambda: evaluate.verification(ONE, np.array([True, False]), [0, 0]),
            "folds: expected a fold for each",
        ),
        (lambda: evaluate.verification(ONE, np.array([True, False]), [0, 1]), "same: expected pairs of one"),
        (lambda: evaluate.rank_one(EYE, [0, 9], EYE, [0, 1]), "probe_labels: expected people of the gallery"),
        (lambda: evaluate.rank_one(EYE[:0], [], EYE, [0, 1]), "probe_labels: expected at least one"),
        (lambda: evaluate.rank_one(EYE, [0, 1], EYE * np.nan, [0, 1]), "gallery: expected finite"),
        (lambda: evaluate.cumulative_match(EYE, [0, 1], EYE, [0, 1], ranks=0), "ranks: expected at least 1, got 0"),
        (
            lambda: evaluate.identification_rate_at_far(EYE, [0, 1], EYE, [0, 1], 0.1),
            "got 2 probes inside and 0",
        ),
        (
            lambda: evaluate.identification_rate_at_far(EYE, [8, 9], EYE, [0, 1], 0.1),
            "got 0 probes inside and 2",
        ),
        (lambda: evaluate.pairwise([], []), "labels_predicted: expected as many labels"),
        (lambda: evaluate.bcubed([1, 2], [1]), "labels_predicted: expected as many labels"),
        (lambda: evaluate.wilson(0, 0), "successes: expected 0 to 0 in at least one trial"),
        (lambda: evaluate.wilson(6, 5), "successes: expected 0 to 5"),
    ],
)
def test_senseless_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_wrong_types_are_refused():
    with pytest.raises(TensorError, match=r"same: expected bool \[2\], got int64"):
        evaluate.roc(ONE, np.array([1, 0]))
    with pytest.raises(TensorError, match="similarities: expected float"):
        evaluate.roc(np.array([1, 0]), np.array([True, False]))
    with pytest.raises(TensorError, match=r"gallery: expected float \[any, 2\]"):
        evaluate.rank_one(EYE, [0, 1], np.eye(3), [0, 1, 2])
    with pytest.raises(TensorError, match=r"probe_labels: expected \[2\], got \[1\]"):
        evaluate.rank_one(EYE, [0], EYE, [0, 1])
