"""Students as ONNX models with the teacher's own inputs and outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foretell.optimize.distill.lesson import Form
from foretell.optimize.distill.mlp import Dense
from foretell.optimize.distill.trees import Forest
from foretell.tensors import Array, Datatype, TensorSpec

OPSET, ML_OPSET, IR = 17, 3, 8


def dense_model(student: Dense, form: Form) -> Any:
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    mark = mark_of(form)
    given = f"{mark}features"
    for at, (weight, bias) in enumerate(student.layers):
        last = at == len(student.layers) - 1
        layer = f"{mark}layer{at}"
        weights |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
        out = f"{mark}raw" if last else layer
        nodes.append(helper.make_node("Gemm", [given, f"{layer}.weight", f"{layer}.bias"], [out], f"layer{at}"))
        if not last:
            given = f"{layer}.relu"
            nodes.append(helper.make_node("Relu", [layer], [given], f"layer{at}.relu"))
    return _model(form, nodes, weights)


def forest_model(student: Forest, form: Form) -> Any:
    columns: dict[str, list[Any]] = {}
    for number, each in enumerate(student.trees):
        for name, values in _tree(each.tree_, number, student.rate).items():
            columns.setdefault(name, []).extend(values)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        [f"{mark_of(form)}features"],
        [f"{mark_of(form)}raw"],
        "trees",
        domain="ai.onnx.ml",
        n_targets=form.width,
        base_values=[float(each) for each in student.start],
        **columns,
    )
    return _model(form, [node], {})


def with_answers(model: Any, form: Form) -> Any:
    """A model that takes the teacher's inputs in their order and gives raw numbers, with the teacher's names and outputs."""
    mark = mark_of(form)
    model = onnx.compose.add_prefix(model, mark)
    last = model.graph.output[0].name
    given = [helper.make_node("Identity", [spec.name], [each.name]) for spec, each in _paired(form, model)]
    for each in [*model.graph.node, model.graph]:  # where in the user's code each came from
        del each.metadata_props[:]
        each.doc_string = ""
    del model.graph.value_info[:]
    weights: dict[str, Array] = {}
    nodes = [*given, *model.graph.node, helper.make_node("Identity", [last], [f"{mark}raw"]), *_tail(form, weights)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    del model.graph.input[:]
    model.graph.input.extend(_value(spec) for spec in form.signature.inputs)
    del model.graph.output[:]
    model.graph.output.extend(_value(spec) for spec in form.signature.outputs)
    onnx.checker.check_model(model)
    return model


def mark_of(form: Form) -> str:
    """What every name inside a student begins with, and none of its inputs and outputs does: ONNX has each name once."""
    mark = "student/"
    while any(spec.name.startswith(mark) for spec in (*form.signature.inputs, *form.signature.outputs)):
        mark = f"_{mark}"
    return mark


def _paired(form: Form, model: Any) -> list[tuple[TensorSpec, Any]]:
    return list(zip(form.signature.inputs, model.graph.input, strict=True))


def _tree(tree: Any, number: int, rate: float) -> dict[str, list[Any]]:
    """One tree's nodes and leaves. A threshold is rounded down to FP32, which no FP32 feature can tell from the FP64 one."""
    count, leaf = tree.node_count, tree.children_left < 0
    rounded = tree.threshold.astype(np.float32)
    limits = np.where(rounded > tree.threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    leaves = np.flatnonzero(leaf)
    values = tree.value.reshape(count, -1)[leaves] * rate
    width = values.shape[1]
    return {
        "nodes_treeids": [number] * count,
        "nodes_nodeids": list(range(count)),
        "nodes_featureids": np.maximum(tree.feature, 0).tolist(),
        "nodes_values": np.where(leaf, 0, limits).tolist(),
        "nodes_modes": ["LEAF" if each else "BRANCH_LEQ" for each in leaf],
        "nodes_truenodeids": np.maximum(tree.children_left, 0).tolist(),
        "nodes_falsenodeids": np.maximum(tree.children_right, 0).tolist(),
        "target_treeids": [number] * leaves.size * width,
        "target_nodeids": np.repeat(leaves, width).tolist(),
        "target_ids": list(range(width)) * leaves.size,
        "target_weights": values.reshape(-1).tolist(),
    }


def _model(form: Form, body: Sequence[Any], weights: dict[str, Array]) -> Any:
    """``body`` goes from the mark's "features" [rows, n] to its "raw" [rows, width], both FP32."""
    nodes = [*_head(form), *body, *_tail(form, weights)]
    graph = helper.make_graph(
        nodes,
        "student",
        [_value(spec) for spec in form.signature.inputs],
        [_value(spec) for spec in form.signature.outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="foretell")
    onnx.checker.check_model(model)
    return model


def _value(spec: TensorSpec) -> Any:
    return helper.make_tensor_value_info(spec.name, _type(spec.dtype), ["rows", *spec.shape])


def _type(dtype: Datatype) -> int:
    return TensorProto.STRING if dtype is Datatype.BYTES else int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


def _head(form: Form) -> list[Any]:
    mark = mark_of(form)
    nodes, parts = [], []
    for at, spec in enumerate(form.signature.inputs):
        name = spec.name
        if spec.dtype is not Datatype.FP32:
            name = f"{mark}input{at}.float"
            nodes.append(helper.make_node("Cast", [spec.name], [name], to=TensorProto.FLOAT))
        parts.append(f"{mark}input{at}.flat" if len(form.signature.inputs) > 1 else f"{mark}features")
        nodes.append(helper.make_node("Flatten", [name], [parts[-1]], axis=1))
    if len(parts) > 1:
        nodes.append(helper.make_node("Concat", parts, [f"{mark}features"], axis=1))
    return nodes


def _tail(form: Form, weights: dict[str, Array]) -> list[Any]:
    mark = mark_of(form)
    nodes: list[Any] = []
    if form.scored is not None:
        kind = {"probabilities": "Softmax" if form.width > 1 else "Sigmoid"}.get(form.meaning, "Identity")
        axis = {"axis": 1} if kind == "Softmax" else {}
        nodes.append(helper.make_node(kind, [f"{mark}raw"], [f"{mark}scores"], **axis))
        nodes += _shaped(f"{mark}scores", form.scored, weights)
    if form.decided is not None:
        nodes += _number(mark, form.width, weights)
        weights[f"{mark}classes"] = _classes(form)
        nodes.append(helper.make_node("Gather", [f"{mark}classes", f"{mark}number"], [f"{mark}class"]))
        nodes += _shaped(f"{mark}class", form.decided, weights, cast=False)
    return nodes


def _number(mark: str, width: int, weights: dict[str, Array]) -> list[Any]:
    """From raw numbers to the number of the class, [rows]."""
    if width > 1:
        return [helper.make_node("ArgMax", [f"{mark}raw"], [f"{mark}number"], axis=1, keepdims=0)]
    weights |= {f"{mark}zero": np.zeros(1, np.float32), f"{mark}flat": np.array([-1], np.int64)}
    return [
        helper.make_node("Greater", [f"{mark}raw", f"{mark}zero"], [f"{mark}second"]),
        helper.make_node("Cast", [f"{mark}second"], [f"{mark}second.number"], to=TensorProto.INT64),
        helper.make_node("Reshape", [f"{mark}second.number", f"{mark}flat"], [f"{mark}number"]),
    ]


def _classes(form: Form) -> Array:
    assert form.decided is not None
    if form.decided.dtype is Datatype.BYTES:
        return np.array([*form.classes, None], np.object_)[:-1]
    return np.array([float(name) for name in form.classes]).astype(form.decided.dtype.numpy)


def _shaped(name: str, spec: TensorSpec, weights: dict[str, Array], cast: bool = True) -> list[Any]:
    """In the shape and datatype of an output, under its name; ``name`` is an inner one."""
    weights[f"{name}.shape"] = np.array([-1, *[size or 1 for size in spec.shape]], np.int64)
    if not cast or spec.dtype is Datatype.FP32:
        return [helper.make_node("Reshape", [name, f"{name}.shape"], [spec.name])]
    return [
        helper.make_node("Reshape", [name, f"{name}.shape"], [f"{name}.float"]),
        helper.make_node("Cast", [f"{name}.float"], [spec.name], to=_type(spec.dtype)),
    ]
