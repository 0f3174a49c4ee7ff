"""Every operation against the network itself: which elements a NaN in one row or column of the input reaches."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visavis.blocks import receptive
from visavis.blocks.receptive import fields
from visavis.blocks.receptive._rules import RULES

SEED = 3


class Of(nn.Module):
    """A function as a network, with the modules that it uses."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.parts)


def swept(model, shape, axis):
    """bool [*output, length]: which elements a NaN at each single position reaches."""
    generator = torch.Generator().manual_seed(SEED)
    image = torch.randn(1, *shape, generator=generator)
    columns = []
    with torch.no_grad():
        for place in range(shape[1 + axis]):
            spoiled = image.clone()
            spoiled.narrow(2 + axis, place, 1).fill_(torch.nan)
            columns.append(model(spoiled).isnan())
    return torch.stack(columns, -1)


def assert_exact(model, shape, *, training=False):
    """Intervals and exact sets of every position along every axis."""
    torch.manual_seed(SEED)
    model.train(training)
    found = fields(model, shape, training=training)
    sets = found.sets()
    for axis, length in enumerate(shape[1:]):
        reached = swept(model, shape, axis)
        dims = found._places[""].dims[axis]
        others = [dim for dim in range(reached.ndim - 1) if dim not in dims]
        reached = reached.amax(others) if others else reached
        places = torch.arange(length)
        low = torch.where(reached, places, length).amin(-1)
        high = torch.where(reached, places, -1).amax(-1)
        mine = found.output.axes[axis]
        anything = low <= high
        assert torch.equal(mine.low <= mine.high, anything)
        assert torch.equal(mine.low[anything], low[anything])
        assert torch.equal(mine.high[anything], high[anything])
        assert torch.equal(sets[axis], reached)
    return found


def conv(kernel, channels=2, **options):
    return nn.Conv2d(channels, channels, kernel, **options)


