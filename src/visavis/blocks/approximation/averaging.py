"""The average of an optimizer's iterates, from the first step on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from visavis.errors import InputError

__all__ = ["Averaged"]


class Averaged:
    """Keeps the mean of the parameters that an optimizer passes through; call `update` after each of its steps.

    With ``forget = 0`` that is the plain mean of all n iterates, whose variance is the least there is (Polyak and
    Ruppert); ``forget = e`` moves by ``(e + 1) / (n + e)``, weights that grow as n^e, so that a bad start is soon gone
    at the price of ``(1 + e)^2 / (1 + 2 e)`` times the variance. torch's ASGD begins after a million steps unless told.

    Args:
        optimizer: any of torch's.
        forget: not negative.

    Raises:
        InputError: `forget` is negative.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992; Shamir and Zhang, ICML 2013, for `forget`.

    >>> weight = torch.nn.Parameter(torch.tensor([8.0]))
    >>> optimizer = torch.optim.SGD([weight], lr=1.0)
    >>> averaged = Averaged(optimizer, forget=0.0)
    >>> for gradient in (2.0, 4.0):  # 8 -> 6 -> 2
    ...     weight.grad = torch.tensor([gradient])
    ...     optimizer.step()
    ...     averaged.update()
    >>> with averaged.applied():
    ...     weight.tolist()
    [4.0]
    >>> weight.tolist()
    [2.0]
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, forget: float = 3.0) -> None:
        if not forget >= 0.0:
            raise InputError(f"forget: expected a number that is not negative, got {forget}")
        self.forget = forget
        self.count = 0
        self._parameters: list[Tensor] = [one for group in optimizer.param_groups for one in group["params"]]
        self._means = [one.detach().clone() for one in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now in; the first ones are the mean."""
        self.count += 1
        rate = (self.forget + 1) / (self.count + self.forget)
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter, rate)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the parameters are the mean; afterwards they are what they were, also after an error."""
        before = [one.detach().clone() for one in self._parameters]
        self._write(self._means)
        try:
            yield
        finally:
            self._write(before)

    def state_dict(self) -> dict[str, Any]:
        """The mean and how many it is of."""
        return {"count": self.count, "means": [mean.clone() for mean in self._means]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.count = state["count"]
        for mean, kept in zip(self._means, state["means"], strict=True):
            mean.copy_(kept)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
