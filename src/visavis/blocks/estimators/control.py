"""Control variates from a relaxation: unbiased as the score function, and nearly as quiet as the relaxation.

Shapes: S draws, B: batch shape, E: event shape, K classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import discrete_logits, one_hot, refuse_nan
from visavis.blocks.estimators._noise import gumbel
from visavis.blocks.estimators._surrogate import with_gradient
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["REBAR", "RELAX"]

_LOWEST = -1e30  # stands for -inf, of which differences are no numbers


class RELAX(nn.Module):
    """A one-hot draw D, a relaxed draw z behind it, and z' behind the same D again; c is the control variate.

    ``(f(D) - c(z')) grad log p(D) + grad c(z) - grad c(z')``, where ``c(z) = eta f(softmax(z / tau)) + net(z)``. It is
    unbiased whatever c is: z and z' have the same law, and given D the score function and the noise of z' are
    independent. `eta`, `tau` and the network learn as the loss is minimised, from the gradient of the estimator's own
    variance, if `learn` says so: f then has to be twice differentiable.

    For `OneHotCategorical` and `Bernoulli`, alone or in `Independent`. f is called three times a draw, twice of them
    with relaxed vectors.

    Source: Grathwohl et al., Backpropagation through the Void, ICLR 2018, arXiv:1711.00123.
    """

    def __init__(self, net: nn.Module | None = None, *, eta: float = 1.0, tau: float = 0.5, learn: bool = True) -> None:
        """`net`: from relaxed draws [S, *B, *E] to [S, *B]; without one this is REBAR.

        Raises:
            InputError: `tau` is not positive and finite.
        """
        super().__init__()
        if not 0.0 < tau < math.inf:
            raise InputError(f"tau: expected a positive temperature, got {tau}")
        self.net = net
        self.eta = nn.Parameter(torch.tensor(float(eta)), requires_grad=learn)
        self.log_tau = nn.Parameter(torch.tensor(math.log(tau)), requires_grad=learn)
        self.learn = learn

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        kept, binary = discrete_logits(dist, type(self).__name__)
        with torch.enable_grad():
            logits = kept.detach().clamp_min(_LOWEST).requires_grad_()
            refuse_nan("logits", logits)
            wide = logits.expand(samples, *logits.shape)
            log_p = wide.log_softmax(-1)
            index, free, bound = _relaxed_pair(log_p, generator)
            draws = one_hot(index, logits)

            def event(vectors: Tensor) -> Tensor:
                return vectors[..., 1] if binary else vectors

            def control(perturbed: Tensor) -> Tensor:
                soft = event((perturbed / self.log_tau.exp().to(perturbed.dtype)).softmax(-1))
                values = self.eta.to(perturbed.dtype) * evaluate(f, soft, dist)
                return values if self.net is None else values + evaluate(self.net, soft, dist)

            free_values, bound_values = control(free), control(bound)
            values = evaluate(f, event(draws), dist)
            score = log_p.gather(-1, index[..., None])[..., 0]  # [S, *B, *parts of the event]
            score = score.reshape(*values.shape, score.shape[values.ndim :].numel()).sum(-1)
            by_score, by_free, by_bound = (
                torch.autograd.grad(total.sum(), wide, create_graph=self.learn, retain_graph=True)[0]
                for total in (score, free_values, bound_values)
            )
            gap = (values.detach() - bound_values).reshape(*values.shape, *[1] * (wide.ndim - values.ndim))
            gradient = gap * by_score + by_free - by_bound  # [S, *B, *parts, K]
        result = with_gradient(values.mean(0), kept, gradient.detach().mean(0), type(self).__name__)
        if self.learn and torch.is_grad_enabled():
            result = self._with_own_gradient(result, gradient.square().flatten(values.ndim).sum(-1).mean(0))
        return result

    def _with_own_gradient(self, result: Tensor, square: Tensor) -> Tensor:
        """`result`, whose backward pass also lessens the mean square of the gradient by this module's parameters."""
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(square.mean(), own, allow_unused=True)
        for parameter, gradient in zip(own, found, strict=True):
            if gradient is not None:
                result = result + ((parameter - parameter.detach()) * gradient).sum()
        return result


class REBAR(RELAX):
    """`RELAX` with the relaxed f alone as control variate, its eta and tau fixed unless `learn` is set.

    Source: Tucker et al., REBAR, NeurIPS 2017, arXiv:1703.07370.
    """

    def __init__(self, *, eta: float = 1.0, tau: float = 0.5, learn: bool = False) -> None:
        super().__init__(eta=eta, tau=tau, learn=learn)


def _relaxed_pair(log_p: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """The class that wins, the perturbed logits it won with, and others it could have won with; [*, K] each.

    Both follow log p by their noise, as gradients need it: given the winner, its perturbed logit has the law of a free
    Gumbel variable, and ``z'_i = -log(E_i / p_i + exp(-z'_D))``.
    """
    noise = gumbel(log_p.detach(), precise=True, generator=generator).to(log_p.dtype)
    free = log_p + noise
    index = free.detach().argmax(-1)
    fresh = gumbel(log_p.detach(), precise=True, generator=generator).to(log_p.dtype)
    won = one_hot(index, log_p).bool()
    top = fresh.masked_fill(~won, 0).sum(-1, keepdim=True)
    bound = torch.where(won, top, -torch.logaddexp(-(log_p + fresh), -top))
    return index, free, bound
