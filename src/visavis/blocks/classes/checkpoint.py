"""A head's state as one, whatever the number of ranks that shared it: collect it on rank 0, hand out the parts."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visavis.errors import InputError

if TYPE_CHECKING:
    from visavis.blocks.classes.softmax import ClassSoftmax

__all__ = ["collect", "distribute"]


def collect(head: "ClassSoftmax", optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """`ClassSoftmax.full_state`."""
    kept = {} if optimizer is None else _kept_for(head, optimizer)
    for name, value in kept.items():
        if isinstance(value, Tensor) and value.is_sparse:
            raise InputError(f"optimizer: expected dense rows, got a sparse {name}; use SparseSGD or SparseAdam")
    edges = _edges(head)
    weight = head.ranks.collect_rows(head.weight.detach(), edges)
    rows = {  # sorted, so that all ranks send in one order
        name: head.ranks.collect_rows(value, edges)
        for name, value in sorted(kept.items())
        if isinstance(value, Tensor) and value.shape == head.weight.shape
    }
    if head.ranks.rank > 0:
        return {}
    others = {name: value.cpu().clone() if isinstance(value, Tensor) else value for name, value in kept.items()}
    return {
        **_sizes(head),
        "weight": weight,
        "margin": {name: value.cpu().clone() for name, value in _buffers(head).items()},
        "optimizer": None if optimizer is None else {**others, **rows},
    }


def distribute(head: "ClassSoftmax", state: dict[str, Any], optimizer: torch.optim.Optimizer | None) -> None:
    """`ClassSoftmax.load_full_state`: everything is looked at before anything is changed."""
    missing = {*_sizes(head), "weight", "margin", "optimizer"} - state.keys()
    if missing:
        raise InputError(f"state: expected what full_state returns on rank 0, got no {', '.join(sorted(missing))}")
    ours, theirs = _sizes(head), {name: state[name] for name in _sizes(head)}
    if theirs != ours:
        told = "{classes} classes x {subcenters} of {features} features"
        raise InputError(f"state: expected {told.format(**ours)}, got {told.format(**theirs)}")
    edges = _edges(head)
    shape = (edges[-1], head.features)
    if state["weight"].shape != shape:
        raise InputError(f"state: expected weight {list(shape)}, got {list(state['weight'].shape)}")
    buffers, saved = ({name: value.shape for name, value in each.items()} for each in (_buffers(head), state["margin"]))
    if buffers != saved:
        raise InputError(f"state: expected a margin with {sorted(buffers)}, got one with {sorted(saved)}")
    if optimizer is not None:
        _kept_for(head, optimizer)
        if state["optimizer"] is None:
            raise InputError("state: expected an optimizer's rows, got none; it was saved without one")

    part = slice(edges[head.ranks.rank], edges[head.ranks.rank + 1])
    with torch.no_grad():
        head.weight.copy_(state["weight"][part])
    if head.margin is not None:
        head.margin.load_state_dict(state["margin"])
    if optimizer is not None:
        optimizer.state[head.weight] = {
            name: value[part].to(head.weight.device, copy=True)
            if isinstance(value, Tensor) and value.shape == shape
            else value
            for name, value in state["optimizer"].items()
        }


def _sizes(head: "ClassSoftmax") -> dict[str, int]:
    return {"classes": head.classes, "subcenters": head.subcenters, "features": head.features}


def _edges(head: "ClassSoftmax") -> list[int]:
    """The first row of every rank, and the end of the last one's."""
    return [head.ranks.first(head.classes, rank) * head.subcenters for rank in range(head.ranks.world + 1)]


def _buffers(head: "ClassSoftmax") -> dict[str, Tensor]:
    return {} if head.margin is None else head.margin.state_dict()


def _kept_for(head: "ClassSoftmax", optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps for the weight: tensors row by row, and numbers."""
    if not any(parameter is head.weight for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError("optimizer: expected one that moves the head's weight, got one that does not hold it")
    return dict(optimizer.state.get(head.weight, {}))
