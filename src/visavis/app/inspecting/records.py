"""What `examine` returns."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

__all__ = ["LINEAR_PAYS_FROM", "Attention", "Finding", "Inspection", "Own", "Row"]

# Places from which linear attention was quicker than softmax attention, forward and backward, with 64 features a head
# on a CPU: benchmarks/results/attention--*.json, drawn and told in docs/attention.md. The ratio of the two
# costs' leading terms is places over features, so with more features a head it is as many times later.
LINEAR_PAYS_FROM = 256
MEASURED_FEATURES = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reader should know first.

    Attributes:
        kind: what it is about, for programs.
        level: "mend": something to change; "know": a fact worth knowing; "unknown": what could not be told.
        text: one sentence.
        layers: the names it is about, in order.
    """

    kind: str
    level: Literal["mend", "know", "unknown"]
    text: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attention:
    """One product of queries with keys: `places` queries, `keys` keys, `features` of each head."""

    layer: str
    places: int
    keys: int
    features: int

    @property
    def pays_from(self) -> int:
        """Places from which the linear form is the quicker one; see `LINEAR_PAYS_FROM`."""
        return LINEAR_PAYS_FROM * max(1, math.ceil(self.features / MEASURED_FEATURES))


@dataclass(frozen=True, slots=True)
class Row:
    """A module, with all that is inside it.

    Attributes:
        calls: how often it ran; 0: not at all.
        leaf: whether there are no modules inside it.
        shape: of the last call's first output, with the batch of 1; () where it gave none.
        parameters: a number shared with an earlier module is counted there.
        flops: of products and convolutions; the rest is small beside them and is not counted.
        activation_bytes: what one forward writes, views and operations in place left out.
        saved_bytes: what autograd keeps for the backward of a training step, an image; None: it did not run.
        field: input positions that reach an output position, an axis of the image each; None: the whole image. Empty
            where the output does not depend on the image.
        stride: input positions an output position, an axis each; None where there is no even pattern.
        own: flops, parameters, bytes, saved bytes and marks that are no module's inside it.
        marks: kinds of the findings that ask for a change, with how many modules they name, it and those inside.
    """

    name: str
    kind: str
    depth: int
    calls: int
    leaf: bool
    shape: tuple[int, ...]
    parameters: int
    flops: int
    activation_bytes: int
    saved_bytes: int | None
    field: tuple[int | None, ...]
    stride: tuple[float | None, ...]
    own: "Own"
    marks: dict[str, int]


@dataclass(frozen=True, slots=True)
class Own:
    """What a module itself costs and is marked with, without the modules inside it."""

    parameters: int
    flops: int
    activation_bytes: int
    saved_bytes: int | None
    marks: dict[str, int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Findings, the most useful first, and the modules in the order in which they first ran; the first row is all."""

    model: str
    input_shape: tuple[int, ...]
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    attentions: tuple[Attention, ...]

    @property
    def total(self) -> Row:
        return self.rows[0]

    def shown(self, depth: int) -> list[Row]:
        """Modules down to a depth: those at it and leaves above it, and what modules above compute beside these.

        Together they hold all parameters and FLOPs; what costs nothing is left out.
        """
        found = []
        for row in self.rows:
            if row.depth == depth or (row.leaf and row.depth < depth):
                if row.parameters or row.flops or row.activation_bytes or row.saved_bytes:
                    found.append(row)
            elif row.depth < depth and (row.own.parameters or row.own.flops or row.own.marks):
                found.append(replace(row, **asdict(row.own), name=f"{row.name or row.kind} itself"))
        return found

    def depth_for(self, lines: int) -> int:
        """The greatest depth that gives no more lines; at least 1."""
        deepest = max(row.depth for row in self.rows)
        return max((d for d in range(1, deepest + 1) if len(self.shown(d)) <= lines), default=1)

    def to_json(self) -> dict[str, Any]:
        """All of it as lists, numbers and texts."""
        return asdict(self)
