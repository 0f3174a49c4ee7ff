import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics

from visavis.blocks import surrogates
from visavis.errors import InputError, TensorError

SEEDS = st.integers(0, 10_000)
METRICS = ["roc_auc", "average_precision", "ndcg", "reciprocal_rank"]


def draw(seed, *shape, ties=False):
    """Scores, and labels with both kinds in each ranking; few distinct scores if there are to be ties."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(4, shape, generator=g).double() if ties else torch.randn(*shape, generator=g).double()
    labels = torch.rand(*shape, generator=g) < 0.4
    labels[..., 0], labels[..., 1] = True, False
    return scores, labels


def target(name, labels):
    """Grades 0 to 3 where the metric wants gains."""
    return (labels * (1 + torch.arange(labels.shape[-1]) % 3)).to(torch.float64) if name == "ndcg" else labels


def step(u):
    return torch.where(u > 0, 1 - (-u.abs()).exp() / 2, (-u.abs()).exp() / 2)


def brute(name, x, y, temperature):
    """From the formulas, over all pairs."""
    if name == "roc_auc":
        return step((x[y][:, None] - x[~y]) / temperature).mean()
    above = step((x - x[:, None]) / temperature)
    ranks = 0.5 + above.sum(1)
    if name == "average_precision":
        return ((0.5 + above[:, y].sum(1)) / ranks)[y].mean()
    if name == "ndcg":
        best = y.sort(descending=True).values / torch.log2(torch.arange(len(y)).double() + 2)
        return (y / torch.log2(1 + ranks)).sum() / best.sum()
    best = temperature * torch.logsumexp(x[y] / temperature, 0)
    return 1 / (1 + step((x[~y] - best) / temperature).sum())


@pytest.mark.parametrize("name", METRICS)
@given(seed=SEEDS, n=st.integers(2, 33), ties=st.booleans(), temperature=st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
@settings(max_examples=15)
def test_the_sum_in_order_is_the_sum_over_pairs(name, seed, n, ties, temperature):
    scores, labels = draw(seed, n, ties=ties)
    y = target(name, labels)
    value = getattr(surrogates, name)(scores, y, temperature=temperature)
    assert value.item() == pytest.approx(brute(name, scores, y, temperature).item(), abs=1e-11)


@given(seed=SEEDS, n=st.integers(2, 20), ties=st.booleans(), k=st.sampled_from([None, 1, 3, 50]))
def test_the_exact_twins_are_scikit_learns(seed, n, ties, k):
    scores, labels = draw(seed, n, ties=ties)
    x, y = scores.numpy(), labels.numpy()
    assert surrogates.exact_roc_auc(scores, labels).item() == pytest.approx(metrics.roc_auc_score(y, x))
    assert surrogates.exact_average_precision(scores, labels).item() == pytest.approx(
        metrics.average_precision_score(y, x)
    )
    gains = target("ndcg", labels)
    expected = metrics.ndcg_score(gains[None].numpy(), x[None], k=k)
    assert surrogates.exact_ndcg(scores, gains, k=k).item() == pytest.approx(expected)
    ranks = (scores >= scores[labels].max()) & ~labels
    assert surrogates.exact_reciprocal_rank(scores, labels).item() == pytest.approx(1 / (1 + ranks.sum().item()))


@given(seed=SEEDS, n=st.integers(2, 20), temperature=st.sampled_from([1e-2, 0.1, 1.0]))
def test_limits_and_bounds(seed, n, temperature):
    scores, labels = draw(seed, n)
    gap = (-(scores - scores[:, None]).abs() / temperature).exp() / 2
    count = labels.sum()
    best = scores[labels].max()
    bounds = {
        "roc_auc": gap[labels][:, ~labels].mean(),
        "average_precision": (gap.sum(1) - 0.5)[labels].mean(),
        "reciprocal_rank": count / 2 * (-(scores[~labels] - best).abs() / temperature).exp().sum(),
    }
    for name in METRICS:
        y = target(name, labels)
        exact = getattr(surrogates, f"exact_{name}")(scores, y)
        cold = getattr(surrogates, name)(scores, y, temperature=1e-8)
        torch.testing.assert_close(cold, exact, rtol=0, atol=1e-4 if name == "ndcg" else 1e-6)
        if name in bounds:
            distance = (getattr(surrogates, name)(scores, y, temperature=temperature) - exact).abs()
            assert distance <= bounds[name] + 1e-12
    for k in (1, 2, 30):
        y = target("ndcg", labels)
        cold = surrogates.ndcg(scores, y, k=k, temperature=1e-8)
        torch.testing.assert_close(cold, surrogates.exact_ndcg(scores, y, k=k), rtol=0, atol=1e-6)


@given(seed=SEEDS, n=st.integers(3, 20), ties=st.booleans())
def test_spearman(seed, n, ties):
    scores, labels = draw(seed, n, ties=ties)
    targets = torch.arange(1, n + 1, dtype=torch.float64) * labels
    if len(set(scores.tolist())) == 1:
        assert surrogates.exact_spearman(scores, targets) == 0
        return
    expected = spearmanr(scores.numpy(), targets.numpy()).statistic
    assert surrogates.exact_spearman(scores, targets).item() == pytest.approx(expected, abs=1e-12)
    assert surrogates.spearman(scores, targets, strength=1e-6).item() == pytest.approx(expected, abs=1e-9)


def test_spearmans_gradients_and_vmap():
    """At a strength that pools some and not all, so that the gradient is neither 0 nor a straight line's."""
    scores, _ = draw(3, 2, 7)
    targets, _ = draw(4, 2, 7)

    def metric(x, y=targets):
        return surrogates.spearman(x, y, strength=0.5)

    scores.requires_grad_()
    assert torch.autograd.gradcheck(metric, scores)
    assert torch.autograd.gradgradcheck(metric, scores)
    assert torch.autograd.grad(metric(scores).sum(), scores)[0].abs().max() > 1e-3
    torch.testing.assert_close(torch.vmap(metric)(scores, targets), metric(scores))
    torch.testing.assert_close(surrogates.spearman(scores.T, targets.T, strength=0.5, dim=0), metric(scores))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # out of torch's own compiler
