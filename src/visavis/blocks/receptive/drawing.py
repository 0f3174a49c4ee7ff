"""Pictures of receptive fields; needs matplotlib."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visavis.blocks._plots import figure_class
from visavis.blocks.receptive.fields import Axis, Fields
from visavis.errors import InputError, TensorError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(fields: Fields, photo: Tensor | None = None, *, layers: list[str] | None = None) -> "Figure":
    """The field of the middle position of each layer, drawn on a photo; what lies in the padding sticks out.

    Args:
        fields: of images, that is with two axes.
        photo: uint8 or float in [0, 1], [H, W, 3] or [H, W], of the size of the input; a test pattern by default.
        layers: names; by default six, spread over the layers whose fields differ.

    Raises:
        InputError: fields of other than two axes, or an unknown layer.
        TensorError: a photo of another size.
        MissingExtraError: no matplotlib.
    """
    make_figure = figure_class()
    from matplotlib.patches import Rectangle

    if len(fields.input_shape) != 3:
        raise InputError(f"fields: expected those of (C, H, W), got those of {fields.input_shape}")
    height, width = fields.input_shape[1:]
    picture = _pattern(height, width) if photo is None else photo
    if picture.shape[:2] != (height, width):
        raise TensorError(f"photo: expected [{height}, {width}, 3], got {list(picture.shape)}")
    names = _telling(fields) if layers is None else layers
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise InputError(f"layers: expected names of layers that ran, got {unknown}")
    boxes = [tuple(_middle(axis) for axis in fields[name].axes) for name in names]
    # Room for the frames that leave the photo, up to its own size on either side.
    left, top = (min([0, *(box[axis][0] for box in boxes)]) for axis in (1, 0))
    right, bottom = (max([size, *(box[axis][1] for box in boxes)]) for axis, size in ((1, width), (0, height)))
    left, right = max(left, -width) - 2, min(right, 2 * width) + 2
    top, bottom = max(top, -height) - 2, min(bottom, 2 * height) + 2
    figure = make_figure(figsize=(2.2 * len(names), 2.2 * (bottom - top) / (right - left) + 0.6), layout="constrained")
    places = figure.subplots(1, len(names), squeeze=False)[0]
    for place, name, ((low_y, high_y), (low_x, high_x)) in zip(places, names, boxes, strict=True):
        place.imshow(picture.numpy(), cmap="gray", extent=(0, width, height, 0))
        frame = Rectangle((low_x, low_y), high_x - low_x, high_y - low_y, fill=False, edgecolor="#d62728", lw=2)
        place.add_patch(frame)
        sizes = ["whole" if axis.size is None else str(axis.size) for axis in fields[name].axes]
        place.set_title(
            f"{name or 'output'}\n{'whole image' if sizes == ['whole'] * 2 else ' x '.join(sizes)}", fontsize=9
        )
        place.set_xlim(left, right)
        place.set_ylim(bottom, top)
        place.set_axis_off()
    return figure


def _middle(axis: Axis) -> tuple[int, int]:
    """From where to where the field of the middle position reaches, as edges; the image where it is the whole."""
    if axis.whole:
        return 0, axis.length
    middle = axis.open_low.numel() // 2
    return int(axis.open_low.flatten()[middle]), int(axis.open_high.flatten()[middle]) + 1


def _telling(fields: Fields, count: int = 6) -> list[str]:
    """Leaves whose fields differ from those before, evenly spread, the last included."""
    names: list[str] = []
    last: tuple[int | None, ...] | None = None
    for name, layer in fields.layers.items():
        sizes = tuple(axis.size for axis in layer.axes)
        if layer.leaf and sizes != last:
            names.append(name)
            last = sizes
    picks = torch.linspace(0, len(names) - 1, min(count, len(names))).round().int().tolist()
    return [names[pick] for pick in picks]


def _pattern(height: int, width: int) -> Tensor:
    """A zone plate: rings that get finer to the edge, which show where a field lies; float [H, W]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return 0.5 + 0.25 * torch.cos(40 * (x * x + y * y))
