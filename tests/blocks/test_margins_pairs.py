"""Losses on distances and pairs, and the yes-or-no losses: against loops in Python, and at their awkward points."""

import math
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from visavis.blocks import margins
from visavis.errors import InputError, TensorError

PAIRWISE = {
    "contrastive": margins.contrastive,
    "triplet_batch_hard": margins.triplet_batch_hard,
    "triplet_semi_hard": margins.triplet_semi_hard,
    "circle_pairs": margins.circle_pairs,
}
every_loss = pytest.mark.parametrize("name", PAIRWISE)
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
batches = st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(0, 999))


def drawn(samples, classes, seed, features=3):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    return points, torch.randint(classes, (samples,), generator=generator)


def mean(values):
    return sum(values) / len(values) if values else 0.0


def distance(a, b):
    return math.dist(a.tolist(), b.tolist())


@given(batches, st.floats(0.0, 4.0))
def test_contrastive(batch, margin):
    points, labels = drawn(*batch)
    losses = []
    for a in range(len(points)):
        for b in range(len(points)):
            if a != b:
                d = distance(points[a], points[b])
                losses.append(d**2 / 2 if labels[a] == labels[b] else max(margin - d, 0.0) ** 2 / 2)
    assert margins.contrastive(points, labels, margin=margin).item() == pytest.approx(mean(losses), abs=1e-9)


@given(batches, st.floats(0.0, 4.0))
def test_triplet_batch_hard(batch, margin):
    points, labels = drawn(*batch)
    losses = []
    for a in range(len(points)):
        same = [distance(points[a], points[b]) for b in range(len(points)) if b != a and labels[a] == labels[b]]
        others = [distance(points[a], points[b]) for b in range(len(points)) if labels[a] != labels[b]]
        if same and others:
            losses.append(max(margin + max(same) - min(others), 0.0))
    assert margins.triplet_batch_hard(points, labels, margin=margin).item() == pytest.approx(mean(losses), abs=1e-9)


@given(batches, st.floats(0.0, 4.0))
def test_triplet_semi_hard(batch, margin):
    points, labels = drawn(*batch)
    losses = []
    for a in range(len(points)):
        others = [distance(points[a], points[b]) ** 2 for b in range(len(points)) if labels[a] != labels[b]]
        for p in range(len(points)):
            if p != a and labels[a] == labels[p] and others:
                pair = distance(points[a], points[p]) ** 2
                beyond = [d for d in others if d > pair]
                losses.append(max(margin + pair - (min(beyond) if beyond else max(others)), 0.0))
    assert margins.triplet_semi_hard(points, labels, margin=margin).item() == pytest.approx(mean(losses), abs=1e-9)


