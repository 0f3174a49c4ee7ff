"""Attention without a softmax: linear in the length of the sequence.

Shapes: B batch, H heads, L queries, M keys, D features of a query or key, E features of a value.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu

from visavis.errors import expect

__all__ = ["elu_features", "linear"]

_FLOOR = 1e-30  # keeps value and slope finite where all weights of a query vanish


def elu_features(x: Tensor) -> Tensor:
    """``elu(x) + 1``, written so that it stays positive far below zero, where the sum would round to 0.

    Source: Katharopoulos et al., Transformers are RNNs, arXiv:2006.16236, eq. 7.

    >>> elu_features(torch.tensor([-40.0, 0.0, 3.0]))
    tensor([4.2484e-18, 1.0000e+00, 4.0000e+00])
    """
    return x.clamp_max(0).exp() + relu(x)


def linear(q: Tensor, k: Tensor, v: Tensor, *, feature_map: Callable[[Tensor], Tensor] = elu_features) -> Tensor:
    """Means of the values, weighted by products of features: ``sum_m f(q).f(k_m) v_m / sum_m f(q).f(k_m)``.

    The sums over m are taken before the product with f(q), so that time and memory grow with L + M, not with L * M.
    Half precision is computed in float32 and rounded once.

    Args:
        q: float [B, H, L, D].
        k: float [B, H, M, D].
        v: float [B, H, M, E].
        feature_map: from [..., D] to features [..., D'] that are nowhere negative.

    Returns:
        [B, H, L, E], dtype of `v`; 0 for a query whose weights all vanish (their sum is below 1e-30).

    Raises:
        TensorError: the shapes do not fit.

    Source: Katharopoulos et al., Transformers are RNNs, arXiv:2006.16236, eq. 5.
    """
    expect("q", q, "float", None, None, None, None)
    batch, heads, _, features = q.shape
    expect("k", k, "float", batch, heads, None, features)
    expect("v", v, "float", batch, heads, k.shape[2], None)
    wide = torch.promote_types(v.dtype, torch.float32)
    q, k = feature_map(q.to(wide)), feature_map(k.to(wide))
    context = k.transpose(2, 3) @ v.to(wide)  # [B, H, D', E]
    total = q @ k.sum(2)[..., None]  # [B, H, L, 1]
    return (q @ context / total.clamp_min(_FLOOR)).to(v.dtype)
