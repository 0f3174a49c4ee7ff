import math

import pytest
import torch

from visavis.blocks.approximation import Averaged, kiefer_wolfowitz, spsa
from visavis.errors import InputError


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# x in metres or millimetres, f in any unit: the gains are found. noisyopt, tuned by hand, reaches .05 to .09 here.
@pytest.mark.parametrize(("unit", "height"), [(1.0, 1.0), (100.0, 1.0), (0.01, 50.0)])
@pytest.mark.usefixtures("one_thread")
def test_spsa_without_gains(unit, height):
    errors = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)

        def f(x, generator=generator):
            return height * ((x / unit).square().sum() + normal(generator))

        found = spsa(f, unit * torch.ones(20), generator=generator)  # error 20, noise 1
        assert found.evaluations <= 2000
        errors.append((found.value / unit).square().sum().item())
    assert sum(errors) / 10 < 0.05


def test_spsa_where_directions_differ_and_without_noise():
    stretch = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)
    found = spsa(
        lambda x: (stretch * (x - 1).square()).sum(), torch.zeros(3), generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(found.value, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-2)
    held = spsa(lambda x: (x - 3).square().sum(), torch.zeros(2), within=(-1.0, 1.0))
    assert (held.points <= 1).all()


# Each entry in a unit of its own, and entries that depend on each other: a sweep finds its gains for each.
@pytest.mark.parametrize("units", [[1.0, 1.0, 1.0], [0.01, 1.0, 100.0]])
def test_kiefer_wolfowitz_without_gains(units):
    unit = torch.tensor(units, dtype=torch.float64)
    goal = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    matrix = torch.tensor([[1.0, 0.4, 0.0], [0.4, 1.0, 0.4], [0.0, 0.4, 1.0]], dtype=torch.float64)
    errors = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)

        def f(x, generator=generator):
            way = x / unit - goal
            return way @ matrix @ way + normal(generator)

        found = kiefer_wolfowitz(f, torch.zeros(3))
        assert found.evaluations <= 2000
        assert found.radius.shape == (3,)
        errors.append((found.value / unit - goal).square().sum().item())
    assert sum(errors) / 10 < 0.01


def test_kiefer_wolfowitz_without_noise_in_a_box_and_on_a_quartic():
    exact = kiefer_wolfowitz(lambda x: (x - 3).square().sum(), torch.zeros(2, 2))
    torch.testing.assert_close(exact.value, torch.full((2, 2), 3.0, dtype=torch.float64))
    held = kiefer_wolfowitz(lambda x: (x - 3).square().sum(), torch.zeros(2), within=(-1.0, 1.0))
    torch.testing.assert_close(held.value, torch.ones(2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    flat = kiefer_wolfowitz(lambda x: (x**2 / 2 + x**4).sum() + normal(generator), torch.ones(5), evaluations=1000)
    assert flat.value.square().sum() < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spsa(torch.sum, torch.zeros(2), evaluations=10), "evaluations: expected at least 300, got 10"),
        (lambda: spsa(torch.sum, torch.zeros(2), radius=-1.0), "radius: expected a positive distance, got -1.0"),
        (
            lambda: kiefer_wolfowitz(torch.sum, torch.zeros(2), evaluations=100),
            "evaluations: expected at least 120, 60 an",
        ),
        (
            lambda: kiefer_wolfowitz(torch.sum, torch.zeros(2), radius=0.0),
            "radius: expected a positive distance, got 0.0",
        ),
        (lambda: spsa(lambda x: x.sum() * math.nan, torch.zeros(2)), "f: expected a finite scalar, got nan"),
        (lambda: Averaged(torch.optim.SGD([torch.zeros(1)]), forget=-1.0), "forget: expected a number that is not"),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("forget", [0.0, 3.0])
def test_averaging_works_from_the_first_step(forget):
    weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    averaged = Averaged(optimizer, forget=forget)
    generator, path = torch.Generator().manual_seed(0), []
    for _ in range(1000):
        weight.grad = weight.detach() - 1 + normal(generator, 4)
        optimizer.step()
        averaged.update()
        path.append(weight.detach().clone())
    # The weights that the rates (e + 1) / (n + e) amount to, for e = 3.
    n = torch.arange(1.0, 1001.0, dtype=torch.float64)
    weights = n * (n + 1) * (n + 2) if forget else torch.ones_like(n)
    expected = weights @ torch.stack(path) / weights.sum()
    last = weight.detach().clone()
    with averaged.applied():
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight.detach(), last)
    other = Averaged(optimizer, forget=forget)
    other.load_state_dict(averaged.state_dict())
    for one in (averaged, other):
        one.update()
    assert all(torch.equal(a, b) for a, b in zip(averaged._means, other._means, strict=True))


def test_torch_asgd_averages_nothing_in_a_thousand_steps_and_we_do():
    weight = torch.nn.Parameter(torch.zeros(1))
    asgd = torch.optim.ASGD([weight], lr=0.1)
    averaged = Averaged(asgd)
    for step in range(1000):
        weight.grad = weight.detach() - (-1.0) ** step
        asgd.step()
        averaged.update()
    assert torch.equal(asgd.state[weight]["ax"], weight.detach())  # its "average" is the last iterate
    with averaged.applied():
        assert weight.abs() < 0.01
    assert weight.abs() > 0.04
