import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from visavis.blocks import surrogates
from visavis.errors import InputError, TensorError

AVERAGES = ["micro", "macro", "weighted", "none"]
SEEDS = st.integers(0, 10_000)
# By name: the options of ours, and what scikit-learn calls it.
COUNTED = {
    "precision": ({}, metrics.precision_score),
    "recall": ({}, metrics.recall_score),
    "f1": ({}, metrics.f1_score),
    "f_beta": ({"beta": 2.0}, metrics.fbeta_score),
    "jaccard": ({}, metrics.jaccard_score),
    "dice": ({}, metrics.f1_score),
}
WHOLE = {
    "accuracy": ({}, metrics.accuracy_score),
    "matthews": ({}, metrics.matthews_corrcoef),
    "cohen_kappa": ({}, metrics.cohen_kappa_score),
}


def classes(seed, count=9, width=4):
    """Few samples of several classes, so that some class is often absent, or never said."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, width, generator=g, dtype=torch.float64)
    return logits, torch.randint(width, (count,), generator=g)


def questions(seed, *shape):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, generator=g, dtype=torch.float64)
    return logits, torch.rand(*shape, generator=g) < 0.3


def both(name, options, logits, labels, temperature, **more):
    soft = getattr(surrogates, name)(logits, labels, temperature=temperature, **options, **more)
    return soft, getattr(surrogates, f"exact_{name}")(logits, labels, **options, **more)


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", COUNTED)
@given(seed=SEEDS)
@settings(max_examples=15)
def test_the_exact_twins_of_classes_are_scikit_learns(name, average, zero_division, seed):
    options, theirs = COUNTED[name]
    logits, labels = classes(seed)
    ours = getattr(surrogates, f"exact_{name}")(logits, labels, **options, average=average, zero_division=zero_division)
    average = None if average == "none" else average
    expected = theirs(
        labels, logits.argmax(1), **options, average=average, labels=range(4), zero_division=zero_division
    )
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", COUNTED)
@given(seed=SEEDS)
@settings(max_examples=15)
def test_the_exact_twins_of_many_labels_are_scikit_learns(name, average, zero_division, seed):
    options, theirs = COUNTED[name]
    logits, labels = questions(seed, 5, 4)
    ours = getattr(surrogates, f"exact_{name}")(logits, labels, **options, average=average, zero_division=zero_division)
    average = None if average == "none" else average
    expected = theirs(labels.numpy(), (logits > 0).numpy(), **options, average=average, zero_division=zero_division)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", COUNTED)
@given(seed=SEEDS)
@settings(max_examples=15)
def test_binary_masks_of_any_rank_are_one_question(name, seed):
    options, theirs = COUNTED[name]
    logits, labels = questions(seed, 2, 3, 2)
    soft, exact = both(name, options, logits, labels, 1e-7)
    expected = theirs(labels.flatten(), logits.flatten() > 0, **options, zero_division=0.0)
    assert exact.item() == pytest.approx(expected, abs=1e-12)
    assert soft.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, on what is undefined
@pytest.mark.parametrize("name", WHOLE)
@given(seed=SEEDS)
@settings(max_examples=25)
def test_metrics_of_the_whole_table(name, seed):
    _, theirs = WHOLE[name]
    for logits, labels in (classes(seed), questions(seed, 9)):
        soft, exact = both(name, {}, logits, labels, 1e-7)
        said = logits.argmax(1) if logits.ndim == 2 else logits > 0
        expected = theirs(labels.numpy(), said.numpy())
        assert exact.item() == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-12)
        assert soft.item() == pytest.approx(exact.item(), abs=1e-6)


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_weighted_kappa_is_scikit_learns(weights):
    logits, labels = classes(4, count=40)
    soft, exact = both("cohen_kappa", {"weights": weights}, logits, labels, 1e-7)
    assert exact.item() == pytest.approx(metrics.cohen_kappa_score(labels, logits.argmax(1), weights=weights))
    assert soft.item() == pytest.approx(exact.item(), abs=1e-9)


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", COUNTED)
@given(seed=SEEDS)
@settings(max_examples=15)
def test_cold_they_are_the_exact_value(name, average, zero_division, seed):
    logits, labels = classes(seed)
    soft, exact = both(name, COUNTED[name][0], logits, labels, 1e-7, average=average, zero_division=zero_division)
    torch.testing.assert_close(soft, exact, rtol=0, atol=1e-9)


@given(seed=SEEDS, temperature=st.sampled_from([0.05, 0.3, 1.0, 4.0]))
def test_bounds_on_the_distance(seed, temperature):
    logits, labels = classes(seed)
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    for k in (1, 2, 3):
        gap = (own - others.topk(k).values[:, -1]).abs()
        bound = (max(4 - k, k) * (-gap / temperature).exp()).mean()
        soft, exact = both("top_k_accuracy", {"k": k}, logits, labels, temperature)
        assert (soft - exact).abs() <= bound + 1e-12
    logits, labels = questions(seed, 12)
    labels[0] = True
    error = (-logits.abs() / temperature).exp().sum()
    for name, bound in (("f1", 2 * error), ("jaccard", error), ("recall", error)):
        soft, exact = both(name, {}, logits, labels, temperature)
        assert (soft - exact).abs() <= bound / labels.sum() + 1e-12


@given(seed=SEEDS, k=st.integers(1, 6), temperature=st.sampled_from([1e-3, 0.3, 1.0, 20.0]))
@settings(max_examples=15)
def test_top_k_enumerates_the_sets(seed, k, temperature):
    logits, labels = classes(seed, count=3, width=6)
    sets = torch.tensor(list(combinations(range(6), k)))
    chance = (logits[:, sets].sum(-1) / temperature).softmax(-1)
    expected = (chance * (sets == labels[:, None, None]).any(-1)).sum(-1).mean()
    value = surrogates.top_k_accuracy(logits, labels, k=k, temperature=temperature)
    assert value.item() == pytest.approx(expected.item(), abs=1e-10)
    exact = surrogates.exact_top_k_accuracy(logits, labels, k=k)
    hits = metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(6)) if k < 6 else 1.0
    assert exact.item() == pytest.approx(hits)


def whole(name, options):
    more = {"average": "macro"} if name in COUNTED else {}
    return lambda x, y: getattr(surrogates, name)(x, y, temperature=0.7, **options, **more)


NAMES = [(name, options) for name, (options, _) in (COUNTED | WHOLE).items()] + [("top_k_accuracy", {"k": 2})]


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_gradients_by_differences_and_vmap(name, options):
    logits, labels = classes(1, count=5)

    def metric(x, y=labels):
        return whole(name, options)(x, y)

    logits.requires_grad_()
    assert torch.autograd.gradcheck(metric, logits)
    assert torch.autograd.gradgradcheck(metric, logits)
    sets = [classes(seed, count=5) for seed in range(3)]
    stacked = torch.vmap(metric)(*(torch.stack(column) for column in zip(*sets, strict=True)))
    torch.testing.assert_close(stacked, torch.stack([metric(*one) for one in sets]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # out of torch's own compiler
@pytest.mark.parametrize(("name", "options"), NAMES)
def test_torch_compile_takes_it_whole(name, options):
    torch.compiler.reset()
    logits, labels = classes(1, count=5)
    metric = whole(name, options)
    compiled = torch.compile(metric, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits.requires_grad_(), labels), metric(logits, labels))


@pytest.mark.parametrize("temperature", [1e-4, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), NAMES)
def test_value_and_gradient_are_finite(name, options, dtype, temperature):
    logits = torch.tensor([[3.0, 3.0, -1.0], [0.0, 0.0, 0.0], [-9.0, 9.0, 1.0]], dtype=dtype, requires_grad=True)
    more = {"average": "macro"} if name in COUNTED else {}
    value = getattr(surrogates, name)(logits, torch.tensor([0, 0, 0]), temperature=temperature, **options, **more)
    assert value.dtype == dtype
    [gradient] = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_what_is_masked_out_has_no_say(name, options):
    logits, labels = classes(2, count=6)
    mask = torch.tensor([True, True, False, True, False, True])
    more = {"average": "macro"} if name in COUNTED else {}
    kept, _ = both(name, options, logits[mask], labels[mask], 0.5, **more)
    labels[~mask] = 255
    logits[~mask] = torch.nan
    masked, _ = both(name, options, logits.T, labels, 0.5, dim=0, mask=mask, **more)
    torch.testing.assert_close(masked, kept)


def test_senseless_input_is_refused():
    x, y = torch.zeros(2, 3), torch.tensor([0, 2])
    with pytest.raises(InputError, match="logits: expected finite numbers"):
        surrogates.accuracy(x * torch.nan, y, temperature=1.0)
    with pytest.raises(InputError, match=r"labels: expected classes in \[0, 3\)"):
        surrogates.f1(x, y + 1, temperature=1.0, average="macro")
    with pytest.raises(InputError, match=r"labels: expected classes in \[0, 3\)"):
        torch.vmap(lambda a, b: surrogates.accuracy(a, b, temperature=1.0))(x[None], y[None] + 1)
    with pytest.raises(InputError, match="average: expected .* with classes for labels"):
        surrogates.f1(x, y, temperature=1.0)
    with pytest.raises(InputError, match="average: expected .*, got 'mean'"):
        surrogates.f1(x, y, temperature=1.0, average="mean")
    with pytest.raises(InputError, match="mask: expected at least one answer"):
        surrogates.accuracy(x, y, temperature=1.0, mask=torch.zeros(2, dtype=torch.bool))
    with pytest.raises(TensorError, match=r"mask: expected bool \[2\], got int64 \[2\]"):
        surrogates.accuracy(x, y, temperature=1.0, mask=y)
    with pytest.raises(TensorError, match=r"labels: expected int64 \[2\], or bool \[2, 3\]"):
        surrogates.accuracy(x, y[:1], temperature=1.0)
    with pytest.raises(TensorError, match=r"logits: expected float \[2\] as the labels of bool"):
        surrogates.f1(x, y > 0, temperature=1.0)
    with pytest.raises(TensorError, match="logits: expected float with classes along axis 5"):
        surrogates.accuracy(x, y, temperature=1.0, dim=5)
    for temperature in (0.0, -1.0, math.nan, math.inf, 1e-50):
        with pytest.raises(InputError, match="temperature: expected a positive number"):
            surrogates.accuracy(x, y, temperature=temperature)
    with pytest.raises(InputError, match="zero_division: expected a number in"):
        surrogates.f1(x, y, temperature=1.0, average="macro", zero_division=2.0)
    with pytest.raises(InputError, match="beta: expected a number of 0 or more, got -1"):
        surrogates.f_beta(x, y, beta=-1.0, temperature=1.0, average="macro")
    with pytest.raises(InputError, match="k: expected at least 1, got 0"):
        surrogates.top_k_accuracy(x, y, k=0, temperature=1.0)
    with pytest.raises(InputError, match="weights: expected"):
        surrogates.exact_cohen_kappa(x, y, weights="cubic")
