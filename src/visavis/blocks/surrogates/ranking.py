"""Metrics of rankings, smoothed, each beside its exact twin; one value for each ranking along `dim`.

Every "stands above" becomes a step h of the difference of two scores in units of a temperature T, the distribution
function of Laplace's law: ``h(u) = 1 - exp(-u) / 2`` for u > 0, else ``exp(u) / 2``. It has a sigmoid's tails, and
a sum over all pairs of it falls apart into exponentials of the scores: sorted, each score is reached from the one
before by one product and one sum, ``O(n log n)`` instead of ``O(n^2)``, and without a sigmoid's pairs in memory.

Temperatures are in units of the scores. Equal scores stand above each other by one half.
"""

import torch
from torch import Tensor

from visavis.blocks.surrogates._decisions import check, check_finite, kind, wide
from visavis.blocks.surrogates._rows import check_positive
from visavis.blocks.surrogates.sorting import exact_rank, rank
from visavis.errors import InputError, TensorError

__all__ = [
    "average_precision",
    "exact_average_precision",
    "exact_ndcg",
    "exact_reciprocal_rank",
    "exact_roc_auc",
    "exact_spearman",
    "ndcg",
    "reciprocal_rank",
    "roc_auc",
    "spearman",
]


def roc_auc(scores: Tensor, labels: Tensor, *, temperature: float, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The area under the ROC curve, the share of pairs of a positive and a negative in order, with a gradient.

    The mean over these pairs of ``h((positive - negative) / T)``, in ``O(n log n)``. It differs from `exact_roc_auc` by
    at most the mean of ``exp(-|positive - negative| / T) / 2``; for ties, which count one half, not at all.

    Classes one against the rest: ``roc_auc(logits, one_hot(labels, C).bool(), temperature=0.1, dim=0)``.

    Args:
        scores: float; the rankings lie along `dim`. Half precision is computed in float32.
        labels: bool in the shape of the scores.
        temperature: positive, in units of the scores.
        dim: the axis along which to rank.
        mask: bool in the shape of the scores, which of them count.

    Returns:
        In [0, 1], in the shape of the scores without `dim`, in their dtype.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a score that counts is not finite, a ranking has no positive or no negative, `temperature` out
            of range.

    Source: Yan et al., Optimizing Classifier Performance via an Approximation to the Wilcoxon-Mann-Whitney Statistic,
    ICML 2003, with a step of another form; the sum in sorted order is ours.

    >>> roc_auc(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]), temperature=0.01)
    tensor(0.5000)
    """
    x, positive, weight = _rankings(scores, labels, temperature, dim, mask)
    positive, negative = positive * weight, (1 - positive) * weight
    _check_both(positive, negative)
    [above] = _above(x, [positive], temperature)
    value: Tensor = (above * negative).sum(-1) / positive.sum(-1) / negative.sum(-1)
    return value.to(scores.dtype)


def exact_roc_auc(scores: Tensor, labels: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The share of pairs of a positive and a negative in order, ties counting half. Arguments and errors as `roc_auc`.

    >>> exact_roc_auc(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
    tensor(0.5000)
    """
    x, positive, weight = _rankings(scores, labels, None, dim, mask)
    positive, negative = positive * weight, (1 - positive) * weight
    _check_both(positive, negative)
    above, level = _exactly_above(x, positive)
    value = ((above + level / 2) * negative).sum(-1) / positive.sum(-1) / negative.sum(-1)
    return value.to(scores.dtype)


