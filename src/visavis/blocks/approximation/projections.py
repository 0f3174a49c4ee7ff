"""Sets that hold what is sought, and the nearest point of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError

__all__ = ["Ball", "Box", "Within", "projection"]

Within = Callable[[Tensor], Tensor] | tuple[float | Tensor, float | Tensor]


@dataclass(frozen=True)
class Box:
    """Every entry in [low, high], which are numbers or tensors that broadcast.

    >>> Box(0.0, 1.0)(torch.tensor([-2.0, 0.5]))
    tensor([0.0000, 0.5000])
    """

    low: float | Tensor
    high: float | Tensor

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.low) <= torch.as_tensor(self.high)).all()):  # NaN fails too
            raise InputError(f"low, high: expected low <= high, got {self.low} and {self.high}")

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return torch.maximum(torch.minimum(x, torch.as_tensor(self.high).to(x)), torch.as_tensor(self.low).to(x))


@dataclass(frozen=True)
class Ball:
    """Everything within `radius` of `centre` in the Euclidean distance over all entries.

    >>> Ball(1.0)(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """

    radius: float
    centre: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if not self.radius > 0.0:
            raise InputError(f"radius: expected a positive number, got {self.radius}")

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest point of the ball."""
        centre = torch.as_tensor(self.centre).to(x)
        way = x - centre
        share: Tensor = self.radius / torch.linalg.vector_norm(way).clamp_min(self.radius)
        return centre + way * share


def projection(within: Within | None) -> Callable[[Tensor], Tensor]:
    """A callable as it is, a pair (low, high) as a `Box`, None as no bound at all."""
    if within is None:
        return lambda x: x
    return Box(*within) if isinstance(within, tuple) else within
