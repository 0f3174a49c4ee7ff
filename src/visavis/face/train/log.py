"""What a run has gone through: log.jsonl for programs, TensorBoard's files, curves.png for the eye."""

import importlib
import json
import math
import os
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from visavis.errors import MissingExtraError

__all__ = ["Log", "draw_curves", "library", "read"]

Entry = dict[str, float | int]


def library(name: str) -> ModuleType:
    """Import a library of the extra `train`, or say how to get it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f'{name}: expected it to be installed; pip install "visavis[train]"') from error


class Log:
    """The log of one run; use it in a `with`.

    An entry is a line of log.jsonl, ``{"step": 20, "loss": 1.5, ...}``, and a point of each of TensorBoard's curves.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        """Go on with the log in `folder` after `step` steps: what a killed run noted beyond that is taken out.

        Raises:
            MissingExtraError: tensorboardX or matplotlib is not installed.
        """
        library("matplotlib")  # now, not when hours are over
        writer = library("tensorboardX").SummaryWriter
        self._path = folder / "log.jsonl"
        self.entries = [entry for entry in read(self._path) if entry["step"] <= step]
        draft = self._path.with_name(f"{self._path.name}.part")
        draft.write_text("".join(f"{json.dumps(entry)}\n" for entry in self.entries))
        draft.replace(self._path)
        self._folder = folder
        self._stream = self._path.open("a")
        # TensorBoard drops what earlier files hold from that step on; their names tell no more than the second.
        self._board = writer(str(folder / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._board.close()

    def add(self, step: int, **values: float) -> None:
        """Note some numbers of a step."""
        entry: Entry = {"step": step, **values}
        self.entries.append(entry)
        self._stream.write(json.dumps(entry) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """To disk, before a checkpoint says that these steps are done."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._board.flush()

    def draw(self) -> None:
        """Write curves.png."""
        draw_curves(self.entries, self._folder / "curves.png")


def read(path: Path) -> list[Entry]:
    """The entries of a log.jsonl; a last line that was cut by a kill is none."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def draw_curves(entries: list[Entry], path: Path) -> None:
    """Draw loss, learning rate and what validation measured over the steps, one below the other."""
    from matplotlib.figure import Figure

    panels: list[tuple[str, dict[str, str]]] = [
        ("loss", {"loss": "each batch", "smooth": "running mean"}),
        ("learning rate", {"lr": ""}),
        ("people held out", {name: name for name in ("TAR at FAR 1e-3", "TAR at FAR 1e-2", "AUC")}),
    ]
    losses = _smoothed([entry for entry in entries if "loss" in entry])
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True)
    for axis, (title, curves) in zip(axes, panels, strict=True):
        for name, label in curves.items():
            points = [(entry["step"], entry[name]) for entry in losses + entries if name in entry]
            if points:
                axis.plot(*zip(*points, strict=True), label=label, alpha=0.35 if label == "each batch" else 1.0)
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        if len(axis.lines) > 1:
            axis.legend()
    axes[-1].set_xlabel("step")
    draft = path.with_name(f"{path.name}.part")
    figure.savefig(draft, format="png", dpi=90)
    draft.replace(path)


def _smoothed(entries: list[Entry]) -> list[Entry]:
    """A running mean over a twentieth of the entries."""
    rate = min(1.0, 20 / max(1, len(entries)))
    mean, smooth = math.nan, list[Entry]()
    for entry in entries:
        mean = entry["loss"] if math.isnan(mean) else mean + rate * (entry["loss"] - mean)
        smooth.append({"step": entry["step"], "smooth": mean})
    return smooth
