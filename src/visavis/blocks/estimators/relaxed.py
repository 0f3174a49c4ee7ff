"""Discrete draws that autograd can go through: relaxed, or one-hot with the gradient of something smooth.

``J(y) g = y * (g - <y, g>)`` is the product with the Jacobian of a softmax whose value is y; every gradient here is
made of it. Noise and sums are float32 at least; half precision is rounded at the end.
Shapes: S draws, B: batch shape, K classes, ``*`` any.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import (
    argmax,
    check_logits,
    discrete_logits,
    draw_indices,
    hidden_values,
    one_hot,
    refuse_rows,
)
from visavis.blocks.estimators._noise import conditional_gumbel, log_exponential_
from visavis.blocks.estimators.estimator import Reparameterized
from visavis.errors import InputError

__all__ = ["GumbelRao", "GumbelSoftmax", "ReinMax", "Relaxed", "StraightThrough"]

_Generator = torch.Generator | None
_BLOCK = 2**18  # elements


class Relaxed(Reparameterized):
    """What the methods of this file share: they turn logits [*, K] into draws [*, K].

    As estimators they take `OneHotCategorical`, alone or in `Independent`, and `Bernoulli`, which is the second of two
    classes with the logits 0 and its own.
    """

    def __init__(self, *, tau: float) -> None:
        """`tau`: temperature, at least 0, where 0 stands for the limit.

        Raises:
            InputError: `tau` is negative or not finite.
        """
        if not 0.0 <= tau < math.inf:
            raise InputError(f"tau: expected a finite temperature, at least 0, got {tau}")
        self.tau = tau

    @property
    def name(self) -> str:
        return f"{type(self).__name__}, tau {self.tau:g}"

    def from_logits(self, logits: Tensor, *, generator: _Generator = None) -> Tensor:
        """Draws of the shape and dtype of `logits`, classes along the last dim; -inf masks a class.

        Raises:
            TensorError: `logits` is not float [*, K].
            InputError: a row holds NaN or infinity, or nothing that is allowed. Inside torch.compile and torch.func's
                transforms, which hide values, such a row becomes NaN instead.
        """
        raise NotImplementedError

    def draw(self, dist: Distribution, *, samples: int, generator: _Generator) -> Tensor:
        """[S, *B, *E]."""
        logits, binary = discrete_logits(dist, type(self).__name__)
        draws = self.from_logits(logits.expand(samples, *logits.shape), generator=generator)
        return draws[..., 1] if binary else draws


class GumbelSoftmax(Relaxed):
    """``softmax((logits + G) / tau)`` with Gumbel noise G; or, hard, its one-hot argmax with that softmax's gradient.

    The one-hot limit tau = 0 has a gradient of 0. Hard draws have the law of the logits exactly, soft ones only their
    argmax does.

    Args:
        tau: the lower, the less bias and the more variance.
        hard: one-hot draws: the straight-through Gumbel-softmax estimator.
        precise: noise whose large values, beyond 16.6, are not cut off in float32: slower, and worth it
            only where classes rarer than 1e-6 matter.

    Source: Jang et al., arXiv:1611.01144; Maddison et al., arXiv:1611.00712.

    >>> draw = GumbelSoftmax(tau=0.1).from_logits(torch.tensor([0.0, -torch.inf, 0.0]))
    >>> draw[1], draw.sum()
    (tensor(0.), tensor(1.))
    """

    def __init__(self, *, tau: float = 0.5, hard: bool = False, precise: bool = False) -> None:
        super().__init__(tau=tau)
        self.hard, self.precise = hard, precise

    @property
    def name(self) -> str:
        return f"{'hard ' if self.hard else ''}{super().name}"

    def from_logits(self, logits: Tensor, *, generator: _Generator = None) -> Tensor:
        check_logits(logits)
        both: tuple[Tensor, Tensor]
        both = _GumbelSoftmax.apply(logits, self.tau, self.hard, self.precise, generator)  # type: ignore[no-untyped-call]
        _refuse_nan(both[1], logits)
        return both[0] if self.hard or self.tau == 0 else both[1]


class StraightThrough(Relaxed):
    """One-hot draws with the gradient of ``softmax(logits / tau)``: as if the draw were its mean.

    Exact for a linear f at tau = 1. The expected gradient at tau = 1 is ``J(p) E grad f(z)``.

    Source: Bengio et al., arXiv:1308.3432.
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        super().__init__(tau=tau)

    def from_logits(self, logits: Tensor, *, generator: _Generator = None) -> Tensor:
        check_logits(logits)
        draws: Tensor = _StraightThrough.apply(logits, self.tau, generator)[0]  # type: ignore[no-untyped-call]
        return draws


