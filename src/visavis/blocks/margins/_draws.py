"""Random numbers that are a function of a counter: no state but the step, and the same on every device and rank."""

import math

import torch
from torch import Tensor

__all__ = ["normal"]

_LOW_32 = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of [0, 2^32) whose every output bit depends on every input bit; int64, and no product overflows.

    Source: Wellons, "Prospecting for Hash Functions", 2018, the best found of its two-round form.
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _LOW_32
    x = (x ^ (x >> 15)) * 0x735A2D97 & _LOW_32
    return x ^ (x >> 15)


def normal(seed: Tensor, step: Tensor, count: int) -> Tensor:
    """float32 [count] standard normal draws: Box and Muller's transform of hashes of (seed, step, place).

    Args:
        seed: int64 [] in [0, 2^32).
        step: int64 [], of which the low 32 bits count.
        count: how many.
    """
    key = _mix(_mix(seed ^ 0x5BF03635) ^ (step & _LOW_32))  # the constant: 0 would be mixed to 0
    place = torch.arange(2 * count, device=step.device)
    uniform = ((_mix(_mix(place + 1) ^ key).float() + 0.5) / 2**32).view(2, count)  # in (0, 1]
    return (-2.0 * uniform[0].log()).sqrt() * (2.0 * math.pi * uniform[1]).cos()
