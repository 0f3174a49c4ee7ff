"""Margins that multiply the angle: L-Softmax, SphereFace (A-Softmax) and SphereFace-R.

N: samples, C: classes. Angles are radians. The curve is ``psi(t) = (-1)^k cos(m t) - 2 k``, ``k = floor(m t / pi)``.
"""

import math

import torch
from torch import Tensor

from visavis.blocks.margins._curves import angle, check_number, check_scale, falling, pick, put
from visavis.blocks.margins.margin import Margin
from visavis.errors import InputError, expect

__all__ = ["LSoftmax", "SphereFace", "SphereFaceR", "chebyshev", "lsoftmax", "sphereface", "sphereface_r"]


def chebyshev(cosines: Tensor, degree: int) -> Tensor:
    """``cos(degree * t)`` from ``cos t`` for a whole degree >= 0, with no angle taken.

    The Chebyshev polynomial of the first kind by its recurrence ``T_{j+1} = 2 x T_j - T_{j-1}``. The slope is exact at
    both ends, too: there it is degree^2, times (-1)^(degree + 1) at -1.

    >>> import torch
    >>> chebyshev(torch.tensor([1.0, 0.5, 0.0]), 4)
    tensor([ 1.0000, -0.5000,  1.0000])
    """
    before, value = cosines, torch.ones_like(cosines)  # T_{-1} = T_1 = x, T_0 = 1
    for _ in range(degree):
        before, value = value, 2.0 * cosines * value - before
    return value


def _psi(cosines: Tensor, margin: int) -> Tensor:
    """`falling(margin * t)` by polynomials alone; at a border between two pieces both give the same."""
    turns = torch.zeros_like(cosines)
    for j in range(1, margin):
        turns = turns + (cosines <= math.cos(j * math.pi / margin))
    return (1.0 - 2.0 * turns.remainder(2.0)) * chebyshev(cosines, margin) - 2.0 * turns


def _check_factor(margin: object) -> None:
    if not (isinstance(margin, int) and margin >= 1):
        raise InputError(f"margin: expected a whole number from 1 on, got {margin}; SphereFaceR takes fractions")


def _blend(cosines: Tensor, margin: int, blend: Tensor | float) -> Tensor:
    return (blend * cosines + _psi(cosines, margin)) / (1.0 + blend)


def sphereface(
    cosines: Tensor, labels: Tensor, norms: Tensor, *, margin: int = 4, blend: float = 0.0, scale: float = 1.0
) -> Tensor:
    """Multiply the true class's angle: ``|x| cos t`` becomes ``|x| psi(t)``. Also known as A-Softmax.

    As a polynomial of the cosine: ``cos(m t)`` is the Chebyshev polynomial T_m, for any whole m.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        norms: [N] float, the length of each feature: the gain of its logits.
        margin: whole factor of the angle, from 1 on.
        blend: the paper's lambda >= 0: the target is ``(blend cos t + psi(t)) / (1 + blend)``. Large at first, as psi
            alone does not converge from a random start; `SphereFace` lowers it step by step.
        scale: positive gain on every logit; the paper has none.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: `margin`, `blend`, `scale` or a label is out of range.

    Source: Liu et al., SphereFace, CVPR 2017, arXiv:1704.08063, eq. 7.

    >>> import torch
    >>> sphereface(torch.tensor([[0.5, 0.0]]), torch.tensor([1]), torch.tensor([8.0]), margin=2)
    tensor([[ 4., -8.]])
    """
    _check_factor(margin)
    check_number("blend", blend, 0.0, math.inf)
    check_scale(scale)
    target = _blend(pick(cosines, labels), margin, blend)
    expect("norms", norms, "float", len(cosines))
    return scale * norms.to(cosines.dtype)[:, None] * put(cosines, labels, target)