def windows(x, size):
    n, c, h, w = x.shape
    x = x.view(n, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(-1, size * size, c)


def unwindows(x, size, h, w):
    x = x.view(1, h // size, w // size, size, size, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(1, -1, h, w)


def attend(x):
    return F.softmax(x @ x.transpose(1, 2), -1) @ x


def attended_windows(x):
    h, w = x.shape[2:]
    return unwindows(attend(windows(x.roll((-2, -2), (2, 3)), 4)), 4, h, w).roll((2, 2), (2, 3))


def taken(x, c):
    y = c(x).clone()
    y[:, :, 2:6] = x[:, :, :4]
    y[:, 0, :, 1::3] += 1.0
    return y.flip(3)


def shift(x):
    y = torch.zeros_like(x)
    y[:, :1, 1:] = x[:, :1, :-1]
    y[:, 1:, :, :-1] = x[:, 1:, :, 1:]
    return y


OPERATIONS = {
    "conv": conv(3),
    "even kernel": nn.Sequential(conv(4, stride=2, padding=1), conv(2, padding=1)),
    "stride beyond the kernel": nn.Sequential(conv(2, stride=3), conv(1)),
    "dilation": nn.Sequential(conv(3, dilation=4, padding=4), conv(3, dilation=2)),
    "other along each axis": nn.Conv2d(2, 3, (1, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "padding only": nn.Conv2d(2, 2, 1, padding=2),
    "grouped, shuffled": nn.Sequential(conv(3, 4, groups=4), nn.ChannelShuffle(2), conv(3, 4, groups=2)),
    "reflect": conv(5, padding=2, padding_mode="reflect"),
    "circular": nn.Sequential(conv(3, padding=1, padding_mode="circular"), conv(3, padding=1, padding_mode="circular")),
    "replicate": conv(5, padding=2, padding_mode="replicate"),
    "cropped by padding": Of(lambda x, c: c(F.pad(x, (-2, 3, 1, -1))), conv(3)),
    "max pool, ceil mode": nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), conv(3, padding=1)),
    "max pool, dilated": nn.MaxPool2d(2, 1, dilation=3, padding=1),
    "max pool, indices": Of(lambda x: F.max_pool2d(x, 3, 2, return_indices=True)[0]),
    "average pool": nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    "lp pool": nn.LPPool2d(2, 3, 2),
    "adaptive pool": nn.AdaptiveAvgPool2d((5, 3)),
    "adaptive max pool": nn.AdaptiveMaxPool2d((4, 7)),
    "global pool": nn.Sequential(conv(3), nn.AdaptiveAvgPool2d(1)),
    "transposed, kernel is stride": nn.Sequential(conv(3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 2, 2)),
    "transposed, overlapping": nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(2, 2, 4, 2, padding=1), conv(3)),
    "transposed, with holes": nn.ConvTranspose2d(2, 2, 2, stride=3, padding=1, output_padding=1),
    "transposed, dilated": nn.ConvTranspose2d(2, 2, 3, stride=2, dilation=3, padding=2),
    "nearest": nn.Sequential(conv(3, padding=1), nn.Upsample(scale_factor=2), conv(3)),
    "nearest, odd factor": nn.Upsample(size=(19, 31)),
    "nearest exact": nn.Upsample(size=(19, 7), mode="nearest-exact"),
    "bilinear": nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(3)),
    "bilinear, down": nn.Upsample(size=(5, 7), mode="bilinear"),
    "bilinear, factor given": nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=False),
    "bilinear, corners": nn.Upsample(size=(23, 20), mode="bilinear", align_corners=True),
    "bicubic": nn.Upsample(scale_factor=3, mode="bicubic"),
    "bicubic, corners": nn.Upsample(size=(23, 9), mode="bicubic", align_corners=True),
    "bilinear, antialiased": Of(lambda x: F.interpolate(x, (5, 20), mode="bilinear", antialias=True)),
    "bicubic, antialiased": Of(lambda x: F.interpolate(x, (4, 7), mode="bicubic", antialias=True)),
    "area": Of(lambda x: F.interpolate(x, (5, 9), mode="area")),
    "pixel shuffle": nn.Sequential(conv(3, 4, stride=2), nn.PixelShuffle(2)),
    "pixel unshuffle": nn.Sequential(conv(3), nn.PixelUnshuffle(2)),
    "space to depth by slices": Of(lambda x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)),
    "roll": nn.Sequential(Of(lambda x: x.roll((3, -2), (2, 3))), conv(3)),
    "roll beside itself": Of(lambda x, c: c(x + x.roll((4, 4), (2, 3))), conv(3)),
    "flip": Of(lambda x, c: c(torch.cat([x[:, :1], x[:, 1:].flip(3)], 1)), conv(3)),
    "slices": Of(lambda x, c: c(x)[:, :, 1:-1:2, 3:], conv(3)),
    "branches": Of(lambda x, a, b: torch.cat([a(x), b(x)], 1), conv(3, padding=1), conv(5, padding=2)),
    "residual": Of(lambda x, a: x + a(x), conv(3, padding=1)),
    "written slices": Of(taken, conv(3, padding=1)),
    "shift of channels": nn.Sequential(Of(shift), conv(3)),
    "stack": Of(lambda x, a: torch.stack([x, a(x)], 1).amax(1), conv(3, padding=1)),
    "stack, as the last dim": Of(lambda x, a: torch.stack([x, a(x)], -1).amax(-1), conv(3, padding=1)),
    "unbind": Of(lambda x: x.unbind(2)[3] * 2),
    "split": Of(lambda x: torch.cat(x.split(3, 3)[::-1], 3)),
    "squeeze and excite": Of(lambda x, c: c(x) * x.mean((2, 3), keepdim=True), conv(3, padding=1)),
    "strip pool": Of(lambda x, c: c(x) + x.mean(3, keepdim=True), conv(3, padding=1)),
    "batch norm": nn.Sequential(conv(3), nn.BatchNorm2d(2)),
    "group norm": nn.Sequential(conv(3), nn.GroupNorm(2, 2)),
    "instance norm": nn.Sequential(conv(3), nn.InstanceNorm2d(2)),
    "layer norm of channels": Of(
        lambda x, c, n: n(c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), conv(3), nn.LayerNorm(2)
    ),
    "local response norm": nn.Sequential(conv(3), nn.LocalResponseNorm(2)),
    "softmax of a row": Of(lambda x: x.softmax(3)),
    "cumulative sum": Of(lambda x, c: c(x).cumsum(2), conv(3)),
    "linear of an image": Of(lambda x, f: f(x.flatten(1)), nn.Linear(2 * 16 * 12, 3)),
    "linear along an axis": Of(lambda x, f: f(x), nn.Linear(12, 5)),
    "einsum": Of(lambda x: torch.einsum("bchw,bcvw->bhv", x, x)),
    "fourier": Of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x))),
    "fourier along an axis": Of(lambda x, c: torch.fft.fft(c(x), dim=3).abs(), conv(3)),
    "rotary": Of(lambda x: torch.view_as_real(torch.view_as_complex(x.view(1, 2, 16, 6, 2)) * (1 + 1j)).flatten(3)),
    "unfold": nn.Sequential(nn.Unfold(3, padding=1, stride=2), nn.Conv1d(18, 4, 1)),
    "fold": Of(
        lambda x, c: F.fold(F.unfold(c(x), (3, 2), padding=1, stride=2), (16, 12), (3, 2), padding=1, stride=2),
        conv(3, padding=1),
    ),
    "tensor unfold": Of(lambda x: x.unfold(2, 3, 2).amax(-1)),
    "patches as tokens": Of(lambda x, c: c(x).flatten(2).transpose(1, 2), conv(4, stride=4)),
    "attention": Of(lambda x, c: attend(c(x).flatten(2).transpose(1, 2)), conv(4, stride=4)),
    "windows": Of(lambda x: unwindows(attend(windows(x, 4)), 4, 16, 12)),
    "shifted windows": Of(attended_windows),
    "fused attention": Of(lambda x: F.scaled_dot_product_attention(x, x, x)),
    "index": Of(lambda x: x[:, :, torch.tensor([5, 0, 3]), 1:]),
    "gather": Of(lambda x: x.gather(2, torch.arange(16).flip(0).view(1, 1, 16, 1).expand(1, 2, 16, 12)) + x),
    "max of an axis": Of(lambda x: x.amax(2)),
    "repeat": Of(lambda x, c: c(x.repeat(1, 1, 2, 1)), conv(3)),
    "glu": Of(lambda x, c: F.glu(c(x), 1), conv(3)),
    "pad with a constant": Of(lambda x, c: c(F.pad(x, (1, 2, 3, 4), value=1.0)), conv(3)),
    "as a rotation": Of(lambda x, c: c(x.transpose(2, 3).flip(2)), conv((3, 1))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(name):
    found = assert_exact(
        OPERATIONS[name], (4 if "4" in name or "shuffled" in name or name == "pixel shuffle" else 2, 16, 12)
    )
    assert not found.notes


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda n: nn.InstanceNorm2d(n, track_running_stats=True)])
@pytest.mark.parametrize("training", [True, False])
def test_norms_in_both_modes(norm, training):
    found = assert_exact(nn.Sequential(conv(3), norm(2)), (2, 8, 9), training=training)
    assert (found.output.axes[0].size is None) == training


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv1d(2, 2, 3, stride=2), nn.Upsample(scale_factor=2, mode="linear"), nn.MaxPool1d(3)),
        nn.Sequential(nn.Conv1d(2, 2, 5, padding=4, dilation=2), nn.AvgPool1d(2), nn.ConvTranspose1d(2, 1, 3, 2)),
        nn.Sequential(nn.AdaptiveAvgPool1d(7), nn.ReflectionPad1d(2)),
    ],
)
def test_one_axis(model):
    assert_exact(model, (2, 33))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv3d(2, 2, 3, stride=(1, 2, 1)), nn.Upsample(scale_factor=2, mode="trilinear")),
        nn.Sequential(nn.MaxPool3d(2), nn.ConvTranspose3d(2, 1, 3, stride=2)),
    ],
)
def test_three_axes(model):
    assert_exact(model, (2, 7, 8, 9))


