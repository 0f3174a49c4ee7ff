"""From photos of known people to a pack: cut, train, export. Under torchrun by as many processes as it starts."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from visavis.blocks.margins import Margin
from visavis.face.models import Licence, Pack
from visavis.face.train.adapt import split_people
from visavis.face.train.checkpoint import open_run
from visavis.face.train.config import TrainConfig
from visavis.face.train.data import Crops, crops, template_points
from visavis.face.train.export import Exported, described, export
from visavis.face.train.log import library
from visavis.face.train.trainer import Moment, Result, device_of, train

__all__ = ["Trained", "train_on"]

_ANSWER_WITHIN = timedelta(minutes=15)  # a process that does not is taken for dead; that one died is known at once
_CUT_WITHIN = timedelta(days=7)


def _silent(_done: int, _total: int | None) -> None:
    """No progress shown."""


def _quiet(_moment: Moment) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of it."""

    result: Result
    crops: Crops  # all, of those held out too
    learned: int  # people
    held_out: int  # people
    exported: Exported | None  # None: the run was stopped before its end, or this is not process 0 of several
    process: int  # of several, from 0


def train_on(
    data: Path,
    folder: Path,
    config: TrainConfig,
    network: Callable[[int], nn.Module],
    margin: Margin | None,
    pack: Pack,
    *,
    name: str,
    licence: Licence,
    size: int = 112,
    held_out: float = 0.1,
    normalize: bool = True,
    cache: Path | None = None,
    skip_bad: bool = False,
    resume: bool = False,
    workers: int | None = None,
    accept_licence: bool = False,
    photos_progress: Callable[[int, int | None], None] = _silent,
    progress: Callable[[Moment], None] = _quiet,
) -> Trained:
    """Train a recogniser on the people of a folder or gallery, and write it as a pack into `folder`.

    Args:
        data: a folder with a sub-folder of photos for each person, or a gallery.
        folder: of the run, made when absent; errors and files as `trainer.train`.
        config: the settings; their seed is also that of the network's first weights, and of who is held out.
        network: makes the backbone for crops of so many px.
        margin: how the softmax is made harder; None: not at all.
        pack: its detector finds the faces, and goes into the new pack.
        name: of the new model.
        licence: of its weights, which hangs on the photos.
        size: of the crops, px.
        held_out: share of the people on whom validation measures after each epoch; 0: the last weights are kept.
        normalize: cosines of features and centres; False: their inner products.
        cache: where crops are kept; `folder`/crops when absent.
        skip_bad: leave out photos and people that cannot be used; errors as `data.crops`.
        resume: go on from the last checkpoint.
        workers: processes that cut the photos.
        accept_licence: of the detector, where it is for research only.
        photos_progress: called with the number of photos cut and their total.
        progress: called after each step.
    """
    for needed in ("matplotlib", "onnxscript", "tensorboardX"):  # all that can be told before photos are cut
        library(needed)
    open_run(folder, keep=config.keep, resume=resume)
    device = device_of(config.device)
    template: str | tuple[tuple[float, float], ...] = "arcface-112"
    if size != 112:
        template = tuple((float(x), float(y)) for x, y in template_points(size))
    described(name=name, licence=licence, size=size, template=template)
    torch.manual_seed(config.seed)
    backbone = network(size)
    with _processes(device) as (process, wait):
        # The first process cuts, the others find all in the cache.
        if process > 0:
            wait()
        faces = crops(
            data,
            pack,
            cache=cache or folder / "crops",
            size=size,
            border=-(-size // 12),  # what the augmentation may reach beyond the crop
            skip_bad=skip_bad,
            workers=workers,
            accept_licence=accept_licence,
            progress=photos_progress,
        )
        if process == 0:
            wait()
        learners, judges = np.arange(len(faces.people)), np.empty(0, np.int64)
        if held_out:
            learners, judges = split_people(len(faces.people), held_out, config.seed)
        result = train(
            config,
            faces.of(learners),
            backbone,
            margin,
            folder,
            held_out=faces.of(judges) if held_out else None,
            normalize=normalize,
            resume=resume,
            progress=progress,
        )
        exported = None
        if process == 0 and not result.stopped:
            some = slice(faces.border, faces.border + size)
            exported = export(
                result.backbone,
                folder,
                name=name,
                licence=licence,
                size=size,
                template=template,
                detector=pack.detector,
                crops=faces.images(slice(0, 16))[:, some, some],
            )
    return Trained(result, faces, len(learners), len(judges), exported, process)


@contextmanager
def _processes(device: torch.device) -> Iterator[tuple[int, Callable[[], None]]]:
    """The number of this process among those that torchrun started, 0 without it, and a wait for all of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield 0, lambda: None
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_ANSWER_WITHIN)
    patient = dist.new_group(backend="gloo", timeout=_CUT_WITHIN)
    try:
        yield dist.get_rank(), lambda: dist.barrier(patient)
    finally:
        dist.destroy_process_group()
