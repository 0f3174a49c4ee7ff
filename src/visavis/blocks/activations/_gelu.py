"""GELU's formula and slope, which `gelu` and `geglu` share."""

import math

import torch
from torch import Tensor

__all__ = ["gelu_formula", "gelu_with_slope"]


def gelu_formula(x: Tensor) -> Tensor:
    return torch.erfc(x * -math.sqrt(0.5)) * x * 0.5


def gelu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    share = torch.erfc(x * -math.sqrt(0.5)) * 0.5
    density = torch.exp(x.square() * -0.5) * (1 / math.sqrt(2 * math.pi))
    return x * share, share + x * density
