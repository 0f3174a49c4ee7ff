"""The median of a stream seen one comparison at a time, with an interval, beside the statistics of the whole."""

import torch

from visavis.blocks.approximation import Running, robbins_monro

draw = torch.Generator().manual_seed(0)
stream = iter(torch.randn(10_000, generator=draw).exp())  # log-normal: its median is 1
stats = Running(quantiles=True)


def observe(x: torch.Tensor) -> torch.Tensor:
    """Is the next value below x? Less one half, so that the root is the median."""
    value = next(stream)
    stats.update(value[None])
    return (value < x).double() - 0.5


root = robbins_monro(observe, 0.0)
low, high = root.interval
print(f"Robbins-Monro: {root.value:.4f}, 95 % interval {low:.4f} to {high:.4f}; {root.conditions.reason}")
print(f"Running:       {stats.quantile(0.5):.4f}, mean {stats.mean:.4f}, deviation {stats.variance().sqrt():.4f}")
