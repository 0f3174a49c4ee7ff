"""Side by side with pytorch-metric-learning: the same where the definitions agree, and where not, who is right.

The judge is autograd in float64 on the formula as the paper writes it, through the angle itself.
"""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from visavis.blocks import margins

losses = pytest.importorskip("pytorch_metric_learning.losses")
distances = pytest.importorskip("pytorch_metric_learning.distances")
miners = pytest.importorskip("pytorch_metric_learning.miners")

# Out of their large-margin softmax, whose coefficients numpy makes of torch tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

CLASSES, FEATURES, SAMPLES = 7, 16, 12
SEEDS = range(5)


def head(seed, dtype=torch.float64, columns=CLASSES):
    """Features [N, D], weights [D, columns] and labels, as pytorch-metric-learning lays them out."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    weights = torch.randn(FEATURES, columns, generator=generator, dtype=torch.float64)
    labels = torch.arange(SAMPLES) % CLASSES  # the first and the last class are among them
    return features.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_(), labels


def theirs(loss, features, weights, labels):
    loss.W = torch.nn.Parameter(weights.detach().clone())
    value = loss(features, labels)
    return value, *torch.autograd.grad(value, (features, loss.W))


def ours(logits_of, features, weights, labels):
    cosines = normalize(features) @ normalize(weights, dim=0)
    value = cross_entropy(logits_of(cosines, features.norm(dim=1), weights.norm(dim=0)), labels)
    return value, *torch.autograd.grad(value, (features, weights))


SOFTMAXES = {
    "NormalizedSoftmax": (
        lambda: losses.NormalizedSoftmaxLoss(CLASSES, FEATURES, temperature=1 / 16.0),
        lambda labels: lambda cosines, *_: margins.normface(cosines, labels, scale=16.0),
    ),
    "CosFace": (
        lambda: losses.CosFaceLoss(CLASSES, FEATURES, margin=0.35, scale=16.0),
        lambda labels: lambda cosines, *_: margins.cosface(cosines, labels, margin=0.35, scale=16.0),
    ),
    "ArcFace": (  # in degrees there
        lambda: losses.ArcFaceLoss(CLASSES, FEATURES, margin=math.degrees(0.5), scale=16.0),
        lambda labels: lambda cosines, *_: margins.arcface(cosines, labels, margin=0.5, scale=16.0),
    ),
    "SphereFace": (
        lambda: losses.SphereFaceLoss(CLASSES, FEATURES, margin=4),
        lambda labels: lambda cosines, norms, _: margins.sphereface(cosines, labels, norms, margin=4),
    ),
    "LargeMarginSoftmax": (
        lambda: losses.LargeMarginSoftmaxLoss(CLASSES, FEATURES, margin=3),
        lambda labels: lambda cosines, norms, rows: margins.lsoftmax(cosines, labels, norms, rows, margin=3),
    ),
    "SubCenterArcFace": (
        lambda: losses.SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=FEATURES, margin=math.degrees(0.5), scale=16.0, sub_centers=3
        ),
        lambda labels: lambda cosines, *_: margins.arcface(margins.subcenter(cosines, count=3), labels, scale=16.0),
    ),
}


@pytest.mark.parametrize("name", SOFTMAXES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_loss_and_gradients(name, seed):
    """Random features in 16 dimensions lie around a right angle, far from where the definitions part."""
    make, logits = SOFTMAXES[name]
    features, weights, labels = head(seed, columns=3 * CLASSES if name == "SubCenterArcFace" else CLASSES)
    expected = theirs(make(), features, weights, labels)
    for found, wanted in zip(ours(logits(labels), features, weights, labels), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_circle_loss(seed):
    features, _, labels = head(seed)
    peer = losses.CircleLoss(m=0.25, gamma=32)
    expected, found = peer(features, labels), margins.circle_pairs(features, labels, margin=0.25, scale=32.0)
    # Theirs is the mean of what is above 0, ours of all who have a pair and an other: 10 of 12, of which each costs.
    assert len([label for label in labels if (labels == label).sum() > 1]) == 10
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in (found, expected)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_batch_hard_triplets(seed):
    features, _, labels = head(seed)
    plain = distances.LpDistance(normalize_embeddings=False, p=2)
    peer = losses.TripletMarginLoss(margin=5.0, distance=plain)
    triplets = miners.BatchHardMiner(distance=plain)(features, labels)
    expected, found = peer(features, labels, triplets), margins.triplet_batch_hard(features, labels, margin=5.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in (found, expected)))


@pytest.mark.parametrize("seed", SEEDS)
def test_contrastive_differs_by_its_square(seed):
    """Hadsell et al. take half the squares of distance and gap; there both stay linear, and each kind has its mean."""
    features, _, labels = head(seed)
    plain = distances.LpDistance(normalize_embeddings=False, p=2)
    peer = losses.ContrastiveLoss(pos_margin=0.0, neg_margin=7.0, distance=plain)
    d = torch.cdist(features, features)
    same = labels[:, None] == labels
    own = same & ~torch.eye(SAMPLES, dtype=torch.bool)
    gaps = (7.0 - d[~same]).clamp_min(0.0)
    torch.testing.assert_close(peer(features, labels), d[own].mean() + gaps[gaps > 0].mean())
    paper = (d[own].square().sum() / 2 + gaps.square().sum() / 2) / (own.sum() + (~same).sum())
    torch.testing.assert_close(margins.contrastive(features, labels, margin=7.0), paper)


def on_the_sphere(angle, dtype=torch.float64):
    """A feature at an angle to its class, in a plane with the other class at a right angle to both."""
    feature = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return feature.to(dtype).requires_grad_(), weights.to(dtype)


LABEL = torch.tensor([0])


def arcface_judge(feature, weights):
    """The gradient of ArcFace's eq. 3 for one sample of class 0, as written, through the arc cosine."""
    cosines = normalize(feature) @ weights
    target = (cosines[:, :1].acos() + 0.5).cos()
    loss = cross_entropy(2.0 * torch.cat([target, cosines[:, 1:]], dim=1), LABEL)
    return torch.autograd.grad(loss, feature)[0]


