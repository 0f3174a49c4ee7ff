"""The settings of a training run."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from visavis.errors import InputError
from visavis.face.train.augment import Augmentation
from visavis.face.train.schedule import Schedule

__all__ = ["TrainConfig"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a backbone is trained; with the photos, the backbone and the margin it fixes the result."""

    epochs: float = 30.0  # times that each photo is seen
    batch: int = 128  # photos of a step, of all processes together
    accumulate: int = 1  # parts that a process's share of the batch is worked off in, where memory is short
    per_person: int = 0  # 0: photos are drawn one by one; else in groups of so many of one person

    scale: float | None = None  # gain on the cosines before the softmax; None: 64, or 1 where lengths take part
    sample_rate: float = 1.0  # share of the people that a step's softmax is taken over (Partial FC)
    subcenters: int = 1  # centres a person; more than one lets mislabelled photos have one of their own
    label_smoothing: float = 0.0  # share of the goal that is spread evenly over all people
    tar_weight: float = 0.0  # of 1 - TAR at a FAR, smoothed, over the pairs of a batch; 0: not used
    tar_far: float = 1e-2  # that FAR; a batch of n photos knows none below 2 / n**2
    tar_temperature: float = 0.05  # of that smoothing, in units of a cosine

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1  # the highest; .1 suits sgd, .001 adamw
    momentum: float = 0.9  # of sgd
    weight_decay: float = 5e-4  # not of biases and normalisations
    schedule: Schedule = field(default_factory=Schedule)  # of the learning rate
    clip: float = 5.0  # longest gradient of the backbone; a longer one is shortened to it
    ema: float = 0.0  # decay of a running mean of the weights that is validated and kept instead; 0: none

    augmentation: Augmentation = field(default_factory=Augmentation)
    process: float = 0.0  # chance of a photo to be turned, lit, covered, blurred and so on by `face.process.augment`
    seed: int = 0  # of the centres, the order of the photos, their augmentation and all else that is drawn

    device: str = "cpu"  # as torch names it
    bf16: bool = False  # the backbone computes in bfloat16, where the device is quick at it
    validate_every: int = 1  # epochs
    checkpoint_every: int = 200  # steps; also at the end, and when the run is stopped
    keep: int = 2  # checkpoints
    log_every: int = 10  # steps

    def __post_init__(self) -> None:
        limits = {
            **dict.fromkeys(("epochs", "lr", "clip", "tar_temperature"), (0.0, math.inf)),
            **dict.fromkeys(("batch", "accumulate", "subcenters", "validate_every"), (0, math.inf)),
            **dict.fromkeys(("checkpoint_every", "keep", "log_every"), (0, math.inf)),
        }
        for name, (low, high) in limits.items():
            if not low < getattr(self, name) < high:  # NaN fails too
                raise InputError(f"{name}: expected more than {low}, got {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "ema", "tar_far"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name}: expected a share in [0, 1), got {getattr(self, name)}")
        if not 0.0 <= self.process <= 1.0:
            raise InputError(f"process: expected a chance in [0, 1], got {self.process}")
        for name in ("weight_decay", "tar_weight", "per_person", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0.0 < self.sample_rate <= 1.0:
            raise InputError(f"sample_rate: expected a share in (0, 1], got {self.sample_rate}")
        if self.optimizer not in ("sgd", "adamw"):
            raise InputError(f"optimizer: expected sgd or adamw, got {self.optimizer!r}")
        if self.optimizer == "adamw" and self.sample_rate < 1:
            raise InputError(
                f"optimizer: expected sgd where people are sampled, got adamw with sample_rate {self.sample_rate}"
            )
        if self.tar_weight and self.per_person < 2:
            raise InputError(
                f"per_person: expected at least 2 with tar_weight, got {self.per_person}: a batch of photos drawn one "
                "by one has hardly a pair of one person"
            )

    def fixed(self) -> dict[str, Any]:
        """What a checkpoint must agree with: all that changes the result, as plain values."""
        free = ("device", "validate_every", "checkpoint_every", "keep", "log_every")
        return {name: value for name, value in asdict(self).items() if name not in free}
