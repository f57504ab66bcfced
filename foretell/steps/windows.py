"""One row seen through several windows: cut before the model, merged into one answer after it.

The windows of a row become rows of their own, next to each other: ``count`` times as many rows go to the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Broken, Invalid
from foretell.steps import Specs, pick, refusal, require, require_choice, require_next, require_positive
from foretell.tensors import Arrays, Datatype, TensorSpec, show_shape

CROPS = 5


@dataclass(frozen=True)
class cut:
    """Cuts each row into ``count`` windows of ``size`` steps along its first axis; each window becomes a row.

    Any datatype of numbers [T, ...] -> [``size``, ...], ``count`` rows for each; other tensors are repeated beside them. The
    windows start ``stride`` steps apart, or, without ``stride``, are spread evenly from the first step to the last. A row that
    is too short is filled up with zeros; one that reaches beyond the last window is refused, Invalid ``wrong_shape``. Follow
    it after the model by ``windows.merge`` of the same count.
    """

    size: int
    count: int
    stride: int | None = None
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, size=self.size, count=self.count, stride=self.stride)

    def takes(self, gives: Specs) -> Specs:
        name = pick(self, gives, self.input)
        spec = gives[name]
        fits = bool(spec.shape) and spec.shape[0] in {None, self.size}
        require_next(self, spec, fits, f"windows of {show_shape([self.size])}")
        return {**gives, name: TensorSpec(name, spec.dtype, (None, *spec.shape[1:]))}

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        spec = takes[name]
        require(self, spec, bool(spec.shape) and spec.dtype is not Datatype.BYTES, "numbers of [T, ...]")
        if spec.shape[0] is not None and self.stride is not None and spec.shape[0] > self._reach(self.stride):
            raise refusal(self, f"its windows reach {self._reach(self.stride)} steps, but {spec} comes in: raise count")
        return {**takes, name: TensorSpec(name, spec.dtype, (self.size, *spec.shape[1:]))}

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        rows: NDArray[Any] = arrays[name]
        starts = self._starts(rows.shape[1], name)
        missing = max(0, int(starts[-1]) + self.size - rows.shape[1])
        padded = np.pad(rows, [(0, 0), (0, missing)] + [(0, 0)] * (rows.ndim - 2)) if missing else rows
        windows = padded[:, starts[:, None] + np.arange(self.size)]
        folded = windows.reshape(-1, *windows.shape[2:])
        return {**_repeated(arrays, self.count), name: folded}

    def _starts(self, length: int, name: str) -> NDArray[np.intp]:
        if self.stride is None:
            return np.round(np.linspace(0, max(0, length - self.size), self.count)).astype(np.intp)
        reach = self._reach(self.stride)
        if length > reach:
            why = f"input {name!r} has rows of {length} steps, the windows of this pipeline reach {reach}"
            raise Invalid("wrong_shape", why, input=name, expected=reach, got=length)
        return np.arange(self.count) * self.stride

    def _reach(self, stride: int) -> int:
        return (self.count - 1) * stride + self.size


@dataclass(frozen=True)
class crops:
    """Cuts each image into five: its four corners and its middle; each becomes a row.

    Any datatype [height, width, C] of any sizes -> [``height``, ``width``, C], 5 rows for each, in the order top left, top
    right, bottom left, bottom right, middle; other tensors are repeated beside them. Raises Invalid ``wrong_shape`` with the
    row's number for an image that is smaller. Follow it after the model by ``windows.merge`` of count 5.
    """

    height: int
    width: int
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, height=self.height, width=self.width)

    def takes(self, gives: Specs) -> Specs:
        name = pick(self, gives, self.input)
        spec = gives[name]
        require_next(self, spec, len(spec.shape) == 3, "images of [height, width, channels]")
        return {**gives, name: TensorSpec(name, spec.dtype, (None, None, spec.shape[2]))}

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        spec = takes[name]
        require(self, spec, len(spec.shape) == 3, "images of [height, width, channels]")
        return {**takes, name: TensorSpec(name, spec.dtype, (self.height, self.width, spec.shape[2]))}

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        images: NDArray[Any] = arrays[name]
        if images.dtype == object:
            folded = np.concatenate([self._five(image[None], row, name) for row, image in enumerate(images)])
        else:
            folded = self._five(images, 0, name)
        return {**_repeated(arrays, CROPS), name: folded}

    def _five(self, images: NDArray[Any], row: int, name: str) -> NDArray[Any]:
        down, right = images.shape[1] - self.height, images.shape[2] - self.width
        if down < 0 or right < 0:
            expected, got = [self.height, self.width], list(images.shape[1:3])
            why = f"input {name!r}, row {row}: the image has {show_shape(got)} pixels, less than {show_shape(expected)}"
            raise Invalid("wrong_shape", why, input=name, row=row, expected=expected, got=got)
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        cuts = [images[:, top : top + self.height, left : left + self.width] for top, left in corners]
        return np.stack(cuts, axis=1).reshape(-1, self.height, self.width, images.shape[3])


@dataclass(frozen=True)
class merge:
    """Merges the answers for the ``count`` windows of each row into one.

    Any [...], ``count`` rows for each original row -> [...] of the same datatype. ``by`` "mean" and "median" take floats, "max"
    any numbers. "vote" takes labels or whole numbers [...] and gives the commonest (of equally common ones that of the earlier
    window), or FP [C] and gives the share of windows in which each class was the largest. With ``input`` only that tensor is
    merged, and the others are dropped. Raises Broken ``wrong_output`` if the rows are no multiple of ``count``.
    """

    count: int
    by: Literal["mean", "max", "median", "vote"] = "mean"
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, count=self.count)
        require_choice(self, "by", self.by, ("mean", "max", "median", "vote"))

    def takes(self, gives: Specs) -> Specs:
        raise refusal(self, "it belongs after the model, in postprocess")

    def gives(self, takes: Specs) -> Specs:
        kept = {name: takes[name] for name in self._names(takes)}
        for spec in kept.values():
            if not self._fits(spec):
                raise refusal(
                    self, f"{spec} cannot be merged by {self.by}: say which to merge, input = ...; others are dropped"
                )
        return kept

    def __call__(self, arrays: Arrays) -> Arrays:
        merged = {}
        for name in self._names(arrays):
            rows: NDArray[Any] = arrays[name]
            if len(rows) % self.count:
                raise Broken("wrong_output", f"{len(rows)} rows came out of the model, no multiple of {self.count} windows")
            merged[name] = MERGES[self.by](rows.reshape(-1, self.count, *rows.shape[1:])).astype(rows.dtype)
        return merged

    def _names(self, tensors: Mapping[str, object]) -> list[str]:
        return list(tensors) if self.input is None else [pick(self, tensors, self.input)]

    def _fits(self, spec: TensorSpec) -> bool:
        if self.by == "vote":
            return not spec.dtype.is_float or len(spec.shape) == 1
        return spec.dtype.is_float or (self.by == "max" and spec.dtype.is_integer)


def _mean(windows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(windows.mean(axis=1, dtype=np.float64))


def _median(windows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.median(windows.astype(np.float64), axis=1))


def _largest(windows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(windows.max(axis=1))


def _vote(windows: NDArray[Any]) -> NDArray[Any]:
    if windows.dtype != object and Datatype.of(windows.dtype).is_float:
        winners = windows.argmax(axis=2)
        return np.asarray((winners[:, :, None] == np.arange(windows.shape[2])).mean(axis=1))
    agreeing = (windows[:, :, None] == windows[:, None, :]).sum(axis=2)
    first = agreeing.argmax(axis=1)
    return np.take_along_axis(windows, first[:, None], axis=1)[:, 0]


MERGES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {"mean": _mean, "max": _largest, "median": _median, "vote": _vote}


def _repeated(arrays: Arrays, count: int) -> Arrays:
    return {name: np.repeat(array, count, axis=0) for name, array in arrays.items()}
