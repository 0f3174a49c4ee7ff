"""Folding: against the unfolded networks in float64, torch's own fusion, and networks drawn by hypothesis."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.zoo import timm, torchvision
from visavis.blocks import bias
from visavis.errors import InputError


def awake(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with norms that do something: some scales negative, some zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, low: float, high: float) -> Tensor:
        return tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, _BatchNorm):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                draw(norm.running_mean, -1, 1)
                draw(norm.running_var, 0.5, 2)
                if norm.affine:
                    draw(norm.weight, -1.5, 1.5)
                    norm.weight[1:2] = 0.0
                    draw(norm.bias, -1, 1)
    return network.double().eval()


def difference(network: nn.Module, folded: nn.Module, example: Tensor) -> float:
    """Relative to the largest output, on another example than the one folded with."""
    other = torch.randn(example.shape, dtype=example.dtype, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        before, after = network(other), folded(other)
    return float((before - after).abs().max() / before.abs().max())


def folds(network: nn.Module, example: Tensor, **options: bool) -> tuple[dict[str, str], dict[str, str]]:
    """How each was folded and why each was left, the outputs compared."""
    network, example = awake(network), example.double()
    folded, report = bias.fold(network, example, **options)
    assert difference(network, folded, example) < 1e-12
    assert report.error < 1e-12
    return {each.name: each.how for each in report.folded}, report.left


IMAGE = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("groups", [1, 2])
def test_one_convolution_as_torch_folds_it(groups: int) -> None:
    network = awake(nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups), nn.BatchNorm2d(6)))
    folded, _ = bias.fold(network, IMAGE.double())
    expected = fuse_conv_bn_eval(copy.deepcopy(network[0]), copy.deepcopy(network[1]))  # type: ignore[index]
    assert torch.allclose(folded[0].weight, expected.weight, atol=0, rtol=1e-14)  # type: ignore[index]
    assert torch.allclose(folded[0].bias, expected.bias, atol=1e-14, rtol=1e-14)  # type: ignore[index]
    assert isinstance(folded[1], nn.Identity)  # type: ignore[index]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [True, False])
def test_every_convolution_back_and_ahead(dims: int, transposed: bool, groups: int, with_bias: bool) -> None:
    kind = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    layer = kind[dims - 1 + 3 * transposed](4, 6, 1, groups=groups, bias=with_bias)
    norm = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][dims - 1]
    network = nn.Sequential(norm(4), layer, norm(6))
    assert folds(network, torch.randn(2, 4, *[3] * dims)) == ({"0": "ahead", "2": "back"}, {})


def test_linear_layers_with_reshapes_between() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(self.first(x).transpose(1, 2)).transpose(1, 2)
            return functional.gelu(self.last(functional.gelu(y)))

    assert folds(Network(), torch.randn(2, 5, 4)) == ({"norm": "back"}, {})


def test_zero_padding_stops_a_shift_but_not_a_scale() -> None:
    padded = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
    done, left = folds(padded, IMAGE)
    assert not done
    assert "pads with zeros" in left["0"]
    reflected = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    assert folds(reflected, IMAGE) == ({"0": "ahead"}, {})
    network = awake(padded)
    norm = network.get_submodule("0")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        nn.init.zeros_(norm.bias)
        norm.reset_running_stats()
    folded, report = bias.fold(network, IMAGE.double())
    assert [each.how for each in report.folded] == ["ahead"]
    assert difference(network, folded, IMAGE.double()) < 1e-12


def test_a_map_of_one_pixel_does_not_hide_the_border() -> None:
    network = awake(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)))
    folded, report = bias.fold(network, IMAGE[..., :1, :1].double())
    assert list(report.left) == ["0"]
    assert difference(network, folded, IMAGE.double()) < 1e-12


def test_past_a_relu_as_a_clamp_or_a_shift() -> None:
    clamped = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1))
    assert folds(clamped, IMAGE) == ({"0": "clamp"}, {})
    padded = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    assert folds(padded, IMAGE) == ({"0": "shift"}, {})
    six = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    assert folds(six, IMAGE) == ({"0": "clamp"}, {})
    smooth = nn.Sequential(nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 3, 1))
    assert folds(smooth, IMAGE)[0] == {}


def test_a_scale_of_channels() -> None:
    class LayerScale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma, self.beta = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gamma + self.beta

    network = nn.Sequential(nn.Linear(4, 4), LayerScale(), nn.ReLU(), LayerScale(), nn.Linear(4, 2))
    assert folds(network, torch.randn(2, 5, 4)) == ({"1": "back", "3": "ahead"}, {})


def test_what_others_read_is_left() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            return torch.tanh(self.norm(y)) + y

    done, left = folds(Network(), IMAGE)
    assert not done
    assert left == {"norm": "other layers read what it reads; tanh in the network reads what it makes; "
                            "not a ReLU alone reads it"}  # fmt: skip


def test_a_norm_behind_a_concatenation_goes_back_into_all() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.norm = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.norm(torch.cat([self.left(x), self.right(x)], 1)))

    network = awake(Network())
    folded, report = bias.fold(network, IMAGE.double())
    assert set(report.folded[0].into) == {"left", "right"}
    assert difference(network, folded, IMAGE.double()) < 1e-12


class Reused(nn.Module):
    """Its convolution runs twice, as in the facts, with the norm behind its first run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.relu(self.norm(self.conv(x))))
        return y


