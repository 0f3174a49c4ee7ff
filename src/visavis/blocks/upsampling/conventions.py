"""Where a pixel lies: the two conventions of resampling, and the way from one to the other.

Along one axis, `size_in` pixels become `size_out`. Positions are indices: pixel 0 has the position 0.

- **Half-pixel** (`align_corners=False`): a pixel is a square of width 1 around its position, and the outer *edges* of
  the two images, at -1/2 and size - 1/2, coincide. Four pixels become eight (``|``: edge, ``o``: position)::

      in    |   o   |   o   |   o   |   o   |
      out   | o | o | o | o | o | o | o | o |

- **Corners** (`align_corners=True`): a pixel is a point, and the *positions* of the outer pixels coincide.
  Four become seven, or eight less comfortably::

      in        o       o       o       o
      out       o   o   o   o   o   o   o

In the first the scale is size_out / size_in, whatever the sizes; in the second it is (size_out - 1) / (size_in - 1), so
that x2 is not x2, and depends on the size. This family takes the first wherever it can choose.
"""

import torch
from torch import Tensor

from visavis.errors import InputError, TensorError

__all__ = ["corner_box", "from_grid", "regrid", "to_grid", "to_input", "to_output"]


def to_input(position: Tensor, size_in: int, size_out: int, *, align_corners: bool = False) -> Tensor:
    """Where a position of the output lies in the input.

    Half-pixel: ``(position + 1/2) size_in / size_out - 1/2``. Corners: ``position (size_in - 1) / (size_out - 1)``.

    Args:
        position: float, any shape, in pixels of the output.
        size_in: pixels of the input along the axis, at least 1.
        size_out: of the output.
        align_corners: which convention. An output of one pixel has the position 0, as in torch.

    Returns:
        Positions in pixels of the input; those outside [0, size_in - 1] are beyond the outer pixels.

    Raises:
        InputError: a size below 1.

    >>> to_input(torch.arange(4.0), 2, 4)
    tensor([-0.2500,  0.2500,  0.7500,  1.2500])
    >>> to_input(torch.arange(4.0), 2, 4, align_corners=True)
    tensor([0.0000, 0.3333, 0.6667, 1.0000])
    """
    _sizes(size_in, size_out)
    if align_corners:
        return position * ((size_in - 1) / (size_out - 1) if size_out > 1 else 0.0)
    return (position + 0.5) * (size_in / size_out) - 0.5


def to_output(position: Tensor, size_in: int, size_out: int, *, align_corners: bool = False) -> Tensor:
    """Where a position of the input lies in the output: the inverse of `to_input`; arguments and errors as there.

    Raises:
        InputError: also, with `align_corners`, an input of one pixel, which has no scale.

    >>> to_output(torch.tensor([-0.25, 0.25]), 2, 4)
    tensor([0., 1.])
    """
    if align_corners and size_in == 1 < size_out:
        raise InputError("size_in: expected at least 2 pixels between whose centres to place others, got 1")
    return to_input(position, size_out, size_in, align_corners=align_corners)


def to_grid(position: Tensor, size: int, *, align_corners: bool = False) -> Tensor:
    """A position as `grid_sample` wants it: -1 and 1 are the outer edges, or with `align_corners` the outer pixels.

    Raises:
        InputError: a size below 1, or one pixel with `align_corners`.

    >>> to_grid(torch.tensor([-0.5, 0.0, 3.0]), 4)
    tensor([-1.0000, -0.7500,  0.7500])
    """
    _sizes(size)
    if align_corners:
        return position * (2 / _steps(size)) - 1
    return (2 * position + 1) / size - 1


def from_grid(coordinate: Tensor, size: int, *, align_corners: bool = False) -> Tensor:
    """The inverse of `to_grid`; arguments and errors as there.

    >>> from_grid(torch.tensor([-1.0, 1.0]), 4)
    tensor([-0.5000,  3.5000])
    """
    _sizes(size)
    if align_corners:
        return (coordinate + 1) * (_steps(size) / 2)
    return ((coordinate + 1) * size - 1) / 2


def regrid(grid: Tensor, height: int, width: int, *, align_corners: bool) -> Tensor:
    """A grid made for the other convention, so that `grid_sample` with this `align_corners` samples the same places.

    Args:
        grid: float [..., 2], x before y as in `grid_sample`, made for ``not align_corners``.
        height: of the image that is sampled, in pixels.
        width: of it.
        align_corners: the convention wanted.

    Returns:
        [..., 2], dtype of `grid`.

    Raises:
        TensorError: `grid` is not float [..., 2].
        InputError: a size below 1, or of one pixel, for which one convention has no scale.

    >>> regrid(torch.tensor([[1.0, -1.0]]), 4, 2, align_corners=False)  # the centres of outer pixels
    tensor([[ 0.5000, -0.7500]])
    """
    if not grid.is_floating_point() or grid.ndim < 1 or grid.shape[-1] != 2:
        dtype = str(grid.dtype).removeprefix("torch.")
        raise TensorError(f"grid: expected float [..., 2], got {dtype} {list(grid.shape)}")
    axes = [
        to_grid(from_grid(grid[..., axis], size, align_corners=not align_corners), size, align_corners=align_corners)
        for axis, size in ((0, width), (1, height))
    ]
    return torch.stack(axes, dim=-1)


def corner_box(size_in: int, size_out: int) -> tuple[float, float]:
    """The stretch of the input that a half-pixel resize must take to place pixels as `align_corners=True` does.

    With s = (size_in - 1) / (size_out - 1) it begins at ``1/2 - s/2`` and is ``s size_out`` long, measured from the
    outer edge of pixel 0, as in the `box` of PIL's `Image.resize`.

    Raises:
        InputError: a size below 1, or one pixel out.

    >>> corner_box(3, 5)
    (0.25, 2.75)
    """
    _sizes(size_in, size_out)
    scale = (size_in - 1) / _steps(size_out)
    start = 0.5 - scale / 2
    return start, start + scale * size_out


def _sizes(*sizes: int) -> None:
    for size in sizes:
        if size < 1:
            raise InputError(f"size: expected at least 1 pixel, got {size}")


def _steps(size: int) -> int:
    if size < 2:
        raise InputError(f"size: expected at least 2 pixels with align_corners=True, got {size}; one has no scale")
    return size - 1
