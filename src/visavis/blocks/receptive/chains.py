"""The receptive field of a chain of windows in closed form: from the top, from the bottom, and inverted.

Layer l has kernel k_l, stride s_l and dilation d_l, and so spans K_l = d_l (k_l - 1) + 1 positions of its input.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visavis.errors import InputError

__all__ = ["Window", "bottom_up", "required_depth", "top_down"]


@dataclass(frozen=True)
class Window:
    """One convolution or pooling along one axis."""

    kernel: int
    stride: int = 1
    dilation: int = 1

    def __post_init__(self) -> None:
        """Refuse what no layer has.

        Raises:
            InputError: a kernel, stride or dilation below 1.
        """
        if min(self.kernel, self.stride, self.dilation) < 1:
            raise InputError(f"window: expected kernel, stride and dilation of at least 1, got {self}")

    @property
    def span(self) -> int:
        """From its first tap to its last."""
        return self.dilation * (self.kernel - 1) + 1


def top_down(chain: Sequence[Window]) -> list[int]:
    """From one position at the top down to the image: ``RF = (N_RF - 1) * stride + span``.

    Element l is the number of positions at the input of layer l that the last layer's position depends on; the first
    element is the receptive field. A new layer on top makes all of it anew, which is why `bottom_up` exists.

    >>> top_down([Window(7, 2), Window(3, 2), Window(3)])
    [19, 7, 3]
    """
    sizes = [1]
    for window in reversed(chain):
        sizes.append((sizes[-1] - 1) * window.stride + window.span)
    return sizes[:0:-1]


def bottom_up(chain: Iterable[Window]) -> list[int]:
    """The receptive field of every layer in one pass: ``r += (span - 1) * jump``, ``jump *= stride``.

    >>> bottom_up([Window(7, 2), Window(3, 2), Window(3)])
    [7, 11, 19]
    """
    size, jump, sizes = 1, 1, []
    for window in chain:
        size += (window.span - 1) * jump
        jump *= window.stride
        sizes.append(size)
    return sizes


def required_depth(size: int, *, kernel: int = 3, stride: int = 1, dilation_growth: int = 1) -> int:
    """The least number of equal layers whose receptive field is at least `size`.

    Args:
        size: wanted, in input positions; at least 1.
        kernel: of every layer; at least 2.
        stride: of every layer.
        dilation_growth: layer l has dilation ``dilation_growth ** l``; 2 doubles it from layer to layer.

    Raises:
        InputError: an argument out of range.

    >>> required_depth(224), required_depth(224, stride=2), required_depth(224, dilation_growth=2)
    (112, 7, 7)
    """
    if size < 1 or kernel < 2 or stride < 1 or dilation_growth < 1:
        raise InputError(
            f"size, kernel, stride, dilation_growth: expected at least 1, 2, 1, 1, "
            f"got {size}, {kernel}, {stride}, {dilation_growth}"
        )
    field, jump, dilation, depth = 1, 1, 1, 0
    while field < size:
        field += (kernel - 1) * dilation * jump
        jump *= stride
        dilation *= dilation_growth
        depth += 1
    return depth
