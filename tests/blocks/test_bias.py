"""Redundant biases: against perturbations by hand in float64, and networks whose answer is known."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo import timm, torchvision
from visavis.blocks import bias
from visavis.errors import InputError, TensorError


class Attention(nn.Module):
    """Softmax attention with a packed projection, as timm writes it, or with separate ones."""

    def __init__(self, *, packed: bool = True, fused: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24) if packed else None
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.proj = nn.Linear(8, 8)
        self.fused, self.causal = fused, causal

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, 8]."""
        n, length, _ = x.shape
        if self.qkv is not None:
            q, k, v = self.qkv(x).reshape(n, length, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (layer(x).view(n, length, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            mixed = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, 8))
        return out.relu()


def told(report: bias.Redundancy) -> dict[tuple[str, str], str]:
    """When, by name and part."""
    assert not report.unproved
    assert report.change <= 1.5e-8
    return {(each.name, each.part): each.when for each in report.biases}


def moved(network: nn.Module, example: Tensor, name: str, part: slice, *, training: bool) -> float:
    """The oracle: how far the output moves when a slice of a bias becomes other numbers."""
    network = network.double().train(training)
    with torch.no_grad():
        before = network(example.double())
        parameter = network.get_parameter(name)
        kept = parameter.clone()
        parameter[part] += torch.randn(parameter[part].shape, dtype=torch.float64)
        after = network(example.double())
        parameter.copy_(kept)
    return float((after - before).abs().max())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_the_keys_bias_and_nothing_else_of_attention_never_matters(packed: bool, fused: bool, causal: bool) -> None:
    if causal and not fused:
        pytest.skip("not written")
    network, example = Attention(packed=packed, fused=fused, causal=causal), torch.randn(2, 5, 8)
    found = told(bias.redundant(network, example))
    used = {key: when for key, when in found.items() if key[0] not in _unused(packed)}
    if packed:
        assert used == {("qkv.bias", "8:16"): "always", ("qkv.bias", "16:24"): "absorbed"}
        parts = {"qkv.bias": [slice(0, 8), slice(8, 16), slice(16, 24)]}
    else:
        assert used == {("k.bias", "all"): "always", ("v.bias", "all"): "absorbed"}
        parts = {"q.bias": [slice(0, 8)], "k.bias": [slice(0, 8)]}
    for name, slices in parts.items():
        for number, part in enumerate(slices):
            change = moved(network, example, name, part, training=False)
            is_key = name == "k.bias" or (packed and number == 1)
            assert (change < 1e-14) == is_key, (name, part, change)


def _unused(packed: bool) -> set[str]:
    return {"q.bias", "k.bias", "v.bias"} if packed else set()


def test_what_reads_nothing_is_named() -> None:
    found = told(bias.redundant(Attention(packed=True), torch.randn(2, 5, 8)))
    assert {name for name, _ in found} >= _unused(packed=True)


def test_multihead_attention_of_torch() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.attention(x, x, x, need_weights=False)[0])

    network, example = Network(), torch.randn(2, 5, 8)
    report = bias.redundant(network, example)
    assert told(report) == {
        ("attention.in_proj_bias", "8:16"): "always",
        ("attention.in_proj_bias", "16:24"): "absorbed",
    }
    assert [each.parameters for each in report.biases] == [8, 8]
    assert report.biases[1].absorbed_by == ("attention.out_proj.bias",)
    assert moved(network, example, "attention.in_proj_bias", slice(8, 16), training=True) < 1e-14
    assert moved(network, example, "attention.in_proj_bias", slice(7, 15), training=True) > 1e-6


def test_before_a_batch_norm_only_in_training() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    example = torch.randn(2, 3, 6, 6)
    (found,) = bias.redundant(network, example).biases
    assert (found.name, found.when, found.absorbed_by) == ("0.bias", "in training", ("1.running_mean",))
    assert moved(network, example, "0.bias", slice(None), training=True) < 1e-13
    assert moved(network, example, "0.bias", slice(None), training=False) > 1e-3


