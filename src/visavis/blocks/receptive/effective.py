"""The effective receptive field: how much each input position matters, by the gradient."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from visavis.errors import InputError

__all__ = ["Effective", "effective"]


@dataclass(frozen=True, eq=False)
class Effective:
    """Attributes: `map`, float [*spatial axes of the input], the shares of the gradient; they sum to 1."""

    map: Tensor = field(repr=False)

    def size(self, axis: int, *, share: float = 0.9545) -> int:
        """The length of the shortest interval along `axis` that holds `share` of the gradient.

        By default what two standard deviations hold of a normal distribution.

        >>> Effective(torch.tensor([0.0, 0.1, 0.8, 0.1])).size(0, share=0.9)
        2
        """
        others = [dim for dim in range(self.map.ndim) if dim != axis]
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), (self.map.sum(others) if others else self.map).double()])
        sums = sums.cumsum(0)
        ends = torch.searchsorted(sums, sums + share * sums[-1] * (1 - 1e-12))
        lengths = (ends - torch.arange(len(sums)))[ends < len(sums)]
        return int(lengths.min())


def effective(
    model: nn.Module, images: Tensor, *, layer: str = "", position: tuple[int, ...] | None = None
) -> Effective:
    """``mean over images of |d sum over channels of y(position) / d x|``, summed over input channels, to sum 1.

    Where all weights are independent draws it tends to a bell curve whose width grows with the root of the depth, and
    so covers a vanishing share of the field; training widens it. The channels are summed with random signs, as their
    plain sum lets weights cancel that the network after the layer would not.

    Args:
        model: with its weights, in the mode it is in.
        images: float [N, C, ...]; random ones for a map of the architecture, real ones for a map of the model.
        layer: the name of a module; the network by default.
        position: of the layer's output, after batch and channels; the middle by default.

    Raises:
        InputError: no such layer ran, or its output does not depend on the images.

    Source: Luo et al., Understanding the Effective Receptive Field in Deep Convolutional Neural Networks,
    arXiv:1701.04128, section 2; the random signs are ours.

    >>> generator = torch.Generator().manual_seed(0)
    >>> net = nn.Conv2d(1, 4, 3, padding=1)
    >>> found = effective(net, torch.randn(2, 1, 9, 9, generator=generator))
    >>> found.map.nonzero().aminmax(dim=0).min.tolist(), found.map.nonzero().aminmax(dim=0).max.tolist()
    ([3, 3], [5, 5])
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        raise InputError(f"layer: expected the name of a module, got {layer!r}")
    kept: list[Tensor] = []

    def hook(module: nn.Module, args: object, result: object) -> None:  # noqa: ARG001
        kept.extend(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))

    handle = modules[layer].register_forward_hook(hook)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(images.shape[2:], dtype=images.dtype)
    try:
        for image in images[:, None]:
            kept.clear()
            taken = image.detach().clone().requires_grad_()
            with torch.enable_grad():
                model(taken)
                output = kept[0] if kept else None
                if output is None or not output.requires_grad:
                    raise InputError(f"layer: expected one whose output depends on the images, got {layer!r}")
                place = position if position is not None else tuple(size // 2 for size in output.shape[2:])
                channels = output.movedim((0, 1), (-2, -1))[place]
                signs = torch.randint(2, channels.shape, generator=generator).to(output) * 2 - 1
                (gradient,) = torch.autograd.grad((channels * signs).sum(), taken)
            total += gradient[0].abs().sum(0).detach().cpu()
    finally:
        handle.remove()
    return Effective(total / total.sum().clamp_min(torch.finfo(total.dtype).tiny))
