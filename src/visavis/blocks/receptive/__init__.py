"""Exact receptive fields: which input positions can reach each position of each layer, of any network.

found = receptive.fields(model, (3, 224, 224))      # without weights: nothing is computed
print(found)                                        # a line a layer: size, stride, offset, padding share
found["layer4.1.conv2"].axes[0].low                 # the exact interval of every position, per axis
found.verify()                                      # against the network itself, by NaNs in its input
"""

from visavis.blocks.receptive.chains import Window, bottom_up, required_depth, top_down
from visavis.blocks.receptive.effective import Effective, effective
from visavis.blocks.receptive.fields import Axis, Fields, Layer, Phase, fields
from visavis.blocks.receptive.oracle import Mismatch, Verification, measure

__all__ = [
    "Axis",
    "Effective",
    "Fields",
    "Layer",
    "Mismatch",
    "Phase",
    "Verification",
    "Window",
    "bottom_up",
    "effective",
    "fields",
    "measure",
    "required_depth",
    "top_down",
]
