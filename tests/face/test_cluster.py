import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from visavis.errors import InputError, TensorError
from visavis.face import cluster as module
from visavis.face import evaluate
from visavis.face.cluster import cluster


def faces(seed, count, people=5, dim=8, spread=0.7):
    """[count, dim] around `people` directions, and whose they are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((people, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = random.integers(0, people, count)
    vectors = centres[labels] + spread * random.standard_normal((count, dim)) / np.sqrt(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def parts(labels):
    """The partition as sets of places, whatever the labels' values."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.fixture
def average_linkage(monkeypatch):
    """Nothing but average linkage, and no limit to the neighbours."""
    monkeypatch.setattr(module, "STRAGGLERS", 0)
    monkeypatch.setattr(module, "NEIGHBOURS", 10**6)


@pytest.mark.usefixtures("average_linkage")
@pytest.mark.parametrize("threshold", [-0.2, 0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize(("seed", "count", "dim"), [(0, 2, 3), (1, 40, 3), (2, 150, 8), (3, 400, 16)])
def test_is_the_partition_of_scipy(threshold, seed, count, dim):
    vectors, _ = faces(seed, count, dim=dim)
    tree = linkage(pdist(vectors.astype(np.float64), "cosine"), "average")
    expected = fcluster(tree, 1.0 - threshold, "distance")
    assert parts(cluster(vectors, threshold=threshold)) == parts(expected)


@pytest.mark.usefixtures("average_linkage")
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_face_count_as_often_as_they_are_there(seed):
    vectors, _ = faces(seed, 60)
    vectors = np.repeat(vectors, np.random.default_rng(seed).integers(1, 9, 60), axis=0)
    tree = linkage(pdist(vectors.astype(np.float64), "cosine"), "average")
    for threshold in (0.2, 0.4, 0.6):
        expected = fcluster(tree, 1.0 - threshold, "distance")
        assert parts(cluster(vectors, threshold=threshold)) == parts(expected)


@pytest.mark.usefixtures("average_linkage")
def test_pairs_kept_apart_are_as_one_by_one_merging_has_it():
    vectors, _ = faces(4, 60)
    random = np.random.default_rng(4)
    group = np.full(60, -1)
    group[:20] = np.arange(20)
    separate = [(0, 1), (2, 3), (4, 9), (1, 5)]
    exclusive = random.permutation(20)[:6].tolist()
    found = cluster(vectors, threshold=0.2, group=group, separate=separate, exclusive=exclusive)

    members = [[i] for i in range(60)]
    forbidden = {frozenset(pair) for pair in separate}
    forbidden |= {frozenset((a, b)) for a in exclusive for b in exclusive if a != b}
    while True:
        links = [
            (vectors[a].astype(np.float64) @ vectors[b].T).mean()
            if not any(frozenset((i, j)) in forbidden for i in a for j in b)
            else -np.inf
            for k, a in enumerate(members)
            for b in members[:k]
        ]
        pairs = [(k, j) for k in range(len(members)) for j in range(k)]
        if not links or max(links) < 0.2:
            break
        k, j = pairs[int(np.argmax(links))]
        members[j] += members.pop(k)
    assert parts(found) == {frozenset(m) for m in members}


@pytest.mark.parametrize("neighbours", [1, 2, 8])
def test_few_neighbours_still_gather_whole_people(monkeypatch, neighbours):
    monkeypatch.setattr(module, "NEIGHBOURS", neighbours)
    vectors, people = faces(5, 500, dim=64, spread=0.5)
    assert parts(cluster(vectors, threshold=0.4)) == parts(people)


def test_blocks_do_not_show(monkeypatch):
    vectors, _ = faces(6, 200)
    whole = cluster(vectors, threshold=0.5)
    monkeypatch.setattr(module, "SCORES", 1000)  # five rows at a time
    assert np.array_equal(cluster(vectors, threshold=0.5), whole)


@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(-1.0, 1.0))
def test_order_does_not_matter(seed, count, threshold):
    vectors, _ = faces(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    labels = np.empty(count, np.int64)
    labels[order] = cluster(vectors[order], threshold=threshold)
    assert parts(labels) == parts(cluster(vectors, threshold=threshold))


@given(st.data())
def test_groups_stay_whole_and_constraints_hold(data):
    count = data.draw(st.integers(1, 40))
    vectors, _ = faces(data.draw(st.integers(0, 10**6)), count, people=2)
    ids = st.integers(0, 9)
    group = np.array(data.draw(st.lists(st.integers(-1, 9), min_size=count, max_size=count)))
    separate = data.draw(st.lists(st.tuples(ids, ids).filter(lambda pair: pair[0] != pair[1]), max_size=6))
    exclusive = data.draw(st.sets(ids, max_size=4))
    threshold = data.draw(st.sampled_from([-1.0, 0.0, 0.4]))
    labels = cluster(vectors, threshold=threshold, group=group, separate=separate, exclusive=exclusive)

    groups_in = {label: set(group[labels == label].tolist()) - {-1} for label in labels.tolist()}
    for value in set(group.tolist()) - {-1}:
        assert len(np.unique(labels[group == value])) == 1
    for inside in groups_in.values():
        assert not any({a, b} <= inside for a, b in separate)
        assert len(inside & exclusive) <= 1
    used = [*group.tolist(), *exclusive, *(value for pair in separate for value in pair)]
    new = sorted(label for label, inside in groups_in.items() if not inside)
    assert new == list(range(max(used) + 1, max(used) + 1 + len(new)))
    for label, inside in groups_in.items():
        if inside:
            assert label == min(inside & exclusive or inside)


def test_new_faces_join_the_people_that_are_there():
    vectors, people = faces(7, 400, dim=64, spread=0.5)
    first = cluster(vectors[:200], threshold=0.4)
    group = np.append(first, np.full(200, -1))
    labels = cluster(vectors, threshold=0.4, group=group)
    assert np.array_equal(labels[:200], first)
    assert parts(labels) == parts(people)


def test_a_result_is_kept_when_nothing_new_arrives():
    vectors, _ = faces(8, 300, dim=32)
    first = cluster(vectors, threshold=0.45)
    again = cluster(vectors, threshold=0.45, group=first, exclusive=np.unique(first).tolist())
    assert np.array_equal(again, first)


def test_new_labels_count_on_in_the_order_of_the_faces():
    eye = np.eye(6, dtype=np.float32)
    group = np.array([-1, 7, -1, -1, 3, -1])
    assert cluster(eye, threshold=0.5, group=group).tolist() == [8, 7, 9, 10, 3, 11]
    assert cluster(eye, threshold=0.5, group=group, exclusive=[20]).tolist() == [21, 7, 22, 23, 3, 24]


def test_a_named_person_keeps_the_number_when_joined_by_a_smaller_one():
    same = np.ones((3, 1), np.float32)
    group = np.array([7, 3, -1])
    assert cluster(same, threshold=0.5, group=group).tolist() == [3, 3, 3]
    assert cluster(same, threshold=0.5, group=group, exclusive=[7]).tolist() == [7, 7, 7]


def test_separate_people_stay_apart_when_a_third_is_like_both():
    same = np.ones((3, 1), np.float32)
    labels = cluster(same, threshold=0.5, group=np.array([0, 1, 2]), separate=[(0, 1)])
    assert labels.tolist() in ([0, 1, 0], [0, 1, 1])


# Four photos of one person and one that is like three of them (.62) and not like the fourth (-.01).
def straggler():
    close = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.7, 0.714, 0.0]])
    odd = np.array([[0.62, -0.62, 0.48]])
    vectors = np.concatenate([close, odd])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_straggler_joins_by_three_witnesses():
    vectors = straggler()
    mean_link = float((vectors[:4] @ vectors[4]).mean())
    assert mean_link < 0.5 < float(vectors[0] @ vectors[4])
    assert cluster(vectors, threshold=0.5).tolist() == [0, 0, 0, 0, 0]
    assert cluster(vectors[1:], threshold=0.5).tolist() == [0, 0, 0, 1]  # two are too few


