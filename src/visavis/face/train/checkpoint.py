"""Checkpoints of a run: each whole or not there, whatever kills the process and whenever."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visavis.errors import InputError, ModelError

__all__ = ["Checkpoints", "load_into", "open_run", "read", "refuse_other", "write_whole"]

State = dict[str, Any]

_NAME = re.compile(r"step-(\d{8})\.pt")


class Checkpoints:
    """The newest few checkpoints of one run, in a folder."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """`keep`: how many, at least 1. The folder is made by the first `save`."""
        if keep < 1:
            raise InputError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, rising."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []  # noqa: PTH208  (names are what is wanted)
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def save(self, step: int, state: State) -> Path:
        """Write a checkpoint, then delete those that are too many, and what a killed process left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step)
        write_whole(path, state)
        for old in self.steps()[: -self._keep]:
            self.path(old).unlink()
        for draft in self.folder.glob("*.part"):
            draft.unlink()
        return path

    def load(self, step: int) -> State:
        """What `save` was given, on the CPU.

        Raises:
            ModelError: the file is damaged, or no checkpoint.
        """
        return read(self.path(step))


def open_run(folder: Path, *, keep: int, resume: bool) -> Checkpoints:
    """The checkpoints of a run's folder, in which there may be none unless the run is to go on.

    Raises:
        InputError: there are some, and `resume` is False.
    """
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep)
    if checkpoints.steps() and not resume:
        raise InputError(
            f"folder: expected none that holds a run, got {folder}; go on with it by --resume (resume=True)"
        )
    return checkpoints


def write_whole(path: Path, state: State) -> None:
    """Write so that under the name `path` there is ever either the old file or the whole new one."""
    draft = path.with_name(f"{path.name}.part")
    with draft.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())  # a power cut must not leave the name without its bytes
    draft.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # nor take the name back
        finally:
            os.close(folder)


def read(path: Path) -> State:
    """What `write_whole` wrote; nothing but tensors and plain values is ever read from a file.

    Raises:
        ModelError: the file is damaged, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch each raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path}: expected a checkpoint, got a file that cannot be read ({reason}); delete it to go on from the "
            "one before"
        ) from error
    if not isinstance(state, dict) or "config" not in state:
        raise ModelError(f"{path}: expected a checkpoint of a training run, got another file of torch's")
    return state


def refuse_other(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """A checkpoint goes on with the run it is of, not with another.

    Raises:
        InputError: names the settings that differ.
    """
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        told = "; ".join(f"{name}: expected {saved.get(name)!r}, got {wanted.get(name)!r}" for name in differing)
        raise InputError(
            f"{path}: is a checkpoint of a run with other settings ({told}); name another folder, or those"
        )


def load_into(module: nn.Module, state: Mapping[str, Any], path: Path, what: str) -> None:
    """`load_state_dict`, with an error that tells what is of another shape.

    Raises:
        InputError: the checkpoint is of another network.
    """
    own = module.state_dict()
    told = [f"{name}: expected {_shape(own[name])}, got none" for name in own if name not in state]
    told += [f"{name}: expected none, got {_shape(state[name])}" for name in state if name not in own]
    told += [
        f"{name}: expected {_shape(own[name])}, got {_shape(state[name])}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if told:
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        raise InputError(f"{path}: expected the {what} of this run, got another ({'; '.join(told[:3])}{more})")
    module.load_state_dict(state)


def _shape(tensor: torch.Tensor) -> list[int]:
    return list(tensor.shape)
