"""Encoded images to a model's pixels: PNG, JPEG or WebP bytes come in, [height, width, channels] arrays go on.

Until a step gives them one size, the images of one request may differ in size: then they travel as an object array of arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from foretell.errors import Invalid
from foretell.pixels import Mode, Pixels, decode_image, resize_image
from foretell.plugins import needs_extra
from foretell.steps import TensorStep, derive, refusal, require, require_choice, require_next, require_positive
from foretell.tensors import Datatype, TensorSpec, show_shape

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
Order = Literal["HWC", "CHW"]

CHANNELS: dict[str, int] = {"L": 1, "RGB": 3, "RGBA": 4}
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "area": 4}  # PIL.Image.Resampling; area is its BOX


@dataclass(frozen=True)
class decode(TensorStep):
    """Decodes PNG, JPEG and WebP images, upright as their EXIF orientation says.

    BYTES [] -> UINT8 [height, width, C], C = 3 for ``mode`` "RGB", 1 for "L" (grey), 4 for "RGBA". Palettes, CMYK and 16 bits a
    channel are converted; what is transparent is laid on white, except in mode "RGBA"; of an animation the first picture
    counts. With ``height`` and ``width`` each image is resized by ``filter`` as soon as it is decoded: the same as a following
    ``image.resize``, but only one image at full size is in memory at a time. Raises Invalid ``bad_image`` with the row's
    number, also for an image of more than ``max_pixels`` (known from its header, before memory is taken for it), and when the
    images of one request that are held at full size have together more than ``max_request_pixels``.
    """

    mode: Mode = "RGB"
    height: int | None = None
    width: int | None = None
    filter: Filter = "bilinear"
    max_pixels: int = 25_000_000
    max_request_pixels: int = 100_000_000
    slow: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_choice(self, "mode", self.mode, CHANNELS)
        require_choice(self, "filter", self.filter, FILTERS)
        if (self.height is None) != (self.width is None):
            raise refusal(self, "give height and width both, or neither")
        require_positive(self, height=self.height, width=self.width)
        require_positive(self, max_pixels=self.max_pixels, max_request_pixels=self.max_request_pixels)
        _need_pillow(self)

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, Datatype.BYTES)

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype is Datatype.BYTES and not spec.shape, "one BYTES value a row: the encoded image")
        return TensorSpec(spec.name, Datatype.UINT8, (self.height, self.width, CHANNELS[self.mode]))

    def compute(self, rows: Pixels, name: str) -> Pixels:
        images, held = [], 0
        for row, data in enumerate(rows):
            image = self._decode(data, name, row)
            held += image.shape[0] * image.shape[1]
            if self.height is None and held > self.max_request_pixels:
                why = f"the images up to this one have {held} pixels together, a request may have {self.max_request_pixels}"
                raise _bad_image(name, row, f"{why}: send fewer images at a time", self.max_request_pixels, held)
            images.append(image)
        return gather(images)

    def _decode(self, data: bytes, name: str, row: int) -> Pixels:
        def check_size(width: int, height: int) -> None:
            if width * height > self.max_pixels:
                why = f"the image has {width} x {height} = {width * height} pixels, at most {self.max_pixels} are allowed"
                raise _bad_image(name, row, why, self.max_pixels, width * height)

        try:
            image = decode_image(data, self.mode, check_size)
        except ValueError as error:
            expected = "a PNG, JPEG or WebP image"
            why = f"expected {expected}, got {len(data)} bytes that do not decode as one"
            raise _bad_image(name, row, why, expected, f"{len(data)} other bytes") from error
        if self.height is None or self.width is None:
            return image
        return resize_image(image, self.height, self.width, FILTERS[self.filter])


@dataclass(frozen=True)
class resize(TensorStep):
    """Scales each image to one size; its proportions are not kept.

    UINT8 [height, width, C] of any sizes -> UINT8 [``height``, ``width``, C]. ``filter`` is "nearest", "bilinear", "bicubic",
    "lanczos" or "area" (the mean of the pixels covered), as Pillow computes them: when it shrinks, every pixel counts, except
    in "nearest".
    """

    height: int
    width: int
    filter: Filter = "bilinear"
    slow: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_choice(self, "filter", self.filter, FILTERS)
        require_positive(self, height=self.height, width=self.width)
        _need_pillow(self)

    def before(self, spec: TensorSpec) -> TensorSpec:
        return _loose(self, spec, Datatype.UINT8)

    def after(self, spec: TensorSpec) -> TensorSpec:
        _require_image(self, spec, (1, 2, 3, 4))
        return TensorSpec(spec.name, Datatype.UINT8, (self.height, self.width, spec.shape[2]))

    def compute(self, rows: Pixels, name: str) -> Pixels:
        return gather([resize_image(image, self.height, self.width, FILTERS[self.filter]) for image in rows])


@dataclass(frozen=True)
class crop(TensorStep):
    """Cuts ``height`` x ``width`` pixels out of the middle of each image.

    Any datatype [height, width, C] of any sizes -> [``height``, ``width``, C]. Raises Invalid ``wrong_shape`` with the row's
    number for an image that is smaller.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        require_positive(self, height=self.height, width=self.width)

    def before(self, spec: TensorSpec) -> TensorSpec:
        return _loose(self, spec, spec.dtype)

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, len(spec.shape) == 3, "images of [height, width, channels]")
        sizes = zip(spec.shape, (self.height, self.width), strict=False)
        small = any(size is not None and size < least for size, least in sizes)
        require(self, spec, not small, f"images of at least {self.height} x {self.width}")
        return TensorSpec(spec.name, spec.dtype, (self.height, self.width, spec.shape[2]))

    def compute(self, rows: Pixels, name: str) -> Pixels:
        for row, image in enumerate(rows if rows.dtype == object else rows[:1]):
            if image.shape[0] < self.height or image.shape[1] < self.width:
                expected, got = [self.height, self.width], list(image.shape[:2])
                why = f"input {name!r}, row {row}: the image has {show_shape(got)} pixels, less than {show_shape(expected)}"
                raise Invalid("wrong_shape", why, input=name, row=row, expected=expected, got=got)
        return each(self._cut, rows)

    def _cut(self, images: Pixels) -> Pixels:
        top, left = (images.shape[1] - self.height) // 2, (images.shape[2] - self.width) // 2
        return np.ascontiguousarray(images[:, top : top + self.height, left : left + self.width])


