"""Importing torchvision and timm, and which of their networks the blocks that read networks are tried on.

from benchmarks.zoo import timm, torchvision     # in tests
from zoo import of_torchvision                   # in benchmarks
"""

import importlib
from functools import partial
from typing import Any

import torch
from torch import nn

from visavis.app.networks import prepare_torchvision

__all__ = ["Candidate", "of_timm", "of_torchvision", "timm", "torchvision"]

prepare_torchvision()
timm: Any = importlib.import_module("timm")
torchvision: Any = importlib.import_module("torchvision")

Candidate = tuple[int, str, partial[nn.Module], int]
"""Parameters, name, what makes it, the side of its images."""


def of_torchvision() -> list[Candidate]:
    """Classification and segmentation, without weights."""
    found = []
    for module, options in ((torchvision.models, {}), (torchvision.models.segmentation, {"weights_backbone": None})):
        for name in torchvision.models.list_models(module=module):
            size = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
            side = 299 if name == "inception_v3" else 224
            make = partial(torchvision.models.get_model, name, weights=None, **options)
            found.append((size, f"torchvision/{name}", make, side))
    return found


def of_timm(module: str, first: int) -> list[Candidate]:
    """Of the first few of a source file those that read colour images, small ones first."""
    found = []
    for name in timm.list_models(module=module)[:first]:
        with torch.device("meta"):
            try:
                model = timm.create_model(name)
            except Exception:  # some look at numbers when they are made
                continue
        channels, _, side = model.default_cfg["input_size"]
        if channels == 3:
            size = sum(parameter.numel() for parameter in model.parameters())
            found.append((size, f"timm/{name}", partial(timm.create_model, name), side))
    return sorted(found, key=lambda each: each[0])
