"""Gumbel noise, free and conditional.

Shapes: K classes, ``*`` any.
"""

import torch
from torch import Tensor

__all__ = ["conditional_gumbel", "gumbel"]


def gumbel(like: Tensor, *, precise: bool, generator: torch.Generator | None) -> Tensor:
    """``-log E``, E standard exponential, of the shape of `like`; float32 at least.

    E is ``-log U``. U lies on a grid of 2^-24 in float32, so that E is at least 2^-24 and the noise at most 16.6;
    `precise` draws E itself, whose small values are fine.
    """
    noise = torch.empty_like(like, dtype=torch.promote_types(like.dtype, torch.float32), requires_grad=False)
    if precise:
        noise.exponential_(generator=generator).clamp_min_(torch.finfo(noise.dtype).tiny)
    else:
        # The grid's first cell, where the logarithm has no value, is represented by its middle.
        noise.uniform_(torch.finfo(noise.dtype).eps / 4, 1.0, generator=generator).log_().neg_()
    return noise.log_().neg_()


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
