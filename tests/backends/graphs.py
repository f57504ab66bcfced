"""Small ONNX models, built for one test each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None] | None

BY_DATATYPE = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def tensor(name: str, dims: Dims, datatype: str = "FP32") -> Any:
    return helper.make_tensor_value_info(name, BY_DATATYPE[datatype], dims)


def build(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = ()) -> Any:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def save(model: Any, path: Path) -> str:
    path.write_bytes(model.SerializeToString())
    return str(path)


def identity(datatype: str = "FP32", dims: Dims = ("n", 3)) -> Any:
    return build([helper.make_node("Identity", ["x"], ["y"])], [tensor("x", dims, datatype)], [tensor("y", dims, datatype)])


def linear(rows: int | str | None = "n", *, features: int = 4, classes: int = 3) -> Any:
    """``y = softmax(x @ w)``."""
    weights = np.random.default_rng(1).normal(size=(features, classes)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=-1)]
    stored = [numpy_helper.from_array(weights, "w")]
    return build(nodes, [tensor("x", [rows, features])], [tensor("y", [rows, classes])], stored)


def dynamically_quantized(*, features: int = 8, classes: int = 3) -> Any:
    """A linear layer whose inputs are quantized as they come, all rows of a batch with one scale."""
    weights = np.random.default_rng(1).integers(-127, 128, (features, classes)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["quantized", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["quantized", "w", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["z", "scale"], ["y"]),
    ]
    stored = [numpy_helper.from_array(weights, "w")]
    return build(nodes, [tensor("x", ["n", features])], [tensor("y", ["n", classes])], stored)


def convolution(rows: str = "n", height: int | str = "h", width: int | str = "w") -> Any:
    """Two layers over images of any size, and their mean: activations much larger than weights."""
    numbers = np.random.default_rng(1)
    first, second = (numbers.normal(0, 0.1, shape).astype(np.float32) for shape in ((16, 3, 3, 3), (16, 16, 3, 3)))
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["y"]),
    ]
    stored = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    return build(nodes, [tensor("x", [rows, 3, height, width])], [tensor("y", [rows, 16])], stored)
