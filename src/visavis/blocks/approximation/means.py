"""Stochastic approximation: estimates that move a step towards every new observation."""

from torch import Tensor

from visavis.errors import InputError

__all__ = ["update_mean"]


def update_mean(mean: Tensor, value: Tensor, rate: float) -> Tensor:
    """A running mean moved towards a new value: ``mean + rate * (value - mean)``.

    With ``rate = 1 / n`` at the n-th value it is their exact mean; with a constant rate the exponential moving average,
    which forgets with a half-life of ``ln 2 / rate`` values; with rates whose sum diverges and whose squares' sum does
    not, Robbins and Monro's scheme, which converges.

    Args:
        mean: any shape.
        value: broadcasts with `mean`.
        rate: in [0, 1].

    Returns:
        A new tensor; `mean` stays as it is.

    Raises:
        InputError: `rate` is outside [0, 1].

    Source: Robbins and Monro, Annals of Mathematical Statistics 22(3), 1951, with ``f(mean) = value - mean``.

    >>> import torch
    >>> update_mean(torch.tensor(1.0), torch.tensor(4.0), 1 / 3)
    tensor(2.)
    """
    if not 0.0 <= rate <= 1.0:  # NaN fails too
        raise InputError(f"rate: expected a share in [0, 1], got {rate}")
    return mean + rate * (value - mean)
