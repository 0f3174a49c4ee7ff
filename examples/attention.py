"""Linear attention: the time of a step against softmax attention, decoding from a state, and a softmax distilled."""

import time
from functools import partial

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from visavis.blocks.attention import convert, distill, linear

torch.manual_seed(0)
torch.set_num_threads(1)


def milliseconds(step):
    """Of CPU time."""
    step()  # warms up
    start = time.process_time()
    step()
    return 1e3 * (time.process_time() - start)


def softmax_step(causal):
    """Forward and backward."""
    scaled_dot_product_attention(q, k, v, is_causal=causal).sum().backward()


def linear_step(causal):
    """The same without a softmax."""
    linear(q, k, v, causal=causal).sum().backward()


for length in (256, 1024, 2048):
    q, k, v = (torch.randn(1, 8, length, 64, requires_grad=True) for _ in range(3))
    for name, step in (("softmax", softmax_step), ("linear", linear_step)):
        whole, causal = milliseconds(partial(step, False)), milliseconds(partial(step, True))
        print(f"{length:5} places, {name:7}: {whole:6.1f} ms, causal {causal:6.1f} ms")

with torch.no_grad():
    whole = linear(q, k, v, causal=True)
    _, state = linear(q[..., :-1, :], k[..., :-1, :], v[..., :-1, :], causal=True, return_state=True)
    last = linear(q[..., -1:, :], k[..., -1:, :], v[..., -1:, :], causal=True, state=state)
size = sum(tensor.numel() for tensor in state)
print(f"decoding from {size:,} numbers, where a softmax keeps {2 * k.numel():,}: ", end="")
print(f"difference {(last - whole[..., -1:, :]).abs().max():.1e}")

softmax = nn.MultiheadAttention(32, 4, batch_first=True)
x = torch.randn(16, 64, 32)
with torch.no_grad():
    softmax.in_proj_weight.mul_(2)  # sharper than fresh ones
layer = convert(softmax)
print("divergence of the linear weights from the softmax's, nats: ", end="")
print("{:.3f} as converted, {:.3f} distilled".format(*distill(layer, x.split(8), steps=150, learning_rate=0.02)))