class ReinMax(Relaxed):
    """One-hot draws with a gradient of second order: exact for a quadratic f at tau = 1.

    With p the probabilities, D the draw, q half of ``onehot(D) + softmax(logits / tau)``, the gradient is
    ``2 J(q) g - J(p) g / 2``. At tau = 1 that is in closed form ``(p (g - g_D) - onehot(D) <p, g - g_D>) / 2``, one
    product and one sum. Its mean puts the trapezoidal rule in the place of every difference ``f(i) - f(j)``.

    Source: Liu et al., Bridging Discrete and Backpropagation, arXiv:2304.08612; the closed form is ours.
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        super().__init__(tau=tau)

    def from_logits(self, logits: Tensor, *, generator: _Generator = None) -> Tensor:
        check_logits(logits)
        draws: Tensor = _ReinMax.apply(logits, self.tau, generator)[0]  # type: ignore[no-untyped-call]
        return draws


class GumbelRao(Relaxed):
    """The hard Gumbel-softmax with less variance: its gradient is averaged over noise that leads to the same draw.

    The noise, given that class D wins, is in the exponential race ``T_D = E_D``, ``T_i = E_D + E_i / p_i``, with
    independent standard exponentials E, and ``G_i + log p_i = -log T_i``. The limit tau = 0 is `ReinMax`.

    Args:
        tau: temperature.
        inner: noises averaged over, each of which keeps a tensor of the size of the logits.

    Source: Paulus et al., Rao-Blackwellizing the Straight-Through Gumbel-Softmax, arXiv:2010.04838.
    """

    def __init__(self, *, tau: float = 0.5, inner: int = 10) -> None:
        super().__init__(tau=tau)
        if inner < 1:
            raise InputError(f"inner: expected at least 1, got {inner}")
        self.inner = inner

    @property
    def name(self) -> str:
        return f"{super().name}, inner {self.inner}"

    def from_logits(self, logits: Tensor, *, generator: _Generator = None) -> Tensor:
        check_logits(logits)
        if self.tau == 0:
            return ReinMax().from_logits(logits, generator=generator)
        draws: Tensor = _GumbelRao.apply(logits, self.tau, self.inner, generator)[0]  # type: ignore[no-untyped-call]
        return draws


def _refuse_nan(soft: Tensor, logits: Tensor) -> None:
    """A row that is no distribution is NaN all along, so that its first class tells."""
    if not hidden_values(logits) and soft[..., 0].isnan().any():
        refuse_rows("logits", logits.detach())


def _probs(logits: Tensor) -> Tensor:
    """Softmax in float32 at least; rows that have none are refused."""
    probs = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    _refuse_nan(probs, logits)
    return probs


def _tempered(logits: Tensor, tau: float) -> Tensor:
    """``softmax(logits / tau)``; what is divided is the distance to the largest, so that nothing overflows."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if tau == 0:
        return one_hot(argmax(logits), logits)
    return ((logits - logits.amax(-1, keepdim=True).detach()) / tau).softmax(-1)


def _followed(soft: Tensor, logits: Tensor, tau: float) -> Tensor:
    """`soft`, a softmax of (logits + noise) / tau, as a function of the logits that autograd can go through."""
    moved = torch.where(logits.isinf(), 0, logits - logits.detach())
    weights = soft.detach() * (moved / tau).exp()
    return weights / weights.sum(-1, keepdim=True)


def _jacobian(soft: Tensor, grad: Tensor) -> Tensor:
    """``J(soft) grad``; by the fused kernel unless it is to be differentiated again."""
    if torch.is_grad_enabled():
        return soft * (grad - (soft * grad).sum(-1, keepdim=True))
    product: Tensor = torch.ops.aten._softmax_backward_data(grad, soft, -1, soft.dtype)
    return product


