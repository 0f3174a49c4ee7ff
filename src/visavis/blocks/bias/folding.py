"""Norms and scales folded into the layers beside them: the same outputs, fewer operations."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from visavis.blocks._trace import trace
from visavis.blocks.bias._planes import Traced
from visavis.blocks.bias._surgery import Fold, LeftError, ReusedError, Surgery
from visavis.errors import InputError

__all__ = ["FoldReport", "fold"]


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What `fold` did; printing it says it.

    Attributes:
        folded: in the order of execution.
        left: the norms that stay and why, by name.
        error: the largest difference between the outputs on the example, relative to the largest output.
    """

    folded: tuple[Fold, ...]
    left: dict[str, str]
    error: float

    def __str__(self) -> str:
        how = {kind: sum(each.how == kind for each in self.folded) for kind in ("back", "ahead", "clamp", "shift")}
        counts = ", ".join(f"{count} {kind}" for kind, count in how.items() if count)
        lines = [
            f"{len(self.folded)} of {len(self.folded) + len(self.left)} folded"
            + (f" ({counts})" if counts else "")
            + f", outputs differ by {self.error:.1e}"
        ]
        return "\n".join([*lines, *(f"{name}: left: {reason}" for name, reason in self.left.items())])


def fold(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    leave_reused: bool = False,
    tolerance: float = 1e-5,
) -> tuple[nn.Module, FoldReport]:
    r"""Fold BatchNorms and channel scales into convolutions, transposed convolutions and linear layers.

    In evaluation a BatchNorm is :math:`y = s x + t` with one s and t a channel. It goes

    - *back* into the layers that make x, if nothing else reads it: :math:`s (Wx + b) + t = (sW) x + (sb + t)`, through
      reshapes, concatenations and average pooling;
    - *ahead* into the layers that read y: :math:`W(sx + t) + b = (Ws) x + (Wt + b)`, where :math:`Wt` is the same at
      every position: with zero padding it is not, unless t = 0;
    - ahead past a ReLU, though that is not linear: with :math:`c = -t/s`,
      :math:`\max(sx + t, 0) = s \cdot \operatorname{clamp}(x) + t`, where channels with s > 0 are clamped to at least
      c and those with s < 0 to at most c. BatchNorm and ReLU become one `Clamp`, whose bounds are the thresholds that
      the neurons fire at. Where zeros are padded, or where the ReLU is a call of a function that no surgery on
      modules can take away, :math:`\max(sx + t, 0) = |s| \max(\pm x + t/|s|, 0)` leaves a `Shift` and takes the scale
      ahead.

    Modules that only multiply channels by a parameter (LayerScale) or do so and add another are folded alike.

    Holds for inputs of the example's shape; of another as long as the network treats them alike.

    Args:
        model: in evaluation mode; it is not changed.
        example: its input or inputs, for the graph and for the comparison of the outputs.
        leave_reused: leave norms beside a layer that runs more than once, rather than refuse the network.
        tolerance: the largest difference allowed, relative to the largest output.

    Returns:
        A folded copy, and what was folded, what was left and why.

    Raises:
        InputError: the network is in training mode; a layer beside a norm runs more than once; it cannot be traced;
            the outputs differ by more than `tolerance`.

    Source: back: Markus et al., "Fusing batch normalization and convolution in runtime", 2018; past a ReLU: ours.

    >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> folded, report = fold(net, torch.randn(1, 3, 8, 8))
    >>> [(each.name, each.how, each.into) for each in report.folded]
    [('0', 'ahead', ('1',)), ('2', 'back', ('1',))]
    """
    if any(module.training for module in model.modules()):
        raise InputError("model: expected evaluation mode, got training; call model.eval() first")
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    network = copy.deepcopy(model)
    # The trace is another copy's, as some networks keep tensors that they made.
    surgery = Surgery(network, Traced(trace(copy.deepcopy(model), *inputs)))
    folded: list[Fold] = []
    left: dict[str, str] = {}
    for affine in surgery.affines():
        reasons: list[str] = []
        for attempt in (surgery.back, surgery.ahead, surgery.past_relu):
            try:
                folded.append(attempt(affine))
                break
            except ReusedError as error:
                if not leave_reused:
                    raise InputError(
                        f"model: expected layers that run once, got {error}, so that {affine.call.name} cannot be "
                        "folded; leave_reused=True leaves it"
                    ) from None
                reasons.append(str(error))
            except LeftError as error:
                reasons.append(str(error))
        else:
            left[affine.call.name] = "; ".join(dict.fromkeys(reasons))
    return network, FoldReport(tuple(folded), left, _compare(model, network, inputs, tolerance))


def _compare(model: nn.Module, folded: nn.Module, inputs: tuple[Tensor, ...], tolerance: float) -> float:
    """The largest difference of the outputs, relative to the largest output."""
    outputs: list[list[Any]] = []
    for network in (model, folded):
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            try:
                outputs.append(tree_flatten(network(*(tensor.clone() for tensor in inputs)))[0])
            except AttributeError as error:
                raise InputError(f"model: expected no use of a norm but its call, got {error}") from error
    largest, norm = 0.0, 0.0
    for before, after in zip(*outputs, strict=True):
        if isinstance(before, Tensor):
            largest = max(largest, float((before - after).abs().max()))
            norm = max(norm, float(before.abs().max()))
    largest = largest / norm if norm else largest
    if not largest <= tolerance:
        raise InputError(
            f"model: expected outputs that differ by at most {tolerance:g} when folded, got {largest:.1e}; "
            "is it random in evaluation, or do its outputs nearly cancel?"
        )
    return largest
