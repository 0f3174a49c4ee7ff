"""Metrics of overlap, for segmentation masks of any rank, smoothed, each beside its exact twin.

Logits, labels and averages as in `classification`: a pixel is an answer, a voxel is one, and with ``average="binary"``
all of them together are one shape. For one value an image, map over the images:
``torch.vmap(partial(dice, temperature=0.1))``.
"""

from torch import Tensor

from visavis.blocks.surrogates._decisions import Average, averaged, counts, ratio
from visavis.blocks.surrogates.classification import exact_f1, f1

__all__ = ["dice", "exact_dice", "exact_jaccard", "jaccard"]


def jaccard(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / (PP + P - TP)``, intersection over union, IoU, with a gradient. Arguments and errors as `f_beta`.

    The distance from `exact_jaccard` is at most ``E / P``, E as in `f_beta`. With ``zero_division=1`` an empty mask
    that is said to be empty is perfect, and the gradient drives the soft union towards 0.

    Source: Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation,
    ISVC 2016.

    >>> import torch
    >>> logits = torch.tensor([[3.0, 2.0], [-1.0, -2.0]])
    >>> jaccard(logits, torch.tensor([[True, False], [True, False]]), temperature=0.1)
    tensor(0.3333)
    """
    return _jaccard(logits, labels, temperature, average, dim, mask, zero_division)


def exact_jaccard(
    logits: Tensor,
    labels: Tensor,
    *,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``TP / (PP + P - TP)`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> import torch
    >>> exact_jaccard(torch.tensor([3.0, 2.0, -1.0]), torch.tensor([True, False, False]))
    tensor(0.5000)
    """
    return _jaccard(logits, labels, None, average, dim, mask, zero_division)


def dice(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``2 TP / (PP + P)``: what segmentation calls Dice is `f1`, pixel by pixel. Arguments and errors as `f_beta`.

    The paper squares what it sums below; we do not, so that it is `f1` at every temperature.

    Source: Milletari, Navab and Ahmadi, V-Net, 3DV 2016, arXiv:1606.04797.

    >>> import torch
    >>> dice(torch.tensor([[3.0, 2.0], [-1.0, -2.0]]), torch.tensor([[True, False], [True, False]]), temperature=0.1)
    tensor(0.5000)
    """
    return f1(logits, labels, temperature=temperature, average=average, dim=dim, mask=mask, zero_division=zero_division)


def exact_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    average: Average = "binary",
    dim: int = -1,
    mask: Tensor | None = None,
    zero_division: float = 0.0,
) -> Tensor:
    """``2 TP / (PP + P)`` of the argmax, or of logits above 0. Arguments and errors as `f_beta`.

    >>> import torch
    >>> exact_dice(torch.tensor([3.0, 2.0, -1.0]), torch.tensor([True, False, False]))
    tensor(0.6667)
    """
    return exact_f1(logits, labels, average=average, dim=dim, mask=mask, zero_division=zero_division)


def _jaccard(
    logits: Tensor,
    labels: Tensor,
    temperature: float | None,
    average: Average,
    dim: int,
    mask: Tensor | None,
    zero_division: float,
) -> Tensor:
    right, decided, actual, slack = counts(logits, labels, temperature, average, dim, mask)
    return averaged(ratio(right, decided + actual - right, slack, zero_division), actual, average).to(logits.dtype)
