"""BLEU and the edit distance of a sequence of token distributions against a reference, each with its exact twin.

The tokens of a hypothesis are taken to be independent, each of its own distribution ``softmax(logits / temperature)``,
as the outputs of a non-autoregressive or a teacher-forced model are. Nothing here enumerates the vocabulary: only the
probabilities of the reference's own tokens are looked at.

Shapes: B: batch shape, H: positions of the hypothesis, R: of the reference, V: tokens of the vocabulary.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import check_positive
from visavis.errors import InputError, TensorError

__all__ = ["bleu", "edit_distance", "exact_bleu", "exact_edit_distance"]


def bleu(
    logits: Tensor,
    references: Tensor,
    *,
    temperature: float,
    order: int = 4,
    lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
) -> Tensor:
    """BLEU of the whole batch, with a gradient: `exact_bleu`, with expected counts of n-grams.

    The count of an n-gram is a sum over positions of a product of n probabilities, which is its expectation. Clipped
    at the reference's count it is at least the expectation of the clipped count (Jensen: a minimum is concave), so
    each precision is an upper bound of the expected one. BLEU itself, a geometric mean of four, is neither that
    bound nor the expected BLEU; for temperature -> 0 all three are the BLEU of the most likely tokens.

    Args:
        logits: float [*B, H, V].
        references: int64 [*B, R].
        temperature: positive, in units of the logits.
        order: longest n-grams.
        lengths: int64 [*B], of the hypotheses; H when None. What is beyond does not count.
        reference_lengths: int64 [*B]; R when None.

    Returns:
        Scalar in [0, 1]; 0 where the hypotheses are all shorter than `order`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a token outside the vocabulary, a length outside of the sequence, NaN, options out of range.

    Source: Papineni et al., BLEU, ACL 2002; expected counts: Zhukov and Kretov, Differentiable Lower Bound for Expected
    BLEU Score, arXiv:1712.04708, whose bound is on the other side.

    >>> references = torch.tensor([[5, 6, 7, 8, 9]])
    >>> logits = 10.0 * torch.nn.functional.one_hot(references, 10).float()
    >>> bleu(logits, references, temperature=0.5)
    tensor(1.)
    """
    hits = _hits(logits, references, temperature)
    return _bleu(hits, references, order, lengths, reference_lengths).to(logits.dtype)


def exact_bleu(
    tokens: Tensor,
    references: Tensor,
    *,
    order: int = 4,
    lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
) -> Tensor:
    """BLEU of int64 tokens [*B, H] against references [*B, R]: sacrebleu's without smoothing, as a share of 1.

    Other arguments and errors as `bleu`. Counts of the whole batch go into one score, as the measure is defined.

    >>> exact_bleu(torch.tensor([[1, 2, 3, 4, 9]]), torch.tensor([[1, 2, 3, 4, 5]]))
    tensor(0.6687)
    """
    _check_tokens("tokens", tokens)
    _check_tokens("references", references, tokens.shape[:-1])
    return _bleu(
        (tokens[..., :, None] == references[..., None, :]).float(), references, order, lengths, reference_lengths
    )


def edit_distance(
    logits: Tensor,
    references: Tensor,
    *,
    temperature: float,
    lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
) -> Tensor:
    """The edits that turn a hypothesis into its reference, with a gradient: `exact_edit_distance`, smoothed twice.

    To put a token in the place of another costs the probability that it has to be: ``1 - p(token of the reference)``.
    The least expected cost over all alignments is at least the expected least cost, so that this is an upper bound of
    the expected distance. The minimum is then smoothed at the same temperature T,
    ``-T log sum exp(-cost / T) + T log N`` over all N alignments, which lies above the minimum by at most ``T log N``;
    it is an upper bound too, and every alignment that is nearly the best gets a share of the gradient.

    Args:
        logits: float [*B, H, V].
        references: int64 [*B, R].
        temperature: positive; of the tokens' softmax and of the minimum.
        lengths: int64 [*B], of the hypotheses; H when None.
        reference_lengths: int64 [*B]; R when None.

    Returns:
        [*B], in edits.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a token outside the vocabulary, a length outside of the sequence, NaN, `temperature` out of range.

    Source: Levenshtein, 1966; the smooth minimum over alignments: Cuturi and Blondel, Soft-DTW, ICML 2017.

    >>> logits = 10.0 * torch.nn.functional.one_hot(torch.tensor([1, 2, 3]), 5).float()
    >>> edit_distance(logits, torch.tensor([1, 3]), temperature=0.01)
    tensor(1.0322)
    """
    hits = _hits(logits, references, temperature)

    def smallest(costs: Tensor) -> Tensor:
        return -temperature * (-costs / temperature).logsumexp(0)

    h, r = _lengths(hits, lengths, reference_lengths)
    return (_aligned(1 - hits, h, r, smallest) + temperature * _log_alignments(h, r, hits)).to(logits.dtype)


def exact_edit_distance(
    tokens: Tensor,
    references: Tensor,
    *,
    lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
) -> Tensor:
    """Levenshtein's distance of int64 tokens [*B, H] from references [*B, R]: insertions, deletions, replacements.

    Returns:
        float32 [*B]. Other arguments and errors as `edit_distance`.

    >>> exact_edit_distance(torch.tensor([1, 2, 3]), torch.tensor([1, 3]))
    tensor(1.)
    """
    _check_tokens("tokens", tokens)
    _check_tokens("references", references, tokens.shape[:-1])
    costs = (tokens[..., :, None] != references[..., None, :]).float()
    return _aligned(costs, *_lengths(costs, lengths, reference_lengths), lambda costs: costs.amin(0))


def _hits(logits: Tensor, references: Tensor, temperature: float) -> Tensor:
    """[*B, H, R]: the probability that position h holds the token of position r of the reference."""
    check_positive("temperature", temperature)
    if not logits.is_floating_point() or logits.ndim < 2 or logits.shape[-1] == 0:
        dtype = str(logits.dtype).removeprefix("torch.")
        raise TensorError(f"logits: expected float [..., positions, vocabulary], got {dtype} {list(logits.shape)}")
    if logits.isnan().any():
        raise InputError("logits: expected numbers, got NaN; did the training diverge?")
    _check_tokens("references", references, logits.shape[:-2])
    outside = (references < 0) | (references >= logits.shape[-1])
    if outside.any():
        raise InputError(
            f"references: expected tokens from 0 to {logits.shape[-1] - 1}, got {int(references[outside][0])}; "
            "mask padding by reference_lengths, and give it any valid token"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    probs = (wide / temperature).softmax(-1)
    return probs.gather(-1, references[..., None, :].expand(*logits.shape[:-1], references.shape[-1]))


def _check_tokens(name: str, tokens: Tensor, batch: torch.Size | None = None) -> None:
    fits = tokens.dtype == torch.int64 and tokens.ndim > 0 and (batch is None or tokens.shape[:-1] == batch)
    if not fits:
        wanted = "[..., positions]" if batch is None else f"[{', '.join([*map(str, batch), 'positions'])}]"
        dtype = str(tokens.dtype).removeprefix("torch.")
        raise TensorError(f"{name}: expected int64 {wanted}, got {dtype} {list(tokens.shape)}")


def _lengths(hits: Tensor, lengths: Tensor | None, reference_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both as int64 [*B]."""
    batch, found = hits.shape[:-2], []
    for name, given, most in (
        ("lengths", lengths, hits.shape[-2]),
        ("reference_lengths", reference_lengths, hits.shape[-1]),
    ):
        if given is None:
            found.append(torch.full(batch, most, device=hits.device))
            continue
        if given.dtype != torch.int64 or given.shape != batch:
            dtype = str(given.dtype).removeprefix("torch.")
            raise TensorError(f"{name}: expected int64 {list(batch)}, got {dtype} {list(given.shape)}")
        if ((given < 0) | (given > most)).any():
            raise InputError(f"{name}: expected lengths from 0 to {most}, got {int(given.min())} to {int(given.max())}")
        found.append(given)
    return found[0], found[1]


