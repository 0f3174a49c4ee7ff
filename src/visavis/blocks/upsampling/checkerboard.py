"""Checkerboards: found exactly, explained by phases, and how to choose a layer free of them.

Shapes: an upsampling by (sy, sx) repeats itself every sy x sx output pixels; position ``(y mod sy, x mod sx)`` is the
phase of an output pixel. A constant image must come out constant: what its phases differ by is the checkerboard.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from visavis.blocks._plots import figure_class
from visavis.blocks.upsampling._checks import positive
from visavis.blocks.upsampling.transposed import bilinear_
from visavis.errors import InputError, TensorError, expect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Checkerboard", "Start", "Suggestion", "checkerboard", "overlap", "phase_sums", "suggest"]

Start = Literal["constant", "bilinear", "equal phases"]


def overlap(kernel: int, stride: int, *, dilation: int = 1) -> list[int]:
    """How many taps of a transposed convolution reach each phase, along one axis; without padding.

    Tap k of pixel h lands on ``stride h + dilation k``, so it serves phase ``dilation k mod stride``. The counts are
    equal if `stride` divides `kernel` and has no common divisor with `dilation`; where one is 0, pixels get nothing.

    Raises:
        InputError: a number below 1.

    >>> overlap(3, 2), overlap(4, 2), overlap(3, 2, dilation=2)
    ([2, 1], [2, 2], [3, 0])
    """
    positive("kernel", kernel), positive("stride", stride), positive("dilation", dilation)
    taps = [tap * dilation % stride for tap in range(kernel)]
    return [taps.count(phase) for phase in range(stride)]


def phase_sums(weight: Tensor, stride: int, *, padding: int = 0, dilation: int = 1) -> Tensor:
    """What each phase of a transposed convolution makes of a constant 1, away from the border and without its bias.

    ``sums[c, k, p, q] = sum of weight[c, k, i, j] with p = dilation i - padding, q = dilation j - padding mod stride``

    The layer is free of a checkerboard, whatever comes in, exactly if ``sums`` is the same for all (p, q).

    Args:
        weight: float [C, K, kh, kw] of `nn.ConvTranspose2d`, one group.
        stride: of both axes.
        padding: the layer's; it turns the phases round.
        dilation: the layer's.

    Returns:
        [C, K, stride, stride].

    Raises:
        TensorError: `weight` is not float [C, K, kh, kw].
        InputError: `stride` or `dilation` below 1, or `padding` below 0.

    Source: Odena et al., Deconvolution and Checkerboard Artifacts, Distill, 2016.

    >>> phase_sums(torch.ones(1, 1, 3, 3), 2)[0, 0]
    tensor([[4., 2.],
            [2., 1.]])
    """
    expect("weight", weight, "float", None, None, None, None)
    positive("stride", stride), positive("dilation", dilation), positive("padding", padding, 0)
    sums = weight.new_zeros(*weight.shape[:2], stride, weight.shape[3])
    rows, columns = (
        (torch.arange(length, device=weight.device) * dilation - padding) % stride for length in weight.shape[2:]
    )
    sums = sums.index_add(2, rows, weight)
    return sums.new_zeros(*weight.shape[:2], stride, stride).index_add(3, columns, sums)


@dataclass(frozen=True)
class Checkerboard:
    """What a module makes of constant images, phase by phase."""

    phases: Tensor
    """[B, K, sy, sx]: the response of output channel K to constant B."""
    tolerance: float
    """Rounding: what `relative` may be of a module that has no checkerboard."""

    @property
    def spread(self) -> float:
        """The largest difference between two phases, over all constants and channels."""
        return float((self.phases.amax((2, 3)) - self.phases.amin((2, 3))).max())

    @property
    def relative(self) -> float:
        """`spread` over the root mean square of the responses; 0 where there is none."""
        size = float(self.phases.square().mean().sqrt())
        return self.spread / size if size else 0.0

    @property
    def free(self) -> bool:
        """Whether all phases are equal to rounding."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        sy, sx = self.phases.shape[2:]
        verdict = "no checkerboard" if self.free else "checkerboard"
        return f"{verdict}: {sy} x {sx} phases differ by {self.spread:.3g}, {self.relative:.2%} of the response"

    def draw(self, *, repeats: int = 6) -> "Figure":
        """The output channel that is worst, as the image that a constant becomes; white is the largest response.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        make_figure = figure_class()
        spreads = (self.phases.amax((2, 3)) - self.phases.amin((2, 3))).flatten()
        worst = self.phases.flatten(0, 1)[spreads.argmax()].repeat(repeats, repeats)
        figure = make_figure(figsize=(2.6, 2.8), layout="constrained")
        axis = figure.subplots()
        low, high = float(worst.min()), float(worst.max())
        if self.free:  # rounding is no picture
            low, high = low - 1, high + 1
        axis.imshow(worst.tolist(), cmap="gray", vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[], title=f"spread {self.relative:.1%}")
        return figure


@torch.no_grad()
def checkerboard(
    module: nn.Module, channels: int, *, size: int = 32, period: int | None = None, constants: Tensor | None = None
) -> Checkerboard:
    """Feed constant images to a module that upsamples, and compare the phases of what comes out, away from the border.

    For a module that is linear (plus a bias), the default constants, 0 and each channel alone, decide for all
    constants: all responses are sums of theirs. For others they are samples, and `constants` may name more. The
    middle half of the output is looked at; if it does not repeat itself, the border reaches into it and the answer
    would be wrong, so that is an error.

    Args:
        module: from [B, channels, size, size] to [B, K, height, width], both larger by a whole factor, in float32 or
            float64; run in eval mode, and left as it was.
        channels: of the input.
        size: pixels of a side; more than twice the receptive field.
        period: output pixels after which the module repeats itself; its factor, if not given. A network that shrinks
            by d first repeats itself after d times its factor.
        constants: float [B, channels], one colour an image.

    Returns:
        `phases` [B, K, period, period]; phase 0 is the output's row and column 0.

    Raises:
        TensorError: `constants` is not float [B, channels], or the module returns no [B, K, height, width].
        InputError: a number below 1, half precision, no whole factor, or a response that does not repeat itself.

    >>> print(checkerboard(nn.Upsample(scale_factor=2), 1))
    no checkerboard: 2 x 2 phases differ by 0, 0.00% of the response
    >>> layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)
    >>> _ = nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    >>> print(checkerboard(layer, 1))
    checkerboard: 2 x 2 phases differ by 3, 169.71% of the response
    """
    positive("channels", channels), positive("size", size)
    first = next(module.parameters(), torch.empty(0))
    if first.dtype in (torch.bfloat16, torch.float16):
        raise InputError(
            f"module: expected float32 or float64, got {first.dtype}, whose rounding looks like a checkerboard"
        )
    if constants is None:
        constants = torch.cat([torch.zeros(1, channels), torch.eye(channels)])
    expect("constants", constants, "float", None, channels)
    images = constants.to(first)[:, :, None, None].expand(-1, -1, size, size).contiguous()
    modes = [(part, part.training) for part in module.modules()]
    try:
        out = module.eval()(images)
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(out, Tensor) or out.ndim != 4:
        got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise TensorError(f"module: expected it to return [B, K, height, width], got {got}")
    steps = [round(length / size) if period is None else positive("period", period) for length in out.shape[2:]]
    if min(steps) < 1 or (
        period is None and any(abs(n - size * s) > s for n, s in zip(out.shape[2:], steps, strict=True))
    ):
        raise InputError(f"module: expected an output larger by a whole factor, got {size} to {list(out.shape[2:])}")
    cells = [max(1, length // (4 * step)) for length, step in zip(out.shape[2:], steps, strict=True)]
    (y, x), (sy, sx) = cells, steps
    middle = out[:, :, y * sy : 3 * y * sy, x * sx : 3 * x * sx].double()
    if middle.shape[2:] != (2 * y * sy, 2 * x * sx):
        raise InputError(f"size: expected more than {size} pixels, the output has no two periods away from its border")
    tiles = middle.view(*out.shape[:2], 2 * y, sy, 2 * x, sx)
    phases = tiles.mean((2, 4))
    scale = float(phases.square().mean().sqrt())
    # Between cells and between phases alike: terms of one sum in another order.
    tolerance = 64 * torch.finfo(out.dtype).eps
    if not float((tiles - phases[:, :, None, :, None]).abs().max()) <= tolerance * scale:
        raise InputError(
            f"module: expected a response that repeats itself every {sy} x {sx} pixels, got another; the border "
            f"reaches the middle of {size} pixels (give a larger size), or the module's period is another"
        )
    return Checkerboard(phases, tolerance)


@dataclass(frozen=True)
class Suggestion:
    """A transposed convolution that multiplies the size by its stride exactly, and what it begins free with."""

    kernel: int
    stride: int
    padding: int
    output_padding: int
    taps: tuple[int, ...]
    """Per phase and axis, at phase 0 of the output first."""
    even_with: tuple[Start, ...]
    """Initialisations under which all phases of a constant's response are equal, by computation."""

    @property
    def even(self) -> bool:
        """Whether all phases have as many taps: then random weights differ by chance only, not by design."""
        return len(set(self.taps)) == 1


