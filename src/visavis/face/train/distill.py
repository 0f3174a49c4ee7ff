"""Teaches a backbone to give the embeddings of another embedder, from photos of anybody: no names are needed.

The teacher embeds each face once, as it is; the student is shown it mirrored, shifted and coloured, and has to say the
same. Its model then does what the teacher's did, at its own speed and crop size.

N: faces, D: features.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from visavis.errors import InputError, TensorError, TrainingError, expect
from visavis.face.align import align, fit_similarity
from visavis.face.embed import Embedder
from visavis.face.models import Licence, Pack, pull
from visavis.face.train.augment import Augmentation, augment, generator, to_input
from visavis.face.train.checkpoint import load_into, open_run, refuse_other
from visavis.face.train.data import Crops, template_points
from visavis.face.train.export import Exported, described, export
from visavis.face.train.frozen import features_of, template_of
from visavis.face.train.log import Log
from visavis.face.train.order import Order
from visavis.face.train.schedule import Schedule
from visavis.face.train.trainer import parameter_groups

__all__ = ["DistillConfig", "Distilled", "border_for", "distill", "distillation_loss"]

Points = NDArray[np.float64]
Progress = Callable[[str, int, int | None], None]  # what is done, how much of it, of how much

_SHIFTED = 0.1  # of the student's crop, on each side: what augmentation may bring into sight


def _silent(_what: str, _done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """How the student learns."""

    epochs: float = 20.0  # times that each face is seen
    batch: int = 64
    lr: float = 2e-3  # the highest, of AdamW
    weight_decay: float = 0.05  # not of biases and normalisations
    schedule: Schedule = field(default_factory=Schedule)
    clip: float = 5.0  # longest gradient; a longer one is shortened to it
    relation: float = 1.0  # weight of the differences between the cosines of all pairs of a batch
    augmentation: Augmentation = field(default_factory=Augmentation)
    held_out: float = 0.05  # share of the faces that are only measured on
    checkpoint_every: int = 100  # steps
    keep: int = 2  # checkpoints
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:  # NaN fails too
                raise InputError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("weight_decay", "relation", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.batch < 2:  # batch normalisation needs two
            raise InputError(f"batch: expected at least 2, got {self.batch}")
        if self.checkpoint_every < 1:
            raise InputError(f"checkpoint_every: expected at least 1, got {self.checkpoint_every}")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out: expected a share in (0, 1), got {self.held_out}")


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a run came to."""

    cosine: float  # mean cosine of student and teacher on the faces held out
    steps: int
    exported: Exported


def distillation_loss(student: Tensor, teacher: Tensor, *, relation: float = 1.0) -> Tensor:
    """How far the student's directions are from the teacher's: ``mean(1 - cosine)``, and their cosines in pairs.

    Added, times `relation`, is half the mean square of ``s_i . s_j - t_i . t_j`` over all pairs of different faces: it
    tells which embeddings must stay apart while they are still far from the teacher's.

    Args:
        student: float [N, D], not normalised.
        teacher: float [N, D] of unit length.
        relation: weight of the second part.

    Raises:
        TensorError: the shapes differ.

    Source: Park et al., Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068, in its idea; here with cosines.
    """
    expect("student", student, "float", None, None)
    expect("teacher", teacher, "float", *student.shape)
    directions = normalize(student, dim=1)
    loss = (1 - (directions * teacher).sum(1)).mean()
    if relation and len(student) > 1:
        differences = directions @ directions.T - teacher @ teacher.T
        pairs = len(student) * (len(student) - 1)
        off_diagonal = differences.square().sum() - differences.diagonal().square().sum()
        loss = loss + relation * off_diagonal / (2 * pairs)
    return loss


