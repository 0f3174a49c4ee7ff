"""How well a network in training tells people apart whom it has not seen.

N: faces, D: features.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visavis.errors import InputError
from visavis.face.evaluate import roc
from visavis.face.train.augment import to_input
from visavis.face.train.data import Crops

__all__ = ["embed", "measure", "spread"]

_MOST = 3000  # faces, or hardly more, whose 4.5 million pairs are sorted in seconds


def embed(backbone: nn.Module, crops: Crops, *, batch: int = 256, flip: bool = False) -> NDArray[np.float32]:
    """The features of crops, without a change to the network.

    Args:
        backbone: from float [N, 3, size, size] as `to_input` makes it to [N, D].
        crops: N of them.
        batch: faces at once.
        flip: average with the mirrored crop's features, for twice the cost.

    Returns:
        float32 [N, D] of unit length.
    """
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    parts = []
    try:
        with torch.inference_mode():
            for start in range(0, len(crops), batch):
                images = torch.from_numpy(crops.images(slice(start, start + batch))).to(device)
                pixels = to_input(images, size=crops.size).contiguous(memory_format=torch.channels_last)
                features = backbone(pixels).float()
                if flip:
                    features = features + backbone(pixels.flip(3)).float()
                parts.append(nn.functional.normalize(features).cpu())
    finally:
        backbone.train(training)
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def spread(crops: Crops) -> Crops:
    """Of many faces those of some people, evenly spread over all: enough to measure on, and few enough to sort."""
    step = -(-len(crops) // _MOST)
    return crops if step == 1 else crops.of(np.arange(0, len(crops.people), step))


def measure(features: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """TAR at two FARs and the area under the ROC, over every pair of faces.

    Args:
        features: float32 [N, D] of unit length.
        labels: int64 [N], who each face is.

    Raises:
        InputError: no pair of one person, or none of two.
    """
    first, second = np.triu_indices(len(features), 1)
    similarities, same = (features @ features.T)[first, second], labels[first] == labels[second]
    if same.all() or not same.any():
        raise InputError("labels: expected pairs of one person and of two, got only one kind")
    curve = roc(similarities, same)
    # The last point of the curve whose FAR is no larger: what `tar_at_far` would sort all pairs again for.
    first_beyond = np.searchsorted(curve.far, [1e-3, 1e-2], side="right")
    low, high = curve.tar[first_beyond - 1].tolist()
    return {"TAR at FAR 1e-3": low, "TAR at FAR 1e-2": high, "AUC": float(np.trapezoid(curve.tar, curve.far))}
