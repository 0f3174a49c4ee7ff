"""Any function of one number gets a fact sheet; here the activations of today, and one nobody has named."""

import torch

from visavis.blocks.activations import ACTIVATIONS, properties


def mine(x: torch.Tensor) -> torch.Tensor:
    """Straight above zero, softsign below."""
    return torch.where(x > 0, x, x / (1 + x.abs()))


chosen = {a.name: a.function for a in ACTIVATIONS if a.name in ("threshold", "tanh", "relu", "gelu", "silu", "xielu")}
print(f"{'':10} {'range':>20} {'zeros':>18} {'slope at 0':>12} {'Lipschitz':>10}  saturates  monotone")
for name, function in {**chosen, "mine": mine}.items():
    p = properties(function)
    span = f"[{p.low:.4g}, {p.high:.4g}]"
    zeros = " ".join(f"{low:.3g}" if low == high else f"[{low:.3g}, {high:.3g}]" for low, high in p.zeros)
    slopes = " ".join(dict.fromkeys(f"{slope:.3g}" for slope in p.slopes_at_zero))
    print(f"{name:10} {span:>20} {zeros:>18} {slopes:>12} {p.lipschitz:>10.4g}  {p.saturates:9}  {p.monotone}")