def _bleu(
    hits: Tensor, references: Tensor, order: int, lengths: Tensor | None, reference_lengths: Tensor | None
) -> Tensor:
    if order < 1:
        raise InputError(f"order: expected at least 1, got {order}")
    h, r = _lengths(hits, lengths, reference_lengths)
    here = torch.arange(hits.shape[-2], device=hits.device) < h[..., None]  # [*B, H]
    there = torch.arange(hits.shape[-1], device=hits.device) < r[..., None]
    hit = hits * here[..., :, None] * there[..., None, :]
    same = (references[..., :, None] == references[..., None, :]) & there[..., :, None] & there[..., None, :]
    same = same.to(hits.dtype)
    matches, logs = hit, []
    equal = same
    for n in range(1, order + 1):
        if n > 1:  # an n-gram matches where an (n-1)-gram does and the token after it
            matches = matches[..., :-1, :-1] * hit[..., n - 1 :, n - 1 :]
            equal = equal[..., :-1, :-1] * same[..., n - 1 :, n - 1 :]
        counts = equal.sum(-1)  # [*B, R - n + 1]: how often the reference holds the n-gram of this place
        # Every n-gram of the reference is met once at each of its places, hence the division.
        clipped = (torch.minimum(matches.sum(-2), counts) / counts.clamp_min(1)).sum()
        possible = (h - n + 1).clamp_min(0).sum()
        precision = clipped / possible.clamp_min(1)
        logs.append(precision.clamp_min(torch.finfo(hits.dtype).tiny).log())  # whose root is 0 for all purposes
    mean = torch.stack(logs).mean().exp()
    short = (1 - r.sum() / h.sum().clamp_min(1)).clamp_max(0).exp()
    possible = (h - order + 1).clamp_min(0).sum()
    return torch.where(possible > 0, mean * short, 0.0)


