"""Small real models, trained here in a moment, and the rows to judge them by."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Floats = NDArray[np.float32]
SHARE = 0.5


class Builder:
    """Collects the nodes of a graph; each call gives the name of what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def bytes(self, inputs: dict[str, Sequence[int | str]], outputs: dict[str, Sequence[int | str]]) -> bytes:
        infos = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in each.items()]
            for each in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "graph", infos[0], infos[1], self.weights)
        opsets = [helper.make_opsetid("", 17)]
        model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
        return model


def digits_mlp(folder: Path) -> tuple[Path, Path]:
    rows, labels = _digits()
    return _finished(folder, "digits_mlp", _mlp(rows, labels, (128, 64)), rows, labels)


def digits_cnn(folder: Path) -> tuple[Path, Path]:
    """Two convolutions whose filters are principal components of patches, and a trained layer on them."""
    rows, labels = _digits()
    images = rows.reshape(-1, 1, 8, 8)
    graph = Builder()
    first = _patch_filters(images, 16, 3)
    graph.add("Conv", ["x", graph.weight("w1", first)], "conv1", pads=[1] * 4)
    graph.add("Relu", ["conv1"], "relu1")
    second = _patch_filters(_run(graph, "relu1", images, [16, 8, 8]), 32, 3)
    graph.add("Conv", ["relu1", graph.weight("w2", second)], "conv2", pads=[1] * 4)
    graph.add("Relu", ["conv2"], "relu2")
    graph.add("MaxPool", ["relu2"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten", ["pool"], "flat")
    _head(graph, "flat", images, labels)
    return _finished(folder, "digits_cnn", graph.bytes({"x": ["n", 1, 8, 8]}, {"y": ["n", 10]}), images, labels)


def breast_cancer(folder: Path) -> tuple[Path, Path]:
    rows, labels = datasets.load_breast_cancer(return_X_y=True)
    scaled = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    return _finished(folder, "cancer", _mlp(scaled, labels, (64, 32)), scaled, labels)


def unscaled_cancer(folder: Path) -> tuple[Path, Path]:
    """The same disease from raw features, from 0.001 to 4,000: one scale in 8 bits for all of them loses the small ones."""
    rows, labels = datasets.load_breast_cancer(return_X_y=True)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    fitted = LogisticRegression(max_iter=2000).fit(_train((rows - mean) / spread), _train(labels))
    weight = fitted.coef_.T / spread[:, None]
    graph = Builder()
    bias = fitted.intercept_ - mean @ weight
    graph.add("Gemm", ["x", graph.weight("w", weight), graph.weight("b", bias)], "linear")
    graph.add("Sigmoid", ["linear"], "y")
    return _finished(folder, "unscaled", graph.bytes({"x": ["n", 30]}, {"y": ["n", 1]}), rows.astype(np.float32), labels)


def diabetes(folder: Path) -> tuple[Path, Path]:
    rows, targets = datasets.load_diabetes(return_X_y=True)
    scaled = (rows / rows.std(axis=0)).astype(np.float32)
    centre, spread = targets.mean(), targets.std()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # it need not have converged
        fitted = MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=60, alpha=1.0, random_state=0).fit(
            _train(scaled), (_train(targets) - centre) / spread
        )
    graph = Builder()
    last = _dense(graph, "x", fitted.coefs_, fitted.intercepts_)
    scaled_back = graph.add("Mul", [last, graph.weight("spread", spread)], "spread_out")
    graph.add("Add", [scaled_back, graph.weight("centre", centre)], "y")
    return _finished(folder, "diabetes", graph.bytes({"x": ["n", 10]}, {"y": ["n", 1]}), scaled, targets)


def transformer(folder: Path) -> tuple[Path, Path]:
    """One encoder layer over the 8 rows of an image, 2 heads of 32, with drawn weights, and a trained layer on its mean."""
    rows, labels = _digits()
    images = rows.reshape(-1, 8, 8)
    dice = np.random.default_rng(3)
    graph = Builder()

    def linear(source: str, name: str, into: int, out: int) -> str:
        graph.add(
            "MatMul", [source, graph.weight(f"{name}_w", dice.normal(size=(into, out)) / np.sqrt(into))], f"{name}_product"
        )
        return graph.add("Add", [f"{name}_product", graph.weight(f"{name}_b", dice.normal(size=out) * 0.1)], name)

    def norm(source: str, name: str) -> str:
        parts = [graph.weight(f"{name}_scale", np.ones(64)), graph.weight(f"{name}_shift", np.zeros(64))]
        return graph.add("LayerNormalization", [source, *parts], name)

    embedded = linear("x", "embed", 8, 64)
    placed = graph.add("Add", [embedded, graph.weight("places", dice.normal(size=(8, 64)))], "placed")
    attended = _attention(graph, placed, linear)
    first = norm(graph.add("Add", [placed, attended], "around"), "norm1")
    grown = graph.add("Relu", [linear(first, "grow", 64, 256)], "active")
    graph.add("Add", [first, linear(grown, "shrink", 256, 64)], "around2")
    norm("around2", "norm2")
    graph.add("Reshape", ["norm2", graph.weight("flat_shape", [0, 512], np.int64)], "flat")
    _head(graph, "flat", images, labels)
    return _finished(folder, "transformer", graph.bytes({"x": ["n", 8, 8]}, {"y": ["n", 10]}), images, labels)


MODELS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "digits_mlp": digits_mlp,
    "digits_cnn": digits_cnn,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "transformer": transformer,
}


