"""The three verbs: `sample`, `expect` and (in `checking`) `check`.

The objective is ``L(theta) = E f(z)`` with z drawn from a distribution that has the parameters theta.
Shapes: S draws, B: the batch shape of a distribution, E: its event shape.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators.control import REBAR
from visavis.blocks.estimators.counts import PolynomialPathwise
from visavis.blocks.estimators.coupled import ARM, DisARM
from visavis.blocks.estimators.estimator import Estimator, Integrand, Sampler
from visavis.blocks.estimators.exact import Exact
from visavis.blocks.estimators.implicit import Implicit
from visavis.blocks.estimators.measure import MeasureValued
from visavis.blocks.estimators.normal import BonnetPrice
from visavis.blocks.estimators.pathwise import Pathwise
from visavis.blocks.estimators.relaxed import GumbelRao, GumbelSoftmax, ReinMax, Relaxed, StraightThrough
from visavis.blocks.estimators.score import RLOO, ScoreFunction
from visavis.errors import InputError

__all__ = ["ESTIMATORS", "Name", "estimator", "expect", "sample"]

Name = Literal[
    "arm",
    "bonnet_price",
    "disarm",
    "exact",
    "gumbel_rao",
    "gumbel_softmax",
    "gumbel_softmax_hard",
    "implicit",
    "measure_valued",
    "pathwise",
    "polynomial",
    "rebar",
    "reinmax",
    "rloo",
    "score_function",
    "straight_through",
]
"""An estimator by name, with its default options."""

ESTIMATORS: dict[Name, Callable[[], Estimator]] = {
    "arm": ARM,
    "bonnet_price": BonnetPrice,
    "disarm": DisARM,
    "exact": Exact,
    "gumbel_rao": GumbelRao,
    "gumbel_softmax": GumbelSoftmax,
    "gumbel_softmax_hard": lambda: GumbelSoftmax(hard=True),
    "implicit": Implicit,
    "measure_valued": MeasureValued,
    "pathwise": Pathwise,
    "polynomial": PolynomialPathwise,
    "rebar": REBAR,
    "reinmax": ReinMax,
    "rloo": RLOO,
    "score_function": ScoreFunction,
    "straight_through": StraightThrough,
}
"""What makes the estimator of each name."""


def estimator(grad: Name | Estimator) -> Estimator:
    """The estimator of that name, or `grad` itself when it is one.

    Raises:
        InputError: no estimator has that name.
    """
    if not isinstance(grad, str):
        return grad
    if grad not in ESTIMATORS:
        raise InputError(f"grad: expected one of {', '.join(sorted(ESTIMATORS))}, or an estimator, got {grad!r}")
    return ESTIMATORS[grad]()


def sample(
    source: Distribution | Tensor,
    *,
    grad: Name | Sampler,
    dim: int = -1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One draw that autograd can go through.

    Args:
        source: a distribution, or the logits of one-hot draws along `dim`; -inf masks a class.
        grad: where the gradient comes from: a name, or an object such as `GumbelSoftmax(tau=0.3)`.
        dim: of the classes; of logits only.
        generator: of the noise; torch's own when None.

    Returns:
        [*B, *E], or the shape of the logits.

    Raises:
        InputError: `grad` draws nothing that has a gradient; or a row of logits with NaN or with nothing allowed.
    """
    sampler = estimator(grad) if isinstance(grad, str) else grad
    if not isinstance(sampler, Sampler):
        raise InputError(f"grad: expected what draws with a gradient, got {grad!r}; expect() takes it")
    if isinstance(source, Distribution):
        return sampler.draw(source, samples=1, generator=generator)[0]
    if not isinstance(sampler, Relaxed):
        raise InputError(f"grad: expected a method that draws one-hot vectors from logits, got {grad!r}")
    return sampler.from_logits(source.movedim(dim, -1), generator=generator).movedim(-1, dim)


def expect(
    f: Integrand,
    dist: Distribution,
    *,
    grad: Name | Estimator,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``E f(z)``, averaged over the batch: the value is a Monte Carlo mean, its backward pass the chosen estimator.

    Args:
        f: takes draws [S, *B, *E] and returns one value for each draw and batch element, [S, *B].
        dist: whose parameters are to learn.
        grad: a name, or any callable that is an `Estimator`, for options and state.
        samples: S, at least 1.
        generator: of the draws; torch's own when None.

    Returns:
        Scalar.

    Raises:
        InputError: the estimator does not apply to this distribution or number of samples.
        TensorError: f returned another shape.
    """
    if samples < 1:
        raise InputError(f"samples: expected at least 1, got {samples}")
    return estimator(grad)(f, dist, samples=samples, generator=generator).mean()
