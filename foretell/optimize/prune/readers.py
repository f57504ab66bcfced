"""The layers that read what was cut: what they take and give as two matrices, for least squares to fit their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from foretell.optimize.prune.graph import Graph, attributes, batches
from foretell.optimize.prune.ties import Group, Indices
from foretell.tensors import Array, Arrays

Floats = NDArray[np.float64]
MOST_SAMPLES = 8_192


@dataclass(frozen=True)
class Reader:
    """A MatMul, Gemm or Conv that gives ``taken`` times its weight; ``bias`` is the vector added to it, "" for none."""

    operator: str
    taken: str
    weight: str
    given: str
    bias: str
    options: Mapping[str, Any]

    @property
    def axis(self) -> int:
        """The axis of the weight that runs along what is taken."""
        if self.operator == "MatMul":
            return 0
        return 1 if self.operator == "Conv" or self.options.get("transB") else 0

    @property
    def outputs_axis(self) -> int:
        return 0 if self.operator == "Conv" else 1 - self.axis

    def matrix(self, weight: Array) -> Floats:
        """A weight as features x outputs."""
        array = weight.astype(np.float64)
        if self.operator == "Conv":
            return array.reshape(len(array), -1).T
        return array.T if self.axis else array

    def weight_of(self, matrix: Floats, like: Array) -> Array:
        """The inverse of ``matrix``."""
        if self.operator == "Conv":
            return matrix.T.reshape(like.shape).astype(like.dtype)
        return np.ascontiguousarray(matrix.T if self.axis else matrix).astype(like.dtype)

    def labels(self, group: Group) -> Indices:
        """For each feature, the unit of a group that it comes from; -1 for none."""
        units = group.places[self.weight, self.axis]
        if self.operator != "Conv":
            return units
        return np.repeat(units, self.options["window"])

    def features(self, taken: Array, most: int, seed: int) -> Array:
        """What is taken as samples x features: ``most`` of the samples, chosen by ``seed``."""
        if self.operator != "Conv":
            return _some(taken.reshape(-1, taken.shape[-1]), 1, most, seed)
        return _some(_windows(taken, self.options), 3, most, seed).reshape(-1, taken.shape[1] * self.options["window"])

    def answers(self, given: Array, most: int, seed: int) -> Array:
        """What is given as samples x outputs: those of ``features``."""
        if self.operator != "Conv":
            return _some(given.reshape(-1, given.shape[-1]), 1, most, seed)
        return _some(np.moveaxis(given, 1, -1), 3, most, seed)


def find_readers(graph: Graph) -> list[Reader]:
    """Every layer whose weight is read by it alone, in the order of the graph."""
    found = [reader for node in graph.nodes if (reader := _reader(graph, node)) is not None]
    uses = [name for node in graph.nodes for name in node.input]
    return [reader for reader in found if uses.count(reader.weight) == 1]


def readers_of(readers: Sequence[Reader], group: Group) -> list[Reader]:
    return [reader for reader in readers if (reader.weight, reader.axis) in group.places]


def sample(graph: Graph, readers: Sequence[Reader], rows: Arrays, seed: int, answers: bool = False) -> dict[str, Array]:
    """For each reader's weight, samples of what it takes, or with ``answers`` of what it gives: the same places each time."""
    wanted = [reader.given if answers else reader.taken for reader in readers]
    names = list(dict.fromkeys(name for name in wanted))
    session, count = graph.session(names), len(next(iter(rows.values())))
    parts: dict[str, list[Array]] = {reader.weight: [] for reader in readers}
    for place, batch in enumerate(batches(rows)):
        values = dict(zip(names, session.run(names, dict(batch)), strict=True))
        share = len(next(iter(batch.values()))) / count
        for reader, name in zip(readers, wanted, strict=True):
            take = reader.answers if answers else reader.features
            parts[reader.weight].append(take(values[name], max(1, int(MOST_SAMPLES * share)), seed + place))
    return {name: np.concatenate(each) for name, each in parts.items()}


def _some(array: Array, axes: int, most: int, seed: int) -> Array:
    """``most`` of what the first ``axes`` number, at random but in order."""
    count = int(np.prod(array.shape[:axes]))
    chosen = np.arange(count) if count <= most else np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return array[np.unravel_index(chosen, array.shape[:axes])]


def _reader(graph: Graph, node: Any) -> Reader | None:
    options = attributes(node)
    if node.op_type not in {"MatMul", "Gemm", "Conv"} or node.input[1] not in graph.weights or node.input[0] in graph.weights:
        return None
    weight = graph.weights[node.input[1]]
    if node.op_type == "Conv":
        if options.get("group", 1) != 1 or weight.ndim != 4 or options.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return None
        options["kernel"] = weight.shape[2:]
        options["window"] = int(np.prod(weight.shape[2:]))
    elif weight.ndim != 2 or options.get("transA") or options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0:
        return None
    bias = node.input[2] if len(node.input) > 2 else _added(graph, node)
    width = weight.shape[0 if node.op_type == "Conv" or options.get("transB") else 1]
    fits = bias in graph.weights and graph.weights[bias].size == width and len(graph.users(bias)) == 1
    if len(node.input) > 2 and node.input[2] and not fits:
        return None
    return Reader(node.op_type, node.input[0], node.input[1], node.output[0], bias if fits else "", options)


def _added(graph: Graph, node: Any) -> str:
    """The vector that an Add after a MatMul adds, and nothing else uses."""
    users = graph.users(node.output[0])
    if node.op_type != "MatMul" or len(users) != 1 or users[0].op_type != "Add" or node.output[0] in graph.outputs:
        return ""
    other = next((name for name in users[0].input if name != node.output[0]), "")
    return other if other in graph.weights and graph.weights[other].ndim == 1 else ""


def _windows(taken: Array, options: Mapping[str, Any]) -> Array:
    """Every window of a convolution, without a copy: rows x height x width x channels x kernel."""
    high, wide = options["kernel"]
    top, left, bottom, right = options.get("pads", [0, 0, 0, 0])
    down, across = options.get("strides", [1, 1])
    tall, broad = options.get("dilations", [1, 1])
    padded = np.pad(taken, ((0, 0), (0, 0), (top, bottom), (left, right)))
    views = sliding_window_view(padded, ((high - 1) * tall + 1, (wide - 1) * broad + 1), axis=(2, 3))
    return np.moveaxis(views[:, :, ::down, ::across, ::tall, ::broad], 1, 3)
