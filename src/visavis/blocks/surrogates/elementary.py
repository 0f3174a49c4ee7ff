"""Smooth stand-ins for maximum, argmax and the elementary functions that jump, each with a temperature T.

Functions of one number are what noise makes of them on average. Logistic noise of scale T has the distribution function
``sigmoid(x / T)``: a step that is fed ``x + noise`` is 1 with that probability, and the others are sums or integrals of
steps. So are their gradients averages, of the gradients of the exact function and its jumps. Maximum and argmax are the
same for Gumbel noise, up to a constant: the mean of the maximum is ``T logsumexp(x / T)``, and the probability of being
it the softmax.

Half precision is computed in float32. n: entries along the axis.
"""

import math

import torch
from torch import Tensor

from visavis.blocks.surrogates._rows import aside, check_positive, peaks, wide
from visavis.errors import InputError, TensorError

__all__ = ["argmax", "ceil", "clip", "exact_argmax", "exact_step", "floor", "max", "min", "round", "sign", "step"]


def max(x: Tensor, *, dim: int = -1, temperature: float) -> Tensor:  # as in torch, surrogates.max
    """The largest entry along `dim`, with a gradient for all: ``T logsumexp(x / T)``; `torch.amax`, smoothed.

    It lies between the largest and the largest plus ``T log n``, and falls as T falls. The gradient is `argmax`.
    Entries of minus infinity are left out.

    Args:
        x: float [..., n, ...].
        dim: the axis of n, which the result does not have.
        temperature: positive, in units of `x`.

    Raises:
        TensorError: `x` is not float, or empty along `dim`.
        InputError: the largest entry of a row is infinite or NaN; `temperature` out of range.

    >>> max(torch.tensor([1.0, 0.0, 1.0]), temperature=0.01)
    tensor(1.0069)
    """
    check_positive("temperature", temperature)
    rows = wide("x", x, dim)
    largest = aside(peaks, rows)
    return (largest[..., 0] + temperature * ((rows - largest) / temperature).logsumexp(-1)).to(x.dtype)


def min(x: Tensor, *, dim: int = -1, temperature: float) -> Tensor:
    """The smallest entry along `dim`: ``-max(-x)``. Arguments and errors as `max`; plus infinity is left out.

    It lies between the smallest less ``T log n`` and the smallest.

    >>> min(torch.tensor([1.0, 0.0, 1.0]), temperature=0.01)
    tensor(-0.)
    """
    return -max(-x, dim=dim, temperature=temperature)


def argmax(x: Tensor, *, dim: int = -1, temperature: float) -> Tensor:
    """Weights along `dim` that tend to the one-hot argmax: ``softmax(x / T)``; `exact_argmax`, smoothed.

    Where the largest entry is ahead of all others by a gap, no weight is farther from the exact one than
    ``(n - 1) exp(-gap / T)``. Weights that become exactly 0 and 1 at a temperature above 0 are those of
    `sparsemax(x / T)`. Arguments and errors as `max`; the shape is that of `x`.

    >>> argmax(torch.tensor([1.0, 0.0, 1.0]), temperature=0.2)
    tensor([0.4983, 0.0034, 0.4983])
    """
    check_positive("temperature", temperature)
    rows = wide("x", x, dim)
    return ((rows - aside(peaks, rows)) / temperature).softmax(-1).to(x.dtype).movedim(-1, dim)


def exact_argmax(x: Tensor, *, dim: int = -1) -> Tensor:
    """1 at the largest entry along `dim` and 0 elsewhere; several largest entries share the 1 evenly.

    >>> exact_argmax(torch.tensor([1.0, 0.0, 1.0]))
    tensor([0.5000, 0.0000, 0.5000])
    """
    rows = wide("x", x, dim)
    winners = (rows == aside(peaks, rows)).to(rows.dtype)
    return (winners / winners.sum(-1, keepdim=True)).to(x.dtype).movedim(-1, dim)


def step(x: Tensor, *, temperature: float) -> Tensor:
    """1 where `x` is above 0 and 0 where below, with a gradient: ``sigmoid(x / T)``; `exact_step`, smoothed.

    The distance from the exact step is at most ``exp(-|x| / T)``.

    Args:
        x: float of any shape.
        temperature: positive, in units of `x`.

    Raises:
        TensorError: `x` is not float.
        InputError: `temperature` out of range.

    >>> step(torch.tensor([-2.0, 0.0, 2.0]), temperature=0.1)
    tensor([2.0612e-09, 5.0000e-01, 1.0000e+00])
    """
    return _number(x, temperature).sigmoid().to(x.dtype)


