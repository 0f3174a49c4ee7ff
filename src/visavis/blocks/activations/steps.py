"""The oldest activations, which are steps, and the slopes that stand in for theirs.

A step's derivative is zero wherever it exists, so nothing before it would learn. Backward, a surrogate takes its place:
a bump of height `slope` at 0 and of the given width. The value stays the step.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from visavis.blocks.activations._blocks import pointwise
from visavis.errors import InputError

__all__ = ["Surrogate", "sign", "threshold"]

Surrogate = Literal["straight_through", "clipped", "triangle", "sigmoid", "arctan", "fast_sigmoid"]

# Each at distance x from the step, in units of the width. All but straight_through have area 1: the derivatives of
# ramps and sigmoids that rise from 0 to 1.
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "straight_through": torch.ones_like,
    "clipped": lambda x: (x.abs() <= 1).to(x.dtype) / 2,
    "triangle": lambda x: (1 - x.abs()).clamp_min(0),
    "sigmoid": lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
    "arctan": lambda x: 1 / (torch.pi * (1 + x.square())),
    "fast_sigmoid": lambda x: 0.5 / (1 + x.abs()).square(),
}


def threshold(x: Tensor, *, surrogate: Surrogate = "sigmoid", width: float = 1.0) -> Tensor:
    """1 where x is above 0, else 0: the perceptron's activation, with a gradient to train it by.

    The threshold T of ``w x > T`` is the bias: ``threshold(w x - T)``.

    Args:
        x: float of any shape.
        surrogate: what stands in for the derivative, with u = x / width:
            straight_through: 1 (Hinton's estimator; its gradient reaches every unit, however far from the step);
            clipped: 1/2 where ``|u| <= 1``, else 0; triangle: ``max(0, 1 - |u|)``;
            sigmoid: ``s(u) (1 - s(u))``; arctan: ``1 / (pi (1 + u^2))``; fast_sigmoid: ``1 / (2 (1 + |u|)^2)``;
            all but the first divided by `width`, so that their area is 1, as the step's height is.
        width: positive, in units of x.

    Raises:
        TensorError: `x` is not float.
        InputError: an unknown `surrogate`, or a `width` that is not positive.

    Source: McCulloch and Pitts, Bulletin of Mathematical Biophysics 5, 1943; Rosenblatt, The Perceptron, Cornell
    Aeronautical Laboratory report 85-460-1, 1957. Surrogates: Bengio et al., arXiv:1308.3432; Neftci, Mostafa and
    Zenke, arXiv:1901.09948.

    >>> x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> y = threshold(x, surrogate="triangle", width=2.0)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, 0.0, 1.0], [0.25, 0.5, 0.0])
    """
    return pointwise(x, lambda x: _where_not_nan(x, (x > 0).to(x.dtype)), _slope(surrogate, width, 1.0))


def sign(x: Tensor, *, surrogate: Surrogate = "clipped", width: float = 1.0) -> Tensor:
    """-1, 0 or 1 as x is below, at or above 0; its surrogate slope is twice `threshold`'s, as its step is.

    The default is the gradient that binary networks are trained with: 1 between -1 and 1. With `straight_through` the
    slope is 1 as well. Arguments and errors as `threshold`.

    Source: Courbariaux et al., Binarized Neural Networks, arXiv:1602.02830, section 1.3.

    >>> sign(torch.tensor([-3.0, 0.0, 0.5]))
    tensor([-1.,  0.,  1.])
    """
    return pointwise(
        x,
        lambda x: _where_not_nan(x, torch.sgn(x)),
        _slope(surrogate, width, 1.0 if surrogate == "straight_through" else 2.0),
    )


def _slope(surrogate: Surrogate, width: float, height: float) -> Callable[[Tensor], Tensor]:
    if surrogate not in _SLOPES:
        raise InputError(f"surrogate: expected one of {', '.join(_SLOPES)}, got {surrogate!r}")
    if not 0.0 < width < torch.inf:
        raise InputError(f"width: expected a positive number, got {width}")
    bump = _SLOPES[surrogate]
    scale = height if surrogate == "straight_through" else height / width
    return lambda x: bump(x / width) * scale


def _where_not_nan(x: Tensor, step: Tensor) -> Tensor:
    """A comparison would turn NaN into 0, and hide it."""
    return torch.where(x.isnan(), x, step)
