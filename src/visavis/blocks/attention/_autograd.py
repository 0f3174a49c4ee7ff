"""Linear attention as one operation of autograd, and written out in operations that autograd knows."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from visavis.blocks.attention import _passes
from visavis.blocks.attention._pieces import MAPS, Forward, Inputs, Settings, causal_rows, wide

__all__ = ["attend", "written_out"]

Outputs = tuple[Tensor, Tensor | None, Tensor | None]  # out, and the sums over all keys where wanted


def attend(inputs: Inputs, settings: Settings) -> Outputs:
    """In pieces on a CPU; in batched products where an operation costs more to start than to run, or to be compiled."""
    if torch.compiler.is_compiling() or inputs.q.device.type not in ("cpu", "meta"):
        return written_out(inputs, settings)
    made = _InPieces.apply(*inputs, settings)  # type: ignore[no-untyped-call]
    return made[0], made[1], made[2]


def written_out(inputs: Inputs, settings: Settings) -> Outputs:
    """The same without buffers: differentiable as often as one likes, for `torch.compile` and `torch.func` too."""
    q, k, v, context, total, hidden, decay = inputs
    dtype, plain = wide(v.dtype), MAPS[settings.feature_map].plain
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if hidden is not None:  # before the feature map too: its slope at NaN, times 0, is NaN
        k, v = k.masked_fill(hidden, 0), v.masked_fill(hidden, 0)
    q, k = plain(q), plain(k)
    if hidden is not None:
        k = k.masked_fill(hidden, 0)
    context = v.new_zeros(k.shape[0], k.shape[2], v.shape[2]) if context is None else context
    total = v.new_zeros(k.shape[0], k.shape[2]) if total is None else total
    if settings.causal:
        numerator, sums = _causal(q, k, v, context, total, decay)
    length = k.shape[1]
    if decay is not None:
        context, total = context * decay**length, total * decay[:, 0] ** length
        k = k * decay ** torch.arange(length - 1, -1, -1, device=k.device)[:, None]
    context, total = context + k.mT @ v, total + k.sum(1)
    if not settings.causal:
        numerator, sums = q @ context, q @ total[:, :, None]
    out = numerator / sums.abs().clamp_min(settings.floor) if settings.normalize else numerator
    return out.to(inputs.v.dtype), context if settings.final else None, total if settings.final else None


def _causal(
    q: Tensor, k: Tensor, v: Tensor, context: Tensor, total: Tensor, decay: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Numerators and denominators, all pieces at once."""
    length, rows = q.shape[1], max(1, min(q.shape[1], causal_rows(q.shape[2], v.shape[2])))
    padding = (0, 0, 0, -length % rows)
    Q, K, V = (pad(x, padding).view(x.shape[0], -1, rows, x.shape[2]) for x in (q, k, v))  # [G, pieces, C, ...]
    count = Q.shape[1]
    step, piece = (torch.arange(size, device=q.device)[:, None] for size in (rows, count))
    A = Q @ K.mT
    if decay is None:
        A = A.tril()
        S, s = K.mT @ V, K.sum(2)
        S = torch.cat([context[:, None], S[:, :-1]], 1).cumsum(1)
        s = torch.cat([total[:, None], s[:, :-1]], 1).cumsum(1)
    else:
        apart = step - step.T
        A = A * torch.where(apart >= 0, decay ** apart.clamp_min(0), 0)[:, None]
        K = K * (decay ** (rows - 1 - step))[:, None]
        Q = Q * (decay ** (step + 1))[:, None]
        apart = piece - piece.T
        across = torch.where(apart >= 0, decay ** (rows * apart.clamp_min(0)), 0)
        S = torch.cat([context[:, None], (K.mT @ V)[:, :-1]], 1)
        S = (across @ S.flatten(2)).view_as(S)
        s = across @ torch.cat([total[:, None], K.sum(2)[:, :-1]], 1)
    numerator = A @ V + Q @ S
    sums = A.sum(3, keepdim=True) + Q @ s[..., None]
    return numerator.flatten(1, 2)[:, :length], sums.flatten(1, 2)[:, :length]


class _InPieces(torch.autograd.Function):
    """Outputs are those of `Forward`; the last three are for the backward pass only."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor | None, ...]:
        *inputs, settings = arguments
        return _passes.forward(Inputs(*inputs), settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Forward) -> None:
        *tensors, ctx.settings = inputs
        out, context, total, *extra = output
        kept = [context, total] if not ctx.settings.causal else [None, None]
        ctx.save_for_backward(*tensors, out, *kept, *extra)
        ctx.mark_non_differentiable(*(tensor for tensor in extra if tensor is not None))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, of_context: Tensor | None, of_total: Tensor | None, *_: None) -> Any:
        inputs, made = Inputs(*ctx.saved_tensors[: len(Inputs._fields)]), ctx.saved_tensors[len(Inputs._fields) :]
        grad = torch.zeros_like(made[0]) if grad is None else grad
        if torch.is_grad_enabled():  # to be differentiated again
            gradients = _differentiable(inputs, ctx.settings, grad, of_context, of_total)
        else:
            gradients = _passes.backward(inputs, Forward(*made), ctx.settings, grad, of_context, of_total)
        of = dict(zip(("q", "k", "v", "context", "total"), gradients, strict=True))
        if inputs.context is None:
            of["context"] = of["total"] = None
        return (*of.values(), None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        """Samples become groups."""
        *tensors, settings = arguments
        flat = [
            tensor
            if tensor is None
            else (tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)).flatten(
                0, 1
            )
            for tensor, dim in zip(tensors, in_dims, strict=False)
        ]
        made = _InPieces.apply(*flat, settings)  # type: ignore[no-untyped-call]
        dims = [0, 0, 0, 0, 1, 1]  # where the groups are
        split = [
            tensor if tensor is None else tensor.unflatten(dim, (info.batch_size, -1))
            for tensor, dim in zip(made, dims, strict=True)
        ]
        return tuple(split), tuple(None if tensor is None else dim for tensor, dim in zip(split, dims, strict=True))


def _differentiable(
    inputs: Inputs, settings: Settings, grad: Tensor, of_context: Tensor | None, of_total: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradients as functions that autograd can follow."""
    q, k, v, context, total, hidden, decay = inputs

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        sums = given[3:] or (None, None)
        made = written_out(Inputs(given[0], given[1], given[2], sums[0], sums[1], hidden, decay), settings)
        return tuple(tensor for tensor in made if tensor is not None)

    sums = () if context is None or total is None else (context, total)
    outputs, pull, *_ = torch.func.vjp(run, q, k, v, *sums)
    upstream = zip((grad, of_context, of_total), outputs, strict=False)
    gradients = pull(tuple(torch.zeros_like(like) if of is None else of for of, like in upstream))
    return gradients if sums else (*gradients, None, None)