def exact_step(x: Tensor) -> Tensor:
    """1 where `x` is above 0, 0 where below, 1/2 at 0: `torch.heaviside`.

    >>> exact_step(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return torch.heaviside(x, x.new_tensor(0.5))


def sign(x: Tensor, *, temperature: float) -> Tensor:
    """``tanh(x / 2T)``, twice the `step` less 1; at most ``2 exp(-|x| / T)`` from `torch.sign`. As `step` otherwise.

    >>> sign(torch.tensor([-2.0, 0.0, 2.0]), temperature=0.1)
    tensor([-1.,  0.,  1.])
    """
    return (_number(x, temperature) / 2).tanh().to(x.dtype)


def clip(x: Tensor, low: float, high: float, *, temperature: float) -> Tensor:
    """`x` kept between two numbers, with a gradient beyond them, too; `torch.clip`, smoothed.

    ``low + T log(1 + exp((x - low) / T)) - T log(1 + exp((x - high) / T))``, at most ``T log 2`` from the exact one,
    and at most ``T exp(-d / T)`` where d is the distance from the nearer bound. The gradient is one step less another.
    Arguments and errors as `step`.

    Raises:
        InputError: `low` is not below `high`.

    >>> clip(torch.tensor([-2.0, 0.5, 2.0]), 0.0, 1.0, temperature=0.01)
    tensor([0.0000, 0.5000, 1.0000])
    """
    if not -math.inf < low < high < math.inf:
        raise InputError(f"low, high: expected two finite numbers, the lower one first, got {low} and {high}")
    over = _number(x - low, temperature)
    span = (high - low) / temperature
    difference = torch.nn.functional.softplus(over) - torch.nn.functional.softplus(over - span)
    return (low + temperature * difference.clamp(0.0, span)).to(x.dtype)


def floor(x: Tensor, *, temperature: float) -> Tensor:
    """The whole number below, as a staircase with rounded edges: the sum of the steps at all whole numbers.

    The distance from `torch.floor` is at most ``2 exp(-d / T) / (1 - exp(-1 / T))``, where d is that of `x` from the
    nearest whole number; at whole numbers the value is that of the middle of the jump, ``x - 1/2``. Hot, at T of 1 and
    above, it is the line ``x - 1/2``. For T above 1/4 the sum is taken over the staircase's waves, whose number k noise
    weakens by ``2 pi^2 k T / sinh(2 pi^2 k T)``. Arguments and errors as `step`.

    >>> floor(torch.tensor([-0.5, 0.0, 0.9, 7.5]), temperature=0.05)
    tensor([-1.0000, -0.5000,  0.1192,  7.0000])
    """
    check_positive("temperature", temperature)
    wide_x = _number(x, 1.0)
    reach = -math.log(torch.finfo(wide_x.dtype).eps)  # what is farther than that many temperatures rounds off
    nearest = wide_x.detach().round()
    offset = wide_x - nearest  # in [-1/2, 1/2]
    if temperature > 0.25:
        value = offset - 0.5
        for wave in range(1, int(reach / (2 * math.pi**2 * temperature)) + 1):
            weight = 2 * math.pi * temperature / math.sinh(2 * math.pi**2 * wave * temperature)
            value = value + weight * (2 * math.pi * wave * offset).sin()
    else:
        value = (offset / temperature).sigmoid() - 1.0
        for stair in range(1, math.ceil(temperature * reach + 0.5) + 1):
            value = value + ((offset - stair) / temperature).sigmoid() - ((-offset - stair) / temperature).sigmoid()
    return (nearest + value).to(x.dtype)


def ceil(x: Tensor, *, temperature: float) -> Tensor:
    """The whole number above, smoothed: `floor` and 1. `torch.ceil`, in the way that `floor` is `torch.floor`.

    >>> ceil(torch.tensor([-0.5, 0.0, 0.9, 7.5]), temperature=0.01)
    tensor([0.0000, 0.5000, 1.0000, 8.0000])
    """
    return floor(x, temperature=temperature) + 1.0


def round(x: Tensor, *, temperature: float) -> Tensor:
    """The nearest whole number, smoothed: `floor` of ``x + 1/2``; half way between two, which `torch.round` makes even,
    the value stays in the middle.

    >>> round(torch.tensor([-0.5, 0.6, 0.9, 7.5]), temperature=0.05)
    tensor([-0.5000,  0.8808,  0.9997,  7.5000])
    """
    return floor(x + 0.5, temperature=temperature)


def _number(x: Tensor, temperature: float) -> Tensor:
    """``x / temperature``, in float32 where `x` is of half precision.

    Raises:
        TensorError: `x` is not float.
        InputError: `temperature` is not positive.
    """
    check_positive("temperature", temperature)
    if not x.is_floating_point():
        raise TensorError(f"x: expected float, got {str(x.dtype).removeprefix('torch.')} {list(x.shape)}")
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x) / temperature
