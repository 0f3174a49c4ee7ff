"""Margin losses: a softmax, or a pair of photos, that asks the true class for more than being first.

Most methods here are one curve: the cosine between a feature and the centre of its class goes in, a smaller number
comes out, and the softmax has to make up the difference. N: samples, C: classes. Angles are radians.
"""

from visavis.blocks.margins.adaptive import (
    AdaFace,
    CurricularFace,
    ElasticCosFace,
    ElasticFace,
    MagFace,
    adaface,
    curricularface,
    elasticface,
    magface,
)
from visavis.blocks.margins.angular import (
    ArcFace,
    CombinedMargin,
    CosFace,
    LiArcFace,
    NormFace,
    arcface,
    combined_margin,
    cosface,
    li_arcface,
    normface,
    subcenter,
)
from visavis.blocks.margins.binary import SphereFace2, UniFace, sphereface2, uniface
from visavis.blocks.margins.circle import Circle, circle, circle_pairs
from visavis.blocks.margins.euclidean import (
    CenterLoss,
    center_loss,
    contrastive,
    triplet_batch_hard,
    triplet_semi_hard,
)
from visavis.blocks.margins.margin import Margin
from visavis.blocks.margins.multiplicative import (
    LSoftmax,
    SphereFace,
    SphereFaceR,
    chebyshev,
    lsoftmax,
    sphereface,
    sphereface_r,
)

__all__ = [
    "AdaFace",
    "ArcFace",
    "CenterLoss",
    "Circle",
    "CombinedMargin",
    "CosFace",
    "CurricularFace",
    "ElasticCosFace",
    "ElasticFace",
    "LSoftmax",
    "LiArcFace",
    "MagFace",
    "Margin",
    "NormFace",
    "SphereFace",
    "SphereFace2",
    "SphereFaceR",
    "UniFace",
    "adaface",
    "arcface",
    "center_loss",
    "chebyshev",
    "circle",
    "circle_pairs",
    "combined_margin",
    "contrastive",
    "cosface",
    "curricularface",
    "elasticface",
    "li_arcface",
    "lsoftmax",
    "magface",
    "normface",
    "sphereface",
    "sphereface2",
    "sphereface_r",
    "subcenter",
    "triplet_batch_hard",
    "triplet_semi_hard",
    "uniface",
]
