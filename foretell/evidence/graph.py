"""What an ONNX graph costs: its parameters, and the floating-point operations of one row.

The shapes are those that the tensors have when one row is run; a multiplication and an addition count as two operations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from foretell.plugins import needs_extra
from foretell.tensors import Arrays

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

FREE = frozenset(
    {"Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad", "Range", "Reshape"}
    | {"Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "ZipMap", "QuantizeLinear", "DequantizeLinear"}
)
"""Operators that move numbers, or change how they are stored."""
SCALES: Mapping[str, Sequence[int]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
    "MatMulNBits": (2, 3, 4),
}
"""Inputs that say how numbers are stored, and are no parameters."""
_RUNTIME = onnxruntime.capi.onnxruntime_pybind11_state
REFUSALS = (_RUNTIME.Fail, _RUNTIME.InvalidArgument, _RUNTIME.InvalidGraph, _RUNTIME.NotImplemented, _RUNTIME.RuntimeException)
LARGEST_BYTES = 2**31 - 2**20
"""Of a graph in memory: protobuf's own limit."""


@dataclass(frozen=True)
class Cost:
    """``parameters`` are stored weights, ``flops`` the operations of one row; None where the graph would not be run."""

    parameters: int
    flops: int | None


def cost_of(path: Path, row: Arrays) -> Cost:
    """Of the ONNX model at ``path``; ``row`` is one row of what it takes."""
    with needs_extra("looking into ONNX graphs", "optimize"):
        import onnx
    model = onnx.load(str(path))
    shapes = _shapes(model, row)
    flops = None if shapes is None else sum(_flops(node, shapes) for node in model.graph.node)
    fixed = _fixed_rows(model)
    return Cost(_parameters(model), flops if flops is None else flops // fixed)


def _shapes(model: Any, row: Arrays) -> Shapes | None:
    """The shape of every tensor when ``row`` is run."""
    import onnx
    from onnx import numpy_helper

    known = {each.name: tuple(each.dims) for each in model.graph.initializer}
    known |= {each.values.name: tuple(each.dims) for each in model.graph.sparse_initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape
    feeds = {name: np.repeat(array, _fixed_rows(model), axis=0) for name, array in row.items()}
    known |= {name: array.shape for name, array in feeds.items()}
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    there = {each.name for each in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    if wide.ByteSize() > LARGEST_BYTES:
        return None
    answers = _run(wide.SerializeToString(), names, feeds)
    return None if answers is None else {**known, **answers}


def _run(model: bytes, names: Sequence[str], feeds: Arrays) -> dict[str, Shape] | None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        values = session.run_with_ort_values(
            list(names), {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        )
    except (*REFUSALS, RuntimeError, ValueError, TypeError):  # of a datatype that numpy lacks, too
        return None
    return {name: tuple(value.shape()) for name, value in zip(names, values, strict=True) if value.is_tensor()}


def _fixed_rows(model: Any) -> int:
    """The number of rows that the graph insists on, 1 if it takes any."""
    stored = {each.name for each in model.graph.initializer}
    first = next((each for each in model.graph.input if each.name not in stored), None)
    dims = first.type.tensor_type.shape.dim if first is not None else ()
    return max(1, dims[0].dim_value) if dims else 1


def _parameters(model: Any) -> int:
    graph = model.graph
    scales = {node.input[place] for node in graph.node for place in SCALES.get(node.op_type, ()) if place < len(node.input)}
    few_bits = (node for node in graph.node if node.op_type == "MatMulNBits")
    packed = {node.input[1]: _attribute(node, "K") * _attribute(node, "N") for node in few_bits}
    whole = sum(
        packed.get(each.name, math.prod(each.dims))
        for each in graph.initializer
        if each.name not in scales and each.data_type != 7  # INT64: shapes and places
    )
    whole += sum(math.prod(each.values.dims) for each in graph.sparse_initializer)
    return int(whole + sum(_attribute_values(node) for node in graph.node))


def _attribute_values(node: Any) -> int:
    """Values that stand in a node itself: a constant's, a linear model's, a tree ensemble's."""
    if node.op_type == "Constant":
        return int(sum(math.prod(each.t.dims) for each in node.attribute if each.name == "value" and each.t.data_type != 7))
    if node.domain != "ai.onnx.ml":
        return 0
    return int(sum(len(each.floats) + (math.prod(each.t.dims) if each.HasField("t") else 0) for each in node.attribute))


def _flops(node: Any, shapes: Shapes) -> int:
    given = [shapes.get(name, ()) for name in node.input]
    made = math.prod(shapes.get(node.output[0], ())) if node.output and node.output[0] in shapes else 0
    if node.op_type in FREE or not made:
        return 0
    if node.op_type.startswith("TreeEnsemble"):
        return _tree_steps(node)
    count = MULTIPLYING.get(node.op_type)
    return made if count is None else 2 * count(node, given, made)


def _recurrent(node: Any, given: Sequence[Shape], made: int) -> int:
    return given[0][0] * given[0][1] * (math.prod(given[1]) + math.prod(given[2]))


def _product(node: Any, given: Sequence[Shape], made: int) -> int:
    return made * (given[0][-1] if given[0] else 1)


def _convolution(node: Any, given: Sequence[Shape], made: int) -> int:
    return int(made * math.prod(given[1][1:]))


MULTIPLYING: Mapping[str, Callable[[Any, Sequence[Shape], int], int]] = {
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": lambda node, given, made: made * given[0][0 if _attribute(node, "transA") else 1],
    "QGemm": lambda node, given, made: made * given[0][0 if _attribute(node, "transA") else 1],
    "MatMulNBits": lambda node, given, made: made * _attribute(node, "K"),
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": lambda node, given, made: made * math.prod(given[3][1:]),
    "ConvTranspose": lambda node, given, made: math.prod(given[0]) * math.prod(given[1][1:]),
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
"""Multiply-adds of a node, by the shapes of its inputs and the number of values that it makes; others take one step a value."""


def _tree_steps(node: Any) -> int:
    """Comparisons of one row: in each tree about as many as a balanced one of its size is deep."""
    trees = next((list(each.ints) for each in node.attribute if each.name == "nodes_treeids"), [])
    _, counts = np.unique(trees, return_counts=True)
    return int(np.ceil(np.log2(counts + 1)).sum())


def _attribute(node: Any, name: str) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), 0)
