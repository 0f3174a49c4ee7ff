"""Adapts an embedder to people of one's own, without touching its network: new layers at its end learn, nothing else.

What a few hundred people can teach is little beside what the embedder knows. So the least that can be learned from
them, a linear layer in closed form, is the default. Other layers learn by steps: they start as if they were not there,
and a penalty holds them near that. People who are held out decide; if they are told apart no better than before, no
model is written.

N: faces, V: views of each, F: features that go into the new layers, D: features that come out.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from visavis.blocks.activations import SwiGLU
from visavis.blocks.classes import ClassSoftmax
from visavis.blocks.margins import Margin
from visavis.errors import InputError, TrainingError, expect
from visavis.face.models import Licence, Pack
from visavis.face.train.augment import generator
from visavis.face.train.data import Crops
from visavis.face.train.export import Exported, check, fed, publish
from visavis.face.train.frozen import Features, Frozen, Graph, extended, features_of, frozen
from visavis.face.train.schedule import Schedule
from visavis.face.train.validate import measure
from visavis.face.train.whiten import turned, whiten

__all__ = ["AdaptConfig", "Adapted", "Layers", "Learned", "adapt", "learn", "set_whitened", "split_people"]

Kind = Literal["whitened", "head", "linear", "gated"]
Labels = NDArray[np.int64]
Progress = Callable[[str, int, int | None], None]  # what is done, how much of it, of how much


def _silent(_what: str, _done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """How the layers learn."""

    # whitened: a linear layer in closed form, see `visavis.face.train.whiten`. The others learn by steps, and all below
    # but `held_out` and `seed` is theirs. head: the embedder's own last layer anew; linear: one layer more; gated: a
    # SwiGLU more.
    layers: Kind = "whitened"
    shrinkage: float = 10.0  # of whitened: the larger, the less is changed
    views: int = 4  # changed copies of each photo, see `visavis.face.process.augment`; each also mirrored
    steps: int = 1000
    batch: int = 256
    lr: float = 1e-3  # the highest, of AdamW
    weight_decay: float = 0.1  # pulls the change that the layers make towards none
    anchor: float = 4.0  # weight of 1 - cosine to the embedding before
    scale: float = 32.0  # gain on the cosines before the softmax
    held_out: float = 0.2  # share of the people who decide when to stop
    check_every: int = 50  # steps between two looks at them
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layers not in get_args(Kind):
            raise InputError(f"layers: expected one of {', '.join(get_args(Kind))}, got {self.layers!r}")
        for name in ("steps", "batch", "check_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("views", "weight_decay", "anchor", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):  # NaN fails too
                raise InputError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("lr", "scale", "shrinkage"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out: expected a share in (0, 1), got {self.held_out}")


class Learned(NamedTuple):
    """What learning came to."""

    before: dict[str, float]  # measured on the people held out, without the layers
    after: dict[str, float]  # and with them, at the best of all looks
    step: int  # of that look; 0: none was better than before; 1: of the closed form, which has only one
    looks: tuple[dict[str, float], ...]  # all of them, with "step" and "loss"


@dataclass(frozen=True, slots=True)
class Adapted:
    """The outcome of `adapt`."""

    learned: Learned
    exported: Exported | None  # None: the people held out were told apart no better than before


class Layers(nn.Module):
    """The new layers: at first the embedder as it was, plus a change that starts at nothing."""

    mean_in: (
        Tensor  # the mean length of what goes in, and of what the embedder gives: the change works on lengths near 1
    )
    mean_out: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, base: Frozen, features: Features, kind: Kind) -> None:
        """Set up for an embedder, of which `features` [n, F] tell how long they are."""
        super().__init__()
        self.register_buffer("weight", None if base.weight is None else torch.tensor(base.weight.T))
        self.register_buffer("bias", None if base.bias is None else torch.tensor(base.bias))
        wide = features.shape[1]
        dim = wide if self.weight is None else len(self.weight)
        sample = torch.from_numpy(np.ascontiguousarray(features))
        self.register_buffer("mean_in", sample.norm(dim=1).mean())
        self.register_buffer("mean_out", self.before(sample).norm(dim=1).mean())
        self.change: nn.Linear | SwiGLU
        if kind == "gated":
            self.change = SwiGLU(wide)
            nn.init.zeros_(self.change.down.weight)
        else:
            self.change = nn.Linear(wide, dim, bias=kind != "head")
            for parameter in self.change.parameters():
                nn.init.zeros_(parameter)

    def before(self, x: Tensor) -> Tensor:
        """The embedding without the change: [..., F] to [..., D]."""
        return x if self.weight is None else nn.functional.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.before(x) + self.mean_out * self.change(x / self.mean_in)
        return y

    def write(self, graph: Graph, source: str) -> str:
        """Add the layers to an ONNX graph, the linear ones as one matrix."""
        gain_in, gain_out = 1 / float(self.mean_in), float(self.mean_out)
        weights = {name: value.detach().double().numpy() for name, value in self.state_dict().items()}
        own = weights.get("weight")

        def times(name: str, matrix: NDArray[np.float64]) -> str:  # [out, in]
            return graph.node("MatMul", name, graph.constant(matrix.T.astype(np.float32)))

        if isinstance(self.change, SwiGLU):
            gates, values = np.split(weights["change.up.weight"] * gain_in, 2)
            gate, value = times(source, gates), times(source, values)
            opened = graph.node("Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), value)
            return graph.node("Add", source, times(opened, weights["change.down.weight"] * gain_out))
        change = weights["change.weight"]
        matrix = (np.eye(len(change)) if own is None else own) + change * (gain_in * gain_out)
        shift = weights.get("bias", np.zeros(len(change))) + gain_out * weights.get("change.bias", 0.0)
        if not shift.any():
            return times(source, matrix)
        constants = (graph.constant(value.astype(np.float32)) for value in (matrix.T, shift))
        return graph.node("Gemm", source, *constants)


def adapt(
    config: AdaptConfig,
    crops: Crops,
    pack: Pack,
    margin: Margin | None,
    folder: Path,
    *,
    name: str,
    normalize: bool = True,
    licence: Licence | None = None,
    accept_licence: bool = False,
    progress: Progress = _silent,
) -> Adapted:
    """Adapt the embedder of a pack to the people of `crops`, and write a pack with it into `folder`.

    Features are kept in `folder`/features: another try with other layers or settings begins with learning at once.

    Args:
        config: how the layers learn.
        crops: of people who are known, cut by the embedder's own template (`frozen.template_of`).
        pack: whose embedder is adapted; the new pack has its detector.
        margin: how the softmax over the people is made harder; None: not at all.
        folder: made when absent.
        name: of the new model.
        normalize: a softmax of cosines; False: of inner products, the plain softmax.
        licence: of its weights; the embedder's own when absent.
        accept_licence: of the embedder's weights, where they are for research only.
        progress: called with what is being done, how much of it is, and how much there is.

    Raises:
        InputError: a name that a pack cannot have, crops cut for another embedder, or too few people.
        ModelError: the embedder cannot be had as ONNX, or does not end in a linear layer as `head` needs.
        TrainingError: the loss is no number any more.
    """
    base = frozen(pack.embedder, head=config.layers == "head", accept_licence=accept_licence)
    spec = replace(
        pack.embedder, name=name, kind="embedder", licence=licence or pack.embedder.licence, outputs=(), variants=()
    )
    check(spec)
    if crops.size != spec.input.width:
        raise InputError(f"crops: expected them {spec.input.width} px wide as the embedder wants, got {crops.size}")
    learners, judges = split_people(len(crops.people), config.held_out, config.seed)
    network = base.network()
    views = []
    copies_learned = 0 if config.layers == "whitened" else config.views
    for part, people, copies in (("photos", learners, copies_learned), ("photos held out", judges, 0)):
        some = crops.of(people)
        found = features_of(
            some,
            lambda images: network(fed(images, spec.input)),
            folder / "features",
            key=base.key,
            views=copies,
            seed=config.seed,
            progress=partial(progress, part),
        )
        views.append((found, some.labels))
    torch.manual_seed(config.seed)
    layers = Layers(base, views[0][0][:, 0], config.layers)
    if config.layers == "whitened":
        turns = turned(crops.of(learners).landmarks)
        learned = set_whitened(config, layers, *views[0], turns, held_out=views[1], flip=spec.flip)
    else:
        steps = partial(progress, "steps")
        learned = learn(
            config,
            layers,
            *views[0],
            margin,
            normalize=normalize,
            held_out=views[1],
            flip=spec.flip,
            progress=steps,
        )
    if learned.step == 0:
        return Adapted(learned, None)
    model = extended(base, layers.write, name)

    def reference(batch: NDArray[np.float32]) -> Features:
        with torch.no_grad():
            output: Features = layers(torch.from_numpy(network(batch))).numpy()
        return output

    middle = slice(crops.border, crops.border + crops.size)
    real = crops.images(slice(0, 16))[:, middle, middle]
    written = publish(model, spec, folder, detector=pack.detector, reference=reference, crops=real)
    return Adapted(learned, written)


def set_whitened(
    config: AdaptConfig,
    layers: Layers,
    features: Features,
    labels: Labels,
    turns: NDArray[np.float64],
    *,
    held_out: tuple[Features, Labels],
    flip: bool = False,
) -> Learned:
    """Set the layers, in place, to the closed form; they stay as they were if it is no better.

    Args:
        config: of which `shrinkage` counts.
        layers: of the kind `whitened`.
        features: float32 [N, 2, F], the second view mirrored.
        labels: int64 [N], who each face is.
        turns: [N] as from `visavis.face.train.whiten.turned`.
        held_out: features [n, 2, F] and labels [n] of other people.
        flip: work with the mean of a face and its mirror image, as the embedder of the pack does.

    Raises:
        TensorError: shapes or types other than these.
        InputError: nobody with photos both facing the camera and turned aside, or fewer than two people held out.
    """
    rows = features[:, :2].mean(1) if flip else features[:, 0]
    matrix, shift = whiten(rows, labels, turns, shrinkage=config.shrinkage)
    before, kept = _look(layers, *held_out, flip), deepcopy(layers.state_dict())
    assert isinstance(layers.change, nn.Linear)
    with torch.no_grad():
        gain = layers.mean_in / layers.mean_out
        layers.change.weight.copy_(torch.from_numpy(matrix - np.eye(len(matrix))) * gain)
        layers.change.bias.copy_(torch.from_numpy(shift) / layers.mean_out)
    after = _look(layers, *held_out, flip)
    looks = ({"step": 0, **before}, {"step": 1, **after})
    if _goodness(after) > _goodness(before):
        return Learned(looks[0], looks[1], 1, looks)
    layers.load_state_dict(kept)
    return Learned(looks[0], looks[0], 0, looks)


def learn(
    config: AdaptConfig,
    layers: Layers,
    features: Features,
    labels: Labels,
    margin: Margin | None,
    *,
    held_out: tuple[Features, Labels],
    normalize: bool = True,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
    """Let the layers learn from features, in place; in the end they are as at the best look at the people held out.

    The loss is the softmax with its margin over the people, whose centres begin as the means of their faces, plus
    `anchor` times ``1 - cosine`` of each face to what it was without the layers. Best is the highest TAR at a FAR of
    1e-2 over all pairs of the people held out; of equal ones the larger area under the ROC.

    Args:
        config: the settings.
        layers: to learn.
        features: float32 [N, V, F], of which each step takes one view a face.
        labels: int64 [N] from 0, no number left out.
        margin: how the softmax is made harder; None: not at all.
        held_out: features [n, 2, F], the second view mirrored, and labels [n] of other people.
        normalize: a softmax of cosines; False: of inner products, the plain softmax.
        flip: measure on the mean of a face and its mirror image, as the embedder of the pack does.
        progress: called with steps done and steps in total.

    Raises:
        TensorError: shapes or types other than these.
        InputError: fewer than two people, on either side.
        TrainingError: the loss is no number any more.
    """
    expect("features", features, "float", None, None, None)
    expect("labels", labels, "int64", len(features))
    rows = torch.from_numpy(np.asarray(features))
    whose = torch.from_numpy(labels)
    with torch.no_grad():
        plain = layers.before(rows)  # [N, V, D]
        centres = torch.zeros(int(whose.max()) + 1, plain.shape[2])
        centres.index_add_(0, whose, nn.functional.normalize(plain, dim=2).mean(1))
    head = ClassSoftmax(
        plain.shape[2],
        len(centres),
        margin=margin,
        scale=1.0 if not normalize or (margin is not None and margin.scales_with_norm) else config.scale,
        normalize=normalize,
    )
    with torch.no_grad():
        head.weight.copy_(nn.functional.normalize(centres))
    # Margins that look at lengths are made for features whose numbers are near 1 each.
    gain = plain.shape[2] ** 0.5 / layers.mean_out
    changed = [{"params": list(layers.change.parameters()), "weight_decay": config.weight_decay}]
    optimizer = torch.optim.AdamW([*changed, {"params": [head.weight], "weight_decay": 0.0}], lr=config.lr)
    looks = [{"step": 0, **_look(layers, *held_out, flip)}]
    best, best_state = looks[0], deepcopy(layers.state_dict())
    for step in range(config.steps):
        draw = generator(config.seed, step)
        face = torch.randint(len(rows), (config.batch,), generator=draw)
        view = torch.randint(rows.shape[1], (config.batch,), generator=draw)
        y = layers(rows[face, view])
        loss = head(y * gain, whose[face])
        loss = loss + config.anchor * (1 - cosine_similarity(y, plain[face, view])).mean()
        if not loss.isfinite():
            raise TrainingError(f"loss: expected a number, got {loss.item()} at step {step}; a lower lr helps")
        for group in optimizer.param_groups:
            group["lr"] = config.lr * config.schedule(step, steps=config.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done = step + 1
        if done % config.check_every == 0 or done == config.steps:
            looks.append({"step": done, "loss": loss.item(), **_look(layers, *held_out, flip)})
            if _goodness(looks[-1]) > _goodness(best):
                best, best_state = looks[-1], deepcopy(layers.state_dict())
        if progress:
            progress(done, config.steps)
    layers.load_state_dict(best_state)
    return Learned(looks[0], best, int(best["step"]), tuple(looks))


def split_people(people: int, held_out: float, seed: int) -> tuple[Labels, Labels]:
    """Numbers of the people to learn from, and of those to hold out, drawn by the seed; both rising.

    Raises:
        InputError: too few for two people on either side.
    """
    count = round(people * held_out)
    if not 2 <= count <= people - 2:
        raise InputError(
            f"people: expected two or more to learn from and two or more to hold out, got {people - count} and {count}"
        )
    order = np.random.default_rng(seed).permutation(people)
    return np.sort(order[count:]), np.sort(order[:count])


def _look(layers: Layers, features: Features, labels: Labels, flip: bool) -> dict[str, float]:
    with torch.no_grad():
        y = layers(torch.from_numpy(np.asarray(features)))
        found: Features = nn.functional.normalize(y[:, 0] + y[:, 1] if flip else y[:, 0]).numpy()
    return measure(found, labels)


def _goodness(measured: dict[str, float]) -> tuple[float, float]:
    return measured["TAR at FAR 1e-2"], measured["AUC"]
