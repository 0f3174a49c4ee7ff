"""What the passes of linear attention share: feature maps, buffers, and the pieces the passes go by.

What is made for a piece, features first of all, stays in the cache and is made again for the backward pass, which is
quicker than to write it down and read it back.

G groups (batch and heads in one), L queries, M keys, D features of a query or key, E features of a value, C rows of a
piece. Capitals are pieces: Q and K after the feature map, V, and what is summed over keys,
``S = sum_m f(k_m) v_m^T`` [D, E] and ``s = sum_m f(k_m)`` [D].
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu

__all__ = [
    "MAPS",
    "Decay",
    "Forward",
    "Gradients",
    "Inputs",
    "Map",
    "Pieces",
    "Scratch",
    "Settings",
    "Upstream",
    "blocks",
    "causal_rows",
    "divide",
    "dot",
    "elu_features",
    "groups_at_once",
    "unrounded",
    "whole_rows",
    "wide",
]

# Elements of a buffer, by measurement: the dozen of a causal pass fit a cache of 1 or 2 MB together; where keys and
# queries are read apart there are fewer, and to start their operations costs more than to leave that cache.
_CAUSAL, _WHOLE, _ROWS = 32_768, 131_072, 512
_LOG2_E = 1 / math.log(2)


class Map(NamedTuple):
    """A feature map without parameters, for autograd and as operations on buffers."""

    plain: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Tensor, Tensor], object]  # x, into, spare
    slope: Callable[[Tensor, Tensor, Tensor, Tensor], object]  # gradient, the features, into, spare


def elu_features(x: Tensor) -> Tensor:
    """``elu(x) + 1``, written so that it stays positive far below zero, where the sum would round to 0.

    Source: Katharopoulos et al., Transformers are RNNs, arXiv:2006.16236, eq. 7.

    >>> elu_features(torch.tensor([-40.0, 0.0, 3.0]))
    tensor([4.2484e-18, 1.0000e+00, 4.0000e+00])
    """
    return x.clamp_max(0).exp() + relu(x)


def _write_elu(x: Tensor, into: Tensor, spare: Tensor) -> None:
    torch.mul(x, _LOG2_E, out=into).clamp_max_(0).exp2_()  # torch is quicker at exp2 than at exp
    into.add_(torch.clamp_min(x, 0, out=spare))


def _slope_elu(grad: Tensor, features: Tensor, into: Tensor, spare: Tensor) -> None:
    torch.mul(grad, torch.clamp_max(features, 1, out=spare), out=into)


def _write_relu(x: Tensor, into: Tensor, spare: Tensor) -> None:  # noqa: ARG001
    torch.clamp_min(x, 0, out=into)


def _slope_relu(grad: Tensor, features: Tensor, into: Tensor, spare: Tensor) -> None:
    torch.mul(grad, torch.sign(features, out=spare), out=into)


def _write_squared(x: Tensor, into: Tensor, spare: Tensor) -> None:  # noqa: ARG001
    torch.clamp_min(x, 0, out=into).square_()


def _slope_squared(grad: Tensor, features: Tensor, into: Tensor, spare: Tensor) -> None:
    torch.mul(grad, torch.sqrt(features, out=spare).mul_(2), out=into)


MAPS = {
    "elu": Map(elu_features, _write_elu, _slope_elu),
    "relu": Map(relu, _write_relu, _slope_relu),
    "squared": Map(lambda x: relu(x).square(), _write_squared, _slope_squared),
    "identity": Map(lambda x: x, lambda x, into, _: into.copy_(x), lambda grad, _, into, __: into.copy_(grad)),
}


class Settings(NamedTuple):
    """What is not a tensor."""

    feature_map: str  # a key of MAPS
    causal: bool
    normalize: bool
    floor: float  # the least denominator
    kept: bool  # whether a backward pass may follow
    final: bool  # whether the sums over all keys are wanted


class Inputs(NamedTuple):
    """What may have a gradient, and what has none."""

    q: Tensor  # [G, L, D]
    k: Tensor  # [G, M, D]
    v: Tensor  # [G, M, E]
    context: Tensor | None  # S of earlier keys, [G, D, E]; float32 at least, as is all below
    total: Tensor | None  # s of earlier keys, [G, D]
    hidden: Tensor | None  # bool [G, M, 1]: keys that take no part
    decay: Tensor | None  # [G, 1, 1]


class Forward(NamedTuple):
    """What a forward pass makes."""

    out: Tensor  # [G, L, E]
    context: Tensor | None  # S of all keys
    total: Tensor | None
    sums: Tensor | None  # [G, L, 1]: the denominators, before the floor
    contexts: Tensor | None  # [pieces, G, D, E]: S before each piece
    totals: Tensor | None


class Gradients(NamedTuple):
    """Of the inputs that may have one."""

    q: Tensor
    k: Tensor
    v: Tensor
    context: Tensor | None
    total: Tensor | None


def wide(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def unrounded(device: torch.device) -> AbstractContextManager[object]:
    """Where autocast, if it is on, does not round products to half precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def blocks(count: int, size: int) -> Iterator[slice]:
    """0 to `count` in slices of as equal a size as may be, none above `size`."""
    size = max(1, -(-count // max(1, -(-count // size))))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def causal_rows(features: int, values: int) -> int:
    """Where products within a piece cost about what those with S do; from 32 to 128."""
    balanced = 2 * features * values / max(1, features + values)
    return min((32, 64, 128), key=lambda rows: abs(math.log2(rows / max(1.0, balanced))))


def whole_rows(length: int) -> int:
    """Rows of a piece of keys or of queries."""
    return max(1, min(length, _ROWS))


def groups_at_once(rows: int, features: int, values: int, *, causal: bool) -> int:
    """How many groups share a piece of so many rows each."""
    return max(1, (_CAUSAL if causal else _WHOLE) // max(1, rows * max(features, values)))


class Scratch:
    """Buffers of one pass, by name and shape."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._held: dict[tuple[str, torch.Size], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        key = (name, torch.Size(shape))
        if key not in self._held:
            self._held[key] = torch.empty(shape, dtype=self._dtype, device=self._device)
        return self._held[key]


class Pieces:
    """Reads pieces of q, k and v: features, float32 at least, and zeros where keys take no part."""

    def __init__(self, inputs: Inputs, feature_map: str) -> None:
        self.inputs, self.map = inputs, MAPS[feature_map]
        self.as_is = feature_map == "identity"
        self.dtype = wide(inputs.v.dtype)
        self.scratch = Scratch(inputs.v.device, self.dtype)

    def _features(self, x: Tensor, name: str) -> Tensor:
        into = self.scratch(name, *x.shape)
        if x.dtype != self.dtype:
            x = self.scratch("wide", *x.shape).copy_(x)
        self.map.write(x, into, self.scratch("spare", *x.shape))
        return into

    def queries(self, group: slice, row: slice) -> Tensor:
        """Q."""
        x = self.inputs.q[group, row]
        return x if self.as_is and x.dtype == self.dtype else self._features(x, "Q")

    def keys(self, group: slice, row: slice) -> tuple[Tensor, Tensor]:
        """K and V."""
        K, V, hidden = self.inputs.k[group, row], self.inputs.v[group, row], self.inputs.hidden
        if not self.as_is or hidden is not None or K.dtype != self.dtype:
            K = self._features(K, "K")
        if hidden is not None or V.dtype != self.dtype:
            V = self.scratch("V", *V.shape).copy_(V)
        if hidden is not None:  # NaN in what is padding must not come through, so filled and not multiplied
            K.masked_fill_(hidden[group, row], 0)
            V.masked_fill_(hidden[group, row], 0)
        return K, V

    def through_queries(self, grad: Tensor, features: Tensor, into: Tensor) -> None:
        """The gradient of q from that of Q."""
        self.map.slope(grad, features, into, self.scratch("spare", *grad.shape))

    def through_keys(self, grad: Tensor, features: Tensor, into: Tensor, group: slice, row: slice) -> None:
        """The gradient of k from that of K."""
        self.map.slope(grad, features, into, self.scratch("spare", *grad.shape))
        if self.inputs.hidden is not None:
            into.masked_fill_(self.inputs.hidden[group, row], 0)


class Upstream:
    """Gradients of numerator and denominator, from that of their quotient."""

    def __init__(self, grad: Tensor, made: Forward, floor: float, scratch: Scratch) -> None:
        self.grad, self.out, self.scratch = grad, made.out, scratch
        self.inverse: Tensor | None = None
        if made.sums is not None:
            size = made.sums.abs()
            self.inverse = size.clamp_min(floor).reciprocal()
            self.slope = made.sums.sign().neg_().masked_fill_(size <= floor, 0)

    def __call__(self, group: slice, row: slice) -> tuple[Tensor, Tensor | None]:
        """[g, C, E], and [g, C, 1] where there is a denominator."""
        grad = self.grad[group, row]
        top = self.scratch("top", *grad.shape)
        if self.inverse is None:
            return top.copy_(grad), None
        torch.mul(grad, self.inverse[group, row], out=top)
        product = torch.mul(top, self.out[group, row], out=self.scratch("spare", *top.shape))
        return top, product.sum(-1, keepdim=True).mul_(self.slope[group, row])


class Decay:
    """Powers of the decay for pieces of up to C rows; without one, all are 1."""

    def __init__(self, decay: Tensor, rows: int) -> None:
        step = torch.arange(rows, device=decay.device)[:, None]
        self.decay, self.rows = decay, rows
        self._within = torch.where(step >= step.T, decay ** (step - step.T).clamp_min(0), 0)  # key to query, [G, C, C]
        self._before = decay ** (step + 1)  # S to query, [G, C, 1]
        self._after = decay ** (rows - 1 - step)  # key to the next S, [G, C, 1]

    def __call__(self, group: slice, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Within, before, after, and from S to the next S."""
        within = self._within[group, :rows, :rows]
        return within, self._before[group, :rows], self._after[group, self.rows - rows :], self.decay[group] ** rows


def dot(rows: Tensor, vector: Tensor, spare: Tensor) -> Tensor:
    """[g, C, D] with [g, D]: [g, C, 1]; quicker than a product with one column."""
    return torch.mul(rows, vector[:, None], out=spare).sum(-1, keepdim=True)


def divide(numerator: Tensor, sums: Tensor | None, floor: float, into: Tensor) -> None:
    """By the denominators, or by nothing."""
    if sums is None:
        into.copy_(numerator)
    else:
        torch.div(numerator, sums.abs().clamp_min_(floor), out=into)