def average_precision(
    scores: Tensor, labels: Tensor, *, temperature: float, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """The mean over the relevant of the precision down to each, with a gradient; the mean over rankings is MAP.

    The rank of i is ``r_i = 1 + sum over j of h((s_j - s_i) / T)``, its rank among the relevant R_i the sum over those
    alone: the mean of ``R_i / r_i`` over the relevant. It differs from `exact_average_precision`, if no scores are
    equal, by at most the mean over the relevant of the sum over j of ``exp(-|s_j - s_i| / T) / 2``.

    Arguments as of `roc_auc`; true labels are the relevant.

    Returns:
        In [0, 1], in the shape of the scores without `dim`, in their dtype; 0 where nothing is relevant.

    Raises:
        TensorError, InputError: as `roc_auc`; a ranking of one kind is fine here.

    Source: Qin, Liu and Li, A general approximation framework for direct optimization of information retrieval
    measures, Information Retrieval 13, 2010, with another step.

    >>> average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]), temperature=0.01)
    tensor(0.8333)
    """
    x, relevant, weight = _rankings(scores, labels, temperature, dim, mask)
    relevant = relevant * weight
    among, above = _above(x, [relevant, weight], temperature)
    precisions = (0.5 + among) / (0.5 + above)  # each stands above itself by one half
    return _mean(precisions, relevant).to(scores.dtype)


def exact_average_precision(scores: Tensor, labels: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The mean over the relevant of the precision down to each and its equals. Else as `average_precision`.

    >>> exact_average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
    tensor(0.8333)
    """
    x, relevant, weight = _rankings(scores, labels, None, dim, mask)
    relevant = relevant * weight
    among, above = (above + level for above, level in (_exactly_above(x, w) for w in (relevant, weight)))
    return _mean(among / torch.where(weight > 0, above, 1), relevant).to(scores.dtype)


def ndcg(
    scores: Tensor,
    gains: Tensor,
    *,
    temperature: float,
    k: int | None = None,
    dim: int = -1,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalised discounted cumulative gain, with a gradient: ``sum gain_i / log2(1 + r_i)`` over its best.

    The rank r_i is smoothed as in `average_precision`. With `k`, rank r counts by ``clip(k + 1 - r, 0, 1)``: ranks tend
    to whole numbers, and for these that is the cut. What stands below it is only drawn up by pushing others down.

    Args:
        scores: float; the rankings lie along `dim`. Half precision is computed in float32.
        gains: float of at least 0 in the shape of the scores: graded relevance, or ``2.0**grade - 1``.
        temperature: positive, in units of the scores.
        k: how many of the top count; all.
        dim: the axis along which to rank.
        mask: bool in the shape of the scores, which of them count.

    Returns:
        In [0, 1], or a little above at high temperatures; in the shape of the scores without `dim`, in their dtype;
        0 where there is nothing to gain.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a score or gain that counts is not finite, a gain is negative, `temperature` or `k` out of range.

    Source: Järvelin and Kekäläinen, TOIS 20(4), 2002; Qin, Liu and Li, as above, for the smooth rank.

    >>> ndcg(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.0, 3.0, 1.0]), temperature=0.01, k=2)
    tensor(0.5213)
    """
    x, gain, weight = _rankings(scores, gains, temperature, dim, mask, graded=True)
    [above] = _above(x, [weight], temperature)
    ranks = 0.5 + above
    discounts = 1 / torch.log2(1 + ranks)
    if k is not None:
        discounts = discounts * (k + 1 - ranks).clamp(0, 1)
    return _share((gain * discounts).sum(-1), gain, k).to(scores.dtype)


def exact_ndcg(
    scores: Tensor, gains: Tensor, *, k: int | None = None, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """Normalised discounted cumulative gain; equal scores share the mean of their discounts. Arguments as `ndcg`.

    >>> exact_ndcg(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.0, 3.0, 1.0]), k=2)
    tensor(0.5213)
    """
    x, gain, weight = _rankings(scores, gains, None, dim, mask, graded=True)
    above, level = _exactly_above(x, weight)
    total = torch.nn.functional.pad(_discounts(x.shape[-1], x, k).cumsum(-1), (1, 0))
    means = (total[(above + level).long()] - total[above.long()]) / torch.where(weight > 0, level, 1)
    return _share((gain * means).sum(-1), gain, k).to(scores.dtype)


def reciprocal_rank(
    scores: Tensor, labels: Tensor, *, temperature: float, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """One over the rank of the best relevant one, with a gradient; the mean over rankings is MRR.

    The score of the best of R relevant ones is smoothed as well, to ``m = T logsumexp(s / T)``; above it stand
    ``sum over the irrelevant of h((s_j - m) / T)``. The distance from `exact_reciprocal_rank` is at most
    ``R / 2 sum over the irrelevant of exp(-|s_j - best| / T)`` if none of them ties with the best.

    Arguments as of `roc_auc`; true labels are the relevant.

    Returns:
        In [0, 1], in the shape of the scores without `dim`, in their dtype; 0 where nothing is relevant.

    Raises:
        TensorError, InputError: as `roc_auc`; a ranking of one kind is fine here.

    Source: Craswell, Mean Reciprocal Rank, Encyclopedia of Database Systems, 2009; the smooth form is ours.

    >>> reciprocal_rank(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([False, True, True]), temperature=0.01)
    tensor(0.5000)
    """
    x, relevant, weight = _rankings(scores, labels, temperature, dim, mask)
    relevant, others = relevant * weight, (1 - relevant) * weight
    u = _over_best(x, relevant) / temperature
    best = (torch.where(relevant > 0, u, 0).exp() * relevant).sum(-1, keepdim=True).clamp_min(1).log()
    above = (_laplace(u - best) * others).sum(-1)
    return torch.where(relevant.sum(-1) > 0, 1 / (1 + above), 0 * above).to(scores.dtype)


def exact_reciprocal_rank(scores: Tensor, labels: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """One over the rank of the best relevant one; what is irrelevant and ties with it goes first.

    Arguments and errors as `reciprocal_rank`.

    >>> exact_reciprocal_rank(torch.tensor([3.0, 2.0, 2.0]), torch.tensor([False, True, False]))
    tensor(0.3333)
    """
    x, relevant, weight = _rankings(scores, labels, None, dim, mask)
    relevant, others = relevant * weight, (1 - relevant) * weight
    above = ((_over_best(x, relevant) >= 0) * others).sum(-1)
    return torch.where(relevant.sum(-1) > 0, 1 / (1 + above), 0).to(scores.dtype)


def spearman(scores: Tensor, targets: Tensor, *, strength: float, dim: int = -1) -> Tensor:
    """Spearman's correlation, that of the ranks, with a gradient: of soft ranks of the scores and ranks of the targets.

    The soft ranks are those of `visavis.blocks.surrogates.rank`. They are not merely near but equal to the ranks from
    some strength down, and so is the value; there the gradient is 0, and a loss wants a larger strength.

    Args:
        scores: float; the rankings lie along `dim`. Half precision is computed in float32.
        targets: float in the shape of the scores.
        strength: positive, as for `rank`.
        dim: the axis along which to rank.

    Returns:
        In [-1, 1], in the shape of the scores without `dim`, in their dtype; 0 where the scores are all equal.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a score or target is not finite, the targets of a ranking are all equal (a single one is),
            `strength` out of range.

    Source: Spearman, 1904; Blondel et al., Fast Differentiable Sorting and Ranking, ICML 2020, arXiv:2002.08871.

    >>> spearman(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([10.0, 20.0, 30.0]), strength=0.1)
    tensor(0.5000)
    """
    x, y = _pair(scores, targets, dim)
    check_positive("strength", strength)
    return _correlation(rank(x, strength=strength), exact_rank(y)).to(scores.dtype)


def exact_spearman(scores: Tensor, targets: Tensor, *, dim: int = -1) -> Tensor:
    """The correlation of the ranks; equal ones share the mean of their ranks. Arguments and errors as `spearman`.

    >>> exact_spearman(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([10.0, 20.0, 30.0]))
    tensor(0.5000)
    """
    x, y = _pair(scores, targets, dim)
    return _correlation(exact_rank(x), exact_rank(y)).to(scores.dtype)


def _rankings(
    scores: Tensor, labels: Tensor, temperature: float | None, dim: int, mask: Tensor | None, *, graded: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels or gains, and weights, [..., n]; 0 where masked out."""
    if not scores.is_floating_point() or not -scores.ndim <= dim < scores.ndim or not scores.shape[dim]:
        raise TensorError(f"scores: expected float with something along axis {dim}, got {kind(scores)}")
    if labels.shape != scores.shape or not (labels.is_floating_point() if graded else labels.dtype == torch.bool):
        name, wanted = ("gains", "float") if graded else ("labels", "bool")
        raise TensorError(f"{name}: expected {wanted} {list(scores.shape)}, got {kind(labels)}")
    if mask is None:
        mask = torch.ones_like(labels, dtype=torch.bool)
    elif mask.dtype != torch.bool or mask.shape != scores.shape:
        raise TensorError(f"mask: expected bool {list(scores.shape)}, got {kind(mask)}")
    mask = mask.movedim(dim, -1)
    x = torch.where(mask, wide(scores.movedim(dim, -1), temperature), 0)
    y = torch.where(mask, labels.movedim(dim, -1).to(x.dtype), 0)
    check_finite("scores", x)
    if graded:
        check((y >= 0) & y.isfinite(), "gains: expected finite numbers of 0 or more, got others")
    return x, y, mask.to(x.dtype)


def _above(x: Tensor, weights: list[Tensor], temperature: float) -> Tensor:
    """For each of the weights and each i, the sum over j of ``weight_j h((x_j - x_i) / T)``: [len(weights), ..., n].

    In rising order, what stands below i adds up to ``e_i = e_(i-1) exp(-(x_i - x_(i-1)) / T) + weight_i``, in falling
    order so does what stands above. Only differences of neighbours enter, so that no exponential overflows.
    """
    x, order = x.sort(-1)
    weight = torch.stack([w.gather(-1, order) for w in weights])
    # The first has nothing before it; what its factor is does not matter.
    fall = torch.nn.functional.pad(torch.exp(-x.diff(dim=-1) / temperature), (1, 0)).expand_as(weight)
    below = _decaying_sum(fall, weight)
    upper = _decaying_sum(torch.cat([fall[..., :1], fall[..., 1:].flip(-1)], -1), weight.flip(-1)).flip(-1) - weight
    count = weight.flip(-1).cumsum(-1).flip(-1) - weight
    return torch.empty_like(weight).scatter(-1, order.expand_as(weight), count + (below - upper) / 2)


def _decaying_sum(decay: Tensor, weight: Tensor) -> Tensor:
    """``e_i = e_(i-1) decay_i + weight_i`` for all i at once, in log2(n) passes of twice the reach each."""
    reach = 1
    while reach < weight.shape[-1]:
        near, far = weight[..., :reach], weight[..., reach:] + decay[..., reach:] * weight[..., :-reach]
        weight = torch.cat([near, far], -1)
        decay = torch.cat([decay[..., :reach], decay[..., reach:] * decay[..., :-reach]], -1)
        reach *= 2
    return weight


def _exactly_above(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """For each i the weight of all that are above it, and of all that are level with it, itself included."""
    rising, order = x.detach().contiguous().sort(-1)
    total = torch.nn.functional.pad(weight.gather(-1, order).cumsum(-1), (1, 0))
    first, last = torch.searchsorted(rising, rising), torch.searchsorted(rising, rising, right=True)
    low, high = total.gather(-1, first), total.gather(-1, last)
    above, level = total[..., -1:] - high, high - low
    return torch.empty_like(x).scatter(-1, order, above), torch.empty_like(x).scatter(-1, order, level)


def _check_both(positive: Tensor, negative: Tensor) -> None:
    holds = (positive.sum(-1, keepdim=True) > 0) & (negative.sum(-1, keepdim=True) > 0)
    check(holds, "labels: expected positives and negatives in each ranking, got one with a single kind")


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted, along the last axis; 0 where there is no weight."""
    total = weight.sum(-1)
    mean: Tensor = (values * weight).sum(-1) / torch.where(total > 0, total, 1)
    return mean


def _discounts(count: int, like: Tensor, k: int | None) -> Tensor:
    """``1 / log2(1 + rank)`` of ranks 1 to `count`, 0 beyond `k`."""
    if k is not None and k < 1:
        raise InputError(f"k: expected at least 1, got {k}")
    ranks = torch.arange(1, count + 1, dtype=like.dtype, device=like.device)
    return torch.where(ranks <= (k or count), 1 / torch.log2(1 + ranks), 0)


def _share(gained: Tensor, gain: Tensor, k: int | None) -> Tensor:
    """What was gained of what could be; 0 where that is nothing."""
    best = (gain.sort(-1, descending=True).values * _discounts(gain.shape[-1], gain, k)).sum(-1)
    share: Tensor = gained / torch.where(best > 0, best, 1)
    return share


def _over_best(x: Tensor, relevant: Tensor) -> Tensor:
    """Scores above that of the best relevant one, which is taken as a constant."""
    best = torch.where(relevant > 0, x, -torch.inf).detach().amax(-1, keepdim=True)
    return x - torch.where(best > -torch.inf, best, 0)


def _laplace(u: Tensor) -> Tensor:
    """Laplace's distribution function."""
    return torch.where(u > 0, 1 - (-u.clamp_min(0)).exp() / 2, u.clamp_max(0).exp() / 2)


def _pair(scores: Tensor, targets: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    if not scores.is_floating_point() or not -scores.ndim <= dim < scores.ndim or not scores.shape[dim]:
        raise TensorError(f"scores: expected float with something along axis {dim}, got {kind(scores)}")
    if not targets.is_floating_point() or targets.shape != scores.shape:
        raise TensorError(f"targets: expected float {list(scores.shape)}, got {kind(targets)}")
    x, y = wide(scores.movedim(dim, -1), None), wide(targets.movedim(dim, -1), None)
    check_finite("scores", x)
    check_finite("targets", y)
    check((y != y[..., :1]).any(-1, keepdim=True), "targets: expected at least two different ones, got all equal")
    return x, y


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    squares = x.square().sum(-1) * y.square().sum(-1)
    full = squares > torch.finfo(x.dtype).eps * y.square().sum(-1).square()
    return torch.where(full, (x * y).sum(-1) / torch.where(full, squares, 1).sqrt(), 0)
