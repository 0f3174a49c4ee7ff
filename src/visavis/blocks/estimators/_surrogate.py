"""Values with a gradient that autograd would not find.

Shapes: B: batch shape of a distribution.
"""

from typing import Any

import torch
from torch import Tensor

from visavis.blocks.estimators._orders import limited

__all__ = ["with_gradient"]


def with_gradient(value: Tensor, parameter: Tensor, gradient: Tensor, name: str) -> Tensor:
    """`value` [*B], whose backward pass also gives `parameter`, [*B, *], the `gradient` of that shape.

    To differentiate twice by the parameter is refused in `name`: the gradient is a number here, not a function.
    """
    joined: Tensor = _WithGradient.apply(value, parameter, gradient.detach(), name)  # type: ignore[no-untyped-call]
    return joined


class _WithGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, parameter: Tensor, gradient: Tensor, name: str) -> Tensor:  # noqa: ARG004
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        _, parameter, gradient, ctx.name = inputs
        ctx.save_for_backward(parameter, gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        parameter, gradient = ctx.saved_tensors
        wide = grad.reshape(*grad.shape, *[1] * (gradient.ndim - grad.ndim))
        by_parameter = wide * gradient
        if torch.is_grad_enabled():
            why = f"grad: expected one derivative of {ctx.name}, which has no second; RLOO has all orders"
            by_parameter = limited(by_parameter, parameter, orders=0, why=why)
        return grad, by_parameter, None, None
