"""What every backend keeps to, shown on a real model of each kind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foretell.backends import Backend, ModelOptions, load_backend
from foretell.errors import Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Arrays, Datatype, Signature
from tests.backends import graphs

TOLERANCE = {Datatype.FP16: 1e-2, Datatype.BF16: 1e-1, Datatype.FP32: 1e-5, Datatype.FP64: 1e-12}
"""Relative, between a batch and its rows one by one: kernels may add in another order."""

CODE = """
import numpy as np
import foretell

@foretell.model(inputs={"features": "FP32[30]"}, outputs={"label": "INT64", "mean": "FP32"})
def model(inputs):
    mean = inputs["features"].mean(axis=1)
    return {"label": (mean > 60).astype(np.int64), "mean": mean}
"""
KINDS = ["onnx", "onnx-fixed", "sklearn", "sklearn-native", "python", "onnx-isolated", "python-isolated"]
EXTRAS = {"onnxruntime": "onnx", "sklearn": "sklearn", "skl2onnx": "sklearn", "joblib": "sklearn", "onnx": "sklearn"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind, the first three trained on scikit-learn's breast cancer data."""
    folder = tmp_path_factory.mktemp("models")
    features, labels = load_breast_cancer(return_X_y=True)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels)
    joblib.dump(classifier, folder / "cancer.joblib")
    graphs.save(graphs.linear(features=30), folder / "linear.onnx")
    graphs.save(graphs.linear(4, features=30), folder / "fixed.onnx")
    (folder / "app.py").write_text(CODE)
    return folder


def load(kind: str, folder: Path) -> Backend:
    source = {
        "onnx": folder / "linear.onnx",
        "onnx-fixed": folder / "fixed.onnx",
        "sklearn": folder / "cancer.joblib",
        "sklearn-native": folder / "cancer.joblib",
        "python": f"{folder / 'app.py'}:model",
    }[kind.removesuffix("-isolated")]
    return load_backend(source, ModelOptions(trust=True, native=kind.endswith("native"), isolated=kind.endswith("isolated")))


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, folder: Path) -> Iterator[Backend]:
    backend = load(request.param, folder)
    yield backend
    backend.close()


@pytest.fixture
def batch(backend: Backend) -> Arrays:
    rows: NDArray[np.float32] = load_breast_cancer().data[:11].astype(np.float32)
    return {backend.signature.inputs[0].name: rows}


def test_its_answers_are_as_its_signature_says(backend: Backend, batch: Arrays) -> None:
    answers = backend.forward(backend.signature.conform(batch))
    given = Signature(backend.signature.outputs, ()).conform(answers)
    assert list(given) == list(answers)
    assert all(given[name] is answers[name] for name in given), "a datatype had to be converted"
    assert {len(array) for array in answers.values()} == {11}


def test_a_batch_is_answered_as_its_rows_one_by_one(backend: Backend, batch: Arrays) -> None:
    together = backend.forward(batch)
    alone = [backend.forward({name: array[i : i + 1] for name, array in batch.items()}) for i in range(11)]
    for spec in backend.signature.outputs:
        assert_close(together[spec.name], np.concatenate([answer[spec.name] for answer in alone]), spec.dtype)


def assert_close(got: Array, want: Array, dtype: Datatype) -> None:
    if dtype.is_float:
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=TOLERANCE[dtype], atol=1e-7)
    else:
        np.testing.assert_array_equal(got, want)


def test_a_missing_input_is_named(backend: Backend) -> None:
    name = backend.signature.inputs[0].name
    with pytest.raises(Invalid, match=f"input '{name}' is missing") as refusal:
        Pipeline(backend)({"wrong": np.zeros((1, 30), np.float32)})
    assert refusal.value.code == "missing_input"


def test_a_wrong_shape_is_named_with_what_was_expected(backend: Backend) -> None:
    name = backend.signature.inputs[0].name
    with pytest.raises(Invalid, match=rf"input '{name}' has shape \[1, 7\], the model takes \[\?, 30\]"):
        Pipeline(backend)({name: np.zeros((1, 7), np.float32)})


def test_closing_twice_is_harmless(backend: Backend) -> None:
    backend.close()
    backend.close()


def test_what_the_inputs_hold_is_left_as_it_was(backend: Backend, batch: Arrays) -> None:
    before = {name: array.copy() for name, array in batch.items()}
    backend.forward(batch)
    for name, array in batch.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_there_is_named(kind: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Setup, match="there is no model at") as refusal:
        load(kind, tmp_path)
    assert refusal.value.code == "missing_file"
    assert str(tmp_path) in refusal.value.message


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_says_what_to_install(package: str, tmp_path: Path) -> None:
    name = EXTRAS[package]
    file = tmp_path / ("model.onnx" if name == "onnx" else "model.joblib")
    file.write_bytes(b"x")
    program = f"""
import sys
sys.modules[{package!r}] = None
import foretell
try:
    foretell.load({str(file)!r})
except foretell.ForetellError as error:
    print(error.code, error.message)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    install = "pip install foretell" if name == "onnx" else f"pip install 'foretell[{name}]'"
    assert run.stdout.startswith(f"missing_extra backend {name!r} needs the package {package!r}")
    assert run.stdout.strip().endswith(install)


def test_the_python_backend_needs_no_package(folder: Path) -> None:
    program = f"""
import sys
for package in {list(EXTRAS)!r}:
    sys.modules[package] = None
import foretell
print(foretell.load({str(folder / "app.py")!r} + ":model").signature)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "(features FP32 [30]) -> (label INT64 [], mean FP32 [])"
