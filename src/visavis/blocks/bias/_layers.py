"""Layers that weights are changed of: to scale what they read, to scale and shift what they make."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visavis.blocks._trace import Node, Value

__all__ = ["LAYERS", "Layer"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer, and the node that is its product."""

    name: str
    module: Any  # of `LAYERS`, which share no type that has a weight and a bias
    node: Node
    given: Value
    weight: Value

    @property
    def dim(self) -> int:
        """The dimension of the channels, of what it reads and what it makes."""
        return 1 if self.node.name == "aten.convolution.default" else -1

    @property
    def roomy(self) -> tuple[int, ...]:
        """The shape of what it reads, of one sample and so large that a padded border is not all there is."""
        _, *shape = self.given.shape
        if not isinstance(self.module, nn.Linear):
            spans = zip(self.module.kernel_size, self.module.dilation, strict=True)
            shape[1:] = [
                size + 2 * kernel * dilation for size, (kernel, dilation) in zip(shape[1:], spans, strict=True)
            ]
        return (1, *shape)

    def product(self, plane: Tensor) -> Tensor:
        """Of a plane of what it reads, without the bias."""
        weight: Tensor = self.module.weight.detach().double()
        if isinstance(self.module, nn.Linear):
            return plane.matmul(weight.T)
        product: Tensor = torch.ops.aten.convolution.default(plane, weight, None, *self.node.args[3:])
        return product

    def scale_inputs(self, by: Tensor) -> None:
        """W x becomes W (by * x)."""
        weight = self.module.weight
        if isinstance(self.module, nn.Linear):
            self._set_weight(weight.double() * by)
        elif self.module.transposed:
            self._set_weight(weight.double() * by.view(-1, *[1] * (weight.ndim - 1)))
        else:
            groups = self.module.groups
            split = weight.double().view(groups, -1, *weight.shape[1:])
            self._set_weight((split * by.view(groups, 1, -1, *[1] * (weight.ndim - 2))).view(weight.shape))

    def scale_outputs(self, by: Tensor) -> None:
        """W x + b becomes by * (W x + b)."""
        weight = self.module.weight
        if getattr(self.module, "transposed", False):
            groups = self.module.groups
            split = weight.double().view(groups, -1, *weight.shape[1:])
            self._set_weight((split * by.view(groups, 1, -1, *[1] * (weight.ndim - 2))).view(weight.shape))
        else:
            self._set_weight(weight.double() * by.view(-1, *[1] * (weight.ndim - 1)))
        if self.module.bias is not None:
            self._set_bias(self.module.bias.double() * by)

    def shift_outputs(self, by: Tensor) -> None:
        """W x + b becomes W x + b + by."""
        if by.any():
            bias = self.module.bias
            self._set_bias(by if bias is None else bias.double() + by)

    def _set_weight(self, weight: Tensor) -> None:
        old = self.module.weight
        self.module.weight = nn.Parameter(weight.detach().to(old.dtype), old.requires_grad)

    def _set_bias(self, bias: Tensor) -> None:
        old = self.module.weight
        self.module.bias = nn.Parameter(bias.detach().to(old.dtype), old.requires_grad)
