"""Attention without a softmax: linear in the length of the sequence.

Shapes are those of `scaled_dot_product_attention`: [..., L, D] queries, [..., M, D] keys, [..., M, E] values, behind
batch, heads, or whatever there is.
"""

from visavis.blocks.attention.delta import delta
from visavis.blocks.attention.features import Hedgehog, RandomFeatures, cosine_features, elu_features
from visavis.blocks.attention.functional import FeatureMap, FeatureName, State, linear
from visavis.blocks.attention.module import Distillation, LinearAttention, convert, distill

__all__ = [
    "Distillation",
    "FeatureMap",
    "FeatureName",
    "Hedgehog",
    "LinearAttention",
    "RandomFeatures",
    "State",
    "convert",
    "cosine_features",
    "delta",
    "distill",
    "elu_features",
    "linear",
]
