"""What a layer inside an ONNX teacher gives."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from foretell.errors import Setup
from foretell.formats.onnx import check_external_data
from foretell.plugins import did_you_mean
from foretell.tensors import Array, Arrays

CHUNK_ROWS = 256


def check_hint(teacher: Path, name: str) -> None:
    """That there is such a value inside an ONNX model. Raises Setup ``wrong_setting``, ``unsupported_graph``."""
    if teacher.suffix.lower() != ".onnx":
        raise Setup("unsupported_graph", f"{teacher} is no ONNX model, so --hint cannot look inside: convert it first")
    check_external_data(teacher)
    names = [each for node in onnx.load(str(teacher), load_external_data=False).graph.node for each in node.output if each]
    if name not in names:
        raise Setup("wrong_setting", f"--hint: the teacher has no value {name!r}{did_you_mean(name, names[:200])}")


def inner_value(teacher: Path, name: str, rows: Arrays) -> Array:
    """[rows, ...] of the value called ``name`` for each row."""
    model = onnx.load(str(teacher))
    if name not in {each.name for each in model.graph.output}:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    count = len(next(iter(rows.values())))
    parts = [
        session.run([name], {key: array[at : at + CHUNK_ROWS] for key, array in rows.items()})[0]
        for at in range(0, count, CHUNK_ROWS)
    ]
    found: Array = np.concatenate(parts)
    if found.dtype.kind != "f" or len(found) != count:
        raise Setup(
            "wrong_setting", f"--hint: {name!r} has {found.dtype} of shape {list(found.shape)}, floats of each row are needed"
        )
    return found
