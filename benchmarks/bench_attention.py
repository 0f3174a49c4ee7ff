"""Linear attention against softmax attention: time, memory, where the time goes, and what it costs in accuracy.

    python benchmarks/bench_attention.py

One thread, float32, a batch of 1, 8 heads of 64 features, forward and backward. Contestants take turns within each
round, and a ratio is one of the same round. What a contestant needs in memory on top of its inputs is measured in a
process of its own. The accuracy is that of a small vision transformer on scikit-learn's digits, a token a pixel.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import peak_mb, quartiles, rss_mb, write_result
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, scaled_dot_product_attention

from visavis.blocks.attention import LinearAttention, RandomFeatures, convert, delta, distill, elu_features, linear

HEADS, DIM = 8, 64
ROUNDS = {64: 40, 128: 40, 256: 30, 2048: 8, 8192: 3, 32768: 5}
QUADRATIC = ("SDPA", "SDPA causal")
SEEDS, WIDTH, DEPTH, EPOCHS = 3, 32, 2, 30

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def written_down(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention in four lines, by autograd."""
    q, k = elu_features(q), elu_features(k)
    return q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])


def written_down_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in pieces of 64, by autograd."""
    q, k, v = (x.unflatten(-2, (-1, 64)) for x in (elu_features(q), elu_features(k), pad(v, (0, 1), value=1.0)))
    sums = (k.mT @ v).cumsum(-3)
    before = torch.cat([torch.zeros_like(sums[..., :1, :, :]), sums[..., :-1, :, :]], -3)
    y = (q @ before + (q @ k.mT).tril() @ v).flatten(-3, -2)
    return y[..., :-1] / y[..., -1:]


def by_delta(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The delta rule at a rate of 1/2."""
    return delta(q, nn.functional.normalize(k, dim=-1), v, torch.full(q.shape[:-1], 0.5))


ATTENTIONS: dict[str, Attention] = {
    "SDPA": scaled_dot_product_attention,
    "SDPA causal": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
    "linear, ours": linear,
    "linear causal, ours": lambda q, k, v: linear(q, k, v, causal=True),
    "with decay, ours": lambda q, k, v: linear(q, k, v, causal=True, decay=0.99),
    "delta rule, ours": by_delta,
    "linear by autograd": written_down,
    "linear causal by autograd": written_down_causal,
}


def contestant(name: str, length: int) -> Callable[[], None]:
    """One forward and backward."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, length, DIM, generator=generator).requires_grad_() for _ in range(3))
    upstream = torch.randn(1, HEADS, length, DIM, generator=generator)

    def run() -> None:
        ATTENTIONS[name](q, k, v).backward(upstream)
        q.grad = k.grad = v.grad = None

    return run


def products(length: int, *, causal: bool) -> Callable[[], None]:
    """The matrix products of a forward and backward pass that nothing in pieces of 64 can do without, in the cache."""
    pieces = -(-length // 64)
    q, k, v, s = (torch.randn(HEADS, 64, 64) for _ in range(4))
    rows, square = torch.empty(HEADS, 64, DIM), torch.empty(HEADS, 64, 64)

    def run() -> None:
        for _ in range(pieces):
            for _ in range(6 if not causal else 7):  # S, q S, and the gradients of q, S, k, v; q S twice with A V
                torch.bmm(q, s, out=rows)
            for _ in range(6 if causal else 0):  # A twice, its gradient, and from it those of q, k, v
                torch.bmm(k, v.mT, out=square)

    return run


def fresh(length: int) -> Callable[[], None]:
    """Writing the output and three gradients into memory that the system has to clear first."""
    size = HEADS * length * DIM

    def run() -> None:
        kept = [torch.empty(size).fill_(1.0) for _ in range(4)]
        del kept

    return run


def timings(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round but the first, which warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def speed(length: int, rounds: int) -> dict[str, Any]:
    """Milliseconds, and ratios to SDPA of the same round; SDPA on 32768 in a single round, of minutes."""
    names = [name for name in ATTENTIONS if length <= 8192 or name not in QUADRATIC]
    seconds = timings({name: contestant(name, length) for name in names}, rounds)
    report: dict[str, Any] = {name: {"cpu_ms": quartiles([1e3 * t for t in mine], 3)} for name, mine in seconds.items()}
    for name, mine in seconds.items():
        causal = "causal" in name or name.startswith(("with decay", "delta"))
        peer = seconds.get("SDPA causal" if causal else "SDPA")
        if peer is not None:
            report[name]["x SDPA"] = quartiles([a / b for a, b in zip(mine, peer, strict=True)], 4)
    if length > 8192:
        for name in QUADRATIC:
            start = time.process_time()
            contestant(name, length)()
            report[name] = {"cpu_ms": [round(1e3 * (time.process_time() - start), 1)] * 3, "rounds": 1}
    return report


def extra_mib(name: str, length: int) -> float:
    """What one step adds to the memory of a process that holds its inputs."""
    command = [sys.executable, __file__, "--memory", name, str(length)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def where_it_goes(length: int) -> dict[str, Any]:
    """Parts of a step that cannot be avoided, beside the step."""
    steps = {
        "linear, ours": contestant("linear, ours", length),
        "linear causal, ours": contestant("linear causal, ours", length),
        "products": products(length, causal=False),
        "products causal": products(length, causal=True),
        "fresh memory for y, dq, dk, dv": fresh(length),
    }
    return {name: quartiles([1e3 * t for t in mine], 1) for name, mine in timings(steps, 5).items()}


class Block(nn.Module):
    """Attention and a small network, both added to their input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention: nn.Module = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.network = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def attend(self, x: Tensor) -> Tensor:
        if isinstance(self.attention, nn.MultiheadAttention):
            y: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return y
        z: Tensor = self.attention(x)
        return z

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.first(x))
        y: Tensor = x + self.network(self.second(x))
        return y


