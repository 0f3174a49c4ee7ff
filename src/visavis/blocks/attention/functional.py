"""Attention whose weights are products of features, so that its cost grows with the length and not with its square."""

from collections.abc import Callable
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from visavis.blocks.attention._autograd import attend
from visavis.blocks.attention._pieces import Inputs, Settings, unrounded, wide
from visavis.blocks.attention.features import cosine_features, elu_features
from visavis.errors import InputError, TensorError, expect

__all__ = ["FeatureMap", "FeatureName", "State", "linear"]

FeatureName = Literal["elu", "relu", "squared", "cosine", "softmax", "identity"]
FeatureMap = FeatureName | Callable[[Tensor], Tensor] | tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]

_FLOOR = 1e-30  # keeps value and slope finite where all weights of a query vanish
_NAMES = ("elu", "relu", "squared", "cosine", "softmax", "identity")


class State(NamedTuple):
    """All that later queries need to know of earlier keys; float32 at least."""

    context: Tensor  # sum of f(k) v^T, [..., D', E]
    total: Tensor  # sum of f(k), [..., D']


@overload
def linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "elu",
    causal: bool = False,
    mask: Tensor | None = None,
    normalize: bool = True,
    decay: float | Tensor | None = None,
    state: State | None = None,
    return_state: Literal[False] = False,
) -> Tensor: ...


@overload
def linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "elu",
    causal: bool = False,
    mask: Tensor | None = None,
    normalize: bool = True,
    decay: float | Tensor | None = None,
    state: State | None = None,
    return_state: Literal[True],
) -> tuple[Tensor, State]: ...


def linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "elu",
    causal: bool = False,
    mask: Tensor | None = None,
    normalize: bool = True,
    decay: float | Tensor | None = None,
    state: State | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, State]:
    """Means of the values, weighted by products of features: ``sum_m f(q).f(k_m) v_m / sum_m f(q).f(k_m)``.

    The sums over m are taken before the product with f(q), so that time and memory grow with L + M, not with L * M.
    With `causal`, query t sees the keys up to its own place: within a piece of the sequence by its small square of
    weights, of all pieces before by their sums. Half precision is computed in float32 and rounded once.

    Feature maps by name, of which all but "cosine" and "softmax" are computed piece by piece within the passes:

    - "elu": `elu_features`, elu + 1;
    - "relu", and "squared", the square of it;
    - "cosine": `cosine_features`, weights ``1 + cos(q, k)``, whose sum counts from the rounding of the 1 on;
    - "softmax": q over its features, k over all keys, whose weights sum to 1 by themselves; not causal, no state;
    - "identity": weights q.k of either sign. As their sum may vanish, what is divided by is ``max(|sum|, 1)``.

    Instead of a name, a function of [..., D] to features [..., D'] that are nowhere negative, or two, for q and for k;
    `RandomFeatures` and `Hedgehog` make such.

    Args:
        q: float [..., L, D].
        k: float [..., M, D], M = L if causal.
        v: float [..., M, E].
        feature_map: what makes weights positive.
        causal: whether a query sees only keys up to its place.
        mask: bool, broadcast to [..., 1, M]; True takes part, as in `scaled_dot_product_attention`. What lies below
            False may be NaN.
        normalize: False leaves the division out, as do models with a norm behind the attention.
        decay: causal only; in (0, 1], one number or a tensor broadcast to the leading shape (per head: [H]). A key n
            places back has its weight times ``decay ** n``; masked places count. It gets no gradient.
        state: of the keys before these, as returned by an earlier call.
        return_state: whether to return the state after these keys, too. A long sequence may be cut anywhere; one place
            at a time is decoding.

    Returns:
        [..., L, E], dtype of `v`; 0 for a query whose weights all vanish (their sum is below 1e-30) or whose keys are
        all masked. With `return_state`, that and the state. Differentiable twice and more.

    Raises:
        TensorError: the shapes do not fit.
        InputError: an unknown name, or options that exclude each other.

    Source: Katharopoulos et al., Transformers are RNNs, arXiv:2006.16236; "softmax": Shen et al., Efficient Attention,
    arXiv:1812.01243; decay and the floor of 1: Sun et al., Retentive Network, arXiv:2307.08621.

    >>> q, k, v = torch.randn(3, 2, 8, 100, 16).unbind()
    >>> y = linear(q, k, v, causal=True)
    >>> first, state = linear(q[..., :70, :], k[..., :70, :], v[..., :70, :], causal=True, return_state=True)
    >>> rest = linear(q[..., 70:, :], k[..., 70:, :], v[..., 70:, :], causal=True, state=state)
    >>> torch.allclose(torch.cat([first, rest], -2), y, atol=1e-5)
    True
    """
    _check(q, k, v, mask, causal=causal)
    with unrounded(q.device):
        lead = q.shape[:-2]
        hidden = None if mask is None else ~mask.expand(*lead, 1, k.shape[-2]).mT
        name, q, k, v = _featured(feature_map, q, k, v, hidden, stateless=not (causal or state or return_state))
        by_sum = normalize and feature_map != "softmax"
        inputs = Inputs(
            _flat(q),
            _flat(k),
            _flat(v),
            *_given(state, (*lead, q.shape[-1], v.shape[-1]), wide(v.dtype)),
            None if hidden is None else hidden.reshape(-1, k.shape[-2], 1),
            None if decay is None else _decays(decay, lead, q, causal=causal),
        )
        kept = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
        floor = {"identity": 1.0, "cosine": torch.finfo(wide(v.dtype)).eps}.get(str(feature_map), _FLOOR)
        out, context, total = attend(inputs, Settings(name, causal, by_sum, floor, kept, return_state))
    out = out.reshape(*lead, *out.shape[1:])
    if not return_state:
        return out
    assert context is not None
    assert total is not None
    return out, State(context.reshape(*lead, *context.shape[1:]), total.reshape(*lead, *total.shape[1:]))


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> None:
    if q.ndim < 2:
        raise TensorError(f"q: expected float [..., length, features], got {q.dtype} {list(q.shape)}")
    expect("q", q, "float", *[None] * q.ndim)
    lead, keys = q.shape[:-2], q.shape[-2] if causal else None
    expect("k", k, "float", *lead, keys, q.shape[-1])
    expect("v", v, "float", *lead, k.shape[-2], None)
    if not q.dtype == k.dtype == v.dtype:
        raise TensorError(f"q, k, v: expected one dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    if mask is None:
        return
    wanted = [*lead, 1, k.shape[-2]]
    fits = mask.dtype == torch.bool and 0 < mask.ndim <= q.ndim
    fits = fits and all(have in (1, want) for have, want in zip(reversed(mask.shape), reversed(wanted), strict=False))
    if not fits:
        raise TensorError(
            f"mask: expected bool that broadcasts to {wanted}, got {mask.dtype} {list(mask.shape)}; "
            "a mask [batch, keys] becomes mask[:, None, None], and one of queries by keys there cannot be"
        )


def _featured(
    feature_map: FeatureMap, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, *, stateless: bool
) -> tuple[str, Tensor, Tensor, Tensor]:
    """The name of what is left to the passes, and q, k, v as they take them."""
    if feature_map is elu_features:
        feature_map = "elu"
    if feature_map in ("elu", "relu", "squared", "identity"):
        return str(feature_map), q, k, v
    if isinstance(feature_map, str) and feature_map not in _NAMES:
        raise InputError(f"feature_map: expected a function, two, or one of {', '.join(_NAMES)}, got {feature_map!r}")
    dtype = wide(v.dtype)
    q, k, v = q.to(dtype), k.to(dtype), v
    if hidden is not None:  # the slope of a feature map at NaN, times 0, is NaN
        k = k.masked_fill(hidden, 0)
    if feature_map == "softmax":
        if not stateless:
            raise InputError('feature_map: "softmax" sums over all keys, later ones too: neither causal nor a state')
        if hidden is not None:
            k = k.masked_fill(hidden, torch.finfo(dtype).min)
        return "identity", q.softmax(-1), k.softmax(-2), v
    of_q, of_k = feature_map if isinstance(feature_map, tuple) else (feature_map, feature_map)
    if feature_map == "cosine":
        of_q = of_k = cosine_features
    assert callable(of_q)
    assert callable(of_k)
    features_q, features_k = of_q(q), of_k(k)
    if features_q.shape != (*q.shape[:-1], features_k.shape[-1]) or features_k.shape[:-1] != k.shape[:-1]:
        raise TensorError(
            f"feature_map: expected as many features of q as of k, each behind the shape that came in, "
            f"got {list(features_q.shape)} and {list(features_k.shape)} of {list(q.shape)} and {list(k.shape)}"
        )
    return "identity", features_q, features_k, v


def _flat(x: Tensor) -> Tensor:
    """[G, L, D], without a copy where strides allow; rows must be contiguous for the products."""
    flat = x.reshape(-1, *x.shape[-2:]) if x.numel() else x.new_empty(x.shape[:-2].numel(), *x.shape[-2:])
    return flat if flat.stride(-1) == 1 else flat.contiguous()


def _given(state: State | None, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    if state is None:
        return None, None
    for name, tensor, wanted in zip(State._fields, state, (shape, shape[:-1]), strict=True):
        if tensor.shape != wanted or tensor.dtype != dtype:
            raise TensorError(
                f"state.{name}: expected {dtype} {list(wanted)}, got {tensor.dtype} {list(tensor.shape)}; "
                "was it made with another feature map?"
            )
    return state.context.reshape(-1, *shape[-2:]), state.total.reshape(-1, shape[-2])


def _decays(decay: float | Tensor, lead: torch.Size, q: Tensor, *, causal: bool) -> Tensor:
    """[G, 1, 1]."""
    if not causal:
        raise InputError("decay: expected causal=True with it, as without an order no key is further back")
    decays = torch.as_tensor(decay, dtype=wide(q.dtype), device=q.device)
    if decays.requires_grad:
        raise InputError("decay: expected a constant, as it gets no gradient; detach it")
    if not torch.compiler.is_compiling() and not bool(((decays > 0) & (decays <= 1)).all()):
        raise InputError(f"decay: expected numbers in (0, 1], got {decays.tolist()}")
    try:
        return decays.expand(lead).reshape(-1, 1, 1)
    except RuntimeError as error:
        raise TensorError(f"decay: expected what broadcasts to {list(lead)}, got {list(decays.shape)}") from error
