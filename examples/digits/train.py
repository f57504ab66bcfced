"""Trains the demo's digits model: a picture of a handwritten digit, of any size and colour mode -> its label.

Writes the model and the demo's inputs, and prints the figures of README.md. What the model is trained on has gone through the
steps of pipeline.toml, as what it is asked will.
"""

import tomllib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from draw import BLACK_ON_WHITE, FILTERS, INK_ON_PAPER, MODES, WHITE_ON_BLACK, Look, draw
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from foretell.steps import build_step
from foretell.tensors import Arrays

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "foretell" / "demo"
MODEL = DEMO / "models" / "digits"
SEED = 1
LOOKS = 24

Digits = NDArray[np.float64]
Labels = NDArray[np.int64]

TESTED = {
    "8 px, as in the data": Look(),
    "12 px": Look(side=12),
    "12 px, enlarged without smoothing": Look(side=12, enlarged="nearest"),
    "28 px": Look(side=28),
    "28 px, enlarged without smoothing": Look(side=28, enlarged="nearest"),
    "64 px, RGB, black on white": Look(side=64, mode="RGB", colours=BLACK_ON_WHITE),
    "90 px, RGBA, blue ink on cream paper": Look(side=90, mode="RGBA", colours=INK_ON_PAPER),
    "160 px, palette, black on white": Look(side=160, mode="P", colours=BLACK_ON_WHITE),
    "160 px, black and white only": Look(side=160, mode="1"),
    "200 px, LA": Look(side=200, mode="LA"),
    "200 px, turned by 8 degrees": Look(side=200, turn=8),
}
INPUTS = {
    "seven-28px-grey.png": (7, Look(side=28)),
    "three-90px-blue-on-cream.png": (3, Look(side=90, mode="RGB", colours=INK_ON_PAPER)),
    "five-160px-palette-black-on-white.png": (5, Look(side=160, mode="P", colours=BLACK_ON_WHITE)),
}


def main() -> None:
    digits, labels = load_digits(return_X_y=True)
    digits = digits.reshape(-1, 8, 8)
    train, test = split(labels)
    rng = np.random.default_rng(SEED)
    pictures = [draw(digits[row], look) for row in train for look in (Look(), *random_looks(rng))]
    model = MLPClassifier((256, 128), alpha=0.01, batch_size=256, max_iter=60, tol=0.0, random_state=SEED)
    features = prepare(pictures) + rng.normal(0, 0.02, (len(pictures), 64))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # 60 rounds are meant, not convergence
        model.fit(features, np.repeat(labels[train], LOOKS + 1))
    write_model(model)
    write_inputs(digits, labels, test, model)
    print(f"digits: {len(train)} to train, drawn {LOOKS + 1} times each; {len(test)} held out")
    for name, look in TESTED.items():
        right = model.predict(prepare([draw(digits[row], look) for row in test])) == labels[test]
        print(f"{name}: {right.mean():.4f}")


def split(labels: Labels) -> tuple[Labels, Labels]:
    """Row numbers to train and to test, 3:1."""
    train, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=SEED)
    return train, test


def random_looks(rng: np.random.Generator) -> Iterable[Look]:
    """Ways to draw one digit, none of them twice: any size and mode, a little turned and moved, any ink on any paper."""
    for _ in range(LOOKS):
        paper, ink = rng.integers(0, 90, 3), rng.integers(150, 256, 3)
        colours = (tuple(paper.tolist()), tuple(ink.tolist())) if rng.random() < 0.5 else WHITE_ON_BLACK
        yield Look(
            side=int(rng.integers(9, 201)),
            enlarged=str(rng.choice(list(FILTERS))),
            mode=str(rng.choice(MODES)),
            colours=colours if rng.random() < 0.5 else colours[::-1],
            turn=float(rng.uniform(-10, 10)),
            shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        )


def prepare(pictures: Sequence[bytes]) -> NDArray[np.float32]:
    """PNGs to what the model takes [rows, 64], by the steps of pipeline.toml; a few at a time, as a request would be."""
    tables = tomllib.loads((MODEL / "pipeline.toml").read_text())["preprocess"]
    steps = [build_step(table.pop("step"), table, MODEL) for table in tables]
    features = []
    for start in range(0, len(pictures), 256):
        arrays: Arrays = {"image": np.array(pictures[start : start + 256], dtype=np.object_)}
        for step in steps:
            arrays = step(arrays)
        features.append(arrays["image"])
    return np.concatenate(features)


def write_model(model: MLPClassifier) -> None:
    """The classifier as ONNX: ``image`` [rows, 64] -> ``label`` [rows] and ``probabilities`` [rows, 10]."""
    graph = to_onnx(model, initial_types=[("image", FloatTensorType([None, 64]))], options={"zipmap": False}, target_opset=17)
    path = MODEL / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    print(f"model: {path.stat().st_size} bytes")


def write_inputs(digits: Digits, labels: Labels, test: Labels, model: MLPClassifier) -> None:
    """The first held-out digit of a label, drawn as the demo sends it; and the one that the model is least sure of."""
    for name, (label, look) in INPUTS.items():
        row = test[labels[test] == label][0]
        (DEMO / "inputs" / name).write_bytes(draw(digits[row], look))
    pictures = [draw(digits[row], Look(side=48)) for row in test]
    sure = model.predict_proba(prepare(pictures)).max(axis=1)
    (DEMO / "inputs" / "least-sure-48px-grey.png").write_bytes(pictures[int(sure.argmin())])


if __name__ == "__main__":
    main()