def border_for(pack: Pack, *, size: int) -> int:
    """How wide a border the teacher's crops need, px, so that the student's can be cut out of them.

    Args:
        pack: of the teacher.
        size: of the student's crop, px, cut by ArcFace's template.
    """
    teacher, wide = pack.embedder.input.width, size * (1 + 2 * _SHIFTED)
    assert teacher is not None
    matrix = fit_similarity(template_points(size), template_of(pack.embedder))
    low = -0.5 - size * _SHIFTED
    corners = np.array([[x, y] for x in (low, low + wide) for y in (low, low + wide)])
    reached = corners @ matrix[:, :2].T + matrix[:, 2]
    beyond = max(float((-0.5 - reached).max()), float((reached - (teacher - 0.5)).max()), 0.0)
    return min(math.ceil(beyond), teacher)


def distill(
    config: DistillConfig,
    crops: Crops,
    pack: Pack,
    backbone: nn.Module,
    folder: Path,
    *,
    size: int,
    name: str,
    licence: Licence | None = None,
    resume: bool = False,
    accept_licence: bool = False,
    progress: Progress = _silent,
) -> Distilled:
    """Train `backbone`, in place, to embed as the embedder of `pack` does, and write a pack with it into `folder`.

    `folder` gets checkpoints/, log.jsonl, curves.png, tensorboard/ and the pack's files; the teacher's embeddings are
    kept in `folder`/features. A run that was killed goes on from its last checkpoint by `resume`.

    Args:
        config: how the student learns.
        crops: of anybody, cut by the teacher's template with a border as `border_for` tells.
        pack: whose embedder teaches; the new pack has its detector.
        backbone: from float [N, 3, size, size] to [N, D], with the teacher's D; see `visavis.face.train.backbones`.
        folder: of the run, made when absent.
        size: of the student's crop, px.
        name: of the new model.
        licence: of its weights; the teacher's own when absent.
        resume: go on from the last checkpoint in `folder`, or begin where there is none.
        accept_licence: of the teacher's weights, where they are for research only.
        progress: called with what is being done, how much of it is, and how much there is.

    Raises:
        InputError: a name that a pack cannot have, a backbone of another D or size, crops cut for another embedder or
            too few, or a folder with a checkpoint and no `resume`, or with one of other settings.
        ModelError: the teacher cannot be had, or a checkpoint is damaged.
        TrainingError: the loss is no number any more; the last checkpoint stays.
        MissingExtraError: a library of the extra `train` is missing.
    """
    licence = licence or pack.embedder.licence
    described(name=name, licence=licence, size=size)
    teacher = Embedder(pack.embedder, pull(pack.embedder, accept_licence=accept_licence))
    run = _Run(config, crops, backbone, teacher.dim, pack, folder, size)
    run.begin(resume)
    found = features_of(
        crops,
        lambda images: np.multiply(*(part.T for part in teacher(images))).T,
        folder / "features",
        key=f"{pack.embedder.digest} embedding",
        progress=partial(progress, "faces"),
    )
    both = found[:, 0] + found[:, 1] if pack.embedder.flip else found[:, 0]
    cosine = run.go(normalize(torch.from_numpy(both)), partial(progress, "steps"))
    written = export(
        backbone,
        folder,
        name=name,
        licence=licence,
        size=size,
        detector=pack.detector,
        crops=run.cut(run.judges[:16], border=0),
    )
    return Distilled(cosine, run.step, written)