def test_an_other_as_near_as_the_pair_is_no_farther_one():
    points, labels = torch.tensor([[0.0], [1.0], [-1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    # From 0: pair 1, others 1 and 4. From 1: pair 1, others 1 and 4, so 4. From -1: pair 9, others 1 and 4, so 4, the
    # farthest. From 2: pair 9, others 1 and 4, so 4.
    expected = (4.5 + 1 - 4 + 4.5 + 1 - 4 + 4.5 + 9 - 4 + 4.5 + 9 - 4) / 4
    assert margins.triplet_semi_hard(points, labels, margin=4.5).item() == expected


@pytest.mark.parametrize("name", ["contrastive", "triplet_batch_hard", "triplet_semi_hard"])
def test_far_from_the_origin_distances_are_still_exact(name):
    """From a product of the features, as is quick, 1000^2 would swallow the squares of the distances."""
    points, labels = drawn(8, 3, 3)
    points = (points * 2**-6).bfloat16().double() + 1024.0  # exact in float32
    near = PAIRWISE[name](points - 1024.0, labels, margin=0.01)
    torch.testing.assert_close(PAIRWISE[name](points.float(), labels, margin=0.01).double(), near, rtol=1e-2, atol=0)


@given(batches, st.floats(0.0, 1.0), st.floats(0.5, 300.0))
def test_circle_pairs(batch, margin, scale):
    points, labels = drawn(*batch)
    unit = points / points.norm(dim=1, keepdim=True)
    losses = []
    for a in range(len(points)):
        pull, push = [], []
        for b in range(len(points)):
            s = float(unit[a] @ unit[b])
            if labels[a] != labels[b]:
                push.append(scale * max(s + margin, 0.0) * (s - margin))
            elif a != b:
                pull.append(-scale * max(1.0 + margin - s, 0.0) * (s - 1.0 + margin))
        if pull and push:
            both = [p + q for p in pull for q in push]
            top = max([*both, 0.0])
            losses.append(top + math.log(math.exp(-top) + sum(math.exp(x - top) for x in both)))
    assert margins.circle_pairs(points, labels, margin=margin, scale=scale).item() == pytest.approx(
        mean(losses), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("name", ["contrastive", "triplet_batch_hard", "triplet_semi_hard"])
def test_the_gradient_is_that_of_the_value(name):
    points, labels = drawn(7, 3, 1)
    assert gradcheck(lambda points: PAIRWISE[name](points, labels, margin=1.0), points.requires_grad_())


@every_loss
@every_dtype
def test_features_that_coincide_or_vanish_have_a_finite_gradient(name, dtype):
    points = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [-3.0, -4.0]], dtype=dtype)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    points.requires_grad_()
    loss = PAIRWISE[name](points, labels)
    assert loss.isfinite()
    assert loss > 0.0
    assert torch.autograd.grad(loss, points)[0].isfinite().all()


@pytest.mark.parametrize(
    ("name", "labels"),
    [(name, labels) for name in PAIRWISE for labels in ([], [3])]
    + [(name, labels) for name in PAIRWISE if name != "contrastive" for labels in ([3, 3], [1, 2])],
)
@every_dtype
def test_a_batch_with_nothing_to_compare_costs_nothing(name, dtype, labels):
    points = torch.ones(len(labels), 4, dtype=dtype, requires_grad=True)
    loss = PAIRWISE[name](points, torch.tensor(labels, dtype=torch.int64))
    assert loss == 0.0
    (gradient,) = torch.autograd.grad(loss, points)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@every_loss
def test_a_nan_is_not_hidden(name):
    points, labels = drawn(6, 2, 0)
    points[3] = math.nan
    assert PAIRWISE[name](points, labels).isnan()


@every_loss
def test_half_precision_is_single_inside(name):
    """Rounding the features is all that half precision costs: lengths of 300 squared would overflow float16."""
    points, labels = drawn(8, 3, 2)
    half = (points * 150).half()
    torch.testing.assert_close(PAIRWISE[name](half, labels), PAIRWISE[name](half.float(), labels))


@every_loss
def test_shapes_are_refused(name):
    points, labels = drawn(4, 2, 0)
    with pytest.raises(TensorError, match=r"features: expected float \[any, any\], got float64 \[4\]"):
        PAIRWISE[name](points[:, 0], labels)
    with pytest.raises(TensorError, match=r"labels: expected int64 \[4\], got int64 \[3\]"):
        PAIRWISE[name](points, labels[:3])
    with pytest.raises(InputError, match="margin: expected a number in"):
        PAIRWISE[name](points, labels, margin=-0.5)


def test_center_loss_and_its_centres_by_hand():
    """Algorithm 1 of the paper, one sample after another."""
    head = margins.CenterLoss(3, 4, rate=0.5)
    centers = [[0.0] * 3 for _ in range(4)]
    for seed in range(6):
        points, labels = drawn(5, 3, seed)  # class 3 never comes
        expected = mean([sum((x - c) ** 2 for x, c in zip(point.tolist(), centers[label], strict=True)) / 2
                         for point, label in zip(points, labels.tolist(), strict=True)])  # fmt: skip
        assert head(points.float(), labels).item() == pytest.approx(expected, rel=1e-5)
        moved = []
        for label, center in enumerate(centers):
            own = [point.tolist() for point, owner in zip(points, labels.tolist(), strict=True) if owner == label]
            gap = [sum(c - point[d] for point in own) / (1 + len(own)) for d, c in enumerate(center)]
            moved.append([c - 0.5 * g for c, g in zip(center, gap, strict=True)])
        centers = moved
        torch.testing.assert_close(head.centers, torch.tensor(centers), rtol=1e-5, atol=1e-6)
    assert head.centers[3].tolist() == [0.0] * 3


def test_center_loss_trains_the_features_alone_and_rests_when_told_to():
    points, labels = drawn(5, 3, 0)
    points = points.float().requires_grad_()
    head = margins.CenterLoss(3, 3)
    head(points, labels)
    before = head.centers.clone()
    loss = head.eval()(points, labels)
    (gradient,) = torch.autograd.grad(loss, points)
    torch.testing.assert_close(gradient, (points - before[labels]).detach() / 5)
    assert torch.equal(head.centers, before)
    assert not list(head.parameters())


def test_a_nan_shows_in_center_loss_and_does_not_live_on_in_its_centres():
    points, labels = drawn(5, 2, 0)
    good, bad = margins.CenterLoss(3, 2), margins.CenterLoss(3, 2)
    rest = torch.arange(5) != 2
    good(points[rest].float(), labels[rest])
    points[2, 1] = math.nan
    assert bad(points.float(), labels).isnan()
    torch.testing.assert_close(bad.centers, good.centers)


@every_dtype
def test_center_loss_at_the_awkward_points(dtype):
    head = margins.CenterLoss(2, 1)
    empty = torch.zeros(0, 2, dtype=dtype, requires_grad=True)
    loss = head(empty, torch.zeros(0, dtype=torch.int64))
    assert loss == 0.0
    assert torch.autograd.grad(loss, empty)[0].shape == (0, 2)
    on_it = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
    assert torch.equal(torch.autograd.grad(head(on_it, torch.tensor([0])), on_it)[0], torch.zeros(1, 2, dtype=dtype))
    with pytest.raises(InputError, match=r"labels: expected classes in \[0, 1\), got 1"):
        head(on_it, torch.tensor([1]))


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 999), st.floats(-20.0, 20.0))
def test_sphereface2(samples, classes, seed, bias):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(samples, classes, generator=generator, dtype=torch.float64) * 2 - 1
    labels = torch.randint(classes, (samples,), generator=generator)
    total = 0.0
    for n in range(samples):
        for c in range(classes):
            g = 2.0 * ((cosines[n, c].item() + 1.0) / 2.0) ** 3 - 1.0
            if c == labels[n]:
                total += 0.7 / 40.0 * math.log1p(math.exp(-(40.0 * (g - 0.4) + bias)))
            else:
                total += 0.3 / 40.0 * math.log1p(math.exp(40.0 * (g + 0.4) + bias))
    loss = margins.sphereface2(cosines, labels, torch.tensor(bias, dtype=torch.float64))
    assert loss.item() == pytest.approx(total / samples, rel=1e-9, abs=1e-12)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 999), st.floats(-20.0, 20.0), st.floats(0.0, 2.0))
