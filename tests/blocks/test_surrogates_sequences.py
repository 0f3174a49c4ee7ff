"""Exact twins against sacrebleu and the textbook's table; expectations by enumerating every string."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from visavis.blocks.surrogates import bleu, edit_distance, exact_bleu, exact_edit_distance
from visavis.errors import InputError, TensorError

TOKENS = st.integers(0, 3)  # few, so that n-grams repeat and clipping matters
PAIRS = st.lists(
    st.tuples(st.lists(TOKENS, min_size=0, max_size=8), st.lists(TOKENS, min_size=1, max_size=8)),
    min_size=1,
    max_size=3,
)


def padded(rows):
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows]), torch.tensor([len(row) for row in rows])


def batch(pairs):
    tokens, lengths = padded([hypothesis for hypothesis, _ in pairs])
    references, reference_lengths = padded([reference for _, reference in pairs])
    return tokens, references, {"lengths": lengths, "reference_lengths": reference_lengths}


def sharp(tokens, size=4):
    return 1.0 * torch.nn.functional.one_hot(tokens, size).double()


def levenshtein(a, b):
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return table[-1][-1]


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(1, 4))
def test_exact_bleu_is_sacrebleus(pairs, order):
    tokens, references, lengths = batch(pairs)
    theirs = BLEU(tokenize="none", smooth_method="none", effective_order=False, max_ngram_order=order, force=True)
    lines = [[" ".join(map(str, side)) for side in sides] for sides in zip(*pairs, strict=True)]
    expected = theirs.corpus_score(lines[0], [lines[1]]).score / 100
    assert exact_bleu(tokens, references, order=order, **lengths).item() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_exact_edit_distance_is_levenshteins(pairs):
    tokens, references, lengths = batch(pairs)
    expected = [levenshtein(hypothesis, reference) for hypothesis, reference in pairs]
    assert exact_edit_distance(tokens, references, **lengths).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_cold_they_are_exact(pairs):
    tokens, references, lengths = batch(pairs)
    logits = sharp(tokens)
    found = edit_distance(logits, references, temperature=1e-3, **lengths)
    torch.testing.assert_close(found, exact_edit_distance(tokens, references, **lengths).double(), rtol=0, atol=0.02)
    for order in (1, 2):
        exact = exact_bleu(tokens, references, order=order, **lengths).double()
        torch.testing.assert_close(
            bleu(logits, references, temperature=1e-3, order=order, **lengths), exact, rtol=0, atol=1e-5
        )


def strings(probs):
    """Every string of [H, V] independent tokens, [V^H, H], with its probability."""
    positions, size = probs.shape
    every = torch.cartesian_prod(*[torch.arange(size)] * positions).view(-1, positions)
    return every, probs[torch.arange(positions), every].prod(-1)


@pytest.mark.parametrize("seed", range(6))
def test_edit_distance_bounds_the_expected_one(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 2
    references = torch.randint(3, (3,), generator=generator)
    for temperature in (0.05, 0.3, 1.0):
        every, chances = strings((logits / temperature).softmax(-1))
        expected = (exact_edit_distance(every, references.expand(len(every), -1)).double() * chances).sum()
        found = edit_distance(logits, references, temperature=temperature)
        assert found >= expected - 1e-9
        # D(4, 3) = 129 paths; the minimum over them of expected costs is what the smooth one exceeds.
        costs = 1 - (logits / temperature).softmax(-1)[:, references]
        least = min(path_costs(costs, 4, 3))
        assert least - 1e-9 <= found <= least + temperature * math.log(129) + 1e-9
        assert least >= expected - 1e-9


def path_costs(costs, i, j):
    """Of every alignment of the first i and j tokens."""
    if i == 0 or j == 0:
        return [float(i + j)]
    straight = [cost + float(costs[i - 1, j - 1]) for cost in path_costs(costs, i - 1, j - 1)]
    return [*straight, *(cost + 1 for way in ((i - 1, j), (i, j - 1)) for cost in path_costs(costs, *way))]


def test_the_number_of_alignments_is_delannoys():
    costs = torch.zeros(4, 3, dtype=torch.float64)
    assert len(path_costs(costs, 4, 3)) == 129


@pytest.mark.parametrize("seed", range(6))
def test_bleus_counts_are_expectations_clipped(seed):
    """Order 1, one reference: the precision is at least the expected one, and equal where nothing can be clipped."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    every, chances = strings(logits.softmax(-1))
    for reference in ([0, 1, 2, 0], [0, 0, 0, 0]):
        references = torch.tensor(reference)
        scores = torch.stack([exact_bleu(string, references, order=1) for string in every]).double()
        expected = (scores * chances).sum()
        found = bleu(logits, references, temperature=1.0, order=1)
        assert found >= expected - 1e-6
        if reference == [0, 0, 0, 0]:
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", [lambda *a, **k: bleu(*a, order=2, **k), edit_distance])
def test_gradients_first_and_second(function):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    references = torch.randint(3, (2, 3), generator=generator)
    lengths = {"lengths": torch.tensor([4, 2]), "reference_lengths": torch.tensor([2, 3])}
    assert torch.autograd.gradcheck(lambda x: function(x, references, temperature=0.7, **lengths), logits)
    assert torch.autograd.gradgradcheck(lambda x: function(x, references, temperature=0.7, **lengths), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_impossible_tokens(dtype):
    logits = torch.full((5, 6), -torch.inf, dtype=dtype)
    logits[:, 0] = 0
    logits.requires_grad_()
    references = torch.tensor([0, 0, 0, 1, 2])
    for function in (bleu, edit_distance):
        value = function(logits, references, temperature=0.01)
        assert value.dtype == dtype
        [grad] = torch.autograd.grad(value, logits)
        assert grad[:, 0].isfinite().all()
    tokens = torch.zeros(5, dtype=torch.int64)
    assert abs(edit_distance(logits, references, temperature=0.01).item() - 2) < 0.1
    # Precisions 3/5, 2/4, 1/3 and 0: not one sequence of four tokens is right.
    assert exact_bleu(tokens, references).item() < 1e-6
    assert bleu(logits, references, temperature=0.01).item() < 1e-6


def test_empty_and_short():
    empty, reference = torch.zeros(0, dtype=torch.int64), torch.tensor([1, 2])
    assert exact_edit_distance(empty, reference).item() == 2
    assert exact_edit_distance(reference, empty).item() == 2
    assert exact_edit_distance(empty, empty).item() == 0
    assert exact_bleu(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3])).item() == 0  # no four tokens in a row
    assert exact_bleu(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3]), order=3).item() == pytest.approx(1)


