"""Metrics of classification, smoothed, each beside its exact twin.

Every "is the answer" becomes a softmax or a sigmoid at a temperature T, in units of the logits: for T -> 0 the metric
is the exact one, for T = 1 it is about what one expects who draws each answer from the model's own probabilities.

There are two kinds of answers, told apart by the labels' dtype:

- **choices between classes**: labels int64, logits with one more axis, `dim`, of C classes;
- **yes-no questions**: labels bool, in the logits' shape; a logit above 0 says yes. One question ("binary") or many.
"""

import math

import torch
from torch import Tensor

from visavis.blocks.surrogates._decisions import Average, averaged, choices, counts, ratio, scores
from visavis.errors import InputError

__all__ = [
    "accuracy",
    "exact_accuracy",
    "exact_f1",
    "exact_f_beta",
    "exact_precision",
    "exact_recall",
    "exact_top_k_accuracy",
    "f1",
    "f_beta",
    "precision",
    "recall",
    "top_k_accuracy",
]


def accuracy(
    logits: Tensor, labels: Tensor, *, temperature: float, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """The share of right answers, ``1/N sum [argmax = label]``, with a gradient: the mean weight of the right answer.

    Its distance from `exact_accuracy` is at most the mean of ``(C - 1) exp(-gap / T)``, where the gap of an answer is
    how far the logit of the label is from the largest of the others; classes that tie for the first place share it.

    As a loss, ``1 - accuracy`` at T = 1 is the expected error of a drawn answer, also known as the mean absolute error
    of the probabilities. Its gradient fades for answers that are far on the wrong side: wrong labels pull less
    than they do on cross-entropy, and so do examples that are only hard. docs/metrics.md measures both.

    Args:
        logits: float; with classes along `dim`, or one for each yes-no question. Half precision is computed in float32.
        labels: int64 in [0, C), in the shape of the logits without `dim`; or bool, in the shape of the logits.
        temperature: positive, in units of the logits.
        dim: the axis of the classes; of no meaning for bool labels.
        mask: bool in the shape of the labels, which answers count; ``labels != 255`` leaves out an ignore index.

    Returns:
        Scalar in [0, 1], dtype of `logits`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a logit that counts is not finite, a label out of range, no answer counts, or `temperature` out of
            range.

    Source: Ghosh, Kumar and Sastry, Robust Loss Functions under Label Noise for Deep Neural Networks, AAAI 2017,
    arXiv:1712.09482, for T = 1.

    >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> accuracy(logits, torch.tensor([0, 2]), temperature=0.01)
    tensor(0.5000)
    """
    return _accuracy(logits, labels, temperature, dim, mask)


def exact_accuracy(logits: Tensor, labels: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """The share of right answers; of equal logits the first wins. Arguments and errors as `accuracy`.

    For yes-no questions it counts single answers, and so is one minus the Hamming loss.

    >>> exact_accuracy(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([True, True, True]))
    tensor(0.6667)
    """
    return _accuracy(logits, labels, None, dim, mask)


def top_k_accuracy(
    logits: Tensor, labels: Tensor, *, k: int, temperature: float, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """The share of answers whose label is among the k largest logits, with a gradient.

    Draw k classes at once, a set S with probability proportional to ``exp(sum of its logits / T)``: the value is the
    chance that the label is in it. With e_k the elementary symmetric polynomial of ``exp(logit / T)`` over the
    other classes, that is the sigmoid of ``logit / T - log e_k + log e_(k-1)``; the two are computed in log space by
    multiplying ``1 + z exp(logit / T)`` pairwise, so that no temperature underflows. For k = 1 it is `accuracy`.

    Its distance from `exact_top_k_accuracy` is at most the mean of ``max(C - k, k) exp(-gap / T)``, where the gap is
    how far the logit of the label is from the k-th largest of the others.

    Args:
        logits: float with C classes along `dim`.
        labels: int64 in [0, C), in the shape of the logits without `dim`.
        k: at least 1; with k >= C every answer is right.
        temperature: positive, in units of the logits.
        dim: the axis of the classes.
        mask: bool in the shape of the labels, which answers count.

    Returns:
        Scalar in [0, 1], dtype of `logits`.

    Raises:
        TensorError, InputError: as `accuracy`; k below 1.

    Source: Berrada, Zisserman and Kumar, Smooth Loss Functions for Deep Top-k Classification, ICLR 2018,
    arXiv:1802.07595, who use the same polynomials in a hinge.

    >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    >>> top_k_accuracy(logits, torch.tensor([1, 0]), k=2, temperature=0.01)
    tensor(0.5000)
    """
    return _top_k_accuracy(logits, labels, k, temperature, dim, mask)


def exact_top_k_accuracy(
    logits: Tensor, labels: Tensor, *, k: int, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """The share of answers whose label is among the k largest logits; of equal ones the first are taken.

    Arguments and errors as `top_k_accuracy`.

    >>> exact_top_k_accuracy(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]), k=2)
    tensor(1.)
    """
    return _top_k_accuracy(logits, labels, k, None, dim, mask)


def f_beta(
    logits: Tensor,
    labels: Tensor,
    *,
    beta: float,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``(1 + beta^2) TP / (PP + beta^2 P)`` with a gradient: soft counts of true positives TP and positives said, PP.

    P, the number of positives there are, is of the labels alone. The distance from `exact_f_beta` is at most
    ``(1 + beta^2) E / (PP + beta^2 P)``, where E, the sum of the distances of soft from hard answers, is at most
    the sum of ``exp(-|logit| / T)`` for yes-no questions.

    It is a function of the whole batch: the mean over batches is not the value of all, and a batch without a positive
    teaches nothing but silence. Nor need it beat cross-entropy with a tuned threshold, see docs/metrics.md.

    Args:
        logits: float; with classes along `dim`, or one for each yes-no question. Half precision is computed in float32.
        labels: int64 in [0, C), in the shape of the logits without `dim`; or bool, in the shape of the logits.
        beta: how many times as much recall matters as precision; 0 is precision.
        temperature: positive, in units of the logits.
        average: "binary" takes all questions as one kind (bool labels only); "micro" adds up the counts of all
            classes; "macro" is the mean of the classes' scores, "weighted" that by how many there are of each, "none"
            returns them all. With bool labels and the last three, `dim` is the axis of the labels.
        dim: the axis of the classes, or of the labels.
        mask: bool in the shape of the labels, which answers count; ``labels != 255`` leaves out an ignore index.
        zero_division: in [0, 1], what a class is worth that nobody is of and nobody was said to be of, and in
            `precision` and `recall` whichever is undefined; as scikit-learn's, all C classes take part in the mean.

    Returns:
        Scalar in [0, 1], or [C] for "none"; dtype of `logits`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: a logit that counts is not finite, a label out of range, no answer counts, an option out of range.

    Source: van Rijsbergen, Information Retrieval, 1979; soft counts as in Bénédict et al., sigmoidF1, arXiv:2108.10566.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0, -2.0]), torch.tensor([True, False, True, False])
    >>> f_beta(logits, labels, beta=2.0, temperature=0.01)
    tensor(0.5000)
    """
    return _f_beta(logits, labels, beta, temperature, average, dim, mask, zero_division)


def exact_f_beta(
    logits: Tensor,
    labels: Tensor,
    *,
    beta: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``(1 + beta^2) TP / (PP + beta^2 P)`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0]), torch.tensor([True, False, False])
    >>> exact_f_beta(logits, labels, beta=0.5)
    tensor(0.5556)
    """
    return _f_beta(logits, labels, beta, None, average, dim, mask, zero_division)


def f1(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``2 TP / (PP + P)``, the harmonic mean of precision and recall, with a gradient: `f_beta` with beta = 1.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0, -2.0]), torch.tensor([True, False, False, False])
    >>> f1(logits, labels, temperature=0.1)
    tensor(0.6667)
    """
    return _f_beta(logits, labels, 1.0, temperature, average, dim, mask, zero_division)


def exact_f1(
    logits: Tensor,
    labels: Tensor,
    *,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``2 TP / (PP + P)`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> exact_f1(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1]), average="none")
    tensor([0.6667, 0.0000])
    """
    return _f_beta(logits, labels, 1.0, None, average, dim, mask, zero_division)


def precision(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / PP``, the share of what was said that is right, with a gradient. Arguments and errors as `f_beta`.

    Alone it is no loss: saying the one surest thing is perfect. The distance from `exact_precision` is at most
    ``E / PP``, E as in `f_beta`. Where hardly anything is said it is a ratio of two small numbers, led by the surest;
    once PP falls below the rounding unit the value turns to `zero_division`.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0]), torch.tensor([True, False, True])
    >>> precision(logits, labels, temperature=0.1)
    tensor(0.5000)
    """
    return _f_beta(logits, labels, 0.0, temperature, average, dim, mask, zero_division)


def exact_precision(
    logits: Tensor,
    labels: Tensor,
    *,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / PP`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> exact_precision(torch.tensor([-3.0, -2.0]), torch.tensor([True, False]), zero_division=1.0)
    tensor(1.)
    """
    return _f_beta(logits, labels, 0.0, None, average, dim, mask, zero_division)


def recall(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / P``, the share of what there is that was found, with a gradient. Arguments and errors as `f_beta`.

    Alone it is no loss: saying yes to everything is perfect. The distance from `exact_recall` is at most ``E / P``.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0]), torch.tensor([True, False, True])
    >>> recall(logits, labels, temperature=0.1)
    tensor(0.5000)
    """
    return _recall(logits, labels, temperature, average, dim, mask, zero_division)


def exact_recall(
    logits: Tensor,
    labels: Tensor,
    *,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / P`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> exact_recall(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 0]), average="macro")
    tensor(0.5000)
    """
    return _recall(logits, labels, None, average, dim, mask, zero_division)


