"""Trees of gradient boosting as an ONNX graph: one node of ai.onnx.ml for all trees, then what turns scores into answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from foretell.classes import LABEL, PREDICTION, PROBABILITIES

INPUT = "features"
_SCORES = "scores"
_NODES = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


@dataclass
class Ensemble:
    """The nodes of all trees, column by column. ``mode`` of a split: BRANCH_LT or BRANCH_LEQ; ``dtype``: f or d."""

    features: int
    groups: int
    mode: str
    dtype: str = "f"
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _NODES + _LEAVES})

    def split(self, tree: int, node: int, feature: int, value: float, children: tuple[int, int], missing: bool) -> None:
        """A split sends rows to the first child when its test holds; ``missing``: NaN too."""
        self._add(_NODES, (tree, node, feature, value, self.mode, children[0], children[1], int(missing)))

    def leaf(self, tree: int, node: int, group: int, weight: float) -> None:
        self._add(_NODES, (tree, node, 0, 0.0, "LEAF", 0, 0, 0))
        self._add(_LEAVES, (tree, node, group, weight))

    def _add(self, names: Sequence[str], values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            self.columns[name].append(value)

    def node(self) -> Any:
        columns = dict(self.columns)
        values, weights = columns.pop("nodes_values"), columns.pop("target_weights")
        if self.dtype == "d":
            columns["nodes_values_as_tensor"] = numpy_helper.from_array(np.array(values, np.float64), "values")
            columns["target_weights_as_tensor"] = numpy_helper.from_array(np.array(weights, np.float64), "weights")
        else:
            columns |= {"nodes_values": values, "target_weights": weights}
        named = {"n_targets": self.groups, "aggregate_function": "SUM", "post_transform": "NONE"}
        return helper.make_node("TreeEnsembleRegressor", [INPUT], ["sums"], domain="ai.onnx.ml", **named, **columns)


@dataclass(frozen=True)
class Finish:
    """How sums become answers: ``base`` is added, ``factor`` multiplied, ``link`` applied; classes are told as class_specs."""

    link: str = "identity"
    base: Sequence[float] = (0.0,)
    factor: float = 1.0
    classifies: bool = False
    wide: bool = False  # whether predictions are FP64


_LINKS: dict[str, Sequence[str]] = {
    "identity": ("Identity",),
    "sigmoid": ("Sigmoid",),
    "softmax": ("Softmax",),
    "exp": ("Exp",),
}


def to_onnx(ensemble: Ensemble, finish: Finish) -> bytes:
    """The model: ``features`` in; ``label`` and ``probabilities``, or ``prediction`` out."""
    kind = TensorProto.DOUBLE if ensemble.dtype == "d" else TensorProto.FLOAT
    weights = [
        numpy_helper.from_array(np.asarray(finish.base, np.float32), "base"),
        numpy_helper.from_array(np.float32(finish.factor), "factor"),
    ]
    nodes = [
        ensemble.node(),
        helper.make_node("Add", ["sums", "base"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "factor"], ["scaled"]),
        *(helper.make_node(name, ["scaled"], [_SCORES]) for name in _LINKS[finish.link]),
    ]
    ending = _classes(ensemble.groups, weights) if finish.classifies else _prediction(ensemble.groups, finish.wide, weights)
    inputs = [helper.make_tensor_value_info(INPUT, kind, [None, ensemble.features])]
    graph = helper.make_graph([*nodes, *ending[0]], "trees", inputs, ending[1], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="foretell")
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _classes(groups: int, weights: list[Any]) -> tuple[list[Any], list[Any]]:
    nodes = []
    if groups == 1:
        weights.append(numpy_helper.from_array(np.float32(1), "one"))
        nodes += [
            helper.make_node("Sub", ["one", _SCORES], ["other"]),
            helper.make_node("Concat", ["other", _SCORES], [PROBABILITIES], axis=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", [_SCORES], [PROBABILITIES]))
    nodes.append(helper.make_node("ArgMax", [PROBABILITIES], [LABEL], axis=1, keepdims=0))
    label = helper.make_tensor_value_info(LABEL, TensorProto.INT64, [None])
    return nodes, [label, helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [None, max(2, groups)])]


def _prediction(groups: int, wide: bool, weights: list[Any]) -> tuple[list[Any], list[Any]]:
    shape = [groups] if groups > 1 else []
    kind = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    weights.append(numpy_helper.from_array(np.array([-1, *shape], np.int64), "shape"))
    nodes = [
        helper.make_node("Reshape", [_SCORES, "shape"], ["shaped"]),
        helper.make_node("Cast", ["shaped"], [PREDICTION], to=kind),
    ]
    return nodes, [helper.make_tensor_value_info(PREDICTION, kind, [None, *shape])]