@dataclass(frozen=True)
class invert(TensorStep):
    """Turns light into dark and dark into light: 255 - x.

    UINT8 [height, width, C], C = 1 or 3 -> the same. With ``when = "light"`` only images whose border pixels are on average
    lighter than 127.5, so that a photo of ink on paper becomes light strokes on black, and one that is so already stays.
    """

    when: Literal["always", "light"] = "always"

    def __post_init__(self) -> None:
        require_choice(self, "when", self.when, ("always", "light"))

    def after(self, spec: TensorSpec) -> TensorSpec:
        _require_image(self, spec, (1, 3))
        return spec

    def compute(self, rows: Pixels, name: str) -> Pixels:
        return each(self._invert, rows)

    def _invert(self, images: Pixels) -> Pixels:
        if self.when == "always":
            return 255 - images
        edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
        border = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
        light = border.mean(axis=1) > 127.5
        return np.where(light[:, None, None, None], 255 - images, images)


@dataclass(frozen=True)
class contrast(TensorStep):
    """Stretches each image so that its darkest value becomes 0 and its lightest 255; an image of one value stays.

    UINT8 [height, width, C] -> the same: (x - min) * 255 / (max - min), rounded, over all channels of an image together.
    """

    def after(self, spec: TensorSpec) -> TensorSpec:
        _require_image(self, spec, (1, 3))
        return spec

    def compute(self, rows: Pixels, name: str) -> Pixels:
        return each(_stretch, rows)


@dataclass(frozen=True)
class layout(TensorStep):
    """Moves the channels: [height, width, C] -> [C, height, width] for ``order = "CHW"``, and back for "HWC".

    Any datatype, images of one size. Raises Invalid ``wrong_shape`` when the sizes of one request's images differ.
    """

    order: Order = "CHW"

    def __post_init__(self) -> None:
        require_choice(self, "order", self.order, ("CHW", "HWC"))

    def before(self, spec: TensorSpec) -> TensorSpec:
        return self._moved(spec, "HWC" if self.order == "CHW" else "CHW")

    def after(self, spec: TensorSpec) -> TensorSpec:
        return self._moved(spec, self.order)

    def compute(self, rows: Pixels, name: str) -> Pixels:
        axes = (0, 3, 1, 2) if self.order == "CHW" else (0, 2, 3, 1)
        return np.ascontiguousarray(_dense(rows, name).transpose(axes))

    def _moved(self, spec: TensorSpec, order: str) -> TensorSpec:
        require(self, spec, len(spec.shape) == 3, "images of three axes")
        a, b, c = spec.shape
        return TensorSpec(spec.name, spec.dtype, (c, a, b) if order == "CHW" else (b, c, a))


