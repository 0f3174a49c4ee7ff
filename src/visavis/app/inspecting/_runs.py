"""Inputs to run a network on, and what is left of an error it raises."""

import torch
from torch import Tensor, nn

__all__ = ["batch", "example", "first_line"]


def example(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """An empty input of the type of the network's weights."""
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def batch(model: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    """Two random images: training with a BatchNorm needs two."""
    drawn_like = example(model, (2, *input_shape))
    return torch.randn(drawn_like.shape, generator=torch.Generator().manual_seed(0)).to(drawn_like)


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
