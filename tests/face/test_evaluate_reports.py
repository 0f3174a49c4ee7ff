"""Reports from arrays: pairs, templates, verification, identification, groups."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import InputError, TensorError
from visavis.face import evaluate
from visavis.face.evaluate.pairs import _pair

# Pairs


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(lambda people: 1 < len(set(people)) < len(people)))
def test_all_pairs_are_every_pair_once(people):
    pairs = [tuple(pair) for pair in evaluate.all_pairs(np.array(people)).tolist()]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == set(itertools.combinations(range(len(people)), 2))
    same = [people[first] == people[second] for first, second in pairs]
    assert same == sorted(same, reverse=True)


def test_the_number_of_a_pair_is_exact_where_the_square_root_is_not():
    for second in (1, 2, 3, 1000, 94_906_267, 200_000_001):
        start = second * (second - 1) // 2
        index = np.array([start, start + second - 1])
        assert _pair(index).tolist() == [[0, second], [second - 1, second]]


def test_a_sample_of_pairs_is_seeded_distinct_and_even():
    people = np.repeat(np.arange(30), 20)
    pairs = evaluate.all_pairs(people, max_pairs=2000, seed=1)
    same = people[pairs[:, 0]] == people[pairs[:, 1]]
    assert (same.sum(), (~same).sum()) == (2000, 2000)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == 4000
    assert (pairs == evaluate.all_pairs(people, max_pairs=2000, seed=1)).all()
    assert (pairs != evaluate.all_pairs(people, max_pairs=2000, seed=2)).any()
    # Everybody has the same number of photos, so 2000 * 2 / 30 places in pairs each, give or take 4 deviations.
    for kind in (same, ~same):
        assert (
            np.abs(np.bincount(people[pairs[kind]].ravel(), minlength=30) - 4000 / 30).max()
            < 4 * math.sqrt(4000 / 30) * 1.5
        )


def test_a_small_sample_of_very_many_pairs():
    people = np.append(np.arange(3000), [0, 1])
    pairs = evaluate.all_pairs(people, max_pairs=50)
    same = people[pairs[:, 0]] == people[pairs[:, 1]]
    assert (same.sum(), (~same).sum()) == (2, 50)
    assert len(np.unique(pairs, axis=0)) == 52


@pytest.mark.parametrize("strangers", [2, 3])
def test_all_strangers_are_found_among_many_pairs_of_one_person(strangers):
    """A rejection that draws from all pairs must not give up where strangers are rare."""
    people = np.array([0] * 200 + [1] * 1)
    pairs = evaluate.all_pairs(people, max_pairs=strangers)
    assert (people[pairs[:, 0]] != people[pairs[:, 1]]).sum() == strangers


def test_people_without_pairs_are_refused():
    with pytest.raises(InputError, match="people: expected two or more, got 1; one person alone has no pairs"):
        evaluate.all_pairs(np.zeros(5))
    with pytest.raises(InputError, match="people: expected one with two faces or more, got one face each"):
        evaluate.all_pairs(np.arange(5))


def test_similarities_are_cosines_and_lowest_without_a_face():
    vectors = np.float32([[1, 0], [0.6, 0.8], [0, 0], [-1, 0]])
    pairs = np.array([[0, 1], [0, 2], [2, 2], [0, 3]])
    assert evaluate.similarities_of(vectors, pairs) == pytest.approx([0.6, -1, -1, -1])
    assert evaluate.similarities_of(vectors, pairs[:0]).shape == (0,)


# Templates


def test_media_count_alike_whatever_their_number_of_frames():
    vectors = np.float32([[1, 0, 0]] * 5 + [[0, 1, 0]] + [[0, 0, 1]])
    templates, media = np.array([0] * 6 + [1]), np.array([7] * 5 + [8] + [7])
    pooled = evaluate.pool(vectors, templates, media)
    assert pooled == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]]))
    assert pooled.dtype == np.float32


def test_pooling_by_the_definition():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[::7] = 0  # no face
    templates, media = random.integers(0, 5, 60), random.integers(0, 6, 60)
    for template, pooled in enumerate(evaluate.pool(vectors, templates, media)):
        total = np.zeros(8)
        for number in set(media[templates == template].tolist()):
            rows = [
                v for v, t, m in zip(vectors, templates, media, strict=True) if (t, m) == (template, number) and v.any()
            ]
            total += np.mean(rows, axis=0) if rows else 0
        assert pooled == pytest.approx(total / np.linalg.norm(total), abs=1e-6)


def test_a_template_without_a_face_is_zero():
    pooled = evaluate.pool(np.float32([[0, 0], [1, 0]]), np.array([0, 2]), np.array([0, 0]))
    assert pooled.tolist() == [[0, 0], [0, 0], [1, 0]]
    assert evaluate.pool(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, int)).shape == (0, 4)
    with pytest.raises(TensorError, match=r"media: expected int64 \[2\]"):
        evaluate.pool(np.zeros((2, 4), np.float32), np.zeros(2, int), np.zeros(3, int))


# Verification


def faces(people=12, photos=4, dim=16, noise=0.5, seed=0):
    """Unit vectors round a direction for each person, and who they are."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), photos)
    vectors = random.normal(size=(people, dim))[who] + noise * random.normal(size=(len(who), dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who


def test_a_report_holds_the_plain_measures():
    vectors, who = faces(noise=0.9)
    report = evaluate.verification_report(vectors, [f"person {number}" for number in who], resamples=50)
    upper = np.triu(np.ones((48, 48), bool), 1)
    similarities, same = (vectors @ vectors.T)[upper].astype(np.float64), (who[:, None] == who)[upper]
    assert (report.people, report.genuine, report.impostor, report.without_face) == (12, 72, 1056, 0)
    assert report.equal_error_rate.value == pytest.approx(evaluate.equal_error_rate(similarities, same))
    assert [point.far for point in report.operating_points] == [1e-1, 1e-2, 1e-3]
    for point in report.operating_points:
        assert point.tar.value == pytest.approx(evaluate.tar_at_far(similarities, same, point.far))
        assert np.mean(similarities[~same] > point.threshold) <= point.far
        assert np.mean(similarities[same] > point.threshold) == pytest.approx(point.tar.value, abs=1 / 72)
    assert (report.accuracy, report.accuracy_std, report.groups) == (None, None, [])
    assert report.usual is report.operating_points[2]


def test_a_photo_without_a_face_counts_against():
    vectors, who = faces(noise=0.1)
    perfect = evaluate.verification_report(vectors, who, resamples=20)
    assert perfect.operating_points[0].tar.value == 1.0
    vectors[5] = 0
    worse = evaluate.verification_report(vectors, who, resamples=20)
    assert worse.without_face == 47
    assert worse.operating_points[0].tar.value == 1 - 3 / 72  # the person's three other photos
    assert 5 not in evaluate.all_pairs(who)[worse.hardest_genuine]  # shown are pairs to look at


def test_folds_give_the_accuracy():
    vectors, who = faces(noise=1.2)
    pairs = evaluate.all_pairs(who)
    similarities, same = evaluate.similarities_of(vectors, pairs), who[pairs[:, 0]] == who[pairs[:, 1]]
    folds = np.arange(len(pairs)) % 5
    report = evaluate.verify("five", similarities, pairs, who, folds=folds, resamples=20)
    accuracy, std = evaluate.verification(similarities, same, folds)
    assert report.accuracy.value == pytest.approx(accuracy)
    assert report.accuracy_std == pytest.approx(std)
    assert report.accuracy.low <= accuracy <= report.accuracy.high


def test_people_in_no_pair_and_gaps_in_numbers_do_not_matter():
    vectors, who = faces(noise=0.9)
    first = evaluate.verify("a", *_pairs_of(vectors, who), who, resamples=20)
    again = evaluate.verify("a", *_pairs_of(vectors, who), who * 10 + 3, groups=["x"] * 200, resamples=20)
    assert first.operating_points == again.operating_points
    assert first.people == again.people == 12


def _pairs_of(vectors, who):
    pairs = evaluate.all_pairs(who)
    return evaluate.similarities_of(vectors, pairs), pairs


def test_groups_by_counting():
    """Half of the people are blurred into one another: they match one another falsely."""
    vectors, who = faces(people=20, photos=10, noise=0.6)
    vectors[who >= 10] += 2 * vectors[who == 15].mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group_of = ["clear" if number < 10 else "blurred" if number < 19 else None for number in who]
    report = evaluate.verification_report(vectors, who, groups=group_of, resamples=100)
    blurred, clear = report.groups
    assert [(group.group, group.people) for group in report.groups] == [("blurred", 9), ("clear", 10)]
    similarities = vectors @ vectors.T
    for group in report.groups:
        inside = np.array([name == group.group for name in group_of])
        both = np.triu(inside[:, None] & inside, 1)
        same = who[:, None] == who
        assert group.impostor == (both & ~same).sum()
        assert group.genuine == (both & same).sum()
        accepted = similarities > report.usual.threshold
        assert group.false_match_rate.value == pytest.approx(accepted[both & ~same].mean())
        assert group.false_non_match_rate.value == pytest.approx(1 - accepted[both & same].mean())
    assert blurred.false_match_rate.value > clear.false_match_rate.value == 0.0
    assert clear.false_match_rate.low == 0.0 < clear.false_match_rate.high


def test_a_group_of_one_person_has_no_false_matches_to_count():
    vectors, who = faces(noise=0.1)
    report = evaluate.verification_report(
        vectors, who, groups=["one" if number == 0 else "rest" for number in who], resamples=20
    )
    [alone] = [group for group in report.groups if group.group == "one"]
    assert (alone.people, alone.impostor, alone.false_match_rate) == (1, 0, None)
    assert alone.false_non_match_rate.value == 0.0


def test_the_hardest_pairs_are_the_nearest_strangers_and_the_farthest_selves_each_photo_once():
    vectors, who = faces(noise=0.9)
    similarities, pairs = _pairs_of(vectors, who)
    report = evaluate.verify("x", similarities, pairs, who, resamples=20)
    same = who[pairs[:, 0]] == who[pairs[:, 1]]
    for chosen, kind, sign in ((report.hardest_impostors, ~same, -1), (report.hardest_genuine, same, 1)):
        assert kind[chosen].all()
        assert len(np.unique(pairs[chosen])) == 2 * len(chosen)
        hardness = sign * similarities[chosen]
        assert (np.diff(hardness) >= 0).all()
        assert hardness[0] == (sign * similarities[kind]).min()
        # Whatever is harder than the last one shown shares a photo with one that is shown.
        shown = set(pairs[chosen].ravel().tolist())
        harder = kind & (sign * similarities < hardness[-1])
        assert all(shown & set(pair) for pair in pairs[harder].tolist())


def test_a_thinned_curve_keeps_its_ends_and_shape():
    random = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 2)
    pairs = evaluate.all_pairs(who)
    same = who[pairs[:, 0]] == who[pairs[:, 1]]
    similarities = random.normal(size=len(pairs)) + 2 * same
    report = evaluate.verify("x", similarities, pairs, who, resamples=2)
    full = evaluate.roc(similarities, same)
    assert len(full.far) > 5000
    assert len(report.roc.far) <= 800
    points = set(zip(*(column.tolist() for column in full), strict=True))
    assert set(zip(*(column.tolist() for column in report.roc), strict=True)) <= points
    assert (report.roc.far[0], report.roc.tar[0], report.roc.far[-1], report.roc.tar[-1]) == (0, 0, 1, 1)
    # As steps, the tops of both are the same: at every FAR the TAR reached.
    fars = np.unique(full.far)
    tops = [curve.tar[np.searchsorted(curve.far, fars, side="right") - 1] for curve in (full, report.roc)]
    assert tops[1] == pytest.approx(tops[0], abs=1 / 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": np.zeros(48)}, "people: expected two or more, got 1"),
        ({"people": np.arange(48)}, "people: expected one with two faces or more"),
        ({"people": np.arange(47)}, "people: expected one for each of 48 faces, got 47"),
        ({"groups": ["a"]}, "groups: expected one for each of 48 faces, got 1"),
        ({"embeddings": np.full((48, 16), np.nan, np.float32)}, "embeddings: expected finite numbers"),
        ({"resamples": 0}, "expected at least one person and one resample"),
    ],
)
def test_senseless_input_is_refused(change, message):
    vectors, who = faces()
    arguments = {"embeddings": vectors, "people": who, "resamples": 5} | change
    with pytest.raises(InputError, match=message):
        evaluate.verification_report(arguments.pop("embeddings"), arguments.pop("people"), **arguments)


