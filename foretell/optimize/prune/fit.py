"""Which units can go at the least loss, and the weights that make up for them: least squares on what a layer takes.

Units go one after another, each the one whose loss, with all other weights fitted anew, is the smallest (the optimal brain
surgeon: Hassibi and Stork, 1992, here for whole units as in Frantar and Alistarh, "Optimal Brain Compression", 2022).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.optimize.prune.graph import Graph
from foretell.optimize.prune.readers import Floats, Reader
from foretell.optimize.prune.ties import Group, Indices
from foretell.tensors import Array

RIDGE = 1e-4  # of the mean square of the features
MOST_STEPS = 128


@dataclass(frozen=True)
class Order:
    """``units`` in the order in which they go, and the loss once each has gone: a share of what its readers give."""

    units: Indices
    losses: Floats

    def kept(self, count: int) -> Indices:
        """The ``count`` units that go last, ascending."""
        return np.sort(self.units[len(self.units) - count :])

    def loss(self, count: int) -> float:
        gone = len(self.units) - count
        return float(self.losses[gone - 1]) if gone else 0.0


@dataclass
class _State:
    """One reader while units go: the inverse of its features' squares, its weights as they are fitted, the units of its
    features."""

    inverse: Floats
    weights: Floats
    features: Mapping[int, Indices]
    energy: float

    def losses(self, units: Indices) -> Floats:
        """For each unit still there, what it costs to let it go. Units of one reader have equally many features."""
        at = np.stack([self.features[unit] for unit in units.tolist()])
        blocks = self.inverse[at[:, :, None], at[:, None, :]]
        solved = np.linalg.solve(blocks, self.weights[at])
        return np.asarray(np.einsum("ubo,ubo->u", self.weights[at], solved) / self.energy, np.float64)

    def drop(self, units: Indices) -> None:
        at = np.concatenate([self.features[unit] for unit in units.tolist()])
        across = self.inverse[:, at]
        block = self.inverse[np.ix_(at, at)]
        self.weights -= across @ np.linalg.solve(block, self.weights[at])
        self.inverse -= across @ np.linalg.solve(block, across.T)


def order(group: Group, readers: Sequence[Reader], graph: Graph, taken: Mapping[str, Array]) -> Order:
    """The order in which a group's units go; ``taken``: samples x features of each reader."""
    states = [_start(group, reader, graph, taken[reader.weight]) for reader in readers]
    left, gone, losses, so_far = np.arange(group.units), [], [], 0.0
    step = max(1, group.units // MOST_STEPS)
    while len(left):
        each = np.sum([state.losses(left) for state in states], axis=0)
        chosen = np.argsort(each, kind="stable")[:step]
        for unit in chosen.tolist():
            so_far += max(0.0, float(each[unit]))
            losses.append(so_far)
        gone.append(left[chosen])
        for state in states:
            state.drop(left[chosen])
        left = np.delete(left, chosen)
    return Order(np.concatenate(gone), np.array(losses))


def _start(group: Group, reader: Reader, graph: Graph, taken: Array) -> _State:
    squares, weights = squares_of(taken, bool(reader.bias)), reader.matrix(graph.weights[reader.weight])
    if reader.bias:
        weights = np.vstack([weights, np.zeros((1, weights.shape[1]))])
    labels = reader.labels(group)
    features = {unit: np.flatnonzero(labels == unit) for unit in range(group.units)}
    energy = float(np.einsum("fo,fg,go->", weights, squares, weights, optimize=True)) or 1.0
    return _State(np.linalg.inv(squares).astype(np.float64), weights.copy(), features, energy)


def squares_of(taken: Array, constant: bool) -> Floats:
    """The mean products of the features, with a ridge; ``constant`` adds one that is always 1, whose weight is the bias."""
    features = taken.astype(np.float64)
    if constant:
        features = np.hstack([features, np.ones((len(features), 1))])
    squares: Floats = features.T @ features / len(features)
    return squares + np.eye(len(squares)) * (RIDGE * max(float(np.trace(squares)) / len(squares), 1e-12))


def refit(reader: Reader, graph: Graph, taken: Array, wanted: Array) -> dict[str, Array]:
    """The weight and bias of a reader that give ``wanted`` (samples x outputs, bias included) from what it takes now.

    The weights it has are where the ridge pulls to, so that features which are always 0 keep theirs.
    """
    weight, bias = graph.weights[reader.weight], graph.weights.get(reader.bias)
    old = reader.matrix(weight)
    features = taken.astype(np.float64)
    added = bias_inside(reader, bias)
    missing = wanted.astype(np.float64) - added - features @ old
    if bias is not None:
        features = np.hstack([features, np.ones((len(features), 1))])
    change = np.linalg.solve(squares_of(taken, bias is not None), features.T @ missing / len(features))
    changed = {reader.weight: reader.weight_of(old + change[: len(old)], weight)}
    if bias is not None:
        changed[reader.bias] = (bias + change[-1]).reshape(bias.shape).astype(bias.dtype)
    return changed


def bias_inside(reader: Reader, bias: Array | None) -> NDArray[np.float64] | float:
    """What of the bias is in what the layer gives: nothing of one that an Add behind it adds."""
    return 0.0 if bias is None or reader.operator == "MatMul" else bias.astype(np.float64).reshape(-1)