def _scaled_jacobian(soft: Tensor, grad: Tensor, tau: float) -> Tensor:
    """``J(soft) grad / tau``."""
    product = _jacobian(soft, grad)
    if tau == 1:
        return product
    return product / tau if torch.is_grad_enabled() else product.div_(tau)


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """[*, K] as an even number of rows at a time that fit a cache: views, where it is contiguous."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    return (rows,) if hidden_values(tensor) else torch.split(rows, 2 * max(1, _BLOCK // (2 * tensor.shape[-1])))


class _GumbelSoftmax(torch.autograd.Function):
    """In one tensor, blocks of rows at a time that fit a cache: noise, then the perturbed logits, then the softmax."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, tau: float, hard: bool, precise: bool, generator: _Generator) -> tuple[Tensor, Tensor]:
        soft = torch.empty_like(
            logits,
            dtype=torch.promote_types(logits.dtype, torch.float32),
            memory_format=torch.contiguous_format,
        )
        winners = []
        for part, block in zip(_blocks(logits), _blocks(soft), strict=True):
            perturbed = log_exponential_(block, precise=precise, generator=generator)
            if hidden_values(logits):  # vmap knows no `out`
                perturbed.neg_().add_(part)
            else:
                torch.sub(part, perturbed, out=perturbed)
            if hard or tau == 0:
                winners.append(argmax(perturbed))
            if tau < 1e-3:  # so that the quotient does not overflow
                perturbed.sub_(perturbed.amax(-1, keepdim=True))
            if tau not in (0, 1):
                perturbed.div_(tau)
            if hidden_values(logits):
                perturbed.copy_(perturbed.softmax(-1))
            else:
                torch.softmax(perturbed, -1, out=perturbed)
        soft = soft.to(logits.dtype)
        if not winners:
            return soft.new_empty(0), soft
        draws = one_hot(torch.cat(winners).view(logits.shape[:-1]), logits)
        return draws, soft

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, ctx.tau, hard, _, _ = inputs
        draws, soft = output
        ctx.hard = hard or ctx.tau == 0
        ctx.mark_non_differentiable(soft if ctx.hard else draws)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, soft)

    @staticmethod
    def backward(
        ctx: Any, by_draws: Tensor | None, by_soft: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        logits, soft = ctx.saved_tensors
        grad = by_draws if ctx.hard else by_soft
        if grad is None:
            return None, None, None, None, None
        if ctx.tau == 0:
            return torch.zeros_like(grad), None, None, None, None
        if torch.is_grad_enabled():
            return _jacobian(_followed(soft, logits, ctx.tau), grad) / ctx.tau, None, None, None, None
        return _scaled_jacobian(soft, grad, ctx.tau), None, None, None, None


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, tau: float, generator: _Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        probs = _probs(logits)
        return one_hot(draw_indices(probs, 1, generator)[0], logits), probs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, ctx.tau, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        logits, probs = ctx.saved_tensors
        if ctx.tau == 0:
            return torch.zeros_like(grad), None, None
        if ctx.tau != 1 or torch.is_grad_enabled():
            probs = _tempered(logits, ctx.tau)
        return _scaled_jacobian(probs, grad.to(probs.dtype), ctx.tau).to(grad.dtype), None, None


class _ReinMax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, tau: float, generator: _Generator) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG004
        probs = _probs(logits)
        index = draw_indices(probs, 1, generator)[0]
        return one_hot(index, logits), index, probs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        logits, ctx.tau, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        logits, index, probs = ctx.saved_tensors
        index = index[..., None]
        again = torch.is_grad_enabled()
        if again:
            probs = _tempered(logits, 1.0)
        wide = grad.to(probs.dtype)
        if ctx.tau != 1:
            middle = (one_hot(index[..., 0], probs) + _tempered(logits, ctx.tau)) / 2
            by_logits = 2 * _jacobian(middle, wide) - _jacobian(probs, wide) / 2
            return by_logits.to(grad.dtype), None, None
        pull = torch.add(-0.5 * wide.gather(-1, index), wide, alpha=0.5)  # (g - g_D) / 2
        pull = pull * probs if again else pull.mul_(probs)
        total = -pull.sum(-1, keepdim=True)
        by_logits = pull.scatter_add(-1, index, total) if again else pull.scatter_add_(-1, index, total)
        return by_logits.to(grad.dtype), None, None


class _GumbelRao(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, tau: float, inner: int, generator: _Generator) -> tuple[Tensor, Tensor]:
        probs = _probs(logits)
        index = draw_indices(probs, 1, generator)[0]
        perturbed = conditional_gumbel(probs.expand(inner, *probs.shape), index, generator=generator)
        return one_hot(index, logits), _tempered(perturbed, tau)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, ctx.tau, _, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, soft = ctx.saved_tensors
        if torch.is_grad_enabled():
            soft = _followed(soft, logits, ctx.tau)
        by_logits = _jacobian(soft, grad.to(soft.dtype).expand(soft.shape)).mean(0) / ctx.tau
        return by_logits.to(grad.dtype), None, None, None
