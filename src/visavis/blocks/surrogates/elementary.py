"""Smooth stand-ins for the elementary functions that jump: each is what noise makes of it on average.

Logistic noise of scale `temperature`, T, has the distribution function ``sigmoid(x / T)``. A step that is fed
``x + noise`` is therefore 1 with that probability, and what holds for the step holds for sums of steps.
"""

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import check_positive

__all__ = ["step"]


def step(x: Tensor, *, temperature: float) -> Tensor:
    """1 where `x` is positive and 0 where it is negative, with a gradient: ``sigmoid(x / temperature)``.

    Differs from `torch.heaviside` by at most ``exp(-|x| / temperature)``; 1/2 at 0.

    >>> step(torch.tensor([-2.0, 0.0, 2.0]), temperature=0.1)
    tensor([2.0612e-09, 5.0000e-01, 1.0000e+00])
    """
    check_positive("temperature", temperature)
    return torch.sigmoid(x / temperature)