def test_a_straggler_in_front_gives_its_number():
    vectors = straggler()[::-1]
    assert cluster(vectors, threshold=0.5).tolist() == [0, 0, 0, 0, 0]
    assert cluster(vectors, threshold=0.5, group=np.array([6, -1, -1, -1, -1])).tolist() == [6] * 5


def unit(rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_straggler_joins_the_best_of_two():
    near, far = [[1, 0, 0, 0]] * 3, [[0, 1, 0, 0]] * 3
    odd = [[0.62, 0.6, 0.4, 0.3]]  # .62 with three photos of one person and .59 with three of the other
    apart = [[0.7, -0.4, -0.6, 0.0]], [[-0.4, 0.7, -0.6, 0.0]]  # these bring both means below the threshold
    assert cluster(unit([*near, *apart[0], *far, *apart[1], *odd]), threshold=0.55).tolist() == [0] * 4 + [1] * 4 + [0]
    assert cluster(unit([*far, *apart[1], *near, *apart[0], *odd]), threshold=0.55).tolist() == [0] * 4 + [1] * 4 + [1]


def test_witnesses_are_of_one_person(monkeypatch):
    one = [[1, 0], [1, 0], [0.75, -0.66]]
    other = [[0, 1], [0, 1], [-0.66, 0.75]]
    monkeypatch.setattr(module, "NEIGHBOURS", 4)  # two of each are the four most like the last
    assert cluster(unit([*one, *other, [1, 1]]), threshold=0.6).tolist() == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("constraint", [{"separate": [(1, 2)]}, {"exclusive": [1, 2]}])
def test_a_straggler_under_a_constraint_stays(constraint):
    group = np.array([1, 1, 1, 1, 2])
    assert cluster(straggler(), threshold=0.5, group=group, **constraint).tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_faces(count):
    labels = cluster(np.ones((count, 1), np.float32), threshold=0.5)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0] * count
    assert cluster(np.ones((count, 1), np.float32), threshold=0.5, group=np.full(count, 4)).tolist() == [4] * count


