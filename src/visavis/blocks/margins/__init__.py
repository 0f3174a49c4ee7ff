"""Margin losses: a softmax, or a pair of photos, that asks the true class for more than being first.

Most methods here are one curve: the cosine between a feature and the centre of its class goes in, a smaller number
comes out, and the softmax has to make up the difference. N: samples, C: classes. Angles are radians.
"""

from visavis.blocks.margins.angular import ArcFace, arcface
from visavis.blocks.margins.margin import Margin

__all__ = ["ArcFace", "Margin", "arcface"]
