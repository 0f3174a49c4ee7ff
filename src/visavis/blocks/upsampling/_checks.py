"""What the layers refuse alike."""

from typing import Any

import torch
from torch import Tensor, nn

from visavis.errors import InputError, TensorError, expect

__all__ = ["by_tiles", "positive", "refuse_empty", "traced"]


def positive(name: str, value: Any, least: int = 1) -> int:
    """`value`, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}: expected a whole number of at least {least}, got {value}")
    return int(value)


def refuse_empty(name: str, images: Tensor) -> None:
    """Refuse what is not float [N, C, H, W] with pixels and channels; N may be 0."""
    expect(name, images, "float", None, None, None, None)
    if 0 in images.shape[1:]:
        raise TensorError(f"{name}: expected channels and pixels, got {list(images.shape)}; was it cropped to nothing?")


def by_tiles(images: Tensor) -> bool:
    """Whether work by tiles is worth its while: torch's own is as quick in channels-last, and is what tracers know."""
    return (
        images.device.type == "cpu"
        and images.is_contiguous()
        and type(images) in (Tensor, nn.Parameter)  # no fake tensors
        and not traced()
    )


def traced() -> bool:
    """Whether torch.compile or a transform of torch.func is at work, which hide values and kernels."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
