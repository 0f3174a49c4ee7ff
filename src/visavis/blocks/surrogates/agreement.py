"""Chance-corrected metrics of classification, smoothed, each beside its exact twin.

Logits and labels as in `classification`; a yes-no question is a choice between two classes. Both metrics are 0 for
answers that do not depend on the question, whatever their frequencies. Where all is of one class, or said to be,
they are 0 / 0; we take 0, the limit along which the soft answers get there.
"""

from typing import Literal

import torch
from torch import Tensor

from visavis.blocks.surrogates._decisions import Choices, choices
from visavis.errors import InputError

__all__ = ["cohen_kappa", "exact_cohen_kappa", "exact_matthews", "matthews"]


def matthews(
    logits: Tensor, labels: Tensor, *, temperature: float, dim: int = -1, mask: Tensor | None = None
) -> Tensor:
    """Matthews' correlation of answers and labels, of any number of classes, with a gradient.

    With t_k and p_k the shares of the answers that are, and are said to be, of class k, and a the accuracy:
    ``(a - sum p_k t_k) / sqrt((1 - sum p_k^2) (1 - sum t_k^2))``, all but t soft counts at temperature T.

    Args:
        logits: float; with classes along `dim`, or one for each yes-no question. Half precision is computed in float32.
        labels: int64 in [0, C), in the shape of the logits without `dim`; or bool, in the shape of the logits.
        temperature: positive, in units of the logits.
        dim: the axis of the classes; of no meaning for bool labels.
        mask: bool in the shape of the labels, which answers count.

    Returns:
        Scalar in [-1, 1], dtype of `logits`; 0 where the labels that count are all of one class.

    Raises:
        TensorError, InputError: as `visavis.blocks.surrogates.accuracy`.

    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0, -2.0]), torch.tensor([True, False, False, False])
    >>> matthews(logits, labels, temperature=0.1)
    tensor(0.5773)
    """
    return _matthews(choices(logits, labels, temperature, dim, mask), soft=True).to(logits.dtype)


def exact_matthews(logits: Tensor, labels: Tensor, *, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """Matthews' correlation of the argmax, or of logits above 0. Arguments and errors as `matthews`.

    >>> exact_matthews(torch.tensor([3.0, -2.0]), torch.tensor([False, True]))
    tensor(-1.)
    """
    return _matthews(choices(logits, labels, None, dim, mask), soft=False).to(logits.dtype)


def cohen_kappa(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    weights: Literal["none", "linear", "quadratic"] = "none",
    dim: int = -1,
    mask: Tensor | None = None,
) -> Tensor:
    """Cohen's kappa of answers and labels, with a gradient: one minus the disagreement in units of that by chance.

    With M_ij the soft count of answers of class i that are said to be j: ``1 - sum w_ij M_ij / sum w_ij E_ij``, where E
    is the product of M's marginals over the number of answers. The weight w is 1 off the diagonal, or ``|i - j|``,
    or its square, for classes that are grades.

    The other arguments are those of `matthews`. `weights` says how much it matters how far off an answer is.

    Returns:
        Scalar of at most 1, dtype of `logits`; 0 where chance would agree fully.

    Raises:
        TensorError, InputError: as `visavis.blocks.surrogates.accuracy`; `weights` is none of these.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960, and with weights 1968.

    >>> logits, labels = torch.tensor([3.0, 2.0, -1.0, -2.0]), torch.tensor([True, False, False, False])
    >>> cohen_kappa(logits, labels, temperature=0.1)
    tensor(0.5000)
    """
    return _kappa(choices(logits, labels, temperature, dim, mask), weights).to(logits.dtype)


def exact_cohen_kappa(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Literal["none", "linear", "quadratic"] = "none",
    dim: int = -1,
    mask: Tensor | None = None,
) -> Tensor:
    """Cohen's kappa of the argmax, or of logits above 0. Arguments and errors as `cohen_kappa`.

    >>> exact_cohen_kappa(torch.tensor([3.0, -2.0]), torch.tensor([True, False]))
    tensor(1.)
    """
    return _kappa(choices(logits, labels, None, dim, mask), weights).to(logits.dtype)


def _matthews(answers: Choices, *, soft: bool) -> Tensor:
    decided, labels, weight = answers
    weight = weight / weight.sum()
    said = weight @ decided
    actual = torch.zeros_like(said).scatter_add(0, labels, weight)
    right = decided.gather(-1, labels[:, None])[:, 0] @ weight
    spread, given = _spread(said), _spread(actual)
    # Rounding leaves an error of its unit above: soft answers nearly all of one class must not be divided by 0.
    unit = torch.finfo(said.dtype).eps if soft else 0.0
    below = torch.where(given > 0, given * (spread + unit), 1).sqrt()
    return torch.where((given > 0) & (spread > 0), (right - said @ actual) / below, 0 * right)


def _spread(shares: Tensor) -> Tensor:
    """``1 - sum of squares`` of shares that sum to 1, without cancellation: twice the sum over pairs of products."""
    return 2 * (shares[1:] * shares.cumsum(0)[:-1]).sum()


def _kappa(answers: Choices, weights: str) -> Tensor:
    decided, labels, weight = answers
    if weights not in ("none", "linear", "quadratic"):
        raise InputError(f'weights: expected "none", "linear" or "quadratic", got {weights!r}')
    places = torch.arange(decided.shape[-1], device=decided.device, dtype=decided.dtype)
    steps = (places[:, None] - places).abs()
    cost = {"none": (steps > 0).to(decided.dtype), "linear": steps, "quadratic": steps.square()}[weights]
    weight = weight / weight.sum()
    said = weight @ decided
    actual = torch.zeros_like(said).scatter_add(0, labels, weight)
    found = ((decided * cost[labels]).sum(-1) * weight).sum()
    chance = actual @ cost @ said
    return torch.where(chance > 0, 1 - found / torch.where(chance > 0, chance, 1), 0 * chance)
