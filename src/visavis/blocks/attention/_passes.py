"""Forward and backward of linear attention. Letters as in `_pieces`; T and t are the gradients of S and s."""

import torch
from torch import Tensor

from visavis.blocks.attention._pieces import (
    Decay,
    Forward,
    Gradients,
    Inputs,
    Pieces,
    Settings,
    Upstream,
    blocks,
    causal_rows,
    divide,
    dot,
    groups_at_once,
    whole_rows,
    wide,
)

__all__ = ["backward", "forward"]


def forward(inputs: Inputs, settings: Settings) -> Forward:
    """Every query sees all keys, or those up to its own place."""
    return _causal_forward(inputs, settings) if settings.causal else _whole_forward(inputs, settings)


def backward(
    inputs: Inputs, made: Forward, settings: Settings, grad: Tensor, of_context: Tensor | None, of_total: Tensor | None
) -> Gradients:
    """From the gradients of `out` and of the sums over all keys."""
    step = _causal_backward if settings.causal else _whole_backward
    return step(inputs, made, settings, grad, of_context, of_total)


def _zeros(inputs: Inputs, *sizes: int) -> Tensor:
    return inputs.v.new_zeros(sizes, dtype=wide(inputs.v.dtype))


def _whole_forward(inputs: Inputs, settings: Settings) -> Forward:
    (groups, queries, features), (_, keys, values) = inputs.q.shape, inputs.v.shape
    pieces = Pieces(inputs, settings.feature_map)
    scratch = pieces.scratch
    context = _zeros(inputs, groups, features, values) if inputs.context is None else inputs.context.clone()
    total = _zeros(inputs, groups, features) if inputs.total is None else inputs.total.clone()
    out = inputs.v.new_empty(groups, queries, values)
    sums = context.new_empty(groups, queries, 1) if settings.normalize else None
    rows = whole_rows(max(queries, keys))
    for group in blocks(groups, groups_at_once(rows, features, values, causal=False)):
        S, s = context[group], total[group]
        for row in blocks(keys, rows):
            K, V = pieces.keys(group, row)
            S.baddbmm_(K.mT, V)
            s.add_(K.sum(1))
        for row in blocks(queries, rows):
            Q = pieces.queries(group, row)
            numerator = torch.bmm(Q, S, out=scratch("numerator", *Q.shape[:2], values))
            z = None
            if sums is not None:
                z = dot(Q, s, scratch("spare", *Q.shape))
                sums[group, row] = z
            divide(numerator, z, settings.floor, out[group, row])
    return Forward(out, context, total, sums, None, None)


def _whole_backward(
    inputs: Inputs, made: Forward, settings: Settings, grad: Tensor, of_context: Tensor | None, of_total: Tensor | None
) -> Gradients:
    (groups, queries, features), (_, keys, values) = inputs.q.shape, inputs.v.shape
    pieces = Pieces(inputs, settings.feature_map)
    scratch = pieces.scratch
    upstream = Upstream(grad, made, settings.floor, scratch)
    of_q, of_k, of_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs[:3])
    all_T = _zeros(inputs, groups, features, values) if of_context is None else of_context.clone()
    all_t = _zeros(inputs, groups, features) if of_total is None else of_total.clone()
    assert made.context is not None
    assert made.total is not None
    rows = whole_rows(max(queries, keys))
    for group in blocks(groups, groups_at_once(rows, features, values, causal=False)):
        S, s, T, t = made.context[group], made.total[group], all_T[group], all_t[group]
        for row in blocks(queries, rows):
            Q = pieces.queries(group, row)
            top, bottom = upstream(group, row)
            T.baddbmm_(Q.mT, top)
            of_Q = torch.bmm(top, S.mT, out=scratch("of_Q", *Q.shape))
            if bottom is not None:
                t.add_(torch.mul(Q, bottom, out=scratch("spare", *Q.shape)).sum(1))
                of_Q.addcmul_(bottom, s[:, None])
            pieces.through_queries(of_Q, Q, of_q[group, row])
        for row in blocks(keys, rows):
            K, V = pieces.keys(group, row)
            of_K = torch.bmm(V, T.mT, out=scratch("of_K", *K.shape)).add_(t[:, None])
            pieces.through_keys(of_K, K, of_k[group, row], group, row)
            of_v[group, row] = torch.bmm(K, T, out=scratch("of_V", *V.shape))
    return Gradients(of_q, of_k, of_v, all_T, all_t)


