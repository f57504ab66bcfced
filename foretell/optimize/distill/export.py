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
    last = "features"
    for at, (weight, bias) in enumerate(student.layers):
        weights |= {f"layer{at}.weight": weight, f"layer{at}.bias": bias}
        out = "raw" if at == len(student.layers) - 1 else f"layer{at}"
        nodes.append(helper.make_node("Gemm", [last, f"layer{at}.weight", f"layer{at}.bias"], [out], out))
        if out != "raw":
            nodes.append(helper.make_node("Relu", [out], [f"{out}.relu"], f"{out}.relu"))
            last = f"{out}.relu"
    return _model(form, nodes, weights)


def forest_model(student: Forest, form: Form) -> Any:
    columns: dict[str, list[Any]] = {}
    for number, each in enumerate(student.trees):
        for name, values in _tree(each.tree_, number, student.rate).items():
            columns.setdefault(name, []).extend(values)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["raw"],
        "raw",
        domain="ai.onnx.ml",
        n_targets=form.width,
        base_values=[float(each) for each in student.start],
        **columns,
    )
    return _model(form, [node], {})


def with_answers(model: Any, form: Form) -> Any:
    """A model that gives "raw", with the teacher's outputs in its place. Names inside get a mark, so that none is there
    twice."""
    model = onnx.compose.add_prefix(model, "student/", rename_inputs=False, rename_outputs=False)
    for each in [*model.graph.node, model.graph]:  # where in the user's code each came from
        del each.metadata_props[:]
        each.doc_string = ""
    del model.graph.value_info[:]
    weights: dict[str, Array] = {}
    model.graph.node.extend(_tail(form, weights))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    del model.graph.output[:]
    model.graph.output.extend(_value(spec) for spec in form.signature.outputs)
    onnx.checker.check_model(model)
    return model


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
    """``body`` goes from "features" [rows, n] to "raw" [rows, width], both FP32."""
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
    nodes, parts = [], []
    for spec in form.signature.inputs:
        name = spec.name
        if spec.dtype is not Datatype.FP32:
            nodes.append(helper.make_node("Cast", [name], [f"{name}/float"], to=TensorProto.FLOAT))
            name = f"{name}/float"
        nodes.append(helper.make_node("Flatten", [name], [f"{name}/flat"], axis=1))
        parts.append(f"{name}/flat")
    return (
        [*nodes, helper.make_node("Concat", parts, ["features"], axis=1)]
        if len(parts) > 1
        else [*nodes[:-1], _renamed(nodes[-1])]
    )


def _renamed(flatten: Any) -> Any:
    return helper.make_node("Flatten", list(flatten.input), ["features"], axis=1)


def _tail(form: Form, weights: dict[str, Array]) -> list[Any]:
    nodes: list[Any] = []
    if form.scored is not None:
        kind = {"probabilities": "Softmax" if form.width > 1 else "Sigmoid"}.get(form.meaning, "Identity")
        nodes.append(helper.make_node(kind, ["raw"], ["answer/scores"], **({"axis": 1} if kind == "Softmax" else {})))
        nodes += _shaped("answer/scores", form.scored, weights)
    if form.decided is not None:
        if form.width > 1:
            nodes.append(helper.make_node("ArgMax", ["raw"], ["answer/number"], axis=1, keepdims=0))
        else:
            weights |= {"answer/zero": np.zeros(1, np.float32), "answer/flat": np.array([-1], np.int64)}
            nodes.append(helper.make_node("Greater", ["raw", "answer/zero"], ["answer/second"]))
            nodes.append(helper.make_node("Cast", ["answer/second"], ["answer/second/number"], to=TensorProto.INT64))
            nodes.append(helper.make_node("Reshape", ["answer/second/number", "answer/flat"], ["answer/number"]))
        weights["answer/classes"] = _classes(form)
        nodes.append(helper.make_node("Gather", ["answer/classes", "answer/number"], ["answer/class"]))
        nodes += _shaped("answer/class", form.decided, weights, cast=False)
    return nodes


def _classes(form: Form) -> Array:
    assert form.decided is not None
    if form.decided.dtype is Datatype.BYTES:
        return np.array([*form.classes, None], np.object_)[:-1]
    return np.array([float(name) for name in form.classes]).astype(form.decided.dtype.numpy)


def _shaped(name: str, spec: TensorSpec, weights: dict[str, Array], cast: bool = True) -> list[Any]:
    """In the shape and datatype of an output, under its name."""
    weights[f"{spec.name}/shape"] = np.array([-1, *[size or 1 for size in spec.shape]], np.int64)
    if not cast or spec.dtype is Datatype.FP32:
        return [helper.make_node("Reshape", [name, f"{spec.name}/shape"], [spec.name])]
    return [
        helper.make_node("Reshape", [name, f"{spec.name}/shape"], [f"{spec.name}/float"]),
        helper.make_node("Cast", [f"{spec.name}/float"], [spec.name], to=_type(spec.dtype)),
    ]
