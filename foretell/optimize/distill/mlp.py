"""A student of dense layers, trained by Adam (Kingma and Ba, 2015) in numpy alone.

Of classes it learns the teacher's soft answers at a temperature (Hinton et al., "Distilling the Knowledge in a Neural Network",
2015), and the labels for a small part; of numbers their standardized values.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.optimize.distill.lesson import Floats, Lesson

Matrix = NDArray[np.float32]
BATCH_ROWS = 64
RATE = 3e-3
HINT_SHARE = 0.3
LAYERS = 3


@dataclass(frozen=True)
class Teaching:
    """How it is taught: ``temperature`` of the soft answers; the share that ``labels`` have in what is learned; rounds of
    rows."""

    temperature: float = 2.0
    labels: float = 0.1
    epochs: int = 60
    seed: int = 0


@dataclass(frozen=True)
class Dense:
    """Layers of weights [in, out] and biases, ReLU between them, from the features as they come to logits or values."""

    layers: tuple[tuple[Matrix, Matrix], ...]

    def raw(self, features: Floats) -> Floats:
        found = features
        for place, (weight, bias) in enumerate(self.layers):
            found = found @ weight + bias
            found = np.maximum(found, 0) if place < len(self.layers) - 1 else found
        return found


def width_for(features: int, outputs: int, parameters: int) -> int:
    """The widest two hidden layers, equally wide, that so many parameters allow: 0 if none do."""
    linear = features + outputs + 2
    return max(0, int((-linear + np.sqrt(linear**2 + 4 * max(0, parameters - outputs))) / 2))


def train(lesson: Lesson, width: int, teaching: Teaching, say: Callable[[float], None]) -> Dense:
    """Two hidden layers of ``width``; ``say`` is told the share that is done. The same seed gives the same weights."""
    features, wanted = lesson.features(), lesson.wanted
    mean, scale = features.mean(axis=0), _inverse(features.std(axis=0))
    given = ((features - mean) * scale).astype(np.float32)
    shift, stretch = (0.0, 1.0) if lesson.form.classes else (wanted.mean(axis=0), np.maximum(wanted.std(axis=0), 1e-12))
    aims = ((wanted - shift) / stretch).astype(np.float32)
    hints = None if lesson.hints is None else lesson.hints.astype(np.float32)
    outputs = aims.shape[1] + (0 if hints is None else hints.shape[1])
    dice = np.random.default_rng(teaching.seed)
    weights = _begin(dice, [given.shape[1], width, width, outputs])
    state = [(np.zeros_like(each), np.zeros_like(each)) for each in weights]
    total = teaching.epochs * -(-len(given) // BATCH_ROWS)
    for step, rows in enumerate(_batches(dice, len(given), teaching.epochs), 1):
        values = _forward(weights, given[rows])
        slope = _slope(values[-1], aims, hints, rows, lesson, teaching)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / total))
        _adam(weights, _backward(weights, values, slope), state, step, rate)
        if step % 50 == 0:
            say(step / total)
    return _finished(weights, aims.shape[1], (mean, scale), (shift, stretch))


def _inverse(spread: Floats) -> Floats:
    """A feature that never changes tells nothing, and is left out."""
    return np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)


def _begin(dice: np.random.Generator, sizes: list[int]) -> list[Matrix]:
    weights: list[Matrix] = []
    for ours, theirs in itertools.pairwise(sizes):
        weights += [dice.normal(0, np.sqrt(2 / ours), (ours, theirs)).astype(np.float32), np.zeros(theirs, np.float32)]
    return weights


def _batches(dice: np.random.Generator, count: int, epochs: int) -> Iterator[NDArray[np.int64]]:
    for _ in range(epochs):
        order = dice.permutation(count)
        yield from (order[at : at + BATCH_ROWS] for at in range(0, count, BATCH_ROWS))


def _forward(weights: list[Matrix], given: Matrix) -> list[Matrix]:
    values = [given]
    for at in range(0, len(weights), 2):
        found = values[-1] @ weights[at] + weights[at + 1]
        values.append(np.maximum(found, 0) if at < len(weights) - 2 else found)
    return values


def _slope(
    given: Matrix, aims: Matrix, hints: Matrix | None, rows: NDArray[np.int64], lesson: Lesson, teaching: Teaching
) -> Matrix:
    """The loss's gradient by the last layer's outputs: logits or values first, then what is to match the hints."""
    width = aims.shape[1]
    slope = np.empty_like(given)
    if lesson.form.classes:
        slope[:, :width] = _soft(given[:, :width], aims[rows], teaching.temperature)
        _add_labels(slope, given, rows, lesson, teaching.labels)
    else:
        slope[:, :width] = given[:, :width] - aims[rows]
    if hints is not None:
        slope[:, width:] = HINT_SHARE * (given[:, width:] - hints[rows]) / hints.shape[1]
    return slope / np.float32(len(rows))


def _soft(given: Matrix, aims: Matrix, temperature: float) -> Matrix:
    """By the temperature once, not twice as the loss has it: its gradient is then about as large at every temperature."""
    return (shares(given / temperature) - shares(aims / temperature)) * np.float32(temperature)


def _add_labels(slope: Matrix, given: Matrix, rows: NDArray[np.int64], lesson: Lesson, share: float) -> None:
    if lesson.truth is None or not share:
        return
    width = lesson.wanted.shape[1]
    known = np.flatnonzero(rows < len(lesson.truth))
    truth = lesson.truth[rows[known]].astype(np.int64)
    right = truth[:, None] == np.arange(width) if width > 1 else truth[:, None] == 1
    slope[known, :width] *= 1 - share
    slope[known, :width] += share * (shares(given[known, :width]) - right)


def shares(logits: Matrix) -> Matrix:
    """Softmax; of one logit the share of the second of two classes."""
    if logits.shape[1] == 1:
        return np.float32(1) / (1 + np.exp(-np.clip(logits, -60, 60))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return found


def _backward(weights: list[Matrix], values: list[Matrix], slope: Matrix) -> list[Matrix]:
    slopes: list[Matrix] = []
    for at in range(len(weights) - 2, -1, -2):
        given = values[at // 2]
        slopes = [given.T @ slope, slope.sum(axis=0), *slopes]
        slope = (slope @ weights[at].T) * (given > 0)
    return slopes


def _adam(weights: list[Matrix], slopes: list[Matrix], state: list[tuple[Matrix, Matrix]], step: int, rate: float) -> None:
    for place, (slope, (mean, square)) in enumerate(zip(slopes, state, strict=True)):
        np.add(mean, 0.1 * (slope - mean), out=mean)
        np.add(square, 0.001 * (slope * slope - square), out=square)
        weights[place] -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)


def _finished(
    weights: list[Matrix], width: int, inputs: tuple[Floats, Floats], outputs: tuple[Floats | float, Floats | float]
) -> Dense:
    """Without the part that matched hints, and with both scales inside the first and the last layer."""
    layers = [(weights[at].astype(np.float64), weights[at + 1].astype(np.float64)) for at in range(0, len(weights), 2)]
    (mean, scale), (shift, stretch) = inputs, outputs
    first, bias = layers[0]
    layers[0] = first * scale[:, None], bias - (mean * scale) @ first
    last, bias = layers[-1]
    layers[-1] = last[:, :width] * stretch, bias[:width] * stretch + shift
    return Dense(tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers))
