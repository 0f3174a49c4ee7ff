"""Train on a smooth F1 and watch the exact one beside it, on a problem where one answer in twenty is yes."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from visavis.blocks import surrogates

generator = torch.Generator().manual_seed(0)
labels = torch.rand(2000, generator=generator) < 0.05
points = torch.randn(2000, 8, generator=generator) + 0.8 * labels[:, None]
losses = {
    "cross-entropy": lambda logits: binary_cross_entropy_with_logits(logits, labels.float()),
    "smooth F1": lambda logits: 1 - surrogates.f1(logits, labels, temperature=1.0),
}
for name, loss in losses.items():
    weight, bias = torch.zeros(8, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss(points @ weight + bias).backward()
        optimizer.step()
    with torch.no_grad():
        logits = points @ weight + bias
        smooth, exact = surrogates.f1(logits, labels, temperature=1.0), surrogates.exact_f1(logits, labels)
        tuned = max(
            surrogates.exact_f1(logits - t, labels).item() for t in logits.quantile(torch.linspace(0.8, 1, 200))
        )
    print(f"{name:>13}: smooth F1 {smooth:.3f}, exact F1 {exact:.3f}, with the best threshold {tuned:.3f}")
