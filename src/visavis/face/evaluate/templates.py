"""One vector for many photos of a person, as the IJB protocols make it.

Shapes: N photos, T templates, D embedding length.
"""

import numpy as np
from numpy.typing import NDArray

from visavis.errors import expect

__all__ = ["pool"]


def pool(
    embeddings: NDArray[np.float32], templates: NDArray[np.int64], media: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Average the embeddings of each media, sum the media of each template, scale to unit length.

    So a video of a hundred frames counts as much as one still. Photos without a face, rows of zeros, are left out; a
    template of nothing else is zero, as is one whose media cancel.

    Args:
        embeddings: float [N, D], rows of unit length or zero.
        templates: int64 [N] in [0, T), the template of each photo; T is the highest and one.
        media: int64 [N], a video's frames share one number; numbers are compared within a template only.

    Returns:
        float32 [T, D].

    Raises:
        TensorError: shapes or types other than these.

    Source: Whitelam et al., IARPA Janus Benchmark-B, CVPR workshops 2017; pooling as in Xie and Zisserman,
    Multicolumn Networks, BMVC 2018, arXiv:1807.09192, and evaluations since.

    >>> pool(np.float32([[1, 0], [1, 0], [0, 1]]), np.array([0, 0, 0]), np.array([5, 5, 6])).round(3)
    array([[0.707, 0.707]], dtype=float32)
    """
    expect("embeddings", embeddings, "float", None, None)
    expect("templates", templates, "int64", len(embeddings))
    expect("media", media, "int64", len(embeddings))
    count = int(templates.max()) + 1 if len(templates) else 0
    found = embeddings.any(axis=1)
    keys, place = np.unique(np.stack([templates[found], media[found]], axis=1), axis=0, return_inverse=True)
    means = np.zeros((len(keys), embeddings.shape[1]))
    np.add.at(means, place.reshape(-1), embeddings[found])
    means /= np.bincount(place.reshape(-1), minlength=len(keys))[:, None]
    sums = np.zeros((count, embeddings.shape[1]))
    np.add.at(sums, keys[:, 0], means)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
