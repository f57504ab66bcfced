"""The graph that is quantized: simplified as any runtime would, every node named, and looked at for what cannot be changed."""

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import onnx
import onnxruntime
from onnx import numpy_helper, shape_inference, version_converter

from foretell.errors import ForetellError, Setup
from foretell.tensors import Array

LEAST_OPSET = 13
"""The first in which a weight's channels may have scales of their own."""
MOST_BYTES = 2**31 - 2**24
"""Of a whole graph in memory: protobuf's own limit."""
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "MatMulInteger"})
TAKEN_ENDINGS = ("_scale", "_zero_point", "_quantized")
"""The library names what it adds after a tensor, with these ends, and does not look whether the name is free."""
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


@dataclass(frozen=True)
class Graph:
    """``model`` is an onnx.ModelProto with all weights in it, which nobody changes; ``path`` the same on disk."""

    source: Path
    path: Path
    model: Any

    def copy(self) -> Any:
        """One to change."""
        fresh = onnx.ModelProto()
        fresh.CopyFrom(self.model)
        return fresh


class changing:  # noqa: N801 - reads as a phrase: `with changing(graph)`
    """The one door where what a library raises on a graph becomes Setup ``unsupported_graph``."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, ForetellError):
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            text = f"{self.source.name} cannot be changed in this way ({reason}): try another --method, or leave layers out"
            raise Setup("unsupported_graph", text) from error


def read_graph(source: Path, place: Path) -> Graph:
    """The ONNX model at ``source``, simplified: constants are folded, batch normalisation is put into weights.

    Writes to the folder ``place``. Raises Setup ``unsupported_graph`` for what is no ONNX, is quantized already, has operators
    of unknown origin, or is too large to be changed in memory.
    """
    if source.suffix.lower() != ".onnx":
        cure = "convert it first: foretell convert MODEL -o model.onnx"
        raise Setup("unsupported_graph", f"{source.name} is no ONNX model, and only those can be quantized: {cure}")
    with changing(source), quiet():
        model = onnx.load(str(source))
        _check_nodes(source, model)
        path = place / "simplified.onnx"
        _simplify(_converted(model), path)
        simple = shape_inference.infer_shapes(onnx.load(str(path)))
    _name_nodes(simple)
    _flatten_biases(simple)
    _rename_stored(simple)
    path.write_bytes(simple.SerializeToString())
    return Graph(source, path, simple)


def constants(model: Any) -> dict[str, Any]:
    """The stored tensors by name: onnx.TensorProto."""
    return {each.name: each for each in model.graph.initializer}


def values(tensor: Any) -> Array:
    """A stored tensor as an array."""
    found: Array = numpy_helper.to_array(tensor)
    return found


def as_matmuls(model: Any) -> Any:
    """The model with every ``Gemm`` that has a stored weight as ``MatMul`` and ``Add``, under the same names."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    wrapped = ONNXModel(model)
    wrapped.replace_gemm_with_matmul()
    return wrapped.model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The libraries advise through the root logger, and would set it up, and print: they are not heard here."""
    root, silent = logging.getLogger(), logging.NullHandler()
    before = root.level
    root.addHandler(silent)
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
        root.removeHandler(silent)


def _check_nodes(source: Path, model: Any) -> None:
    if model.ByteSize() > MOST_BYTES:
        raise Setup("unsupported_graph", f"{source.name} has more than 2 GiB of weights, which cannot be changed in memory")
    for node in model.graph.node:
        if node.op_type in QUANTIZED:
            raise Setup("unsupported_graph", f"{source.name} is quantized already, it has {node.op_type}: give the original")
        if node.domain not in KNOWN_DOMAINS:
            what = f"{node.domain}.{node.op_type}"
            raise Setup("unsupported_graph", f"{source.name} has the operator {what}, which is not known: export it without")


def _converted(model: Any) -> Any:
    version = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), LEAST_OPSET)
    return model if version >= LEAST_OPSET else version_converter.convert_version(model, LEAST_OPSET)


def _simplify(model: Any, path: Path) -> None:
    """By the runtime's own basic passes, which keep to standard operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _name_nodes(model: Any) -> None:
    """Each by its own name: what is named twice, or not at all, is told apart by a number."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{number}"
        seen.add(node.name)


def _flatten_biases(model: Any) -> None:
    """[1, columns] as [columns]: the same for ``Gemm``, and the library knows no other."""
    stored = constants(model)
    for node in model.graph.node:
        bias = stored.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        if bias is not None and len(bias.dims) == 2 and bias.dims[0] == 1:
            del bias.dims[0]


def _rename_stored(model: Any) -> None:
    """Stored tensors get out of the way of the names that the library will give."""
    new = {each.name: f"{each.name}.stored" for each in model.graph.initializer if each.name.endswith(TAKEN_ENDINGS)}
    for each in model.graph.initializer:
        each.name = new.get(each.name, each.name)
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
