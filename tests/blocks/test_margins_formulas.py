"""The curves of the margins against their papers' formulas, sample by sample, in Python's own double precision."""

import math

import pytest
import scipy
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from visavis.blocks import margins
from visavis.blocks.margins._curves import angle, falling, shift
from visavis.blocks.margins._draws import normal

ANGLES = torch.linspace(0.0, math.pi, 721, dtype=torch.float64)
angles = st.floats(0.0, math.pi)
radians = st.floats(0.0, math.pi / 2)
# A cosine is known to one rounding, and an angle t to that over sin t.
NEAR = {"rtol": 0.0, "atol": 3e-8}


def fallen(a):
    """The cosine made to fall for ever, by its definition: each half turn is the one before, turned about its end."""
    if a < 0.0:
        return 2.0 - fallen(-a)
    if a > math.pi:
        return -2.0 - fallen(2.0 * math.pi - a) if a <= 2.0 * math.pi else fallen(a - 2.0 * math.pi) - 4.0
    return math.cos(a)


def own(function, angle, *arguments, other=0.25, **options):
    """The logit of the true class for a sample at an angle to it; beside it one other class."""
    cosines = torch.tensor([[other, math.cos(angle)]], dtype=torch.float64)
    return function(cosines, torch.tensor([1]), *arguments, **options)[0, 1].item()


def test_the_falling_cosine():
    steps = torch.linspace(-math.pi, 7.0, 4001, dtype=torch.float64)
    values = falling(steps)
    torch.testing.assert_close(values, torch.tensor([fallen(a) for a in steps.tolist()], dtype=torch.float64))
    # It is 1 minus the integral of |sin|.
    for stop in (0.5, 3.0, 4.0, 7.0):
        area = scipy.integrate.quad(lambda a: abs(math.sin(a)), 0.0, stop, points=[math.pi, 2.0 * math.pi])[0]
        assert falling(torch.tensor(stop, dtype=torch.float64)).item() == pytest.approx(1.0 - area, abs=1e-9)


@given(angles, st.floats(-math.pi / 2, math.pi / 2))
def test_the_shift_is_the_falling_cosine_of_the_sum(t, margin):
    shifted = shift(torch.tensor(math.cos(t), dtype=torch.float64), margin).item()
    assert shifted == pytest.approx(fallen(t + margin), abs=3e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_angle_is_exact_up_to_the_ends(dtype):
    cosines = ANGLES.cos().to(dtype)
    exact = torch.tensor([math.acos(c) for c in cosines.tolist()], dtype=torch.float64)
    torch.testing.assert_close(angle(cosines).double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=2e-19)


@given(angles, radians)
def test_arcface(t, margin):
    assert own(margins.arcface, t, margin=margin, scale=2.0) == pytest.approx(2.0 * fallen(t + margin), abs=6e-8)


@given(angles, st.floats(0.0, 1.0))
def test_cosface(t, margin):
    assert own(margins.cosface, t, margin=margin, scale=2.0) == pytest.approx(2.0 * (math.cos(t) - margin), abs=1e-12)


@given(angles, st.floats(1.0, 8.0), radians, st.floats(0.0, 1.0))
def test_combined_margin(t, m1, m2, m3):
    expected = 2.0 * (fallen(m1 * t + m2) - m3)
    assert own(margins.combined_margin, t, m1=m1, m2=m2, m3=m3, scale=2.0) == pytest.approx(expected, abs=1e-6)


@given(angles, radians, angles)
def test_li_arcface(t, margin, s):
    logits = margins.li_arcface(
        torch.tensor([[math.cos(s), math.cos(t)]], dtype=torch.float64), torch.tensor([1]), margin=margin, scale=2.0
    )
    expected = [2.0 - 4.0 / math.pi * s, 2.0 - 4.0 / math.pi * (t + margin)]
    torch.testing.assert_close(logits, torch.tensor([expected], dtype=torch.float64), **NEAR)


@given(angles, st.integers(1, 12))
def test_sphereface_for_every_whole_margin(t, margin):
    expected = 7.0 * fallen(margin * t)
    norms = torch.tensor([7.0], dtype=torch.float64)
    assert own(margins.sphereface, t, norms, margin=margin) == pytest.approx(expected, abs=1e-6)
    assert own(margins.sphereface_r, t, margin=float(margin), scale=7.0) == pytest.approx(expected, abs=1e-6)


@given(angles, st.floats(0.0, 1000.0))
def test_sphereface_blended(t, blend):
    expected = 7.0 * (blend * math.cos(t) + fallen(4.0 * t)) / (1.0 + blend)
    found = own(margins.sphereface, t, torch.tensor([7.0], dtype=torch.float64), margin=4, blend=blend)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 12, 40])
