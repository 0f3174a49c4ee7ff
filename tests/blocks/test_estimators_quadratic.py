"""The quadratic control variate: unbiased whatever it has learned, without variance where its model is right."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical, Poisson

from visavis.blocks.estimators import RLOO, Estimator, Quadratic, expect
from visavis.errors import InputError

FALSE_ALARM = 1e-6  # of a comparison, all its parameters together

Problem = tuple[Tensor, Distribution, Callable[[Tensor], Tensor], Tensor]


def problem(kind: str) -> Problem:
    """Logits, distribution, f, and the gradient by a sum over all states."""
    generator = torch.Generator().manual_seed(3)
    binary = kind == "bits"
    logits = torch.randn(2, 3, 1 if binary else 4, generator=generator, dtype=torch.float64)
    if kind == "masked":
        logits[0, 1, 2] = -torch.inf
    inner = torch.randn(3 if binary else 12, 6, generator=generator, dtype=torch.float64)
    outer = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    logits = (logits[..., 0] if binary else logits).requires_grad_()
    base = Bernoulli(logits=logits) if binary else OneHotCategorical(logits=logits)

    def f(z: Tensor) -> Tensor:
        return (((z.flatten(2) @ inner).tanh() + 0.3).exp() * outer).sum(-1)

    choices = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None] if binary else torch.eye(4, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for picked in itertools.product(range(len(choices)), repeat=3):
        state = choices[list(picked)]  # [3, 1 or 4]
        if binary:
            rates = logits.sigmoid()
            chance = torch.where(state[:, 0] == 1, rates, 1 - rates).prod(-1)
            state = state[:, 0]
        else:
            chance = logits.softmax(-1)[:, range(3), list(picked)].prod(-1)
        total = total + (chance * f(state.expand(1, 2, *state.shape))[0]).mean()
    [truth] = torch.autograd.grad(total, logits)
    return logits, Independent(base, 1), f, truth


def gradients(method: Estimator, kind: str, copies: int, samples: int, warm: int = 30) -> Tensor:
    """Of one call on independent copies, after `warm` others on one, [copies, parameters]."""
    logits, dist, f, _ = problem(kind)
    generator = torch.Generator().manual_seed(0)
    for _ in range(warm):
        expect(f, dist, grad=method, samples=samples, generator=generator)
    many = logits.detach().expand(copies, *logits.shape).clone().requires_grad_()
    base = Bernoulli(logits=many) if kind == "bits" else OneHotCategorical(logits=many)

    def each(z: Tensor) -> Tensor:
        return f(z.flatten(0, 1)).view(z.shape[:3])

    loss = copies * expect(each, Independent(base, 1), grad=method, samples=samples, generator=generator)
    return torch.autograd.grad(loss, many)[0].flatten(1)


@pytest.mark.parametrize("warm", [0, 1, 2, 30])
@pytest.mark.parametrize("kind", ["classes", "bits", "masked"])
@pytest.mark.parametrize("samples", [2, 4])
def test_unbiased(kind: str, samples: int, warm: int) -> None:
    """A z-test of each parameter, given what was learned before."""
    truth = problem(kind)[3].flatten()
    found = gradients(Quadratic(), kind, 20_000, samples, warm)
    z = (found.mean(0) - truth).abs() / (found.std(0) / len(found) ** 0.5 + 1e-12)
    assert len(z) * math.erfc(float(z.max()) / 2**0.5) > FALSE_ALARM


@pytest.mark.parametrize("kind", ["classes", "bits"])
def test_quieter_than_rloo(kind: str) -> None:
    ours = gradients(Quadratic(), kind, 20_000, 4).var(0).sum()
    assert ours < 0.7 * gradients(RLOO(), kind, 20_000, 4).var(0).sum()


def test_first_call_is_rloo() -> None:
    first, plain = (gradients(method, "classes", 1, 4, warm=0) for method in (Quadratic(), RLOO()))
    torch.testing.assert_close(first, plain)


def test_linear_f_has_no_variance() -> None:
    """Gradients are then exact: softmax's Jacobian times the weights, one seventh of it for each of seven elements."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    method, dist = Quadratic(), Independent(OneHotCategorical(logits=logits), 1)
    for _ in range(4):
        loss = expect(lambda z: (z * weights).sum((-1, -2)), dist, grad=method, samples=2, generator=generator)
    [truth] = torch.autograd.grad((logits.softmax(-1) * weights).sum((-1, -2)).mean(), logits, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], truth, atol=1e-9, rtol=0)


