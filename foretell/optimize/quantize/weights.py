"""int8 or int4 weights: smaller files, and less memory to read for each answer.

A matrix product becomes ``MatMulNBits`` of the runtime
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits), which rounds each row
of what it takes to 8 bits, by scales of its own, and sums whole numbers; any other weight is stored in 8 bits and turned into
floats when the model is loaded, by standard operators.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.optimize.quantize.graph import Graph, as_matmuls, changing, constants, quiet, values
from foretell.optimize.quantize.method import Place
from foretell.tensors import Array

if TYPE_CHECKING:
    from foretell.optimize.quantize import Quantizing

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
BLOCK = 32
"""Weights that share a scale, along the axis that is summed."""
INT8_ACTIVATIONS = 4
"""The operator's accuracy level at which it multiplies 8-bit numbers, each row with scales of its own."""
CHANNELS = {"Conv": 0, "ConvTranspose": 1, "Gather": 0, "LSTM": 1, "GRU": 1}
"""The axis of a weight whose places have scales of their own."""
LEAST_VALUES = 64
"""Of a weight that is worth it."""


@dataclass(frozen=True)
class Packed:
    """A matrix in blocks: ``bytes`` [columns, blocks, block bytes], ``scales`` [columns, blocks], ``zeros`` packed as bytes."""

    bytes: Bytes
    scales: Floats
    zeros: Bytes


class Weights:
    """A ``Method``."""

    remarks = (
        "weights are stored in fewer bits; matrix products round each row that they take to 8 bits as they compute, and all "
        "else is computed in floats",
    )

    def __init__(self, graph: Graph, bits: int) -> None:
        self.graph = graph
        self.bits = bits
        with changing(graph.source), quiet():
            self.model = as_matmuls(graph.copy())
        self.stored = constants(self.model)
        nodes = (node for node in self.model.graph.node if self._weight_of(node) is not None)
        self.layers = tuple(Place(node.name, node.op_type) for node in nodes)

    def write(self, taken: Collection[str], target: Path) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        with changing(self.graph.source):
            for node in list(model.graph.node):
                name = self._weight_of(node)
                if node.name in taken and name is not None:
                    self._replace(model, node, name)
            _drop_unused(model)
            if not any(each.domain == "com.microsoft" for each in model.opset_import):
                model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
            target.write_bytes(model.SerializeToString())

    def _weight_of(self, node: Any) -> str | None:
        """The name of the stored weight of a layer; None for a node that has none."""
        place = {"MatMul": 1, "Gather": 0}.get(node.op_type, 1 if node.op_type in CHANNELS else None)
        if place is None or place >= len(node.input):
            return None
        tensor = self.stored.get(node.input[place])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_VALUES:
            return None
        if node.op_type == "MatMul":
            return tensor.name if len(tensor.dims) == 2 else None
        return tensor.name if len(tensor.dims) > CHANNELS[node.op_type] else None

    def _replace(self, model: Any, node: Any, name: str) -> None:
        weight = values(self.stored[name]).astype(np.float32)
        if node.op_type != "MatMul":
            _store_in_8_bits(model, node, name, weight, CHANNELS[node.op_type])
            return
        packed = pack(weight, self.bits)
        parts = {"bits": packed.bytes, "scales": packed.scales, "zeros": packed.zeros}
        names = [f"{node.name}_{part}" for part in parts]
        model.graph.initializer.extend(
            numpy_helper.from_array(array, each) for each, array in zip(names, parts.values(), strict=True)
        )
        given = node.input[0]
        del node.input[:]
        node.input.extend([given, *names])
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        sizes = {"K": weight.shape[0], "N": weight.shape[1], "bits": self.bits, "block_size": BLOCK}
        node.attribute.extend(helper.make_attribute(*pair) for pair in {**sizes, "accuracy_level": INT8_ACTIVATIONS}.items())


def int8_weights(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> Weights:
    return Weights(graph, 8)


def int4_weights(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> Weights:
    """Matrices in 4 bits; other weights, which are fewer, in 8."""
    return Weights(graph, 4)


def pack(weight: Floats, bits: int) -> Packed:
    """A matrix [summed, columns] in blocks of ``BLOCK`` along the summed axis, each with a scale and a zero point."""
    summed, columns = weight.shape
    blocks = -(-summed // BLOCK)
    padded: Floats = np.zeros((columns, blocks * BLOCK), np.float32)
    padded[:, :summed] = weight.T
    parts = padded.reshape(columns, blocks, BLOCK)
    most = 2**bits - 1
    low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
    scales = ((high - low) / most).astype(np.float32)
    safe: Floats = np.where(scales > 0, scales, 1).astype(np.float32)
    zeros = np.clip(np.round(-low / safe), 0, most)
    whole = np.clip(np.round(parts / safe[..., None]) + zeros[..., None], 0, most).astype(np.uint8)
    return Packed(_nibbles(whole, bits), safe, _nibbles(zeros.astype(np.uint8), bits))


def unpack(packed: Packed, bits: int, summed: int) -> Floats:
    """The matrix that the runtime computes with: the other way round."""
    blocks = packed.scales.shape[1]
    whole, zeros = _whole(packed.bytes, bits), _whole(packed.zeros, bits)[:, :blocks]
    floats = (whole.astype(np.float32) - zeros[..., None]) * packed.scales[..., None]
    matrix: Floats = floats.reshape(len(floats), -1)[:, :summed].T
    return matrix


def _nibbles(whole: Bytes, bits: int) -> Bytes:
    """Two to a byte along the last axis, the first in the low half; 8-bit numbers as they are."""
    if bits == 8:
        return whole
    if whole.shape[-1] % 2:
        whole = np.concatenate([whole, np.zeros_like(whole[..., :1])], axis=-1)
    packed: Bytes = whole[..., 0::2] | (whole[..., 1::2] << np.uint8(4))
    return packed


def _whole(packed: Bytes, bits: int) -> Bytes:
    if bits == 8:
        return packed
    halves: Bytes = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1)


def _store_in_8_bits(model: Any, node: Any, name: str, weight: Floats, axis: int) -> None:
    """``Mul(Cast(whole), scale)`` in the weight's place, which runtimes compute once, when they load it."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32) / 127
    safe = np.where(scale > 0, scale, 1).astype(np.float32)
    whole: Array = np.round(weight / safe).astype(np.int8)
    stem = f"{node.name}_{name}"
    model.graph.initializer.append(numpy_helper.from_array(whole, f"{stem}_bits"))
    model.graph.initializer.append(numpy_helper.from_array(safe, f"{stem}_scale"))
    cast = helper.make_node("Cast", [f"{stem}_bits"], [f"{stem}_floats"], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, helper.make_node("Mul", [f"{stem}_floats", f"{stem}_scale"], [f"{stem}_weight"]))
    model.graph.node.insert(0, cast)
    node.input[list(node.input).index(name)] = f"{stem}_weight"


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    for each in [each for each in model.graph.initializer if each.name not in used]:
        model.graph.initializer.remove(each)