def _attention(graph: Builder, source: str, linear: Callable[[str, str, int, int], str]) -> str:
    """Two heads of 32."""
    shape, axes = (
        graph.weight("heads", [0, 8, 2, 32], np.int64),
        {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)},
    )
    for name, order in axes.items():
        graph.add("Reshape", [linear(source, name, 64, 64), shape], f"{name}_split")
        graph.add("Transpose", [f"{name}_split"], f"{name}_heads", perm=list(order))
    graph.add("MatMul", ["query_heads", "key_heads"], "scores")
    graph.add("Mul", ["scores", graph.weight("scale", 1 / np.sqrt(32))], "scaled")
    graph.add("Softmax", ["scaled"], "attention", axis=-1)
    graph.add("MatMul", ["attention", "value_heads"], "mixed")
    graph.add("Transpose", ["mixed"], "mixed_rows", perm=[0, 2, 1, 3])
    graph.add("Reshape", ["mixed_rows", graph.weight("joined", [0, 8, 64], np.int64)], "mixed_joined")
    return linear("mixed_joined", "attended", 64, 64)


def _digits() -> tuple[Floats, NDArray[np.int64]]:
    rows, labels = datasets.load_digits(return_X_y=True)
    return (rows / 16).astype(np.float32), labels


def _train(array: Any) -> Any:
    return array[: int(len(array) * SHARE)]


def _mlp(rows: Floats, labels: Any, sizes: tuple[int, ...]) -> bytes:
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # it need not have converged
        fitted = MLPClassifier(sizes, max_iter=40, random_state=0).fit(_train(rows), _train(labels))
    graph = Builder()
    last = _dense(graph, "x", fitted.coefs_, fitted.intercepts_)
    classes = fitted.coefs_[-1].shape[1]
    graph.add("Sigmoid" if classes == 1 else "Softmax", [last], "y", **({} if classes == 1 else {"axis": -1}))
    return graph.bytes({"x": ["n", rows.shape[1]]}, {"y": ["n", classes]})


def _dense(graph: Builder, source: str, weights: Sequence[Any], biases: Sequence[Any]) -> str:
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        names = [graph.weight(f"w{number}", weight), graph.weight(f"b{number}", bias)]
        source = graph.add("Gemm", [source, *names], f"dense{number}")
        if number < len(weights) - 1:
            source = graph.add("Relu", [source], f"relu{number}")
    return source


def _head(graph: Builder, source: str, images: Floats, labels: Any) -> None:
    """A layer on what the graph makes so far, trained, and its softmax."""
    features = _run(graph, source, images, ["features"])
    with threadpool_limits(1):
        fitted = LogisticRegression(max_iter=300, C=0.1).fit(_train(features), _train(labels))
    graph.add("Gemm", [source, graph.weight("head_w", fitted.coef_.T), graph.weight("head_b", fitted.intercept_)], "head")
    graph.add("Softmax", ["head"], "y", axis=-1)


def _run(graph: Builder, output: str, rows: Floats, dims: Sequence[int | str]) -> Floats:
    """What the graph makes so far of some rows; ``dims``: the axes of one row of it."""
    wide = Builder()
    wide.nodes, wide.weights = [*graph.nodes, helper.make_node("Identity", [output], ["found"])], graph.weights
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(wide.bytes({"x": ["n", *rows.shape[1:]]}, {"found": ["n", *dims]}), options)
    found: Floats = session.run(["found"], {"x": rows})[0]
    return found


def _patch_filters(images: Floats, count: int, size: int) -> Floats:
    """The first principal components of patches, both ways round so that nothing is lost in ``Relu``."""
    windows = np.lib.stride_tricks.sliding_window_view(images[:200], (size, size), axis=(2, 3))
    patches = np.moveaxis(windows, 1, 3).reshape(-1, images.shape[1] * size * size)
    patches = patches[np.random.default_rng(0).permutation(len(patches))[:4000]]
    _, _, parts = np.linalg.svd(patches - patches.mean(axis=0), full_matrices=False)
    half = parts[: count // 2]
    filters: Floats = np.concatenate([half, -half]).reshape(-1, images.shape[1], size, size).astype(np.float32)
    return filters


def _finished(folder: Path, name: str, model: bytes, rows: Any, labels: Any) -> tuple[Path, Path]:
    """The model's file, and an .npz of the rows that it was not trained on."""
    kept = int(len(rows) * SHARE)
    path, data = folder / f"{name}.onnx", folder / f"{name}.npz"
    path.write_bytes(model)
    np.savez(data, x=np.asarray(rows[kept:], np.float32), label=labels[kept:])
    return path, data
