"""Linear attention as a layer, and a softmax attention made into one."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from visavis.blocks.attention.features import Hedgehog
from visavis.blocks.attention.functional import FeatureMap, FeatureName, State, linear
from visavis.errors import InputError, TensorError, expect

__all__ = ["Distillation", "LinearAttention", "convert", "distill"]


class LinearAttention(nn.Module):
    """Self-attention of several heads through `linear`: [..., L, dim] to [..., L, dim].

    Feature maps that are modules are trained with it. Two of them serve q and k apart.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        feature_map: FeatureName | nn.Module | tuple[nn.Module, nn.Module] = "elu",
        causal: bool = False,
        bias: bool = False,
    ) -> None:
        """Weights drawn so that the products keep the variance of their inputs.

        Raises:
            InputError: `dim` is no positive multiple of `heads`.
        """
        super().__init__()
        if heads < 1 or dim < 1 or dim % heads:
            raise InputError(f"dim: expected a positive multiple of heads, got dim {dim} and heads {heads}")
        self.dim, self.heads, self.causal = dim, heads, causal
        self._name: FeatureName | None = None
        self.maps = nn.ModuleList()
        if isinstance(feature_map, str):
            self._name = feature_map
        else:
            self.maps.extend((feature_map,) if isinstance(feature_map, nn.Module) else feature_map)
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)
        for layer in (self.qkv, self.out):
            nn.init.normal_(layer.weight, std=dim**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @property
    def feature_map(self) -> FeatureMap:
        """As `linear` takes it."""
        return (self.maps[0], self.maps[-1]) if self._name is None else self._name

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, [..., heads, L, dim / heads]."""
        expect("x", x, "float", *x.shape[:-1], self.dim)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3).unbind()
        return q, k, v

    @overload
    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: State | None = None, return_state: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: State | None = None, return_state: Literal[True]
    ) -> tuple[Tensor, State]: ...

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: State | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, State]:
        """`mask`: bool [..., L], True takes part. `state` and `return_state` as of `linear`, for decoding."""
        if mask is not None:
            if mask.dtype != torch.bool or mask.shape != x.shape[:-1]:
                raise TensorError(f"mask: expected bool {list(x.shape[:-1])}, got {mask.dtype} {list(mask.shape)}")
            mask = mask[..., None, None, :]
        q, k, v = self.project(x)
        y, after = linear(
            q, k, v, feature_map=self.feature_map, causal=self.causal, mask=mask, state=state, return_state=True
        )
        y = self.out(y.transpose(-2, -3).flatten(-2))
        return (y, after) if return_state else y


class Distillation(NamedTuple):
    """How far the linear weights are from the softmax, in nats: the mean of KL(softmax, linear) over the queries."""

    before: float
    after: float


def convert(attention: nn.MultiheadAttention, *, causal: bool = False) -> LinearAttention:
    """A trained softmax attention's weights in a linear one, with `Hedgehog` features that `distill` then trains.

    Raises:
        InputError: queries, keys and values of different sizes, or biases added to the keys.
    """
    if (
        {attention.kdim, attention.vdim} != {attention.embed_dim}
        or attention.bias_k is not None
        or attention.add_zero_attn
    ):
        raise InputError("attention: expected one of q, k, v of one size without added keys, got another")
    dim, heads, biased = attention.embed_dim, attention.num_heads, attention.in_proj_bias is not None
    maps = (Hedgehog(heads, dim // heads), Hedgehog(heads, dim // heads))
    made = LinearAttention(dim, heads, feature_map=maps, causal=causal, bias=biased)
    made = made.to(attention.in_proj_weight)
    with torch.no_grad():
        made.qkv.weight.copy_(attention.in_proj_weight)
        made.out.weight.copy_(attention.out_proj.weight)
        if biased:
            made.qkv.bias.copy_(attention.in_proj_bias)
            made.out.bias.copy_(attention.out_proj.bias)
    return made


def distill(
    attention: LinearAttention, inputs: Sequence[Tensor], *, steps: int = 200, learning_rate: float = 0.01
) -> Distillation:
    """Train the feature maps, and nothing else, to give the weights that a softmax over the same q and k gives.

    The loss is the cross-entropy of the linear weights against the softmax's, which needs all weights of all queries:
    take short sequences for it, or crops of long ones. Not needed any more once the maps are trained.

    Args:
        attention: as `convert` makes it; changed in place.
        inputs: what the layer gets in its network, batches of [..., L, dim]; gone through in turn.
        steps: of Adam, one batch each.
        learning_rate: of Adam, falling to 0 along a cosine.

    Returns:
        The divergence over all inputs before and after.

    Raises:
        InputError: feature maps without parameters, or no inputs.

    Source: Zhang et al., The Hedgehog and the Porcupine, arXiv:2402.04347, section 4.2.
    """
    parameters = list(attention.maps.parameters())
    if not parameters or not inputs or steps < 1:
        raise InputError(
            "attention, inputs, steps: expected feature maps to train, batches and a positive number, "
            f"got {len(parameters)} parameters, {len(inputs)} batches and {steps}"
        )
    with torch.no_grad():
        pairs = [attention.project(x)[:2] for x in inputs]
        before = _mean_divergence(attention, pairs)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        loss = _divergence(attention, *pairs[step % len(pairs)])
        optimizer.zero_grad()
        torch.autograd.backward(loss, inputs=parameters)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return Distillation(before, _mean_divergence(attention, pairs))


def _mean_divergence(attention: LinearAttention, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    return sum(float(_divergence(attention, q, k)) for q, k in pairs) / len(pairs)


def _divergence(attention: LinearAttention, q: Tensor, k: Tensor) -> Tensor:
    """KL(softmax weights, linear weights), mean over queries."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = attention.maps[0](q) @ attention.maps[-1](k).mT
    if attention.causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        weights = weights.tril()
    wanted = scores.softmax(-1)
    ratio = (wanted.clamp_min(1e-30) / weights.clamp_min(1e-30) * weights.sum(-1, keepdim=True)).log()
    divergence: Tensor = (wanted * ratio).sum(-1).mean()
    return divergence
