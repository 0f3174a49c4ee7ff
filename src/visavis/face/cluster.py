"""Clustering: which faces are one person's, without a name for anybody.

Shapes: N faces, D embedding length, C clusters at the start, P pairs of clusters.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect

__all__ = ["cluster"]

NEIGHBOURS = 32  # partners that one search finds for a cluster
STRAGGLERS = 2  # faces at most in a cluster that may join another without reaching its mean
WITNESSES = 3  # faces of the other that must then be alike
SCORES = 2**25  # cosines held at a time by a search
ROUNDING = 1e-5  # a link closer than this to the threshold has reached it
BFLOAT16_ERROR = 2.0**-7  # of a cosine; both factors and the sum are rounded, by 2**-9 of themselves at most


def cluster(
    embeddings: NDArray[np.float32],
    *,
    threshold: float,
    group: NDArray[np.int64] | None = None,
    separate: Sequence[tuple[int, int]] = (),
    exclusive: Collection[int] = (),
) -> NDArray[np.int64]:
    """Average-linkage clustering, cut where no two clusters have a mean cosine of `threshold` or more.

    The mean cosine of members of A with members of B is ``sum(A) . sum(B) / (|A| |B|)``: the sums are all it
    takes. Average linkage is reducible, so merging all pairs of mutual best partners at once gives the
    partition that merging the one best pair at a time gives. A pair linked at the threshold has members as
    similar as that, so no lower cosine is ever needed. A search keeps a cluster's NEIGHBOURS best partners
    and is repeated on the means of what has merged: exact where no face has more of them above the threshold.

    Ours, beyond average linkage: a cluster of one or two faces then joins the cluster whose three faces most
    like it have a mean cosine of `threshold` or more with it. A blurred or turned face resembles some photos
    of its person and not their mean.

    A group is never taken apart: earlier results stay as they are, new faces join them or found clusters.
    Pairs that may not merge count as infinitely dissimilar, and so does whatever has absorbed one of them.

    Args:
        embeddings: [N, D] unit length.
        threshold: cosine in [-1, 1].
        group: [N] the cluster a face already belongs to, -1 for none.
        separate: pairs of groups that never meet in a cluster.
        exclusive: groups of which no two ever meet: the named people.

    Returns:
        [N] labels. A cluster with groups in it keeps the value of its exclusive group, or else its smallest;
        the others count on from the largest value in any argument, in the order of their first faces.

    Raises:
        TensorError: `embeddings` is not float [N, D], or `group` not int64 [N].
        InputError: embeddings not finite or not of unit length, a threshold outside [-1, 1], a group below
            -1, a group to be kept separate from itself.

    Source: Murtagh, The Computer Journal 26(4), 1983 (reciprocal nearest neighbours).

    >>> faces = np.eye(3, dtype=np.float32)[[0, 1, 0]]
    >>> cluster(faces, threshold=0.5)
    array([0, 1, 0])
    >>> cluster(faces, threshold=0.5, group=np.array([7, -1, -1]))
    array([7, 8, 7])
    """
    if group is None:
        group = np.full(len(embeddings), -1)
    _check(embeddings, threshold, group, separate)

    # At the start every group is a cluster, in the order of their values, and then every other face is one.
    placed = group >= 0
    values, inverse = np.unique(group[placed], return_inverse=True)
    start = np.empty(len(embeddings), np.int64)
    start[placed] = inverse
    start[~placed] = len(values) + np.arange((~placed).sum())
    number = {value: place for place, value in enumerate(values.tolist())}
    apart = [(number[a], number[b]) for a, b in separate if a in number and b in number]
    named = [number[value] for value in exclusive if value in number]

    clusters = _Clusters.of(embeddings, start, apart, named)
    bar = threshold - ROUNDING
    while clusters.merge(clusters.search(bar), bar):
        pass
    clusters.take_in_stragglers(embeddings, start, bar)

    # A merged cluster bears the smallest of its members' numbers: below len(values) the smallest group's.
    labels = np.full(len(clusters.parent), -1)
    labels[: len(values)] = values
    labels[clusters.parent[named]] = values[named]
    fresh = np.unique(clusters.parent[len(values) :])
    fresh = fresh[fresh >= len(values)]
    used = [*values.tolist(), *exclusive, *(value for pair in separate for value in pair)]
    labels[fresh] = max(used, default=-1) + 1 + np.arange(len(fresh))
    return labels[clusters.parent[start]]


def _check(
    embeddings: NDArray[np.float32],
    threshold: float,
    group: NDArray[np.int64],
    separate: Sequence[tuple[int, int]],
) -> None:
    expect("embeddings", embeddings, "float", None, None)
    expect("group", group, "int64", len(embeddings))
    norms = np.linalg.norm(embeddings, axis=1)
    if not (np.abs(norms - 1.0) < 1e-3).all():  # NaN fails too
        worst = norms[np.argmax(np.abs(norms - 1.0))]
        raise InputError(f"embeddings: expected rows of unit length, got a length of {worst:.4g}")
    if not -1.0 <= threshold <= 1.0:
        raise InputError(f"threshold: expected a cosine in [-1, 1], got {threshold}")
    if (group < -1).any():
        raise InputError(f"group: expected -1 or a group's number, got {group.min()}")
    for a, b in separate:
        if a == b:
            raise InputError(f"separate: expected pairs of different groups, got {(a, b)}")


@dataclass
class _Clusters:
    """Clusters while they merge; of two that merge the smaller number is kept."""

    sums: NDArray[np.float32]  # [C, D] of the members' embeddings
    sizes: NDArray[np.float32]  # [C]
    parent: NDArray[np.int64]  # [C] what each start cluster is part of now
    named: NDArray[np.bool_]  # [C] has an exclusive group in it
    apart: NDArray[np.int64]  # [any] keys of the pairs that must not merge

    @classmethod
    def of(
        cls,
        embeddings: NDArray[np.float32],
        start: NDArray[np.int64],
        apart: list[tuple[int, int]],
        named: list[int],
    ) -> "_Clusters":
        sizes = np.bincount(start)
        sums = np.zeros((len(sizes), embeddings.shape[1]), np.float32)
        np.add.at(sums, start, embeddings)
        flags = np.zeros(len(sizes), np.bool_)
        flags[named] = True
        keys = _keys(np.array(apart, np.int64).reshape(-1, 2).T, len(sizes))
        return cls(sums, sizes.astype(np.float32), np.arange(len(sizes)), flags, keys)

    def search(self, bar: float) -> NDArray[np.int64]:
        """[2, P] pairs that may be linked at `bar`, each once: every cluster with its best partners."""
        alive = np.flatnonzero(self.parent == np.arange(len(self.parent)))
        means = self.sums[alive] / self.sizes[alive, None]
        return self._pairs(_distinct(_keys(alive[_nearest(means, None, bar)], len(self.parent))))

    def merge(self, pairs: NDArray[np.int64], bar: float) -> bool:
        """Merge mutual best partners among `pairs` until no link reaches `bar`; whether anything merged."""
        pairs, links = self._linked(pairs, bar)
        merged = len(links) > 0
        while len(links):
            mutual = pairs[:, _peaks(pairs, links, len(self.parent))]
            # Equal links, as between copies of a photo, can leave a cluster several best partners: draw one.
            lots = np.random.default_rng(0).permutation(mutual.shape[1])
            into, gone = mutual[:, _peaks(mutual, lots, len(self.parent))]
            self.sums[into] += self.sums[gone]
            self.sizes[into] += self.sizes[gone]
            self.named[into] |= self.named[gone]
            step = np.arange(len(self.parent))
            step[gone] = into
            self.parent = step[self.parent]
            self.apart = _keys(step[self._pairs(self.apart)], len(self.parent))

            touched = np.zeros(len(self.parent), np.bool_)
            touched[into] = touched[gone] = True
            stale = touched[pairs[0]] | touched[pairs[1]]
            moved = step[pairs[:, stale]]
            keys = _distinct(_keys(moved[:, moved[0] != moved[1]], len(self.parent)))
            fresh, fresh_links = self._linked(self._pairs(keys), bar)
            pairs = np.concatenate([pairs[:, ~stale], fresh], axis=1)
            links = np.concatenate([links[~stale], fresh_links])
        return merged

    def take_in_stragglers(self, embeddings: NDArray[np.float32], start: NDArray[np.int64], bar: float) -> None:
        """Move each small cluster into the one whose WITNESSES faces most like it have a mean link of `bar`.

        Clusters under a constraint stay, so that no constraint can break whatever else moves.
        """
        root = self.parent[start]
        free = ~self.named
        free[self._pairs(self.apart)] = False
        alive = self.parent == np.arange(len(self.parent))
        small = np.flatnonzero(alive & free & (self.sizes <= STRAGGLERS))
        faces = np.flatnonzero(self.sizes[root] >= max(WITNESSES, STRAGGLERS + 1))
        means = self.sums[small] / self.sizes[small, None]
        row, column = _nearest(means, embeddings[faces], -1.0)
        links = _dots(means, row, embeddings, faces[column])

        # Sort by straggler, then by cluster, then the best link first; the first of a run are its witnesses.
        home = root[faces[column]]
        order = np.lexsort((-links, home, row))
        row, home, links = row[order], home[order], links[order]
        last = np.arange(WITNESSES - 1, len(links))  # a window's last face
        first = last - WITNESSES + 1
        opens = np.ones(len(links), np.bool_)
        opens[1:] = (row[1:] != row[:-1]) | (home[1:] != home[:-1])
        first = first[opens[first] & (row[first] == row[last]) & (home[first] == home[last])]
        support = np.mean([links[first + i] for i in range(WITNESSES)], axis=0)

        # Written in rising order of support, so that each straggler ends in its best cluster.
        best = np.argsort(support, kind="stable")
        best = first[best[support[best] >= bar]]
        step = np.arange(len(self.parent))
        step[small[row[best]]] = home[best]
        least = np.arange(len(self.parent))
        np.minimum.at(least, step, np.arange(len(self.parent)))
        self.parent = least[step[self.parent]]

    def _linked(self, pairs: NDArray[np.int64], bar: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The pairs that may merge and are linked at `bar` or above, and their links."""
        both_named = self.named[pairs[0]] & self.named[pairs[1]]
        pairs = pairs[:, ~both_named & ~np.isin(_keys(pairs, len(self.parent)), self.apart)]
        links = _dots(self.sums, pairs[0], self.sums, pairs[1])
        links /= self.sizes[pairs[0]] * self.sizes[pairs[1]]
        return pairs[:, links >= bar], links[links >= bar]

    def _pairs(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """[2, P] from their keys."""
        return np.stack(np.divmod(keys, len(self.parent)))


def _nearest(queries: NDArray[np.float32], targets: NDArray[np.float32] | None, bar: float) -> NDArray[np.int64]:
    """[2, P] rows of `queries` and of the NEIGHBOURS `targets` (None: the other queries) nearest to each.

    Those whose product is below `bar` are left out, up to the rounding of bfloat16, which is used where the
    processor multiplies it faster than float32 (measured with AVX-512: 3 to 4 times).
    """
    import torch

    quick = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    ours = torch.from_numpy(queries).to(torch.bfloat16 if quick else torch.float32)
    theirs = ours if targets is None else torch.from_numpy(targets).to(ours.dtype)
    count = min(NEIGHBOURS, len(theirs) - (targets is None))
    if count < 1:
        return np.empty((2, 0), np.int64)
    found = [torch.empty((2, 0), dtype=torch.int64)]
    rows = max(1, SCORES // len(theirs))
    room = ours.new_empty((min(rows, len(ours)), len(theirs)))  # new pages cost a fifth more
    for first in range(0, len(ours), rows):
        block = ours[first : first + rows]
        links = torch.mm(block, theirs.T, out=room[: len(block)])
        if targets is None:
            links.diagonal(first).fill_(-torch.inf)
        best, partner = links.topk(count, sorted=False)
        row, column = torch.nonzero(best >= bar - BFLOAT16_ERROR, as_tuple=True)
        found.append(torch.stack([row + first, partner[row, column]]))
    return torch.cat(found, dim=1).numpy()


def _dots(
    left: NDArray[np.float32], a: NDArray[np.int64], right: NDArray[np.float32], b: NDArray[np.int64]
) -> NDArray[np.float32]:
    """``left[a] . right[b]``, a block of rows at a time."""
    dots = np.empty(len(a), np.float32)
    for first in range(0, len(a), 2**14):
        rows = slice(first, first + 2**14)
        dots[rows] = np.einsum("pd,pd->p", left[a[rows]], right[b[rows]])
    return dots


def _keys(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """One number for each unordered pair [2, P] of numbers below `count`."""
    keys: NDArray[np.int64] = np.minimum(pairs[0], pairs[1]) * count + np.maximum(pairs[0], pairs[1])
    return keys


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """np.unique without its hash table, which is slower than numpy's sort."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def _peaks(pairs: NDArray[np.int64], heights: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which pairs are the highest, or as high as the highest, at both of their ends."""
    top = np.full(count, -2, heights.dtype)  # below any cosine and any lot
    np.maximum.at(top, pairs[0], heights)
    np.maximum.at(top, pairs[1], heights)
    peaks: NDArray[np.bool_] = (heights == top[pairs[0]]) & (heights == top[pairs[1]])
    return peaks
