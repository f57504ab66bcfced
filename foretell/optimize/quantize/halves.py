"""Floats of 16 bits: float16 all through the graph, or weights that are stored so and computed with in 32 bits."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.optimize.quantize.graph import Graph, changing, constants, quiet, values
from foretell.optimize.quantize.method import Place
from foretell.tensors import Datatype

if TYPE_CHECKING:
    from foretell.optimize.quantize import Quantizing

NO_KERNELS = (
    "onnxruntime has no float16 kernels for most operators on a CPU and converts to float32 around each: smaller, seldom "
    "faster; on accelerators it is"
)
STORED = "weights are stored in 16 bits and become float32 when the model is loaded: half the file, the same speed"
LARGEST = {onnx.TensorProto.FLOAT16: float(np.finfo(np.float16).max), onnx.TensorProto.BFLOAT16: 3.38e38}


class Float16:
    """A ``Method``: the layers are all nodes with a stored weight; what goes in and comes out keeps its datatype."""

    remarks = (NO_KERNELS,)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layers = _weighted(graph)

    def write(self, taken: Collection[str], target: Path) -> None:
        left = [layer.name for layer in self.layers if layer.name not in taken]
        blocked = [
            *DEFAULT_OP_BLOCK_LIST,
            *(node.op_type for node in self.graph.model.graph.node if node.domain == "ai.onnx.ml"),
        ]
        with changing(self.graph.source), quiet():
            model = convert_float_to_float16(self.graph.copy(), keep_io_types=True, op_block_list=blocked, node_block_list=left)
            target.write_bytes(model.SerializeToString())


class StoredHalves:
    """A ``Method``: stored weights in 16 bits, each followed by a ``Cast`` that runtimes compute once, when they load it."""

    remarks: Sequence[str] = (STORED,)

    def __init__(self, graph: Graph, kind: int) -> None:
        self.graph = graph
        self.kind = kind
        self.layers = _weighted(graph)

    def write(self, taken: Collection[str], target: Path) -> None:
        model = self.graph.copy()
        with changing(self.graph.source):
            stored = constants(model)
            used = [name for node in model.graph.node if node.name in taken for name in node.input if name in stored]
            for name in dict.fromkeys(used):
                if stored[name].data_type == onnx.TensorProto.FLOAT:
                    self._store(model, stored[name])
            target.write_bytes(model.SerializeToString())

    def _store(self, model: Any, tensor: Any) -> None:
        weight = values(tensor).astype(np.float32)
        if np.abs(weight).max(initial=0.0) > LARGEST[self.kind]:
            return
        dtype = Datatype.FP16.numpy if self.kind == onnx.TensorProto.FLOAT16 else Datatype.BF16.numpy
        half = helper.make_tensor(f"{tensor.name}_half", self.kind, tensor.dims, weight.astype(dtype).tobytes(), raw=True)
        model.graph.initializer.append(half)
        model.graph.node.insert(0, helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
        model.graph.initializer.remove(tensor)


def float16(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> Float16:
    return Float16(graph)


def float16_weights(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> StoredHalves:
    return StoredHalves(graph, onnx.TensorProto.FLOAT16)


def bfloat16_weights(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> StoredHalves:
    """The CPU has no bfloat16 kernels at all: it is a way to store."""
    return StoredHalves(graph, onnx.TensorProto.BFLOAT16)


def _weighted(graph: Graph) -> tuple[Place, ...]:
    """Every node with a stored weight of floats."""
    stored = {name for name, tensor in constants(graph.model).items() if tensor.data_type == onnx.TensorProto.FLOAT}
    return tuple(Place(node.name, node.op_type) for node in graph.model.graph.node if stored & set(node.input))