def test_threshold_one_gathers_copies_and_nothing_else():
    vectors, _ = faces(9, 50, dim=128)
    labels = cluster(np.repeat(vectors, 40, axis=0), threshold=1.0)  # more copies than neighbours are searched
    assert np.array_equal(labels, np.repeat(np.arange(50), 40))


def test_threshold_minus_one_gathers_everything():
    vectors = np.concatenate([np.eye(70), -np.eye(70)]).astype(np.float32)
    assert cluster(vectors, threshold=-1.0).tolist() == [0] * 140


def test_many_faces_of_many_people():
    vectors, people = faces(10, 3000, people=300, dim=128, spread=0.8)
    assert evaluate.bcubed(people, cluster(vectors, threshold=0.3)).f > 0.99


def test_the_arguments_are_not_written_to():
    vectors, _ = faces(11, 30)
    group = np.full(30, -1)
    for array in (vectors, group):
        array.flags.writeable = False
    cluster(vectors, threshold=0.3, group=group)


ONES = np.ones((2, 1), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embeddings": 2 * ONES}, InputError, "embeddings: expected rows of unit length, got a length of 2"),
        (
            {"embeddings": ONES * np.nan},
            InputError,
            "embeddings: expected rows of unit length, got a length of nan",
        ),
        ({"embeddings": np.ones(3, np.float32)}, TensorError, r"embeddings: expected float \[any, any\]"),
        ({"threshold": 1.5}, InputError, r"threshold: expected a cosine in \[-1, 1\], got 1.5"),
        ({"threshold": np.nan}, InputError, r"threshold: expected a cosine in \[-1, 1\], got nan"),
        ({"group": np.array([0, -2])}, InputError, "group: expected -1 or a group's number, got -2"),
        ({"group": np.array([0])}, TensorError, r"group: expected int64 \[2\]"),
        ({"separate": [(3, 3)]}, InputError, r"separate: expected pairs of different groups, got \(3, 3\)"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        cluster(**({"embeddings": ONES, "threshold": 0.5} | arguments))
