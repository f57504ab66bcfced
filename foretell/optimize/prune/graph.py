"""An ONNX graph that can be cut: its weights as arrays, the shape of every value, who makes a value and who uses it."""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from foretell.backends import reading_model
from foretell.cpus import usable_cpus
from foretell.formats.onnx import check_external_data
from foretell.tensors import Array, Arrays

Shape = tuple[int | None, ...]
LARGEST_FILE_BYTES = 1_900_000_000  # of the 2 GB that one protobuf may have

_FOLDED = frozenset(
    {"Identity", "Transpose", "Reshape", "Cast", "Unsqueeze", "Squeeze", "Concat", "Gather"}
    | {"Slice", "Shape", "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Neg"}
    | {"Sqrt"}
)
_OWN_CONSTANT = {"Reshape": 1, "Split": 1}
"""The inputs that are written anew when what they describe is cut: each node gets its own."""


@dataclass(frozen=True)
class Graph:
    """``model`` holds the nodes; the arrays in ``weights`` stand for its initializers. None in a shape is any length."""

    model: Any
    weights: Mapping[str, Array]
    shapes: Mapping[str, Shape]

    @property
    def nodes(self) -> Sequence[Any]:
        nodes: Sequence[Any] = self.model.graph.node
        return nodes

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.model.graph.input if value.name not in self.weights]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    def users(self, name: str) -> list[Any]:
        """The nodes that take a value, once for each."""
        return [node for node in self.nodes if name in node.input]

    def parameters(self) -> int:
        return sum(array.size for array in self.weights.values() if array.dtype.kind not in "iub")

    def with_weights(self, changed: Mapping[str, Array]) -> "Graph":
        return replace(self, weights={**self.weights, **changed})

    def to_proto(self, outputs: Sequence[str] = ()) -> Any:
        """A whole model again; ``outputs`` are values inside that it is to give too."""
        model = copy.deepcopy(self.model)
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.weights.items())
        there = set(self.outputs)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs) if name not in there)
        return model

    def save(self, path: Path, *, sparse: bool = False) -> None:
        """Writes the model; with ``sparse``, weights that are mostly 0 by their other values alone.

        Weights of 2 GB and more go to a file beside it.
        """
        large = sum(array.nbytes for array in self.weights.values()) > LARGEST_FILE_BYTES
        model = _sparsely(self.to_proto()) if sparse else self.to_proto()
        onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data")

    def session(self, outputs: Sequence[str] = ()) -> Any:
        """A session of onnxruntime that gives the outputs and the values inside named by ``outputs``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cpus()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(self.to_proto(outputs).SerializeToString(), options, ["CPUExecutionProvider"])

    def answer(self, rows: Arrays) -> dict[str, Array]:
        """What the model answers to ``rows``."""
        session = self.session()
        parts = [session.run(self.outputs, dict(batch)) for batch in batches(rows)]
        return {name: np.concatenate(each) for name, each in zip(self.outputs, zip(*parts, strict=True), strict=True)}


def batches(rows: Arrays, batch_rows: int = 64) -> Iterator[Arrays]:
    count = len(next(iter(rows.values())))
    for at in range(0, count, batch_rows):
        yield {name: array[at : at + batch_rows] for name, array in rows.items()}


def read_graph(path: Path) -> Graph:
    """The graph in an ONNX file, simplified. Raises Setup: ``broken_model`` or ``outside_folder``."""
    with reading_model(path, "check that the file is complete, or export the model again"):
        check_external_data(path)
        return graph_of(onnx.load(str(path)))


def graph_of(model: Any) -> Graph:
    """A model as a graph: constants become weights, what depends on weights alone is computed, dead nodes are gone."""
    model = copy.deepcopy(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for sparse in model.graph.sparse_initializer:
        weights[sparse.values.name] = _dense(sparse)
    for field in ("initializer", "sparse_initializer", "value_info"):
        del getattr(model.graph, field)[:]
    _fold(model, weights)
    shapes = _probe(model, weights, _infer(model, weights))
    _settle_reshapes(model, weights, shapes)
    _drop_dead(model)
    _give_own_constants(model, weights)
    used = {name for node in model.graph.node for name in _taken(node)} | {value.name for value in model.graph.output}
    weights = {name: array for name, array in weights.items() if name in used}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Graph(model, weights, {**shapes, **{name: array.shape for name, array in weights.items()}})


def attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def has_subgraph(node: Any) -> bool:
    return any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute)


def _taken(node: Any) -> Iterator[str]:
    """The values that a node takes, and those that its subgraphs take from around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from (name for inner in graph.node for name in _taken(inner))
            yield from (value.name for value in graph.output)


