"""PNG, JPEG and WebP bytes to pixels, upright, with a look at the header before any memory is taken. Pillow does the work."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

Pixels = NDArray[Any]
Mode = Literal["RGB", "L", "RGBA"]

# What Pillow's decoders raise on hostile bytes (warnings under -W error); anything else is a mistake of ours.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Warning,
)

# EXIF 2.32, tag 0x0112: how the stored pixels are turned upright.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def decode_image(data: bytes, mode: Mode, check_size: Callable[[int, int], None]) -> Pixels:
    """UINT8 [height, width, channels] of one encoded image; ``check_size(width, height)`` may raise before it is decoded.

    Raises ValueError for bytes that are not an image of the three formats, or not a whole one.
    """
    try:
        width, height, image = _open(data)
        check_size(width, height)
        with image() as opened:
            check_size(*opened.size)  # a second header may contradict the first
            opened.load()
            pixels = _to_mode(opened, mode)
            turn = UPRIGHT.get(_orientation(opened.info.get("exif", b"")))
            return pixels if turn is None else np.ascontiguousarray(turn(pixels))
    except DECODE_ERRORS as error:
        raise ValueError("the bytes do not decode as PNG, JPEG or WebP") from error


def resize_image(pixels: Pixels, height: int, width: int, resampling: int) -> Pixels:
    """UINT8 [height, width, channels] scaled to one size; ``resampling`` is a number of PIL.Image.Resampling."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image

    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling(resampling)))
    return scaled[:, :, None] if scaled.ndim == 2 else scaled


def _open(data: bytes) -> tuple[int, int, "Callable[[], ImageFile]"]:
    """Width and height from the header, and what opens the image; nothing is allocated before. Raises SyntaxError.

    The three plugins are called by name, not through Image.open: that would warn and refuse above its own limit.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    if data.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"):
        width, height = struct.unpack_from(">II", data, 16)
        return width, height, lambda: PngImageFile(io.BytesIO(data))
    if data.startswith(b"\xff\xd8\xff"):
        image = JpegImageFile(io.BytesIO(data))  # reads the header only
        return *image.size, lambda: image
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return *_webp_size(data), lambda: WebPImageFile(io.BytesIO(data))
    raise SyntaxError("none of the three formats")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file: its decoder takes memory for the canvas as soon as it is opened.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise SyntaxError("no WebP picture")


def _orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; a broken EXIF block does not make a picture unreadable, so that counts as 1.

    Read here because Pillow prints a warning for every broken block. EXIF 2.32, 4.6.2: entries of 12 bytes after a count.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        start = struct.unpack_from(f"{order}I", tiff, 4)[0]
        for entry in range(struct.unpack_from(f"{order}H", tiff, start)[0]):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        return 1
    return 1


def _to_mode(image: "Image.Image", mode: Mode) -> Pixels:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel: convert() would clip where it should scale
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if mode != "RGBA" and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    pixels = np.asarray(image.convert(mode))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
