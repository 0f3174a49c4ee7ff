"""The median of a stream seen one comparison at a time, with an interval, beside the statistics of the whole."""

import torch

from visavis.blocks.approximation import Running, RunningQuantile, Tail, robbins_monro

draw = torch.Generator().manual_seed(0)
stream = iter(torch.randn(10_000, generator=draw).exp())  # log-normal: its median is 1
stats, median, largest = Running(quantiles=True), RunningQuantile(0.5), Tail(100)


def observe(x: torch.Tensor) -> torch.Tensor:
    """Is the next value below x? Less one half, so that the root is the median."""
    value = next(stream)
    for summary in (stats, median, largest):
        summary.update(value[None])
    return (value < x).double() - 0.5


root = robbins_monro(observe, 0.0)
low, high = root.interval
print(f"Robbins-Monro: {root.value:.4f}, 95 % interval {low:.4f} to {high:.4f}; {root.conditions.reason}")
print(f"Running:       {stats.quantile(0.5):.4f}, mean {stats.mean:.4f}, deviation {stats.variance().sqrt():.4f}")
low, high = median.interval()
print(f"its values:    {median.value:.4f}, 95 % interval {low:.4f} to {high:.4f}, density there {median.density:.3f}")
top = largest.threshold(0.005)
print(f"1 in 200 is above {top.value:.2f}, 95 % interval {top.low:.2f} to {top.high:.2f}")
