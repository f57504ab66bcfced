"""What each ONNX operator ties together: https://onnx.ai/onnx/operators/."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from foretell.optimize.prune.graph import Graph, attributes, has_subgraph
from foretell.optimize.prune.ties import Indices, Place, Ties

EACH_ALONE = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Gelu"}
    | {"HardSigmoid", "HardSwish", "Mish", "Swish", "Softplus", "Softsign", "Erf", "Exp"}
    | {"Log", "Sqrt", "Abs", "Neg", "Clip", "Identity", "Dropout", "Cast"}
    | {"ThresholdedRelu", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Not", "IsNaN"}
    | {"Sin", "Cos"}
)
BROADCAST = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum"}
    | {"PRelu", "Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And"}
    | {"Or", "Mod"}
)
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
REDUCE = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"}
    | {"ReduceLogSumExp", "ArgMax", "ArgMin"}
)


@dataclass(eq=False)
class Seen:
    """One node while its rule looks at it: what the rule does not tie is found out afterwards."""

    node: Any
    graph: Graph
    ties: Ties
    attributes: Mapping[str, Any]
    told: set[Place] = field(default_factory=set)

    def shape(self, name: str) -> Sequence[int | None]:
        return self.graph.shapes[name]

    def rank(self, name: str) -> int:
        return len(self.shape(name))

    def constant(self, at: int) -> list[int] | None:
        """The whole numbers of an input that is a constant, None of one that is not there or not constant."""
        name = self.node.input[at] if at < len(self.node.input) else ""
        return [int(each) for each in self.graph.weights[name].reshape(-1)] if name in self.graph.weights else None

    def given(self, at: int) -> str:
        return self.node.input[at] if at < len(self.node.input) else ""

    def tie(self, one: Place, other: Place, at: Indices | None = None) -> None:
        self.told |= {one, other}
        self.ties.tie(one, other, at)


Rule = Callable[[Seen], None]


def tie_all(graph: Graph) -> Ties:
    """Every tie of a graph, with what stops at its inputs, its outputs and the operators that say nothing."""
    ties = Ties(graph.shapes)
    seen = [Seen(node, graph, ties, attributes(node)) for node in graph.nodes]
    reshapes = [each for each in seen if each.node.op_type in RESHAPES and _is_readable(each)]
    _stop_edges(graph, ties)
    for each in seen:
        if not (each.node.op_type in RESHAPES and _is_readable(each)):
            _tie_node(each)
    for each in reshapes:  # what only these touch is free, too
        _number(each)
    free = _free(ties)
    for each in reshapes:
        _tie_reshape(each, free)
        _stop_rest(each)
    return ties


def _stop_edges(graph: Graph, ties: Ties) -> None:
    for names, what in ((graph.inputs, "input"), (graph.outputs, "output")):
        for name in names:
            ties.stop_all([name], f"it is the model's {what} {name!r}")


def _number(each: Seen) -> None:
    for name in (each.node.input[0], each.node.output[0]):
        for axis in range(each.rank(name)):
            each.ties.elements((name, axis))


def _is_readable(each: Seen) -> bool:
    node = each.node
    known = each.given(0) in each.graph.shapes and node.output[0] in each.graph.shapes
    return known and (node.op_type != "Reshape" or each.given(1) in each.graph.weights)


def _tie_node(each: Seen) -> None:
    node = each.node
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if has_subgraph(node):
        each.ties.stop_all(each.graph.shapes, f"the graph has {node.op_type} with a subgraph")
    elif rule is not None and all(name in each.graph.shapes for name in [*node.input, *node.output] if name):
        rule(each)
    _stop_rest(each)


def _stop_rest(each: Seen) -> None:
    for name in filter(None, [*each.node.input, *each.node.output]):
        for axis in range(len(each.graph.shapes.get(name, ()))):
            if (name, axis) not in each.told and each.graph.shapes[name][axis] != 1:
                each.ties.stop((name, axis), f"operator {each.node.op_type} needs it whole")


def _free(ties: Ties) -> set[Place]:
    """The places that nothing but a reshape may yet stop."""
    labels = ties.components()
    stopped = np.array(sorted(ties.stopped(labels)), np.int64)
    return {
        place
        for place, start in ties.offsets.items()
        if not np.isin(labels[start : start + (ties.size(place) or 0)], stopped).all()
    }


def _one_by_one(each: Seen) -> None:
    for axis in range(each.rank(each.node.input[0])):
        each.tie((each.node.input[0], axis), (each.node.output[0], axis))


def _broadcast(each: Seen) -> None:
    for name in each.node.input:
        _aligned(each, name, 1)


def _aligned(each: Seen, name: str, first: int) -> None:
    """The axes of one operand with those of the output, from the ``first`` of the last; a length of 1 is spread out."""
    out = each.node.output[0]
    for back in range(first, 1 + each.rank(name)):
        one, other = (name, each.rank(name) - back), (out, each.rank(out) - back)
        sizes = each.ties.size(one), each.ties.size(other)
        if sizes[0] == sizes[1]:
            each.tie(one, other)
        elif sizes[0] is None:
            each.ties.stop(other, f"{name!r} has no known length there")


def _but_axes(each: Seen, axes: Sequence[int]) -> None:
    """All axes one by one, but for some that stay whole."""
    rank = each.rank(each.node.input[0])
    whole = {axis % rank for axis in axes}
    for axis in set(range(rank)) - whole:
        each.tie((each.node.input[0], axis), (each.node.output[0], axis))


def _softmax(each: Seen) -> None:
    old = next((opset.version for opset in each.graph.model.opset_import if opset.domain in ("", "ai.onnx")), 13) < 13
    axis = each.attributes.get("axis", 1 if old else -1)
    rank = each.rank(each.node.input[0])
    _but_axes(each, range(axis % rank, rank) if old else [axis])


def _layer_norm(each: Seen) -> None:
    rank = each.rank(each.node.input[0])
    _but_axes(each, range(each.attributes.get("axis", -1) % rank, rank))


def _batch_norm(each: Seen) -> None:
    _one_by_one(each)
    for name in each.node.input[1:5]:
        each.tie((each.node.input[0], 1), (name, 0))


def _instance_norm(each: Seen) -> None:
    _channels(each)
    for name in each.node.input[1:3]:
        each.tie((each.node.input[0], 1), (name, 0))


def _channels(each: Seen) -> None:
    """Rows and channels one by one, what lies in space stays whole."""
    if len([name for name in each.node.output if name]) == 1:
        _but_axes(each, range(2, each.rank(each.node.input[0])))


def _conv(each: Seen) -> None:
    taken, weight, out = each.node.input[0], each.node.input[1], each.node.output[0]
    bias, groups = each.given(2), each.attributes.get("group", 1)
    across, channels = (1, 0) if each.node.op_type == "Conv" else (0, 1)
    each.tie((taken, 0), (out, 0))
    sizes = each.ties.size((taken, 1)), each.ties.size((out, 1))
    if groups == 1:
        each.tie((taken, 1), (weight, across))
        each.tie((weight, channels), (out, 1))
    elif (
        sizes[0] == groups and sizes[1] is not None and each.node.op_type == "Conv"
    ):  # each channel alone, perhaps several times
        each.tie((taken, 1), (out, 1), np.arange(sizes[1]) // (sizes[1] // groups))
        each.tie((weight, 0), (out, 1))
    else:
        return
    if bias:
        each.tie((bias, 0), (out, 1))


def _gemm(each: Seen) -> None:
    one, other, out = each.node.input[0], each.node.input[1], each.node.output[0]
    inner, outer = each.attributes.get("transA", 0), each.attributes.get("transB", 0)
    each.tie((one, inner), (out, 0))
    each.tie((one, 1 - inner), (other, outer))
    each.tie((other, 1 - outer), (out, 1))
    if each.given(2):
        _aligned(each, each.given(2), 1)


def _matmul(each: Seen) -> None:
    one, other, out = each.node.input[0], each.node.input[1], each.node.output[0]
    ranks = each.rank(one), each.rank(other), each.rank(out)
    if min(ranks) < 2:
        return
    each.tie((one, ranks[0] - 1), (other, ranks[1] - 2))
    each.tie((one, ranks[0] - 2), (out, ranks[2] - 2))
    each.tie((other, ranks[1] - 1), (out, ranks[2] - 1))
    for name in (one, other):
        _aligned(each, name, 3)


def _transpose(each: Seen) -> None:
    rank = each.rank(each.node.input[0])
    for to, axis in enumerate(each.attributes.get("perm", range(rank)[::-1])):
        each.tie((each.node.input[0], axis), (each.node.output[0], to))


def _concat(each: Seen) -> None:
    out, start = each.node.output[0], 0
    along = each.attributes["axis"] % each.rank(out)
    sizes = [each.ties.size((name, along)) for name in each.node.input]
    for name, size in zip(each.node.input, sizes, strict=True):
        for axis in set(range(each.rank(out))) - {along}:
            each.tie((name, axis), (out, axis))
        if None not in sizes:
            each.tie((out, along), (name, along), np.arange(size or 0) + start)
            start += size or 0


def _split(each: Seen) -> None:
    taken, start = each.node.input[0], 0
    along = each.attributes.get("axis", 0) % each.rank(taken)
    settled = each.given(1) in each.graph.weights  # else equal parts, which a cut need not leave equal
    for name in each.node.output:
        for axis in set(range(each.rank(taken))) - {along}:
            each.tie((taken, axis), (name, axis))
        size = each.ties.size((name, along))
        if settled and size is not None:
            each.tie((taken, along), (name, along), np.arange(size) + start)
            start += size


def _gather(each: Seen) -> None:
    taken, out = each.node.input[0], each.node.output[0]
    along = each.attributes.get("axis", 0) % each.rank(taken)
    more = each.rank(out) - each.rank(taken)
    for axis in set(range(each.rank(taken))) - {along}:
        each.tie((taken, axis), (out, axis + (more if axis > along else 0)))


def _reduce(each: Seen) -> None:
    rank = each.rank(each.node.input[0])
    single = each.node.op_type in {"ArgMax", "ArgMin"}
    axes = [each.attributes.get("axis", 0)] if single else each.attributes.get("axes") or each.constant(1)
    if axes is None or (each.given(1) and each.constant(1) is None):
        return
    gone = {axis % rank for axis in axes}
    left = [axis for axis in range(rank) if axis not in gone or each.attributes.get("keepdims", 1)]
    for axis in set(range(rank)) - gone:
        each.tie((each.node.input[0], axis), (each.node.output[0], left.index(axis)))


def _slice(each: Seen) -> None:
    starts, axes = each.constant(1), each.constant(3)
    if starts is not None and (axes is not None or not each.given(3)):
        _but_axes(each, axes if axes is not None else range(len(starts)))


def _pad(each: Seen) -> None:
    pads, rank = each.constant(1) or each.attributes.get("pads"), each.rank(each.node.input[0])
    if pads is not None and not each.given(3):
        _but_axes(each, [axis for axis in range(rank) if pads[axis] or pads[axis + rank]])


def _resize(each: Seen) -> None:
    if not each.given(3):  # its sizes would name the channels
        _channels(each)


def _tie_reshape(each: Seen, free: set[Place]) -> None:
    """Runs of axes that hold the same values: of one axis against several, the first that may be cut is tied, in blocks."""
    taken, out = each.node.input[0], each.node.output[0]
    for ours, theirs in _runs(each.shape(taken), each.shape(out)):
        if len(ours) == len(theirs) == 1:
            each.tie((taken, ours[0]), (out, theirs[0]))
        elif len(ours) == 1:
            _tie_blocks(each, (taken, ours[0]), [(out, axis) for axis in theirs], free)
        elif len(theirs) == 1:
            _tie_blocks(each, (out, theirs[0]), [(taken, axis) for axis in ours], free)


def _tie_blocks(each: Seen, one: Place, several: Sequence[Place], free: set[Place]) -> None:
    sizes = [each.ties.size(place) for place in several]
    chosen = next((at for at, place in enumerate(several) if place in free), None)
    if chosen is None or None in sizes:
        return
    blocks = np.unravel_index(np.arange(prod(size or 0 for size in sizes)), [size or 0 for size in sizes])[chosen]
    each.tie(several[chosen], one, np.asarray(blocks, np.int64))


def _runs(ours: Sequence[int | None], theirs: Sequence[int | None]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes with equally many values on both sides; an unknown length stands for itself."""
    left = [(axis, size) for axis, size in enumerate(ours) if size != 1]
    right = [(axis, size) for axis, size in enumerate(theirs) if size != 1]
    runs = []
    while left and right:
        if left[0][1] is None or right[0][1] is None:
            if left[0][1] is not right[0][1]:
                break
            runs.append(([left.pop(0)[0]], [right.pop(0)[0]]))
            continue
        run, counts = ([left[0][0]], [right[0][0]]), [left.pop(0)[1], right.pop(0)[1]]
        while counts[0] != counts[1]:
            side = int((counts[0] or 0) > (counts[1] or 0))
            rest = (left, right)[side]
            if not rest or rest[0][1] is None:
                return runs
            axis, size = rest.pop(0)
            run[side].append(axis)
            counts[side] = (counts[side] or 0) * (size or 0)
        runs.append(run)
    return runs


RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(EACH_ALONE, _one_by_one),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(POOLS, _channels),
    **dict.fromkeys(REDUCE, _reduce),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
}