def test_learns_the_hessian() -> None:
    """Of a quadratic f the slopes differ by the Hessian times the draws, up to what no difference of draws can tell."""
    generator = torch.Generator().manual_seed(2)
    hessian = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = hessian + hessian.T
    method = Quadratic()
    dist = Independent(OneHotCategorical(logits=torch.zeros(500, 2, 3, dtype=torch.float64, requires_grad=True)), 1)

    def f(z: Tensor) -> Tensor:
        flat = z.flatten(2)
        return (flat @ hessian * flat).sum(-1) / 2

    for _ in range(3):
        expect(f, dist, grad=method, samples=4, generator=generator)
    centre = torch.kron(torch.eye(2, dtype=torch.float64), torch.eye(3, dtype=torch.float64) - 1 / 3)
    found = centre @ method._hessian(6, hessian) @ centre
    torch.testing.assert_close(found, centre @ hessian @ centre, rtol=0.05, atol=0.05)  # the ridge is 1 %


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_value_and_parameters_of_f(dtype: torch.dtype) -> None:
    """The value is the mean of f, and f's own parameters get the gradient of that mean."""
    scale = torch.tensor(2.0, dtype=dtype, requires_grad=True)
    logits = torch.zeros(3, 4, dtype=dtype, requires_grad=True)
    seen = []

    def f(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return scale * z[..., 0] + z[..., 1].square()

    loss = expect(f, OneHotCategorical(logits=logits), grad=Quadratic(), samples=2)
    by_logits, by_scale = torch.autograd.grad(loss, [logits, scale])
    assert loss.dtype == by_logits.dtype == dtype
    assert by_logits.isfinite().all()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(by_scale, seen[0][..., 0].mean(), rtol=4 * eps, atol=4 * eps)
    torch.testing.assert_close(
        loss.detach(), (2 * seen[0][..., 0] + seen[0][..., 1]).mean(), rtol=4 * eps, atol=4 * eps
    )


@pytest.mark.parametrize("row", [[0.0, -torch.inf], [0.0]])
def test_certain_draws(row: list[float]) -> None:
    """No variance, nothing to learn, no gradient; and no NaN."""
    logits = torch.tensor([row], requires_grad=True)
    method = Quadratic()
    for _ in range(4):
        loss = expect(lambda z: z[..., 0].exp(), OneHotCategorical(logits=logits), grad=method, samples=3)
    [gradient] = torch.autograd.grad(loss, logits)
    assert gradient.tolist() == [[0.0] * len(row)]


def test_refused() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    dist = OneHotCategorical(logits=logits)
    with pytest.raises(InputError, match="samples: expected at least 2"):
        expect(lambda z: z[..., 0], dist, grad=Quadratic())
    with pytest.raises(InputError, match="gradient by the draws, got a constant"):
        expect(lambda z: z[..., 0].detach(), dist, grad=Quadratic(), samples=2)
    with pytest.raises(InputError, match="gradient by the draws, got none"):
        expect(lambda z: z[..., 0].detach() * logits.sum(), dist, grad=Quadratic(), samples=2)
    with pytest.raises(InputError, match="for Quadratic, got Poisson"):
        expect(lambda z: z, Poisson(torch.ones(2)), grad=Quadratic(), samples=2)
    method = Quadratic()
    expect(lambda z: z[..., 0], dist, grad=method, samples=2)
    with pytest.raises(InputError, match="expected draws of 3 numbers as in earlier calls, got 4"):
        expect(lambda z: z[..., 0], OneHotCategorical(logits=torch.zeros(2, 4)), grad=method, samples=2)