class Digits(nn.Module):
    """A vision transformer for 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel, self.place = nn.Linear(1, WIDTH), nn.Parameter(0.5 * torch.randn(64, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.blocks(self.pixel(images[..., None]) + self.place)).mean(1))
        return y


def train(model: Digits, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    """Adam, the rate falling along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            loss = cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def replaced(model: Digits, images: Tensor, *, kind: str) -> tuple[Digits, list[tuple[float, float]]]:
    """A copy with linear attention, block by block, and the divergences of its weights from the softmax's."""
    made = Digits()
    made.load_state_dict(model.state_dict())
    found = []
    x = made.pixel(images[..., None]) + made.place
    for block in made.blocks:
        assert isinstance(block, Block)
        assert isinstance(block.attention, nn.MultiheadAttention)
        with torch.no_grad():
            inside, after = block.first(x), block(x)  # as the softmax network has them
        attention = convert(block.attention)
        if kind == "distilled":
            found.append(tuple(distill(attention, inside.split(64), steps=250, learning_rate=0.02)))
        elif kind == "random features":
            maps = RandomFeatures(WIDTH // 4, 64, generator=torch.Generator().manual_seed(0))
            attention.maps = nn.ModuleList([maps, maps])
        elif kind == "elu":
            biased = LinearAttention(WIDTH, 4, feature_map="elu", bias=True)
            biased.load_state_dict({n: t for n, t in attention.state_dict().items() if not n.startswith("maps")})
            attention = biased
        block.attention, x = attention, after
    return made, [(round(before, 4), round(after, 4)) for before, after in found]


def accuracy(seed: int) -> dict[str, Any]:
    """Shares of unseen digits told right, by networks with and without a softmax."""
    torch.manual_seed(seed)
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)
    seen, unseen = train_test_split(np.arange(len(images)), test_size=0.25, stratify=labels, random_state=seed)

    def right(model: Digits) -> float:
        with torch.no_grad():
            return round((model(images[unseen]).argmax(1) == labels[unseen]).float().mean().item(), 4)

    softmax = Digits()
    train(softmax, images[seen], labels[seen], EPOCHS, 3e-3)
    report: dict[str, Any] = {"softmax": right(softmax)}
    for kind in ("elu", "random features", "as converted", "distilled"):
        model, divergences = replaced(softmax, images[seen][:256], kind=kind)
        report[kind] = right(model)
        if kind == "distilled":
            report["divergence in nats, before and after, per block"] = divergences
            train(model, images[seen], labels[seen], 4, 1e-3)
            report["distilled, then trained for a tenth of the epochs"] = right(model)
    scratch = Digits()
    for block in scratch.blocks:
        assert isinstance(block, Block)
        block.attention = LinearAttention(WIDTH, 4, feature_map="elu", bias=True)
    train(scratch, images[seen], labels[seen], EPOCHS, 3e-3)
    report["elu from the start"] = right(scratch)
    return report


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--memory"]:
        run = contestant(sys.argv[2], int(sys.argv[3]))
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = rss_mb()
        run()
        print(peak_mb() - before)
        return
    if sys.argv[1:2] == ["--huge-pages"]:
        print(json.dumps(where_it_goes(32768)))
        return
    report: dict[str, Any] = {"accuracy": [accuracy(seed) for seed in range(SEEDS)]}
    print(*report["accuracy"], sep="\n")
    report["speed"] = {}
    for length, rounds in ROUNDS.items():
        report["speed"][f"{length}"] = speed(length, rounds)
        print(length, {name: row["cpu_ms"][1] for name, row in report["speed"][f"{length}"].items()}, flush=True)
    report["extra_mib"] = {
        f"{length}": {
            name: round(extra_mib(name, length), 1) for name in ATTENTIONS if length <= 8192 or name not in QUADRATIC
        }
        for length in (8192, 32768)
    }
    report["where it goes, ms at 32768"] = where_it_goes(32768)
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1"}
    command = [sys.executable, __file__, "--huge-pages"]
    huge = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    report["with huge pages, ms at 32768"] = json.loads(huge)
    settings = {"batch": 1, "heads": HEADS, "features": DIM, "feature_map": "elu", "threads": 1, "rounds": ROUNDS}
    write_result("attention", {"settings": settings, **report}, packages=("torch", "scikit-learn"))


if __name__ == "__main__":
    main()
