import itertools
import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from visavis.errors import InputError
from visavis.face.train import backbones
from visavis.face.train.backbones import iresnet, mobilefacenet, vit

pytestmark = pytest.mark.usefixtures("one_thread")  # networks this small only wait for more

TINY = {
    "mobilefacenet": lambda **options: mobilefacenet(dim=16, width=0.125, **options),
    "iresnet": lambda **options: iresnet(18, dim=16, width=0.125, **options),
    "vit": lambda **options: vit(dim=16, patch=16, depth=2, width=32, heads=4, **options),
}


def counted(build):
    """Parameters, and multiply-adds of one face of 112 px by torch's own counter."""
    with torch.device("meta"):
        module = build().eval()
        with FlopCounterMode(display=False) as counter:
            module(torch.empty(1, 3, 112, 112))
    return sum(p.numel() for p in module.parameters()), counter.get_total_flops() / 2


def test_mobilefacenet_is_as_large_as_published_and_as_told():
    parameters, macs = counted(mobilefacenet)
    assert f"{parameters / 1e6:.2f} M parameters (published: 0.99 M), {macs / 1e6:.0f} M" in mobilefacenet.__doc__
    assert abs(parameters / 0.99e6 - 1) < 0.02
    assert abs(macs / 221e6 - 1) < 0.005


@pytest.mark.parametrize("depth", [18, 34, 50, 100])
def test_iresnet_is_as_large_as_told(depth):
    parameters, macs = counted(lambda: iresnet(depth))
    [told] = re.findall(rf"^ +{depth} +(\S+ M) +(\S+ G)$", iresnet.__doc__, re.MULTILINE)
    assert told == (f"{parameters / 1e6:.1f} M", f"{macs / 1e9:.1f} G")
    layers = [layer for layer in iresnet(depth, width=0.01).modules() if isinstance(layer, torch.nn.Conv2d)]
    assert sum(layer.kernel_size == (3, 3) for layer in layers) + 1 == depth  # and the linear layer


def test_iresnet_50_is_as_large_as_published():
    parameters, macs = counted(lambda: iresnet(50))
    assert abs(parameters / 43.59e6 - 1) < 0.001
    assert abs(macs / 6.33e9 - 1) < 0.01


def test_vit_is_as_large_as_told():
    parameters, macs = counted(vit)
    assert f"{parameters / 1e6:.1f} M parameters, {macs / 1e9:.1f} G multiply-adds" in vit.__doc__


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", [32, 64, 112, 160])
def test_any_multiple_of_16(name, size):
    torch.manual_seed(0)
    network = TINY[name](size=size)
    faces = torch.randn(3, 3, size, size)
    assert network(faces).shape == (3, 16)
    assert network.eval()(faces[:1]).shape == (1, 16)


@pytest.mark.parametrize("name", TINY)
def test_steps_lower_the_loss_and_reach_every_weight(name):
    torch.manual_seed(0)
    network = TINY[name](size=32)
    faces, goal = torch.randn(8, 3, 32, 32), torch.randn(8, 16)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = (network(faces) - goal).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[1] < losses[0]
    for key, parameter in network.named_parameters():  # branches that start as nothing are reached by the second step
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", TINY)
def test_weights_are_drawn_so_that_signals_keep_their_size(name):
    """Neither vanishing nor exploding, also without the help of batch normalisation's statistics."""
    torch.manual_seed(0)
    network = {**TINY, "iresnet": lambda **options: iresnet(50, dim=16, width=0.125, **options)}[name](size=64).eval()
    features = network(torch.randn(16, 3, 64, 64))
    assert 0.05 < features.detach().square().mean().sqrt() < 20


@pytest.mark.parametrize("name", TINY)
def test_no_bias_before_a_batch_normalisation(name):
    network = TINY[name](size=32)
    layers = [layer for layer in network.modules() if not list(layer.children())]
    for layer, following in itertools.pairwise(layers):
        if isinstance(following, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)) and hasattr(layer, "bias"):
            assert layer.bias is None or isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.LayerNorm))


@pytest.mark.parametrize("name", TINY)
def test_faces_do_not_see_each_other_and_places_differ(name):
    torch.manual_seed(0)
    network = TINY[name](size=32).eval()
    faces = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network(faces)[2:3], network(faces[2:3]), rtol=1e-4, atol=1e-5)
    assert (network(faces) - network(faces.flip(2))).abs().max() > 1e-2


def test_width_scales_the_channels():
    narrow, wide = (sum(p.numel() for p in mobilefacenet(width=width).parameters()) for width in (0.5, 1.0))
    assert 0.25 < narrow / wide < 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mobilefacenet(size=100), "size: expected a multiple of 16 from 32 px, got 100"),
        (lambda: mobilefacenet(size=16), "size: expected a multiple of 16 from 32 px, got 16"),
        (lambda: mobilefacenet(dim=0), "dim: expected a positive number of features, got 0"),
        (lambda: iresnet(18, width=float("nan")), "width: expected a factor near 1, got nan"),
        (lambda: iresnet(20), "depth: expected 18, 34, 50, 100, got 20"),
        (lambda: vit(size=100), "expected multiples of patch and heads, all of them positive, got size 100"),
        (lambda: vit(width=30), "expected multiples of patch and heads"),
        (lambda: vit(depth=0), "expected multiples of patch and heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_names():
    assert backbones.__all__ == ["iresnet", "mobilefacenet", "vit"]
