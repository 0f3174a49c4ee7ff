"""Reading photos: any common format, upright, as 8-bit RGB; large JPEGs straight at the size that is needed.

The content decides what a file is, never its name. Nothing is decoded before its header has been checked.
"""

import io
import warnings
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import PhotoError
from visavis.face.records import Photo

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_BYTES", "MAX_JPEG_PIXELS", "MAX_PIXELS", "Decoded", "decode", "looks_like_photo", "read"]

MAX_BYTES = 512 * 2**20
MAX_PIXELS = 150_000_000  # decoded whole, three bytes each
MAX_JPEG_PIXELS = 300_000_000  # decoded at down to an eighth of their side

_EXIF_ORIENTATION, _EXIF_DETAILS, _EXIF_DATE_TIME_ORIGINAL = 0x0112, 0x8769, 0x9003
_JPEG = b"\xff\xd8\xff"
_MAGIC = (
    _JPEG,
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P4",
    b"P5",
    b"P6",
    b"\0\0\0\x0cjP  ",
)
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


class Decoded(NamedTuple):
    photo: Photo
    pixels: NDArray[np.uint8]  # [height, width, 3] RGB, upright, C-contiguous
    scale: float  # pixels per pixel of the photo, at most 1


def looks_like_photo(head: bytes) -> bool:
    """Whether a file's first 32 bytes are those of an image format we read."""
    if head[4:8] == b"ftyp":
        return any(brand in head[8:32] for brand in _BRANDS)
    return head.startswith(_MAGIC) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def read(path: Path, *, long_side_px: int | None = None) -> Decoded:
    """Read the photo at `path`; see `decode`.

    Raises:
        PhotoError: no such file, no permission, or not a photo we can read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PhotoError(f"file: expected at most {MAX_BYTES >> 20} MiB, got {size >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"file: cannot be read ({error.strerror})") from error
    return decode(data, path, long_side_px=long_side_px)


def decode(data: bytes, path: Path, *, long_side_px: int | None = None) -> Decoded:
    """Decode a photo's bytes: first frame, EXIF turn applied, transparency on white, 8 bits.

    Args:
        data: the whole file.
        path: where it came from, for the record only.
        long_side_px: decode no larger than needed for this long side. JPEGs are reduced while decoding, by the
            power of two that leaves at least `long_side_px`; other formats are decoded whole.

    Raises:
        PhotoError: not an image, truncated, damaged, or larger than the limits above.
    """
    if not data:
        raise PhotoError("file: expected a photo, got an empty file")
    if not looks_like_photo(data[:32]):
        raise PhotoError(
            "file: expected a photo (JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, PNM, JPEG 2000), got other content"
        )
    decoded = _jpeg(data, long_side_px) if data.startswith(_JPEG) else None
    pixels, size_wh, orientation, taken_at = decoded or _pillow(data)
    pixels = np.ascontiguousarray(_upright(pixels, orientation))
    width, height = size_wh if orientation < 5 else size_wh[::-1]
    photo = Photo(path, sha256(data).hexdigest(), width, height, taken_at)
    return Decoded(photo, pixels, pixels.shape[1] / width)


_Raw = tuple[NDArray[np.uint8], tuple[int, int], int, datetime | None]


def _jpeg(data: bytes, long_side_px: int | None) -> _Raw | None:
    """Quick path for grey and YCbCr JPEGs; None leaves the rest, and damage to be named, to Pillow."""
    import simplejpeg
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray", "RGB"):
            return None
        _refuse_pixels(width, height, MAX_JPEG_PIXELS)
        least = {}
        if long_side_px is not None:
            share = min(1.0, long_side_px / max(width, height))
            least = {"min_height": int(height * share), "min_width": int(width * share)}
        pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
        # The plugin itself reads the header only and, unlike Image.open, has no pixel limit of its own.
        exif = JpegImageFile(io.BytesIO(data)).getexif()
    except PhotoError:
        raise
    except Exception:  # whatever a damaged file makes a decoder raise
        return None
    return pixels, (width, height), *_exif_facts(exif)


def _pillow(data: bytes) -> _Raw:
    from PIL import Image

    if data[4:8] == b"ftyp":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is ours to judge, metadata oddities nobody's to hear
            with Image.open(io.BytesIO(data)) as image:
                _refuse_pixels(*image.size, MAX_PIXELS)
                orientation, taken_at = _exif_facts(image.getexif())
                pixels = np.asarray(_eight_bit_rgb(image))
                # The HEIF plugin turns the pixels itself and says so by dropping the tag only after loading.
                if image.format in ("HEIF", "AVIF"):
                    orientation = _exif_facts(image.getexif())[0]
                return pixels, image.size, orientation, taken_at
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"photo: expected at most {MAX_PIXELS // 10**6} megapixels, got far more") from error
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error
        raise PhotoError(f"file: damaged or truncated ({' '.join(str(error).split())[:120]})") from error


def _eight_bit_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits in 16 or 32
        values = np.asarray(image)
        image = Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise PhotoError("photo: expected 8 or 16 bits a channel, got floating point")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def _refuse_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise PhotoError(f"photo: expected at most {limit // 10**6} megapixels, got {width} x {height}")


def _exif_facts(exif: "Image.Exif") -> tuple[int, datetime | None]:
    """Orientation 1..8 and the time the photo was taken; what is malformed counts as absent."""
    tag = exif.get(_EXIF_ORIENTATION)
    orientation = tag if isinstance(tag, int) and 1 <= tag <= 8 else 1
    try:
        taken_at = datetime.strptime(str(exif.get_ifd(_EXIF_DETAILS)[_EXIF_DATE_TIME_ORIGINAL]), "%Y:%m:%d %H:%M:%S")
    except (KeyError, ValueError):
        taken_at = None
    return orientation, taken_at


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the camera's turn: 2-4 stay in their frame, 5-8 swap width and height."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