def test_causal_attention():
    """Its kernel multiplies what is masked by 0, so NaNs tell nothing; a change that is finite does."""
    model = Of(lambda x, c: F.scaled_dot_product_attention(c(x), c(x), c(x), is_causal=True), conv(3))
    image = torch.randn(1, 2, 16, 12, generator=torch.Generator().manual_seed(SEED))
    axis = fields(model, (2, 16, 12)).output.axes[0]
    with torch.no_grad():
        for place in range(16):
            changed = image.clone()
            changed[:, :, place] += 1.0
            differs = (model(changed) != model(image)).amax((0, 1, 3))
            assert torch.equal(differs, (axis.low <= place) & (place <= axis.high))


def test_fractional_pooling_holds_every_draw():
    model = nn.Sequential(conv(3), nn.FractionalMaxPool2d(2, output_ratio=0.6))
    found = fields(model, (2, 20, 20))
    assert "draws its windows anew" in found.notes[0]
    union = torch.zeros_like(found.sets()[0])
    for seed in range(40):
        torch.manual_seed(seed)
        samples = torch.rand(1, 2, 2)
        pool = nn.FractionalMaxPool2d(2, output_ratio=0.6, _random_samples=samples)
        union |= swept(nn.Sequential(model[0], pool), (2, 20, 20), 0).amax((0, 1, 3))
    assert torch.equal(union, found.sets()[0])


def test_every_rule_is_for_an_operation_that_is_recorded():
    """What torch takes apart before it is recorded needs no rule."""
    names = torch._C._dispatch_get_all_op_names()
    kept = {n for n in names if not torch._C._dispatch_has_kernel_for_dispatch_key(n, "CompositeImplicitAutograd")}
    assert {f"aten::{name}" for name in RULES if name != "overlay"} <= {name.split(".")[0].rstrip("_") for name in kept}


def test_an_unknown_operation_is_named():
    model = nn.Sequential(conv(3), Of(lambda x: torch.special.bessel_j0(x)), Of(lambda x: torch.linalg.matrix_exp(x)))
    found = fields(model, (2, 8, 8))
    assert found.output.axes[0].size is None
    assert len(found.notes) == 1
    assert "matrix_exp" in found.notes[0]
    assert "no rule; taken to read the whole" in found.notes[0]
    assert found["1"].axes[0].size == 3


def test_places_decided_by_the_input():
    def pooled(x):
        y, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, places, 2)

    found = fields(Of(pooled), (1, 8, 8))
    assert "places depend on the input's numbers" in found.notes[0]
    warped = fields(
        Of(lambda x, c: F.grid_sample(x, c(x).permute(0, 2, 3, 1), align_corners=False), conv(3)), (2, 8, 8)
    )
    assert warped.output.axes[0].size is None
    assert warped.notes


def test_what_does_not_depend_on_the_input_adds_nothing():
    found = fields(Of(lambda x, c: c(x) + torch.zeros_like(x).mean(), conv(3, padding=1)), (2, 8, 8))
    assert found.output.axes[0].size == 3
    assert receptive.measure(Of(lambda x: x * 0 + 1), (1, 4, 4)) == [range(2, 3), range(2, 3)]
