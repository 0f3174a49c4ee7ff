"""Activations beside torch's own and beside plain compositions: time, memory kept, tails; the fact sheet of them all.

    python benchmarks/bench_activations.py

One thread, float32 [4096, 2816], forward and backward, CPU time; contestants take turns within each round and a ratio
is to ReLU of the same round. The memory of a gated stack is the peak of resident memory in a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import mpmath
import numpy as np
import torch
from harness import peak_mb, quartiles, rss_mb, write_result
from torch import Tensor, nn
from torch.nn import functional

from visavis.blocks import activations

ROUNDS = 15
SHAPE = (4096, 2816)
STACK = {"features": 512, "hidden": 1365, "layers": 8, "tokens": 16384}


def composed_xielu(x: Tensor) -> Tensor:
    """As it is written in the paper."""
    left = x.clamp_max(0)
    return torch.where(x > 0, 0.8 * x * x + 0.5 * x, (torch.expm1(left) - x) * 1.3 + 0.5 * x)


def one(value: float) -> Tensor:
    """A parameter."""
    return torch.tensor([value])


OURS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: getattr(activations, name)
        for name in (
            "threshold", "sign", "sigmoid", "hard_sigmoid", "tanh", "softsign", "leaky_relu", "rrelu", "elu",
            "softplus", "gelu", "tanh_gelu", "quick_gelu", "silu", "hard_swish", "mish", "squared_relu",
        )
    },
    "prelu": lambda x: activations.prelu(x, one(0.25)),
    "swish": lambda x: activations.swish(x, one(1.5)),
    "snake": lambda x: activations.snake(x, one(1.0)),
    "xielu": lambda x: activations.xielu(x, one(0.8), one(1.3)),
}  # fmt: skip
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "tanh": torch.tanh,
    "softsign": functional.softsign,
    "rrelu": lambda x: functional.rrelu(x, training=True),
    "softplus": functional.softplus,
    "gelu": functional.gelu,
    "tanh_gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "hard_swish": functional.hardswish,
    "squared_relu": lambda x: functional.relu(x).square(),
    "prelu": lambda x: functional.prelu(x, one(0.25)),
    "swish": lambda x: x * torch.sigmoid(1.5 * x),
    "snake": lambda x: x + torch.sin(x).square(),
    "xielu": composed_xielu,
}
GATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: getattr(activations, name) for name in ("glu", "bilinear", "reglu", "geglu", "swiglu")
}
PLAIN_GATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "glu": lambda gate, value: torch.sigmoid(gate) * value,
    "bilinear": lambda gate, value: gate * value,
    "reglu": lambda gate, value: functional.relu(gate) * value,
    "geglu": lambda gate, value: functional.gelu(gate) * value,
    "swiglu": lambda gate, value: functional.silu(gate) * value,
}


def kept_mb(function: Callable[..., Tensor], *leaves: Tensor) -> float:
    """What autograd keeps for the backward pass."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(*leaves)
    return round(sum(found.values()) / 2**20, 1)


