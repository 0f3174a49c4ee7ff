"""The exact receptive field of a small segmentation network: per layer, per phase, checked against the network itself.

python examples/receptive.py
"""

import torch
from torch import nn

from visavis.blocks import receptive

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=2, dilation=2),
    nn.ReLU(),
    nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.Conv2d(16, 2, 3, padding=1),
)
found = receptive.fields(model, (3, 96, 128))
print(found)

for number, phase in enumerate(found.output.axes[0].phases):
    print(f"output rows {number}, {number + 2}, ...: {phase.size} rows of the input, the first from row {phase.offset}")

verified = found.verify()
print(f"{verified.checks} checks in {verified.forwards} forward passes on NaNs: equal is {verified.equal}")
print(f"by bisection, rows and columns that reach the middle: {receptive.measure(model, (3, 96, 128))}")

effective = receptive.effective(model, torch.randn(4, 3, 96, 128))
print(f"95 % of the gradient comes from {effective.size(0)} of {found.output.axes[0].size} rows")
print(f"3 x 3 layers that it takes to see 96 rows: {receptive.required_depth(96)}, with stride 2: ", end="")
print(receptive.required_depth(96, stride=2))
