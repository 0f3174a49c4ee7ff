"""Activations with parameters of their own: functions that take them, and modules that learn them.

Shapes: ``...`` any, N samples, C channels, F features.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visavis.blocks.activations._blocks import by_blocks, refuse_integers, wide
from visavis.errors import InputError, TensorError

__all__ = ["XIELU", "Maxout", "PReLU", "RReLU", "Snake", "Swish", "maxout", "prelu", "rrelu", "snake", "swish", "xielu"]


class _Parametric(torch.autograd.Function):
    """Keeps its input and the parameters; of a formula and its slopes by input and by each parameter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Any, slopes: Any, *parameters: Tensor) -> Tensor:  # noqa: ARG004
        return _run(lambda x: value(x, *parameters), parameters, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        x, _, ctx.slopes, *parameters = inputs
        ctx.save_for_backward(x, *parameters)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        by_x, *by_parameters = ctx.slopes

        def part(slope: Any) -> Tensor:
            return _run(lambda grad, x: grad * slope(x, *parameters), parameters, grad, x)

        return (
            part(by_x),
            None,
            None,
            *(
                part(slope).sum_to_size(parameter.shape)
                for slope, parameter in zip(by_parameters, parameters, strict=True)
            ),
        )


def _run(formula: Any, parameters: tuple[Tensor, ...] | list[Tensor], *tensors: Tensor) -> Tensor:
    """By blocks where every parameter is one number, which fits a block of any shape."""
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *parameters))
    one_number = all(parameter.numel() == 1 for parameter in parameters)
    return (by_blocks if one_number and not differentiable else wide)(formula, *tensors)


def _parametric(x: Tensor, value: Any, slopes: Any, **parameters: Tensor) -> Tensor:
    refuse_integers(x)
    channels = x.shape[1] if x.ndim > 1 else 1
    shaped = []
    for name, parameter in parameters.items():
        if not parameter.is_floating_point() or parameter.ndim > 1 or parameter.numel() not in (1, channels):
            raise TensorError(
                f"{name}: expected float [1] or [{channels}], one number a channel of x {list(x.shape)}, "
                f"got {str(parameter.dtype).removeprefix('torch.')} {list(parameter.shape)}"
            )
        shaped.append(parameter.view(-1, *[1] * (x.ndim - 2)) if parameter.numel() > 1 else parameter.view(()))
    y: Tensor = _Parametric.apply(x, value, slopes, *shaped)  # type: ignore[no-untyped-call]
    return y


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """``x sigmoid(beta x)``: x / 2 for beta = 0, SiLU for 1, ReLU in the limit.

    Args:
        x: float [N, C, ...], or of any shape with one beta.
        beta: [C] or [1].

    Raises:
        TensorError: `x` is not float, or `beta` has another shape.

    Source: Ramachandran, Zoph and Le, Searching for Activation Functions, arXiv:1710.05941.

    >>> swish(torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0]))
    tensor([-0.2689,  0.0000,  1.7616])
    """

    def by_x(x: Tensor, beta: Tensor) -> Tensor:
        share = torch.sigmoid(beta * x)
        return share + beta * x * share * torch.sigmoid(-beta * x)

    def by_beta(x: Tensor, beta: Tensor) -> Tensor:
        return x.square() * torch.sigmoid(beta * x) * torch.sigmoid(-beta * x)

    return _parametric(x, lambda x, beta: x * torch.sigmoid(beta * x), (by_x, by_beta), beta=beta)


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """``x + sin(alpha x)^2 / alpha``: rises everywhere, and can go on with a period it has seen.

    At alpha = 0 it is its limit, the identity.

    Args:
        x: float [N, C, ...], or of any shape with one alpha.
        alpha: [C] or [1], half the number of waves per unit of x times 2 pi.

    Raises:
        TensorError: `x` is not float, or `alpha` has another shape.

    Source: Ziyin, Hartwig and Ueda, Neural Networks Fail to Learn Periodic Functions, arXiv:2006.08195, eq. 3.

    >>> snake(torch.tensor([0.0, torch.pi / 2]), torch.tensor([1.0]))
    tensor([0.0000, 2.5708])
    """

    def value(x: Tensor, alpha: Tensor) -> Tensor:
        return x + torch.sin(alpha * x).square() / torch.where(alpha == 0, 1, alpha)

    def by_x(x: Tensor, alpha: Tensor) -> Tensor:
        return 1 + torch.sin(2 * alpha * x)

    def by_alpha(x: Tensor, alpha: Tensor) -> Tensor:
        some = torch.where(alpha == 0, 1, alpha)
        slope = (x * torch.sin(2 * alpha * x) - torch.sin(alpha * x).square() / some) / some
        return torch.where(alpha == 0, x.square(), slope)

    return _parametric(x, value, (by_x, by_alpha), alpha=alpha)


