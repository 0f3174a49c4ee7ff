"""A screenshot as it goes over the wire: of the size that a model's dialect counts in, compressed, in a data URL."""

import base64
import io
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from visavis.errors import InputError
from visavis.gui.actions import Size
from visavis.gui.screen import Screenshot

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Format", "data_url"]

Format = Literal["png", "jpeg"]
QUALITIES = (90, 75, 60, 45, 30)  # of JPEG, until a picture is small enough


@lru_cache(maxsize=16)  # a screenshot is sent in several steps
def data_url(screenshot: Screenshot, size: Size, form: Format, max_bytes: int) -> str:
    """The picture, resized to `size` and encoded.

    A PNG of more than `max_bytes` is sent as JPEG, and a JPEG of more in a lower quality.

    Raises:
        InputError: it stays larger.
    """
    from PIL import Image

    image = Image.fromarray(screenshot.pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)  # as the processors of Qwen2-VL and its kin do
    if form == "png":
        data = _encoded(image, "PNG", compress_level=1)
        if len(data) <= max_bytes:
            return _url("png", data)
    for quality in QUALITIES:
        data = _encoded(image, "JPEG", quality=quality, subsampling=0)
        if len(data) <= max_bytes:
            return _url("jpeg", data)
    raise InputError(
        f"max_image_bytes: expected at least {len(data):,} for {size[0]} x {size[1]} pixels, got {max_bytes:,}; "
        "or choose a dialect with fewer max_pixels"
    )


def _encoded(image: "Image.Image", form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _url(form: Format, data: bytes) -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"
