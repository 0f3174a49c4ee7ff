"""What a small U-Net costs and sees, and the same after mending what is found.

python examples/network.py
visavis inspect examples/network.py:UNet --input 3x128x128 --html page.html
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visavis.app.inspecting import amount, examine, field_text, memory


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each with its norm."""
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Halves the image `levels` times and brings it back; `kernel` is of the transposed convolutions."""

    def __init__(self, width: int = 16, levels: int = 2, kernel: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(map(block, [3, *widths], widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * wide, wide, kernel, 2, padding=(kernel - 1) // 2, output_padding=kernel % 2)
            for wide in reversed(widths[:-1])
        )
        self.after = nn.ModuleList(block(2 * wide, wide) for wide in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, 1, H, W]; H and W are multiples of 2 ** levels."""
        kept = [self.down[0](images)]
        for down in self.down[1:]:
            kept.append(down(F.max_pool2d(kept[-1], 2)))
        x = kept.pop()
        for up, after in zip(self.up, self.after, strict=True):
            x = after(torch.cat([up(x), kept.pop()], 1))
        return self.head(x)


if __name__ == "__main__":
    for title, network in (("as first written", UNet()), ("deeper, with kernel 4", UNet(levels=4, kernel=4))):
        found = examine(network, (3, 128, 128))
        total = found.total
        print(f"{title}: {amount(total.parameters)} parameters, {amount(total.flops)}FLOPs, ", end="")
        print(f"{memory(total.saved_bytes)} for backward, sees {field_text(total.field)} px")
        for finding in found.findings:
            print(f"  {finding.level}: {finding.text}")
