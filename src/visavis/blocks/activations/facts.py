"""The fact sheet of an activation: who introduced it and who uses it, told; everything else, computed.

`properties` measures any function of one number, so that a new activation needs no one to work out its constants.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from visavis.blocks._plots import figure_class
from visavis.blocks.activations.gated import bilinear, geglu, glu, reglu, swiglu
from visavis.blocks.activations.parametric import maxout, prelu, rrelu, snake, swish, xielu
from visavis.blocks.activations.pointwise import (
    gelu,
    hard_sigmoid,
    quick_gelu,
    sigmoid,
    softplus,
    softsign,
    squared_relu,
    tanh,
    tanh_gelu,
)
from visavis.blocks.activations.steps import sign, threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ACTIVATIONS", "Activation", "Properties", "draw", "properties"]


@dataclass(frozen=True)
class Properties:
    """What `properties` found; a kink or a jump has two slopes, from the left and from the right."""

    low: float  # infimum and supremum of the values
    high: float
    left: float  # limits for x -> -inf and inf; NaN where there is none
    right: float
    zeros: tuple[tuple[float, float], ...]  # intervals on which the value is 0; a point has both ends alike
    slopes_at_zero: tuple[float, float]
    lipschitz: float  # inf where slopes grow without bound, or the value jumps
    monotone: bool

    @property
    def saturates(self) -> str:
        """On which sides the value levels off: left, right, both or neither."""
        sides = [name for name, limit in (("left", self.left), ("right", self.right)) if math.isfinite(limit)]
        return "both" if len(sides) == 2 else sides[0] if sides else "neither"


def properties(function: Callable[[Tensor], Tensor]) -> Properties:
    """Range, limits, zeros, slopes and Lipschitz constant of a function of one number, found in float64.

    Looked for on a grid, every 1/1000 from -50 to 50 and logarithmic to 1e12, and refined to about 1e-9 by zooming in;
    what happens between two points of the grid and is over by the second is not seen.

    Args:
        function: of float tensors, number by number. Slopes are its gradient, so a surrogate's where it has one; that
            the value jumps is seen all the same.

    >>> properties(torch.nn.functional.relu).zeros
    ((-inf, 0.0),)
    >>> round(properties(torch.nn.functional.silu).low, 5)
    -0.27846
    """
    even = torch.arange(-50_000, 50_001, dtype=torch.float64) / 1000
    far = torch.logspace(math.log10(50), 12, 2001, dtype=torch.float64)[1:]
    grid = torch.cat([-far.flip(0), even, far])
    values, slopes = function(grid).detach(), _slope(function)(grid).abs()
    left, right = _limit(function, -1.0), _limit(function, 1.0)
    limits = [limit for limit in (left, right) if not math.isnan(limit)]
    steepest = _largest(lambda x: _slope(function)(x).abs(), grid, slopes)
    near, rise = slice(len(far), len(far) + len(even)), values.diff().abs()
    jumps = rise[near][: len(even) - 1] / even.diff() > 10 * (1 + torch.maximum(slopes[near][1:], slopes[near][:-1]))
    jumps_at_zero = bool((jumps & (even[1:] >= 0) & (even[:-1] <= 0)).any())
    at_zero = _slope(function)(torch.tensor([-1e-12, 1e-12], dtype=torch.float64)).tolist()
    return Properties(
        low=_settled(min([-_largest(lambda x: -function(x), grid, -values), *limits])),
        high=_settled(max([_largest(function, grid, values), *limits])),
        left=left,
        right=right,
        zeros=_zeros(function, grid, values),
        slopes_at_zero=(math.inf, math.inf) if jumps_at_zero else (at_zero[0], at_zero[1]),
        lipschitz=math.inf if jumps.any() else _settled(steepest),
        monotone=bool((values.diff() >= -1e-12).all()),
    )


def _slope(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x).sum(), x)[0]

    return slope


def _settled(value: float) -> float:
    """A value met at 1e12 that still grows there stands for infinity."""
    return math.copysign(math.inf, value) if abs(value) > 1e6 else value


def _limit(function: Callable[[Tensor], Tensor], side: float) -> float:
    near, far = function(torch.tensor([side * 1e11, side * 1e12], dtype=torch.float64)).tolist()
    if abs(far) > 1e6:
        return math.copysign(math.inf, far)
    return round(far, 9) + 0.0 if abs(far - near) < 1e-9 else math.nan


def _largest(function: Callable[[Tensor], Tensor], grid: Tensor, values: Tensor) -> float:
    """The largest value near the grid's largest."""
    for _ in range(6):
        best = int(values.argmax())
        low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
        grid = torch.linspace(low, high, 101, dtype=torch.float64)
        values = function(grid).detach()
    return float(values.max())


