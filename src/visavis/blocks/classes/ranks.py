"""Which classes a rank holds, and what ranks tell one another: sizes, samples, sums.

N: samples of one rank, P: of all ranks together, D: features, R: ranks. Without torch.distributed there is one rank,
and nothing is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from visavis.errors import RankError

__all__ = ["Gather", "Ranks", "Samples"]


@contextmanager
def _answering(what: str, ranks: int) -> Iterator[None]:
    """A rank that is gone or stuck, in our words; how long gloo and nccl wait is `init_process_group(timeout=...)`."""
    try:
        yield
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RankError(
            f"ranks: expected all {ranks} to {what}, got none from at least one; "
            f"it has died, is stuck, or is at another step ({cause})"
        ) from error


class Ranks(NamedTuple):
    """The processes that share the classes, and this one's place among them."""

    group: "dist.ProcessGroup | None" = None
    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls, group: "dist.ProcessGroup | None") -> "Ranks":
        """Those of `group`, else of the whole job, else this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(group, dist.get_rank(group), dist.get_world_size(group))

    def first(self, classes: int, rank: int | None = None) -> int:
        """The first class of a rank, by default this one; that of rank R, where there is none, ends the last."""
        return classes * (self.rank if rank is None else rank) // self.world

    def sizes(self, samples: int, device: torch.device, *, refused: bool = False) -> list[int]:
        """Everyone's number of samples.

        Raises:
            RankError: another rank refused its batch, so that no rank waits for it; or is gone.
        """
        if self.world == 1:
            return [samples]
        mine = torch.tensor([samples, int(refused)], device=device)
        all_ranks = torch.empty(self.world, 2, dtype=torch.int64, device=device)
        with _answering("say how many samples they have", self.world):
            dist.all_gather_single(all_ranks.view(-1), mine, group=self.group)
        counts, refusals = all_ranks.T.tolist()
        if not refused and any(refusals):
            raise RankError(f"ranks: expected good batches, got none from rank {refusals.index(1)}; its error says why")
        return [int(count) for count in counts]

    def gather(self, mine: Tensor) -> Tensor:
        """Everyone's tensor of one shape, [R, ...]."""
        if self.world == 1:
            return mine[None]
        everyone = mine.new_empty(self.world, *mine.shape)
        with _answering("send their samples or sums", self.world):
            dist.all_gather_single(everyone.view(-1), mine.contiguous().view(-1), group=self.group)
        return everyone

    def add(self, mine: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.world > 1:
            with _answering("send their sums", self.world):
                dist.all_reduce(mine, group=self.group)
        return mine

    def add_and_scatter(self, everyone: Tensor) -> Tensor:
        """[R, ...] of everyone, added; this rank keeps its own part [...]."""
        if self.world == 1:
            return everyone[0]
        mine = torch.empty_like(everyone[0])
        with _answering("send their gradients", self.world):
            dist.reduce_scatter_single(mine.view(-1), everyone.view(-1), group=self.group)
        return mine

    def collect_rows(self, mine: Tensor, edges: list[int]) -> Tensor:
        """Everyone's rows, one below the other, on the CPU of rank 0; the others get an empty tensor.

        Args:
            mine: this rank's rows, ``[edges[rank + 1] - edges[rank], ...]``.
            edges: the first row of every rank, and the end of the last.
        """
        if self.rank > 0:
            with _answering("take part in the checkpoint", self.world):
                dist.send(mine.contiguous(), group=self.group, group_dst=0)
            return mine.new_empty(0)
        full = torch.empty(edges[-1], *mine.shape[1:], dtype=mine.dtype)
        full[: edges[1]] = mine
        for rank in range(1, self.world):
            theirs = mine.new_empty(edges[rank + 1] - edges[rank], *mine.shape[1:])
            with _answering("take part in the checkpoint", self.world):
                dist.recv(theirs, group=self.group, group_src=rank)
            full[edges[rank] : edges[rank + 1]] = theirs
        return full


class Samples(NamedTuple):
    """What `Gather` returns, of all ranks' samples in the order of the ranks."""

    directions: Tensor  # [P, D]
    norms: Tensor  # [P]
    labels: Tensor  # [P] int64


def _unpadded(padded: Tensor, sizes: list[int]) -> Tensor:
    """[R, most, ...] to [P, ...]: what each rank really has."""
    if len(set(sizes)) == 1:
        return padded.flatten(0, 1)
    return torch.cat([part[:size] for part, size in zip(padded, sizes, strict=True)])


class Gather(torch.autograd.Function):
    """All ranks' samples on every rank, by one collective: directions, norms and labels travel in one tensor.

    Backward, a rank's own features get R times the gradient of the loss: `DistributedDataParallel` then takes the mean
    over the ranks, and the network's gradient is that of the loss. Gradients of directions are added up over ranks, for
    each has seen its own classes only; those of norms every rank has worked out in full.
    """

    @staticmethod
    def forward(
        ctx: Any, directions: Tensor, norms: Tensor, labels: Tensor, sizes: list[int], ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[N, D], [N] and [N] of this rank to those of all."""
        ctx.sizes, ctx.ranks = sizes, ranks
        integers = torch.int64 if directions.dtype == torch.float64 else torch.int32  # as wide as the floats
        packed = directions.new_zeros(max(sizes), directions.shape[1] + 2)
        packed[: len(norms), :-2] = directions
        packed[: len(norms), -2] = norms
        packed.view(integers)[: len(norms), -1] = labels.to(integers)
        everyone = _unpadded(ranks.gather(packed), sizes)
        found = everyone.view(integers)[:, -1].to(torch.int64)
        ctx.mark_non_differentiable(found)
        return everyone[:, :-2].contiguous(), everyone[:, -2].contiguous(), found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The parts of this rank."""
        of_directions, of_norms, _ = gradients
        sizes, ranks = ctx.sizes, ctx.ranks
        size, start = sizes[ranks.rank], sum(sizes[: ranks.rank])
        padded = of_directions.new_zeros(ranks.world, max(sizes), of_directions.shape[1])
        for part, found in zip(padded, of_directions.split(sizes), strict=True):
            part[: len(found)] = found
        summed = ranks.add_and_scatter(padded)[:size]
        return summed * ranks.world, of_norms[start : start + size] * ranks.world, None, None, None
