"""Scores of classes as answers: the names and datatypes that every classifier without its own gives."""

import numpy as np

from foretell.tensors import Array, Arrays, Datatype, TensorSpec

LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"


def class_specs(count: int) -> tuple[TensorSpec, TensorSpec]:
    """The outputs of a classifier of ``count`` classes: the number of the best one, and the probability of each."""
    return TensorSpec(LABEL, Datatype.INT64, ()), TensorSpec(PROBABILITIES, Datatype.FP32, (count,))


def class_answers(probabilities: Array) -> Arrays:
    """The outputs of ``class_specs``, from probabilities [rows, classes], or [rows] of the second of two classes."""
    each = np.stack([1 - probabilities, probabilities], axis=1) if probabilities.ndim == 1 else probabilities
    return {LABEL: each.argmax(axis=1).astype(np.int64), PROBABILITIES: each.astype(np.float32, copy=False)}
