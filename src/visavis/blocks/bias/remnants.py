"""What remains of a BatchNorm that is folded past the ReLU behind it."""

import torch
from torch import Tensor, nn

__all__ = ["Clamp", "Shift"]


class Clamp(nn.Module):
    """Channels clipped to bounds of their own: what remains of a BatchNorm and a ReLU.

    >>> Clamp(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, torch.inf]), dims=2)(torch.tensor([[-3.0, 5.0]]))
    tensor([[-1.,  5.]])
    """

    low: Tensor
    high: Tensor | None

    def __init__(self, low: Tensor, high: Tensor, *, dims: int) -> None:
        super().__init__()
        shape = (1, -1, *[1] * (dims - 2))
        self.register_buffer("low", low.reshape(shape))
        self.register_buffer("high", None if high.isposinf().all() else high.reshape(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """`inputs` [N, C, ...]."""
        return inputs.clamp(self.low, self.high)


class Shift(nn.Module):
    """Channels given a sign and shifted: what remains of a BatchNorm before a ReLU that stays.

    >>> Shift(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0]), dims=2)(torch.zeros(1, 2))
    tensor([[1., 2.]])
    """

    sign: Tensor | None
    by: Tensor

    def __init__(self, sign: Tensor, by: Tensor, *, dims: int) -> None:
        super().__init__()
        shape = (1, -1, *[1] * (dims - 2))
        self.register_buffer("sign", None if (sign == 1).all() else sign.reshape(shape))
        self.register_buffer("by", by.reshape(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """`inputs` [N, C, ...]."""
        return inputs + self.by if self.sign is None else torch.addcmul(self.by, inputs, self.sign)
