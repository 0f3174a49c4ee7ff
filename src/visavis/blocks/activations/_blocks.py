"""A formula computed block by block, so that its temporaries stay in the cache.

An activation of several operations is bound by memory: each operation would read and write the whole tensor. Over
blocks that fit in the cache only the first read and the last write touch memory, so the formula costs about what one
operation does. On a GPU and under `torch.compile` it runs as it stands; the compiler does the same there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from visavis.errors import TensorError

__all__ = ["by_blocks", "pointwise", "refuse_integers", "several_by_blocks", "several_wide", "wide"]

Formula = Callable[..., Tensor]

BLOCK = 1 << 17  # elements a thread: fewer, and the calls are what takes the time; more, and it is memory


def by_blocks(formula: Formula, *tensors: Tensor) -> Tensor:
    """`formula` of tensors of one shape and dtype, element by element; half precision is computed in float32."""
    [out] = several_by_blocks(1, lambda *parts: (formula(*parts),), *tensors)
    return out


def several_by_blocks(count: int, formula: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """`by_blocks` of a formula that returns `count` tensors."""
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != "cpu":
        return several_wide(formula, *tensors)
    size = BLOCK * torch.get_num_threads()
    if first.numel() <= size:
        return several_wide(formula, *tensors)
    outs = tuple(torch.empty_like(first) for _ in range(count))
    rows = _rows(*outs, *tensors)
    if rows is None:
        return several_wide(formula, *tensors)
    step = max(1, size // rows[0][0].numel())
    for parts in zip(*(torch.split(row, step) for row in rows), strict=True):
        for target, part in zip(parts[:count], several_wide(formula, *parts[count:]), strict=True):
            target.copy_(part)
    return outs


def wide(formula: Formula, *tensors: Tensor) -> Tensor:
    """`formula` in float32 or better, rounded once, at the end."""
    [out] = several_wide(lambda *parts: (formula(*parts),), *tensors)
    return out


def several_wide(formula: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    dtype = tensors[0].dtype
    if dtype in (torch.float16, torch.bfloat16):
        return tuple(out.to(dtype) for out in formula(*(tensor.float() for tensor in tensors)))
    return formula(*tensors)


def _rows(*tensors: Tensor) -> list[Tensor] | None:
    """Views that can be cut along their first dimension, all alike; None where the layouts differ too much for that."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return [tensor.view(-1) for tensor in tensors]
    if tensors[0].ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return [tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors]
    try:
        return [tensor.view(-1, tensor.shape[-1]) for tensor in tensors]
    except RuntimeError:
        return None


class _Pointwise(torch.autograd.Function):
    """Keeps its input and nothing else."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Formula, slope: Formula) -> Tensor:  # noqa: ARG004
        return by_blocks(value, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Formula, Formula], output: Tensor) -> None:  # noqa: ARG004
        x, _, ctx.slope = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope: Formula = ctx.slope

        def formula(grad: Tensor, x: Tensor) -> Tensor:
            return grad * slope(x)

        # To be differentiated again it has to be written in operations that autograd knows.
        return (wide if torch.is_grad_enabled() else by_blocks)(formula, grad, x), None, None


def pointwise(x: Tensor, value: Formula, slope: Formula) -> Tensor:
    """`value` of every element, whose derivative is `slope`; both formulas in differentiable operations."""
    refuse_integers(x)
    y: Tensor = _Pointwise.apply(x, value, slope)  # type: ignore[no-untyped-call]
    return y


def refuse_integers(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TensorError(f"x: expected float, got {str(x.dtype).removeprefix('torch.')} {list(x.shape)}")