class _Run:
    """The student, and the step it is at."""

    def __init__(
        self, config: DistillConfig, crops: Crops, backbone: nn.Module, dim: int, pack: Pack, folder: Path, size: int
    ) -> None:
        if crops.size != pack.embedder.input.width:
            raise InputError(
                f"crops: expected them {pack.embedder.input.width} px wide as the teacher wants, got {crops.size}"
            )
        judges = max(1, round(len(crops) * config.held_out))
        if len(crops) - judges < config.batch:
            raise InputError(
                f"crops: expected a batch of {config.batch} faces or more and one to hold out, got {len(crops)}"
            )
        backbone.eval()
        with torch.no_grad():
            try:
                shape = list(backbone(torch.zeros(2, 3, size, size)).shape)
            except (RuntimeError, ValueError, TensorError) as error:
                raise InputError(f"backbone: expected to take [N, 3, {size}, {size}], got: {error}") from error
        if shape != [2, dim]:
            raise InputError(f"backbone: expected features [N, {dim}] as the teacher's, got {shape} of two faces")
        self.config, self.crops, self.backbone, self.folder, self.size = config, crops, backbone, folder, size
        order = generator(config.seed, 0).initial_seed()
        mixed = np.random.default_rng(order).permutation(len(crops))
        self.judges, self.learners = mixed[:judges], mixed[judges:]
        self.order = Order(np.zeros(len(self.learners), np.int64), batch=config.batch, seed=config.seed)
        self.steps = self.order.steps(config.epochs)
        self.optimizer = torch.optim.AdamW(parameter_groups(backbone, config.weight_decay), lr=config.lr)
        free = ("checkpoint_every", "keep")
        self.facts: Mapping[str, Any] = {
            **{key: value for key, value in asdict(config).items() if key not in free},
            "teacher": pack.embedder.digest,
            "faces": len(crops),
            "size": size,
        }
        self.step = 0

    def begin(self, resume: bool) -> None:
        """Go on from the last checkpoint, if there is one."""
        self.checkpoints = open_run(self.folder, keep=self.config.keep, resume=resume)
        steps = self.checkpoints.steps()
        if steps:
            path = self.checkpoints.path(steps[-1])
            state = self.checkpoints.load(steps[-1])
            refuse_other(path, state["config"], self.facts)
            load_into(self.backbone, state["backbone"], path, "backbone")
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def go(self, targets: Tensor, progress: Callable[[int, int], None]) -> float:
        """Learn to the end; the mean cosine to the targets of the faces held out."""
        config = self.config
        self.folder.mkdir(parents=True, exist_ok=True)
        with Log(self.folder, step=self.step) as log:
            while self.step < self.steps:
                lr = config.lr * config.schedule(self.step, steps=self.steps)
                loss = self._learn(targets, lr)
                self.step += 1
                if self.step % 10 == 0 or self.step == self.steps:
                    log.add(self.step, loss=loss, lr=lr)
                if self.step % config.checkpoint_every == 0 or self.step == self.steps:
                    log.add(self.step, cosine=self._cosine(targets))
                    log.flush()
                    self._save()
                progress(self.step, self.steps)
            log.draw()
        return self._cosine(targets)

    def cut(self, faces: NDArray[np.int64], *, border: int) -> NDArray[np.uint8]:
        """The student's crops of some faces, out of the teacher's: uint8 [n, size + 2 border, ..., 3]."""
        goal, side = template_points(self.size) + border, self.size + 2 * border
        images, landmarks = self.crops.images(faces), self.crops.landmarks[faces]
        cuts = [align(*face, goal, width=side, height=side).crop for face in zip(images, landmarks, strict=True)]
        return np.stack(cuts)

    def _learn(self, targets: Tensor, lr: float) -> float:
        config = self.config
        faces = self.learners[self.order(self.step)]
        border = round(_SHIFTED * self.size)
        pixels = augment(
            torch.from_numpy(self.cut(faces, border=border)),
            config.augmentation,
            size=self.size,
            draw=generator(config.seed, 1, self.step),
            total=len(faces),
        )
        self.backbone.train()
        loss = distillation_loss(self.backbone(pixels), targets[faces], relation=config.relation)
        if not loss.isfinite():
            kept = self.checkpoints.steps()
            told = f"the last good checkpoint is {self.checkpoints.path(kept[-1])}" if kept else "there is none yet"
            raise TrainingError(
                f"loss: expected a number, got {loss.item()} at step {self.step}; {told}; a lower lr helps"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.backbone.parameters(), config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss.item()

    def _cosine(self, targets: Tensor) -> float:
        self.backbone.eval()
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self.judges), 64):
                faces = self.judges[start : start + 64]
                found = self.backbone(to_input(torch.from_numpy(self.cut(faces, border=0)), size=self.size))
                total += float((normalize(found) * targets[faces]).sum())
        return total / len(self.judges)

    def _save(self) -> None:
        self.checkpoints.save(
            self.step,
            {
                "config": dict(self.facts),
                "step": self.step,
                "backbone": self.backbone.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )
