"""Real encoders write the images, Pillow's own conversions are the reference, fuzzed bytes do no worse than ValueError."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from foretell.pixels import decode_image

COLOURS = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)


class TooManyError(Exception):
    pass


def any_size(width: int, height: int) -> None:
    if width * height > 10_000:
        raise TooManyError


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def webp(kind: bytes, body: bytes) -> bytes:
    data = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(data)) + data


SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMBS = {
    "png": SIGNATURE + header(50_000, 50_000) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""),
    "png with a second header": SIGNATURE + header(2, 2) + header(50_000, 50_000) + chunk(b"IDAT", zlib.compress(b"\0")),
    "jpeg": b"\xff\xd8\xff\xc0\x00\x0b\x08"
    + struct.pack(">HH", 60_000, 60_000)
    + b"\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00?\x00",
    "webp lossy": webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + b"\0" * 20),
    "webp lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 16_383 | 16_383 << 14) + b"\0" * 20),
    "webp extended": webp(b"VP8X", b"\x02\0\0\0" + (16_382).to_bytes(3, "little") * 2),
}

VALID = [
    encoded(Image.fromarray(COLOURS)),
    encoded(Image.fromarray(COLOURS), "JPEG"),
    encoded(Image.fromarray(COLOURS), "JPEG", progressive=True),
    encoded(Image.fromarray(COLOURS), "WEBP"),
    encoded(Image.fromarray(COLOURS), "WEBP", lossless=True),
    encoded(Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE), transparency=0),
    encoded(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
]


@pytest.mark.parametrize("options", [{"kind": "PNG"}, {"kind": "JPEG"}, {"kind": "WEBP"}, {"kind": "WEBP", "lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_each_format_decodes_as_pillow_does(options: dict[str, Any], mode: Any) -> None:
    data = encoded(Image.fromarray(COLOURS), **options)
    got = decode_image(data, mode, any_size)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    np.testing.assert_array_equal(got, wanted.reshape(7, 5, -1))
    assert got.dtype == np.uint8


@pytest.mark.parametrize("stored", ["1", "L", "P", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_every_colour_mode_comes_as_the_one_asked_for(stored: str, mode: Any) -> None:
    image = Image.fromarray(COLOURS).convert(stored)
    got = decode_image(encoded(image, "JPEG" if stored == "CMYK" else "PNG"), mode, any_size)
    assert got.shape == (7, 5, {"L": 1, "RGB": 3, "RGBA": 4}[mode])
    if stored != "CMYK":
        np.testing.assert_array_equal(got, np.asarray(image.convert(mode)).reshape(got.shape))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_stands_upright_as_its_exif_says(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOURS), kind, exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, "RGB", any_size), wanted)


@pytest.mark.parametrize("tail", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"XX*\0\0\0\0\0"])
def test_a_broken_exif_block_does_not_refuse_the_picture(tail: bytes) -> None:
    data = encoded(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0" + tail)
    np.testing.assert_array_equal(decode_image(data, "RGB", any_size), COLOURS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own, as it looks for the resolution
def test_a_broken_exif_block_in_a_jpeg_does_not_refuse_the_picture() -> None:
    data = encoded(Image.fromarray(COLOURS), "JPEG")
    block = b"Exif\0\0II*\0\xff\xff\xff\xff"
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    np.testing.assert_array_equal(decode_image(broken, "RGB", any_size), decode_image(data, "RGB", any_size))


def test_what_is_transparent_is_laid_on_white() -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = [0, 51, 255]
    data = encoded(Image.fromarray(pixels))
    assert decode_image(data, "L", any_size)[0, :, 0].tolist() == [255, 204, 0]
    np.testing.assert_array_equal(decode_image(data, "RGBA", any_size), pixels)


def test_a_transparent_palette_colour_and_a_transparent_grey_are_laid_on_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    assert decode_image(encoded(palette, transparency=0), "RGB", any_size).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    grey = Image.fromarray(np.array([[7, 9]], dtype=np.uint8))
    assert decode_image(encoded(grey, transparency=7), "L", any_size).tolist() == [[[255], [9]]]


def test_sixteen_bits_a_pixel_are_scaled_to_eight_and_not_clipped() -> None:
    deep: NDArray[np.uint16] = np.array([[0, 128, 257 * 100, 65535]], dtype=np.uint16)
    got = decode_image(encoded(Image.fromarray(deep)), "L", any_size)
    assert got[0, :, 0].tolist() == [0, 0, 100, 255]


def test_of_an_animation_the_first_picture_counts() -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(first, kind, save_all=True, append_images=[second], **options)
        assert decode_image(data, "RGB", any_size)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_huge_declared_size_is_seen_before_anything_is_decoded(bomb: bytes) -> None:
    with pytest.raises(TooManyError):
        decode_image(bomb, "RGB", any_size)


@pytest.mark.parametrize("data", VALID, ids=range(len(VALID)))
def test_a_picture_that_is_cut_off_anywhere_is_refused_or_whole(data: bytes) -> None:
    whole = decode_image(data, "RGB", any_size)
    for length in range(0, len(data) // 2, 7):
        with pytest.raises(ValueError, match="do not decode"):
            decode_image(data[:length], "RGB", any_size)
    assert whole.shape in {(7, 5, 3), (5, 7, 3)}


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="PNG, JPEG or WebP"):
        decode_image(encoded(Image.fromarray(COLOURS), kind), "RGB", any_size)


@given(data=st.sampled_from(VALID), edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_decode_or_are_refused_and_nothing_else(data: bytes, edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for at, value in edits:
        damaged[at % len(data)] = value
    try:
        got = decode_image(bytes(damaged), "RGB", any_size)
    except (ValueError, TooManyError):
        return
    assert got.dtype == np.uint8
    assert got.shape[2] == 3


@given(st.binary(max_size=64))
def test_any_bytes_are_refused(tail: bytes) -> None:
    for magic in (b"", SIGNATURE + b"\0\0\0\x0dIHDR", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X"):
        with pytest.raises((ValueError, TooManyError)):
            decode_image(magic + tail, "RGB", any_size)
