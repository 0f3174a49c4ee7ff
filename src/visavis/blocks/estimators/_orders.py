"""A gradient that is right, with a derivative that would be wrong: made to refuse to be differentiated again."""

from typing import Any

import torch
from torch import Tensor

from visavis.errors import InputError

__all__ = ["limited"]


class _Limited(torch.autograd.Function):
    """The identity in `value`. `anchor` gets no gradient; it only makes every further derivative pass through here."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, anchor: Tensor, left: int, why: str) -> Tensor:  # noqa: ARG004
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        _, anchor, ctx.left, ctx.why = inputs
        ctx.save_for_backward(anchor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if ctx.left == 0:
            raise InputError(ctx.why)
        [anchor] = ctx.saved_tensors
        nothing = torch.zeros_like(anchor)
        if torch.is_grad_enabled():
            grad, nothing = (_limit(part, anchor, ctx.left - 1, ctx.why) for part in (grad, nothing))
        return grad, nothing, None, None


def _limit(value: Tensor, anchor: Tensor, orders: int, why: str) -> Tensor:
    result: Tensor = _Limited.apply(value, anchor, orders, why)  # type: ignore[no-untyped-call]
    return result


def limited(value: Tensor, anchor: Tensor | None = None, *, orders: int = 1, why: str) -> Tensor:
    """`value`, which can be differentiated `orders` times; once more raises an InputError that says `why`.

    Args:
        value: what is to be differentiated.
        anchor: what its derivatives depend on without autograd's knowledge; `value` itself when left out.
        orders: how many derivatives are right.
        why: the message.
    """
    return _limit(value, value if anchor is None else anchor, orders, why)
