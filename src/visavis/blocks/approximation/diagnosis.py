"""What the trace of a search shows of the conditions under which Dvoretzky's theorem lets it converge.

The theorem takes ``x_{n+1} = T_n(x_n) + noise`` and asks three things: the noise has mean zero and variances whose sum,
``sum a_n^2 s_n^2``, is finite; T_n brings every point nearer to the root, by a share of the way whose sum over n is
infinite; and the root stays one. For Robbins and Monro ``T_n(x) = x - a_n f(x)``.

A trace is finite and seen at its own points only. It can show that a condition is broken; it proves none of them: what
steps do at infinity is known from their formula (`conditions`), what f does elsewhere is known to who made f.

Shapes: ``*S`` that of the unknown, T steps.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from visavis.blocks.approximation.roots import Root
from visavis.errors import InputError

__all__ = ["Diagnosis", "diagnose"]

_CLEAR = 4.0  # standard errors: one entry in 30,000 by chance


class Diagnosis(NamedTuple):
    """Of each entry; float64 [*S] unless said otherwise."""

    exponent: Tensor  # p of the second half's steps as c n^-p: above 1/2 and at most 1 is what both sums ask
    reach: Tensor  # sum of all steps times the drift: e^-reach is the share of a distance at the start that is left
    drift: Tensor  # slope of the values on the way from the root: how hard the function pulls back to it
    drift_error: Tensor  # its standard error
    noise: Tensor  # [2, *S]: the values' variance about that slope, in the third and in the last quarter
    correlation: Tensor  # of successive residuals: noise of mean zero given the past has none, up to 1 / sqrt(T / 2)

    @property
    def warnings(self) -> list[str]:
        """What speaks against convergence; empty when nothing does, which is no proof."""
        found = []
        if bool((self.exponent > 1.0 + 1e-3).any()):
            found.append("exponent: above 1, the steps may not reach the root")
        if bool((self.exponent <= 0.5 - 1e-3).any()):
            found.append("exponent: at most 1/2, the noise may not average out")
        if bool((self.reach < math.log(20)).any()):
            found.append("reach: more than a twentieth of the distance at the start is left; take more or larger steps")
        if bool((self.drift < _CLEAR * self.drift_error).any()):
            found.append("drift: no clear pull towards the root where the search was; does the function rise there?")
        if bool((self.noise[1] > 2.0 * self.noise[0]).any()):
            found.append("noise: its variance grows along the search")
        return found


def diagnose(root: Root) -> Diagnosis:
    """Look for broken conditions in the trace of `robbins_monro`.

    The drift is ``sum y (x - root) / sum (x - root)^2`` over all steps, the root being the one found; a search that
    started there has nothing to show it by. Entries are looked at one by one: where they depend on each other, the part
    of the others counts as noise.

    Raises:
        InputError: the trace has fewer than 200 steps.

    Source: Dvoretzky, Proc. 3rd Berkeley Symposium 1, 1956, for the conditions.

    >>> from visavis.blocks.approximation import Constant, Power, robbins_monro
    >>> def seen(x):
    ...     return x - 5 + torch.randn((), generator=draw)
    >>> draw = torch.Generator().manual_seed(0)
    >>> diagnose(robbins_monro(seen, 0.0, schedule=Power(1.0))).warnings
    []
    >>> diagnose(robbins_monro(seen, 0.0, schedule=Constant(0.1))).warnings
    ['exponent: at most 1/2, the noise may not average out']
    """
    points, values, steps = root.trace
    length = len(points)
    if length < 200:
        raise InputError(f"root: expected a trace of at least 200 steps, got {length}")
    half = length // 2
    tiny = torch.finfo(torch.float64).tiny
    n = torch.arange(half + 1, length + 1, dtype=torch.float64, device=points.device).log()
    n = (n - n.mean()).view(-1, *[1] * (points.ndim - 1))
    exponent = -(n * steps[half:].log()).sum(0) / n.square().sum()
    away = points - root.value
    squares = away.square().sum(0).clamp_min(tiny)
    drift = (away * values).sum(0) / squares
    rest = values - drift * away
    late = rest[half:]
    quarter = len(late) // 2
    return Diagnosis(
        exponent,
        steps.sum(0) * drift.clamp_min(0.0),
        drift,
        (rest.square().mean(0) / squares).sqrt(),
        torch.stack([late[:quarter].square().mean(0), late[quarter:].square().mean(0)]),
        (late[1:] * late[:-1]).sum(0) / late.square().sum(0).clamp_min(tiny),
    )
