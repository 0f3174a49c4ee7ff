"""Margins that differ from sample to sample: by length, by progress of the training, or by chance.

N: samples, C: classes. Angles are radians. The length of a feature before its normalisation stands for how good the
photo is. What a margin learns of the batches it saw lies in buffers, so a checkpoint holds it.
"""

import torch
from torch import Tensor

from visavis.blocks.approximation import update_mean
from visavis.blocks.margins._curves import check_angle, check_number, check_scale, pick, put, shift
from visavis.blocks.margins._draws import normal
from visavis.blocks.margins.margin import Margin
from visavis.errors import InputError, expect

__all__ = [
    "AdaFace",
    "CurricularFace",
    "ElasticCosFace",
    "ElasticFace",
    "MagFace",
    "adaface",
    "curricularface",
    "elasticface",
    "magface",
]


def _followed(mean: Tensor, value: Tensor, rate: float) -> Tensor:
    """A running statistic one batch on; a batch with NaN, or too small to have the statistic, does not count."""
    moved = update_mean(mean, value.to(mean.dtype), rate)
    return torch.where(moved.isfinite(), moved, mean)


def _harder(cosines: Tensor, own: Tensor, t: Tensor) -> Tensor:
    t = t.to(cosines.dtype).clamp_min(0.0)
    return torch.where((cosines > own) & (cosines > 0.0), cosines * (t + cosines), cosines)