def test_few_pairs_have_no_operating_point():
    report = evaluate.verification_report(
        np.float32([[1, 0], [0.8, 0.6], [0, 1]]), ["ada", "ada", "bob"], groups=["a", "a", "b"], resamples=10
    )
    assert (report.impostor, report.operating_points, report.usual, report.groups) == (2, [], None, [])


# Identification


def test_identification_holds_the_plain_measures():
    vectors, who = faces(people=40, noise=1.2)
    vectors[3] = 0
    gallery = np.arange(0, 160, 4)
    probes = np.setdiff1d(np.arange(160), gallery)
    known = gallery[:25]
    report = evaluate.identify("x", vectors, who, gallery=gallery, probes=probes, known=known, resamples=50)
    assert (report.enrolled, report.probes, report.known, report.mated, report.non_mated) == (40, 120, 25, 75, 45)
    curve = evaluate.cumulative_match(vectors[probes], who[probes], vectors[gallery], who[gallery], ranks=20)
    assert [share.value for share in report.cumulative_match] == pytest.approx(list(curve))
    assert 0.2 < curve[0] < 0.9
    assert [point.far for point in report.open_set] == [1e-1]
    rate = evaluate.identification_rate_at_far(vectors[probes], who[probes], vectors[known], who[known], 1e-1)
    assert report.open_set[0].rate.value == pytest.approx(rate)
    for share in [*report.cumulative_match, report.open_set[0].rate]:
        assert 0 <= share.low < share.value < share.high <= 1


