"""Upsampling x2 of 1 x 64 x 128 x 128: ours beside torch's layers, NCHW and channels-last, forward and with backward.

    python benchmarks/bench_upsampling.py

One thread, float32, CPU time; contestants take turns within each round, and a ratio is one of the same round. The peak
of memory is that of one forward pass, on top of its input and output, in a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import peak_mb, quartiles, rss_mb, write_result
from torch import Tensor, nn

from visavis.blocks import upsampling

ROUNDS = 21
SHAPE = (1, 64, 128, 128)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}


class Product(nn.Module):
    """What a transposed convolution with kernel = stride cannot do without, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(256, 64) / 8)

    def forward(self, images: Tensor) -> Tensor:
        if images.is_contiguous():
            return self.weight @ images.view(64, -1)
        return images.permute(0, 2, 3, 1).view(-1, 64) @ self.weight.T


class Copy(nn.Module):
    """The output written once."""

    def forward(self, images: Tensor) -> Tensor:
        out = images.new_empty(1, 256, 128, 128)
        return out.view(1, 4, 64, 128, 128).copy_(images[:, None])


class Shuffle(nn.Module):
    """`pixel_shuffle` as a layer."""

    def forward(self, images: Tensor) -> Tensor:
        return upsampling.pixel_shuffle(images, 2)


def contestants() -> dict[str, tuple[nn.Module, int]]:
    """By name, a layer and the channels that it takes."""
    torch.manual_seed(0)
    ours, theirs = upsampling.PatchTranspose2d(64, 64, 2), nn.ConvTranspose2d(64, 64, 2, stride=2)
    theirs.load_state_dict(ours.state_dict())
    return {
        "the product alone": (Product(), 64),
        "transposed convolution k2 s2": (ours, 64),
        "transposed convolution k2 s2, torch": (theirs, 64),
        "transposed convolution k4 s2, torch": (nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1), 64),
        "pixel shuffle": (Shuffle(), 256),
        "pixel shuffle, torch": (nn.PixelShuffle(2), 256),
        "convolution 1 x 1, pixel shuffle": (upsampling.SubPixel2d(64, 64, 2, kernel=1), 64),
        "convolution 1 x 1, pixel shuffle, torch": (nn.Sequential(nn.Conv2d(64, 256, 1), nn.PixelShuffle(2)), 64),
        "nearest": (upsampling.Resize(2, mode="nearest"), 64),
        "bilinear": (upsampling.Resize(2), 64),
        "bicubic": (upsampling.Resize(2, mode="bicubic"), 64),
        "nearest, convolution 3 x 3": (
            nn.Sequential(upsampling.Resize(2, mode="nearest"), nn.Conv2d(64, 64, 3, padding=1)),
            64,
        ),
        "CARAFE": (upsampling.Carafe(64), 64),
        "DySample": (upsampling.DySample(64), 64),
        "copy": (Copy(), 64),
    }


def times() -> dict[str, dict[str, object]]:
    """CPU milliseconds and ratios to the product of the same layout, direction and round."""
    runs: dict[tuple[str, str, str], Callable[[], object]] = {}
    for name, (layer, channels) in contestants().items():
        for layout, memory_format in LAYOUTS.items():
            images = torch.randn(1, channels, *SHAPE[2:]).to(memory_format=memory_format).requires_grad_()

            def forward(layer: nn.Module = layer, images: Tensor = images) -> None:
                with torch.no_grad():
                    layer(images)

            runs[name, layout, "forward"] = forward
            if name == "copy":
                continue
            grad = torch.randn_like(layer(images))

            def both(layer: nn.Module = layer, images: Tensor = images, grad: Tensor = grad) -> None:
                torch.autograd.grad(layer(images), [images, *layer.parameters()], grad)

            runs[name, layout, "forward and backward"] = both
    seconds: dict[tuple[str, str, str], list[float]] = {key: [] for key in runs}
    for number in range(ROUNDS + 1):
        for key, run in runs.items():
            start = time.process_time()
            run()
            if number:  # the first round warms up
                seconds[key].append(time.process_time() - start)
    report: dict[str, dict[str, object]] = {}
    for (name, layout, direction), mine in seconds.items():
        product = np.array(seconds["the product alone", layout, direction])
        report.setdefault(name, {})[f"{layout}, {direction}"] = {
            "cpu_ms": quartiles(np.array(mine) * 1e3, 3),
            "x product": quartiles(np.array(mine) / product, 3),
        }
    for layout in LAYOUTS:
        for direction in ("forward", "forward and backward"):
            for name in ("transposed convolution k2 s2", "pixel shuffle"):
                ours = np.array(seconds[name, layout, direction])
                torchs = np.array(seconds[f"{name}, torch", layout, direction])
                row = report[name][f"{layout}, {direction}"]
                assert isinstance(row, dict)
                row["x torch"] = quartiles(ours / torchs, 3)
    return report


def extra_mb(name: str) -> float:
    """Peak of one forward pass in NCHW on eight images, without their output."""
    layer, channels = contestants()[name]
    images = torch.randn(8, channels, *SHAPE[2:])
    with torch.no_grad():
        layer(images[:, :, :8, :8].contiguous())  # what libraries set up on first use
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = rss_mb()
        out = layer(images)
    return peak_mb() - before - out.nbytes / 2**20


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--memory"]:
        print(extra_mb(sys.argv[2]))
        return
    report = times()
    for name, row in report.items():
        if name in ("copy", "the product alone"):
            continue
        command = [sys.executable, __file__, "--memory", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row["extra_mb"] = round(float(done.stdout), 1)
    write_result("upsampling", {"shape": SHAPE, "rounds": ROUNDS, "layers": report}, packages=("numpy", "torch"))


if __name__ == "__main__":
    main()
