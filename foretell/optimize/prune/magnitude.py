"""Single weights set to zero, the least important of the whole model first; the others are fitted anew to make up for them.

How important a weight is: its square, by the squares of all in its layer that are no smaller (layer-adaptive magnitude: Lee
et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021). The schedule of sparsities is the cubic one of Zhu
and Gupta, "To Prune, or Not to Prune", 2017.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foretell.optimize.prune.fit import bias_inside, squares_of
from foretell.optimize.prune.graph import Graph
from foretell.optimize.prune.readers import Floats, Reader, find_readers, sample
from foretell.tensors import Array, Arrays

Masks = Mapping[str, NDArray[np.bool_]]
FITTING_STEPS = 30


def schedule(sparsity: float, steps: int) -> list[float]:
    """The sparsities on the way, which rise quickly at first."""
    return [sparsity * (1 - (1 - step / steps) ** 3) for step in range(1, steps + 1)]


def choose_masks(graph: Graph, sparsity: float) -> Masks:
    """Which weights of each matrix and kernel stay, for a share of all of them that goes."""
    names = sparse_weights(graph)
    scores = {name: _importance(graph.weights[name]) for name in names}
    every = np.concatenate([score.reshape(-1) for score in scores.values()])
    gone = round(sparsity * every.size)
    least = np.partition(every, gone)[gone] if gone < every.size else np.inf
    return {name: score >= least for name, score in scores.items()}


def sparse_weights(graph: Graph) -> list[str]:
    """The matrices and kernels of layers, in the order of the graph."""
    taken = [node.input[1] for node in graph.nodes if node.op_type in {"MatMul", "Gemm", "Conv", "ConvTranspose"}]
    names = [name for name in dict.fromkeys(taken) if name in graph.weights]
    return [name for name in names if graph.weights[name].dtype.kind == "f" and graph.weights[name].ndim >= 2]


def mask(graph: Graph, masks: Masks, rows: Arrays, wanted: Mapping[str, Array], seed: int) -> Graph:
    """The graph with what is masked at zero, layer by layer in order, each fitted to what it gave before (``wanted``)."""
    readers = {reader.weight: reader for reader in find_readers(graph)}
    for name, stays in masks.items():
        graph = graph.with_weights({name: np.where(stays, graph.weights[name], 0).astype(graph.weights[name].dtype)})
        reader = readers.get(name)
        if reader is not None:
            taken = sample(graph, [reader], rows, seed)[name]
            graph = graph.with_weights(_refit(reader, graph, stays, taken, wanted[name]))
    return graph


def _importance(weight: Array) -> Floats:
    squares = np.square(weight.astype(np.float64)).reshape(-1)
    ascending = np.argsort(squares, kind="stable")
    at_least = np.cumsum(squares[ascending][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[ascending] = squares[ascending] / np.maximum(at_least, 1e-300)
    return scores.reshape(weight.shape)


def _refit(reader: Reader, graph: Graph, stays: Array, taken: Array, wanted: Array) -> dict[str, Array]:
    """Conjugate gradients on the weights that stay, all outputs of the layer at once."""
    weight, bias = graph.weights[reader.weight], graph.weights.get(reader.bias)
    matrix, free = reader.matrix(weight), reader.matrix(stays.astype(np.float32))
    features = taken.astype(np.float64)
    if bias is not None:
        features = np.hstack([features, np.ones((len(features), 1))])
        matrix = np.vstack([matrix, np.zeros((1, matrix.shape[1]))])
        free = np.vstack([free, np.ones((1, free.shape[1]))])
    squares = squares_of(taken, bias is not None)
    missing = features.T @ (wanted.astype(np.float64) - bias_inside(reader, bias) - features @ matrix) / len(features)
    fitted = matrix + _conjugate(squares, missing, free)
    inner = fitted if bias is None else fitted[:-1]
    changed = {reader.weight: reader.weight_of(inner, weight)}
    if bias is not None:
        changed[reader.bias] = (bias + fitted[-1].reshape(bias.shape)).astype(bias.dtype)
    return changed


def _conjugate(squares: Floats, right: Floats, free: Floats) -> Floats:
    """X with squares @ X = right in the places that are free, 0 elsewhere: column by column, all together."""
    found = np.zeros_like(right)
    rest = right * free
    way = rest.copy()
    size = np.einsum("fo,fo->o", rest, rest)
    for _ in range(FITTING_STEPS):
        along = (squares @ way) * free
        step = size / np.maximum(np.einsum("fo,fo->o", way, along), 1e-300)
        found += way * step
        rest -= along * step
        new = np.einsum("fo,fo->o", rest, rest)
        way = rest + way * (new / np.maximum(size, 1e-300))
        size = new
    return found
