"""Trains a backbone to tell people apart: one process, or several under torchrun with the people spread over them.

A run is a folder. It may be stopped or killed at any moment and goes on from its last checkpoint: each draw is made
from the seed and the step, so there is no state of a random generator to keep, and on one thread the result is the same
to the last bit as that of a run nobody stopped.

N: photos, D: features, C: people.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visavis.blocks.approximation import update_mean
from visavis.blocks.classes import ClassSoftmax, SparseSGD
from visavis.blocks.classes.ranks import Ranks
from visavis.blocks.margins import Margin
from visavis.blocks.surrogates import tar_at_far
from visavis.errors import InputError, TrainingError, expect
from visavis.face import process
from visavis.face.train.augment import augment, generator
from visavis.face.train.checkpoint import Checkpoints, load_into, open_run, read, refuse_other, write_whole
from visavis.face.train.config import TrainConfig
from visavis.face.train.data import Crops
from visavis.face.train.log import Log
from visavis.face.train.order import Order
from visavis.face.train.validate import embed, measure, spread

__all__ = ["Moment", "Result", "device_of", "parameter_groups", "train"]

_BEST = "TAR at FAR 1e-3"  # ties go to the larger area under the ROC
_DRAWS = {"augmentation": 1, "dropout": 2}  # purposes of random numbers


class Moment(NamedTuple):
    """Where a run is, for a progress bar."""

    step: int  # steps done
    steps: int
    epoch: int  # epochs done
    loss: float
    lr: float
    images_per_s: float
    left_s: float  # at this pace
    measured: dict[str, float] | None  # by validation, just now


Progress = Callable[[Moment], None]


def _silent(_moment: Moment) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a run came to."""

    backbone: nn.Module  # in evaluation mode: of the best validation, or the last where nobody is held out
    step: int
    stopped: bool  # by a signal, before its end
    measured: dict[str, float] | None  # by the validation that was best
    images_per_s: float  # of this process since it started or went on; NaN: it had nothing left to do


def train(
    config: TrainConfig,
    crops: Crops,
    backbone: nn.Module,
    margin: Margin | None,
    folder: Path,
    *,
    held_out: Crops | None = None,
    normalize: bool = True,
    resume: bool = False,
    progress: Progress = _silent,
) -> Result:
    """Train `backbone` on `crops`, in place.

    `folder` gets checkpoints/, best.pt, log.jsonl, curves.png and tensorboard/. SIGINT and SIGTERM end the run after
    the step in work, with a checkpoint. Where torch.distributed is initialised all processes call this with the same
    arguments; then people are spread over them, process 0 writes, and all read the folder. Seeds torch's own generator
    anew at each step.

    Args:
        config: the settings.
        crops: the photos to learn from, with labels.
        backbone: float [N, 3, size, size] to [N, D]; draw its weights under a seed of your own.
        margin: how the softmax is made harder; None: not at all.
        folder: of the run, made when absent.
        held_out: photos of other people, to measure on after each epoch; the best weights are then kept.
        normalize: cosines of features and centres; False: their inner products, the plain softmax.
        resume: go on from the last checkpoint in `folder`, or begin where there is none; any number of processes may.
        progress: called after each step.

    Raises:
        InputError: settings that do not fit the photos, a folder that holds a run already without `resume`, or a
            checkpoint of another run or network.
        ModelError: a checkpoint is damaged.
        TrainingError: the loss is no number any more; the last checkpoint stays.
        RankError: another process is gone; the last checkpoint stays.
        MissingExtraError: a library of the extra `train` is missing.
    """
    steps = open_run(folder, keep=config.keep, resume=resume).steps()
    run = _Run(config, crops, backbone, margin, normalize, folder, held_out)
    if steps:
        run.load(run.checkpoints.path(steps[-1]))
    return run.go(progress)