def test_a_convolution_that_runs_twice_is_refused() -> None:
    network = awake(Reused())
    with pytest.raises(InputError, match=r"layers that run once, got conv, which runs 2 times, so that norm cannot"):
        bias.fold(network, IMAGE.double())
    assert folds(Reused(), IMAGE, leave_reused=True)[0] == {}
    with warnings.catch_warnings(), torch.no_grad():  # which torch.fx folds without a word, and the outputs change
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, at its import
        from torch.fx.experimental.optimization import fuse

        assert (fuse(network)(IMAGE.double()) - network(IMAGE.double())).abs().max() > 0.1


def test_a_norm_that_runs_twice_is_refused() -> None:
    norm = nn.BatchNorm2d(4)
    network = awake(nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.Conv2d(4, 4, 1), norm))
    with pytest.raises(InputError, match="got 1, which runs 2 times"):
        bias.fold(network, IMAGE.double())


def test_bad_input_says_what_is_wrong() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(InputError, match=r"expected evaluation mode, got training; call model\.eval\(\)"):
        bias.fold(network, IMAGE)

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="without looking at its input's numbers"):
        bias.fold(Branch().eval(), IMAGE)

    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * next(self.numbers)

        numbers = iter(range(1, 9))

    with pytest.raises(InputError, match="outputs that differ by at most 1e-05"):
        bias.fold(Noise().eval(), IMAGE)


def test_the_network_is_left_alone() -> None:
    network = awake(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    before = copy.deepcopy(network.state_dict())
    _, report = bias.fold(network, IMAGE.double())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert str(report).startswith("1 of 1 folded (1 back), outputs differ by")


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Convolutions, transposed ones, norms, activations and pools in any order."""
    channels, layers = 4, list[nn.Module]()
    for _ in range(draw(st.integers(2, 8))):
        kind = draw(st.sampled_from(["conv", "transposed", "norm", "relu", "relu6", "tanh", "pool", "dropout"]))
        if kind in ("conv", "transposed"):
            made = draw(st.sampled_from([2, 4, 6]))
            kernel = draw(st.sampled_from([1, 3]))
            options = {
                "padding": draw(st.sampled_from([0, kernel // 2])) if kind == "conv" else 0,
                "groups": draw(st.sampled_from([1, 2])),
                "bias": draw(st.booleans()),
                "stride": draw(st.sampled_from([1, 2])) if kind == "transposed" else 1,
            }
            mode = draw(st.sampled_from(["zeros", "circular"])) if kind == "conv" else "zeros"
            make = nn.Conv2d if kind == "conv" else nn.ConvTranspose2d
            layers.append(make(channels, made, kernel, padding_mode=mode, **options))  # type: ignore[arg-type]
            channels = made
        elif kind == "norm":
            layers.append(nn.BatchNorm2d(channels, affine=draw(st.booleans())))
        elif kind == "pool":
            layers.append(nn.AvgPool2d(3, 1, padding=draw(st.integers(0, 1)), count_include_pad=draw(st.booleans())))
        else:
            layers.append({"relu": nn.ReLU(), "relu6": nn.ReLU6(), "tanh": nn.Tanh(), "dropout": nn.Dropout()}[kind])
    return nn.Sequential(*layers)


@settings(max_examples=60, deadline=None)
@given(chain=chains(), seed=st.integers(0, 99))
def test_any_chain_keeps_its_outputs(chain: nn.Sequential, seed: int) -> None:
    torch.manual_seed(seed)
    example = torch.randn(2, 4, 18, 18, dtype=torch.float64)
    network = awake(chain, seed)
    folded, report = bias.fold(network, example)
    with torch.no_grad():
        before, after = network(example * 2 + 1), folded(example * 2 + 1)
    assert (before - after).abs().max() <= 1e-10 * max(1.0, float(before.abs().max()))
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in chain)
    assert len(report.folded) + len(report.left) == norms
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == len(report.left)


def test_every_norm_of_densenet121_of_which_others_leave_62() -> None:
    network = torchvision.models.get_model("densenet121", weights=None)
    done, left = folds(network, torch.randn(1, 3, 64, 64))
    assert len(done) == 121
    assert not left
    assert sorted(set(done.values())) == ["back", "clamp", "shift"]
    assert [name for name, how in done.items() if how == "shift"] == ["features.norm5"]  # its ReLU is a function


@pytest.mark.slow
def test_every_norm_of_maxvit_t_of_which_others_leave_11() -> None:
    network = torchvision.models.get_model("maxvit_t", weights=None)
    done, left = folds(network, torch.randn(1, 3, 224, 224))
    assert sorted(done.values()) == ["ahead"] * 11 + ["back"] * 23
    assert not left


def test_timms_norms_that_run_their_activation() -> None:
    network = timm.create_model("resnetv2_50", layers=(1, 1), channels=(32, 64), num_classes=5)
    done, left = folds(network, torch.randn(1, 3, 32, 32))
    assert not left
    assert set(done.values()) == {"back", "clamp"}
