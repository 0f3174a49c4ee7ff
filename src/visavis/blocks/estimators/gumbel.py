"""Exact discrete draws by Gumbel noise: the largest of ``logits + G`` has the softmax's law; the k largest are k draws.

Shapes: K classes, ``*`` any.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from visavis.blocks.estimators._discrete import check_logits, draw_indices, hidden_values, refuse_rows
from visavis.blocks.estimators._noise import gumbel
from visavis.errors import InputError

__all__ = ["TopK", "gumbel_max", "gumbel_top_k"]


class TopK(NamedTuple):
    """Classes in the order in which they were drawn, [*, k] int64, and the log-probability of that sequence, [*]."""

    indices: Tensor
    log_prob: Tensor


def gumbel_max(
    logits: Tensor, *, dim: int = -1, precise: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """A draw from ``softmax(logits)``: the class whose ``logit + G`` is largest, for independent Gumbel noise G.

    Args:
        logits: float, classes along `dim`; -inf masks a class.
        dim: of the classes.
        precise: noise that is not cut off at 16.6; see `GumbelSoftmax`.
        generator: of the noise; torch's own when None.

    Returns:
        Classes, int64, of the shape of `logits` without `dim`.

    Raises:
        TensorError: `logits` is not float, or has no classes.
        InputError: a row with NaN or infinity, or with nothing allowed.

    Source: Gumbel, Statistical Theory of Extreme Values, 1954; Yellott, J. Math. Psychology 15, 1977.

    >>> gumbel_max(torch.tensor([[-torch.inf, 0.0], [50.0, 0.0]]))
    tensor([1, 0])
    """
    return _perturbed(logits, dim, precise, generator).argmax(-1)


def gumbel_top_k(
    logits: Tensor,
    k: int,
    *,
    replacement: bool = False,
    dim: int = -1,
    generator: torch.Generator | None = None,
) -> TopK:
    """K draws from ``softmax(logits)`` at once.

    Without replacement they are the k largest of ``logits + G``, in falling order: the first has the law of the
    softmax, the next that of the softmax over what is left, and so on, which is the law of Plackett and Luce. The
    log-probability has a gradient: ``sum over j of (logit_j - logsumexp of all but the first j - 1)``.

    Args:
        logits: float, classes along `dim`; -inf masks a class.
        k: draws, at least 1; without replacement at most the classes that are allowed.
        replacement: independent draws instead.
        dim: of the classes; the draws lie along it.
        generator: of the noise; torch's own when None.

    Returns:
        `TopK`: indices with k in the place of K, log-probabilities without that dim.

    Raises:
        TensorError: `logits` is not float, or has no classes.
        InputError: `k` out of range; a row with NaN or infinity, or with nothing allowed.

    Source: Kool, van Hoof and Welling, Stochastic Beams and Where to Find Them, arXiv:1903.06059.

    >>> sorted(gumbel_top_k(torch.tensor([0.0, -torch.inf, 1.0, 2.0]), 3).indices.tolist())
    [0, 2, 3]
    """
    check_logits(logits)
    rows = logits.movedim(dim, -1)
    if k < 1:
        raise InputError(f"k: expected at least 1, got {k}")
    if replacement:
        probs = rows.detach().softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        if not hidden_values(probs) and probs[..., 0].isnan().any():
            refuse_rows("logits", rows.detach())
        indices = draw_indices(probs, k, generator).movedim(0, -1)
        return TopK(indices.movedim(-1, dim), rows.log_softmax(-1).gather(-1, indices).sum(-1))
    perturbed = _perturbed(logits, dim, True, generator)
    if k > rows.shape[-1]:
        raise InputError(f"k: expected at most the {rows.shape[-1]} classes without replacement, got {k}")
    values, indices = perturbed.topk(k)
    if not hidden_values(values) and values[..., -1].isneginf().any():
        raise InputError(f"k: expected at most the classes that are not masked, got {k}, and a row that allows fewer")
    return TopK(indices.movedim(-1, dim), _sequence_log_prob(rows, indices))


def _perturbed(logits: Tensor, dim: int, precise: bool, generator: torch.Generator | None) -> Tensor:
    """``logits + G`` with the classes last, detached."""
    check_logits(logits)
    rows = logits.detach().movedim(dim, -1)
    top = rows.amax(-1)
    if not hidden_values(top) and not top.isfinite().all():
        refuse_rows("logits", rows)
    return gumbel(rows, precise=precise, generator=generator) + rows


def _sequence_log_prob(rows: Tensor, indices: Tensor) -> Tensor:
    """Plackett and Luce's: each against all that had not been drawn before it."""
    chosen = rows.gather(-1, indices)
    drawn = torch.zeros(rows.shape, dtype=torch.bool, device=rows.device).scatter(
        -1, indices, torch.ones_like(indices, dtype=torch.bool)
    )
    rest = rows.masked_fill(drawn, -torch.inf).logsumexp(-1, keepdim=True)  # never drawn; -inf where there are none
    # From the last draw back: what was left then, and the draws after it.
    later = torch.cat([rest, chosen.flip(-1)], -1).logcumsumexp(-1)[..., 1:].flip(-1)
    return (chosen - later).sum(-1)