def _accuracy(logits: Tensor, labels: Tensor, temperature: float | None, dim: int, mask: Tensor | None) -> Tensor:
    decided, labels, weight = choices(logits, labels, temperature, dim, mask)
    own = decided.gather(-1, labels[:, None])[:, 0]
    return ((own * weight).sum() / weight.sum()).to(logits.dtype)


def _top_k_accuracy(
    logits: Tensor, labels: Tensor, k: int, temperature: float | None, dim: int, mask: Tensor | None
) -> Tensor:
    if k < 1:
        raise InputError(f"k: expected at least 1, got {k}")
    x, labels, weight = scores(logits, labels, temperature, dim, mask)
    classes = x.shape[-1]
    own = x.gather(-1, labels[:, None])
    if k >= classes:
        inside = torch.ones_like(own) + 0 * own
    elif temperature is None:
        earlier = torch.arange(classes, device=x.device) < labels[:, None]
        inside = (((x > own) | ((x == own) & earlier)).sum(-1, keepdim=True) < k).to(x.dtype)
    else:
        places = torch.arange(classes - 1, device=x.device).expand(len(x), -1)
        others = x.gather(-1, places + (places >= labels[:, None]))
        # The k-th largest of the others moves to 0, and the label by as much, so that what matters is computed best.
        shift = others.detach().topk(k, -1).values[:, -1:]
        odds = _log_symmetric((others - shift) / temperature, k)
        inside = torch.sigmoid((own - shift) / temperature - odds[:, k:] + odds[:, k - 1 : k])
    return ((inside[:, 0] * weight).sum() / weight.sum()).to(logits.dtype)