@dataclass(frozen=True)
class normalise(TensorStep):
    """Turns pixels into the numbers that the model was trained on: (x * scale - mean) / std.

    UINT8 or FP32 [height, width, C] -> FP32 of the same shape; for [C, height, width] say ``order = "CHW"``. ``mean`` and
    ``std`` are one number or a list of C, in units after scaling (0 to 1 with the default ``scale`` of 1/255). Images of one
    size. Raises Invalid ``wrong_shape`` when the sizes of one request's images differ.
    """

    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    scale: float = 1 / 255
    order: Order = "HWC"
    _mean: Pixels = field(init=False, repr=False, compare=False)
    _std: Pixels = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_choice(self, "order", self.order, ("HWC", "CHW"))
        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        if mean.ndim > 1 or std.ndim > 1 or (mean.ndim and std.ndim and mean.size != std.size):
            raise refusal(self, "mean and std are each one number, or lists with one number a channel")
        if not (std > 0).all():
            raise refusal(self, f"every std must be above 0, not {self.std}")
        shape = (-1,) if self.order == "HWC" else (-1, 1, 1)
        derive(self, _mean=mean.reshape(shape), _std=std.reshape(shape))

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, Datatype.UINT8, spec.shape)

    def after(self, spec: TensorSpec) -> TensorSpec:
        fits = spec.dtype in {Datatype.UINT8, Datatype.FP32} and len(spec.shape) == 3
        require(self, spec, fits, "UINT8 or FP32 images of three axes")
        count = max(self._mean.size, self._std.size)
        channels = spec.shape[2 if self.order == "HWC" else 0]
        require(self, spec, count == 1 or channels in {None, count}, f"{count} channels, as many as mean and std have,")
        return TensorSpec(spec.name, Datatype.FP32, spec.shape)

    def compute(self, rows: Pixels, name: str) -> Pixels:
        return (_dense(rows, name).astype(np.float32) * np.float32(self.scale) - self._mean) / self._std


@dataclass(frozen=True)
class flatten(TensorStep):
    """Lays the values of each image in one line, the last axis fastest: [height, width, C] -> [height * width * C].

    Any datatype, images of one size. Raises Invalid ``wrong_shape`` when the sizes of one request's images differ.
    """

    def before(self, spec: TensorSpec) -> TensorSpec:
        require_next(self, spec, len(spec.shape) == 1, "a tensor of one axis")
        return TensorSpec(spec.name, spec.dtype, (None, None, None))

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, len(spec.shape) == 3, "images of three axes")
        a, b, c = spec.shape
        return TensorSpec(spec.name, spec.dtype, (None if a is None or b is None or c is None else a * b * c,))

    def compute(self, rows: Pixels, name: str) -> Pixels:
        return _dense(rows, name).reshape(len(rows), -1)


def gather(images: Sequence[Pixels]) -> Pixels:
    """Images as one array: [rows, height, width, C] if all have one size, else an object array of them."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    held = np.empty(len(images), dtype=object)
    held[:] = images
    return held


def each(change: Callable[[Pixels], Pixels], images: Pixels) -> Pixels:
    """``change`` of [rows, height, width, C], also where the images have different sizes."""
    if images.dtype != object:
        return change(images)
    return gather([change(image[None])[0] for image in images])


def _stretch(images: Pixels) -> Pixels:
    low = images.min(axis=(1, 2, 3), keepdims=True).astype(np.float32)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    stretched = np.round((images - low) * (255 / np.where(span > 0, span, 1))).astype(np.uint8)
    return np.where(span > 0, stretched, images)


def _dense(images: Pixels, name: str) -> Pixels:
    if images.dtype != object:
        return images
    sizes = sorted({image.shape[:2] for image in images})
    why = f"the images of input {name!r} have different sizes, as {sizes[0]} and {sizes[-1]}: send them one by one"
    raise Invalid("wrong_shape", why, input=name, expected="images of one size", got=[list(size) for size in sizes[:2]])


def _loose(step: object, spec: TensorSpec, dtype: Datatype) -> TensorSpec:
    require_next(step, spec, len(spec.shape) == 3, "images of [height, width, channels]")
    return TensorSpec(spec.name, dtype, (None, None, spec.shape[2]))


def _require_image(step: object, spec: TensorSpec, channels: tuple[int, ...]) -> None:
    fits = spec.dtype is Datatype.UINT8 and len(spec.shape) == 3 and spec.shape[2] in {None, *channels}
    require(step, spec, fits, f"UINT8 images of [height, width, {' or '.join(map(str, channels))}]")


def _need_pillow(step: object) -> None:
    with needs_extra(f"step 'image.{type(step).__name__}'", "images"):
        import PIL.Image  # noqa: F401


def _bad_image(name: str, row: int, why: str, expected: object, got: object) -> Invalid:
    return Invalid("bad_image", f"input {name!r}, row {row}: {why}", input=name, row=row, expected=expected, got=got)
