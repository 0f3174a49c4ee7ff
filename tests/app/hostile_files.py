"""Files that come to do harm: small ones that would be large, photos that are something else as well, with markup."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from tests.face.fake_pack import pixels

__all__ = ["MARKUP", "SVG", "bombs", "chunk", "no_photos", "png_bomb", "polyglots", "zipped"]

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"
PNG, MOST = b"\x89PNG\r\n\x1a\n", 2**31 - 1
SVG = f'<svg xmlns="http://www.w3.org/2000/svg">{MARKUP}</svg>'.encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels, all black and so a thousandth of its size."""
    rows = zlib.compress(bytes((1 + width) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zipped() -> bytes:
    """A megabyte of nothing in a zip of a kilobyte."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10**6))
    return stream.getvalue()


def bombs() -> dict[str, bytes]:
    """Each of more pixels than a server takes, by its header or by what it holds."""
    jpeg, gif, tiff, webp, heic = (_encoded(kind) for kind in ("JPEG", "GIF", "TIFF", "WEBP", "HEIF"))
    frame = jpeg.index(b"\xff\xc0") + 5
    size = heic.index(b"ispe") + 8
    return {
        "bomb.png": png_bomb(8_000, 8_000),
        "wide.png": png_bomb(30_000, 100),
        "header.png": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)),
        "bomb.jpg": jpeg[:frame] + struct.pack(">HH", 65_500, 65_500) + jpeg[frame + 4 :],
        "bomb.gif": gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:],
        "bomb.tif": _tiff_with(tiff, 256, MOST),
        "strips.tif": _tiff_with(tiff, 279, 2**32 - 1),
        "bomb.webp": webp[:26] + struct.pack("<HH", 16_383, 16_383) + webp[30:],
        "bomb.heic": heic[:size] + struct.pack(">II", 2**30, 2**30) + heic[size + 8 :],
        "bomb.bmp": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "bomb.pnm": b"P6 999999999 999999999 255 ",
        "text.png": _png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(5 * 10**7), 9))),
        "profile.png": _png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(5 * 10**7), 9))),
    }


def no_photos() -> dict[str, bytes]:
    """What only looks like a photo."""
    jpeg = _encoded("JPEG")
    return {
        "zip.jpg": zipped(),
        "script.svg": SVG,
        "polyglot.gif": b"GIF89a" + SVG,
        "script.gif": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)",
        "script.bmp": b"BM=1;alert(1);//" + bytes(100),
        "cut.jpg": jpeg[:200],
        "empty.jpg": b"",
        "page.jpg": b"<!doctype html>" + MARKUP.encode(),
        "../../etc/passwd": b"root",
        "<img src=x onerror=alert(1)>.jpg": b"no photo",
        "a\r\nX-Injected: 1.jpg": b"no photo",
    }


def polyglots() -> dict[str, bytes]:
    """Photos of person 0 that are something else as well, or say so."""
    jpeg, exif = _encoded("JPEG"), Image.Exif()
    exif[0x010E] = exif[0x013B] = MARKUP  # description, artist
    exif[0x8769] = {0x9003: MARKUP}  # when it was taken
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{MARKUP}</x:xmpmeta>")
    comment = MARKUP.encode()
    return {
        "zip.jpg": jpeg + zipped(),
        "page.jpg": jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:],
        "tail.jpg": jpeg + comment,
        "exif.jpg": _encoded("JPEG", exif=exif),
        "xmp.png": _encoded("PNG", pnginfo=info),
    }


def _encoded(kind: str, **options: object) -> bytes:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    image = Image.fromarray(pixels(0, seed=7))
    image.save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}), **options)
    return stream.getvalue()


def _png_with(extra: bytes) -> bytes:
    png = _encoded("PNG")
    return png[:33] + extra + png[33:]


def _tiff_with(tiff: bytes, tag: int, value: int) -> bytes:
    """Another value of a field of the first directory."""
    [start] = struct.unpack("<I", tiff[4:8])
    [count] = struct.unpack("<H", tiff[start : start + 2])
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if np.frombuffer(tiff, "<u2", 1, place)[0] == tag:
            return tiff[:place] + struct.pack("<HHII", tag, 4, 1, value) + tiff[place + 12 :]
    raise ValueError(tag)
