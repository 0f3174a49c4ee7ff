"""What the surrogates share: the axis in its place, checks at the door, and steps that look at values.

A row is one slice along the axis a function works on; inside this folder that axis is the last.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from visavis.errors import InputError, TensorError

__all__ = ["aside", "check_positive", "wide"]


class _Aside(torch.autograd.Function):
    @staticmethod
    def forward(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        return function(*rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:  # noqa: ARG004
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], function: Callable[..., Tensor], *rows: Tensor
    ) -> tuple[Tensor, int]:
        sets = [
            row.expand(info.batch_size, *row.shape) if where is None else row.movedim(where, 0)
            for row, where in zip(rows, in_dims[1:], strict=True)
        ]
        output: Tensor = _Aside.apply(function, *sets)  # type: ignore[no-untyped-call]
        return output, 0


def aside(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """`function` of tensors [..., n], without a gradient, and free to branch on their values even under vmap.

    A surrogate takes its structure from here (an order, blocks, a threshold) and computes its value from that by
    differentiable operations: as the structure is constant nearly everywhere, all derivatives are then right.
    """
    output: Tensor = _Aside.apply(function, *rows)  # type: ignore[no-untyped-call]
    return output


def wide(name: str, x: Tensor, dim: int) -> Tensor:
    """`x` with axis `dim` last, in float32 where it is of half precision.

    Raises:
        TensorError: `x` is not float, or has no such axis, or that axis is empty.
    """
    if not x.is_floating_point() or not -x.ndim <= dim < x.ndim or not x.shape[dim]:
        raise TensorError(
            f"{name}: expected float with something along axis {dim}, "
            f"got {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
        )
    rows = x.movedim(dim, -1)
    return rows.float() if x.dtype in (torch.float16, torch.bfloat16) else rows


def check_positive(name: str, value: float) -> None:
    """Refuse what is no positive finite number.

    Raises:
        InputError: it is none.
    """
    if not 0.0 < value < math.inf:
        raise InputError(f"{name}: expected a positive number, got {value}")
