"""The oracle is what was drawn: four flat quarters of different colour, encoded here by other means than ours."""

import errno
import hashlib
import io
import math
import os
import struct
import subprocess
import sys
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from visavis.errors import PhotoError
from visavis.face import photos

pillow_heif.register_heif_opener()

HERE = Path("a.jpg")
QUARTERS = np.array([[[200, 40, 40], [40, 180, 60]], [[40, 60, 200], [230, 230, 230]]], np.uint8)
SCENE = QUARTERS.repeat(24, 0).repeat(32, 1)  # 64 x 48 px
GREY = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21  # 16 bits
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
LOSSY_PX = 6  # grey levels that lossy formats may be off in the middle of a flat quarter


def encoded(pixels, form, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(pixels, *, size=None):
    """PNG of uint8 or uint16 [H, W, 1, 2, 3 or 4], unfiltered; `size` (width, height) lies in the header."""
    height, width, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    step = len(rows) // height
    lines = b"".join(b"\0" + rows[i : i + step] for i in range(0, len(rows), step))
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", *(size or (width, height)), 8 * pixels.itemsize, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def quarters(pixels):
    """The colours in the middle of the four quarters."""
    height, width, _ = pixels.shape
    return pixels[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)


def exif(orientation=None, taken=None):
    block = Image.Exif()
    if orientation is not None:
        block[0x0112] = orientation
    if taken is not None:
        block.get_ifd(0x8769)[0x9003] = taken
    return block


def deflated(tiff):
    """An uncompressed TIFF of one strip, compressed in place: Pillow writes no compressed TIFF with a date."""
    image = Image.open(io.BytesIO(tiff))
    (start,), (length,) = image.tag_v2[273], image.tag_v2[279]
    strip = zlib.compress(tiff[start : start + length])
    data = bytearray(tiff[:start] + strip + tiff[start + length :])
    for tag, value in ((259, 8), (279, len(strip))):  # compression, length of the strip; 4 bytes before the value
        entry = data.index(struct.pack("<HH", tag, 3 if tag == 259 else image.tag_v2.tagtype[279]))
        data[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(data)


LOSSLESS = {
    "png": png(SCENE),
    "png, 16 bits": png(SCENE.astype(np.uint16) * 256 + 255),
    "png, alpha": png(np.dstack([SCENE, np.full((48, 64), 255, np.uint8)])),
    "png, palette": encoded(Image.fromarray(SCENE).quantize(8), "PNG"),
    "webp": encoded(SCENE, "WEBP", lossless=True),
    "tiff": encoded(SCENE, "TIFF"),
    "tiff, deflated": encoded(SCENE, "TIFF", compression="tiff_deflate"),
    "tiff, cmyk": encoded(Image.fromarray(SCENE).convert("CMYK"), "TIFF"),
    "gif": encoded(Image.fromarray(SCENE).quantize(8), "GIF"),
    "bmp": encoded(SCENE, "BMP"),
    "ppm": encoded(SCENE, "PPM"),
    "jpeg 2000": encoded(SCENE, "JPEG2000"),
}
LOSSY = {
    "jpeg": encoded(SCENE, "JPEG", quality=95),
    "jpeg, progressive": encoded(SCENE, "JPEG", quality=95, progressive=True),
    "jpeg, stored as RGB": encoded(SCENE, "JPEG", quality=95, keep_rgb=True),
    "jpeg, cmyk": encoded(Image.fromarray(SCENE).convert("CMYK"), "JPEG", quality=95),
    "webp": encoded(SCENE, "WEBP", quality=95),
    "heic": encoded(SCENE, "HEIF", quality=95),
    "avif": encoded(SCENE, "AVIF", quality=95),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_come_back_exactly(name):
    assert (photos.decode(LOSSLESS[name], HERE).pixels == SCENE).all()


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_keep_flat_colours(name):
    decoded = photos.decode(LOSSY[name], HERE)
    assert np.abs(quarters(decoded.pixels) - QUARTERS).max() <= LOSSY_PX
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert decoded.scale == 1.0


GREYS = {
    "png, 8 bits": (png((GREY >> 8).astype(np.uint8)[..., None]), GREY >> 8),
    "png, 16 bits": (png(GREY[..., None]), GREY >> 8),
    "png, 1 bit": (encoded(Image.fromarray(GREY > 9000), "PNG"), (GREY > 9000) * 255),
    "pgm, 8 bits": (b"P5 64 48 255\n" + (GREY >> 8).astype(np.uint8).tobytes(), GREY >> 8),
    "pgm, 16 bits": (b"P5 64 48 65535\n" + GREY.astype(">u2").tobytes(), GREY >> 8),
    "pbm": (encoded(Image.fromarray(GREY > 9000), "PPM"), (GREY > 9000) * 255),
    "tiff, 16 bits": (encoded(GREY, "TIFF"), GREY >> 8),
    "tiff, 1 bit, group 4": (encoded(Image.fromarray(GREY > 9000), "TIFF", compression="group4"), (GREY > 9000) * 255),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_becomes_three_equal_channels_of_8_bits(name):
    data, expected = GREYS[name]
    assert (photos.decode(data, HERE).pixels == expected[..., None]).all()


def test_grey_jpeg():
    pixels = photos.decode(encoded((GREY >> 8).astype(np.uint8), "JPEG", quality=95), HERE).pixels
    assert (pixels == pixels[..., :1]).all()
    assert np.abs(pixels[..., 0].astype(int) - (GREY >> 8)).max() <= LOSSY_PX


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_transparency_lies_on_white(bits, colours):
    alpha = np.linspace(0, 255, 64, dtype=np.uint8) * np.ones((48, 1), np.uint8)
    image = np.dstack([SCENE[..., :colours], alpha])
    mixed = SCENE[..., :colours] * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    data = png(image if bits == 8 else image.astype(np.uint16) * 257)
    assert np.abs(photos.decode(data, HERE).pixels - mixed).max() <= 1


def test_transparent_palette_entry_is_white():
    image = Image.fromarray(SCENE).quantize(8)
    data = encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    expected = SCENE.copy()
    expected[:24, :32] = 255
    assert (photos.decode(data, HERE).pixels == expected).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_read(form):
    frames = [Image.fromarray(SCENE), Image.fromarray(255 - SCENE), Image.fromarray(SCENE // 2)]
    options = {} if form == "TIFF" else {"duration": 100}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.abs(quarters(photos.decode(data, HERE).pixels) - QUARTERS).max() <= 20


TURNED = {
    "jpeg": ("JPEG", {"quality": 95}),
    "jpeg, cmyk": ("JPEG", {"quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 95}),
    "tiff": ("TIFF", {}),
    "tiff, deflated": ("TIFF", {}),
    "heic": ("HEIF", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95}),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_the_camera_s_turn_is_undone_once(name, orientation):
    form, options = TURNED[name]
    image = Image.fromarray(SCENE)
    image.info["exif"] = tags = exif(orientation, "2024:02:29 12:34:56").tobytes()
    expected = np.asarray(ImageOps.exif_transpose(image))
    # HEIF and AVIF move the tag into boxes of their own.
    data = encoded(Image.fromarray(SCENE).convert("CMYK" if "cmyk" in name else "RGB"), form, exif=tags, **options)
    if name == "tiff, deflated":
        data = deflated(data)
    decoded = photos.decode(data, HERE)
    assert decoded.pixels.shape == expected.shape
    assert np.abs(quarters(decoded.pixels) - quarters(expected)).max() <= LOSSY_PX
    assert (decoded.photo.width_px, decoded.photo.height_px) == expected.shape[1::-1]
    assert decoded.photo.taken_at == datetime(2024, 2, 29, 12, 34, 56)


def test_an_exif_turn_in_heif_counts_only_when_the_container_says_so():
    # Containers turn by their own boxes; the EXIF tag beside them is a copy at best (ISO/IEC 23008-12, annex A).
    class Untouched(Image.Exif):  # the plugin looks for the tag in bytes only, and so writes no box
        pass

    block = Untouched()
    block[0x0112] = 6
    decoded = photos.decode(encoded(SCENE, "HEIF", quality=95, exif=block), HERE)
    assert np.abs(quarters(decoded.pixels) - QUARTERS).max() <= LOSSY_PX


@pytest.mark.parametrize(
    ("tags", "orientation"),
    [
        (exif(99, "2024:13:45 99:99:99"), 1),
        (exif(0, "yesterday"), 1),
        (exif(3, "0000:00:00 00:00:00"), 3),
        (exif(3, ""), 3),
    ],
)
def test_malformed_exif_counts_as_absent(tags, orientation):
    decoded = photos.decode(encoded(SCENE, "JPEG", quality=95, exif=tags), HERE)
    expected = QUARTERS[::-1, ::-1] if orientation == 3 else QUARTERS
    assert np.abs(quarters(decoded.pixels) - expected).max() <= LOSSY_PX
    assert decoded.photo.taken_at is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_cost_the_photo(form, recwarn):
    whole = exif(6, "2024:02:29 12:34:56").tobytes()
    for damaged in (whole[: len(whole) // 2], whole[:12], b"Exif\0\0" + bytes(20), b"Exif\0\0" + b"\xff" * 40):
        decoded = photos.decode(encoded(SCENE, form, exif=damaged), HERE)
        assert {decoded.photo.width_px, decoded.photo.height_px} == {64, 48}
    assert len(recwarn) == 0


def test_records_path_hash_and_size():
    data = LOSSY["jpeg"]
    photo = photos.decode(data, HERE).photo
    assert (photo.path, photo.sha256) == (HERE, hashlib.sha256(data).hexdigest())
    assert (photo.width_px, photo.height_px, photo.taken_at) == (64, 48, None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("long_side_px", [16, 63, 100, 150, 199, 200, 640, 641, 10_000])
@pytest.mark.parametrize("orientation", [1, 6])
def test_no_smaller_than_asked_and_true_to_the_mean(form, long_side_px, orientation):
    ramp = np.linspace(20, 220, 640)
    image = np.stack([ramp * np.ones((200, 1)), np.linspace(20, 220, 200)[:, None] * np.ones(640), np.ones((200, 640))])
    data = encoded(image.transpose(1, 2, 0).astype(np.uint8), form, exif=exif(orientation).tobytes(), quality=95)
    decoded = photos.decode(data, HERE, long_side_px=long_side_px)
    size = (decoded.photo.width_px, decoded.photo.height_px)
    assert size == ((640, 200) if orientation == 1 else (200, 640))
    assert max(decoded.pixels.shape) >= min(long_side_px, 640, 80 if form == "JPEG" else 640)
    assert decoded.pixels.shape[:2] == (math.ceil(size[1] * decoded.scale), math.ceil(size[0] * decoded.scale))
    red = decoded.pixels[..., 0].astype(float)
    along = red.mean(0) if orientation == 1 else red.mean(1)
    centres = (np.arange(len(along)) + 0.5) / decoded.scale - 0.5
    assert np.abs(along - np.interp(centres, np.arange(640), ramp)).max() < 3


def test_bands_meet_without_a_seam(monkeypatch):
    whole = photos.decode(png(NOISE), HERE, long_side_px=21).pixels
    monkeypatch.setattr(photos, "_BAND_PX", 200)
    assert whole.shape == (16, 22, 3)
    assert (photos.decode(png(NOISE), HERE, long_side_px=21).pixels == whole).all()
    assert (photos.decode(png(NOISE), HERE).pixels == NOISE).all()


def test_the_name_does_not_matter(tmp_path):
    for name in ("wrong.gif", "none", "line\nbreak 'and' \"quotes\".txt", os.fsdecode(b"not utf-8 \xff.jpg")):
        path = tmp_path / name
        path.write_bytes(LOSSLESS["png"])
        decoded = photos.read(path)
        assert (decoded.pixels == SCENE).all()
        assert decoded.photo.path == path


def refuse_zero(path):
    path.write_bytes(b"")


def refuse_text(path):
    path.write_text("BMW and other makes" * 40)


def refuse_video(path):
    path.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500))


def refuse_gap(path):
    with path.open("wb") as file:
        file.write(LOSSY["jpeg"])
        file.truncate(photos.MAX_BYTES + 1)  # takes no room on disk


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (refuse_zero, "file: expected a photo, got an empty file"),
        (refuse_text, "file: damaged or truncated"),
        (refuse_video, r"file: expected a photo \(JPEG, PNG.*\), got other content"),
        (refuse_gap, "file: expected at most 512 MiB, got 512 MiB"),
        (Path.mkdir, "file: expected a file, got a folder, pipe or device"),
        (os.mkfifo, "file: expected a file, got a folder, pipe or device"),
        (lambda path: path.symlink_to(path.name), f"file: cannot be read \\({os.strerror(errno.ELOOP)}"),
        (lambda path: path, "file: cannot be read \\(No such file"),
    ],
)
def test_what_is_no_photo_is_refused(make, message, tmp_path):
    make(tmp_path / "a.jpg")
    with pytest.raises(PhotoError, match=message):
        photos.read(tmp_path / "a.jpg")


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(LOSSY["jpeg"])

    def denied(_):  # for root no file is unreadable
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(PhotoError, match=r"file: cannot be read \(Permission denied\)"):
        photos.read(path)


NOISY = {
    "jpeg": encoded(NOISE, "JPEG"),
    "jpeg, progressive": encoded(NOISE, "JPEG", progressive=True),
    "jpeg, cmyk": encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "png": png(NOISE),
    "webp": encoded(NOISE, "WEBP"),
    "webp, lossless": encoded(NOISE, "WEBP", lossless=True),
    "tiff": encoded(NOISE, "TIFF"),
    "tiff, deflated": encoded(NOISE, "TIFF", compression="tiff_deflate"),
    "gif": encoded(Image.fromarray(NOISE), "GIF"),
    "bmp": encoded(NOISE, "BMP"),
    "ppm": encoded(NOISE, "PPM"),
    "heic": encoded(NOISE, "HEIF"),
    "avif": encoded(NOISE, "AVIF"),
    "jpeg 2000": encoded(NOISE, "JPEG2000"),
}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("name", NOISY)
def test_truncated_files_are_refused(name, share, capfd):
    data = NOISY[name]
    with pytest.raises(PhotoError, match="file: "):
        photos.decode(data[: int(len(data) * share)], HERE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NOISY)
def test_no_damage_raises_anything_else_or_prints(name, capfd):
    whole = NOISY[name]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 40))
    def damaged(changes, cut):
        data = bytearray(whole[: len(whole) - cut])
        for at, value in changes:
            data[min(at, len(data) - 1)] = value
        assert_sound(decode_or_refuse(bytes(data)))

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(4, 64), st.binary(max_size=400))
    def random_after_the_head(head, rest):
        assert_sound(decode_or_refuse(whole[:head] + rest))

    damaged()
    random_after_the_head()
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "" or name.startswith("tiff")  # libtiff itself reports errors there, and Pillow lets it


def assert_sound(found):
    assert found.isprintable() and len(found) < 300 if isinstance(found, str) else found.shape[2] == 3


def decode_or_refuse(data):
    try:
        decoded = photos.decode(data, HERE, long_side_px=32)
    except PhotoError as error:
        return str(error)
    return decoded.pixels


def jpeg_of_size(width, height):
    """A small JPEG that claims to be a large one."""
    data = bytearray(LOSSY["jpeg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(SCENE, size=(60_000, 60_000)), "photo: expected at most 150 megapixels, got far more"),
        (png(SCENE, size=(16_000, 10_000)), "photo: expected at most 150 megapixels, got 16000 x 10000"),
        (jpeg_of_size(60_000, 60_000), "photo: expected at most 300 megapixels, got 60000 x 60000"),
        (b"P6 60000 60000 255\n" + bytes(100), "photo: expected at most 150 megapixels, got far more"),
        (LOSSLESS["gif"][:6] + b"\xff\xff\xff\xff" + LOSSLESS["gif"][10:], "photo: expected at most 150 megapixels"),
    ],
)
def test_decompression_bombs_are_refused_by_their_header(data, message):
    with pytest.raises(PhotoError, match=message):  # their pixels are missing: decoding would say "truncated"
        photos.decode(data, HERE)


def test_a_file_that_takes_too_much_memory_is_refused(monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", exhausted)
    with pytest.raises(PhotoError, match="photo: decoding it takes more memory than there is"):
        photos.decode(LOSSY["jpeg"], HERE)


PEAK = """
import sys
from pathlib import Path
import PIL.Image, PIL.JpegImagePlugin, PIL.PngImagePlugin, simplejpeg
from visavis.face import photos

def high_water_mib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

before = high_water_mib()
photo = photos.read(Path(sys.argv[1]), long_side_px=1024)
print(*photo.pixels.shape, high_water_mib() - before)
"""


@pytest.mark.parametrize(
    ("form", "shape", "limit_mib"),
    [
        ("JPEG", (1250, 1250, 3), 40),  # one band of it at a time
        ("PNG", (1112, 1112, 3), 500),  # whole, four bytes a pixel, and little besides
    ],
)
def test_memory_for_100_megapixels_is_bounded(form, shape, limit_mib, tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    path = tmp_path / "large"
    Image.new("RGB", (10_000, 10_000), (90, 120, 200)).save(path, form)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    *found, peak = done.stdout.split()
    assert tuple(map(int, found)) == shape
    assert float(peak) < limit_mib
