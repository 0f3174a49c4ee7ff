"""What the metrics of classification share: decisions, soft or hard, and the counts that the metrics are made of.

Shapes: M answers that count or are masked out, C classes. A decision is a row of weights that sum to 1: of a softmax
at a temperature, or 0 and 1 where the temperature is None, which is the exact metric's.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import aside
from visavis.errors import InputError, TensorError

__all__ = [
    "Average",
    "Choices",
    "Counts",
    "averaged",
    "check",
    "check_finite",
    "choices",
    "counts",
    "kind",
    "ratio",
    "scores",
    "weights",
    "wide",
]

Average = Literal["binary", "micro", "macro", "weighted", "none"]


class Choices(NamedTuple):
    decided: Tensor  # [M, C], rows sum to 1
    labels: Tensor  # int64 [M]; 0 where masked out
    weight: Tensor  # [M], 1 or 0 where masked out


class Counts(NamedTuple):
    """Scalars, or [C]: how much of what was decided is right, how much was decided, how much there is."""

    right: Tensor
    decided: Tensor
    actual: Tensor
    slack: float  # see `ratio`


def check(holds: Tensor, message: str) -> None:
    """Refuse input unless all of `holds`, under vmap too; under torch.compile a look at values would split the graph.

    Raises:
        InputError: with `message`.
    """

    def look(values: Tensor) -> Tensor:
        if not values.all():
            raise InputError(message)
        return torch.zeros_like(values)

    if not torch.compiler.is_compiling():
        aside(look, holds)


def check_finite(name: str, x: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: there are some.
    """
    check(x.isfinite(), f"{name}: expected finite numbers, got infinity or NaN; did the training diverge?")


def weights(mask: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """What counts, as ones and zeros of the shape of `like`.

    Raises:
        TensorError: `mask` is not bool of that shape.
        InputError: nothing counts.
    """
    if mask is None:
        mask = torch.ones_like(like, dtype=torch.bool)
    elif mask.dtype != torch.bool or mask.shape != like.shape:
        raise TensorError(f"mask: expected bool {list(like.shape)}, got {kind(mask)}")
    check(mask.any().reshape(1), "mask: expected at least one answer that counts, got none")
    return mask.to(dtype)


def choices(logits: Tensor, labels: Tensor, temperature: float | None, dim: int, mask: Tensor | None) -> Choices:
    """Answers as choices between classes; a yes-no question is one between two, no and yes.

    Raises:
        TensorError, InputError: as `visavis.blocks.surrogates.f_beta` says.
    """
    if labels.dtype == torch.bool:
        x, weight = _yes_no(logits, labels, temperature, mask)
        pair = torch.stack([~(x > 0), x > 0] if temperature is None else [-x / temperature, x / temperature], -1)
        decided = pair.to(x.dtype) if temperature is None else torch.sigmoid(pair)
        return Choices(decided.flatten(0, -2), labels.flatten().long(), weight.flatten())
    x, labels, weight = scores(logits, labels, temperature, dim, mask)
    if temperature is None:
        decided = torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1)
    else:  # shifted first: the largest stays 0 however low the temperature
        decided = ((x - x.detach().amax(-1, keepdim=True)) / temperature).softmax(-1)
    return Choices(decided, labels, weight)