def test_uniface(samples, classes, seed, bias, weight):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(samples, classes, generator=generator, dtype=torch.float64) * 2 - 1
    labels = torch.randint(classes, (samples,), generator=generator)
    total = 0.0
    for n in range(samples):
        for c in range(classes):
            cosine = cosines[n, c].item()
            if c == labels[n]:
                total += math.log1p(math.exp(bias - 64.0 * (cosine - 0.4)))
            else:
                total += weight * math.log1p(math.exp(64.0 * cosine - bias))
    loss = margins.uniface(cosines, labels, torch.tensor(bias, dtype=torch.float64), weight=weight)
    assert loss.item() == pytest.approx(total / samples, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 100, 100_000])
def test_the_first_bias_of_sphereface2_is_the_best_for_an_untrained_network(classes):
    head = margins.SphereFace2(classes).double()
    loss = head(torch.zeros(1, classes, dtype=torch.float64), torch.tensor([0]))
    (slope,) = torch.autograd.grad(loss, head.bias)
    assert abs(slope.item()) < 1e-6 * 0.7 / 40.0


@pytest.mark.parametrize("classes", [2, 100, 100_000])
def test_at_the_first_bias_of_uniface_all_noes_cost_a_tenth(classes):
    head = margins.UniFace(classes)
    with_noes = head(torch.zeros(1, classes), torch.tensor([0]))
    without = margins.uniface(torch.zeros(1, classes), torch.tensor([0]), head.bias, weight=0.0)
    assert (with_noes - without).item() == pytest.approx(0.1 * (classes - 1) / classes, rel=0.05)


