"""The delta rule: a memory that corrects what it holds for a key instead of adding to it."""

from typing import Literal, overload

import torch
from torch import Tensor

from visavis.blocks.attention._pieces import unrounded, wide
from visavis.errors import TensorError, expect

__all__ = ["delta"]

_ROWS = 64  # of a piece: products within it cost about what those with the memory do, at 64 features


@overload
def delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    *,
    mask: Tensor | None = None,
    state: Tensor | None = None,
    return_state: Literal[False] = False,
) -> Tensor: ...


@overload
def delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    *,
    mask: Tensor | None = None,
    state: Tensor | None = None,
    return_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    *,
    mask: Tensor | None = None,
    state: Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Causal attention with ``S_t = S_(t-1) + b_t k_t (v_t - S_(t-1)^T k_t)^T`` and ``y_t = S_t^T q_t``.

    One step of gradient descent on ``|S^T k_t - v_t|^2 / 2`` a place, with b_t as its rate: at b = 1 and keys of
    length 1, S then holds exactly v_t for k_t, and what it held before is gone. Keys longer than ``sqrt(2 / b)`` make
    the memory explode: bring them to length 1 (and through a feature map, if wanted) before.

    Within a piece of 64 places all corrections follow from one triangular system, ``(1 + tril(b K K^T, -1)) U = b (V -
    K S)``, so that only the pieces are gone through one by one (the WY form). It costs two or three times
    what causal `linear` does; its backward pass is autograd's.

    Args:
        q: float [..., L, D].
        k: [..., L, D], of length 1.
        v: [..., L, E].
        rate: [..., L], b in [0, 1].
        mask: bool [..., L], broadcast; False leaves the memory as it is.
        state: S of the places before, [..., D, E], float32 at least.
        return_state: whether to return S after these places, too.

    Returns:
        [..., L, E], dtype of `v`; with `return_state`, that and S.

    Raises:
        TensorError: the shapes do not fit.

    Source: Schlag et al., Linear Transformers Are Secretly Fast Weight Programmers, arXiv:2102.11174; in pieces: Yang
    et al., Parallelizing Linear Transformers with the Delta Rule, arXiv:2406.06484.

    >>> key, first, second = torch.eye(1, 4), torch.full((1, 2), 7.0), torch.full((1, 2), 9.0)
    >>> delta(torch.cat([key, key]), torch.cat([key, key]), torch.cat([first, second]), torch.ones(2))
    tensor([[7., 7.],
            [9., 9.]])
    """
    if q.ndim < 2:
        raise TensorError(f"q: expected float [..., length, features], got {q.dtype} {list(q.shape)}")
    lead, (length, features), values = q.shape[:-2], q.shape[-2:], v.shape[-1]
    expect("q", q, "float", *lead, length, features)
    expect("k", k, "float", *lead, length, features)
    expect("v", v, "float", *lead, length, None)
    expect("rate", rate, "float", *lead, length)
    dtype = wide(v.dtype)
    if state is not None and (state.shape != (*lead, features, values) or state.dtype != dtype):
        raise TensorError(f"state: expected {dtype} {[*lead, features, values]}, got {state.dtype} {list(state.shape)}")
    with unrounded(q.device):
        Q, K, V, b = q.to(dtype), k.to(dtype), v.to(dtype), rate.to(dtype)[..., None]
        if mask is not None:
            try:
                hidden = ~mask.expand(*lead, length)[..., None]
            except RuntimeError as error:
                raise TensorError(
                    f"mask: expected bool that broadcasts to {[*lead, length]}, got {mask.dtype} {list(mask.shape)}"
                ) from error
            K, V, b = K.masked_fill(hidden, 0), V.masked_fill(hidden, 0), b.masked_fill(hidden, 0)
        S = V.new_zeros(*lead, features, values) if state is None else state
        out = []
        for Qc, Kc, Vc, bc in zip(*(torch.split(x, _ROWS, -2) for x in (Q, K, V, b)), strict=True):
            system = (bc * (Kc @ Kc.mT)).tril(-1)
            U = torch.linalg.solve_triangular(system, bc * (Vc - Kc @ S), upper=False, unitriangular=True)
            out.append(Qc @ S + (Qc @ Kc.mT).tril() @ U)
            S = S + Kc.mT @ U
        y = torch.cat(out, -2).to(v.dtype)
    return (y, S) if return_state else y
