"""A head's state as one, whatever the number of ranks that shared it: collect it on rank 0, hand out the parts."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visavis.errors import InputError

if TYPE_CHECKING:
    from visavis.blocks.classes.softmax import ClassSoftmax

__all__ = ["collect", "distribute"]


def _rows_of_optimizer(head: "ClassSoftmax", optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps for the weight: tensors row by row, and numbers."""
    if not any(parameter is head.weight for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError("optimizer: expected one that moves the head's weight, got one that does not hold it")
    state = optimizer.state.get(head.weight, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_sparse:
            raise InputError(f"optimizer: expected dense rows, got a sparse {name}; use SparseSGD or SparseAdam")
    return dict(state)


def _is_rows(head: "ClassSoftmax", value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == (rows, *head.weight.shape[1:])


def collect(head: "ClassSoftmax", optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """`ClassSoftmax.full_state`."""
    ranks, rows = head.ranks, {"weight": head.weight.detach()}
    kept = {} if optimizer is None else _rows_of_optimizer(head, optimizer)
    rows |= {f"optimizer.{name}": value for name, value in kept.items() if _is_rows(head, value, len(head.weight))}
    full = {name: ranks.collect_rows(value, _edges(head)) for name, value in rows.items()}
    if ranks.rank > 0:
        return {}
    prefix = "optimizer."
    return {
        "classes": head.classes,
        "subcenters": head.subcenters,
        "features": head.features,
        "weight": full["weight"],
        "margin": {} if head.margin is None else {k: v.cpu().clone() for k, v in head.margin.state_dict().items()},
        "optimizer": None
        if optimizer is None
        else {
            name: full.get(prefix + name, value.cpu().clone() if isinstance(value, Tensor) else value)
            for name, value in kept.items()
        },
    }


def _edges(head: "ClassSoftmax") -> list[int]:
    """The first row of every rank, and the end of the last."""
    return [head.ranks.first(head.classes, rank) * head.subcenters for rank in range(head.ranks.world + 1)]


def distribute(head: "ClassSoftmax", state: dict[str, Any], optimizer: torch.optim.Optimizer | None) -> None:
    """`ClassSoftmax.load_full_state`."""
    missing = {"classes", "subcenters", "features", "weight", "margin", "optimizer"} - state.keys()
    if missing:
        raise InputError(f"state: expected what full_state returns on rank 0, got no {', '.join(sorted(missing))}")
    ours = {"classes": head.classes, "subcenters": head.subcenters, "features": head.features}
    theirs = {name: state[name] for name in ours}
    if theirs != ours:
        raise InputError(f"state: expected {_told(ours)}, got {_told(theirs)}")
    buffers = {} if head.margin is None else head.margin.state_dict()
    if {name: value.shape for name, value in buffers.items()} != {
        name: value.shape for name, value in state["margin"].items()
    }:
        raise InputError(f"state: expected a margin with {sorted(buffers)}, got one with {sorted(state['margin'])}")
    if optimizer is not None and state["optimizer"] is None:
        raise InputError("state: expected an optimizer's rows, got none; it was saved without one")
    kept = {} if optimizer is None else state["optimizer"]

    edges = _edges(head)
    part = slice(edges[head.ranks.rank], edges[head.ranks.rank + 1])
    with torch.no_grad():
        head.weight.copy_(state["weight"][part])
    if head.margin is not None:
        head.margin.load_state_dict(state["margin"])
    if optimizer is not None:
        _rows_of_optimizer(head, optimizer)
        optimizer.state[head.weight] = {
            name: value[part].to(head.weight.device, copy=True) if _is_rows(head, value, edges[-1]) else value
            for name, value in kept.items()
        }


def _told(sizes: dict[str, int]) -> str:
    return "{classes} classes x {subcenters} of {features} features".format(**sizes)