def _zeros(function: Callable[[Tensor], Tensor], grid: Tensor, values: Tensor) -> tuple[tuple[float, float], ...]:
    """Runs of exact zeros, and where the sign changes; values that shrink until they underflow are not zeros."""

    def last(inside: Tensor, outside: Tensor) -> float:
        """Between two points: the end of where the sign is that of the first."""
        sign = torch.sign(function(inside))
        for _ in range(80):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if torch.sign(function(middle)) == sign else (inside, middle)
        return round(float(inside), 9) + 0.0

    found = []
    runs = torch.diff((values == 0).int(), prepend=torch.tensor([0]), append=torch.tensor([0]))
    for first, end in zip(runs.eq(1).nonzero().flatten(), runs.eq(-1).nonzero().flatten(), strict=True):
        beside = [float(values[at].abs()) for at in (first - 1, end) if 0 <= at < len(values)]
        if min(beside, default=1.0) > 1e-100:
            low = last(grid[first], grid[first - 1]) if first > 0 else -math.inf
            high = last(grid[end - 1], grid[end]) if end < len(values) else math.inf
            found.append((low, high))
    crossings = (values[1:] * values[:-1] < 0).nonzero().flatten()
    found.extend((last(grid[at], grid[at + 1]),) * 2 for at in crossings)
    return tuple(sorted(found))


@dataclass(frozen=True)
class Activation:
    """One line of the gallery. `function` is of one number; a gated one's of its gate, the value being 1."""

    name: str
    function: Callable[[Tensor], Tensor]
    formula: str
    year: int
    introduced_by: str
    used_by: str


