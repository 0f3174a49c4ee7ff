"""Discrete latent variables trained with every estimator: the digits VAE.

    python benchmarks/bench_estimators_digits.py

scikit-learn's 1797 digits of 8 x 8 pixels, black or white (above 7 of 16), 1437 to learn from, 360 to test. Four
categorical latents of 8 classes, uniform prior; encoder 64-128-32 and decoder 32-128-64 with one ReLU layer each; Adam,
step size 2e-3, batches of 100, 1000 steps, torch's default initialisation. -ELBO is exact: a sum over all 4096 states.
The KL divergence is in closed form and so is its gradient: the estimators see the reconstruction error alone. The seed
fixes initial weights and batches; the split is the same for all.

Bias and variance are of the gradient of the reconstruction error by the encoder's weights, a batch of 100, relative
to the squared length of that gradient; models trained by the exact gradient, after 100, 300 and 1000 steps, the mean
of the three. Estimators that learn go on learning while they are measured, after 20 calls that are not.

Results are kept a run at a time in build/, so that an interrupted benchmark goes on where it was.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from harness import ROOT, write_result
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Independent, OneHotCategorical
from torch.nn.functional import softplus

from visavis.blocks.estimators import (
    REBAR,
    RELAX,
    RLOO,
    Estimator,
    GumbelRao,
    GumbelSoftmax,
    NetworkBaseline,
    Quadratic,
    ReinMax,
    RunningBaseline,
    ScoreFunction,
    StraightThrough,
    check,
    enumerate_states,
    expect,
)

PARTS, CLASSES, HIDDEN, BATCH, STEPS, RATE, TEST = 4, 8, 128, 100, 1000, 2e-3, 360
SEEDS = (0, 1, 2)
STAGES, WARM, REPEATS = (100, 300, 1000), 20, 200
KEPT = ROOT / "build" / "bench_estimators_digits.json"


def network_baseline() -> Estimator:
    """From the 32 logits."""
    net = nn.Sequential(nn.Linear(PARTS * CLASSES, 64), nn.ReLU(), nn.Linear(64, 1))
    return ScoreFunction(NetworkBaseline(net))


def relaxed_network() -> Estimator:
    """RELAX with a network of its own beside the relaxed f."""
    net = nn.Sequential(nn.Flatten(2), nn.Linear(PARTS * CLASSES, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(-2))
    return RELAX(net)


# The draws of each; values of f: see `calls` in the result. None: the exact gradient, by a product of matrices.
ESTIMATORS: dict[str, tuple[Callable[[], Estimator] | None, int]] = {
    "exact": (None, 4096),
    "Quadratic, 4 draws (ours)": (Quadratic, 4),
    "Quadratic, 2 draws (ours)": (Quadratic, 2),
    "RLOO, 4 draws": (RLOO, 4),
    "RLOO, 2 draws": (RLOO, 2),
    "ReinMax tau 1, 4 draws": (ReinMax, 4),
    "ReinMax tau 1": (ReinMax, 1),
    "ReinMax tau 1.3": (lambda: ReinMax(tau=1.3), 1),
    "ReinMax tau 1.3, 4 draws": (lambda: ReinMax(tau=1.3), 4),
    "REBAR": (REBAR, 1),
    "REBAR, learned": (lambda: REBAR(learn=True), 1),
    "RELAX": (relaxed_network, 1),
    "Gumbel-softmax tau .5": (lambda: GumbelSoftmax(tau=0.5), 1),
    "Gumbel-softmax tau .5, 4 draws": (lambda: GumbelSoftmax(tau=0.5), 4),
    "Gumbel-Rao tau .5, 100 noises": (lambda: GumbelRao(tau=0.5, inner=100), 1),
    "hard Gumbel-softmax tau .5": (lambda: GumbelSoftmax(tau=0.5, hard=True), 1),
    "straight-through": (StraightThrough, 1),
    "straight-through, 4 draws": (StraightThrough, 4),
    "REINFORCE": (ScoreFunction, 1),
    "REINFORCE, running mean": (lambda: ScoreFunction(RunningBaseline()), 1),
    "REINFORCE, network": (network_baseline, 1),
}


def digits() -> tuple[Tensor, Tensor]:
    """To learn from and to test, [N, 64] of 0 and 1."""
    pixels = (torch.tensor(load_digits().data, dtype=torch.float32) >= 8).float()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return pixels[order[:-TEST]], pixels[order[-TEST:]]


class Model(nn.Module):
    """Encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        size = PARTS * CLASSES
        self.encoder = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, size))
        self.decoder = nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 64))

    def posterior(self, x: Tensor) -> Independent:
        return Independent(OneHotCategorical(logits=self.encoder(x).view(-1, PARTS, CLASSES)), 1)

    def reconstruction(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """-log p(x | z), of draws [S, B, 4, 8]; all states, the same for every x, are decoded once."""

        def of(z: Tensor) -> Tensor:
            if z.stride(1) == 0:
                logits = self.decoder(z[:, 0].flatten(1))
                return softplus(logits).sum(-1, keepdim=True) - logits @ x.T
            logits = self.decoder(z.flatten(2))
            return (softplus(logits) - x * logits).sum(-1)

        return of

    def divergence(self, posterior: Independent) -> Tensor:
        """From the uniform prior, [B]."""
        log_p = posterior.base_dist.logits
        return (log_p.exp() * (log_p + torch.tensor(CLASSES).log())).sum((-1, -2))

    def exact(self, x: Tensor) -> Tensor:
        """-ELBO; what `expect` gives with grad="exact", without the states of every x in memory."""
        posterior = self.posterior(x)
        states = enumerate_states(posterior)
        by_state = states[:, 0].flatten(1) @ posterior.base_dist.logits.flatten(1).T  # log q, [4096, N]
        return ((by_state.exp() * self.reconstruction(x)(states)).sum(0) + self.divergence(posterior)).mean()


def trained(name: str, seed: int, steps: int) -> tuple[Model, float]:
    """The model, and CPU seconds."""
    make, samples = ESTIMATORS[name]
    torch.manual_seed(seed)
    model, grad = Model(), make() if make else None
    parameters = [*model.parameters(), *(grad.parameters() if isinstance(grad, nn.Module) else [])]
    baseline = getattr(grad, "baseline", None)
    parameters += baseline.parameters() if isinstance(baseline, nn.Module) else []
    optimizer = torch.optim.Adam(parameters, RATE)
    batches = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(1000 + seed)
    learn, _ = digits()
    start = time.process_time()
    for _ in range(steps):
        x = learn[torch.randint(len(learn), (BATCH,), generator=batches)]
        if grad is None:
            loss = model.exact(x)
        else:
            posterior = model.posterior(x)
            loss = expect(model.reconstruction(x), posterior, grad=grad, samples=samples, generator=noise)
            loss = loss + model.divergence(posterior).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, time.process_time() - start


def bias_and_variance(name: str, models: list[Model]) -> dict[str, Any]:
    """At each stage; calls: values of f a datum and step."""
    make, samples = ESTIMATORS[name]
    if make is None:
        return {"calls": samples, "bias": [0.0], "bias error": [0.0], "variance": [0.0]}
    learn, _ = digits()
    x = learn[torch.randperm(len(learn), generator=torch.Generator().manual_seed(1))[:BATCH]]
    found: dict[str, Any] = {"calls": 0.0, "bias": [], "bias error": [], "variance": []}
    for model in models:
        grad, noise = make(), torch.Generator().manual_seed(2)
        f, posterior = model.reconstruction(x), model.posterior(x)
        for _ in range(WARM):
            expect(f, posterior, grad=grad, samples=samples, generator=noise)
        row = check(f, posterior, grad=grad, samples=samples, draws=REPEATS, generator=noise).rows[0]
        found["calls"] = row.calls
        for key, value in (("bias", row.bias), ("bias error", row.bias_error), ("variance", row.variance)):
            found[key].append(round(value, 5))
    return found


def main() -> None:
    """Measure what is missing, and write the result."""
    torch.set_num_threads(1)
    kept: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    _, test = digits()
    learn, _ = digits()
    models = [trained("exact", 0, stage)[0].requires_grad_(False) for stage in STAGES]
    for model in models:
        model.encoder.requires_grad_()
    for name in ESTIMATORS:
        row = kept.setdefault(name, {"train": {}, "test": {}, "cpu_s": {}})
        for seed in map(str, SEEDS):
            if seed not in row["train"]:
                model, seconds = trained(name, int(seed), STEPS)
                with torch.no_grad():
                    row["train"][seed] = round(float(model.exact(learn)), 4)
                    row["test"][seed] = round(float(model.exact(test)), 4)
                row["cpu_s"][seed] = round(seconds, 2)
        if "bias" not in row:
            row.update(bias_and_variance(name, models))
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept))
        train = statistics.mean(row["train"].values())
        print(f"{name}: train {train:.2f}, bias {row['bias']}, variance {row['variance']}", flush=True)
    rows = {
        name: {key: list(value.values()) if isinstance(value, dict) else value for key, value in kept[name].items()}
        for name in ESTIMATORS
    }
    settings = {"steps": STEPS, "batch": BATCH, "rate": RATE, "hidden": HIDDEN, "seeds": SEEDS, "stages": STAGES}
    write_result("estimators_digits", {"settings": settings, "estimators": rows}, packages=("torch", "scikit-learn"))
    KEPT.unlink()


if __name__ == "__main__":
    main()
