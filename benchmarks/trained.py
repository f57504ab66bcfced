"""Five small models that are really trained, on data that comes with scikit-learn: each an .onnx file with its rows in an .npz.

No framework is needed: heads and perceptrons are trained by scikit-learn. The filters of the convolutions are principal
components of patches, and the attention of the transformer is random; what both give is what their heads are trained on.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 0
ROUNDS = 60
WIDE = 64
FILTERS = (32, 64)


@dataclass(frozen=True)
class Trained:
    """Where a model and its rows lie. ``rows`` were not trained on; ``metric`` is what fits them."""

    name: str
    model: Path
    rows: Path
    metric: str


class Graph:
    """Nodes in a row, each of which takes what the one before gave."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.flow, self.nodes, self.weights = shape, "input", [], []  # type: ignore[var-annotated]

    def add(self, kind: str, *weights: np.ndarray, flow: str = "", **attributes: Any) -> str:
        """A node; its name is that of what it gives."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [f"{name}.{number}" for number in range(len(weights))]
        pairs = zip(weights, names, strict=True)
        self.weights += [numpy_helper.from_array(np.ascontiguousarray(each), at) for each, at in pairs]
        self.nodes.append(helper.make_node(kind, [flow or self.flow, *names], [name], name, **attributes))
        self.flow = name
        return name

    def join(self, kind: str, *flows: str, **attributes: Any) -> str:
        """A node that takes what several others gave."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(flows), [name], name, **attributes))
        self.flow = name
        return name

    def save(self, path: Path, width: int) -> None:
        self.nodes[-1].output[0] = "output"
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *shape])
            for name, shape in (("input", self.shape), ("output", (width,)))
        ]
        graph = helper.make_graph(self.nodes, path.stem, ends[:1], ends[1:], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, path)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What the graph so far makes of rows."""
        import onnxruntime

        end = helper.make_tensor_value_info(self.flow, TensorProto.FLOAT, None)
        start = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", *self.shape])
        model = helper.make_model(
            helper.make_graph(self.nodes, "features", [start], [end], self.weights),
            opset_imports=[helper.make_opsetid("", 17)],
        )
        model.ir_version = 8
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found: np.ndarray = session.run(None, {"input": rows})[0]
        return found


def digits_mlp(folder: Path) -> Trained:
    rows, labels = _digits()
    return _perceptron("digits-mlp", folder, rows, labels, (512, 512))


def breast_cancer(folder: Path) -> Trained:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _perceptron("breast-cancer", folder, data.data.astype(np.float32), data.target, (64, 32))


def diabetes(folder: Path) -> Trained:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return _perceptron("diabetes", folder, data.data.astype(np.float32), data.target, (64, 32), classifies=False)


def digits_cnn(folder: Path) -> Trained:
    """Two convolutions, a pooling, and a perceptron of one hidden layer."""
    rows, labels = _digits()
    images = rows.reshape(-1, 1, 8, 8)
    graph = Graph((1, 8, 8))
    for filters in FILTERS:
        weights, biases = _filters(graph.features(images) if graph.nodes else images, filters)
        graph.add("Conv", weights, biases, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        graph.add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten")
    return _headed("digits-cnn", folder, graph, images, labels)


def transformer(folder: Path) -> Trained:
    """One block of four heads over the eight lines of a digit, and a perceptron of one hidden layer."""
    rows, labels = _digits()
    lines = rows.reshape(-1, 8, 8)
    dice = np.random.default_rng(SEED)
    graph = Graph((8, 8))
    graph.add("MatMul", _random(dice, 8, WIDE))
    embedded = graph.add("Add", _random(dice, 8, WIDE))
    heads = [_attend(graph, embedded, dice) for _ in range(3)]
    scores = graph.join("MatMul", heads[0], graph.add("Transpose", flow=heads[1], perm=[0, 1, 3, 2]))
    graph.add("Mul", np.float32([1.5 / (WIDE / 4) ** 0.5]), flow=scores)
    shares = graph.add("Softmax", axis=-1)
    graph.join("MatMul", shares, heads[2])
    graph.add("Transpose", perm=[0, 2, 1, 3])
    graph.add("Reshape", np.int64([0, 8, WIDE]))
    mixed = graph.add("MatMul", _random(dice, WIDE, WIDE))
    graph.join("Add", mixed, embedded)
    graph.add("MatMul", _random(dice, WIDE, 2 * WIDE))
    graph.add("Relu")
    graph.add("Flatten")
    return _headed("transformer", folder, graph, lines, labels)


MODELS: Mapping[str, Callable[[Path], Trained]] = {
    "digits-cnn": digits_cnn,
    "digits-mlp": digits_mlp,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "transformer": transformer,
}


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target


def _perceptron(
    name: str, folder: Path, rows: np.ndarray, labels: np.ndarray, hidden: tuple[int, ...], *, classifies: bool = True
) -> Trained:
    graph = Graph(rows.shape[1:])
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    graph.add("Sub", mean)
    graph.add("Div", spread)
    return _headed(name, folder, graph, rows, labels, hidden, classifies=classifies)


def _headed(
    name: str,
    folder: Path,
    graph: Graph,
    rows: np.ndarray,
    labels: np.ndarray,
    hidden: tuple[int, ...] = (128,),
    *,
    classifies: bool = True,
) -> Trained:
    """A perceptron trained on what the graph gives, as its end. Half of the rows are trained on, the others written."""
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPClassifier if classifies else MLPRegressor
    features = graph.features(rows)
    alike = labels if classifies else None
    train, test = train_test_split(np.arange(len(rows)), test_size=0.5, random_state=SEED, stratify=alike)
    mean, spread = (0, 1) if classifies else (labels[train].mean(), labels[train].std())
    head = kind(hidden_layer_sizes=hidden, random_state=SEED, max_iter=ROUNDS, alpha=1e-3 if classifies else 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it would learn on
        head.fit(features[train], labels[train] if classifies else (labels[train] - mean) / spread)
    _add_head(graph, head, classifies=classifies)
    if not classifies:
        graph.add("Mul", np.float32([spread]))
        graph.add("Add", np.float32([mean]))
    width = len(head.classes_) if classifies else 1
    graph.save(folder / f"{name}.onnx", width)
    np.savez(folder / f"{name}.npz", input=rows[test], label=labels[test])
    return Trained(name, folder / f"{name}.onnx", folder / f"{name}.npz", "accuracy" if classifies else "rmse")


def _add_head(graph: Graph, head: Any, *, classifies: bool) -> None:
    layers = list(zip(head.coefs_, head.intercepts_, strict=True))
    if classifies and len(head.classes_) == 2:  # one logit becomes two
        layers[-1] = tuple(np.hstack([-each / 2, each / 2]) for each in layers[-1])
    for place, (weights, biases) in enumerate(layers):
        graph.add("Gemm", weights.astype(np.float32), biases.astype(np.float32))
        if place < len(layers) - 1:
            graph.add("Relu")
    if classifies:
        graph.add("Softmax", axis=-1)


def _filters(images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of patches of 3 x 3, both signs of each, and random mixtures of them for what is left."""
    patches = np.lib.stride_tricks.sliding_window_view(images[:400], (3, 3), axis=(2, 3))
    flat = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * 9)
    dice = np.random.default_rng(SEED)
    flat = flat[dice.permutation(len(flat))[:20_000]]
    _, _, parts = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    chosen = np.vstack([parts, -parts, dice.standard_normal((count, len(parts))) @ parts / len(parts) ** 0.5])[:count]
    biases = -(chosen @ flat.mean(axis=0))
    return chosen.reshape(count, images.shape[1], 3, 3).astype(np.float32), biases.astype(np.float32)


def _attend(graph: Graph, embedded: str, dice: np.random.Generator) -> str:
    """Queries, keys or values: [rows, heads, lines, WIDE / 4]."""
    graph.add("MatMul", _random(dice, WIDE, WIDE), flow=embedded)
    graph.add("Reshape", np.int64([0, 8, 4, WIDE // 4]))
    return graph.add("Transpose", perm=[0, 2, 1, 3])


def _random(dice: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return (dice.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)