def test_chebyshev(degree):
    cosines = torch.linspace(-1.0, 1.0, 501, dtype=torch.float64, requires_grad=True)
    values = margins.chebyshev(cosines, degree)
    expected = scipy.special.eval_chebyt(degree, cosines.detach().numpy())
    torch.testing.assert_close(values.detach(), torch.from_numpy(expected), rtol=0, atol=1e-11)
    if degree:  # T_m' = m U_{m-1}, exact at both ends too
        (slope,) = torch.autograd.grad(values.sum(), cosines)
        exact = degree * scipy.special.eval_chebyu(degree - 1, cosines.detach().numpy())
        torch.testing.assert_close(slope, torch.from_numpy(exact), rtol=1e-10, atol=1e-9)


def test_lsoftmax_multiplies_by_both_lengths():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 3])
    norms, class_norms = features.norm(dim=1), weights.norm(dim=1)
    products = features @ weights.T
    cosines = products / norms[:, None] / class_norms
    torch.testing.assert_close(margins.lsoftmax(cosines, labels, norms, class_norms, margin=1), products)
    logits = margins.lsoftmax(cosines, labels, norms, class_norms, margin=3)
    for n, label in enumerate(labels.tolist()):
        expected = norms[n] * class_norms[label] * fallen(3.0 * math.acos(cosines[n, label]))
        torch.testing.assert_close(logits[n, label], expected)
        products[n, label] = logits[n, label]
    torch.testing.assert_close(logits, products)
    dense = class_norms * margins.LSoftmax(3, start=0.0, end=0.0)(cosines, labels, norms, scale=1.0)
    torch.testing.assert_close(logits, dense)


def test_only_the_two_oldest_scale_with_lengths():
    kinds = [kind for name in margins.__all__ if isinstance(kind := getattr(margins, name), type)]
    softmaxes = [kind for kind in kinds if issubclass(kind, margins.Margin)]
    assert {kind.__name__ for kind in softmaxes if kind.scales_with_norm} == {"LSoftmax", "SphereFace"}
    assert {kind.__name__ for kind in softmaxes if not kind.normalizes_classes} == {"LSoftmax"}


def test_the_annealing_of_sphereface():
    margin = margins.SphereFace()
    cosines, norms = torch.zeros(1), torch.ones(1)
    for step in range(1, 2000):
        margin.observe(cosines, norms)
        if step in (1, 2, 10, 500, 1658, 1659, 1999):
            assert margin.blend().item() == pytest.approx(max(5.0, 1000.0 / (1.0 + 0.12 * step)), rel=1e-6)
    margin = margins.SphereFace(3, start=10.0, end=1.0, decay=1.0)
    margin.observe(cosines, norms)
    t = 2.0
    expected = (5.0 * math.cos(t) + fallen(3.0 * t)) / 6.0
    found = margin.target(torch.tensor([math.cos(t)], dtype=torch.float64), norms)
    assert found.item() == pytest.approx(expected, abs=1e-7)


@given(angles, angles, radians, st.floats(-1.0, 1.0))
@example(t=1.0, s=1.2, margin=0.5, mean=-0.5)  # a hard class while the running mean is still negative
def test_curricularface(t, s, margin, mean):
    cosines = torch.tensor([[math.cos(s), math.cos(t)]], dtype=torch.float64)
    logits = margins.curricularface(cosines, torch.tensor([1]), t=mean, margin=margin, scale=2.0)
    target, other = fallen(t + margin), math.cos(s)
    assert logits[0, 1].item() == pytest.approx(2.0 * target, abs=6e-8)
    if abs(other - target) > 1e-6:
        hard = other > max(target, 0.0)
        expected = other * (max(mean, 0.0) + other) if hard else other
        assert logits[0, 0].item() == pytest.approx(2.0 * expected, abs=1e-6)


