"""The distances before the angles: contrastive, triplet and center loss.

N: samples, D: features. Distances are Euclidean, between features as they are; normalise them first to stay on the
sphere, as FaceNet does. Every loss finds its pairs or triplets within the batch.
"""

import torch
from torch import Tensor, nn

from visavis.blocks.approximation import update_mean
from visavis.blocks.margins._curves import check_labels, check_number, wide
from visavis.errors import InputError, expect

__all__ = ["CenterLoss", "center_loss", "contrastive", "triplet_batch_hard", "triplet_semi_hard"]


def _distances(features: Tensor) -> Tensor:
    """[N, N] distances from the differences themselves; where two features coincide the gradient is 0."""
    expanded = wide(features)
    return torch.cdist(expanded, expanded, compute_mode="donot_use_mm_for_euclid_dist")


def _pairs(features: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, who is another photo of the same class, and who is of another: [N, N] each."""
    check_number("margin", margin, 0.0, 1e6)
    expect("features", features, "float", None, None)
    expect("labels", labels, "int64", len(features))
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return _distances(features), same & ~itself, ~same


def _mean_where(losses: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp_min(1)


def contrastive(features: Tensor, labels: Tensor, *, margin: float = 1.0) -> Tensor:
    """Pull the pairs of one class together, push the others `margin` apart: ``d^2 / 2`` or ``[margin - d]+^2 / 2``.

    Args:
        features: [N, D] float.
        labels: [N] int64, any numbers.
        margin: distance, not negative.

    Returns:
        The mean over all pairs of the batch, in float32 for half precision; 0 if there is none.

    Raises:
        TensorError: `features` is not float [N, D], or `labels` not int64 [N].
        InputError: `margin` is out of range.

    Source: Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, eq. 4.

    >>> import torch
    >>> contrastive(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), torch.tensor([0, 0, 1]), margin=5.0)
    tensor(8.3333)
    """
    distances, same, different = _pairs(features, labels, margin)
    gap = torch.where(same, distances, (margin - distances).clamp_min(0.0))
    return _mean_where(gap.square() / 2.0, same | different)


def triplet_batch_hard(features: Tensor, labels: Tensor, *, margin: float = 0.2) -> Tensor:
    """Each sample's farthest of its own class against its nearest of the others: ``[margin + d_same - d_other]+``.

    Args, returns and errors as `contrastive`; the mean is over the samples that have both.

    Source: Hermans et al., In Defense of the Triplet Loss, 2017, arXiv:1703.07737, eq. 5.

    >>> import torch
    >>> triplet_batch_hard(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]), margin=1.5)
    tensor(0.2500)
    """
    distances, same, different = _pairs(features, labels, margin)
    farthest, nearest = _largest(distances, same), -_largest(-distances, different)
    return _mean_where((margin + farthest - nearest).clamp_min(0.0), same.any(1) & different.any(1))


def _largest(values: Tensor, among: Tensor) -> Tensor:
    """[...] the largest along the last axis of those marked; 0 where none is."""
    if values.shape[-1] == 0:
        return values.sum(-1)
    largest = torch.where(among, values, -torch.inf).amax(-1)
    return torch.where(among.any(-1), largest, 0.0)


def triplet_semi_hard(features: Tensor, labels: Tensor, *, margin: float = 0.2) -> Tensor:
    """Each pair of one class against the nearest other that is farther than the pair: ``[margin + d^2 - d_other^2]+``.

    The hardest of all may make a training collapse. A pair with nobody farther, which the paper leaves open, takes the
    farthest there is.

    Args, returns and errors as `contrastive`; the mean is over the pairs (n, p) of one class that have an other.

    Source: Schroff et al., FaceNet, CVPR 2015, arXiv:1503.03832, eq. 1 and 4.

    >>> import torch
    >>> triplet_semi_hard(torch.tensor([[0.0], [1.0], [0.5], [1.5]]), torch.tensor([0, 0, 1, 1]), margin=1.5)
    tensor(1.2500)
    """
    distances, same, different = _pairs(features, labels, margin)
    squared = distances.square()
    others = torch.where(different, squared, torch.inf).sort(1).values  # each row ends in at least one infinity: itself
    place = torch.searchsorted(others.detach(), squared.detach(), right=True)
    nearest = others.gather(1, place.clamp_max(len(labels) - 1))  # a NaN is placed beyond the end
    other = torch.where(nearest.isfinite(), nearest, _largest(squared, different)[:, None])
    return _mean_where((margin + squared - other).clamp_min(0.0), same & different.any(1)[:, None])


def center_loss(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Half the squared distance from each feature to the centre of its class; beside a softmax, never alone.

    Args:
        features: [N, D] float.
        labels: [N] int64 in [0, C).
        centers: [C, D] float.

    Returns:
        The mean, in float32 for half precision; 0 for an empty batch.

    Raises:
        TensorError: a shape or dtype is wrong.
        InputError: a label outside [0, C).

    Source: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016, eq. 2, which
    sums where we take the mean.

    >>> import torch
    >>> center_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), torch.zeros(2, 2))
    tensor(12.5000)
    """
    expect("features", features, "float", None, None)
    expect("centers", centers, "float", None, features.shape[1])
    check_labels(labels, len(features), len(centers))
    gaps = wide(features) - centers[labels]
    return gaps.square().sum() / (2 * max(len(features), 1))


class CenterLoss(nn.Module):
    """`center_loss` with its centres, which follow the features: running means, not trained by the gradient.

    A class with n samples in the batch moves by ``rate * n / (n + 1)`` of the way to their mean, after the loss is
    taken, and in training only. Centres lie in a buffer and start at 0.

    Source: as `center_loss`, eq. 4 and algorithm 1.
    """

    centers: Tensor

    def __init__(self, features: int, classes: int, *, rate: float = 0.5) -> None:
        if features < 1 or classes < 1:
            raise InputError(f"features, classes: expected positive numbers, got {features} and {classes}")
        check_number("rate", rate, 0.0, 1.0)
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(classes, features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """[N, D] features and [N] labels to the mean loss."""
        loss = center_loss(features, labels, self.centers)
        if self.training:
            with torch.no_grad():
                gaps = (features - self.centers[labels]).to(self.centers.dtype)
                counted = gaps.isfinite().all(1, keepdim=True)  # a NaN shows in the loss and shall not live on here
                total = torch.zeros_like(self.centers).index_add(0, labels, torch.where(counted, gaps, 0.0))
                count = self.centers.new_zeros(len(self.centers), 1).index_add(0, labels, counted.to(total.dtype))
                self.centers = update_mean(self.centers, self.centers + total / (count + 1.0), self.rate)
        return loss