def _gate(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda gate: function(gate, torch.ones_like(gate))


def _with(function: Callable[..., Tensor], *parameters: float) -> Callable[[Tensor], Tensor]:
    return lambda x: function(
        x, *(torch.tensor([parameter], dtype=torch.promote_types(x.dtype, torch.float32)) for parameter in parameters)
    )


ACTIVATIONS = (
    Activation(
        "threshold",
        threshold,
        "1 if x > 0 else 0",
        1943,
        "McCulloch and Pitts; Rosenblatt's perceptron, 1957",
        "the perceptron; spiking networks",
    ),
    Activation("sign", sign, "x / |x|", 1960, "Widrow and Hoff's ADALINE", "binary networks"),
    Activation(
        "sigmoid",
        sigmoid,
        "1 / (1 + exp(-x))",
        1838,
        "Verhulst; in networks Rumelhart et al., 1986",
        "gates of LSTM and GRU, binary outputs",
    ),
    Activation("hard_sigmoid", hard_sigmoid, "clip(x / 6 + 1/2, 0, 1)", 2015, "Courbariaux et al.", "MobileNetV3"),
    Activation("tanh", tanh, "2 sigmoid(2 x) - 1", 1989, "LeCun et al.", "LeNet, LSTM, GRU"),
    Activation("hard_tanh", functional.hardtanh, "clip(x, -1, 1)", 2004, "Collobert", "binary networks"),
    Activation("softsign", softsign, "x / (1 + |x|)", 2009, "Bergstra et al.", "few"),
    Activation(
        "relu",
        functional.relu,
        "max(0, x)",
        1969,
        "Fukushima; deep networks: Nair and Hinton, 2010",
        "AlexNet, VGG, ResNet",
    ),
    Activation("relu6", functional.relu6, "clip(x, 0, 6)", 2010, "Krizhevsky", "MobileNetV1 and V2"),
    Activation(
        "leaky_relu",
        lambda x: functional.leaky_relu(x, 0.1),
        "x if x > 0 else x / 10",
        2013,
        "Maas et al.",
        "YOLOv2 and v3, discriminators of GANs",
    ),
    Activation(
        "prelu",
        lambda x: prelu(x, x.new_tensor([0.25])),
        "x if x > 0 else a x",
        2015,
        "He et al.",
        "face recognisers: ArcFace's ResNets, MobileFaceNet",
    ),
    Activation(
        "rrelu",
        lambda x: rrelu(x, training=False),
        "x if x > 0 else a x, a drawn",
        2015,
        "Xu et al.",
        "few",
    ),
    Activation(
        "maxout",
        lambda x: maxout(torch.stack([-x - 1, x / 4, x - 1], -1), 3).squeeze(-1),
        "the largest of k linear functions",
        2013,
        "Goodfellow et al.",
        "its kin max-feature-map: LightCNN for faces",
    ),
    Activation("elu", functional.elu, "x if x > 0 else exp(x) - 1", 2015, "Clevert et al.", "few"),
    Activation(
        "selu",
        functional.selu,
        "1.0507 (x if x > 0 else 1.6733 (exp(x) - 1))",
        2017,
        "Klambauer et al.",
        "self-normalising networks",
    ),
    Activation("celu", functional.celu, "x if x > 0 else a (exp(x / a) - 1)", 2017, "Barron", "few"),
    Activation(
        "softplus",
        softplus,
        "log(1 + exp(x))",
        2000,
        "Dugas et al.",
        "positive outputs: scales, Mamba's step",
    ),
    Activation("gelu", gelu, "x Phi(x)", 2016, "Hendrycks and Gimpel", "BERT, ViT, ConvNeXt"),
    Activation("tanh_gelu", tanh_gelu, "x sigmoid(1.596 (x + 0.044715 x^3))", 2016, "Hendrycks and Gimpel", "GPT-2"),
    Activation("quick_gelu", quick_gelu, "x sigmoid(1.702 x)", 2016, "Hendrycks and Gimpel", "CLIP"),
    Activation(
        "silu",
        functional.silu,
        "x sigmoid(x)",
        2016,
        "Hendrycks and Gimpel; Elfwing et al.; Swish",
        "EfficientNet, YOLOv5",
    ),
    Activation("swish", _with(swish, 2.0), "x sigmoid(b x)", 2017, "Ramachandran et al.", "as SiLU, mostly"),
    Activation("hard_swish", functional.hardswish, "x clip(x / 6 + 1/2, 0, 1)", 2019, "Howard et al.", "MobileNetV3"),
    Activation("mish", functional.mish, "x tanh(log(1 + exp(x)))", 2019, "Misra", "YOLOv4"),
    Activation("squared_relu", squared_relu, "max(0, x)^2", 2021, "So et al., Primer", "Nemotron-4"),
    Activation("snake", _with(snake, 1.0), "x + sin(a x)^2 / a", 2020, "Ziyin et al.", "BigVGAN"),
    Activation(
        "xielu",
        _with(xielu, 0.8, 1.3),
        "a x^2 + x / 2 if x > 0 else b (exp(x) - 1 - x) + x / 2",
        2024,
        "Huang and Schlag",
        "Apertus",
    ),
    Activation("glu", _gate(glu), "sigmoid(x) v", 2016, "Dauphin et al.", "gated convolutions"),
    Activation("bilinear", _gate(bilinear), "x v", 2007, "Mnih and Hinton", "few"),
    Activation("reglu", _gate(reglu), "max(0, x) v", 2020, "Shazeer", "few"),
    Activation("geglu", _gate(geglu), "gelu(x) v", 2020, "Shazeer", "T5 v1.1, Gemma"),
    Activation("swiglu", _gate(swiglu), "x sigmoid(x) v", 2020, "Shazeer", "PaLM, LLaMA"),
)


def draw(activations: Sequence[Activation] = ACTIVATIONS, *, span: float = 4.0) -> "Figure":
    """Every activation from -span to span, and its derivative, dashed: what the backward pass uses.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    make_figure = figure_class()
    columns = min(len(activations), 6)
    rows = -(-len(activations) // columns)
    figure = make_figure(figsize=(1.75 * columns, 1.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    x = torch.linspace(-span, span, 801)
    for axis, activation in zip(axes.flat, activations, strict=False):
        axis.axhline(0, color="#BBBBBB", lw=0.6)
        axis.axvline(0, color="#BBBBBB", lw=0.6)
        axis.plot(x, _slope(activation.function)(x), color="#EE6677", lw=1.0, ls="--")
        axis.plot(x, activation.function(x), color="#4477AA", lw=1.6)
        axis.set_title(activation.name, fontsize=8)
        axis.tick_params(labelsize=6, length=2)
        axis.set_ylim(-1.6, 3.2)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(activations) :]:
        axis.set_axis_off()
    return figure