@pytest.mark.parametrize(
    ("norm", "part"),
    [
        (nn.InstanceNorm2d(4), "all"),
        (nn.GroupNorm(4, 4), "all"),
        (nn.GroupNorm(2, 4), "mean"),
        (nn.GroupNorm(1, 4), "mean"),
    ],
)
def test_before_norms_of_one_sample(norm: nn.Module, part: str) -> None:
    network, example = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm, nn.ReLU()), torch.randn(2, 3, 6, 6)
    assert told(bias.redundant(network, example)) == {("0.bias", part): "always"}
    alone = moved(network, example, "0.bias", slice(0, 1), training=False)
    assert (alone < 1e-13) == (part == "all")


def test_before_a_mean_is_subtracted_by_hand() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return torch.relu(y - y.mean(0, keepdim=True))

    network, example = Centred(), torch.randn(5, 4)
    assert told(bias.redundant(network, example)) == {("layer.bias", "all"): "always"}
    assert moved(network, example, "layer.bias", slice(None), training=False) < 1e-14


def test_classes_share_a_shift_only_before_the_softmax() -> None:
    example = torch.randn(5, 4)
    assert told(bias.redundant(nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), example)) == {
        ("0.bias", "mean"): "always"
    }
    assert told(bias.redundant(nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)), example)) == {
        ("0.bias", "mean"): "always"
    }
    assert told(bias.redundant(nn.Linear(4, 3), example)) == {}
    assert told(bias.redundant(nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), example)) == {("0.bias", "all"): "always"}


def test_a_bias_behind_another_takes_it_up_unless_something_is_between() -> None:
    example = torch.randn(5, 4)
    report = bias.redundant(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(3, 2)), example)
    assert [(each.name, each.absorbed_by) for each in report.biases] == [
        ("0.bias", ("1.bias",)),
        ("1.bias", ("2.bias",)),
    ]
    assert told(bias.redundant(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), example)) == {}
    no_bias = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3, bias=False))
    assert told(bias.redundant(no_bias, example)) == {}


def test_a_slice_without_entries_is_passed_over() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.second(torch.cat([x[:, :0], x], 1))

    (found,) = bias.redundant(Sliced().eval(), torch.randn(2, 4)).biases
    assert found.name == "first.bias"
    assert found.absorbed_by == ("second.bias",)


def test_padding_with_zeros_keeps_a_bias_from_being_taken_up() -> None:
    example = torch.randn(2, 3, 6, 6)
    padded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1))
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    reflected = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    assert told(bias.redundant(padded, example)) == {}
    assert told(bias.redundant(whole, example)) == {("0.bias", "all"): "absorbed"}
    assert told(bias.redundant(reflected, example)) == {("0.bias", "all"): "absorbed"}
    # The padded one is not redundant before a BatchNorm either: the border is shifted less.
    normed = nn.Sequential(*padded, nn.BatchNorm2d(4))
    assert told(bias.redundant(normed, example)) == {("1.bias", "all"): "in training"}
    assert moved(normed, example, "0.bias", slice(None), training=True) > 1e-3


def test_a_residual_that_something_else_reads_lets_a_bias_through() -> None:
    class Residual(nn.Module):
        def __init__(self, *, also: bool) -> None:
            super().__init__()
            self.conv, self.norm, self.also = nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3), also

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.relu(self.norm(x + y)) + (y.abs() if self.also else 0)

    example = torch.randn(2, 3, 5)
    assert told(bias.redundant(Residual(also=False), example)) == {("conv.bias", "all"): "in training"}
    assert told(bias.redundant(Residual(also=True), example)) == {}


def test_weights_that_happen_to_be_zero_prove_nothing() -> None:
    last = nn.Linear(4, 2)
    nn.init.zeros_(last.weight)
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), last)
    assert told(bias.redundant(network, torch.randn(3, 4))) == {}