def scores(
    logits: Tensor, labels: Tensor, temperature: float | None, dim: int, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [M, C] in the dtype to compute in, labels [M], weights [M]; 0 throughout where masked out.

    Raises:
        TensorError, InputError: as `visavis.blocks.surrogates.f_beta` says.
    """
    if not logits.is_floating_point() or not -logits.ndim <= dim < logits.ndim or not logits.shape[dim]:
        raise TensorError(f"logits: expected float with classes along axis {dim}, got {kind(logits)}")
    x = logits.movedim(dim, -1)
    if labels.dtype != torch.int64 or labels.shape != x.shape[:-1]:
        raise TensorError(
            f"labels: expected int64 {list(x.shape[:-1])}, or bool {list(logits.shape)} for yes-no questions, "
            f"got {kind(labels)}"
        )
    x = wide(x.flatten(0, -2), temperature)
    weight, classes = weights(mask, labels, x.dtype).flatten(), x.shape[-1]
    labels = labels.flatten()
    x = torch.where(weight[:, None] > 0, x, 0)
    check_finite("logits", x)
    check(
        (weight == 0) | ((labels >= 0) & (labels < classes)),
        f"labels: expected classes in [0, {classes}), got others; leave out what is to be ignored by `mask`",
    )
    return x, torch.where(weight > 0, labels, 0), weight


def counts(
    logits: Tensor, labels: Tensor, temperature: float | None, average: Average, dim: int, mask: Tensor | None
) -> Counts:
    """The counts of one question if `average` is "binary" or "micro", else of each class or label along `dim`.

    Raises:
        TensorError, InputError: as `visavis.blocks.surrogates.f_beta` says.
    """
    if average not in ("binary", "micro", "macro", "weighted", "none"):
        raise InputError(f'average: expected "binary", "micro", "macro", "weighted" or "none", got {average!r}')
    if labels.dtype != torch.bool:
        if average == "binary":
            raise InputError(
                'average: expected "micro", "macro", "weighted" or "none" with classes for labels, got "binary"; '
                "yes-no questions have labels of bool"
            )
        decided, labels, weight = choices(logits, labels, temperature, dim, mask)
        zeros = decided.new_zeros(decided.shape[-1])
        own = decided.gather(-1, labels[:, None])[:, 0]
        right, actual = zeros.scatter_add(0, labels, own * weight), zeros.scatter_add(0, labels, weight)
        total = weight @ decided
    else:
        x, weight = _yes_no(logits, labels, temperature, mask)
        yes = ((x > 0).to(x.dtype) if temperature is None else torch.sigmoid(x / temperature)) * weight
        if average in ("macro", "weighted", "none"):
            if not -x.ndim <= dim < x.ndim:
                raise TensorError(f"logits: expected float with labels along axis {dim}, got {kind(logits)}")
            yes, labels, weight = (t.movedim(dim, -1).flatten(0, -2) for t in (yes, labels, weight))
        else:
            yes, labels, weight = yes.flatten(), labels.flatten(), weight.flatten()
        right, total, actual = (yes * labels).sum(0), yes.sum(0), (weight * labels).sum(0)
    if average == "micro":
        right, total, actual = right.sum(), total.sum(), actual.sum()
    return Counts(right, total, actual, 0.0 if temperature is None else torch.finfo(right.dtype).eps)


def ratio(part: Tensor, whole: Tensor, slack: float, zero_division: float) -> Tensor:
    """Part / whole, and `zero_division` where the whole is 0.

    A soft count is never 0: without `slack`, the rounding unit, the share of what fades away would have some limit of
    its own. With it, the value turns to `zero_division` once the whole has faded below that unit.
    """
    if not 0.0 <= zero_division <= 1.0:
        raise InputError(f"zero_division: expected a number in [0, 1], got {zero_division}")
    full = whole + slack > 0
    share: Tensor = (part + slack * zero_division) / torch.where(full, whole + slack, 1)
    return torch.where(full, share, zero_division)


def averaged(scores: Tensor, actual: Tensor, average: Average) -> Tensor:
    """One score of those of the classes; weighted by how many there are of each, if there are any at all."""
    if average == "macro":
        return scores.mean()
    if average == "weighted":
        share = torch.where(actual.sum() > 0, actual, torch.ones_like(actual))
        return (scores * share).sum() / share.sum()
    return scores


def _yes_no(logits: Tensor, labels: Tensor, temperature: float | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits of yes in the dtype to compute in, and weights."""
    if not logits.is_floating_point() or labels.shape != logits.shape:
        raise TensorError(f"logits: expected float {list(labels.shape)} as the labels of bool, got {kind(logits)}")
    x = wide(logits, temperature)
    weight = weights(mask, labels, x.dtype)
    x = torch.where(weight > 0, x, 0)
    check_finite("logits", x)
    return x, weight


def wide(x: Tensor, temperature: float | None) -> Tensor:
    """Half precision in float32; a temperature that is 0 in that dtype is refused.

    Raises:
        InputError: `temperature` is given and out of range.
    """
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if temperature is not None and not torch.finfo(x.dtype).tiny <= temperature < math.inf:
        raise InputError(
            f"temperature: expected a positive number, {torch.finfo(x.dtype).tiny} or more, got {temperature}"
        )
    return x


def kind(x: Tensor) -> str:
    """Its dtype and shape, for messages."""
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
