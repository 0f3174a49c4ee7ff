"""The gated family: one product of features lets through the other, activation(gate) * value.

Both halves are kept for the backward pass and nothing else; autograd would keep the activated gate as well, and with an
activation of several operations each of their results.

Shapes: ``...`` any, F: features, H: hidden features.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from visavis.blocks.activations._blocks import Formula, by_blocks, several_by_blocks, several_wide
from visavis.blocks.activations._gelu import gelu_formula, gelu_with_slope
from visavis.errors import InputError, TensorError

__all__ = [
    "GEGLU",
    "GLU",
    "Bilinear",
    "ReGLU",
    "SwiGLU",
    "bilinear",
    "geglu",
    "glu",
    "reglu",
    "swiglu",
    "swiglu_packed",
]


# Of a gate, the activated one and its slope.
_WithSlope = Callable[[Tensor], tuple[Tensor, Tensor]]


class _Gated(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gate: Tensor, value: Tensor, activation: Formula, with_slope: _WithSlope) -> Tensor:  # noqa: ARG004
        return by_blocks(lambda gate, value: activation(gate) * value, gate, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        gate, value, _, ctx.with_slope = inputs
        ctx.save_for_backward(gate, value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gate, value = ctx.saved_tensors

        def both(grad: Tensor, gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            active, slope = ctx.with_slope(gate)
            return grad * value * slope, grad * active

        # To be differentiated again it has to be written in operations that autograd knows.
        run = several_wide if torch.is_grad_enabled() else partial(several_by_blocks, 2)
        by_gate, by_value = run(both, grad, gate, value)
        return by_gate, by_value, None, None


def _gated(gate: Tensor, value: Tensor, activation: Formula, with_slope: _WithSlope) -> Tensor:
    _refuse_unlike(gate, value)
    output: Tensor = _Gated.apply(gate, value, activation, with_slope)  # type: ignore[no-untyped-call]
    return output


def _refuse_unlike(gate: Tensor, value: Tensor) -> None:
    if gate.shape != value.shape or gate.dtype != value.dtype or not gate.is_floating_point():
        raise TensorError(
            f"value: expected float like gate, {gate.dtype} {list(gate.shape)}, got {value.dtype} {list(value.shape)}"
        )


def glu(gate: Tensor, value: Tensor) -> Tensor:
    """``sigmoid(gate) * value``, the gated linear unit.

    `torch.nn.functional.glu` takes both in one tensor, the value first.

    Args:
        gate: float of any shape.
        value: of the same shape and dtype.

    Raises:
        TensorError: the two differ, or are not float.

    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, arXiv:1612.08083, section 2.

    >>> glu(torch.tensor([0.0, 100.0]), torch.tensor([5.0, 0.5]))
    tensor([2.5000, 0.5000])
    """

    def with_slope(gate: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.sigmoid(gate)
        return share, share * torch.sigmoid(-gate)

    return _gated(gate, value, torch.sigmoid, with_slope)


def bilinear(gate: Tensor, value: Tensor) -> Tensor:
    """``gate * value``: no activation, and still no linear layer. Arguments and errors as `glu`.

    Source: Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202, eq. 5.

    >>> bilinear(torch.tensor([-2.0, 3.0]), torch.tensor([5.0, 0.5]))
    tensor([-10.0000,   1.5000])
    """
    _refuse_unlike(gate, value)
    return gate * value


def reglu(gate: Tensor, value: Tensor) -> Tensor:
    """``max(0, gate) * value``. Arguments and errors as `glu`.

    Source: Shazeer, arXiv:2002.05202, eq. 5.

    >>> reglu(torch.tensor([-2.0, 3.0]), torch.tensor([5.0, 0.5]))
    tensor([0.0000, 1.5000])
    """
    return _gated(gate, value, torch.relu, lambda gate: (gate.relu(), (gate > 0).to(gate.dtype)))


def geglu(gate: Tensor, value: Tensor) -> Tensor:
    """``gelu(gate) * value``, with the exact GELU. Arguments and errors as `glu`.

    Source: Shazeer, arXiv:2002.05202, eq. 5.

    >>> geglu(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 2.0]))
    tensor([0.0000, 1.6827])
    """
    return _gated(gate, value, gelu_formula, gelu_with_slope)


def swiglu(gate: Tensor, value: Tensor) -> Tensor:
    """``gate * sigmoid(gate) * value``. Arguments and errors as `glu`.

    Source: Shazeer, arXiv:2002.05202, eq. 6, with beta = 1.

    >>> swiglu(torch.tensor([0.0, 100.0]), torch.tensor([5.0, 0.5]))
    tensor([ 0., 50.])
    """

    def with_slope(gate: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.sigmoid(gate)
        active = gate * share
        return active, share + active * (1 - share)

    return _gated(gate, value, silu, with_slope)


def swiglu_packed(packed: Tensor) -> Tensor:
    """`swiglu` of [..., 2 * H] from one product: the first half gates the second; [..., H].

    Raises:
        TensorError: the last length is odd, or the tensor is not float.
    """
    return swiglu(*_halves(packed))


def _halves(packed: Tensor) -> tuple[Tensor, Tensor]:
    if packed.ndim == 0 or packed.shape[-1] % 2:
        raise TensorError(f"packed: expected float [..., 2 * hidden], got {packed.dtype} {list(packed.shape)}")
    gate, value = packed.chunk(2, -1)
    return gate, value


class _GatedLayer(nn.Module):
    """``down(gated(gate x, value x))``; `hidden` is by default 2/3 of 4 F, rounded up to a multiple of 8."""

    gated: Callable[[Tensor, Tensor], Tensor]
    mean_square: float  # of activation(g) for a standard normal g

    def __init__(self, features: int, *, hidden: int | None = None) -> None:
        """Matrices drawn so that both products keep the variance of their inputs.

        Raises:
            InputError: a size that is not positive.
        """
        super().__init__()
        hidden = -(-8 * features // 24) * 8 if hidden is None else hidden
        if features < 1 or hidden < 1:
            raise InputError(f"features, hidden: expected positive sizes, got {features} and {hidden}")
        self.up = nn.Linear(features, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, features, bias=False)
        nn.init.normal_(self.up.weight, std=features**-0.5)
        nn.init.normal_(self.down.weight, std=(self.mean_square * hidden) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.gated(*_halves(self.up(x))))
        return y


class SwiGLU(_GatedLayer):
    """The gated layer of a transformer: ``down(swiglu(gate x, value x))``, [..., F] to [..., F], without biases.

    `hidden` is by default 2/3 of 4 F, rounded up to a multiple of 8: three matrices then cost what the two of a plain
    layer with 4 F hidden features do. Gate and value come from one product.
    """

    gated = staticmethod(swiglu)
    mean_square = 0.35578


class GEGLU(_GatedLayer):
    """`SwiGLU` with `geglu`."""

    gated = staticmethod(geglu)
    mean_square = 0.42522


class ReGLU(_GatedLayer):
    """`SwiGLU` with `reglu`."""

    gated = staticmethod(reglu)
    mean_square = 0.5


class GLU(_GatedLayer):
    """`SwiGLU` with `glu`."""

    gated = staticmethod(glu)
    mean_square = 0.29338


class Bilinear(_GatedLayer):
    """`SwiGLU` with `bilinear`."""

    gated = staticmethod(bilinear)
    mean_square = 1.0