def _dense(sparse: Any) -> Array:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        array.reshape(-1)[places] = values
    else:
        array[tuple(places.T)] = values
    return array


def _sparsely(model: Any) -> Any:
    """Initializers that take less room as places and values become sparse ones."""
    kept = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        places = np.flatnonzero(array)
        if array.dtype.kind == "f" and len(places) * (8 + array.itemsize) < array.nbytes:
            values = numpy_helper.from_array(array.reshape(-1)[places], tensor.name)
            indices = numpy_helper.from_array(places.astype(np.int64), f"{tensor.name}/places")
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(array.shape)))
        else:
            kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _fold(model: Any, weights: dict[str, Array]) -> None:
    kept = []
    for node in model.graph.node:
        constant = node.op_type == "Constant" and node.attribute and node.attribute[0].name != "sparse_value"
        folded = (
            node.op_type in _FOLDED and node.domain in ("", "ai.onnx") and all(name in weights for name in node.input if name)
        )
        if constant or (folded and any(node.input)):
            given = {name: weights[name] for name in node.input if name}
            made = ReferenceEvaluator(_alone(model, node, given)).run(None, given)
            weights.update(zip(node.output, map(np.asarray, made), strict=True))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _return_folded_outputs(model, weights)


def _alone(model: Any, node: Any, given: Arrays) -> Any:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "folded", inputs, outputs)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _return_folded_outputs(model: Any, weights: Arrays) -> None:
    """An output that turned out constant is given by a node again, as a weight alone may not be one everywhere."""
    for value in model.graph.output:
        if value.name in weights and not any(value.name in node.output for node in model.graph.node):
            model.graph.node.append(
                helper.make_node("Constant", [], [value.name], value=numpy_helper.from_array(weights[value.name]))
            )


def _infer(model: Any, weights: Arrays) -> dict[str, Shape]:
    whole = copy.deepcopy(model)
    whole.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    inferred = onnx.shape_inference.infer_shapes(whole, data_prop=True).graph
    found = {value.name: _shape(value) for value in [*inferred.input, *inferred.output, *inferred.value_info]}
    return {name: shape for name, shape in found.items() if shape is not None}


def _probe(model: Any, weights: Arrays, inferred: dict[str, Shape]) -> dict[str, Shape]:
    """Lengths that inference cannot tell, from a run with 2 rows and one with 3, where only the number of rows is open."""
    names = [name for node in model.graph.node for name in node.output if name]
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = [inferred.get(value.name) for value in inputs]
    whole = all(shape is not None and shape[:1] == (None,) and None not in shape[1:] for shape in shapes)
    if not whole or all(None not in inferred.get(name, (None, None))[1:] for name in names):
        return inferred
    graph, found = Graph(model, weights, inferred), []
    for rows in (2, 3):
        feeds = {
            value.name: np.zeros(
                (rows, *(size or 0 for size in (shape or ())[1:])),
                helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            )
            for value, shape in zip(inputs, shapes, strict=True)
        }
        found.append([np.shape(array) for array in graph.session(names).run(names, feeds)])
    alike = {
        name: tuple(one if one == two else None for one, two in zip(first, second, strict=True))
        for name, first, second in zip(names, *found, strict=True)
        if len(first) == len(second)
    }
    return {**inferred, **alike}


def _shape(value: Any) -> Shape | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)


def _settle_reshapes(model: Any, weights: dict[str, Array], shapes: Mapping[str, Shape]) -> None:
    """A Reshape whose shape is computed, only to carry the number of rows through, gets it as a constant."""
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and node.input[1] not in weights:
            shape = shapes.get(node.output[0])
            if shape is not None and shape.count(None) <= 1:
                node.input[1] = f"{node.output[0]}/shape/{place}"
                weights[node.input[1]] = np.array([-1 if size is None else size for size in shape], np.int64)


def _drop_dead(model: Any) -> None:
    wanted, kept = {value.name for value in model.graph.output}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(_taken(node))
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))


def _give_own_constants(model: Any, weights: dict[str, Array]) -> None:
    uses = Counter(name for node in model.graph.node for name in node.input)
    for place, node in enumerate(model.graph.node):
        at = _OWN_CONSTANT.get(node.op_type)
        if at is not None and len(node.input) > at and uses[node.input[at]] > 1 and node.input[at] in weights:
            own = f"{node.input[at]}/{place}"
            weights[own] = weights[node.input[at]]
            node.input[at] = own
