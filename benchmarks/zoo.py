"""Importing torchvision and timm, whose networks are what the blocks that read networks are tried on.

    from benchmarks.zoo import timm, torchvision     # in tests
    from zoo import timm, torchvision                # in benchmarks

The torchvision of PyPI is compiled for a CUDA build of torch. Beside a CPU build its compiled operators do not load,
and importing it fails at the first that it describes. Its networks do not need them: told of their names, it imports.
"""

import importlib

import torch

__all__ = ["timm", "torchvision"]

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _operators = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision = importlib.import_module("torchvision")

import timm