def test_intervals_of_identification_are_those_of_people():
    """Whoever is found is found in all their photos: the rate is a mean over people, and its interval theirs."""
    found = np.arange(200) % 5 > 0
    vectors = np.repeat(np.eye(200, dtype=np.float32), 4, axis=0)
    who = np.repeat(np.arange(200), 4)
    for person in np.flatnonzero(~found):
        vectors[4 * person + 1 : 4 * person + 4] = np.eye(200)[(person + 1) % 200]
    gallery = np.arange(0, 800, 4)
    probes = np.setdiff1d(np.arange(800), gallery)
    report = evaluate.identify("x", vectors, who, gallery=gallery, probes=probes, known=gallery[:100])
    expected = evaluate.wilson(160, 200)
    assert report.cumulative_match[0] == pytest.approx((0.8, *expected), abs=0.012)


def test_nobody_outside_the_gallery_leaves_no_open_set():
    vectors, who = faces()
    gallery = np.arange(0, 48, 4)
    report = evaluate.identify("x", vectors, who, gallery=gallery, probes=gallery + 1, known=gallery, resamples=5)
    assert report.open_set == []
    with pytest.raises(InputError, match="probes: expected people of the gallery, got 4 photos of others"):
        evaluate.identify("x", vectors, who, gallery=gallery[:8], probes=gallery + 1, known=gallery, resamples=5)


# Pictures


def test_plots_show_a_curve_for_each_report():
    reports = [evaluate.verification_report(*faces(noise=noise), resamples=20) for noise in (0.5, 0.9)]
    for plot in (evaluate.roc_plot, evaluate.det_plot):
        figure = plot(reports)
        [axes] = figure.axes
        assert len(axes.lines) == 2
        picture = evaluate.png(figure)
        assert picture.startswith(b"\x89PNG")
        assert picture != evaluate.png(plot(reports, dark=True))
        with pytest.raises(InputError, match="reports: expected at least one, got none"):
            plot([])
    x, y = evaluate.det_plot(reports).axes[0].lines[1].get_data()
    # Axes of a DET curve are the normal's quantiles of both errors; the equal error rate is where they meet.
    crossing = int(np.argmin(np.abs(x - y)))
    from statistics import NormalDist

    rate = NormalDist().cdf((x[crossing] + y[crossing]) / 2)
    assert rate == pytest.approx(reports[1].equal_error_rate.value, abs=0.01)
