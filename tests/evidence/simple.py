"""A small classifier and its rows, made in a moment: three classes that a line tells apart."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.backends.graphs import build, save, tensor

CLASSES, FEATURES = 3, 4
WEIGHTS = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def classifier(folder: Path, scale: float = 1.0, name: str = "model.onnx") -> Path:
    """``y = softmax(scale * x @ w)``."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"], name="product"), helper.make_node("Softmax", ["z"], ["y"], axis=-1)]
    stored = [numpy_helper.from_array(WEIGHTS * np.float32(scale), "w")]
    path = folder / name
    save(build(nodes, [tensor("x", ["n", FEATURES])], [tensor("y", ["n", CLASSES])], stored), path)
    return path


def regressor(folder: Path, name: str = "numbers.onnx") -> Path:
    """``y = x @ w[:, 0]``."""
    stored = [numpy_helper.from_array(WEIGHTS[:, :1].copy(), "w")]
    path = folder / name
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    save(build(nodes, [tensor("x", ["n", FEATURES])], [tensor("y", ["n", 1])], stored), path)
    return path


def rows(count: int = 200) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(count, FEATURES)).astype(np.float32)


def labels(of: NDArray[np.float32]) -> NDArray[np.int64]:
    """Right for nine rows of ten."""
    right = (of @ WEIGHTS).argmax(axis=1)
    wrong = np.random.default_rng(3).random(len(of)) < 0.1
    found: NDArray[np.int64] = np.where(wrong, (right + 1) % CLASSES, right)
    return found


def npz(folder: Path, count: int = 200, name: str = "rows.npz") -> Path:
    made = rows(count)
    np.savez(folder / name, x=made, label=labels(made))
    return folder / name


def csv(folder: Path, header: str, table: list[list[object]], name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in table)]) + "\n")
    return path
