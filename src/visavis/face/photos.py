"""Reading photos: any common format, upright, as 8-bit RGB, no larger than needed.

The content decides what a file is, never its name. Nothing is decoded before its header has been checked.
"""

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
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

__all__ = [
    "MAX_BYTES",
    "MAX_JPEG_PIXELS",
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "Decoded",
    "decode",
    "looks_like_photo",
    "read",
    "visible_files",
]

MAX_BYTES = 512 * 2**20
MAX_PIXELS = 150_000_000  # decoded whole, four bytes each
MAX_JPEG_PIXELS = 300_000_000  # decoded at down to an eighth of their side
PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png webp heic heif hif avif tif tiff gif bmp pgm ppm pnm jp2".split()  # noqa: SIM905
)

_BAND_PX = 2**22  # of a whole decoded photo, turned to RGB and reduced at once

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


def visible_files(folder: Path) -> Iterator[Path]:
    """The files below a folder at any depth, in the order of their paths; what is hidden is left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def read(path: Path, *, long_side_px: int | None = None) -> Decoded:
    """Read the photo at `path`; see `decode`.

    Raises:
        PhotoError: no such file, no permission, or not a photo we can read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for somebody to write
            raise PhotoError("file: expected a file, got a folder, pipe or device")
        if status.st_size > MAX_BYTES:
            raise PhotoError(f"file: expected at most {MAX_BYTES >> 20} MiB, got {status.st_size >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"file: cannot be read ({error.strerror})") from error
    return decode(data, path, long_side_px=long_side_px)


def decode(data: bytes, path: Path, *, long_side_px: int | None = None) -> Decoded:
    """Decode a photo's bytes: first frame, EXIF turn applied, transparency on white, 8 bits.

    Args:
        data: the whole file.
        path: where it came from, for the record only.
        long_side_px: no larger than needed for this long side. JPEGs are reduced while decoding, to the fewest
            eighths of their side that leave at least `long_side_px`; other formats are decoded whole and then
            reduced by a whole number, each pixel the mean of a square.

    Raises:
        PhotoError: not an image, truncated, damaged, or larger than the limits above or the memory there is.
    """
    if not data:
        raise PhotoError("file: expected a photo, got an empty file")
    if not looks_like_photo(data[:32]):
        raise PhotoError(
            "file: expected a photo (JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP, PNM, JPEG 2000), got other content"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is ours to judge, metadata oddities nobody's to hear
            raw = _jpeg(data, long_side_px) if data.startswith(_JPEG) else None
            pixels, scale, size_wh, orientation, taken_at = raw or _pillow(data, long_side_px)
        pixels = np.ascontiguousarray(_upright(pixels, orientation))
    except MemoryError as error:
        raise PhotoError("photo: decoding it takes more memory than there is") from error
    width, height = size_wh if orientation < 5 else size_wh[::-1]
    photo = Photo(path, sha256(data).hexdigest(), width, height, taken_at)
    return Decoded(photo, pixels, scale)


_Raw = tuple[
    NDArray[np.uint8], float, tuple[int, int], int, datetime | None
]  # not upright yet; scale, width and height


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
        eighths = 8 * max(pixels.shape) // max(width, height)  # a side that does not divide is rounded up
        orientation, taken_at = 1, None
        if b"Exif\0" in data or b"tiff:Orientation" in data:  # reading metadata takes longer than small photos do
            # The plugin itself reads the header only and, unlike Image.open, has no pixel limit of its own.
            image = JpegImageFile(io.BytesIO(data))
            orientation, taken_at = _orientation(image), _taken_at(image)
        return pixels, eighths / 8, (width, height), orientation, taken_at
    except (PhotoError, MemoryError):
        raise
    except Exception:  # whatever a damaged file makes a decoder raise
        return None


def _pillow(data: bytes, long_side_px: int | None) -> _Raw:
    from PIL import Image, UnidentifiedImageError

    if data[4:8] == b"ftyp":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_pixels(*image.size, MAX_PIXELS)
            taken_at = _taken_at(image)  # now: a decoder may close the file
            image.load()
            orientation = _orientation(image)  # not before: decoders that turn the pixels then take back the tag
            factor = max(1, max(image.size) // (long_side_px or max(image.size)))
            return _eight_bit_rgb(image, factor), 1 / factor, image.size, orientation, taken_at
    except (PhotoError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # whose text tells an address in memory
        raise PhotoError("file: damaged or truncated (no whole header)") from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"photo: expected at most {MAX_PIXELS // 10**6} megapixels, got far more") from error
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error
        raise PhotoError(f"file: damaged or truncated ({' '.join(str(error).split())[:120]})") from error


def _eight_bit_rgb(image: "Image.Image", factor: int) -> NDArray[np.uint8]:
    """A loaded image as [height, width, 3], sides divided by `factor`; in bands, to hold but one whole image."""
    width, height = image.size
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    band = factor * -(-_BAND_PX // (factor * width))
    for top in range(0, height, band):
        part = _band(image.crop((0, top, width, min(top + band, height))))
        pixels[top // factor : (top + band) // factor] = np.asarray(part.reduce(factor))
    return pixels


def _band(image: "Image.Image") -> "Image.Image":
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


def _orientation(image: "Image.Image") -> int:
    """1..8; what is malformed counts as absent."""
    with suppress(Exception):  # damaged metadata make Pillow raise anything, and leave the pixels as good as ever
        tag = image.getexif().get(_EXIF_ORIENTATION)
        return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1
    return 1


def _taken_at(image: "Image.Image") -> datetime | None:
    """When the camera says the photo was taken; what is malformed counts as absent."""
    with suppress(Exception):
        text = str(image.getexif().get_ifd(_EXIF_DETAILS)[_EXIF_DATE_TIME_ORIGINAL])
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    return None


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the camera's turn: 2-4 stay in their frame, 5-8 swap width and height."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