def suggest(scale: int, *, largest: int | None = None) -> list[Suggestion]:
    """Transposed convolutions for a scale: kernels, paddings, and what they are free of a checkerboard with.

    No kernel is free of it for all weights: training can bring it back. What can be chosen is that no phase has more
    taps than another (the stride divides the kernel), and weights to begin with whose phases have equal sums: all equal
    (``constant``), `bilinear_`, or one filter for all phases (``equal phases``, kernel = stride: `PatchTranspose2d`).
    Free for all weights is a `resize` followed by a convolution of stride 1.

    Args:
        scale: the stride wanted.
        largest: kernel; two and a half strides, rounded up, if not given.

    Returns:
        Even ones first, then by kernel; a kernel below the stride, which leaves pixels empty, is not among them.

    Raises:
        InputError: `scale` below 1, or `largest` below it.

    >>> for found in suggest(2):
    ...     print(found.kernel, found.stride, found.padding, found.taps, found.even_with)
    2 2 0 (1, 1) ('constant', 'equal phases')
    4 2 1 (2, 2) ('constant', 'bilinear')
    3 2 1 (1, 2) ()
    5 2 2 (3, 2) ()
    """
    positive("scale", scale)
    last = positive("largest", largest, scale) if largest is not None else -(-5 * scale // 2)
    # at stride 1 an even kernel changes the size
    found = [_suggestion(kernel, scale) for kernel in range(scale, last + 1) if scale > 1 or kernel % 2]
    return sorted(found, key=lambda one: (not one.even, one.kernel))


def _suggestion(kernel: int, scale: int) -> Suggestion:
    """The size comes out as ``(H - 1) scale - 2 padding + kernel + output_padding = H scale``."""
    output_padding = (kernel - scale) % 2
    padding = (kernel - scale + output_padding) // 2
    counts = overlap(kernel, scale)
    starts: dict[Start, Tensor] = {"constant": torch.ones(1, 1, kernel, kernel, dtype=torch.float64)}
    if kernel == 2 * scale - scale % 2:
        starts["bilinear"] = bilinear_(torch.empty(1, 1, kernel, kernel, dtype=torch.float64), scale)
    if kernel == scale:
        each = torch.tensor([[0.3, -0.7], [1.1, 0.2]], dtype=torch.float64)  # any
        starts["equal phases"] = each[:, :, None, None].expand(-1, -1, kernel, kernel)
    even_with = []
    for name, weight in starts.items():
        sums = phase_sums(weight, scale)
        if float((sums.amax((2, 3)) - sums.amin((2, 3))).max()) < 1e-12:
            even_with.append(name)
    taps = tuple(counts[(phase + padding) % scale] for phase in range(scale))
    return Suggestion(kernel, scale, padding, output_padding, taps, tuple(even_with))
