"""Keras, SavedModel and LiteRT to ONNX, and Keras to LiteRT: `make runtimes` installs what that needs, `make test` skips it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.backends import ModelOptions, load_backend
from foretell.convert import Report, Wanted, convert
from foretell.errors import Setup

tf = pytest.importorskip("tensorflow", reason="the extra keras is not installed: make runtimes")
pytest.importorskip("tf2onnx", reason="the extra convert is not installed: make runtimes")
import keras  # noqa: E402 - after the skips

pytestmark = pytest.mark.filterwarnings("default")  # TensorFlow's own

MODELS = Path(__file__).parents[1] / "backends" / "models"
TRUST = ModelOptions(trust=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional net, and one with two inputs and two named outputs."""
    folder = tmp_path_factory.mktemp("originals")
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input((8, 8, 1), name="pixels"),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", name="digit"),
    ]
    net = keras.Sequential(layers)
    net.save(folder / "net.keras")
    net.export(folder / "saved", verbose=False)
    a, b = keras.Input((4,), name="a"), keras.Input((None, 2), name="b", dtype="int32")
    mean = keras.layers.GlobalAveragePooling1D()(keras.ops.cast(b, "float32"))
    keras.Model({"b": b, "a": a}, {"y": mean, "x": keras.layers.Dense(2)(a)}).save(folder / "two.keras")
    return folder


def converted(source: Path, target: Path, **wanted: Any) -> tuple[Report, str]:
    report = convert(str(source), target, Wanted(options=TRUST, **wanted))
    model = load_backend(target)
    return report, f"{model.signature} {model.signature.rows}"


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("net.keras", "(pixels FP32 [8, 8, 1]) -> (digit FP32 [10]) True"),
        ("saved", "(pixels FP32 [8, 8, 1]) -> (output_0 FP32 [10]) True"),
    ],
)
def test_a_net_keeps_its_names_and_its_answers(folder: Path, tmp_path: Path, name: str, signature: str, suffix: str) -> None:
    report, got = converted(folder / name, tmp_path / f"m.{suffix}")
    assert got == signature
    assert max(each.relative for each in report.differences) < 1e-5


def test_several_inputs_and_outputs_keep_their_names(folder: Path, tmp_path: Path) -> None:
    report, _ = converted(folder / "two.keras", tmp_path / "m.onnx")
    model = load_backend(tmp_path / "m.onnx")
    assert set(map(str, model.signature.inputs)) == {"a FP32 [4]", "b INT32 [?, 2]"}
    assert {each.output for each in report.differences} == {"x", "y"}


@pytest.mark.parametrize("name", ["digits_float", "digits_fixed"])
def test_a_litert_model_has_the_names_of_its_signature_and_floats_outside(tmp_path: Path, name: str) -> None:
    rows = {"pixels": np.random.default_rng(7).random((9, 64), np.float32)}
    np.save(tmp_path / "rows.npy", rows["pixels"])  # of the range that its scales were made for
    _, got = converted(MODELS / f"{name}.tflite", tmp_path / "m.onnx", tolerance=1e-2, rows=tmp_path / "rows.npy")
    assert got == "(pixels FP32 [64]) -> (probabilities FP32 [10]) True"
    want = load_backend(MODELS / f"{name}.tflite").forward(rows)["probabilities"].astype(np.float32)
    got_rows = load_backend(tmp_path / "m.onnx").forward(rows)["probabilities"].astype(np.float32)
    np.testing.assert_allclose(got_rows, want, atol=5e-3)


def test_what_has_no_operator_in_onnx_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Setup, match="tf2onnx says") as refused:
        converted(MODELS / "words.tflite", tmp_path / "m.onnx")
    assert refused.value.code == "broken_model"
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_not_even_looked_at_without_trust(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Setup) as refused:
        convert(str(folder / "saved"), tmp_path / "m.onnx", Wanted())
    assert refused.value.code == "untrusted_model"