def arcface_gradient(feature, weights):
    """The same by ours."""
    loss = cross_entropy(margins.arcface(normalize(feature) @ weights, LABEL, scale=2.0), LABEL)
    return torch.autograd.grad(loss, feature)[0]


def test_on_the_class_centre_their_arcface_has_no_gradient_and_ours_has():
    feature, weights = on_the_sphere(0.0, torch.float32)
    peer = losses.ArcFaceLoss(2, 3, margin=math.degrees(0.5), scale=2.0)
    _, gradient, _ = theirs(peer, feature, weights, LABEL)
    assert gradient.isnan().any()

    # Coming from any side, the formula's gradient points to the opposite side, and has the same length. So the mean of
    # all sides is what we return in the centre: no push to any.
    one, opposite = (arcface_judge(*on_the_sphere(angle)) for angle in (1e-4, -1e-4))
    assert one[0, 1].item() == pytest.approx(-opposite[0, 1].item(), rel=1e-3)
    assert one[0, 1].item() > 0.1
    torch.testing.assert_close(arcface_gradient(*on_the_sphere(0.0)), (one + opposite) / 2, rtol=0, atol=1e-4)
    torch.testing.assert_close(arcface_gradient(*on_the_sphere(1e-4)), one, rtol=0, atol=1e-6)


def test_beyond_its_last_angle_their_arcface_jumps_and_ours_goes_on():
    """At pi - margin the true curve has come to -1. Their fallback begins 0.117 below; with it a loss jumps by 1.9."""
    values = {}
    for side in (-1e-6, 1e-6):
        feature, weights = on_the_sphere(math.pi - 0.5 + side)
        peer = losses.ArcFaceLoss(2, 3, margin=math.degrees(0.5), scale=16.0)
        their_value, *_ = theirs(peer, feature, weights, LABEL)
        our_value, *_ = ours(
            lambda cosines, *_: margins.arcface(cosines, LABEL, scale=16.0),
            feature,
            weights.requires_grad_(),
            LABEL,
        )
        values[side] = (their_value.item(), our_value.item())
    jump = 16.0 * (math.cos(0.5) + 0.5 * math.sin(0.5) - 1.0)
    assert values[1e-6][0] - values[-1e-6][0] == pytest.approx(jump, abs=1e-3)
    assert jump > 1.8
    assert values[1e-6][1] - values[-1e-6][1] == pytest.approx(0.0, abs=1e-3)


def test_the_straight_through_gradient_of_arcface_is_another():
    """InsightFace takes acos, + m and cos without a gradient, so its slope is 1 where it is sin(t + m) / sin t."""

    def straight_through(cosines):
        target = cosines[:, :1]
        with torch.no_grad():
            shift = (target.acos() + 0.5).cos() - target
        return 16.0 * torch.cat([target + shift, cosines[:, 1:]], dim=1)

    for angle in (0.3, 0.8, math.pi / 2, 2.0, 2.5):
        feature, weights = on_the_sphere(angle)
        cosines = (normalize(feature) @ weights).detach().requires_grad_()
        values, slopes = [], []
        for logits in (straight_through(cosines), margins.arcface(cosines, LABEL, scale=16.0)):
            values.append(logits[0, 0].item())
            slopes.append(torch.autograd.grad(logits[0, 0], cosines)[0][0, 0].item() / 16.0)
        assert values[0] == pytest.approx(values[1])
        assert slopes[0] == pytest.approx(1.0)
        factor = math.sin(angle + 0.5) / math.sin(angle)
        assert slopes[1] == pytest.approx(factor)
        assert abs(factor - 1.0) > 0.1
        if angle == math.pi / 2:  # as all angles of an untrained network nearly are
            assert slopes[0] / slopes[1] - 1.0 == pytest.approx(0.1395, abs=1e-4)
        torch.testing.assert_close(arcface_gradient(feature, weights), arcface_judge(feature, weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision_their_arcface_fails_on_faces_that_fit_and_ours_does_not(dtype):
    """Within 1.3 (float16) or 3.6 degrees (bfloat16) of its centre a cosine rounds to 1, where acos has no slope."""
    bad = {"theirs": 0, "ours": 0}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(FEATURES, CLASSES, generator=generator)
        labels = torch.arange(CLASSES)
        features = (normalize(weights, dim=0).T + 0.004 * torch.randn(CLASSES, FEATURES, generator=generator)).to(dtype)
        features.requires_grad_()
        peer = losses.ArcFaceLoss(CLASSES, FEATURES, margin=math.degrees(0.5), scale=64.0)
        peer.W = torch.nn.Parameter(weights.to(dtype))
        (gradient,) = torch.autograd.grad(peer(features, labels), features)
        bad["theirs"] += not gradient.isfinite().all()
        cosines = normalize(features) @ normalize(weights.to(dtype), dim=0)
        (gradient,) = torch.autograd.grad(cross_entropy(margins.arcface(cosines, labels), labels), features)
        bad["ours"] += not gradient.isfinite().all()
    assert bad["ours"] == 0
    assert bad["theirs"] > 10
