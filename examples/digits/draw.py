"""Draws a digit of scikit-learn as a PNG of any size, in any of the colour modes that people send."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODES = ("L", "RGB", "RGBA", "P", "LA", "1")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
WHITE_ON_BLACK = ((0, 0, 0), (255, 255, 255))
BLACK_ON_WHITE = ((255, 255, 255), (0, 0, 0))
INK_ON_PAPER = ((250, 240, 215), (40, 60, 150))

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """How a digit is drawn: side in pixels, how it was enlarged, colour mode, and the colours of paper and ink."""

    side: int = 8
    enlarged: str = "bicubic"
    mode: str = "L"
    colours: tuple[Colour, Colour] = WHITE_ON_BLACK
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


def draw(digit: NDArray[np.float64], look: Look) -> bytes:
    """An 8x8 digit of ink 0..16 as a PNG. ``turn`` is in degrees, ``shift`` in parts of the side."""
    ink = Image.fromarray(np.round(digit * 255 / 16).astype(np.uint8))
    ink = ink.resize((look.side, look.side), FILTERS[look.enlarged])
    if look.turn or any(look.shift):
        across, down = (round(part * look.side) for part in look.shift)
        ink = ink.rotate(look.turn, Image.Resampling.BILINEAR, translate=(across, down))
    return to_png(colour(ink, look), look.mode)


def colour(ink: Image.Image, look: Look) -> Image.Image:
    """Paper where there is no ink, the ink's colour where there is, and what lies between."""
    if look.mode == "1":  # two colours only: no dots to feign grey
        ink = ink.point([255 if level > 127 else 0 for level in range(256)])
    paper, pen = (np.array(rgb, np.float64) for rgb in look.colours)
    share = np.asarray(ink, np.float64)[..., None] / 255
    return Image.fromarray(np.round(paper + (pen - paper) * share).astype(np.uint8))


def to_png(image: Image.Image, mode: str) -> bytes:
    if mode == "P":
        image = image.quantize(64)
    elif mode == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
    else:
        image = image.convert(mode)
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()
