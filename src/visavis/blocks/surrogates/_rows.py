"""What the surrogates share: the axis in its place, checks at the door, and steps that look at values.

A row is one slice along the axis a function works on; inside this folder that axis is the last.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from visavis.errors import InputError, TensorError

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])

__all__ = ["aside", "check_positive", "peaks", "wide"]


class _Aside(torch.autograd.Function):
    @staticmethod
    def forward(function: Callable[..., Any], *rows: Tensor) -> Any:
        return function(*rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*outputs)
        ctx.tangents = (None,) * len(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:  # noqa: ARG004
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        return ctx.tangents if len(ctx.tangents) > 1 else None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], function: Callable[..., Any], *rows: Tensor) -> Any:
        sets = [
            row.expand(info.batch_size, *row.shape) if where is None else row.movedim(where, 0)
            for row, where in zip(rows, in_dims[1:], strict=True)
        ]
        output = aside(function, *sets)
        return output, (0,) * len(output) if isinstance(output, tuple) else 0


def aside(function: Callable[..., Result], *rows: Tensor) -> Result:
    """`function` of tensors [..., n], without a gradient, and free to branch on their values even under vmap.

    A surrogate takes its structure from here (an order, blocks, a threshold) and computes its value from that by
    differentiable operations: as the structure is constant nearly everywhere, all derivatives are then right.
    `function` returns one tensor or a tuple of them, whose leading axes are those of `rows`.
    """
    output: Result = _Aside.apply(function, *rows)  # type: ignore[no-untyped-call]
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


def peaks(rows: Tensor) -> Tensor:
    """The largest entry of each row, [..., 1].

    Raises:
        InputError: it is infinite or NaN.
    """
    largest = rows.amax(-1, keepdim=True)
    if not largest.isfinite().all():
        raise InputError(
            "x: expected a finite largest entry in every row, got infinity or NaN; is a row masked out completely?"
        )
    return largest