def times() -> dict[str, dict[str, object]]:
    """Forward and backward as a multiple of ReLU's of the same round: quartiles."""
    generator = torch.Generator().manual_seed(0)
    x, value, grad = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    leaves = x.requires_grad_(), value.requires_grad_()
    contestants: dict[str, tuple[Callable[..., Tensor], int]] = {"relu": (functional.relu, 1)}
    contestants |= {name: (function, 1) for name, function in OURS.items()}
    contestants |= {f"{name}, plain": (function, 1) for name, function in PLAIN.items()}
    contestants |= {name: (function, 2) for name, function in GATED.items()}
    contestants |= {f"{name}, plain": (function, 2) for name, function in PLAIN_GATED.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, (function, count) in contestants.items():
            start = time.process_time()
            function(*leaves[:count]).backward(grad)
            seconds[name].append(time.process_time() - start)
            for leaf in leaves:
                leaf.grad = None
    base = np.array(seconds["relu"])
    return {
        name: {
            "times_relu": quartiles(np.array(spent) / base, 3),
            "kept_mb": kept_mb(contestants[name][0], *leaves[: contestants[name][1]]),
        }
        for name, spent in seconds.items()
    }


def tails() -> dict[str, dict[str, float]]:
    """The largest relative error of value and slope in float32 at points from -9 to 20, GELU's and sigmoid's kin."""
    mp = mpmath.mp.clone()
    mp.dps = 40
    formulas = {
        "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "tanh_gelu": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "tanh": mp.tanh,
        "softsign": lambda x: x / (1 + abs(x)),
    }
    points = [-9.0, -8.0, -5.6, -4.0, -2.0, -0.5, 0.5, 2.0, 4.0, 8.0, 12.0, 20.0]
    found = {}
    for name, formula in formulas.items():
        for label, function in ((name, OURS[name]), (f"{name}, plain", PLAIN[name])):
            x = torch.tensor(points, requires_grad=True)
            y = function(x)
            [slope] = torch.autograd.grad(y.sum(), x)
            rows = list(zip(points, y.tolist(), slope.tolist(), strict=True))
            found[label] = {
                "value": max(float(abs(v / formula(mp.mpf(p)) - 1)) for p, v, _ in rows),
                "slope": max(float(abs(s / mp.diff(formula, mp.mpf(p)) - 1)) for p, _, s in rows),
            }
    return found


class PlainGated(nn.Module):
    """A gated layer as it is usually written."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(features, hidden, bias=False), nn.Linear(features, hidden, bias=False)
        self.down = nn.Linear(hidden, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.value(x))


def stack_peak(kind: str) -> None:
    """Prints the peak of resident memory over what weights and input take: residual layers, forward and backward."""
    features, hidden = STACK["features"], STACK["hidden"]
    make = {
        "ours": lambda: activations.SwiGLU(features, hidden=hidden),
        "plain": lambda: PlainGated(features, hidden),
    }[kind]
    layers = nn.ModuleList(make() for _ in range(STACK["layers"]))
    x = torch.randn(STACK["tokens"], features, requires_grad=True)
    for parameter in [*layers.parameters(), x]:
        parameter.grad = torch.zeros_like(parameter)
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts (Linux)
    before = rss_mb()
    y = x
    for layer in layers:
        y = y + layer(y)
    y.sum().backward()
    print(peak_mb() - before)


def stack() -> dict[str, float]:
    """The median of three processes each."""

    def peak(kind: str) -> float:
        runs = [
            float(subprocess.run([sys.executable, __file__, kind], capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
        return round(sorted(runs)[1], 1)

    return {kind: peak(kind) for kind in ("ours", "plain")}


def facts() -> dict[str, dict[str, object]]:
    """The fact sheet as `properties` finds it; infinities as text, which JSON has no number for."""

    def number(value: float) -> float | str:
        return round(value, 5) if isfinite(value) else str(value)

    found = {}
    for activation in activations.ACTIVATIONS:
        p = activations.properties(activation.function)
        found[activation.name] = {
            "formula": activation.formula,
            "year": activation.year,
            "introduced_by": activation.introduced_by,
            "used_by": activation.used_by,
            "range": [number(p.low), number(p.high)],
            "zeros": [[number(end) for end in zero] for zero in p.zeros],
            "slopes_at_zero": [number(slope) for slope in p.slopes_at_zero],
            "lipschitz": number(p.lipschitz),
            "saturates": p.saturates,
            "monotone": p.monotone,
        }
    return found


def main() -> None:
    """Write results/activations--<machine>.json."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        stack_peak(sys.argv[1])
        return
    write_result(
        "activations",
        {
            "shape": SHAPE,
            "rounds": ROUNDS,
            "times": times(),
            "tails": tails(),
            "stack": {**STACK, "peak_mb": stack()},
            "facts": facts(),
        },
    )


if __name__ == "__main__":
    main()