BINARY = {"SphereFace2": margins.SphereFace2, "UniFace": margins.UniFace}


@pytest.mark.parametrize("name", BINARY)
@every_dtype
def test_binary_losses_are_finite_everywhere(name, dtype):
    head = BINARY[name](3)
    step = torch.finfo(dtype).eps
    for value in (1.0, -1.0, 1.0 + step, -1.0 - step, 0.0):
        cosines = torch.full((3, 3), value, dtype=dtype, requires_grad=True)
        loss = head(cosines, torch.tensor([0, 1, 2]))
        assert loss.isfinite()
        gradients = torch.autograd.grad(loss, (cosines, head.bias))
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_sphereface2_takes_a_cosine_a_rounding_below_minus_one_for_any_power():
    cosines = torch.full((1, 3), -1.0 - 1e-7, requires_grad=True)
    loss = margins.sphereface2(cosines, torch.tensor([0]), torch.tensor(0.0), power=2.5)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, cosines)[0].isfinite().all()


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses_pull_the_own_class_and_push_the_others(name):
    cosines = torch.linspace(-0.99, 0.99, 30, dtype=torch.float64).view(10, 3).requires_grad_()
    labels = torch.arange(10) % 3
    (gradient,) = torch.autograd.grad(BINARY[name](3).double()(cosines, labels), cosines)
    own = torch.nn.functional.one_hot(labels, 3).bool()
    assert (gradient[own] <= 0.0).all()
    assert (gradient[~own] >= 0.0).all()
    assert gradient.abs().max() > 0.0


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses_have_the_gradient_of_their_value(name):
    head = BINARY[name](4).double()
    cosines = torch.linspace(-0.95, 0.95, 20, dtype=torch.float64).view(5, 4).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert gradcheck(lambda cosines, bias: torch.func.functional_call(head, {"bias": bias}, (cosines, labels)),
                     (cosines, head.bias.detach().clone().requires_grad_()))  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses_at_the_awkward_points(name):
    head = BINARY[name](3)
    cosines = torch.zeros(0, 3, requires_grad=True)
    loss = head(cosines, torch.zeros(0, dtype=torch.int64))
    assert loss == 0.0
    assert torch.autograd.grad(loss, cosines)[0].shape == (0, 3)
    assert head(torch.tensor([[math.nan, 0.0, 0.0]]), torch.tensor([1])).isnan()
    with pytest.raises(InputError, match=r"labels: expected classes in \[0, 3\), got 3"):
        head(torch.zeros(1, 3), torch.tensor([3]))
    with pytest.raises(TensorError, match=r"cosines: expected float \[any, any\], got float32 \[3\]"):
        head(torch.zeros(3), torch.tensor([1, 1, 1]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # out of torch's own compiler
@pytest.mark.parametrize("name", [*PAIRWISE, *BINARY, "CenterLoss"])
def test_torch_compile_takes_it_whole(name):
    points, labels = drawn(6, 3, 0)
    points = points.float().clamp(-1.0, 1.0).requires_grad_()
    loss = PAIRWISE.get(name) or (BINARY[name](3) if name in BINARY else margins.CenterLoss(3, 3))
    torch.compiler.reset()
    found, expected = torch.compile(loss, fullgraph=True, dynamic=False)(points, labels), loss(points, labels)
    if name == "CenterLoss":  # its centres have moved
        expected = margins.center_loss(points, labels, torch.zeros(3, 3))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, points)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
