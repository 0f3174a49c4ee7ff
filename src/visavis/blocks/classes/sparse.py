"""Stochastic gradient descent whose cost follows the sampled classes, not all of them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from visavis.errors import InputError

__all__ = ["SparseSGD"]


class SparseSGD(Optimizer):
    """SGD with momentum and weight decay, row by row: a row that a sparse gradient leaves out does not change at all.

    For every row i in the gradient, ``v[i] = momentum * v[i] + g[i] + weight_decay * w[i]``, ``w[i] -= lr * v[i]``.
    A row that is left out neither decays nor coasts on: its weight and its momentum stay bit for bit, as in Partial FC.
    So a class that is drawn in one step of ten decays a tenth as much as the number of steps suggests, and its momentum
    is that of the steps in which it took part. A dense gradient has all rows; this then is `torch.optim.SGD`.
    One optimizer for network and head will do. `torch.optim.SparseAdam` takes the head's sparse gradients as well.

    Args:
        params: parameters or groups of them, as everywhere in torch.optim.
        lr: learning rate.
        momentum: in [0, 1); 0 keeps no state.
        weight_decay: at least 0.

    Raises:
        InputError: an option out of range.

    >>> w = torch.nn.Parameter(torch.ones(3, 1))
    >>> w.grad = torch.sparse_coo_tensor([[1]], [[0.5]], (3, 1), check_invariants=True)
    >>> SparseSGD([w], lr=1.0).step()
    >>> w.flatten().tolist()
    [1.0, 0.5, 1.0]
    """

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        if not 0.0 <= lr < math.inf:
            raise InputError(f"lr: expected a rate of at least 0, got {lr}")
        if not 0.0 <= momentum < 1.0:
            raise InputError(f"momentum: expected a share in [0, 1), got {momentum}")
        if not 0.0 <= weight_decay < math.inf:
            raise InputError(f"weight_decay: expected at least 0, got {weight_decay}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloaded there
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum, decay = self.state[parameter], group["momentum"], group["weight_decay"]
        if momentum and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        if not gradient.is_sparse:
            step = gradient.add(parameter, alpha=decay) if decay else gradient
            if momentum:
                step = state["momentum_buffer"].mul_(momentum).add_(step)
            parameter.add_(step, alpha=-group["lr"])
            return
        rows, step = _rows(gradient)
        if decay:
            step = step.add(parameter.index_select(0, rows), alpha=decay)
        if momentum:
            step = state["momentum_buffer"].index_select(0, rows).mul_(momentum).add_(step)
            state["momentum_buffer"].index_copy_(0, rows, step)
        parameter.index_add_(0, rows, step, alpha=-group["lr"])


def _rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """[M] int64 rows, each once, and their [M, ...] gradients."""
    rows = gradient._indices()[0]
    if (rows.diff() > 0).all():  # as they come from the head; torch forgets it, and to coalesce would copy them all
        return rows, gradient._values()
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
