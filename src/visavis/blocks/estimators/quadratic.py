"""RLOO with a quadratic model of f as control variate, learned from the slopes that f has at its draws.

Shapes: S draws, B: batch shape, L parts of the event, K classes of a part, C numbers that stand for a class to f (K,
and 1 for a bit), D = L * C.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from visavis.blocks.estimators._discrete import discrete_logits, drawn, refuse_nan
from visavis.blocks.estimators._surrogate import with_gradient
from visavis.blocks.estimators.estimator import Integrand, evaluate
from visavis.errors import InputError

__all__ = ["Quadratic"]

_DECAY = 0.9  # of what earlier calls have taught
_RIDGE = 1e-2  # of the mean variance of a coordinate


class Quadratic:
    """Unbiased, from the S values and gradients of f that a relaxed estimator asks for; at least two draws.

    For draw s a model of f is made of the *other* draws j, with a matrix H and numbers a, b from earlier calls::

        m_s(z) = mean over j of  f(z_j) + a <grad f(z_j), z - z_j> + b/2 <z - z_j, H (z - z_j)>

    It does not depend on z_s, and neither do m_s(z_s) with part l of z_s replaced by class k, h_slk, on that part.
    Hence, for the parameters of part l,::

        (f(z_s) - m_s(z_s)) grad log p(z_sl)  +  sum over k of h_slk grad p_lk

    has the mean of ``f(z_s) grad log p(z_sl)``, whatever the model is: what is subtracted from f(z_s) has, given the
    other parts, the mean that is added. The better the model, the less variance: none for a linear f. With a = b = 0
    this is `RLOO`, and so it is in the first two calls.

    The mean is over the draws s. H is the Hessian by regression: of the gradients on the draws, both centred on their
    mean over s, over all batch elements and earlier calls, the older the lighter. Slopes differ by H times the
    difference of the draws if f is quadratic: a network is far from linear between one-hot vectors, but nearer to
    quadratic, which is why `ReinMax` works. a and b are by least squares of the values of f on both terms, weighted by
    the squared length of the score. H, a and b are shared by the batch elements; where their f have nothing in common,
    b tends to 0.

    For `OneHotCategorical` and `Bernoulli`, alone or in `Independent`. An object remembers one problem: make one before
    the training loop and pass it to every `expect`. On top of f a call costs O(S B D^2 + D^3), and D^2 memory.

    Source: ours. A linear model around the mean: MuProp, Gu et al., arXiv:1511.05176; around the other draws: double
    control variates, Titsias and Shi, arXiv:2111.05300. The sum over one part alone and the learned H are added here.

    >>> from torch.distributions import Bernoulli, Independent
    >>> from visavis.blocks.estimators import expect
    >>> grad, logits = Quadratic(), torch.zeros(3, requires_grad=True)
    >>> dist = Independent(Bernoulli(logits=logits), 1)
    >>> for _ in range(5):  # more calls, less variance; here none is left
    ...     loss = expect(lambda z: z @ torch.tensor([1.0, 2.0, 4.0]), dist, grad=grad, samples=4)
    >>> torch.autograd.grad(loss, logits)[0].round(decimals=3)
    tensor([0.2500, 0.5000, 1.0000])
    """

    def __init__(self) -> None:
        self._draws = self._slopes = self._terms = self._target = torch.zeros(())  # moments of the two regressions

    def __call__(self, f: Integrand, dist: Distribution, *, samples: int, generator: torch.Generator | None) -> Tensor:
        """As in `Estimator`.

        Raises:
            InputError: fewer than two samples; another distribution; f cannot be differentiated by the draws; the size
                of the event differs from that of earlier calls.
        """
        if samples < 2:
            raise InputError(f"samples: expected at least 2, so that each draw has others, got {samples}")
        logits, binary = discrete_logits(dist, type(self).__name__)
        refuse_nan("logits", logits)
        probs = logits.detach().softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        with torch.enable_grad():
            draws = drawn(dist, samples, generator).requires_grad_()
            values = evaluate(f, draws, dist)
            if not values.requires_grad:
                raise InputError("f: expected a function with a gradient by the draws, got a constant; RLOO needs none")
            [slopes] = torch.autograd.grad(values.sum(), draws, retain_graph=True, allow_unused=True)
        if slopes is None:
            raise InputError("f: expected a function with a gradient by the draws, got none; RLOO needs none")
        parts, classes = logits.shape[len(dist.batch_shape) : -1].numel(), logits.shape[-1]
        batch = dist.batch_shape.numel()
        codes = probs.new_tensor([[0.0], [1.0]]) if binary else torch.eye(classes).to(probs)
        gradient = self._gradient(
            draws.detach().to(probs.dtype).view(samples, batch, parts, -1),
            values.detach().to(probs.dtype).reshape(samples, batch),
            slopes.to(probs.dtype).reshape(samples, batch, -1),
            probs.reshape(batch, parts, classes),
            codes,
        )
        return with_gradient(values.mean(0), logits, gradient.view_as(logits).to(logits.dtype), type(self).__name__)

    def _gradient(self, draws: Tensor, values: Tensor, slopes: Tensor, probs: Tensor, codes: Tensor) -> Tensor:
        """By the logits, [B, L, K].

        Sums over pairs of draws are written as sums over draws.

        Args:
            draws: [S, B, L, C].
            values: of f, [S, B].
            slopes: of f, [S, B, D].
            probs: [B, L, K].
            codes: what f is given for each class, [K, C].
        """
        z = draws.flatten(2)
        size = z.shape[-1]
        if self._draws.ndim and len(self._draws) != size:
            raise InputError(
                f"dist: expected draws of {len(self._draws)} numbers as in earlier calls, got {size}; "
                "one Quadratic serves one problem"
            )
        hessian = self._hessian(size, z)
        bent = z @ hessian
        own = (z * bent).sum(-1)
        linear = (z * _others(slopes)).sum(-1) - _others((slopes * z).sum(-1))
        square = (own + _others(own)) / 2 - (z * _others(bent)).sum(-1)
        a, b = self._factors(z)
        model = _others(values) + a * linear + b * square  # m_s(z_s)
        pull = (a * _others(slopes) + b * (bent - _others(bent))).view_as(draws)
        parts, width = draws.shape[2:]
        blocks = hessian.view(parts, width, parts, width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        row = torch.einsum("sblc,lcd->sbld", draws, blocks)
        curve = ((codes @ blocks) * codes).sum(-1) / 2 - row @ codes.T + (row * draws).sum(-1, keepdim=True) / 2
        replaced = model[..., None, None] + pull @ codes.T - (pull * draws).sum(-1, keepdim=True) + b * curve  # h_slk
        drawn_class = torch.cat([1 - draws, draws], -1) if width < len(codes) else draws
        score = drawn_class - probs
        summed = probs * (replaced - (probs * replaced).sum(-1, keepdim=True))
        gradient: Tensor = ((values - model)[..., None, None] * score + summed).mean(0)
        self._learn(
            z, slopes, torch.stack([linear, square], -1), values - _others(values), score.square().sum((-1, -2))
        )
        return gradient

    def _hessian(self, size: int, like: Tensor) -> Tensor:
        """H, [D, D], symmetric; 0 in the first call."""
        if not self._draws.ndim:
            return like.new_zeros(size, size)
        ridge = _RIDGE * self._draws.diagonal().mean() + torch.finfo(like.dtype).tiny
        matrix: Tensor = torch.linalg.solve(self._draws + ridge * torch.eye(size).to(self._draws), self._slopes)
        return (matrix + matrix.T) / 2

    def _factors(self, like: Tensor) -> Tensor:
        """The numbers a and b."""
        if not self._terms.ndim:
            return like.new_zeros(2)
        factors: Tensor = torch.linalg.pinv(self._terms, rtol=1e-5, hermitian=True) @ self._target
        return factors

    def _learn(self, z: Tensor, slopes: Tensor, terms: Tensor, target: Tensor, weight: Tensor) -> None:
        """Take this call into both regressions, for the calls to come."""
        z, slopes = ((tensor - tensor.mean(0)).flatten(0, 1) for tensor in (z, slopes))
        terms, target, weight = terms.flatten(0, 1), target.flatten(), weight.flatten()
        weighted = (terms * weight[:, None]).T
        self._draws, self._slopes, self._terms, self._target = (
            _DECAY * old + new
            for old, new in (
                (self._draws, z.T @ z),
                (self._slopes, z.T @ slopes),
                (self._terms, weighted @ terms),
                (self._target, weighted @ target),
            )
        )


def _others(tensor: Tensor) -> Tensor:
    """The mean over the other draws, for each."""
    return (tensor.sum(0) - tensor) / (len(tensor) - 1)