def xielu(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, *, beta: float = 0.5) -> Tensor:
    """``alpha_p x^2 + beta x`` above 0, ``alpha_n (exp(x) - 1 - x) + beta x`` below: the integral of a trained ELU.

    Args:
        x: float [N, C, ...], or of any shape with one alpha each.
        alpha_p: [C] or [1], positive.
        alpha_n: [C] or [1]; above `beta` the slope turns negative far left, as the method wants.
        beta: slope at 0.

    Raises:
        TensorError: `x` is not float, or an alpha has another shape.

    Source: Huang and Schlag, Deriving Activation Functions Using Integration, arXiv:2411.13010.

    >>> xielu(torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.8]), torch.tensor([1.3]))
    tensor([-0.0218,  0.0000,  4.2000])
    """

    def value(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
        left = x.clamp_max(0)
        return alpha_p * x.relu().square() + alpha_n * (left.expm1() - left) + beta * x

    def by_x(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
        return 2 * alpha_p * x.relu() + alpha_n * x.clamp_max(0).expm1() + beta

    def by_alpha_p(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:  # noqa: ARG001
        return x.relu().square()

    def by_alpha_n(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:  # noqa: ARG001
        left = x.clamp_max(0)
        return left.expm1() - left

    return _parametric(x, value, (by_x, by_alpha_p, by_alpha_n), alpha_p=alpha_p, alpha_n=alpha_n)


def maxout(x: Tensor, pieces: int, *, dim: int = -1) -> Tensor:
    """The largest of every `pieces` neighbours along a dimension: [..., F * pieces, ...] to [..., F, ...].

    With a linear layer before it, the maximum of planes: any convex function of the layer's input, given enough.

    Raises:
        TensorError: the length of `dim` is no multiple of `pieces`, or `x` is not float.
        InputError: `pieces` is not positive.

    Source: Goodfellow et al., Maxout Networks, arXiv:1302.4389.

    >>> maxout(torch.tensor([1.0, 3.0, -1.0, -2.0]), 2)
    tensor([ 3., -1.])
    """
    refuse_integers(x)
    if pieces < 1:
        raise InputError(f"pieces: expected a positive number, got {pieces}")
    if x.ndim == 0 or x.shape[dim] % pieces:
        raise TensorError(f"x: expected a multiple of {pieces} along dim {dim}, got {list(x.shape)}")
    dim %= x.ndim
    return x.view(*x.shape[:dim], -1, pieces, *x.shape[dim + 1 :]).max(dim + 1).values


def rrelu(
    x: Tensor,
    *,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Of x above 0, x; below, x times a slope drawn evenly from [lower, upper] for every number, or their mean.

    Keeps one tensor for the backward pass, the slopes; torch's keeps two, and takes no generator.

    Raises:
        TensorError: `x` is not float.
        InputError: not ``0 <= lower <= upper``.

    Source: Xu et al., Empirical Evaluation of Rectified Activations, arXiv:1505.00853, section 2.4.

    >>> rrelu(torch.tensor([-8.0, 2.0]), lower=0.25, upper=0.5, training=False)
    tensor([-3.,  2.])
    """
    refuse_integers(x)
    if not 0.0 <= lower <= upper < math.inf:
        raise InputError(f"lower, upper: expected 0 <= lower <= upper, got {lower} and {upper}")
    if not training:
        return functional.leaky_relu(x, (lower + upper) / 2)
    slopes = torch.empty_like(x).uniform_(lower, upper, generator=generator)
    return x * slopes.masked_fill_(x > 0, 1)


class _PReLU(torch.autograd.Function):
    """On a CPU torch's own backward writes the slope's part of every element down before it adds them up."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: Tensor) -> Tensor:
        return functional.prelu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        wide = slope.view(1, -1, *[1] * (x.ndim - 2)) if x.ndim > 1 else slope
        if torch.is_grad_enabled():  # to be differentiated again, which an operation in place cannot be
            above = torch.where(x > 0, grad, 0)
            below = torch.where(x > 0, 0, grad)
            by_x = above + below * wide
        else:
            above = torch.ops.aten.threshold_backward(grad, x, 0.0)
            below = grad - above
            by_x = above.addcmul_(below, wide)
        return by_x, (below * x).sum_to_size(wide.shape).view_as(slope)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` above 0 and ``slope * x`` below, as `torch.nn.functional.prelu`, with a backward pass twice as quick.

    Args:
        x: float [N, C, ...], or any shape with one slope.
        slope: [C], or [1].

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852, eq. 1.

    >>> prelu(torch.tensor([[-2.0, 3.0]]), torch.tensor([0.25, 0.5]))
    tensor([[-0.5000,  3.0000]])
    """
    if not torch.is_grad_enabled():
        return functional.prelu(x, slope)
    y: Tensor = _PReLU.apply(x, slope)  # type: ignore[no-untyped-call]
    return y


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` through `prelu`."""

    def forward(self, input: Tensor) -> Tensor:
        return prelu(input, self.weight)


class RReLU(nn.Module):
    """`rrelu`, random while training."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor) -> Tensor:
        return rrelu(x, lower=self.lower, upper=self.upper, training=self.training)


class Swish(nn.Module):
    """`swish` with a beta that is learned, one or one a channel, from 1: SiLU."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return swish(x, self.beta)


class Snake(nn.Module):
    """`snake` with an alpha that is learned, one or one a channel."""

    def __init__(self, channels: int = 1, *, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((channels,), alpha))

    def forward(self, x: Tensor) -> Tensor:
        return snake(x, self.alpha)


class XIELU(nn.Module):
    """`xielu` with both alphas learned, kept in their ranges by softplus: alpha_p above 0, alpha_n above beta.

    Both softplus start at 0.8, as the paper's.
    """

    def __init__(self, *, beta: float = 0.5) -> None:
        super().__init__()
        self.beta = beta
        start = math.log(math.expm1(0.8))
        self.raw_alpha_p = nn.Parameter(torch.tensor([start]))
        self.raw_alpha_n = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        alpha_p = functional.softplus(self.raw_alpha_p)
        alpha_n = self.beta + functional.softplus(self.raw_alpha_n)
        return xielu(x, alpha_p, alpha_n, beta=self.beta)


class Maxout(nn.Module):
    """A linear layer of ``pieces * out_features``, and `maxout` of it: [..., in_features] to [..., out_features]."""

    def __init__(self, in_features: int, out_features: int, *, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(in_features, out_features * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return maxout(self.linear(x), self.pieces)
