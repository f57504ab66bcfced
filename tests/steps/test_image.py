import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from foretell import steps
from foretell.errors import Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

image: Any = steps.image

RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (3, 12, 9, 3), dtype=np.uint8)


class Echo:
    """A model of 64 features that gives them back."""

    signature = Signature((TensorSpec("image", Datatype.FP32, (64,)),), (TensorSpec("image", Datatype.FP32, (64,)),))

    def forward(self, inputs: Arrays) -> Arrays:
        return inputs

    def close(self) -> None:
        return None


def objects(*items: object) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def png(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def refused(step: Any, rows: NDArray[Any]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        step({"photo": rows})
    return caught.value


def test_images_of_one_size_come_as_one_dense_array() -> None:
    got = image.decode()({"photo": objects(*map(png, PHOTOS))})["photo"]
    np.testing.assert_array_equal(got, PHOTOS)
    assert got.dtype == np.uint8


def test_images_of_different_sizes_come_as_they_are_until_they_get_one_size() -> None:
    rows = objects(png(PHOTOS[0]), png(PHOTOS[1, :5]))
    decoded = image.decode()({"photo": rows})
    assert [pixels.shape for pixels in decoded["photo"]] == [(12, 9, 3), (5, 9, 3)]
    for step in (image.resize(4, 4), image.crop(4, 4)):
        got = step(decoded)["photo"]
        assert got.shape == (2, 4, 4, 3)
        for at in range(2):
            np.testing.assert_array_equal(got[at], step({"photo": decoded["photo"][at][None]})["photo"][0])


@pytest.mark.parametrize("step", [image.invert(), image.invert("light"), image.contrast()])
def test_a_change_of_pixels_works_on_images_of_different_sizes(step: Any) -> None:
    mixed = objects(PHOTOS[0], PHOTOS[1, :5])
    got = step({"photo": mixed})["photo"]
    for at in range(2):
        np.testing.assert_array_equal(got[at], step({"photo": mixed[at][None]})["photo"][0])


@pytest.mark.parametrize("step", [image.layout(), image.normalise(), image.flatten()])
def test_a_step_that_needs_one_size_says_so(step: Any) -> None:
    error = refused(step, objects(PHOTOS[0], PHOTOS[1, :5]))
    assert error.code == "wrong_shape"
    assert "(12, 9)" in error.message
    assert "(5, 9)" in error.message


@pytest.mark.parametrize(
    "bad",
    [b"", b"hello", png(PHOTOS[0])[:-30], png(PHOTOS[0])[:20], b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "text"],
    ids=["empty", "text", "cut off", "half a header", "gif", "str"],
)
def test_what_is_no_image_is_refused_with_its_row(bad: object) -> None:
    error = refused(image.decode(), objects(png(PHOTOS[0]), bad))
    assert (error.code, error.details["input"], error.details["row"]) == ("bad_image", "photo", 1)
    assert "row 1" in error.message
    assert "/" not in error.message


def test_an_image_above_the_pixel_limit_is_refused() -> None:
    error = refused(image.decode(max_pixels=100), objects(png(PHOTOS[0])))
    assert (error.code, error.details["expected"], error.details["got"]) == ("bad_image", 100, 108)
    assert "9 x 12" in error.message


def test_images_that_are_too_large_together_are_refused_unless_each_is_resized_at_once() -> None:
    rows = objects(*map(png, PHOTOS))
    error = refused(image.decode(max_request_pixels=300), rows)
    assert (error.code, error.details["row"], error.details["got"]) == ("bad_image", 2, 324)
    assert image.decode(height=4, width=4, max_request_pixels=300)({"photo": rows})["photo"].shape == (3, 4, 4, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_resize_is_pillows_and_the_same_inside_decode(mode: Any, name: Any) -> None:
    rows = {"photo": objects(*map(png, PHOTOS))}
    got = image.resize(5, 4, name)(image.decode(mode)(rows))["photo"]
    reference = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS", "area": "BOX"}[name]
    for pixels, photo in zip(got, PHOTOS, strict=True):
        wanted = Image.fromarray(photo).convert(mode).resize((4, 5), Image.Resampling[reference])
        np.testing.assert_array_equal(pixels, np.asarray(wanted).reshape(5, 4, -1))
    np.testing.assert_array_equal(image.decode(mode, height=5, width=4, filter=name)(rows)["photo"], got)


def test_crop_takes_the_middle_and_refuses_what_is_smaller() -> None:
    got = image.crop(4, 5)({"photo": PHOTOS})["photo"]
    np.testing.assert_array_equal(got, PHOTOS[:, 4:8, 2:7])
    error = refused(image.crop(6, 9), objects(PHOTOS[0], PHOTOS[1, :5]))
    assert (error.code, error.details["row"], error.details["got"]) == ("wrong_shape", 1, [5, 9])


def test_layout_moves_the_channels_and_back() -> None:
    moved = image.layout("CHW")({"photo": PHOTOS})
    np.testing.assert_array_equal(moved["photo"], np.moveaxis(PHOTOS, 3, 1))
    np.testing.assert_array_equal(image.layout("HWC")(moved)["photo"], PHOTOS)
    assert image.layout("HWC").gives({"x": TensorSpec("x", Datatype.UINT8, (3, 12, 9))})["x"].shape == (12, 9, 3)


@pytest.mark.parametrize("order", ["HWC", "CHW"])
def test_normalise_is_the_formula_a_channel(order: Any) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    wanted = (PHOTOS / 255 - mean) / std
    rows = PHOTOS if order == "HWC" else np.moveaxis(PHOTOS, 3, 1)
    got = image.normalise(mean, std, order=order)({"photo": rows})["photo"]
    np.testing.assert_allclose(got, wanted if order == "HWC" else np.moveaxis(wanted, 3, 1), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


def test_invert_may_leave_light_strokes_on_black_as_they_are() -> None:
    black, white = np.zeros((1, 5, 5, 1), np.uint8), np.full((1, 5, 5, 1), 255, np.uint8)
    black[0, 2, 2], white[0, 2, 2] = 255, 0
    both = np.concatenate([black, white])
    np.testing.assert_array_equal(image.invert("light")({"x": both})["x"], np.concatenate([black, black]))
    np.testing.assert_array_equal(image.invert()({"x": both})["x"], np.concatenate([white, black]))


def test_contrast_stretches_to_the_full_range_and_leaves_a_flat_image() -> None:
    rows = np.array([[[[10], [20]], [[15], [10]]], [[[7], [7]], [[7], [7]]]], dtype=np.uint8)
    got = image.contrast()({"x": rows})["x"]
    assert got[0, :, :, 0].tolist() == [[0, 255], [128, 0]]
    assert got[1].tolist() == rows[1].tolist()


def test_the_digits_come_back_exactly_from_png_files_of_any_polarity_and_size() -> None:
    digits = load_digits().images[:20]
    ink = np.round(digits * 255 / 16).astype(np.uint8)
    before = [
        image.decode(mode="L", height=8, width=8, filter="area"),
        image.invert(when="light"),
        image.normalise(scale=16 / 255),
        image.flatten(),
    ]
    pipeline = Pipeline(Echo(), before)
    assert [str(spec) for spec in pipeline.signature.inputs] == ["image BYTES []"]
    light_on_black = [png(digit) for digit in ink]
    ink_on_paper = [png(np.kron(255 - digit, np.ones((3, 3), np.uint8))) for digit in ink]
    for files in (light_on_black, ink_on_paper):
        got = pipeline({"image": objects(*files)})["image"]
        np.testing.assert_array_equal(np.round(np.asarray(got, dtype=np.float32)), digits.reshape(20, 64))


def test_steps_that_do_not_fit_what_comes_in_are_refused_at_start() -> None:
    pixels = {"x": TensorSpec("x", Datatype.UINT8, (12, 9, 3))}
    flat = {"x": TensorSpec("x", Datatype.UINT8, (12,))}
    for step, specs in (
        (image.decode(), pixels),
        (image.resize(2, 2), {"x": TensorSpec("x", Datatype.FP32, (12, 9, 3))}),
        (image.resize(2, 2), {"x": TensorSpec("x", Datatype.UINT8, (12, 9, 7))}),
        (image.crop(13, 1), pixels),
        (image.invert(), {"x": TensorSpec("x", Datatype.UINT8, (12, 9, 4))}),
        (image.layout(), flat),
        (image.normalise(), flat),
        (image.normalise(mean=[1, 2]), pixels),
        (image.flatten(), flat),
    ):
        with pytest.raises(Setup, match="image"):
            step.gives(specs)
    for step in (image.resize(2, 2), image.crop(2, 2)):
        with pytest.raises(Setup, match="gives images"):
            step.takes(flat)


def test_options_that_cannot_be_meant_are_refused() -> None:
    make: Callable[[], object]
    for make in (
        lambda: image.decode("CMYK"),
        lambda: image.decode(height=8),
        lambda: image.decode(max_pixels=0),
        lambda: image.resize(0, 8),
        lambda: image.resize(8, 8, "best"),
        lambda: image.crop(8, -1),
        lambda: image.invert("sometimes"),
        lambda: image.layout("WHC"),
        lambda: image.normalise(mean=[1, 2], std=[1, 2, 3]),
        lambda: image.normalise(std=0),
    ):
        with pytest.raises(Setup) as caught:
            make()
        assert caught.value.code == "broken_pipeline"
