"""Biases that do nothing, named and proved; norms folded away. On a small network with a bit of everything.

python examples/bias.py
"""

import torch
from torch import Tensor, nn

from visavis.blocks import bias


class Network(nn.Module):
    """Convolutions with norms on either side, then attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 1))
        self.late = nn.Sequential(nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 1))
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 10), nn.Softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to shares [N, 10]."""
        x = self.middle(self.stem(x))
        tokens = (x + self.late(x)).flatten(2).transpose(1, 2)
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        shares: Tensor = self.head(mixed.mean(1))
        return shares


torch.manual_seed(0)
model = Network()
model(torch.randn(16, 3, 32, 32))  # in training mode, so that the norms have statistics
example = torch.randn(2, 3, 32, 32)

print(bias.redundant(model, example))
folded, report = bias.fold(model.eval(), example)
print(report)
for each in report.folded:
    print(f"  {each.name}: {each.how}, into {', '.join(each.into)}")