def test_curricularface_follows_the_mean_cosine():
    margin = margins.CurricularFace()
    mean = 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        cosines = torch.rand(8, 3, generator=generator)
        labels = torch.randint(3, (8,), generator=generator)
        logits = margin(cosines, labels, scale=64.0)
        mean = 0.99 * mean + 0.01 * cosines[torch.arange(8), labels].mean().item()
        assert margin.t.item() == pytest.approx(mean, rel=1e-5)
        expected = margins.curricularface(cosines, labels, t=margin.t.item())
        torch.testing.assert_close(logits, expected)


@given(angles, st.floats(0.0, 200.0))
def test_magface(t, length):
    norms = torch.tensor([length], dtype=torch.float64)
    inside = min(max(length, 10.0), 110.0)
    margin = (0.8 - 0.45) / (110.0 - 10.0) * (inside - 10.0) + 0.45
    assert own(margins.magface, t, norms, scale=2.0) == pytest.approx(2.0 * fallen(t + margin), abs=1e-7)
    penalty = margins.MagFace().penalty(norms).item()
    if length >= 10.0:
        assert penalty == pytest.approx(35.0 * (length / 110.0**2 + 1.0 / length))
    else:  # the tangent at 10
        ten = 10.0 / 110.0**2 + 1.0 / 10.0
        assert penalty == pytest.approx(35.0 * (ten + (length - 10.0) * (1.0 / 110.0**2 - 1.0 / 10.0**2)))


