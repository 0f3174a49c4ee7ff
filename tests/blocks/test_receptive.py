import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from benchmarks.zoo import timm, torchvision
from tests.blocks.test_receptive_operations import Of, assert_exact, conv
from visavis.blocks.receptive import (
    Effective,
    Phase,
    Window,
    bottom_up,
    effective,
    fields,
    measure,
    required_depth,
    top_down,
)
from visavis.errors import InputError, TensorError


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


class SmallUNet(nn.Module):
    """Two levels: 3 x 3 twice, pooled, 3 x 3 twice, pooled, 3 x 3 twice, and up again by transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = (self.double(a, b) for a, b in ((1, 2), (2, 4), (4, 8)))
        self.rise2, self.rise1 = nn.ConvTranspose2d(8, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)
        self.up2, self.up1 = self.double(8, 4), self.double(4, 2)

    @staticmethod
    def double(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU())

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        three = self.bottom(F.max_pool2d(two, 2))
        two = self.up2(torch.cat([two, self.rise2(three)], 1))
        return self.up1(torch.cat([one, self.rise1(two)], 1))


# Sizes found by bisection with NaNs, on networks at which counting layer by layer goes wrong.
SMALL = {
    "a small U-Net": (SmallUNet(), 44),
    "dilation 4": (conv(3, dilation=4), 9),
    "down and up, kernel 2": (nn.Sequential(conv(3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 2, 2)), 3),
    "down and up, kernel 4": (
        nn.Sequential(conv(3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 4, 2, padding=1)),
        5,
    ),
    "functional pool": (Of(lambda x, c: c(F.max_pool2d(x, 2)), conv(3, padding=1)), 6),
    "functional pool, 3 by 2": (Of(lambda x, c: c(F.max_pool2d(x, 3, 2)), conv(3, padding=1)), 7),
    "roll beside itself": (Of(lambda x, c: c(x + x.roll((8, 8), (2, 3))), conv(3, padding=1)), 11),
    "pixel shuffle": (
        nn.Sequential(nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.PixelShuffle(2), conv(3, padding=1)),
        5,
    ),
}

LARGE = {  # the last map of the features, before what makes one vector of them
    "alexnet": ("features", 195),
    "vgg16": ("features", 212),
    "resnet18": ("layer4", 435),
    "resnet50": ("layer4", 427),
    "resnet101": ("layer4", 971),
    "densenet121": ("features", 2071),
    "mobilenet_v2": ("features", 491),
    "squeezenet1_1": ("features", 207),
    "inception_v3": ("Mixed_7c", 1311),
    "googlenet": ("inception5b", 379),
    "convnext_tiny": ("features", 1688),
    "regnet_x_400mf": ("trunk_output", 975),
    "efficientnet_b0": ("features", None),
}
QUICK = ["alexnet", "vgg16", "resnet18", "efficientnet_b0"]


def large(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}  # which draws for minutes
    return torchvision.models.get_model(name, **options)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_that_others_get_wrong(name):
    model, size = SMALL[name]
    channels = 1 if name == "a small U-Net" else 2
    shape = (channels, 96, 96)
    found = fields(copy.deepcopy(model), shape)
    middle = measure(model, shape)
    assert [axis.size for axis in found.output.axes] == [size, size]
    assert [len(interval) for interval in middle] == [
        int((axis.high - axis.low)[axis.low.numel() // 2]) + 1 for axis in found.output.axes
    ]
    assert found.verify(forwards=48).equal


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in LARGE if name not in QUICK))])
def test_the_published_size_of_a_large_network(name):
    layer, size = LARGE[name]
    model = large(name)
    found = fields(model, (3, 299, 299))
    assert [axis.size for axis in found[layer].axes] == [size, size]
    assert not found.notes


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (_, size) in LARGE.items() if size and size < 500])
def test_the_size_by_bisection_on_an_image_that_holds_it(name):
    layer, size = LARGE[name]
    model = large(name)
    side = size + 160
    assert [len(interval) for interval in measure(model, (3, side, side), layer=layer)] == [size, size]


TORCHVISION = ["shufflenet_v2_x0_5", "squeezenet1_1", *slow("resnet18", "mobilenet_v3_small", "swin_t", "vit_b_32")]
TIMM = ["test_convnext", "test_resnet", *slow("efficientvit_b0", "ghostnet_050", "mobilevit_xxs", "gmixer_12_224")]


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_against_itself(name):
    torch.manual_seed(0)
    verified = fields(model := torchvision.models.get_model(name), (3, 224, 224)).verify(forwards=8)
    assert model.training
    assert verified.equal, verified.mismatches[:3]
    assert verified.checks > 1000
    assert verified.pinned > 0


@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_against_itself(name):
    torch.manual_seed(0)
    model = timm.create_model(name)
    found = fields(model, model.default_cfg["input_size"])
    verified = found.verify(forwards=8)
    assert verified.equal, verified.mismatches[:3]
    assert not found.notes


WINDOWS = st.builds(
    lambda kernel, stride, dilation, padding: (kernel, stride, dilation, min(padding, dilation * (kernel - 1))),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 4),
)


def layer_of(kind, window):
    kernel, stride, dilation, padding = window
    if kind == "conv":
        return nn.Conv1d(2, 2, kernel, stride, padding, dilation)
    if kind == "transposed":
        return nn.ConvTranspose1d(2, 2, kernel, stride, min(padding, dilation * (kernel - 1)), dilation=dilation)
    if kind == "max":
        return nn.MaxPool1d(kernel, stride, min(padding, kernel // 2), dilation, ceil_mode=True)
    if kind == "avg":
        return nn.AvgPool1d(kernel, stride, min(padding, kernel // 2), ceil_mode=True)
    if kind == "linear":
        return nn.Upsample(scale_factor=stride, mode="linear", align_corners=dilation == 2)
    return nn.Upsample(scale_factor=stride)


LAYERS = st.tuples(st.sampled_from(["conv", "transposed", "max", "avg", "linear", "nearest"]), WINDOWS)


class Graph(nn.Module):
    """Layers in a row; to some outputs an earlier one is added, both cropped to the same length."""

    def __init__(self, layers, joins):
        super().__init__()
        self.layers, self.joins = nn.ModuleList(layers), joins

    def forward(self, x):
        outputs = [x]
        for layer, join in zip(self.layers, self.joins, strict=True):
            y = layer(outputs[-1])
            if join:
                other = outputs[join % len(outputs)]
                length = min(y.shape[-1], other.shape[-1])
                y = y[..., :length] + other[..., other.shape[-1] - length :]
            outputs.append(y)
        return outputs[-1]


@settings(max_examples=40)
@given(st.lists(st.tuples(LAYERS, st.integers(0, 5)), min_size=1, max_size=5), st.integers(20, 40))
def test_any_graph(rows, length):
    model = Graph([layer_of(*layer) for layer, _ in rows], [join for _, join in rows])
    try:
        with torch.no_grad():
            output = model.eval()(torch.zeros(1, 2, length))
    except RuntimeError:  # nothing is left of the signal
        return
    if 0 < output.shape[-1] < 400:
        assert_exact(model, (2, length))


@settings(max_examples=40)
@given(st.lists(WINDOWS, min_size=1, max_size=5))
def test_a_chain_by_both_formulas_and_by_its_graph(rows):
    chain = [Window(kernel, stride, dilation) for kernel, stride, dilation, _ in rows]
    sizes = bottom_up(chain)
    assert top_down(chain)[0] == sizes[-1]
    assert sizes == [top_down(chain[: depth + 1])[0] for depth in range(len(chain))]
    model = nn.Sequential(*[layer_of("conv", row) for row in rows])
    found = fields(model, (2, 4 * sizes[-1] + 400))
    assert found.chain() == chain
    assert [layer.axes[0].size for name, layer in found.items() if name] == sizes
    stride = 1
    for _, step, _, _ in rows:
        stride *= step
    assert found.output.axes[0].stride == stride


@given(st.integers(1, 400), st.integers(2, 7), st.integers(1, 3), st.integers(1, 2))
def test_required_depth_is_enough_and_one_less_is_not(size, kernel, stride, growth):
    depth = required_depth(size, kernel=kernel, stride=stride, dilation_growth=growth)
    sizes = [1, *bottom_up(Window(kernel, stride, growth**layer) for layer in range(depth))]
    assert sizes[-1] >= size
    assert depth == 0 or sizes[-2] < size


def test_phases_after_upsampling():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, stride=4, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 2))
    axis = fields(model, (1, 64, 64)).output.axes[1]
    assert axis.phases == (Phase(3, -1), Phase(7, -1))
    assert axis.stride == 2
    assert axis.size == 7
    places = torch.arange(axis.low.numel())
    for number, phase in enumerate(axis.phases):
        own = places[number::2]
        assert torch.equal(axis.open_low[number::2], phase.offset + (own - number) * 2)


def test_padding_share_by_counting():
    model = nn.Sequential(nn.Conv1d(1, 1, 5, padding=2), nn.Conv1d(1, 1, 3, stride=2, padding=1))
    axis = fields(model, (1, 20)).output.axes[0]
    # The field of output position o is 2 o - 3 .. 2 o + 3.
    expected = [sum(not 0 <= place < 20 for place in range(2 * o - 3, 2 * o + 4)) / 7 for o in range(10)]
    torch.testing.assert_close(axis.padding, torch.tensor(expected, dtype=torch.float64))


def test_sizes_do_not_shrink_on_small_images():
    for side in (32, 224):
        assert fields(torchvision.models.resnet18(), (3, side, side))["layer4"].axes[0].size == 435


def test_the_sets_have_the_gaps_of_dilation():
    (reached,) = fields(nn.Conv1d(1, 1, 3, dilation=4), (1, 20)).sets()
    assert reached[2].nonzero().flatten().tolist() == [2, 6, 10]


def test_verify_finds_an_error():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2))
    found = fields(model, (1, 24, 24))
    assert found.verify().equal
    axis = found["0"].axes[0]
    axis.low[5] += 1
    verified = found.verify(forwards=200)
    assert not verified.equal
    assert {(bad.layer, bad.axis, bad.position) for bad in verified.mismatches} == {("0", 0, (5,))}


def test_verify_with_every_pass_pins_everything():
    verified = fields(nn.Sequential(conv(3, stride=2), conv(2)), (2, 12, 13)).verify(forwards=1000)
    assert verified.pinned == verified.ends
    assert not verified.silent


def test_integers_are_silent():
    model = nn.Sequential(conv(3), Of(lambda x: x.argmax(1)))
    verified = fields(model, (2, 9, 9)).verify()
    assert verified.equal
    assert verified.silent == ("1", "")


def test_a_layer_called_twice():
    shared = conv(3, padding=1)
    found = fields(nn.Sequential(shared, nn.ReLU(), shared), (2, 9, 9))
    assert [layer.axes[0].size for layer in (found["0"], found["0:2"])] == [3, 5]
    assert found.verify(forwards=40).equal


def test_state_stays():
    model = nn.Sequential(conv(3), nn.BatchNorm2d(2))
    before = copy.deepcopy(model.state_dict())
    fields(model, (2, 8, 8), training=True).verify()
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_table():
    text = str(fields(nn.Sequential(nn.Conv2d(3, 4, (3, 5), padding=1), nn.AdaptiveAvgPool2d(1)), (3, 20, 20)))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["layer", "kind", "output", "axis", "size", "stride", "offset", "padding"]
    assert lines[1][:7] == ["0", "Conv2d", "4x20x18", "0", "3", "1", "-1"]
    assert lines[2][:6] == ["0", "Conv2d", "4x20x18", "1", "5", "1"]
    assert lines[3][:6] == ["1", "AdaptiveAvgPool2d", "4x1x1", "all", "whole", "image"]


def test_first_layer_of_a_wanted_field():
    found = fields(torchvision.models.resnet18(), (3, 224, 224))
    name = found.first(99)
    names = [name for name, layer in found.items() if layer.leaf]
    assert found[name].axes[0].size >= 99
    assert all((found[before].axes[0].size or 0) < 99 for before in names[: names.index(name)])
    assert fields(conv(3), (2, 8, 8)).first(4) is None


def test_effective_field_of_a_box():
    """Ten averages of three in a row weigh as ten dice of three sides: mean 0, variance 10 * 2 / 3."""
    model = nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1, bias=False) for _ in range(10)])
    for layer in model:
        nn.init.constant_(layer.weight, 1 / 3)
    found = effective(model, torch.ones(1, 1, 41))
    places = torch.arange(41.0) - 20
    assert found.map.sum().item() == pytest.approx(1, abs=1e-5)
    assert (found.map * places**2).sum().item() == pytest.approx(20 / 3, rel=1e-4)
    assert (found.map > 0).sum() == fields(model, (1, 41)).output.axes[0].size
    assert found.size(0) == 11  # two standard deviations are 5.2 on either side


def test_effective_field_lies_inside_the_field():
    torch.manual_seed(0)
    model = SmallUNet()
    found = effective(model, torch.randn(2, 1, 64, 64), layer="bottom.2", position=(5, 9))
    axes = fields(model, (1, 64, 64))["bottom.2"].axes
    rows, columns = found.map.sum(1).nonzero().flatten(), found.map.sum(0).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (int(axes[0].low[5]), int(axes[0].high[5]))
    assert (int(columns.min()), int(columns.max())) == (int(axes[1].low[9]), int(axes[1].high[9]))


def test_size_of_an_effective_field_by_trying_all():
    sums = torch.rand(30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for share in (0.3, 0.5, 0.9545, 1.0):
        best = min(
            b - a for a in range(30) for b in range(a + 1, 31) if sums[a:b].sum() >= share * sums.sum() * (1 - 1e-9)
        )
        assert Effective(sums / sums.sum()).size(0, share=share) == best


def test_a_picture():
    figure = fields(torchvision.models.resnet18(), (3, 64, 48)).draw()
    assert len(figure.axes) == 6
    assert "whole" in figure.axes[-1].get_title()
    found = fields(conv(3, padding=1), (2, 10, 12))
    drawn = found.draw(torch.zeros(10, 12, 3), layers=[""])
    box = drawn.axes[0].patches[0]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (5, 4, 3, 3)
    with pytest.raises(TensorError, match=r"photo: expected \[10, 12, 3\], got \[12, 10, 3\]"):
        found.draw(torch.zeros(12, 10, 3))
    with pytest.raises(InputError, match=r"layers: expected names of layers that ran, got \['x'\]"):
        found.draw(layers=["x"])
    with pytest.raises(InputError, match="fields: expected those of"):
        fields(nn.Conv1d(1, 1, 3), (1, 9)).draw()


class Looks(nn.Module):
    def forward(self, x):
        return x if x.mean() > 0 else -x


def test_what_is_refused():
    with pytest.raises(InputError, match=r"input_shape: expected \(channels, length\).*got \(3,\)"):
        fields(conv(3), (3,))
    with pytest.raises(InputError, match=r"got \(2, 0, 8\)"):
        fields(conv(3), (2, 0, 8))
    with pytest.raises(InputError, match=r"without looking at its input's numbers, got .* in 1 \(Looks\)"):
        fields(nn.Sequential(conv(3), Looks()), (2, 8, 8))
    with pytest.raises(InputError, match=r"expected a network that runs on \[1, 5, 8, 8\]"):
        fields(conv(3), (5, 8, 8))
    with pytest.raises(InputError, match="expected an output that depends on the input"):
        fields(Of(lambda x: torch.zeros_like(x)), (2, 8, 8))
    with torch.device("meta"):
        empty = conv(3)
    with pytest.raises(
        InputError, match='expected weights, as the network has to run, got parameters on device "meta"'
    ):
        fields(empty, (2, 8, 8)).verify()
    with pytest.raises(InputError, match=r"expected a chain of windows, got aten.add.Tensor in the network"):
        fields(Of(lambda x, c: x + c(x), conv(3, padding=1)), (2, 8, 8)).chain()
    with pytest.raises(InputError, match="window: expected kernel, stride and dilation of at least 1"):
        Window(0)
    with pytest.raises(InputError, match="got 9, 1, 1, 1"):
        required_depth(9, kernel=1)
    with pytest.raises(InputError, match="layer: expected the name of a module that ran and returned floats, got 'x'"):
        measure(conv(3), (2, 8, 8), layer="x")
    with pytest.raises(InputError, match="layer: expected the name of a module, got 'x'"):
        effective(conv(3), torch.zeros(1, 2, 5, 5), layer="x")
    with pytest.raises(InputError, match="layer: expected one whose output depends on the images"):
        effective(Of(lambda x: torch.zeros_like(x)), torch.zeros(1, 2, 5, 5))
