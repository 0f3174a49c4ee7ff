"""Softmax over millions of classes: one pass over the classes, sampled or whole, on one machine or many.

N: samples, C: classes, K: sub-centres of a class, D: features.
"""

from visavis.blocks.classes.softmax import ClassSoftmax
from visavis.blocks.classes.sparse import SparseSGD

__all__ = ["ClassSoftmax", "SparseSGD"]
