"""Margins of a fixed size: what a sample's angle to its own class has to make up for.

N: samples, C: classes. Angles are radians.
"""

from torch import Tensor

from visavis.blocks.margins._curves import check_angle, check_scale, pick, put, shift
from visavis.blocks.margins.margin import Margin

__all__ = ["ArcFace", "arcface"]


def arcface(cosines: Tensor, labels: Tensor, *, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """Turn the true class away by an angle: ``cos t`` becomes ``cos(t + margin)``.

    Past ``t = pi - margin`` that curve would rise again, so it goes on as ``-2 - cos(t + margin)``: value and slope
    stay continuous and the logit keeps falling. The continuation is SphereFace's, not this paper's.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        margin: radians in [0, pi/2].
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`; off the true class, ``scale * cosines``.

    Raises:
        TensorError: `cosines` is not float [N, C], or `labels` not int64 [N].
        InputError: `margin`, `scale` or a label is out of range; degrees are the usual cause.

    Source: Deng et al., ArcFace, CVPR 2019, arXiv:1801.07698, eq. 3.

    >>> import torch
    >>> arcface(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), margin=0.0, scale=8.0)
    tensor([[4., 2.]])
    """
    check_angle("margin", margin)
    check_scale(scale)
    return scale * put(cosines, labels, shift(pick(cosines, labels), margin))


class ArcFace(Margin):
    """`arcface` as a margin: ``cos t`` becomes ``cos(t + margin)``; margin in radians, in [0, pi/2]."""

    def __init__(self, margin: float = 0.5) -> None:
        check_angle("margin", margin)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return shift(cosines, self.margin)