class _Run:
    """One process's part of a run: networks, optimisers, and the step it is at."""

    def __init__(
        self,
        config: TrainConfig,
        crops: Crops,
        backbone: nn.Module,
        margin: Margin | None,
        normalize: bool,
        folder: Path,
        held_out: Crops | None,
    ) -> None:
        self.ranks = Ranks.here(None)
        self.rank, self.processes = self.ranks.rank, self.ranks.world
        if config.batch % (self.processes * config.accumulate):
            raise InputError(
                f"batch: expected a multiple of processes x accumulate, {self.processes} x {config.accumulate}, "
                f"got {config.batch}"
            )
        for name, faces in (("crops", crops), ("held_out", held_out)):
            if faces is not None and len(faces.people) < 2:
                raise InputError(f"{name}: expected two people or more, got {len(faces.people)}")
        self.config, self.crops, self.folder = config, crops, folder
        self.held_out = None if held_out is None else spread(held_out)
        self.device = device_of(config.device)
        self.backbone: nn.Module = backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.order = Order(crops.labels, batch=config.batch, per_person=config.per_person, seed=config.seed)
        self.steps = self.order.steps(config.epochs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.head = ClassSoftmax(
                _dim(self.backbone, crops.size, self.device),
                len(crops.people),
                margin=margin,
                scale=config.scale,
                sample_rate=config.sample_rate,
                subcenters=config.subcenters,
                label_smoothing=config.label_smoothing,
                normalize=normalize,
            ).to(self.device)
        self._take_from_first(self.backbone)
        self.mean = deepcopy(self.backbone).requires_grad_(False) if config.ema else None
        self.optimizer, self.head_optimizer = _optimizer(config, self.backbone), _optimizer(config, self.head)
        self.checkpoints = Checkpoints(folder / "checkpoints", keep=config.keep)
        self.facts = {
            **config.fixed(),
            "margin": _described(margin),
            "normalize": normalize,
            "people": len(crops.people),
        }
        self.facts |= {"photos": len(crops), "size": crops.size, "border": crops.border, "crops": _digest(crops)}
        self.step, self.best = 0, dict[str, float]()
        self.asked = self.stop = False  # by a signal here; by one at any process

    # The loop

    def go(self, progress: Progress) -> Result:
        started, first, pace = time.perf_counter(), self.step, math.nan
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log() as log, self._stopping_on_signals():
            while self.step < self.steps and not self.stop:
                lr = self.config.lr * self.config.schedule(self.step, steps=self.steps)
                loss, gradient = self._learn(lr)
                self.step += 1
                pace = (self.step - first) * self.config.batch / (time.perf_counter() - started)
                if log and (self.step % self.config.log_every == 0 or self.step == self.steps):
                    log.add(self.step, loss=loss, lr=lr, gradient=gradient, images_per_s=round(pace, 1))
                measured = self._validate(log) if self._is_epoch_end() else None
                if self.step % self.config.checkpoint_every == 0 or self.step == self.steps or self.stop:
                    self._save(log)
                left_s = (self.steps - self.step) * self.config.batch / pace
                epoch = self.order.epochs_done(self.step)
                progress(Moment(self.step, self.steps, epoch, loss, lr, pace, left_s, measured))
        return Result(self._chosen(), self.step, self.step < self.steps, self.best or None, pace)

    def _learn(self, lr: float) -> tuple[float, float]:
        """One step: the loss before it, and the length of the backbone's gradient."""
        config, backbone = self.config, self.backbone
        backbone.train()
        self.head.train()
        torch.manual_seed(generator(config.seed, _DRAWS["dropout"], self.step, self.rank).initial_seed())
        photos = self.order(self.step)
        share = config.batch // self.processes // config.accumulate
        total = 0.0
        for part in range(config.accumulate):
            start = (self.rank * config.accumulate + part) * share
            loss = self._loss(photos, slice(start, start + share)) / config.accumulate
            total += loss.item()
            torch.autograd.backward(loss)
        parameters = [parameter for parameter in backbone.parameters() if parameter.grad is not None]
        self._average([parameter.grad for parameter in parameters if parameter.grad is not None])
        gradient = float(nn.utils.clip_grad_norm_(parameters, config.clip))
        total, self.stop = self._agree(total)
        if not (math.isfinite(total) and math.isfinite(gradient)):
            self._refuse(f"loss {total:.4g}, gradient {gradient:.4g}")
        for optimizer in (self.optimizer, self.head_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        self._follow()
        return total, gradient

    def _loss(self, photos: NDArray[np.int64], share: slice) -> Tensor:
        config = self.config
        index = photos[share]
        images = self.crops.images(index)
        if config.process:
            chance = np.random.default_rng([config.seed, self.step, share.start])
            chosen = np.flatnonzero(chance.random(len(index)) < config.process)
            images[chosen] = process.augment(images[chosen], self.crops.landmarks[index[chosen]], chance)
        pixels = augment(
            torch.from_numpy(images).to(self.device),
            config.augmentation,
            size=self.crops.size,
            draw=generator(config.seed, _DRAWS["augmentation"], self.step),
            share=share,
            total=config.batch,
        ).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(self.crops.labels[index]).to(self.device)
        half = torch.autocast(self.device.type, torch.bfloat16) if config.bf16 else nullcontext()
        with half:
            features = self.backbone(pixels)
        features = features.float()
        try:
            loss: Tensor = self.head(features, labels)
        except InputError:
            if not features.isfinite().all():
                self._refuse("features that are not finite")
            raise
        if config.tar_weight:
            directions = nn.functional.normalize(features)
            pairs = torch.ones(len(index), len(index), dtype=torch.bool, device=self.device).triu(1)
            same = labels[:, None] == labels
            tar = tar_at_far(
                (directions @ directions.T)[pairs],
                same[pairs],
                far=config.tar_far,
                temperature=config.tar_temperature,
            )
            loss = loss + config.tar_weight * (1 - tar)
        return loss

    def _refuse(self, seen: str) -> None:
        steps = self.checkpoints.steps()
        kept = (
            f"the last good checkpoint is {self.checkpoints.path(steps[-1])}" if steps else "there is no checkpoint yet"
        )
        raise TrainingError(
            f"loss: expected a number, got {seen} at step {self.step}; {kept}; a lower lr ({self.config.lr}), a longer "
            "warmup, a lower clip or float32 in place of bf16 help"
        )

    def _follow(self) -> None:
        """Move the running mean of the weights, which at first looks back over a ninth of the run so far."""
        if self.mean is None:
            return
        rate = max(1 - self.config.ema, 9 / (10 + self.step))
        with torch.no_grad():
            for mean, weight in zip(self.mean.parameters(), self.backbone.parameters(), strict=True):
                mean.copy_(update_mean(mean, weight, rate))
            for kept, buffer in zip(self.mean.buffers(), self.backbone.buffers(), strict=True):
                kept.copy_(buffer)

    # Several processes

    def _take_from_first(self, network: nn.Module) -> None:
        """Weights and statistics of process 0."""
        if self.processes == 1:
            return
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.copy_(self.ranks.add(tensor.clone() if self.rank == 0 else torch.zeros_like(tensor)))

    def _average(self, tensors: list[Tensor]) -> None:
        """Over the processes, in place; all in one message."""
        if self.processes == 1 or not tensors:
            return
        flat = self.ranks.add(torch.cat([tensor.flatten() for tensor in tensors])) / self.processes
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def _agree(self, loss: float) -> tuple[float, bool]:
        """The mean loss, and whether any process was told to stop."""
        if self.processes == 1:
            return loss, self.asked
        told = self.ranks.add(torch.tensor([loss, self.asked], dtype=torch.float64, device=self.device))
        return told[0].item() / self.processes, told[1].item() > 0

    # What is kept

    def _is_epoch_end(self) -> bool:
        before, now = (
            self.order.epochs_done(step) // self.config.validate_every for step in (self.step - 1, self.step)
        )
        return now > before or self.step == self.steps

    def _validate(self, log: Log | None) -> dict[str, float] | None:
        if self.held_out is None:
            return None
        self._average_statistics()
        network = self.mean or self.backbone
        measured = measure(embed(network, self.held_out), self.held_out.labels) if self.rank == 0 else {}
        if log:
            log.add(self.step, **measured)
        if self.rank == 0 and _goodness(measured) > _goodness(self.best):
            self.best = measured
            state = {"config": self.facts, "step": self.step, "measured": measured, "backbone": network.state_dict()}
            write_whole(self.folder / "best.pt", state)
        return measured

    def _average_statistics(self) -> None:
        """Each process normalises its own share of a batch; what is kept is the mean of what they saw."""
        self._average([buffer for buffer in self.backbone.buffers() if buffer.is_floating_point()])
        if self.mean is not None:
            for mean, now in zip(self.mean.buffers(), self.backbone.buffers(), strict=True):
                mean.copy_(now)

    def _save(self, log: Log | None) -> None:
        self._average_statistics()
        head = self.head.full_state(self.head_optimizer)  # of all processes
        if log:
            log.flush()
        if self.rank == 0:
            self.checkpoints.save(
                self.step,
                {
                    "config": self.facts,
                    "step": self.step,
                    "best": self.best,
                    "backbone": self.backbone.state_dict(),
                    "mean": None if self.mean is None else self.mean.state_dict(),
                    "head": head,
                    "optimizer": self.optimizer.state_dict(),
                },
            )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = read(path)
        refuse_other(path, state["config"], self.facts)
        load_into(self.backbone, state["backbone"], path, "backbone")
        if self.mean is not None:
            load_into(self.mean, state["mean"], path, "backbone's running mean")
        self.head.load_full_state(state["head"], self.head_optimizer)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]

    def _chosen(self) -> nn.Module:
        """The network to keep, on every process the same."""
        network = self.mean or self.backbone
        if self.best:
            load_into(network, read(self.folder / "best.pt")["backbone"], self.folder / "best.pt", "backbone")
        self._take_from_first(network)
        return network.eval()

    @contextmanager
    def _log(self) -> Iterator[Log | None]:
        if self.rank:
            yield None
            return
        with Log(self.folder, step=self.step) as log:
            try:
                yield log
            finally:
                log.draw()  # also of a run that fails: its curves tell why

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # only that one may answer signals
            yield
            return

        def note(_number: int, _frame: Any) -> None:
            self.asked = True

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _dim(backbone: nn.Module, size: int, device: torch.device) -> int:
    """D, by a look at what two black crops become; the network is left as it was.

    Raises:
        InputError: the backbone takes no such crops, or does not return features.
    """
    training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            features = backbone(torch.zeros(2, 3, size, size, device=device))
    except RuntimeError as error:
        raise InputError(f"backbone: expected to take crops of {size} px, got: {error}") from error
    finally:
        backbone.train(training)
    expect("features", features, "float", 2, None)
    return int(features.shape[1])


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """For an optimizer: weights of products decay; biases, slopes and what normalises do not."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if isinstance(module, ClassSoftmax):
        return SparseSGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def device_of(name: str) -> torch.device:
    """A device by its name.

    Raises:
        InputError: torch has no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device: expected one that torch has here, got {name!r} ({reason})") from error
    return device


def _digest(crops: Crops) -> str:
    """Tells photos from other photos: whose they are, where the landmarks lie, and the pixels of some."""
    some = np.linspace(0, len(crops) - 1, 64).astype(np.int64)
    parts = (crops.labels, crops.landmarks, crops.images(some))
    return sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:16]


def _described(margin: Margin | None) -> str:
    """Its name and its numbers."""
    numbers = {name: value for name, value in vars(margin).items() if type(value) in (int, float)} if margin else {}
    return f"{type(margin).__name__}({', '.join(f'{name}={value}' for name, value in numbers.items())})"


def _goodness(measured: dict[str, float]) -> tuple[float, float]:
    """Higher is better; below all where nothing was measured."""
    return measured.get(_BEST, -1.0), measured.get("AUC", -1.0)
