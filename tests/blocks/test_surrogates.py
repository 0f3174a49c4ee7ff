import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from visavis.blocks.surrogates import exact_tar_at_far, tar_at_far
from visavis.errors import InputError, TensorError
from visavis.face import evaluate

# Few distinct similarities, so that ties are the rule.
PAIRS = st.lists(
    st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=14
).filter(lambda rows: {same for _, same in rows} == {True, False})
FARS = st.sampled_from([0.0, 0.1, 0.25, 0.29, 1 / 3, 0.5, 0.9, 0.999])


def tensors(rows):
    similarities, same = zip(*rows, strict=True)
    return torch.tensor(similarities, dtype=torch.float64), torch.tensor(same)


def draw(seed, genuine=40, impostors=200, dtype=torch.float64):
    random = np.random.default_rng(seed)
    values = np.concatenate([random.normal(0.5, 0.15, genuine), random.normal(0.0, 0.15, impostors)])
    return torch.tensor(values).to(dtype), torch.arange(len(values)) < genuine


@given(PAIRS, FARS)
def test_the_exact_twin_is_the_measure(rows, far):
    similarities, same = tensors(rows)
    expected = evaluate.tar_at_far(similarities.numpy(), same.numpy(), far)
    assert exact_tar_at_far(similarities, same, far=far).item() == pytest.approx(expected)


def test_the_exact_twin_does_not_lose_a_pair_to_rounding():
    similarities, same = torch.linspace(1.0, 0.0, 101), torch.arange(101) == 28
    assert [exact_tar_at_far(similarities, same, far=far).item() for far in (0.29, 0.28, 0.27)] == [1.0, 1.0, 0.0]


@given(PAIRS, FARS)
def test_cold_it_is_the_exact_value(rows, far):
    similarities, same = tensors(rows)
    genuine, impostors = similarities[same], similarities[~same].sort(descending=True).values
    allowed = sum((k + 1) / len(impostors) <= far for k in range(len(impostors)))
    bar = impostors[allowed]
    share = (allowed + 0.5 - float((impostors > bar).sum())) / float((impostors == bar).sum())  # of a pair that ties
    expected = exact_tar_at_far(similarities, same, far=far) + share * (genuine == bar).double().mean()
    assert 0 < share < 1
    assert tar_at_far(similarities, same, far=far, temperature=1e-4).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_it_tends_to_the_exact_value(seed):
    similarities, same = draw(seed)
    exact = exact_tar_at_far(similarities, same, far=0.05).item()
    # Of 40 genuine pairs those within about 5 temperatures of the threshold are counted in part.
    errors = [abs(tar_at_far(similarities, same, far=0.05, temperature=t).item() - exact) for t in (0.1, 1e-3, 1e-6)]
    assert errors[0] > 1e-3
    assert errors[1] < 2 / 40
    assert errors[2] < 1e-6


@given(PAIRS, FARS, st.sampled_from([0.01, 0.05, 0.3]))
def test_value_by_another_root_finder(rows, far, temperature):
    similarities, same = tensors(rows)
    genuine, impostors = similarities[same].numpy(), similarities[~same].numpy()
    target = sum((k + 1) / len(impostors) <= far for k in range(len(impostors))) + 0.5
    threshold = brentq(lambda t: expit((impostors - t) / temperature).sum() - target, -9, 9, xtol=1e-14, rtol=1e-14)
    expected = expit((genuine - threshold) / temperature).mean()
    value = tar_at_far(similarities, same, far=far, temperature=temperature)
    assert value.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("far", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_gradient_by_differences(far, temperature):
    similarities, same = draw(3, genuine=6, impostors=20)
    similarities.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: tar_at_far(s, same, far=far, temperature=temperature), similarities)


@given(PAIRS, FARS, st.sampled_from([0.02, 0.2]))
def test_gradient_draws_genuine_up_and_impostors_down_by_as_much(rows, far, temperature):
    similarities, same = tensors(rows)
    similarities.requires_grad_()
    value = tar_at_far(similarities, same, far=far, temperature=temperature)
    [gradient] = torch.autograd.grad(value, similarities)
    assert (gradient[same] >= 0).all()
    assert (gradient[~same] <= 0).all()
    assert gradient.sum().item() == pytest.approx(0.0, abs=1e-9)  # a constant added to all moves the threshold along
    shifted = tar_at_far(similarities.detach() + 0.125, same, far=far, temperature=temperature)
    assert shifted.item() == pytest.approx(value.item(), abs=1e-9)


def test_it_rises_with_the_rate():
    similarities, same = draw(1)
    values = [tar_at_far(similarities, same, far=far, temperature=0.05).item() for far in (0, 0.01, 0.1, 0.5, 0.99)]
    assert values == sorted(values)
    assert values[0] < values[-1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 0.05, 10.0])
@pytest.mark.parametrize(
    "values",
    [[1.0, -1.0, 1.0, -1.0], [0.5] * 4, [1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, 1.0, 1.0], [0.3, 0.2, 0.25, 0.25]],
    ids=str,
)
def test_value_and_gradient_are_finite(dtype, temperature, values):
    similarities = torch.tensor(values, dtype=dtype, requires_grad=True)
    same = torch.tensor([True, True, False, False])
    value = tar_at_far(similarities, same, far=1e-3, temperature=temperature)
    assert value.dtype == dtype
    assert 0 <= value <= 1
    [gradient] = torch.autograd.grad(value, similarities)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


def test_half_precision_is_computed_in_float32():
    similarities, same = draw(2, dtype=torch.bfloat16)
    full = tar_at_far(similarities.float(), same, far=0.02, temperature=0.05)
    half = tar_at_far(similarities, same, far=0.02, temperature=0.05)
    assert half == full.bfloat16()


@pytest.mark.parametrize("far", [0.0, 0.5])
def test_one_pair_of_each_kind(far):
    similarities, same = torch.tensor([0.4, 0.3]), torch.tensor([True, False])
    assert exact_tar_at_far(similarities, same, far=far) == 1.0
    # The threshold is the one impostor: its own sigmoid is 1/2 there.
    expected = 1 / (1 + math.exp(-1))
    assert tar_at_far(similarities, same, far=far, temperature=0.1).item() == pytest.approx(expected, abs=1e-5)


def test_as_a_loss_it_raises_the_exact_measure():
    """Two of 16 features tell people apart, the others are noise; a projection learns which."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(40).repeat_interleave(4)
    signal = torch.randn(40, 2, generator=random).repeat_interleave(4, 0)
    features = torch.cat([signal, torch.randn(160, 14, generator=random)], 1)
    upper = torch.ones(160, 160, dtype=torch.bool).triu(1)
    same = (labels[:, None] == labels)[upper]
    scale = torch.ones(16, requires_grad=True)
    optimizer = torch.optim.Adam([scale], lr=0.05)

    def cosines():
        return (
            torch.nn.functional.normalize(features * scale, dim=1)
            @ torch.nn.functional.normalize(features * scale, dim=1).T
        )

    before = exact_tar_at_far(cosines()[upper], same, far=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        (1 - tar_at_far(cosines()[upper], same, far=0.1, temperature=0.1)).backward()
        optimizer.step()
    after = exact_tar_at_far(cosines()[upper], same, far=0.1)
    assert before < 0.6
    assert after > 0.8


ONE, SAME = torch.tensor([0.5, 0.4]), torch.tensor([True, False])


@pytest.mark.parametrize(
    ("similarities", "same", "options", "message"),
    [
        (ONE, torch.tensor([True, True]), {}, "same: expected pairs of one person and .*, got 2 and 0"),
        (ONE, torch.tensor([False, False]), {}, "same: expected pairs of one person and .*, got 0 and 2"),
        (ONE[:0], SAME[:0], {}, "same: expected pairs of one person and .*, got 0 and 0"),
        (ONE * torch.nan, SAME, {}, "similarities: expected finite numbers"),
        (ONE, SAME, {"far": 1.0}, r"far: expected a share in \[0, 1\), got 1.0"),
        (ONE, SAME, {"far": math.nan}, "far: expected a share"),
        (ONE, SAME, {"temperature": 0.0}, "temperature: expected a positive number, got 0.0"),
        (ONE, SAME, {"temperature": math.inf}, "temperature: expected a positive number"),
    ],
)
def test_senseless_input_is_refused(similarities, same, options, message):
    with pytest.raises(InputError, match=message):
        tar_at_far(similarities, same, **{"far": 0.1, "temperature": 0.1} | options)


def test_wrong_types_are_refused():
    with pytest.raises(TensorError, match=r"same: expected bool \[2\], got int64 \[2\]"):
        tar_at_far(ONE, SAME.long(), far=0.1, temperature=0.1)
    with pytest.raises(TensorError, match=r"similarities: expected float \[any\], got float32 \[1, 2\]"):
        exact_tar_at_far(ONE[None], SAME[None], far=0.1)
