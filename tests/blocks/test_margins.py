"""What every margin keeps, whatever its curve: the battery. A new margin is one line in MARGINS."""

import copy
import math
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from visavis.blocks import margins
from visavis.errors import InputError, TensorError

MARGINS = {
    "NormFace": margins.NormFace(),
    "CosFace": margins.CosFace(),
    "ArcFace": margins.ArcFace(),
    "ArcFace, widest": margins.ArcFace(math.pi / 2),
    "CombinedMargin": margins.CombinedMargin(1.2, 0.3, 0.2),
    "CombinedMargin, m1 = 1": margins.CombinedMargin(),
    "LiArcFace": margins.LiArcFace(),
    "SphereFace": margins.SphereFace(),
    "SphereFace, pure": margins.SphereFace(start=0.0, end=0.0),
    "LSoftmax": margins.LSoftmax(3),
    "SphereFaceR": margins.SphereFaceR(),
    "SphereFaceR, 3.7": margins.SphereFaceR(3.7),
    "CurricularFace": margins.CurricularFace(),
    "MagFace": margins.MagFace(),
    "AdaFace": margins.AdaFace(),
    "ElasticFace": margins.ElasticFace(),
    "ElasticCosFace": margins.ElasticCosFace(),
    "Circle": margins.Circle(),
}
# Weights in front of what is derived: the gradient is not that of the value, and the paper wants it so.
DETACHED = {"Circle"}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_margin = pytest.mark.parametrize("name", MARGINS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def fresh(name):
    """A margin that has seen two batches, so that running statistics and draws are not what they started as."""
    margin = copy.deepcopy(MARGINS[name])
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        cosines, norms = torch.rand(64, generator=generator), torch.rand(64, generator=generator) * 30
        margin.observe(cosines, norms)
    return margin


def batch(samples=6, classes=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(samples, classes, generator=generator, dtype=torch.float64) * 1.9 - 0.95
    labels = torch.randint(classes, (samples,), generator=generator)
    norms = torch.rand(samples, generator=generator, dtype=torch.float64) * 120
    return cosines.to(dtype), labels, norms.to(dtype)


def unit(vectors):
    """Vectors of length 1; a vector of length 0 stays one, and its gradient is that of a length of 1."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(norms > 0, norms, 1.0)


def loss_of(margin, features, weights, labels, scale=64.0):
    """The whole head, dense: features and class weights to the loss, with whatever the margin adds."""
    norms = torch.linalg.vector_norm(features, dim=1)
    cosines = unit(features) @ unit(weights).T
    logits = margin(cosines, labels, norms, scale=1.0 if margin.scales_with_norm else scale)
    if not margin.normalizes_classes:
        logits = logits * torch.linalg.vector_norm(weights, dim=1)
    penalty = margin.penalty(norms)
    return cross_entropy(logits, labels) + (0.0 if penalty is None else penalty.mean())


def test_the_battery_has_them_all():
    made = {type(margin) for margin in MARGINS.values()}
    public = {value for name in margins.__all__ if isinstance(value := getattr(margins, name), type)}
    assert made == {kind for kind in public if issubclass(kind, margins.Margin)} - {margins.Margin}


@every_margin
def test_the_target_falls_from_the_centre_to_its_opposite(name):
    margin = fresh(name).eval()
    for length in (0.0, 5.0, 20.0, 60.0, 200.0):
        angles = torch.linspace(0.0, math.pi, 4001, dtype=torch.float64)
        cosines = angles.cos().requires_grad_()
        values = margin.target(cosines, torch.full_like(cosines, length))
        if name not in DETACHED:
            assert (values.diff() <= 1e-12).all()
            # In the angle no slope is steeper than the factor of the angle, so nothing jumps.
            assert values.diff().abs().max() <= 4.0 * math.pi / 4000 + 1e-9
        (slope,) = torch.autograd.grad(values.sum(), cosines)
        assert (slope >= -1e-12).all()  # where two pieces meet it is 0, but for rounding
        assert slope.isfinite().all()


@every_margin
def test_others_push_away_and_never_pull(name):
    margin = fresh(name)
    for own in (-1.0, -0.9, -0.3, 0.0, 0.5, 1.0):
        cosines = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64, requires_grad=True)
        target = torch.full_like(cosines, own)
        (slope,) = torch.autograd.grad(margin.others(cosines, target).sum(), cosines)
        assert (slope >= 0.0).all()
        assert slope.isfinite().all()


@every_margin
@every_dtype
def test_value_and_gradient_are_finite_everywhere(name, dtype):
    """Exactly on the centre, exactly opposite, a rounding error beyond both, and at a length of 0."""
    margin = fresh(name)
    step = torch.finfo(dtype).eps
    points = torch.tensor([1.0, -1.0, 1.0 + step, -1.0 - step, 1.0 - step, -1.0 + step, 0.0, 0.5], dtype=dtype)
    for own in points:
        for length in (0.0, 1e-3, 20.0, 500.0):
            cosines = points[:, None].expand(-1, 3).clone()
            cosines[:, 1] = own
            cosines.requires_grad_()
            norms = torch.full((len(points),), length, dtype=dtype, requires_grad=True)
            labels = torch.ones(len(points), dtype=torch.int64)
            logits = margin(cosines, labels, norms, scale=1.0 if margin.scales_with_norm else 64.0)
            assert logits.dtype == dtype
            assert logits.isfinite().all()
            gradients = torch.autograd.grad(logits.float().sum(), (cosines, norms), materialize_grads=True)
            assert all(gradient.isfinite().all() for gradient in gradients)
            penalty = margin.penalty(norms)
            if penalty is not None:
                assert torch.autograd.grad(penalty.sum(), norms)[0].isfinite().all()


@every_margin
@every_dtype
def test_a_feature_on_its_centre_opposite_or_of_no_length_trains_on(name, dtype):
    weights = torch.tensor([[3.0, 4.0], [-0.6, 0.8], [5.0, -12.0]], dtype=dtype, requires_grad=True)
    spots = torch.stack([weights[0], -weights[0], 2 * weights[1], 0 * weights[1], weights[2] * 1e-3])
    features = spots.detach().requires_grad_()
    loss = loss_of(fresh(name), features, weights, torch.tensor([0, 0, 1, 1, 2]))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (features, weights)))


@pytest.mark.parametrize("name", sorted(MARGINS.keys() - DETACHED))
def test_the_gradient_is_that_of_the_value(name):
    margin = fresh(name).eval()  # what it observes is no part of the value
    cosines, labels, norms = batch()

    def logits(cosines, norms):
        return margin(cosines, labels, norms, scale=8.0)

    if name == "AdaFace":  # no gradient goes through its norms, so they are no inputs
        assert gradcheck(lambda cosines: logits(cosines, norms), cosines.requires_grad_())
    else:
        assert gradcheck(logits, (cosines.requires_grad_(), norms.requires_grad_()))
    if margin.penalty(norms) is not None:
        assert gradcheck(margin.penalty, norms.detach().requires_grad_())


@every_margin
@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-3, 1e-4, 0.0])
def test_near_the_centre_single_precision_gives_the_gradient_of_double(name, angle):
    """Where the slope in the cosine explodes as 1 / sin t, the gradient in the feature must still be right."""
    gradients = {}
    for dtype in (torch.float64, torch.float32):
        feature = 20 * torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64).to(dtype)
        feature.requires_grad_()
        loss = loss_of(fresh(name), feature, torch.eye(3, dtype=dtype), torch.tensor([0]), scale=8.0)
        gradients[dtype] = torch.autograd.grad(loss, feature)[0].double()
    size = gradients[torch.float64].norm()
    # The cosine of an angle t is known to eps / t in the angle: rounding, not our formula.
    known = 1e-6 if angle == 0.0 else 4e-7 / angle**2
    assert (gradients[torch.float32] - gradients[torch.float64]).norm() <= min(known, 1.0) * size + 2e-5


@every_margin
def test_the_dense_form_is_target_and_others(name):
    margin = fresh(name).eval()
    cosines, labels, norms = batch(samples=7, classes=4)
    logits = margin(cosines, labels, norms, scale=3.0)
    raw = cosines[torch.arange(7), labels]
    gain = 3.0 * (norms if margin.scales_with_norm else torch.ones(7))
    target = gain * margin.target(raw, norms)
    for n in range(7):
        for c in range(4):
            other = gain[n] * margin.others(cosines[n : n + 1, c], raw[n : n + 1])[0]
            expected = target[n] if c == labels[n] else other
            torch.testing.assert_close(logits[n, c], expected)


@every_margin
def test_a_nan_stays_in_its_row_and_out_of_the_state(name):
    margin = fresh(name)
    before = copy.deepcopy(margin)
    cosines, labels, norms = batch()
    cosines[2] = math.nan
    norms[2] = math.nan
    logits = margin(cosines, labels, norms, scale=64.0)
    assert logits[2].isnan().all()
    rest = torch.arange(len(labels)) != 2
    assert logits[rest].isfinite().all()
    for buffer, old in zip(margin.buffers(), before.buffers(), strict=True):
        assert buffer.isfinite().all()
        if buffer.is_floating_point():
            torch.testing.assert_close(buffer, old, rtol=0, atol=0)


@every_margin
@every_dtype
def test_empty_batch_and_single_class(name, dtype):
    margin = fresh(name)
    cosines, labels, norms = batch(samples=0, dtype=dtype)
    logits = margin(cosines, labels, norms, scale=64.0)
    assert (logits.shape, logits.dtype) == ((0, 5), dtype)
    assert all(buffer.isfinite().all() for buffer in margin.buffers())

    cosines, labels, norms = batch(samples=1, classes=1, dtype=dtype)
    loss = cross_entropy(margin(cosines.requires_grad_(), labels, norms, scale=1.0), labels)
    assert loss == 0.0  # nobody to be confused with
    assert torch.autograd.grad(loss, cosines)[0] == 0.0
    assert all(buffer.isfinite().all() for buffer in margin.buffers())


@every_margin
def test_a_checkpoint_holds_all_its_state(name):
    """A margin loaded into a new one goes on as if nothing had happened."""
    old, new = fresh(name), copy.deepcopy(MARGINS[name])
    new.load_state_dict(old.state_dict())
    for seed in range(3):
        cosines, labels, norms = batch(seed=seed)
        assert torch.equal(old(cosines, labels, norms, scale=64.0), new(cosines, labels, norms, scale=64.0))


@every_margin
def test_only_training_changes_the_state(name):
    margin = fresh(name).eval()
    before = copy.deepcopy(margin.state_dict())
    cosines, labels, norms = batch()
    margin(cosines, labels, norms, scale=64.0)
    assert all(torch.equal(value, before[key]) for key, value in margin.state_dict().items())


ZERO = {
    "CosFace": margins.CosFace(0.0),
    "ArcFace": margins.ArcFace(0.0),
    "CombinedMargin": margins.CombinedMargin(1.0, 0.0, 0.0),
    "SphereFace": margins.SphereFace(1),
    "LSoftmax": margins.LSoftmax(1),
    "SphereFaceR": margins.SphereFaceR(1.0),
    "MagFace": margins.MagFace(0.0, 0.0),
    "AdaFace": margins.AdaFace(0.0),
    "ElasticFace": margins.ElasticFace(0.0, spread=0.0),
    "ElasticCosFace": margins.ElasticCosFace(0.0, spread=0.0),
}


@pytest.mark.parametrize("name", ZERO)
def test_no_margin_is_normface(name):
    cosines, labels, norms = batch(samples=200)
    logits = ZERO[name](cosines, labels, norms, scale=8.0)
    gain = norms[:, None] if ZERO[name].scales_with_norm else 1.0
    torch.testing.assert_close(logits, gain * margins.normface(cosines, labels, scale=8.0), rtol=0, atol=1e-12 * 1000)


@pytest.mark.parametrize(
    "make",
    [
        margins.ArcFace,
        margins.LiArcFace,
        margins.ElasticFace,
        margins.CurricularFace,
        lambda margin: margins.CombinedMargin(1.0, margin, 0.0),
        lambda margin: margins.MagFace(margin, margin, high_norm=20.0),
    ],
    ids=["ArcFace", "LiArcFace", "ElasticFace", "CurricularFace", "CombinedMargin", "MagFace"],
)
@given(st.floats(0, 1.5), st.floats(0.001, 0.05), st.floats(0, math.pi))
def test_a_greater_margin_asks_for_more(make, margin, more, angle):
    cosines, norms = torch.tensor([math.cos(angle)], dtype=torch.float64), torch.tensor([20.0])
    assert make(margin + more).eval().target(cosines, norms) <= make(margin).eval().target(cosines, norms) + 1e-12


@pytest.mark.parametrize("label", [-1, 5, 1 << 40])
def test_labels_out_of_range_are_refused(label):
    labels = torch.tensor([0, label])
    with pytest.raises(InputError, match=rf"labels: expected classes in \[0, 5\), got {label}; do they start at 0\?"):
        margins.ArcFace()(torch.zeros(2, 5), labels, scale=64.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: margins.ArcFace(28.6), "margin"),
        (lambda: margins.LiArcFace(28.6), "margin"),
        (lambda: margins.CombinedMargin(1.0, 28.6, 0.0), "m2"),
        (lambda: margins.CurricularFace(28.6), "margin"),
        (lambda: margins.ElasticFace(28.6), "margin"),
        (lambda: margins.AdaFace(28.6), "margin"),
        (lambda: margins.MagFace(28.6, 45.0), "low_margin"),
        (lambda: margins.arcface(*batch()[:2], margin=28.6), "margin"),
    ],
)
def test_degrees_are_refused(make, name):
    with pytest.raises(
        InputError, match=rf"{name}: expected radians in \[0, pi/2\], got 28.6; 28.6 degrees are 0.4992"
    ):
        make()


def test_an_angle_that_is_no_degree_either_is_refused():
    for wrong in (-0.1, math.nan, 100.0):
        with pytest.raises(InputError, match=rf"margin: expected radians in \[0, pi/2\], got {wrong}$"):
            margins.ArcFace(wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: margins.CosFace(1.5), r"margin: expected a number in \[0, 1\], got 1.5"),
        (lambda: margins.CosFace(math.nan), "margin: expected a number"),
        (lambda: margins.CombinedMargin(0.5), r"m1: expected a number in \[1, 16\], got 0.5"),
        (lambda: margins.SphereFace(1.5), "margin: expected a whole number from 1 on, got 1.5; SphereFaceR"),
        (lambda: margins.LSoftmax(0), "margin: expected a whole number from 1 on, got 0"),
        (lambda: margins.SphereFace(end=2000.0), r"end: expected a number in \[0, 1000\], got 2000"),
        (lambda: margins.SphereFaceR(0.9), r"margin: expected a number in \[1, 16\], got 0.9"),
        (lambda: margins.MagFace(0.5, 0.4), "high_margin: expected at least low_margin, 0.5, got 0.4"),
        (lambda: margins.MagFace(low_norm=200.0), r"low_norm: expected a length in \(0, 110.0\), got 200.0"),
        (lambda: margins.AdaFace(rate=1.5), r"rate: expected a number in \[0, 1\], got 1.5"),
        (lambda: margins.ElasticFace(spread=1.0), r"spread: expected a number in \[0, 0.2\], got 1.0"),
        (lambda: margins.ElasticFace(seed=-1), "seed: expected a number in"),
        (lambda: margins.Circle(-0.1), r"margin: expected a number in \[0, 1\], got -0.1"),
        (lambda: margins.SphereFace2(1), "classes: expected at least 2, got 1"),
        (lambda: margins.SphereFace2(5, balance=1.0), r"balance: expected a weight in \(0, 1\), got 1.0"),
        (lambda: margins.UniFace(1), "classes: expected at least 2, got 1"),
        (lambda: margins.CenterLoss(0, 5), "features, classes: expected positive numbers, got 0 and 5"),
        (lambda: margins.subcenter(torch.zeros(2, 5), count=3), "count: expected a divisor of the 5 columns, got 3"),
        (lambda: margins.arcface(*batch()[:2], scale=0.0), "scale: expected a positive gain, got 0.0"),
        (lambda: margins.arcface(*batch()[:2], scale=math.inf), "scale: expected a positive gain, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@every_margin
def test_shapes_and_dtypes_are_refused(name):
    margin = fresh(name)
    cosines, labels, norms = batch()
    with pytest.raises(TensorError, match=r"cosines: expected float \[any, any\], got float64 \[6\]"):
        margin(cosines[:, 0], labels, norms, scale=64.0)
    with pytest.raises(TensorError, match=r"labels: expected int64 \[6\], got int32 \[6\]"):
        margin(cosines, labels.int(), norms, scale=64.0)
    with pytest.raises(TensorError, match=r"norms: expected float \[6\], got float64 \[6, 1\]"):
        margin(cosines, labels, norms[:, None], scale=64.0)
    if margin.uses_norms or margin.scales_with_norm:
        with pytest.raises(TensorError, match=rf"norms: expected float \[6\], got None; {type(margin).__name__} reads"):
            margin(cosines, labels, scale=64.0)
    else:
        assert margin(cosines, labels, scale=64.0).isfinite().all()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # out of torch's own compiler
@every_margin
def test_torch_compile_takes_it_whole(name):
    """No graph break, the same logits and gradients, the same state after two steps."""
    plain = fresh(name)
    margin = copy.deepcopy(plain)
    torch.compiler.reset()
    compiled = torch.compile(margin, fullgraph=True, dynamic=False)
    for seed in range(2):
        cosines, labels, norms = batch(dtype=torch.float32, seed=seed)
        cosines.requires_grad_()
        expected, found = plain(cosines, labels, norms, scale=8.0), compiled(cosines, labels, norms, scale=8.0)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        gradients = [torch.autograd.grad(logits.square().sum(), cosines)[0] for logits in (expected, found)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-2)
    for buffer, other in zip(plain.buffers(), margin.buffers(), strict=True):
        torch.testing.assert_close(buffer, other)
