"""Every discrete gradient estimator on one small problem: bias, variance and cost against the exact gradient."""

import torch
from torch.distributions import Bernoulli, Independent

from visavis.blocks.estimators import GumbelRao, GumbelSoftmax, ReinMax, RunningBaseline, ScoreFunction, check

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
logits = torch.randn(8, 5, generator=generator).requires_grad_()  # 8 rows of 5 bits
bits = Independent(Bernoulli(logits=logits), 1)


def f(z):
    """How far the share of ones is from 0.45, to the power 1.5, plus a word of the first two bits together."""
    return (z - 0.45).abs().pow(1.5).mean(-1) + 0.3 * z[..., 0] * z[..., 1]


methods = ["exact", "straight_through", "reinmax", ReinMax(tau=1.3), GumbelSoftmax(tau=0.5)]
methods += [GumbelSoftmax(tau=0.5, hard=True), GumbelRao(tau=0.5), "score_function"]
methods += [ScoreFunction(RunningBaseline()), "rloo", "arm", "disarm", "rebar"]
print(check(f, bits, grad=methods, samples=2, draws=200, generator=generator).table())