def _causal_forward(inputs: Inputs, settings: Settings) -> Forward:
    (groups, length, features), values = inputs.q.shape, inputs.v.shape[2]
    pieces = Pieces(inputs, settings.feature_map)
    scratch = pieces.scratch
    rows = list(blocks(length, causal_rows(features, values)))
    longest = rows[0].stop if rows else 1
    decay = None if inputs.decay is None else Decay(inputs.decay, longest)
    out = inputs.v.new_empty(groups, length, values)
    sums = _zeros(inputs, groups, length, 1) if settings.normalize else None
    # S and s before every piece are kept: to take them back from those after it would lose what was rounded away.
    kept = max(1, len(rows)) if settings.kept else 1
    contexts = out.new_empty(kept, groups, features, values, dtype=pieces.dtype)
    totals = out.new_empty(kept, groups, features, dtype=pieces.dtype)
    context = _zeros(inputs, groups, features, values) if settings.final else None
    total = _zeros(inputs, groups, features) if settings.final else None
    for group in blocks(groups, groups_at_once(longest, features, values, causal=True)):
        S, s = contexts[0, group], totals[0, group]
        S.zero_() if inputs.context is None else S.copy_(inputs.context[group])
        s.zero_() if inputs.total is None else s.copy_(inputs.total[group])
        for number, row in enumerate(rows):
            Q, (K, V) = pieces.queries(group, row), pieces.keys(group, row)
            later_Q, early_K = Q, K
            A = torch.bmm(Q, K.mT, out=scratch("A", *Q.shape[:2], Q.shape[1]))
            if decay is None:
                A.tril_()
            else:
                within, before, after, across = decay(group, Q.shape[1])
                A.mul_(within)
                later_Q = torch.mul(Q, before, out=scratch("later Q", *Q.shape))
                early_K = torch.mul(K, after, out=scratch("early K", *K.shape))
            numerator = torch.bmm(A, V, out=scratch("numerator", *V.shape))
            past = number > 0 or inputs.context is not None
            if past:
                numerator.baddbmm_(later_Q, S)
            z = None
            if sums is not None:
                z = A.sum(-1, keepdim=True)
                if past:
                    z.add_(dot(later_Q, s, scratch("spare", *Q.shape)))
                sums[group, row] = z
            divide(numerator, z, settings.floor, out[group, row])
            if number + 1 < len(rows):
                slot = number + 1 if settings.kept else 0
                after_S, after_s = contexts[slot, group], totals[slot, group]
            elif context is not None and total is not None:
                after_S, after_s = context[group], total[group]
            else:
                break
            if decay is None:
                torch.baddbmm(S, early_K.mT, V, out=after_S)
                torch.add(s, early_K.sum(1), out=after_s)
            else:
                torch.mul(S, across, out=after_S).baddbmm_(early_K.mT, V)
                torch.mul(s, across[:, 0], out=after_s).add_(early_K.sum(1))
            S, s = after_S, after_s
        if not rows and context is not None and total is not None:
            context[group], total[group] = S, s
    return Forward(out, context, total, sums, contexts, totals)


def _causal_backward(
    inputs: Inputs, made: Forward, settings: Settings, grad: Tensor, of_context: Tensor | None, of_total: Tensor | None
) -> Gradients:
    (groups, length, features), values = inputs.q.shape, inputs.v.shape[2]
    pieces = Pieces(inputs, settings.feature_map)
    scratch = pieces.scratch
    upstream = Upstream(grad, made, settings.floor, scratch)
    rows = list(blocks(length, causal_rows(features, values)))
    longest = rows[0].stop if rows else 1
    decay = None if inputs.decay is None else Decay(inputs.decay, longest)
    of_q, of_k, of_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs[:3])
    all_T = _zeros(inputs, groups, features, values) if of_context is None else of_context.clone()
    all_t = _zeros(inputs, groups, features) if of_total is None else of_total.clone()
    assert made.contexts is not None
    assert made.totals is not None
    for group in blocks(groups, groups_at_once(longest, features, values, causal=True)):
        T, t = all_T[group], all_t[group]
        for number, row in reversed(list(enumerate(rows))):
            S, s = made.contexts[number, group], made.totals[number, group]
            past = number > 0 or inputs.context is not None
            future = number + 1 < len(rows) or of_context is not None or of_total is not None
            Q, (K, V) = pieces.queries(group, row), pieces.keys(group, row)
            top, bottom = upstream(group, row)
            later_top, later_bottom, early_K, early_V = top, bottom, K, V
            square = (*Q.shape[:2], Q.shape[1])
            A = torch.bmm(Q, K.mT, out=scratch("A", *square))
            of_A = torch.bmm(top, V.mT, out=scratch("of A", *square))
            if bottom is not None:
                of_A.add_(bottom)
            if decay is None:
                A.tril_()
                of_A.tril_()
            else:
                within, before, after, across = decay(group, Q.shape[1])
                A.mul_(within)
                of_A.mul_(within)
                later_top = torch.mul(top, before, out=scratch("later top", *top.shape))
                later_bottom = None if bottom is None else bottom * before
                early_K = torch.mul(K, after, out=scratch("early K", *K.shape))
                early_V = torch.mul(V, after, out=scratch("early V", *V.shape))
            of_Q = torch.bmm(of_A, K, out=scratch("of Q", *Q.shape))
            of_K = torch.bmm(of_A.mT, Q, out=scratch("of K", *K.shape))
            of_V = torch.bmm(A.mT, top, out=scratch("of V", *V.shape))
            if past:
                of_Q.baddbmm_(later_top, S.mT)
                if later_bottom is not None:
                    of_Q.addcmul_(later_bottom, s[:, None])
            if future:
                of_K.baddbmm_(early_V, T.mT)
                if decay is None:
                    of_K.add_(t[:, None])
                else:
                    of_K.addcmul_(after, t[:, None])
                of_V.baddbmm_(early_K, T)
            if past:
                if decay is not None:
                    T.mul_(across)
                    t.mul_(across[:, 0])
                T.baddbmm_(Q.mT, later_top)
                if later_bottom is not None:
                    t.add_(torch.mul(Q, later_bottom, out=scratch("spare", *Q.shape)).sum(1))
            pieces.through_queries(of_Q, Q, of_q[group, row])
            pieces.through_keys(of_K, K, of_k[group, row], group, row)
            of_v[group, row] = of_V
    return Gradients(of_q, of_k, of_v, all_T, all_t)
