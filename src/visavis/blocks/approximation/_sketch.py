"""A mergeable summary of a weighted stream from which every quantile can be read with a small error in rank.

Shapes: N rows, D columns (streams side by side), K values a buffer. Rows of buffers are columns of the stream: [D, K].

The structure is a binary counter of buffers. A buffer is K sorted values that share a weight evenly. Two buffers whose
weights have the same order of magnitude become one: sort their 2 K values together and keep those at which the summed
weight passes ``(j + u) W / K``, j = 0 .. K - 1, with one random u in [0, 1). Every rank keeps its expectation and moves
by less than ``W / K``; a weight W takes part in ``log2`` many unions, whose errors are independent with mean zero, so
that the error in rank of a stream has a deviation below ``1 / K``, whatever the order in which the values came.

Long streams are thinned before that: when the rows outnumber 2^16, one of every 2, then of every 4, ... is drawn at
random from each run of as many. That alone has a deviation of at most ``sqrt(q (1 - q) / 2^15)``, 0.28 % at the median,
and less where neighbours resemble each other.

Source: Agarwal et al., Mergeable Summaries, PODS 2012 (unions of equal weight, random offset), and Karnin, Lang and
Liberty, Optimal Quantile Approximation in Streams, FOCS 2016 (thinning first). Unequal weights are ours.
"""

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["Sketch"]

_BUFFER = 2048
_KEPT = 65_536


class Sketch:
    """See the module's page. `size`, the rows a stream effectively has, is the caller's to know."""

    def __init__(self, columns: int, *, generator: torch.Generator) -> None:
        self.columns = columns
        self.generator = generator
        self.buffers: list[tuple[Tensor, float]] = []  # sorted [D, K], and the weight of all K together
        self.loose: Tensor | None = None  # [D, fewer than K], as they came
        self.loose_weights = torch.zeros(0, dtype=torch.float64, device=generator.device)

    def add(self, rows: Tensor, weights: Tensor | None, *, size: float) -> None:
        """Take float [N, D] in; weights [N], each 1 when None; `size` counts these rows too."""
        stride = 2 ** max(0, math.floor(math.log2(max(size, 1.0) / _KEPT)))
        device = rows.device
        if weights is not None:
            there = weights > 0
            rows, weights = rows[there], weights[there].double()
        if stride > 1 and len(rows) > 1:
            kept = -(-len(rows) // stride)
            lot = torch.rand(kept, generator=self.generator, dtype=torch.float64, device=device)
            places = (torch.arange(kept, device=device) + lot) * (len(rows) / kept)
            if weights is None:
                index = places.long().clamp_max(len(rows) - 1)
                total = float(len(rows))
            else:
                sums = weights.cumsum(0)
                total = float(sums[-1])
                index = torch.searchsorted(sums, places * (total / len(rows))).clamp_max(len(rows) - 1)
            rows, weights = rows[index], torch.full((kept,), total / kept, dtype=torch.float64, device=device)
        elif weights is None:
            weights = torch.ones(len(rows), dtype=torch.float64, device=device)
        self._stack(rows.T, weights)

    def merge(self, other: "Sketch") -> None:
        """Take in what another has seen; `other` stays as it is."""
        for values, weight in other.buffers:
            self._push(values, weight)
        if other.loose is not None:
            self._stack(other.loose, other.loose_weights)

    def fade(self, factor: float) -> None:
        """Everything so far weighs that much less."""
        if factor == 1.0:
            return
        self.loose_weights = self.loose_weights * factor
        if self.loose is not None:
            there = self.loose_weights > 0
            self.loose, self.loose_weights = self.loose[:, there], self.loose_weights[there]
        total = float(self.loose_weights.sum()) + sum(weight for _, weight in self.buffers) * factor
        self.buffers = [(values, weight * factor) for values, weight in self.buffers if weight * factor > 1e-9 * total]

    def sorted(self) -> tuple[Tensor, Tensor]:
        """[D, M] values in rising order and the share of the weight at or below each."""
        values = [buffer for buffer, _ in self.buffers]
        shares = [torch.full((_BUFFER,), weight / _BUFFER, dtype=torch.float64) for _, weight in self.buffers]
        if self.loose is not None:
            values.append(self.loose)
            shares.append(self.loose_weights)
        weights = torch.cat([share.to(self.generator.device) for share in shares])
        ordered, index = torch.cat(values, 1).sort(1)
        sums = weights[index].cumsum(1)
        return ordered, sums / sums[:, -1:]

    def state(self) -> dict[str, Any]:
        """All of it, for `load`."""
        return {
            "buffers": [(values.clone(), weight) for values, weight in self.buffers],
            "loose": None if self.loose is None else self.loose.clone(),
            "loose_weights": self.loose_weights.clone(),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Become what `state` was taken of."""
        device = self.generator.device
        self.buffers = [(values.to(device), weight) for values, weight in state["buffers"]]
        self.loose = None if state["loose"] is None else state["loose"].to(device)
        self.loose_weights = state["loose_weights"].to(device)
        self.generator.set_state(state["generator"].cpu())

    def _stack(self, values: Tensor, weights: Tensor) -> None:
        """Loose values [D, n] of weights [n]: whole buffers are put away, the rest waits."""
        if self.loose is not None:
            values, weights = torch.cat([self.loose, values], 1), torch.cat([self.loose_weights, weights])
        whole = values.shape[1] // _BUFFER * _BUFFER
        for start in range(0, whole, _BUFFER):
            block, shares = values[:, start : start + _BUFFER], weights[start : start + _BUFFER]
            ordered, index = block.sort(1)
            if float(shares.min()) < float(shares.max()):
                ordered = self._thin(ordered, shares[index])
            self._push(ordered, float(shares.sum()))
        self.loose, self.loose_weights = values[:, whole:].clone(), weights[whole:].clone()

    def _push(self, values: Tensor, weight: float) -> None:
        """A sorted buffer; whichever has a weight of its order of magnitude is united with it, and so on."""
        while True:
            order = math.floor(math.log2(weight))
            same = [i for i, (_, other) in enumerate(self.buffers) if math.floor(math.log2(other)) == order]
            if not same:
                self.buffers.append((values, weight))
                return
            others, other = self.buffers.pop(same[0])
            ordered, index = torch.cat([others, values], 1).sort(1)
            if other == weight:
                lot = torch.randint(2, (self.columns, 1), generator=self.generator, device=values.device)
                every = torch.arange(0, 2 * _BUFFER, 2, device=values.device)
                values = ordered.gather(1, every + lot)
            else:
                shares = torch.tensor([other, weight], dtype=torch.float64, device=values.device)
                values = self._thin(ordered, shares[index // _BUFFER])
            weight += other

    def _thin(self, ordered: Tensor, weights: Tensor) -> Tensor:
        """K of the sorted values [D, n], at equal steps of their summed weight [D, n]."""
        sums = weights.cumsum(1)
        lot = torch.rand((self.columns, 1), generator=self.generator, dtype=torch.float64, device=ordered.device)
        places = (torch.arange(_BUFFER, device=ordered.device) + lot) * (sums[:, -1:] / _BUFFER)
        return ordered.gather(1, torch.searchsorted(sums, places).clamp_max(ordered.shape[1] - 1))
