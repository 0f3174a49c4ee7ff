"""Against closed forms: a step under normal noise is Phi, an argmax under Gumbel noise a softmax.

Comparisons are z-tests at 4.5 standard errors of the mean over independent repetitions: a false alarm in 150,000 for
each number compared, and the seeds are fixed.
"""

import math

import pytest
import torch

from visavis.blocks.surrogates import perturb
from visavis.errors import InputError, TensorError

REPETITIONS, BOUND = 200, 4.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def agrees(found, expected):
    """[R, *] repetitions of an estimate against its expectation."""
    error = found.std(0) / math.sqrt(len(found))
    z = (found.mean(0) - expected).abs() / error.clamp_min(1e-12)
    assert (z < BOUND).all(), z


def one_hot(points):
    return torch.nn.functional.one_hot(points.argmax(-1), points.shape[-1])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_step_under_normal_noise_in_value_and_two_derivatives(temperature):
    """The gradient carries 1 / T once: a factor of T too many or too few is far outside of the errors here."""
    x = torch.tensor([[-0.5], [0.2], [1.0]], dtype=torch.float64) * temperature
    rows = []
    generator = seeded(1)
    for _ in range(REPETITIONS):
        leaf = x.clone().requires_grad_()
        value = perturb(lambda p: p[..., 0] > 0, leaf, temperature=temperature, samples=50, generator=generator)
        [slope] = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        [bend] = torch.autograd.grad(slope.sum(), leaf)
        rows.append(torch.stack([value.detach(), slope.detach()[:, 0], bend[:, 0]]))
    u = x[:, 0] / temperature
    density = (-u.square() / 2).exp() / math.sqrt(2 * math.pi)
    agrees(
        torch.stack(rows), torch.stack([torch.special.ndtr(u), density / temperature, -u * density / temperature**2])
    )


def test_an_argmax_under_gumbel_noise_is_a_softmax():
    logits = torch.tensor([[0.5, -0.3, 1.2], [0.0, 0.0, -2.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    values, slopes = [], []
    generator = seeded(2)
    for _ in range(REPETITIONS):
        leaf = logits.clone().requires_grad_()
        mean = perturb(one_hot, leaf, temperature=0.7, samples=50, noise="gumbel", generator=generator)
        values.append(mean.detach())
        slopes.append(torch.autograd.grad((mean * weights).sum(), leaf)[0])
    leaf = logits.clone().requires_grad_()
    softmax = (leaf / 0.7).softmax(-1)
    agrees(torch.stack(values), softmax.detach())
    agrees(torch.stack(slopes), torch.autograd.grad((softmax * weights).sum(), leaf)[0])


def test_a_linear_function_keeps_its_slope_whatever_the_temperature():
    matrix = torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]], dtype=torch.float64)
    for temperature in (0.01, 10.0):
        generator = seeded(3)
        found = []
        for _ in range(REPETITIONS):
            leaf = torch.zeros(2, dtype=torch.float64, requires_grad=True)
            mean = perturb(lambda p: p @ matrix.T, leaf, temperature=temperature, samples=20, generator=generator)
            found.append(torch.stack([torch.autograd.grad(part, leaf, retain_graph=True)[0] for part in mean]))
        agrees(torch.stack(found), matrix)


def test_cold_it_is_the_function():
    x = torch.tensor([[0.3, 0.1, 0.7], [2.0, -1.0, 0.0]])
    assert torch.equal(perturb(one_hot, x, temperature=1e-6, generator=seeded()), one_hot(x).float())


def test_a_lipschitz_function_moves_by_no_more_than_its_bound():
    x = torch.randn(6, 5, generator=seeded(4), dtype=torch.float64)
    for temperature in (0.01, 0.1, 1.0):
        mean = perturb(lambda p: p.amax(-1), x, temperature=temperature, samples=2000, generator=seeded(5))
        assert ((mean - x.amax(-1)).abs() <= temperature * math.sqrt(5)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_shapes_and_empty_batches(dtype):
    x = torch.zeros(2, 4, 3, dtype=dtype, requires_grad=True)
    mean = perturb(one_hot, x, temperature=1.0, samples=3, generator=seeded())
    assert mean.shape == (2, 4, 3)
    assert mean.dtype == torch.promote_types(dtype, torch.float32)
    mean.sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.isfinite().all()
    assert perturb(one_hot, x[:0], temperature=1.0).shape == (0, 4, 3)
    assert perturb(lambda p: p.argmax(-1), x, temperature=1.0).shape == (2, 4)


def test_a_generator_repeats_it():
    x = torch.zeros(5)
    first, second = (perturb(one_hot, x, temperature=1.0, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_what_does_not_fit_is_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="temperature: expected a positive"):
        perturb(one_hot, x, temperature=0.0)
    with pytest.raises(InputError, match="samples: expected at least 2"):
        perturb(one_hot, x, temperature=1.0, samples=1)
    with pytest.raises(InputError, match="noise: expected normal or gumbel, got 'uniform'"):
        perturb(one_hot, x, temperature=1.0, noise="uniform")
    with pytest.raises(TensorError, match=r"x: expected float \[..., D\], got int64 \[3\]"):
        perturb(one_hot, torch.zeros(3, dtype=torch.int64), temperature=1.0)
    with pytest.raises(
        TensorError, match=r"f: expected values \[100, 2, '...'\], one or more for each point, got \[2\]"
    ):
        perturb(lambda p: p.sum((0, 2)), x, temperature=1.0)
