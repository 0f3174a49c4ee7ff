"""Pixels of a screenshot as a PNG, and back."""

import io
from typing import Any

__all__ = ["from_png", "to_png"]


def to_png(pixels: Any) -> bytes:
    """Of uint8 [H, W, 3], RGB; compressed no more than is quick."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def from_png(data: bytes) -> Any:
    """uint8 [H, W, 3], RGB, of the caller's own."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))
