"""One question a class, yes or no, and one threshold for all: SphereFace2 and UniFace.

N: samples, C: classes. Where a softmax compares classes with each other, these compare every cosine with one learned
bias, as verification will. They are losses of their own: no softmax follows.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from visavis.blocks.margins._curves import check_number, check_scale, pick, wide
from visavis.errors import InputError

__all__ = ["SphereFace2", "UniFace", "sphereface2", "uniface"]


def _yes_and_no(labels: Tensor, yes: Tensor, no: Tensor, *, weight: float) -> Tensor:
    """Mean over the samples of ``softplus(-yes) + weight * sum of softplus(no)``, `no` without the true class."""
    others = no.scatter(1, labels[:, None], -math.inf)
    return (softplus(-yes) + weight * softplus(others).sum(1)).sum() / max(len(labels), 1)


def _sharpened(cosines: Tensor, power: float) -> Tensor:
    return 2.0 * ((cosines + 1.0) / 2.0).clamp_min(0.0) ** power - 1.0


def _check_sphereface2(margin: float, scale: float, balance: float, power: float) -> None:
    check_number("margin", margin, 0.0, 1.0)
    check_scale(scale)
    if not 0.0 < balance < 1.0:
        raise InputError(f"balance: expected a weight in (0, 1), got {balance}")
    check_number("power", power, 1.0, 16.0)


def sphereface2(
    cosines: Tensor,
    labels: Tensor,
    bias: Tensor,
    *,
    margin: float = 0.4,
    scale: float = 40.0,
    balance: float = 0.7,
    power: float = 3.0,
) -> Tensor:
    """A binary classifier a class, with one bias for all: SphereFace2 with the margin on the cosine (its form C).

    With ``g(z) = 2 ((z + 1) / 2)^power - 1``, which spreads the crowded cosines of the other classes, the loss is
    ``balance / scale * softplus(-(scale (g(cos t) - margin) + bias))`` plus, over all other classes,
    ``(1 - balance) / scale * softplus(scale (g(cos s) + margin) + bias)``. The authors' code multiplies that by 50.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        bias: [] float, learned; `SphereFace2` has a good first value.
        margin: difference of cosines in [0, 1], on both sides.
        scale: positive gain on every logit; the paper's r.
        balance: weight of the one yes against the many noes, in (0, 1); the paper's lambda.
        power: exponent of g, in [1, 16]; the paper's t.

    Returns:
        The mean loss, in float32 for half precision; 0 for an empty batch.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: a setting or a label is out of range.

    Source: Wen et al., SphereFace2, ICLR 2022, arXiv:2108.01513.

    >>> import torch
    >>> loss = sphereface2(torch.eye(3), torch.tensor([0, 1, 2]), torch.tensor(0.0))
    >>> f"{loss.item():.1e}"
    '1.2e-08'
    """
    _check_sphereface2(margin, scale, balance, power)
    yes = scale * (_sharpened(pick(cosines, labels), power) - margin) + bias
    no = scale * (_sharpened(wide(cosines), power) + margin) + bias
    return balance / scale * _yes_and_no(labels, yes, no, weight=(1.0 - balance) / balance)


class SphereFace2(nn.Module):
    """`sphereface2` with its bias, which starts where the loss of an untrained network, all cosines 0, is least."""

    def __init__(
        self, classes: int, *, margin: float = 0.4, scale: float = 40.0, balance: float = 0.7, power: float = 3.0
    ) -> None:
        _check_sphereface2(margin, scale, balance, power)
        if classes < 2:
            raise InputError(f"classes: expected at least 2, got {classes}")
        super().__init__()
        self.margin, self.scale, self.balance, self.power = margin, scale, balance, power
        # The slope in b, (1 - balance)(C - 1) sigmoid(no + b) - balance sigmoid(-yes - b), is 0 where
        # v = exp(no + b) solves exp(yes - no) v^2 + (1 - z) v - z = 0; of its two forms the one where nothing cancels.
        middle = 2.0 * 0.5**power - 1.0
        yes, no = scale * (middle - margin), scale * (middle + margin)
        z = balance / ((1.0 - balance) * (classes - 1))
        root = math.sqrt((1.0 - z) ** 2 + 4.0 * z * math.exp(yes - no))
        v = 2.0 * z / (1.0 - z + root) if z < 1.0 else (z - 1.0 + root) / (2.0 * math.exp(yes - no))
        self.bias = nn.Parameter(torch.tensor(math.log(v) - no))

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """[N, C] cosines and [N] labels to the mean loss."""
        return sphereface2(
            cosines,
            labels,
            self.bias,
            margin=self.margin,
            scale=self.scale,
            balance=self.balance,
            power=self.power,
        )


def _check_uniface(margin: float, scale: float, weight: float) -> None:
    check_number("margin", margin, 0.0, 1.0)
    check_scale(scale)
    check_number("weight", weight, 0.0, 1e6)


def uniface(
    cosines: Tensor, labels: Tensor, bias: Tensor, *, margin: float = 0.4, scale: float = 64.0, weight: float = 1.0
) -> Tensor:
    """The unified cross entropy: one threshold, ``bias / scale``, that all true cosines pass and no other does.

    ``softplus(bias - scale (cos t - margin))`` plus, over all other classes, ``weight softplus(scale cos s - bias)``.
    The authors' code cuts every logit to [-scale, scale], beyond which there is no gradient; the softplus needs no cut.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        bias: [] float, learned; `UniFace` has a good first value.
        margin: difference of cosines in [0, 1].
        scale: positive gain on every logit.
        weight: of the many noes against the one yes; the paper's lambda.

    Returns:
        The mean loss, in float32 for half precision; 0 for an empty batch.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: a setting or a label is out of range.

    Source: Zhou et al., UniFace, ICCV 2023.

    >>> import torch
    >>> loss = uniface(torch.eye(3), torch.tensor([0, 1, 2]), torch.tensor(19.2))
    >>> f"{loss.item():.1e}"
    '1.4e-08'
    """
    _check_uniface(margin, scale, weight)
    yes = scale * (pick(cosines, labels) - margin) - bias
    return _yes_and_no(labels, yes, scale * wide(cosines) - bias, weight=weight)


class UniFace(nn.Module):
    """`uniface` with its bias, which starts at ``log(10 C)``: all noes together then cost 0.1, and the yes decides."""

    def __init__(self, classes: int, *, margin: float = 0.4, scale: float = 64.0, weight: float = 1.0) -> None:
        _check_uniface(margin, scale, weight)
        if classes < 2:
            raise InputError(f"classes: expected at least 2, got {classes}")
        super().__init__()
        self.margin, self.scale, self.weight = margin, scale, weight
        self.bias = nn.Parameter(torch.tensor(math.log(10.0 * classes)))

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """[N, C] cosines and [N] labels to the mean loss."""
        return uniface(cosines, labels, self.bias, margin=self.margin, scale=self.scale, weight=self.weight)
