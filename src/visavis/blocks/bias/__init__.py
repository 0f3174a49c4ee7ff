"""Biases: thresholds moved to the other side, those that do nothing found, those that can be folded away folded.

print(bias.redundant(model, example))               # every bias that cannot change the output, and why
folded, report = bias.fold(model.eval(), example)   # the same outputs with fewer layers
"""

from visavis.blocks.bias._surgery import Fold
from visavis.blocks.bias.drawing import draw
from visavis.blocks.bias.folding import FoldReport, fold
from visavis.blocks.bias.redundancy import Redundancy, RedundantBias, redundant
from visavis.blocks.bias.remnants import Clamp, Shift

__all__ = ["Clamp", "Fold", "FoldReport", "Redundancy", "RedundantBias", "Shift", "draw", "fold", "redundant"]
