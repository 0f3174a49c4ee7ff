"""One process: against the dense softmax in float64, for every margin; at the edges of the exponential; at the door.

The dense reference knows nothing of blocks: all cosines, `Margin.forward`, torch's cross_entropy, autograd.
"""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from tests.blocks.test_margins import MARGINS, fresh
from visavis.blocks import margins
from visavis.blocks.classes import ClassSoftmax, passes
from visavis.errors import InputError, TensorError

D = 12


def draw(samples, classes, dtype=torch.float64, seed=0, length=5.0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(samples, D, generator=generator, dtype=torch.float64) * length / math.sqrt(D)
    labels = torch.randint(classes, (samples,), generator=generator)
    return features.to(dtype).requires_grad_(), labels


def make(classes, *, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    head = ClassSoftmax(D, classes, **options).to(dtype)
    with torch.no_grad():
        head.weight.mul_(torch.rand(len(head.weight), 1) * 100 + 10)  # rows of different lengths
    return head


def dense_loss(head, features, labels, *, normalized=True):
    """From the definition; `normalized=False`: the plain softmax."""
    kept = labels != head.ignore_index
    features, labels = features[kept], labels[kept]
    if not normalized:
        return cross_entropy(head.scale * features @ head.weight.T, labels, label_smoothing=head.label_smoothing)
    norms = features.norm(dim=1)
    cosines = (normalize(features) @ normalize(head.weight).T).view(len(labels), head.classes, -1).amax(2)
    margin = margins.NormFace() if head.margin is None else head.margin
    logits = margin(cosines, labels, norms, scale=head.scale)
    if not margin.normalizes_classes:
        logits = logits * head.weight.norm(dim=1)
    penalty = margin.penalty(norms)
    loss = cross_entropy(logits, labels, label_smoothing=head.label_smoothing)
    return loss if penalty is None else loss + penalty.mean()


def both(head, features, labels, **dense):
    """(loss, gradient of features, gradient of weight) of the head and of the dense reference."""
    twin = copy.deepcopy(head)
    out = []
    for owner, loss in ((head, head(features, labels)), (twin, dense_loss(twin, features, labels, **dense))):
        out.append([loss.detach(), *torch.autograd.grad(loss, (features, owner.weight))])
    return out, twin


def assert_same(found, wanted, relative=1e-9):
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert theirs.isfinite().all()
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=0, atol=relative * float(theirs.abs().max()))


@pytest.fixture(params=[1, 7, 1000], ids="{} classes a block".format)
def block(request, monkeypatch):
    """Blocks of a few classes of the D = 12 here, of which the last is smaller."""
    fixed = request.param

    class Cut(passes._Rows):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.per_block = min(fixed, self.classes)

    monkeypatch.setattr(passes, "_Rows", Cut)


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.usefixtures("block")
def test_is_the_dense_softmax_for_every_margin(name, smoothing):
    margin = fresh(name)
    head = make(23, margin=margin, label_smoothing=smoothing)
    (found, wanted), twin = both(head, *draw(9, 23))
    assert_same(found, wanted)
    for key, value in head.margin.state_dict().items():
        torch.testing.assert_close(value, twin.margin.state_dict()[key])  # observed the same, once


class Leaning(margins.Margin):
    """Of no paper: the other classes depend smoothly on the true cosine, everything on the length."""

    scales_with_norm = True
    changes_others = True

    def target(self, cosines, norms):
        return cosines - 0.1 * norms.log1p()

    def others(self, cosines, target):
        return cosines + 0.3 * target * cosines.square()

    def penalty(self, norms):
        return 1 / norms


@pytest.mark.parametrize(
    "margin", [None, margins.ArcFace(), margins.CurricularFace(), margins.MagFace(), Leaning()], ids=str
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.usefixtures("block")
def test_is_the_dense_softmax_with_sub_centres(margin, smoothing):
    head = make(23, margin=copy.deepcopy(margin), label_smoothing=smoothing, subcenters=3)
    assert head.weight.shape == (69, D)
    assert_same(*both(head, *draw(9, 23))[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.usefixtures("block")
def test_is_the_dense_softmax_for_a_margin_of_ones_own(smoothing):
    assert_same(*both(make(23, margin=Leaning(), label_smoothing=smoothing), *draw(9, 23))[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.usefixtures("block")
def test_inner_products_are_the_plain_softmax(smoothing):
    head = make(23, normalize=False, label_smoothing=smoothing)
    assert head.scale == 1.0
    assert_same(*both(head, *draw(9, 23), normalized=False)[0])


@given(
    st.integers(1, 30), st.integers(2, 40), st.integers(1, 3), st.integers(1, 50), st.integers(0, 10**6), st.booleans()
)
@settings(max_examples=40)
def test_any_shape_and_any_blocks(samples, classes, subcenters, per_block, seed, smooth):
    with pytest.MonkeyPatch.context() as patch:
        # bytes of one class: its rows, logits and gradient
        patch.setitem(passes._BLOCK_BYTES, "cpu", per_block * subcenters * (samples + 2 * D) * 8)
        head = make(
            classes, margin=margins.ArcFace(), subcenters=subcenters, label_smoothing=0.1 if smooth else 0.0, seed=seed
        )
        assert_same(*both(head, *draw(samples, classes, seed=seed))[0], relative=1e-7)


@pytest.mark.parametrize("scale", [1e-3, 30.0, 64.0, 100.0, 1000.0])
@pytest.mark.parametrize("margin", [None, margins.ArcFace()], ids=str)
def test_feature_opposite_to_all_its_classes(scale, margin):
    head = make(50, margin=margin, scale=scale, dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(normalize(torch.ones(50, D) + 0.1 * torch.randn(50, D)))
    signs = torch.tensor([[-1.0], [1.0], [-1.0]])
    features = (signs * torch.ones(3, D)).requires_grad_()
    labels = torch.tensor([0, 49, 7])
    found = head(features, labels)
    gradients = torch.autograd.grad(found, (features, head.weight))
    double = copy.deepcopy(head).double()
    exact = features.detach().double().requires_grad_()
    wanted = dense_loss(double, exact, labels)
    assert abs(found.item() - wanted.item()) <= 1e-6 * (scale + 10)
    # A cosine near 1 is known to 2^-24 and is multiplied by the scale.
    assert_same(gradients, torch.autograd.grad(wanted, (exact, double.weight)), relative=1e-5 * (10 + scale))


@pytest.mark.parametrize("scale", [64.0, 79.0, 200.0])
def test_loss_of_a_sure_sample_keeps_its_digits(scale):
    head = make(3, scale=scale, dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(torch.eye(D)[:3] + torch.eye(D)[5] * torch.tensor([[0.0], [2.0], [2.0]]))
    loss = head(torch.eye(D)[:1], torch.tensor([0]))
    assert loss.item() == pytest.approx(2 * math.exp(-scale), rel=1e-4, abs=1e-44)  # smallest float32: 1.4e-45


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_gradients_have_the_dtype_of_the_features(dtype):
    head = make(23, margin=margins.ArcFace(), dtype=torch.float32)
    features, labels = draw(9, 23, dtype=dtype)
    loss = head(features, labels)
    loss.backward()
    double = copy.deepcopy(head).double()
    exact = features.detach().double().requires_grad_()
    wanted = dense_loss(double, exact, labels)
    (of_exact,) = torch.autograd.grad(wanted, exact)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert features.grad.dtype == dtype
    wide = torch.promote_types(dtype, torch.float32)
    atol = 4 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps * 64) * of_exact.abs().max().item()
    torch.testing.assert_close(features.grad.to(wide), of_exact.to(wide), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing_and_half_precision_weights_work(dtype):
    head = make(23, margin=margins.ArcFace(), dtype=torch.float32)
    features, labels = draw(9, 23, dtype=torch.float32)
    plain = head(features, labels)
    wanted = torch.autograd.grad(plain, (features, head.weight))
    with torch.autocast("cpu", dtype=dtype):
        cast = head(features, labels)
        found = torch.autograd.grad(cast, (features, head.weight))
    assert torch.equal(plain, cast)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    half = copy.deepcopy(head).to(dtype)
    rounded = copy.deepcopy(half).float()
    loss, same = half(features, labels), rounded(features, labels)
    torch.testing.assert_close(loss, same)
    of_half, of_rounded = torch.autograd.grad(loss, half.weight)[0], torch.autograd.grad(same, rounded.weight)[0]
    assert of_half.dtype == dtype
    torch.testing.assert_close(of_half.float(), of_rounded, rtol=0.01, atol=0.01 * of_rounded.abs().max().item())


def test_ignored_labels_count_for_nothing():
    head = make(23, margin=margins.CurricularFace(), label_smoothing=0.1)
    features, labels = draw(9, 23)
    labels[[0, 4]] = -100
    assert_same(*both(head, features, labels)[0])
    with torch.no_grad():
        features[4] = torch.nan  # nobody looks at it
    loss = head(features, labels)
    loss.backward()
    assert loss.isfinite()
    assert (features.grad[[0, 4]] == 0).all()
    assert features.grad[1].any()


def test_a_batch_of_ignored_labels_has_loss_0():
    head = make(23)
    features, labels = draw(3, 23)
    loss = head(features, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0.0
    assert (features.grad == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_is_that_of_cross_entropy(smoothing):
    head = make(23, scale=10.0, label_smoothing=smoothing)
    features, labels = draw(9, 23)
    logits = 10.0 * normalize(features) @ normalize(head.weight).T
    torch.testing.assert_close(head(features, labels), cross_entropy(logits, labels, label_smoothing=smoothing))


@pytest.mark.parametrize(
    "options", [{}, {"margin": margins.AdaFace()}, {"normalize": False}, {"subcenters": 2}], ids=str
)
def test_vectors_of_zeros_have_finite_gradients(options):
    head = make(5, dtype=torch.float32, **options)
    features, labels = draw(4, 5, dtype=torch.float32)
    labels[:2] = torch.tensor([0, 4])
    with torch.no_grad():
        features[0] = 0.0
        head.weight[-1] = 0.0
        head.weight[2] = 0.0
    loss = head(features, labels)
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()
    assert features.grad.abs().max() < 1e4
    assert head.weight.grad.abs().max() < 1e4


def test_first_and_last_class_and_two_classes():
    head = make(2, margin=margins.ArcFace())
    features, _ = draw(4, 2)
    assert_same(*both(head, features, torch.tensor([0, 1, 0, 1]))[0])
    assert_same(*both(head, features, torch.tensor([1, 1, 1, 1]))[0])
    assert_same(*both(head, features[:1], torch.tensor([1]))[0])


def test_gradient_of_one_side_alone_is_the_same():
    head = make(23, margin=margins.CurricularFace())
    features, labels = draw(9, 23)
    twins = [copy.deepcopy(head) for _ in range(3)]
    of_both = torch.autograd.grad(twins[0](features, labels), (features, twins[0].weight))
    (of_weight,) = torch.autograd.grad(twins[1](features.detach(), labels), twins[1].weight)
    twins[2].requires_grad_(requires_grad=False)
    (of_features,) = torch.autograd.grad(twins[2](features, labels), features)
    assert torch.equal(of_features, of_both[0])
    assert torch.equal(of_weight, of_both[1])


def test_evaluation_keeps_nothing_and_moves_nothing():
    head = make(23, margin=margins.CurricularFace(), sample_rate=0.1).eval()
    before = copy.deepcopy(head.margin.state_dict())
    features, labels = draw(9, 23)
    with torch.no_grad():
        loss = head(features, labels)
    assert not loss.requires_grad
    # Evaluation looks at all classes and moves no statistics.
    torch.testing.assert_close(loss, dense_loss(head, features, labels))
    assert all(torch.equal(value, before[key]) for key, value in head.margin.state_dict().items())


def test_a_second_backward_is_refused():
    head = make(23, margin=margins.ArcFace())
    features, labels = draw(9, 23)
    loss = head(features, labels)
    torch.autograd.grad(loss, (features, head.weight), retain_graph=True)
    with pytest.raises(InputError, match="retain_graph: expected one backward, got a second"):
        loss.backward()


def test_the_gradient_becomes_grad_without_a_copy():
    head = make(5000, dtype=torch.float32)
    places = []
    head.weight.register_hook(lambda gradient: places.append(gradient.data_ptr()))
    head(*draw(9, 5000, dtype=torch.float32)).backward()
    assert places == [head.weight.grad.data_ptr()]


def test_second_derivatives_are_refused():
    head = make(23)
    features, labels = draw(9, 23)
    with pytest.raises(InputError, match="create_graph: expected False, got True"):
        torch.autograd.grad(head(features, labels), features, create_graph=True)


def test_a_weight_changed_before_backward_is_noticed():
    head = make(23)
    loss = head(*draw(9, 23))
    with torch.no_grad():
        head.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_weight_is_drawn_from_the_seed_alone():
    torch.manual_seed(3)
    first = ClassSoftmax(4, 9000)
    torch.manual_seed(3)
    assert torch.equal(first.weight, ClassSoftmax(4, 9000).weight)
    assert not torch.equal(first.weight, ClassSoftmax(4, 9000).weight)
    assert len(first.weight.unique(dim=0)) == 9000
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes: expected at least 2, got 1"),
        ({"features": 0}, "features: expected at least 1, got 0"),
        ({"sample_rate": 0.0}, r"sample_rate: expected a share in \(0, 1\], got 0.0"),
        ({"sample_rate": 1.1}, r"sample_rate: expected a share in \(0, 1\], got 1.1"),
        ({"sample_rate": math.nan}, "sample_rate"),
        ({"subcenters": 0}, "subcenters: expected at least 1, got 0"),
        ({"subcenters": 2, "normalize": False}, "subcenters: expected 1"),
        ({"subcenters": 2, "margin": margins.LSoftmax(2)}, "subcenters: expected 1"),
        ({"label_smoothing": 1.0}, r"label_smoothing: expected a share in \[0, 1\), got 1.0"),
        ({"scale": 0.0}, "scale: expected a positive gain, got 0.0"),
        ({"scale": math.inf}, "scale: expected a positive gain, got inf"),
        ({"margin": margins.ArcFace(), "normalize": False}, "normalize: expected True with a margin, got False"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    sizes = {"features": 8, "classes": 10} | {key: options[key] for key in ("features", "classes") if key in options}
    rest = {key: value for key, value in options.items() if key not in sizes}
    with pytest.raises(InputError, match=message):
        ClassSoftmax(sizes["features"], sizes["classes"], **rest)


@pytest.mark.parametrize(
    ("features", "labels", "error", "message"),
    [
        (
            torch.zeros(2, 8),
            torch.tensor([0, 10]),
            InputError,
            r"labels: expected classes in \[0, 10\), got 10 at sample 1",
        ),
        (
            torch.zeros(2, 8),
            torch.tensor([-1, 3]),
            InputError,
            r"labels: expected classes in \[0, 10\), got -1 at sample 0",
        ),
        (torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), InputError, "at least one sample, got none"),
        (torch.full((1, 8), math.nan), torch.tensor([0]), InputError, "finite vectors, got length nan at sample 0"),
        (torch.full((1, 8), math.inf), torch.tensor([0]), InputError, "finite vectors, got length inf at sample 0"),
        (
            torch.zeros(2, 7),
            torch.tensor([0, 1]),
            TensorError,
            r"features: expected float \[any, 8\], got float32 \[2, 7\]",
        ),
        (torch.zeros(2, 8).long(), torch.tensor([0, 1]), TensorError, "features: expected float"),
        (torch.zeros(2, 8), torch.tensor([0]), TensorError, r"labels: expected int64 \[2\], got int64 \[1\]"),
        (torch.zeros(2, 8), torch.tensor([0.0, 1.0]), TensorError, "labels: expected int64"),
    ],
)
def test_bad_batches_are_refused_at_the_door(features, labels, error, message):
    with pytest.raises(error, match=message):
        ClassSoftmax(8, 10)(features, labels)


def test_a_head_of_another_shape_or_rank_is_refused_by_load_state_dict():
    head, state = ClassSoftmax(8, 10), ClassSoftmax(8, 10).state_dict()
    head.load_state_dict(state)
    state["_extra_state"] = torch.tensor([10, 20, 20])
    with pytest.raises(InputError, match="state: expected classes 0 to 10 of 10, got 10 to 20 of 20"):
        head.load_state_dict(state)
