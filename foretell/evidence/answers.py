"""What a model's outputs say: a class with its scores, or a number. Chosen once, from what the original answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.tensors import Array, Arrays

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
MOST_SHOWN = 8
FOR_CLASSES = ("accuracy", "f1", "auc")
OWN = "name a function of your own, --metric app.py:function"


@dataclass(frozen=True)
class Said:
    """What a model says of each row. ``classes`` [rows] number the classes of a ``Reading``, -1 for none of them.

    ``scores`` [rows, classes] and ``values`` [rows] are FP64; each is None where the model gives no such thing. ``outputs`` are
    those of the pipeline, for functions of the user's own.
    """

    outputs: Arrays
    classes: Places | None = None
    scores: Floats | None = None
    values: Floats | None = None

    def take(self, rows: Places) -> "Said":
        return Said(
            {name: array[rows] for name, array in self.outputs.items()},
            None if self.classes is None else self.classes[rows],
            None if self.scores is None else self.scores[rows],
            None if self.values is None else self.values[rows],
        )


@dataclass(frozen=True)
class Reading:
    """How outputs are read. ``order``: the classes by their number, as text; empty for a model that answers numbers.

    ``decided`` and ``scored`` name outputs: of the class itself, and of its scores or the number. ``logit``: one score of two
    classes that is no probability.
    """

    order: tuple[str, ...] = ()
    decided: str | None = None
    scored: str | None = None
    logit: bool = False

    def read(self, answers: Arrays, outputs: Arrays) -> Said:
        """The model's own ``answers``, and the pipeline's ``outputs`` beside them."""
        scores = values = None
        if self.scored is not None:
            found = answers[self.scored].astype(np.float64)
            scores, values = self._scores(found) if self.order else (None, found.reshape(len(found), -1))
        if not self.order:
            return Said(outputs, values=values)
        if self.decided is not None:
            return Said(outputs, self.encode(answers[self.decided], strict=False), scores)
        assert scores is not None
        return Said(outputs, scores.argmax(axis=1), scores)

    def encode(self, labels: Array, *, strict: bool = True) -> Places:
        """The numbers of classes; a label that is none of them raises Setup ``wrong_metric``, or with ``strict`` off is -1."""
        texts = as_texts(labels)
        numbers = {name: number for number, name in enumerate(self.order)}
        found = np.array([numbers.get(text, -1) for text in texts], np.int64)
        if strict and (found < 0).any():
            row = int(np.flatnonzero(found < 0)[0])
            shown = ", ".join(self.order[:MOST_SHOWN]) + (", ..." if len(self.order) > MOST_SHOWN else "")
            raise Setup("wrong_metric", f"row {row} has the label {texts[row][:80]!r}, the classes of the model are {shown}")
        return found

    def _scores(self, found: Floats) -> tuple[Floats, None]:
        if found.ndim == 2 and found.shape[1] > 1:
            return found, None
        one = found.reshape(-1)
        one = 1 / (1 + np.exp(-np.clip(one, -500, 500))) if self.logit else one
        return np.stack([1 - one, one], axis=1), None


def choose_reading(answers: Arrays, labels: Array | None, metric: str | None, names: Sequence[str] = ()) -> Reading:
    """From the original's own ``answers`` to some rows, their labels, and the metric that was asked for, if any.

    ``names`` are the classes by number, if the pipeline knows them. Raises Setup ``wrong_metric``.
    """
    scored = _named(answers, lambda array: array.dtype.kind not in "iubOSU")
    decided = _named(answers, lambda array: array.dtype.kind in "iubO" and array.size == len(array))
    width = 0 if scored is None else int(np.prod(answers[scored].shape[1:]))
    deep = scored is not None and answers[scored].ndim > 2 and decided is None
    _check_width(metric, answers, scored, decided)
    if (
        metric == "rmse"
        or deep
        or (width == 1 and decided is None and not _is_yes_or_no(answers[scored or ""], labels, metric))
    ):
        return Reading(scored=scored)
    logit = width == 1 and scored is not None and not _within_0_1(answers[scored])
    return Reading(_order(answers, labels, names, (decided, scored, max(width, 2))), decided, scored, logit)


def _check_width(metric: str | None, answers: Arrays, scored: str | None, decided: str | None) -> None:
    """That there is what the metric is about."""
    width = 0 if scored is None else int(np.prod(answers[scored].shape[1:]))
    flat = scored is not None and answers[scored].ndim <= 2
    fits = scored is not None or decided is not None
    if metric in FOR_CLASSES:
        fits = decided is not None or flat
    if metric == "rmse":
        fits = width == 1
    if not fits:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in answers.items())
        what = "one number a row" if metric == "rmse" else "one class a row"
        raise Setup("wrong_metric", f"{metric or 'agreement'} needs {what}, but the model answers {shapes}: {OWN}")


def as_texts(values: Array) -> list[str]:
    """Labels of any kind in one spelling: ``3.0``, ``3`` and ``b"3"`` are one class."""
    items: list[Any] = values.reshape(-1).tolist()
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(int(each)) if _is_whole(each) else str(each)
        for each in items
    ]


def _is_whole(value: object) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer())


def _order(
    answers: Arrays, labels: Array | None, names: Sequence[str], outputs: tuple[str | None, str | None, int]
) -> tuple[str, ...]:
    """The classes by number: the pipeline's own names; or those that occur, sorted, if they are as many; or their numbers."""
    decided, scored, width = outputs
    seen = set() if labels is None else set(as_texts(labels))
    seen |= set() if decided is None else set(as_texts(answers[decided]))
    if names and len(names) == width and (decided is None or seen <= set(names)):
        return tuple(names)
    numbered = [str(number) for number in range(width)]
    if scored is None or (len(seen) == width and decided is not None):
        return tuple(_sorted(seen))
    if decided is not None and not seen <= set(numbered):
        raise Setup(
            "wrong_metric",
            f"the model has scores for {width} classes, the rows and its answers name {len(seen)}: give rows of every class",
        )
    if seen <= set(numbered) or len(seen) != width:
        return tuple(numbered)
    return tuple(_sorted(seen))


def _sorted(names: set[str]) -> list[str]:
    """As numbers if they all are: 2 before 10."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def _named(answers: Arrays, test: Any) -> str | None:
    """The first output that passes, of several that of most columns."""
    found = [name for name, array in answers.items() if test(array)]
    return max(found, key=lambda name: int(np.prod(answers[name].shape[1:])), default=None)


def _is_yes_or_no(scores: Array, labels: Array | None, metric: str | None) -> bool:
    """Whether one float a row is the score of the second of two classes."""
    if metric in FOR_CLASSES:
        return True
    two = labels is not None and set(as_texts(labels)) <= {"0", "1"}
    return two and metric is None and _within_0_1(scores)


def _within_0_1(scores: Array) -> bool:
    floats = scores.astype(np.float64)
    return bool(floats.min(initial=0.0) >= 0.0 and floats.max(initial=0.0) <= 1.0)
