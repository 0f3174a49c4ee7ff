"""Max-unpooling: values go back to where max-pooling found them.

Shapes: images [N, C, H, W]; pooled values and indices [N, C, h, w]; an index is ``row W + column``.
"""

import torch
from torch import Tensor

from visavis.blocks.upsampling._checks import positive, refuse_empty, traced
from visavis.errors import InputError, TensorError

__all__ = ["max_unpool2d"]


def max_unpool2d(values: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Put each value at its index in a map of zeros; those that share one are added.

    `indices` are those of ``torch.nn.functional.max_pool2d(..., return_indices=True)``. The pooling says nothing of its
    input's size beyond a range, so `size` is asked for. Where windows overlapped, several values may claim one
    place: the sum makes this the adjoint of taking the values at `indices`. torch keeps the last of them, and gives
    its gradient to all.

    Args:
        values: float [N, C, h, w].
        indices: int64 [N, C, h, w], in [0, H W).
        size: (H, W), of the map that was pooled.

    Returns:
        [N, C, H, W], zero except at `indices`.

    Raises:
        TensorError: shapes or types other than these.
        InputError: an index outside the map: is `size` that of the map that was pooled?

    Source: Zeiler and Fergus, ECCV 2014, arXiv:1311.2901; Badrinarayanan et al., SegNet, arXiv:1511.00561.

    >>> pool = torch.nn.MaxPool2d(2, return_indices=True)
    >>> values, indices = pool(torch.tensor([[[[1.0, 5.0], [3.0, 2.0]]]]))
    >>> max_unpool2d(values, indices, (2, 2))
    tensor([[[[0., 5.],
              [0., 0.]]]])
    """
    refuse_empty("values", values)
    if indices.dtype != torch.int64 or indices.shape != values.shape:
        dtype = str(indices.dtype).removeprefix("torch.")
        raise TensorError(f"indices: expected int64 {list(values.shape)}, got {dtype} {list(indices.shape)}")
    H, W = positive("size", size[0]), positive("size", size[1])
    if indices.numel() and not traced():
        low, high = (int(end) for end in indices.aminmax())
        if low < 0 or high >= H * W:
            raise InputError(
                f"indices: expected [0, {H * W}) in a map of {H} x {W}, got {low} to {high}; "
                "is `size` that of the map that was pooled?"
            )
    N, C = values.shape[:2]
    flat = values.new_zeros(N, C, H * W).scatter_add(2, indices.flatten(2), values.flatten(2))
    return flat.view(N, C, H, W)