class SphereFace(Margin):
    """`sphereface` as a margin, with the authors' annealing: ``blend = max(end, start / (1 + decay * step))``.

    The step is counted in a buffer, so a checkpoint holds it. Of the authors' four numbers their code fixes the power
    at 1, as we do.
    """

    scales_with_norm = True
    step: Tensor

    def __init__(self, margin: int = 4, *, start: float = 1000.0, end: float = 5.0, decay: float = 0.12) -> None:
        _check_factor(margin)
        check_number("start", start, 0.0, 1e6)
        check_number("end", end, 0.0, start)
        check_number("decay", decay, 0.0, 1e6)
        super().__init__()
        self.margin = margin
        self.start, self.end, self.decay = start, end, decay
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def blend(self) -> Tensor:
        """The weight of the plain cosine at this step."""
        return (self.start / (1.0 + self.decay * self.step)).clamp_min(self.end)

    def observe(self, cosines: Tensor, norms: Tensor) -> None:  # noqa: ARG002
        self.step = self.step + 1

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return _blend(cosines, self.margin, self.blend())


def lsoftmax(
    cosines: Tensor,
    labels: Tensor,
    norms: Tensor,
    class_norms: Tensor,
    *,
    margin: int = 4,
    blend: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """`sphereface` before the classes were normalised: ``|w| |x| cos t`` becomes ``|w| |x| psi(t)``.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        norms: [N] float, the length of each feature.
        class_norms: [C] float, the length of each class's row of weights.
        margin: whole factor of the angle, from 1 on.
        blend: as in `sphereface`.
        scale: positive gain on every logit; the paper has none.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: `margin`, `blend`, `scale` or a label is out of range.

    Source: Liu et al., Large-Margin Softmax Loss, ICML 2016, arXiv:1612.02295, eq. 4 to 6.

    >>> import torch
    >>> cosines, norms = torch.tensor([[0.5, 0.0]]), torch.tensor([8.0])
    >>> lsoftmax(cosines, torch.tensor([1]), norms, torch.tensor([2.0, 1.0]), margin=2)
    tensor([[ 8., -8.]])
    """
    logits = sphereface(cosines, labels, norms, margin=margin, blend=blend, scale=scale)
    expect("class_norms", class_norms, "float", cosines.shape[1])
    return logits * class_norms.to(cosines.dtype)


class LSoftmax(SphereFace):
    """`lsoftmax` as a margin: `SphereFace`, its annealing too, whose caller multiplies in the length of each class."""

    normalizes_classes = False


def _check_real_factor(margin: float) -> None:
    check_number("margin", margin, 1.0, 16.0)


def sphereface_r(cosines: Tensor, labels: Tensor, *, margin: float = 1.5, scale: float = 30.0) -> Tensor:
    """SphereFace for normalised features and fractions: ``cos t`` becomes ``psi(t)``, ``margin`` any number >= 1.

    Where the paper's first version stops at ``cos(min(margin t, pi))`` we fall on as SphereFace does: a flat piece has
    no slope, and it is the worst samples that would lie on it. The paper gives them one by replacing the gradient with
    that of the plain cosine ("characteristic gradient detachment"); ours is the gradient of the value.

    Args, returns and errors as `arcface`, but the margin is a factor of the angle in [1, 16].

    Source: Liu et al., SphereFace Revived, PAMI 45(2), 2023, arXiv:2109.05565, with hard feature normalisation.

    >>> import torch
    >>> sphereface_r(torch.tensor([[0.5, 0.0]]), torch.tensor([1]), margin=2.0, scale=8.0)
    tensor([[ 4., -8.]])
    """
    _check_real_factor(margin)
    check_scale(scale)
    return scale * put(cosines, labels, falling(margin * angle(pick(cosines, labels))))


class SphereFaceR(Margin):
    """`sphereface_r` as a margin: ``cos t`` becomes ``psi(t)``; any factor of the angle in [1, 16]."""

    def __init__(self, margin: float = 1.5) -> None:
        _check_real_factor(margin)
        super().__init__()
        self.margin = margin

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return falling(self.margin * angle(cosines))