def test_dropout_behind_a_values_bias_in_training() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    assert told(bias.redundant(network, torch.randn(6, 4))) == {}


def test_the_proof_catches_what_rules_get_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.ReLU(), nn.Linear(3, 3))
    example = torch.randn(2, 4)
    assert told(bias.redundant(network, example))[("0.bias", "mean")] == "always"
    monkeypatch.setattr("visavis.blocks.bias._shift.constant", lambda plane, dims: True)  # noqa: ARG005
    report = bias.redundant(network, example)
    assert ("0.bias", "all") in {(each.name, each.part) for each in report.unproved}
    assert "0.bias" not in {each.name for each in report.biases}


def test_an_output_that_is_not_finite_proves_nothing() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            shares: Tensor = self.layer(x).softmax(0)
            return shares * torch.nan

    report = bias.redundant(Broken(), torch.randn(5, 4))
    assert not report.biases
    assert [each.name for each in report.unproved] == ["layer.bias"]


def test_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    bias.redundant(network, torch.randn(2, 3, 6, 6))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_bad_input_says_what_is_wrong() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="without looking at its input's numbers"):
        bias.redundant(Branch(), torch.randn(2, 3))
    with pytest.raises(InputError, match="BatchNorm needs two samples"):
        bias.redundant(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.randn(1, 3))
    with pytest.raises(InputError, match="expected a network that runs on"):
        bias.redundant(nn.Linear(3, 3), torch.randn(2, 4))


def test_the_report_reads_well() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    text = str(bias.redundant(network, torch.randn(2, 3, 6, 6)))
    assert text.startswith(
        "1 of 2 biases redundant, 4 parameters\n0.bias: in training: is subtracted with the batch's "
    )


def test_the_keys_of_a_small_vision_transformer_of_timm() -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    report = bias.redundant(network, torch.randn(2, 3, 32, 32))
    keys = [each for each in report.biases if each.part == "192:384"]
    assert [(each.name, each.when) for each in keys] == [
        ("blocks.0.attn.qkv.bias", "always"),
        ("blocks.1.attn.qkv.bias", "always"),
    ]
    assert not report.unproved


@pytest.mark.slow
def test_the_keys_of_vit_b_16_have_9216_parameters() -> None:
    network = torchvision.models.get_model("vit_b_16", weights=None, image_size=32)
    report = bias.redundant(network, torch.randn(2, 3, 32, 32))
    keys = [each for each in report.biases if each.part == "768:1536"]
    assert all(each.when == "always" for each in keys)
    assert sum(each.parameters for each in keys) == 9216
    assert report.change <= 1e-10


def test_every_bias_of_vgg_before_a_norm() -> None:
    network = torchvision.models.get_model("vgg11_bn", weights=None, num_classes=3)
    network.classifier = nn.Linear(512 * 49, 3)
    report = bias.redundant(network, torch.randn(2, 3, 32, 32))
    assert [each.name for each in report.biases] == [
        f"features.{index}.bias" for index, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)
    ]
    assert {each.when for each in report.biases} == {"in training"}


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_picture_and_what_it_refuses() -> None:
    weight, points = torch.tensor([0.8, 0.6]), torch.randn(50, 2)
    figure = bias.draw(weight, [0.0, -1.0], points, points @ weight > 1)
    assert [place.get_title().split(": ")[0] for place in figure.axes] == [
        "b = 0 (threshold 0)",
        "b = -1 (threshold 1)",
    ]
    assert figure.axes[1].get_title().endswith("100 % right")
    with pytest.raises(InputError, match="expected a weight other than zero and a bias"):
        bias.draw(torch.zeros(2), [0.0], points, points[:, 0] > 0)
    with pytest.raises(TensorError, match=r"points: expected float \[any, 2\]"):
        bias.draw(weight, [0.0], points[:, :1], points[:, 0] > 0)
