"""Gumbel noise, free and conditional.

Shapes: K classes, ``*`` any.
"""

import torch
from torch import Tensor

from visavis.blocks.estimators._discrete import hidden_values

__all__ = ["conditional_gumbel", "gumbel", "log_exponential_"]


def gumbel(like: Tensor, *, precise: bool, generator: torch.Generator | None) -> Tensor:
    """Gumbel noise, ``-log E``, of the shape and device of `like`; float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    noise = torch.empty_like(like, dtype=dtype, requires_grad=False, memory_format=torch.contiguous_format)
    return log_exponential_(noise, precise=precise, generator=generator).neg_()


def log_exponential_(noise: Tensor, *, precise: bool, generator: torch.Generator | None) -> Tensor:
    """Fill with log E, E standard exponential.

    E is ``-log U``. In float32 U lies on a grid of at most 2^-23, so that E is at least 2^-24 and Gumbel noise at most
    16.6; `precise` draws E itself, whose small values are fine.
    """
    if precise:
        return noise.exponential_(generator=generator).clamp_min_(torch.finfo(noise.dtype).tiny).log_()
    if (
        noise.dtype == torch.float32
        and noise.device.type == "cpu"
        and noise.numel() % 2 == 0
        and not hidden_values(noise)
    ):
        # torch draws one number after another on a CPU: two uniform variables from each 64 random bits are
        # quicker. With the exponent of 1, 23 bits are a float in [1, 2); less 1, in the middle of its cell.
        noise.view(-1).view(torch.int64).random_(-(2**63), None, generator=generator)
        noise.view(torch.int32).bitwise_and_(0x7FFFFF).bitwise_or_(0x3F800000)
        noise.sub_(1 - 2**-24)
    else:
        # The grid's first cell, where the logarithm has no value, is represented by its middle.
        noise.uniform_(torch.finfo(noise.dtype).eps / 4, 1.0, generator=generator)
    return noise.log_().neg_().log_()


def conditional_gumbel(probs: Tensor, index: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """``log p + G``, given that its argmax is `index`: [*, K], of probabilities [*, K] and an index that broadcasts.

    Of competing exponential clocks with the rates p the first rings after a standard exponential time, whichever it is,
    and from then on the others start anew.
    """
    clocks = torch.empty_like(probs, memory_format=torch.contiguous_format).exponential_(generator=generator)
    first = torch.empty_like(probs[..., :1], memory_format=torch.contiguous_format).exponential_(generator=generator)
    others = first + clocks / probs
    won = torch.arange(probs.shape[-1], device=probs.device) == index[..., None]
    return -torch.where(won, first, others).clamp_min(torch.finfo(probs.dtype).tiny).log()