def test_training_on_it_finds_the_reference():
    """Gradient descent from noise, on the distance alone, until the most likely tokens are the reference's."""
    generator = torch.Generator().manual_seed(3)
    logits = (0.1 * torch.randn(6, 5, generator=generator)).requires_grad_()
    references = torch.tensor([1, 4, 2, 2, 0, 3])
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        edit_distance(logits, references, temperature=0.5).backward()
        optimizer.step()
    assert exact_edit_distance(logits.argmax(-1), references).item() == 0


def test_what_does_not_fit_is_refused():
    logits, references = torch.zeros(2, 4, 3), torch.zeros(2, 5, dtype=torch.int64)
    for function in (bleu, edit_distance):
        with pytest.raises(
            TensorError, match=r"logits: expected float \[..., positions, vocabulary\], got int64 \[2, 5\]"
        ):
            function(references, references, temperature=1.0)
        with pytest.raises(TensorError, match=r"references: expected int64 \[2, positions\], got int64 \[5\]"):
            function(logits, references[0], temperature=1.0)
        with pytest.raises(InputError, match="references: expected tokens from 0 to 2, got 3; mask padding"):
            function(logits, references + 3, temperature=1.0)
        with pytest.raises(InputError, match="temperature: expected a positive"):
            function(logits, references, temperature=0.0)
        with pytest.raises(InputError, match="logits: expected numbers, got NaN"):
            function(logits * math.nan, references, temperature=1.0)
        with pytest.raises(TensorError, match=r"lengths: expected int64 \[2\], got float32 \[2\]"):
            function(logits, references, temperature=1.0, lengths=torch.ones(2))
        with pytest.raises(InputError, match="reference_lengths: expected lengths from 0 to 5, got 6 to 6"):
            function(logits, references, temperature=1.0, reference_lengths=torch.tensor([6, 6]))
    with pytest.raises(TensorError, match=r"tokens: expected int64 \[..., positions\], got float32 \[2, 4, 3\]"):
        exact_bleu(logits, references)
    with pytest.raises(TensorError, match=r"references: expected int64 \[3, positions\], got int64 \[2, 5\]"):
        exact_edit_distance(torch.zeros(3, 4, dtype=torch.int64), references)
    with pytest.raises(InputError, match="order: expected at least 1, got 0"):
        exact_bleu(references, references, order=0)
