"""Checkerboards measured and avoided, a transposed convolution as one product, and where each convention puts a pixel.

python examples/upsampling.py
"""

import torch
from torch import nn

from visavis.blocks import upsampling

torch.manual_seed(0)
layers = {
    "nn.ConvTranspose2d, kernel 3, stride 2": nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
    "nn.ConvTranspose2d, kernel 4, stride 2": nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
    "nn.Conv2d, nn.PixelShuffle": nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2)),
    "SubPixel2d (ICNR)": upsampling.SubPixel2d(8, 8),
    "PatchTranspose2d": upsampling.PatchTranspose2d(8, 8),
    "Resize, nn.Conv2d": nn.Sequential(upsampling.Resize(2), nn.Conv2d(8, 8, 3, padding=1)),
    "Carafe": upsampling.Carafe(8),
    "DySample": upsampling.DySample(8),
}
for name, layer in layers.items():
    print(f"{name:40}{upsampling.checkerboard(layer, 8)}")

print("\ntransposed convolutions that double the size:")
for one in upsampling.suggest(2):
    begins = ", ".join(one.even_with) or "nothing"
    print(f"kernel {one.kernel}, padding {one.padding}, taps per phase {one.taps}: begins free with {begins}")

theirs = nn.ConvTranspose2d(8, 3, 2, stride=2)
ours = upsampling.PatchTranspose2d(8, 3, 2)
ours.load_state_dict(theirs.state_dict())
images = torch.randn(2, 8, 33, 20)
print(f"\ntorch's weights in ours: largest difference {(ours(images) - theirs(images)).abs().max():.1e}")

for align_corners in (False, True):
    places = upsampling.to_input(torch.arange(8.0), 4, 8, align_corners=align_corners)
    print(f"4 pixels become 8, align_corners={align_corners!s:5}: {[round(at, 2) for at in places.tolist()]}")
