"""Circle loss: every similarity is pulled as hard as it is far from where it should be.

N: samples, C: classes, D: features. Of one idea the paper makes two losses, one against class centres and one among the
samples of a batch.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from visavis.blocks.margins._curves import check_number, check_scale, pick, put, unit
from visavis.blocks.margins.margin import Margin
from visavis.errors import expect

__all__ = ["Circle", "circle", "circle_pairs"]


def _same(cosines: Tensor, margin: float) -> Tensor:
    return (1.0 + margin - cosines.detach()).clamp_min(0.0) * (cosines - (1.0 - margin))


def _different(cosines: Tensor, margin: float) -> Tensor:
    return (cosines.detach() + margin).clamp_min(0.0) * (cosines - margin)


def circle(cosines: Tensor, labels: Tensor, *, margin: float = 0.25, scale: float = 256.0) -> Tensor:
    """Weigh every cosine by its distance from its optimum: the class-level Circle loss.

    The true class gets ``[1 + m - cos t]+ (cos t - (1 - m))``, every other ``[cos s + m]+ (cos s - m)``. The first
    factors are weights, not part of what is derived: as values alone the curves would turn round at 1 and at 0.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        margin: difference of cosines in [0, 1]: the same shall be above 1 - margin, the others below margin.
        scale: positive gain on every logit; the paper's gamma.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: `margin`, `scale` or a label is out of range.

    Source: Sun et al., Circle Loss, CVPR 2020, arXiv:2002.10857, with one positive.

    >>> import torch
    >>> circle(torch.tensor([[0.5, 0.25]]), torch.tensor([0]), scale=8.0)
    tensor([[-1.5000,  0.0000]])
    """
    check_number("margin", margin, 0.0, 1.0)
    check_scale(scale)
    target = _same(pick(cosines, labels), margin)
    return scale * put(_different(cosines, margin), labels, target)


class Circle(Margin):
    """`circle` as a margin, a difference of cosines in [0, 1]; the paper's scale for faces is 256."""

    changes_others = True

    def __init__(self, margin: float = 0.25) -> None:
        check_number("margin", margin, 0.0, 1.0)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return _same(cosines, self.margin)

    def others(self, cosines: Tensor, target: Tensor) -> Tensor:  # noqa: ARG002
        return _different(cosines, self.margin)


def circle_pairs(features: Tensor, labels: Tensor, *, margin: float = 0.25, scale: float = 256.0) -> Tensor:
    """Circle loss among the samples of a batch: each against all of its own class and all of the others.

    Args:
        features: [N, D] float, of any length; cosines are taken. A feature of length 0 has the cosine 0 to all.
        labels: [N] int64, any numbers.
        margin: difference of cosines in [0, 1].
        scale: positive gain on every similarity; the paper's gamma.

    Returns:
        The mean over all samples that have both another of their class and one of another; 0 if none has.

    Raises:
        TensorError: `features` is not float [N, D], or `labels` not int64 [N].
        InputError: `margin` or `scale` out of range.

    Source: Sun et al., Circle Loss, CVPR 2020, arXiv:2002.10857.

    >>> import torch
    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> circle_pairs(features, torch.tensor([0, 0, 1, 1])).item() < 1e-6
    True
    """
    check_number("margin", margin, 0.0, 1.0)
    check_scale(scale)
    expect("features", features, "float", None, None)
    expect("labels", labels, "int64", len(features))
    directions = unit(features)
    cosines = directions @ directions.T
    same = labels[:, None] == labels
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    low = torch.finfo(cosines.dtype).min / 4  # a sum of two stays finite, and its exponential is 0
    pull = torch.where(own, -scale * _same(cosines, margin), low)
    push = torch.where(same, low, scale * _different(cosines, margin))
    both = own.any(1) & ~same.all(1)
    losses = softplus(torch.logsumexp(pull, 1) + torch.logsumexp(push, 1))
    return torch.where(both, losses, 0.0).sum() / both.sum().clamp_min(1)