def test_the_penalty_of_magface_brings_every_length_to_the_upper_end():
    norms = torch.linspace(0.0, 400.0, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(margins.MagFace().penalty(norms).sum(), norms)
    assert (slope[norms < 110.0 - 1e-9] < 0.0).all()
    assert (slope[norms > 110.0 + 1e-9] > 0.0).all()
    assert slope.diff().abs().max() < 0.02  # no kink


@given(angles, st.floats(0.0, 100.0), st.floats(1.0, 50.0), st.floats(0.1, 50.0), st.floats(0.0, 0.8))
def test_adaface(t, length, mean, std, margin):
    quality = min(max((length - mean) / (std + 1e-3) * 0.333, -1.0), 1.0)
    expected = fallen(t - margin * quality) - margin * quality - margin
    norms = torch.tensor([length], dtype=torch.float64)
    found = own(margins.adaface, t, norms, mean=mean, std=std, margin=margin, scale=2.0)
    assert found == pytest.approx(2.0 * expected, abs=1e-5)


@given(angles)
def test_adaface_is_arcface_for_bad_and_cosface_for_middling_photos(t):
    cosines = torch.tensor([[0.25, math.cos(t)]], dtype=torch.float64)
    labels = torch.tensor([1])
    bad = margins.adaface(cosines, labels, torch.tensor([0.0]), mean=20.0, std=1.0)
    torch.testing.assert_close(bad, margins.arcface(cosines, labels, margin=0.4))
    middling = margins.adaface(cosines, labels, torch.tensor([20.0]), mean=20.0, std=1.0)
    torch.testing.assert_close(middling, margins.cosface(cosines, labels, margin=0.4))


def test_adaface_follows_the_lengths_and_gives_them_no_gradient():
    margin = margins.AdaFace()
    mean, std = 20.0, 100.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        norms = torch.rand(8, generator=generator) * 120
        margin.observe(torch.zeros(8), norms)
        cut = norms.clamp(0.001, 100.0).tolist()
        mean = 0.99 * mean + 0.01 * sum(cut) / 8
        middle = sum(cut) / 8
        std = 0.99 * std + 0.01 * math.sqrt(sum((x - middle) ** 2 for x in cut) / 7)
    assert margin.mean.item() == pytest.approx(mean, rel=1e-5)
    assert margin.std.item() == pytest.approx(std, rel=1e-5)

    cosines, labels = torch.rand(4, 3, generator=generator), torch.tensor([0, 1, 2, 2])
    norms = (torch.rand(4, generator=generator) * 90).requires_grad_()
    logits = margin.eval()(cosines, labels, norms, scale=64.0)
    assert not logits.requires_grad
    expected = margins.adaface(cosines, labels, norms, mean=margin.mean.item(), std=margin.std.item())
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("seed", range(3))
def test_elastic_margins_are_normal_and_new_every_step(seed):
    steps = torch.cat([normal(torch.tensor(seed), torch.tensor(step), 512) for step in range(200)]).double()
    # 102400 draws at fixed seeds: nothing here can fail by chance on another day.
    assert scipy.stats.kstest(steps.numpy(), "norm").pvalue > 0.01
    other = torch.cat([normal(torch.tensor(seed + 1), torch.tensor(step), 512) for step in range(200)]).double()
    for lag in (1, 2, 512):  # within a batch, and the same place in the next
        assert abs((steps[lag:] * steps[:-lag]).mean()) < 4.0 / math.sqrt(len(steps))
    assert abs((steps * other).mean()) < 4.0 / math.sqrt(len(steps))


@pytest.mark.parametrize(("make", "plain"), [(margins.ElasticFace, "arc"), (margins.ElasticCosFace, "cos")])
def test_elasticface_draws_from_its_seed_and_step(make, plain):
    cosines = torch.linspace(-0.9, 0.9, 8, dtype=torch.float64)[:, None].expand(-1, 2).contiguous()
    labels = torch.zeros(8, dtype=torch.int64)
    one, same, other = make(seed=7), make(seed=7), make(seed=8)
    first, second = one(cosines, labels, scale=1.0), one(cosines, labels, scale=1.0)
    assert not torch.equal(first, second)
    assert torch.equal(first, same(cosines, labels, scale=1.0))
    assert not torch.equal(first, other(cosines, labels, scale=1.0))
    drawn = one.margins(cosines[:, 0])
    if plain == "arc":
        torch.testing.assert_close(second, margins.elasticface(cosines, labels, drawn, scale=1.0))
        expected = margins.arcface(cosines, labels, margin=0.5, scale=1.0)
    else:
        torch.testing.assert_close(second[:, 0], cosines[:, 0] - drawn)
        expected = margins.cosface(cosines, labels, margin=0.35, scale=1.0)
    torch.testing.assert_close(one.eval()(cosines, labels, scale=1.0), expected)  # the mean when nothing is trained


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.0, 1.0))
def test_circle(same, other, margin):
    cosines = torch.tensor([[other, same]], dtype=torch.float64, requires_grad=True)
    logits = margins.circle(cosines, torch.tensor([1]), margin=margin, scale=2.0)
    pull, push = max(1.0 + margin - same, 0.0), max(other + margin, 0.0)
    expected = [2.0 * push * (other - margin), 2.0 * pull * (same - 1.0 + margin)]
    torch.testing.assert_close(logits, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(logits.sum(), cosines)  # the weights are no part of what is derived
    torch.testing.assert_close(slope, torch.tensor([[2.0 * push, 2.0 * pull]], dtype=torch.float64))
    dense = margins.Circle(margin)(cosines, torch.tensor([1]), scale=2.0)
    assert torch.equal(dense, logits)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_subcenter_takes_the_nearest_of_each_class(classes, count, samples, seed):
    cosines = torch.rand(samples, classes * count, generator=torch.Generator().manual_seed(seed))
    best = margins.subcenter(cosines, count=count)
    assert best.shape == (samples, classes)
    for n in range(samples):
        for c in range(classes):
            assert best[n, c] == max(cosines[n, c * count : (c + 1) * count].tolist())


CLASSES_OF = {
    "normface": (margins.normface, margins.NormFace()),
    "cosface": (margins.cosface, margins.CosFace()),
    "arcface": (margins.arcface, margins.ArcFace()),
    "combined_margin": (margins.combined_margin, margins.CombinedMargin()),
    "li_arcface": (margins.li_arcface, margins.LiArcFace()),
    "sphereface_r": (margins.sphereface_r, margins.SphereFaceR()),
    "circle": (margins.circle, margins.Circle()),
}


@pytest.mark.parametrize("name", CLASSES_OF)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_function_and_class_are_one(name, dtype):
    function, margin = CLASSES_OF[name]
    cosines = torch.linspace(-1.0, 1.0, 60, dtype=torch.float64).view(20, 3).to(dtype)
    labels = torch.arange(20) % 3
    assert torch.equal(function(cosines, labels, scale=30.0), margin(cosines, labels, scale=30.0))


def test_magface_function_and_class_are_one():
    cosines, labels = torch.rand(5, 3), torch.tensor([0, 1, 2, 0, 1])
    norms = torch.rand(5) * 120
    assert torch.equal(margins.magface(cosines, labels, norms), margins.MagFace()(cosines, labels, norms, scale=64.0))
