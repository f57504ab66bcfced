"""What a teacher says of many rows, as numbers that a student can learn; and rows made up between those that there are."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.evidence.answers import as_texts
from foretell.evidence.case import Case
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

Floats = NDArray[np.float64]
Meaning = Literal["probabilities", "logits", "values"]
SURE = 6.0
"""The logit of the class that is named by a teacher that gives no scores."""
LEAST_PROBABILITY = 1e-7
DIRECTION_ROWS = 512
"""Rows that the main directions of hints are found on."""


@dataclass(frozen=True)
class Form:
    """What a student must give to stand in the teacher's place.

    ``classes`` by number, empty for numbers. ``scored`` and ``decided`` are the outputs of the scores or numbers, and of the
    class itself; ``meaning`` is that of the first. ``width`` is how many numbers a student learns: of two classes it may be
    one.
    """

    signature: Signature
    meaning: Meaning
    width: int
    scored: TensorSpec | None
    decided: TensorSpec | None
    classes: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """How many numbers a row of all inputs has."""
        return sum(int(np.prod([size or 0 for size in spec.shape])) for spec in self.signature.inputs)


@dataclass(frozen=True)
class Lesson:
    """``rows`` as the model takes them, ``wanted`` [rows, width]: logits or values of the teacher. ``truth``: class numbers
    or values of the first rows, of those that have labels; ``hints`` [rows, n]: what a layer inside the teacher gave."""

    form: Form
    rows: Arrays
    wanted: Floats
    truth: Array | None = None
    hints: Floats | None = None

    def features(self) -> Floats:
        """All inputs side by side, as rows x features."""
        return features_of(self.rows, self.form.signature)


def features_of(rows: Arrays, signature: Signature) -> Floats:
    return np.hstack([rows[spec.name].reshape(len(rows[spec.name]), -1).astype(np.float64) for spec in signature.inputs])


def form_of(case: Case) -> Form:
    """Read from the signature and from what the teacher answers. Raises Setup ``unsupported_graph``."""
    signature, reading = case.signature, case.reading
    for spec in signature.inputs:
        if spec.dtype is Datatype.BYTES or None in spec.shape:
            raise Setup(
                "unsupported_graph",
                f"a student takes numbers of a known shape, and input {spec} is none: distill the part behind it",
            )
    outputs = {spec.name: spec for spec in signature.outputs}
    known = {reading.scored, reading.decided}
    if others := sorted(set(outputs) - known):
        text = f"a student gives scores and a class, or numbers; what {', '.join(map(repr, others))} is cannot be told"
        raise Setup("unsupported_graph", f"{text}: export the teacher without it")
    scored = outputs[reading.scored] if reading.scored is not None else None
    decided = outputs[reading.decided] if reading.decided is not None else None
    if scored is not None and None in scored.shape:
        raise Setup("unsupported_graph", f"output {scored} has no known shape: export the teacher with one")
    width = int(np.prod([size or 0 for size in scored.shape])) if scored is not None else len(reading.order)
    return Form(signature, _meaning(case, scored), width, scored, decided, tuple(reading.order))


def learn_from(case: Case, form: Form, made_up: int, seed: int) -> Lesson:
    """The teacher's answers to the rows to fit on, and to ``made_up`` times as many between them."""
    own = case.fit.rows
    rows = _with_between(own, form.signature, made_up, seed)
    wanted = raw_of(case.answers(case.original, rows), form)
    if not np.isfinite(wanted).all():
        raise Setup("unusable_rows", "the teacher answers some rows with NaN or infinity: leave those out")
    truth = (
        case.reading.encode(case.fit.labels) if case.fit.labels is not None and form.classes and not case.metric.own else None
    )
    return Lesson(form, rows, wanted, truth)


def raw_of(answers: Arrays, form: Form) -> Floats:
    """Answers as logits, or as the numbers that they are."""
    if form.scored is None:
        assert form.decided is not None
        return _sure(answers[form.decided.name], form.classes)
    found = answers[form.scored.name].astype(np.float64).reshape(-1, form.width)
    if form.meaning == "probabilities":
        found = np.clip(found, LEAST_PROBABILITY, 1.0)
        found = np.log(found) - np.log(np.clip(1 - found, LEAST_PROBABILITY, 1.0)) if form.width == 1 else np.log(found)
    return found - found.mean(axis=1, keepdims=True) if form.classes and form.width > 1 else found


def _sure(decided: Array, classes: tuple[str, ...]) -> Floats:
    numbers = [classes.index(text) for text in as_texts(decided)]
    return np.eye(len(classes))[numbers] * SURE


def _meaning(case: Case, scored: TensorSpec | None) -> Meaning:
    if not case.reading.order:
        return "values"
    if scored is None or case.before.scores is None:
        return "logits"
    found = case.before.scores
    whole = found.min() >= 0 and found.max() <= 1 and np.allclose(found.sum(axis=1), 1, atol=1e-3)
    return "probabilities" if whole and not case.reading.logit else "logits"


def _with_between(rows: Arrays, signature: Signature, times: int, seed: int) -> Arrays:
    """Each made-up row lies between two that are there, in all inputs alike; whole numbers are taken from one of them."""
    count = len(next(iter(rows.values())))
    dice = np.random.default_rng(seed)
    one, other = dice.integers(0, count, count * times), dice.integers(0, count, count * times)
    share = dice.beta(0.4, 0.4, count * times)
    made = {}
    for spec in signature.inputs:
        array = rows[spec.name]
        by = share.reshape(-1, *[1] * (array.ndim - 1))
        between = (
            array[one].astype(np.float64) * by + array[other].astype(np.float64) * (1 - by)
            if spec.dtype.is_float
            else array[one]
        )
        made[spec.name] = np.concatenate([array, between.astype(array.dtype)])
    return made


def with_hints(lesson: Lesson, hints: Array, most: int = 32) -> Lesson:
    """The lesson with what a layer of the teacher gave: its ``most`` main directions, each of variance 1."""
    flat = hints.reshape(len(hints), -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, sizes, ways = np.linalg.svd(flat[:DIRECTION_ROWS], full_matrices=False)
    found = flat @ ways[: min(most, int((sizes > sizes[0] * 1e-3).sum()))].T
    return replace(lesson, hints=found / np.maximum(found.std(axis=0), 1e-9))