@pytest.mark.parametrize("name", METRICS)
def test_torch_compile_takes_it_whole(name):
    torch.compiler.reset()
    scores, labels = draw(5, 3, 7)
    y = target(name, labels)

    def metric(x):
        return getattr(surrogates, name)(x, y, temperature=0.4)

    compiled = torch.compile(metric, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(scores.requires_grad_()), metric(scores))


@pytest.mark.parametrize("name", METRICS)
def test_gradients_vmap_masks_and_axes(name):
    scores, labels = draw(5, 3, 7)
    y = target(name, labels)

    def metric(x, y=y):
        return getattr(surrogates, name)(x, y, temperature=0.4)

    scores.requires_grad_()
    assert torch.autograd.gradcheck(metric, scores)
    # Laplace's step has a kink in its second derivative only where scores tie; none do.
    assert torch.autograd.gradgradcheck(metric, scores)
    torch.testing.assert_close(torch.vmap(metric)(scores, y), metric(scores))
    torch.testing.assert_close(getattr(surrogates, name)(scores.T, y.T, temperature=0.4, dim=0), metric(scores))
    padded = torch.cat([torch.full((3, 2), torch.nan, dtype=torch.float64), scores], 1)
    mask = padded.isfinite()
    longer = torch.cat([torch.ones(3, 2).to(y.dtype), y], 1)
    for function, options in ((name, {"temperature": 0.4}), (f"exact_{name}", {})):
        short = getattr(surrogates, function)(scores, y, **options)
        torch.testing.assert_close(getattr(surrogates, function)(padded, longer, mask=mask, **options), short)


@pytest.mark.parametrize("temperature", [1e-4, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", METRICS)
def test_value_and_gradient_are_finite(name, dtype, temperature):
    scores = torch.tensor([1.0, 1.0, -3.0, 100.0, 0.0], dtype=dtype, requires_grad=True)
    y = target(name, torch.tensor([True, False, True, False, True]))
    value = getattr(surrogates, name)(scores, y, temperature=temperature)
    assert value.dtype == dtype
    [gradient] = torch.autograd.grad(value, scores)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_a_hundred_thousand_scores():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(100_000, generator=g).requires_grad_()
    labels = torch.rand(100_000, generator=g) < 0.5
    value = surrogates.roc_auc(scores, labels, temperature=1e-6)
    # Neighbours lie closer than that here; float32 sums leave about 1e-6.
    assert value.item() == pytest.approx(metrics.roc_auc_score(labels.numpy(), scores.detach().numpy()), abs=1e-5)
    assert torch.autograd.grad(value, scores)[0].isfinite().all()


def test_nothing_relevant_and_single_ones():
    scores = torch.tensor([2.0, 1.0])
    nothing = torch.zeros(2, dtype=torch.bool)
    for name in ("average_precision", "reciprocal_rank", "ndcg"):
        y = nothing.float() if name == "ndcg" else nothing
        assert getattr(surrogates, f"exact_{name}")(scores, y) == 0
        assert getattr(surrogates, name)(scores, y, temperature=0.1) == 0
        assert getattr(surrogates, name)(scores[:1], y[:1] == 0 if name != "ndcg" else y[:1] + 1, temperature=0.1) == 1


def test_senseless_input_is_refused():
    x, y = torch.tensor([2.0, 1.0]), torch.tensor([True, False])
    with pytest.raises(InputError, match="labels: expected positives and negatives in each ranking"):
        surrogates.roc_auc(x, y | True, temperature=1.0)
    with pytest.raises(InputError, match="scores: expected finite numbers"):
        surrogates.average_precision(x * np.nan, y, temperature=1.0)
    with pytest.raises(InputError, match="gains: expected finite numbers of 0 or more"):
        surrogates.ndcg(x, -x, temperature=1.0)
    with pytest.raises(InputError, match="k: expected at least 1, got 0"):
        surrogates.ndcg(x, x, temperature=1.0, k=0)
    with pytest.raises(InputError, match="temperature: expected a positive number"):
        surrogates.reciprocal_rank(x, y, temperature=0.0)
    with pytest.raises(InputError, match="targets: expected at least two different ones"):
        surrogates.spearman(x, x * 0, strength=1.0)
    with pytest.raises(TensorError, match=r"labels: expected bool \[2\], got float32 \[2\]"):
        surrogates.roc_auc(x, x, temperature=1.0)
    with pytest.raises(TensorError, match=r"gains: expected float \[2\], got bool \[2\]"):
        surrogates.exact_ndcg(x, y)
    with pytest.raises(TensorError, match=r"targets: expected float \[2\], got bool \[2\]"):
        surrogates.exact_spearman(x, y)
    with pytest.raises(TensorError, match="scores: expected float with something along axis -1"):
        surrogates.exact_roc_auc(x[:0], y[:0])
    with pytest.raises(TensorError, match=r"mask: expected bool \[2\], got float32 \[2\]"):
        surrogates.exact_roc_auc(x, y, mask=x)
