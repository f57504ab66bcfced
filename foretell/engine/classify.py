"""The classification form of an output: its largest values with their places, as clients of Triton's extension read them.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from collections.abc import Sequence

import numpy as np

from foretell.errors import Invalid
from foretell.tensors import Array, Datatype, TensorSpec


def check_classes(count: object, output: TensorSpec) -> int:
    """How many classes of an output a request wants. Raises Invalid ``unknown_parameter`` for what cannot be had."""
    if type(count) is not int or count < 1:
        text = f"the parameter 'classification' of output {output.name!r} must be a whole number of at least 1"
        raise Invalid("unknown_parameter", text, parameter="classification", output=output.name)
    if output.dtype is Datatype.BYTES or not output.shape:
        text = f"output {output} has no score for each class: leave out its parameter 'classification'"
        raise Invalid("unknown_parameter", text, parameter="classification", output=output.name)
    return count


def classify(array: Array, count: int, labels: Sequence[str], *, rows: bool) -> Array:
    """The ``count`` largest values of each row as BYTES ``value:index`` or ``value:index:label``, shape [rows, count].

    Values are written with as many digits as they have. Without a batch axis (``rows`` False) the shape is [count].
    """
    table = array.reshape(len(array), -1) if rows else array.reshape(1, -1)
    best = np.argsort(-table.astype(np.float64), axis=1, kind="stable")[:, :count]
    shown = np.empty(best.shape, dtype=np.object_)
    for row, indices in enumerate(best.tolist()):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            shown[row, place] = f"{table[row, index]!s}:{index}{label}".encode()
    return shown if rows else shown[0]
