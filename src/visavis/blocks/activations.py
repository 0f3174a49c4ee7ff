"""Activations whose backward pass costs less than autograd's: the gate of SwiGLU in memory, PReLU's slope in time.

Shapes: ``...`` any, C: channels, F: features, H: hidden features.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import silu

from visavis.errors import InputError, TensorError

__all__ = ["PReLU", "SwiGLU", "prelu", "swiglu", "swiglu_packed"]


class _SwiGLU(torch.autograd.Function):
    """Keeps its two inputs for the backward pass; autograd would keep ``silu(gate)`` as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gate: Tensor, value: Tensor) -> Tensor:
        return silu(gate).mul_(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = ctx.saved_tensors
        by_silu = grad * value
        if torch.is_grad_enabled():  # to be differentiated again, which the one kernel cannot be
            share = gate.sigmoid()
            by_gate = by_silu * share * (1 + gate * (1 - share))
        else:
            by_gate = torch.ops.aten.silu_backward(by_silu, gate)
        return by_gate, grad * silu(gate)


def swiglu(gate: Tensor, value: Tensor) -> Tensor:
    """``gate * sigmoid(gate) * value``, with two tensors kept for the backward pass where the plain form keeps three.

    Args:
        gate: float of any shape.
        value: of the same shape and dtype.

    Raises:
        TensorError: the two differ, or are not float.

    Source: Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202, eq. 6, with beta = 1.

    >>> swiglu(torch.tensor([0.0, 100.0]), torch.tensor([5.0, 0.5]))
    tensor([ 0., 50.])
    """
    if gate.shape != value.shape or gate.dtype != value.dtype or not gate.is_floating_point():
        raise TensorError(
            f"value: expected float like gate, {gate.dtype} {list(gate.shape)}, got {value.dtype} {list(value.shape)}"
        )
    output: Tensor = _SwiGLU.apply(gate, value)  # type: ignore[no-untyped-call]
    return output


def swiglu_packed(packed: Tensor) -> Tensor:
    """`swiglu` of [..., 2 * H] from one product: the first half gates the second; [..., H].

    Raises:
        TensorError: the last length is odd, or the tensor is not float.
    """
    if packed.ndim == 0 or packed.shape[-1] % 2:
        raise TensorError(f"packed: expected float [..., 2 * hidden], got {packed.dtype} {list(packed.shape)}")
    gate, value = packed.chunk(2, -1)
    return swiglu(gate, value)


class SwiGLU(nn.Module):
    """The gated layer of a transformer: ``down(swiglu(gate x, value x))``, [..., F] to [..., F], without biases.

    `hidden` is by default 2/3 of 4 F, rounded up to a multiple of 8: three matrices then cost what the two of a plain
    layer with 4 F hidden features do.
    """

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
        # Of standard normal gate and value, swiglu has a mean square of 0.3558.
        nn.init.normal_(self.down.weight, std=(0.3558 * hidden) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(swiglu_packed(self.up(x)))
        return y


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