def curricularface(cosines: Tensor, labels: Tensor, *, t: float, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """ArcFace that also weighs the classes a sample is confused with: ``cos s`` becomes ``cos s (t + cos s)``.

    That is for every other class with ``cos s > cos(own angle + margin)``. `t` is the running mean of the own cosines:
    at first, near 0, it plays hard negatives down, later up.

    The paper's curve rises again where ``cos s < -t / 2``: it would push a class that is far off further towards the
    sample. We change positive cosines only, and take a negative `t` as 0; so the gradient always points away.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        t: running mean of the true-class cosines, in [-1, 1]; `CurricularFace` keeps it.
        margin: radians in [0, pi/2].
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: `t`, `margin`, `scale` or a label is out of range; degrees are the usual cause.

    Source: Huang et al., CurricularFace, CVPR 2020, arXiv:2004.00288.

    >>> import torch
    >>> curricularface(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), t=0.5, margin=0.0, scale=8.0)
    tensor([[4., 2.]])
    >>> curricularface(torch.tensor([[0.75, 0.25]]), torch.tensor([1]), t=0.5, margin=0.0, scale=8.0)
    tensor([[7.5000, 2.0000]])
    """
    check_number("t", t, -1.0, 1.0)
    check_angle("margin", margin)
    check_scale(scale)
    target = shift(pick(cosines, labels), margin)
    hardened = _harder(cosines, target.detach().to(cosines.dtype)[:, None], torch.tensor(t))
    return scale * put(hardened, labels, target)


class CurricularFace(Margin):
    """`curricularface` as a margin; `t` follows the mean true-class cosine of each batch at a rate of 0.01."""

    changes_others = True
    t: Tensor

    def __init__(self, margin: float = 0.5, *, rate: float = 0.01) -> None:
        check_angle("margin", margin)
        check_number("rate", rate, 0.0, 1.0)
        super().__init__()
        self.margin = margin
        self.rate = rate
        self.register_buffer("t", torch.zeros(()))

    def observe(self, cosines: Tensor, norms: Tensor) -> None:  # noqa: ARG002
        self.t = _followed(self.t, cosines.mean(), self.rate)

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return shift(cosines, self.margin)

    def others(self, cosines: Tensor, target: Tensor) -> Tensor:
        return _harder(cosines, shift(target.detach(), self.margin), self.t)


class MagFace(Margin):
    """A margin that grows with the length of the feature, and a penalty that makes features long: see `magface`.

    Args of the constructor:
        low_margin, high_margin: radians at a length of `low_norm` and of `high_norm`; linear in between.
        low_norm, high_norm: lengths between which the paper wants every feature.
        weight: of the penalty, the paper's lambda.
    """

    uses_norms = True

    def __init__(
        self,
        low_margin: float = 0.45,
        high_margin: float = 0.8,
        *,
        low_norm: float = 10.0,
        high_norm: float = 110.0,
        weight: float = 35.0,
    ) -> None:
        check_angle("low_margin", low_margin)
        check_angle("high_margin", high_margin)
        if not low_margin <= high_margin:
            raise InputError(f"high_margin: expected at least low_margin, {low_margin}, got {high_margin}")
        check_number("high_norm", high_norm, 0.0, 1e6)
        if not 0.0 < low_norm < high_norm:
            raise InputError(f"low_norm: expected a length in (0, {high_norm}), got {low_norm}")
        check_number("weight", weight, 0.0, 1e6)
        super().__init__()
        self.low_margin, self.high_margin = low_margin, high_margin
        self.low_norm, self.high_norm = low_norm, high_norm
        self.weight = weight

    def margin(self, norms: Tensor) -> Tensor:
        """The margin at each length, in radians; beyond the range it stays at its ends."""
        share = (norms.clamp(self.low_norm, self.high_norm) - self.low_norm) / (self.high_norm - self.low_norm)
        return self.low_margin + (self.high_margin - self.low_margin) * share

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:
        return shift(cosines, self.margin(norms))

    def penalty(self, norms: Tensor) -> Tensor:
        """``weight * (a / high^2 + 1 / a)`` for a length a, which is least at `high_norm`.

        Below `low_norm` it goes on as its tangent: finite for a feature of length 0, and steep enough to bring it back.
        The authors' code clamps the length instead, and lets such a feature lie.
        """
        inside = norms.clamp_min(self.low_norm)
        curve = inside / self.high_norm**2 + 1.0 / inside
        tangent = norms / self.high_norm**2 + (2.0 - norms / self.low_norm) / self.low_norm
        return self.weight * torch.where(norms < self.low_norm, tangent, curve)


def magface(
    cosines: Tensor,
    labels: Tensor,
    norms: Tensor,
    *,
    low_margin: float = 0.45,
    high_margin: float = 0.8,
    low_norm: float = 10.0,
    high_norm: float = 110.0,
    scale: float = 64.0,
) -> Tensor:
    """ArcFace whose margin grows linearly with the feature's length, from `low_margin` to `high_margin`.

    The logits alone: the loss needs `MagFace.penalty` beside them, without which lengths only shrink.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        norms: [N] float, the length of each feature; the logits are differentiable in it.
        low_margin: radians at `low_norm` and below.
        high_margin: radians at `high_norm` and above.
        low_norm: positive length.
        high_norm: a greater one.
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: a setting or a label is out of range; degrees are the usual cause.

    Source: Meng et al., MagFace, CVPR 2021, arXiv:2103.06627.

    >>> import torch
    >>> labels = torch.tensor([0])
    >>> logits = magface(torch.tensor([[0.5, 0.0]]), labels, torch.tensor([10.0]), low_margin=0.0, scale=8.0)
    >>> logits.round(decimals=4)
    tensor([[4., 0.]])
    """
    margin = MagFace(low_margin, high_margin, low_norm=low_norm, high_norm=high_norm)
    logits: Tensor = margin(cosines, labels, norms, scale=scale)
    return logits


def _by_quality(cosines: Tensor, norms: Tensor, mean: Tensor, std: Tensor, margin: float, spread: float) -> Tensor:
    quality = ((norms.detach() - mean) / (std + 1e-3) * spread).clamp(-1.0, 1.0)  # 1e-3: as the authors' code
    return shift(cosines, -margin * quality) - margin * (quality + 1.0)


def _check_quality(margin: float, spread: float) -> None:
    check_angle("margin", margin)
    check_number("spread", spread, 0.0, 10.0)


def adaface(
    cosines: Tensor,
    labels: Tensor,
    norms: Tensor,
    *,
    mean: float,
    std: float,
    margin: float = 0.4,
    spread: float = 0.333,
    scale: float = 64.0,
) -> Tensor:
    """Ask for the hard sample where the photo is good, and let it go where it is not: by the feature's length.

    With the quality ``z = clip(spread * (norm - mean) / std, -1, 1)`` the true class gets
    ``cos(t - margin z) - margin (z + 1)``: at z = -1 ArcFace, at 0 CosFace, at 1 a shift towards the other side.

    For z > 0 the paper's curve rises at ``t < margin z``, where a sample would be sent off its centre (the authors'
    code makes it flat there); ours falls on as ``2 - cos(t - margin z)``, and as in `arcface` at the far end.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        norms: [N] float, the length of each feature; no gradient goes through it.
        mean: running mean of the lengths; `AdaFace` keeps it and the next.
        std: running standard deviation of the lengths.
        margin: in [0, pi/2]; radians in one place, a difference of cosines in the other.
        spread: how many standard deviations a quality of 1 is away, inverted; the paper's h.
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: a setting or a label is out of range; degrees are the usual cause.

    Source: Kim et al., AdaFace, CVPR 2022, arXiv:2204.00964.

    >>> import torch
    >>> adaface(torch.tensor([[0.5, 0.0]]), torch.tensor([0]), torch.tensor([20.0]), mean=20.0, std=1.0, margin=0.25,
    ...         scale=8.0)
    tensor([[2., 0.]])
    """
    _check_quality(margin, spread)
    check_number("std", std, 0.0, float("inf"))
    check_scale(scale)
    raw = pick(cosines, labels)
    expect("norms", norms, "float", len(cosines))
    target = _by_quality(raw, norms.to(raw.dtype), torch.tensor(mean), torch.tensor(std), margin, spread)
    return scale * put(cosines, labels, target)


class AdaFace(Margin):
    """`adaface` as a margin, which follows mean and standard deviation of the lengths from batch to batch.

    Both start at the authors' 20 and 100 and move by `rate`. That is the authors' code; the paper's equation, read as
    it stands, gives the newest batch a weight of 0.99. Lengths are cut to [0.001, 100] before, as theirs.
    """

    uses_norms = True
    mean: Tensor
    std: Tensor

    def __init__(self, margin: float = 0.4, *, spread: float = 0.333, rate: float = 0.01) -> None:
        _check_quality(margin, spread)
        check_number("rate", rate, 0.0, 1.0)
        super().__init__()
        self.margin = margin
        self.spread = spread
        self.rate = rate
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def observe(self, cosines: Tensor, norms: Tensor) -> None:  # noqa: ARG002
        if len(norms) > 1:  # one has no spread
            std, mean = torch.std_mean(norms.clamp(1e-3, 100.0))
            self.mean = _followed(self.mean, mean, self.rate)
            self.std = _followed(self.std, std, self.rate)

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:
        return _by_quality(cosines, norms.clamp(1e-3, 100.0), self.mean, self.std, self.margin, self.spread)


def elasticface(cosines: Tensor, labels: Tensor, margins: Tensor, *, scale: float = 64.0) -> Tensor:
    """ArcFace with a margin of its own for every sample: ``cos(t + margins[n])``; the paper draws them at random.

    Args:
        cosines: [N, C] float in [-1, 1], sample n against class centre c.
        labels: [N] int64 in [0, C).
        margins: [N] float, radians in [-pi, pi]; a look at the range would stall a GPU.
        scale: positive gain on every logit.

    Returns:
        [N, C], dtype and device of `cosines`.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: `scale` or a label is out of range.

    Source: Boutros et al., ElasticFace, CVPR Workshops 2022, arXiv:2109.09416.

    >>> import torch
    >>> elasticface(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), torch.tensor([0.0]), scale=8.0)
    tensor([[4., 2.]])
    """
    check_scale(scale)
    raw = pick(cosines, labels)
    expect("margins", margins, "float", len(cosines))
    return scale * put(cosines, labels, shift(raw, margins.to(raw.dtype)))


class _Elastic(Margin):
    """Margins drawn from a normal distribution, each a function of (seed, step, place in the batch)."""

    seed: Tensor
    step: Tensor

    def __init__(self, margin: float, spread: float, seed: int) -> None:
        check_number("spread", spread, 0.0, 0.2)
        check_number("seed", seed, 0, 2**32 - 1)
        super().__init__()
        self.margin = margin
        self.spread = spread
        self.register_buffer("seed", torch.tensor(seed, dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def observe(self, cosines: Tensor, norms: Tensor) -> None:  # noqa: ARG002
        self.step = self.step + 1

    def margins(self, like: Tensor) -> Tensor:
        """The margins of this step, as many as `like` has entries; when not training, the mean for all."""
        if not self.training:
            return torch.full_like(like, self.margin)
        return self.margin + self.spread * normal(self.seed, self.step, len(like)).to(like.dtype)


class ElasticFace(_Elastic):
    """`elasticface` as a margin: a new normal draw for every sample and step, radians.

    Every rank and every resumed training draws the same, from the seed and the step in its buffers, on any device.
    """

    def __init__(self, margin: float = 0.5, *, spread: float = 0.0125, seed: int = 0) -> None:
        check_angle("margin", margin)
        super().__init__(margin, spread, seed)

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return shift(cosines, self.margins(cosines))


class ElasticCosFace(_Elastic):
    """The same paper's other form: CosFace with a normal draw of its margin, a difference of cosines."""

    def __init__(self, margin: float = 0.35, *, spread: float = 0.0125, seed: int = 0) -> None:
        check_number("margin", margin, 0.0, 1.0)
        super().__init__(margin, spread, seed)

    def target(self, cosines: Tensor, norms: Tensor) -> Tensor:  # noqa: ARG002
        return cosines - self.margins(cosines)