def _f_beta(
    logits: Tensor,
    labels: Tensor,
    beta: float,
    temperature: float | None,
    average: Average,
    dim: int,
    mask: Tensor | None,
    zero_division: float,
) -> Tensor:
    if not 0.0 <= beta < math.inf:
        raise InputError(f"beta: expected a number of 0 or more, got {beta}")
    right, decided, actual, slack = counts(logits, labels, temperature, average, dim, mask)
    square = beta * beta
    each = ratio((1 + square) * right, decided + square * actual, slack, zero_division)
    return averaged(each, actual, average).to(logits.dtype)


def _recall(
    logits: Tensor,
    labels: Tensor,
    temperature: float | None,
    average: Average,
    dim: int,
    mask: Tensor | None,
    zero_division: float,
) -> Tensor:
    right, _, actual, _ = counts(logits, labels, temperature, average, dim, mask)
    return averaged(ratio(right, actual, 0.0, zero_division), actual, average).to(logits.dtype)


def _log_symmetric(x: Tensor, degree: int) -> Tensor:
    """Logarithms of the elementary symmetric polynomials 0 .. `degree` of exp(x), but for one summand common to them.

    They are the coefficients of the product of all ``1 + z exp(x)``, multiplied in pairs and cut off above `degree`.
    Where x > 0 the factor ``exp(-x) + z`` stands in its place, so that no coefficient is large. From
    [M, n] to [M, degree + 1].
    """
    nothing = -1e9  # as a logarithm; an infinite one has no gradient
    terms = torch.stack([torch.where(x > 0, -x, 0), torch.where(x > 0, 0, x)], -1).clamp_min(nothing)  # [M, n, 2]
    while terms.shape[1] > 1 or terms.shape[-1] <= degree:
        high = terms.shape[-1] - 1
        if terms.shape[1] % 2:
            one = torch.full_like(terms[:, :1], nothing)
            terms = torch.cat([terms, torch.cat([torch.zeros_like(one[..., :1]), one[..., 1:]], -1)], 1)
        left, right = terms[:, ::2], terms[:, 1::2]
        terms = torch.stack(
            [
                torch.logsumexp(left[..., low : top + 1] + right[..., d - top : d - low + 1].flip(-1), -1)
                for d in range(min(2 * high, degree) + 1)
                for low, top in [(max(0, d - high), min(d, high))]
            ],
            -1,
        )
    return terms[:, 0]
