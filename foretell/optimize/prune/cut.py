"""Takes channels out of a graph: smaller weights, and the few attributes and constants that name a number of channels."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

from foretell.optimize.prune.graph import Graph, Shape, attributes
from foretell.optimize.prune.operators import tie_all
from foretell.optimize.prune.ties import Group, Indices, Place, groups_of
from foretell.tensors import Array


def find_groups(graph: Graph) -> tuple[list[Group], dict[Place, str]]:
    """What of a graph can be cut, and for each axis of a weight that cannot, what stops it."""
    return groups_of(tie_all(graph), graph.weights)


def cut(graph: Graph, groups: Sequence[Group], at: int, kept: Indices) -> tuple[Graph, list[Group]]:
    """The graph with only the ``kept`` units (ascending) of ``groups[at]``, and the groups as they stand in it."""
    group = groups[at]
    there = np.isin(np.arange(group.units), kept)
    masks = {place: np.append(there, True)[units] for place, units in group.places.items()}
    weights, shapes = dict(graph.weights), dict(graph.shapes)
    for (name, axis), mask in masks.items():
        shapes[name] = _resized(shapes[name], axis, int(mask.sum()))
        if name in weights:
            weights[name] = np.compress(mask, weights[name], axis)
    model = copy.deepcopy(graph.model)
    for node in model.graph.node:
        _correct(node, weights, graph.shapes, shapes)
    return Graph(model, weights, shapes), [
        each.keeping(kept) if place == at else _beside(each, masks) for place, each in enumerate(groups)
    ]


def _resized(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _beside(group: Group, masks: Mapping[Place, Any]) -> Group:
    """Another group, which may share an axis (after a Concat) with the one that was cut."""
    places = {place: units[masks[place]] if place in masks else units for place, units in group.places.items()}
    return Group(group.name, group.units, places)


def _correct(node: Any, weights: dict[str, Array], before: Mapping[str, Shape], after: Mapping[str, Shape]) -> None:
    if node.op_type == "Reshape" and node.input[1] in weights:
        wanted = weights[node.input[1]].copy()
        for axis, (old, new) in enumerate(zip(before.get(node.output[0], ()), after.get(node.output[0], ()), strict=True)):
            if old != new and wanted[axis] > 0:
                wanted[axis] = np.int64(new or 0)
        weights[node.input[1]] = wanted
    elif node.op_type == "Split" and len(node.input) > 1 and node.input[1] in weights:
        axis = attributes(node).get("axis", 0)
        weights[node.input[1]] = np.array([after[name][axis] for name in node.output], np.int64)
    elif node.op_type == "Conv" and attributes(node).get("group", 1) > 1 and after[node.input[0]] != before[node.input[0]]:
        _set(node, "group", after[node.input[0]][1])


def _set(node: Any, name: str, value: object) -> None:
    others = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, value)])