def _aligned(costs: Tensor, h: Tensor, r: Tensor, smallest: Callable[[Tensor], Tensor]) -> Tensor:
    """The last cell of the table D[i, j] = smallest(D[i-1, j] + 1, D[i, j-1] + 1, D[i-1, j-1] + costs[i-1, j-1]).

    Along the antidiagonals i + j = k, whose cells do not depend on one another. Each is kept from its first i on.
    """
    rows, columns = costs.shape[-2:]
    batch = costs.shape[:-2]
    mirrored = costs.flip(-1)
    older, old = costs.new_zeros(*batch, 0), costs.new_zeros(*batch, 1)
    result = costs.new_zeros(batch)
    for k in range(1, rows + columns + 1):
        first, last = max(0, k - columns), min(rows, k)  # i of this antidiagonal
        before, further = max(0, k - 1 - columns), max(0, k - 2 - columns)  # first i of the two before
        low, high = max(1, k - columns), min(rows, k - 1)  # those with three ways to them
        parts = []
        if first == 0:
            parts.append(costs.new_full((*batch, 1), float(k)))
        if high >= low:
            parts.append(
                smallest(
                    torch.stack(
                        [
                            old[..., low - 1 - before : high - before] + 1,
                            old[..., low - before : high + 1 - before] + 1,
                            older[..., low - 1 - further : high - further]
                            + mirrored.diagonal(columns + 1 - k, dim1=-2, dim2=-1),
                        ]
                    )
                )
            )
        if last == k:
            parts.append(costs.new_full((*batch, 1), float(k)))
        older, old = old, torch.cat(parts, -1)
        place = (h - first).clamp(0, last - first)
        result = torch.where(h + r == k, old.gather(-1, place[..., None])[..., 0], result)
    return result


def _log_alignments(h: Tensor, r: Tensor, like: Tensor) -> Tensor:
    """The logarithm of Delannoy's number, ``sum_k C(h, k) C(r, k) 2^k``: the paths through a table of h by r."""
    k = torch.arange(min(like.shape[-2:]) + 1, dtype=like.dtype, device=like.device)
    terms = k * math.log(2)
    for length in (h, r):
        n = length[..., None].to(like.dtype)
        rest = n - k
        choices = (n + 1).lgamma() - (k + 1).lgamma() - (rest.clamp_min(0) + 1).lgamma()
        terms = torch.where(rest >= 0, terms + choices, -math.inf)
    return terms.logsumexp(-1)
