"""Discrete draws without a gradient, with a generator; and what to refuse.

Shapes: S draws, B: batch shape, E: event shape, K classes.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical

from visavis.blocks.estimators._draws import draw
from visavis.errors import InputError, TensorError

__all__ = [
    "argmax",
    "check_logits",
    "discrete_logits",
    "draw_indices",
    "drawn",
    "hidden_values",
    "one_hot",
    "refuse_nan",
    "refuse_rows",
    "unwrapped",
]


def unwrapped(dist: Distribution) -> Distribution:
    """The distribution inside `Independent`."""
    while isinstance(dist, Independent):
        dist = dist.base_dist
    return dist


def drawn(dist: Distribution, samples: int, generator: torch.Generator | None) -> Tensor:
    """[S, *B, *E], without a gradient."""
    base = unwrapped(dist)
    with torch.no_grad():
        if isinstance(base, Categorical):
            return draw_indices(base.probs, samples, generator)
        if isinstance(base, OneHotCategorical):
            return one_hot(draw_indices(base.probs, samples, generator), base.probs)
        if isinstance(base, Bernoulli):
            return torch.bernoulli(base.probs.expand(samples, *base.probs.shape), generator=generator)
    return draw(dist, torch.Size([samples]), generator)


def draw_indices(probs: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Classes [S, *B] int64 of [*B, K] probabilities, by inversion of the distribution function, in float64.

    A block of about sqrt(K) classes is drawn first, by the blocks' sums, and then a class of it: the distribution
    function is never written down, and its rounding is that of one block, so that rare classes keep their share.
    """
    classes = probs.shape[-1]
    size = max(16, round(classes**0.5))
    whole = classes // size * size
    sums = torch.cat(
        [
            probs[..., :whole].reshape(*probs.shape[:-1], whole // size, size).sum(-1).double(),
            probs[..., whole:].sum(-1, keepdim=True).double(),
        ],
        -1,
    )
    if not hidden_values(probs) and not (sums.sum(-1) > 0).all():
        refuse_rows("probs", probs)
    start = size * _inverted(sums.expand(samples, *sums.shape), generator)  # [S, *B]
    inside = start[..., None] + torch.arange(size, device=probs.device)
    block = probs.expand(samples, *probs.shape).gather(-1, inside.clamp_max(classes - 1))
    inverted: Tensor = start + _inverted(torch.where(inside < classes, block, 0).double(), generator)
    return inverted


def _inverted(weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """An index along the last dim, with probability proportional to its weight; never one whose weight is 0."""
    rising = weights.cumsum(-1)
    total = rising[..., -1:]
    level = total * torch.rand(total.shape, generator=generator, dtype=total.dtype, device=total.device)
    level = torch.minimum(level, total.nextafter(torch.zeros_like(total)))  # a product that rounds up reaches no class
    below: Tensor = rising.le(level)
    index: Tensor = below.sum(-1)
    return index


def one_hot(indices: Tensor, like: Tensor) -> Tensor:
    """[*, K] of the dtype of `like`, whose last dim is K."""
    if hidden_values(indices):  # vmap scatters one by one
        return (torch.arange(like.shape[-1], device=like.device) == indices[..., None]).to(like.dtype)
    zeros = like.new_zeros(*indices.shape, like.shape[-1])
    return zeros.scatter_(-1, indices[..., None], 1)


def argmax(values: Tensor) -> Tensor:
    """Index of the largest along the last dim: the largest block first, as torch's max is quicker than its argmax."""
    classes = values.shape[-1]
    size = round(classes**0.5)
    if classes < 256 or classes % size or hidden_values(values):
        return values.argmax(-1)
    blocks = values.reshape(*values.shape[:-1], -1, size)
    best = blocks.amax(-1).argmax(-1, keepdim=True)  # [*, 1]
    inside = blocks.take_along_dim(best[..., None], -2)[..., 0, :].argmax(-1)
    index: Tensor = best[..., 0] * size + inside
    return index


def hidden_values(tensor: Tensor) -> bool:
    """Whether values cannot be looked at: inside torch.compile or torch.func's transforms."""
    hidden: bool = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return hidden


def refuse_nan(name: str, rows: Tensor) -> None:
    """Refuse NaN anywhere, where values can be looked at."""
    if not hidden_values(rows) and rows.isnan().any():
        refuse_rows(name, rows)


def refuse_rows(name: str, rows: Tensor) -> None:
    """Say which row of [*B, K] is no distribution, and why."""
    nothing = (rows == (0 if name == "probs" else -torch.inf)).all(-1)
    for bad, what in (
        (rows.isnan().any(-1), "NaN"),
        (rows.isposinf().any(-1), "infinity"),
        (nothing, "nothing that is allowed, every class is masked,"),
    ):
        if bad.any():
            row = bad.nonzero()[0].tolist()
            where = f"row {row[0] if len(row) == 1 else row}" if row else "the only row"
            raise InputError(
                f"{name}: expected a finite entry and no NaN or infinity in every row, got {what} in {where}"
            )
    raise InputError(f"{name}: expected entries that can be normalised, got sums that overflow")


def discrete_logits(dist: Distribution, needed_by: str) -> tuple[Tensor, bool]:
    """The logits of one-hot draws, [*B, K], and whether only the last class is to be fed to f (Bernoulli)."""
    base = unwrapped(dist)
    if isinstance(base, OneHotCategorical):
        return base.logits, False
    if isinstance(base, Bernoulli):
        return torch.stack([torch.zeros_like(base.logits), base.logits], -1), True
    hint = "; OneHotCategorical draws vectors, which relax" if isinstance(base, Categorical) else ""
    raise InputError(f"dist: expected OneHotCategorical or Bernoulli for {needed_by}, got {type(base).__name__}{hint}")


def check_logits(logits: Tensor) -> None:
    """Refuse what has no classes along its last dim."""
    if not logits.is_floating_point() or logits.ndim == 0 or logits.shape[-1] == 0:
        dtype = str(logits.dtype).removeprefix("torch.")
        raise TensorError(f"logits: expected float [..., classes], got {dtype} {list(logits.shape)}")
