"""What every backend keeps to, shown on a real model of each kind."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foretell.backends import Backend, ModelOptions, describe, load_backend
from foretell.convert import Wanted, convert
from foretell.errors import Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Arrays, Datatype, Signature
from tests.backends import encoders, graphs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # Keras

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
HAS_KERAS = find_spec("tensorflow") is not None
HAS_TORCH = find_spec("torch") is not None
KINDS = ["onnx", "onnx-fixed", "litert", "sklearn", "sklearn-native", "python", "onnx-isolated", "python-isolated"]
EXTRAS = {"onnxruntime": "onnx", "sklearn": "sklearn", "skl2onnx": "sklearn", "joblib": "sklearn", "onnx": "sklearn"}
KINDS += ["openvino", "openvino-onnx", "xgboost", "lightgbm"]
KINDS += ["keras", "saved-model"] if HAS_KERAS else []
KINDS += ["huggingface", *(["torch", "torchscript"] if HAS_TORCH else [])]
EXTRAS |= {"ai_edge_litert": "litert", "keras": "keras"}
EXTRAS |= {"torch": "torch"}
EXTRAS |= {"openvino": "openvino", "xgboost": "xgboost", "lightgbm": "lightgbm"}


FILES = {"onnx": "model.onnx", "litert": "model.tflite", "keras": "model.keras", "openvino": "model.xml"}
FILES |= {"torch": "model.pt2", "xgboost": "model.ubj", "lightgbm": "model.lgb"}


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
    shutil.copy(Path(__file__).with_name("models") / "cancer.tflite", folder)
    if HAS_KERAS:
        save_keras(folder)
    if HAS_TORCH:
        save_torch(folder)
    encoders.save(folder / "encoder", encoders.encoder(), encoders.train_tokenizer())
    save_trees(folder)
    convert(str(folder / "linear.onnx"), folder / "linear.xml", Wanted())
    return folder


def save_trees(folder: Path) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(features, labels), 10).save_model(folder / "cancer.json")
    data = lightgbm.Dataset(features, labels)
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 10).save_model(folder / "cancer.txt")


def save_torch(folder: Path) -> None:
    """A linear classifier with the weights of scikit-learn's."""
    import torch

    features, labels = load_breast_cancer(return_X_y=True)
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression().fit(scaler.transform(features), labels)
    scaling, linear = torch.nn.BatchNorm1d(30, eps=0, affine=False), torch.nn.Linear(30, 2)
    scaling.running_mean, scaling.running_var = (torch.from_numpy(array).float() for array in (scaler.mean_, scaler.var_))
    weights, bias = (torch.from_numpy(array).float() for array in (fitted.coef_[0], fitted.intercept_))
    linear.load_state_dict({"weight": torch.stack([-weights / 2, weights / 2]), "bias": torch.cat([-bias / 2, bias / 2])})
    net = torch.nn.Sequential(scaling, linear, torch.nn.Softmax(1)).eval()
    rows = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 30),), dynamic_shapes=rows), folder / "cancer.pt2")
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.trace(net, torch.zeros(2, 30)).save(str(folder / "cancer.pt"))


def save_keras(folder: Path) -> None:
    import keras

    features, labels = load_breast_cancer(return_X_y=True)
    scaling = keras.layers.Normalization()
    scaling.adapt(features)
    net = keras.Sequential([keras.Input((30,), name="features"), scaling, keras.layers.Dense(2, activation="softmax")])
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(features, labels, epochs=2, verbose=0)
    net.save(folder / "cancer.keras")
    net.export(folder / "saved", verbose=False)


def load(kind: str, folder: Path) -> Backend:
    source = {
        "onnx": folder / "linear.onnx",
        "onnx-fixed": folder / "fixed.onnx",
        "sklearn": folder / "cancer.joblib",
        "sklearn-native": folder / "cancer.joblib",
        "litert": folder / "cancer.tflite",
        "openvino": folder / "linear.xml",
        "openvino-onnx": folder / "linear.onnx",
        "xgboost": folder / "cancer.json",
        "lightgbm": folder / "cancer.txt",
        "keras": folder / "cancer.keras",
        "saved-model": folder / "saved",
        "huggingface": folder / "encoder",
        "torch": folder / "cancer.pt2",
        "torchscript": folder / "cancer.pt",
        "python": f"{folder / 'app.py'}:model",
    }[kind.removesuffix("-isolated")]
    options = ModelOptions(trust=True, native=kind.endswith("native"), isolated=kind.endswith("isolated"))
    if kind == "torchscript":
        options = replace(options, options={"inputs": {"features": "FP32[30]"}})
    return load_backend(source, options, "openvino" if kind.startswith("openvino") else None)


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, folder: Path) -> Iterator[Backend]:
    backend = load(request.param, folder)
    yield backend
    backend.close()


@pytest.fixture
def batch(backend: Backend) -> Arrays:
    if backend.signature.inputs[0].dtype is Datatype.BYTES:
        return {"text": np.array([text.encode() for text in encoders.sentences()[0][:11]], np.object_)}
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


def test_it_tells_its_format_its_size_and_what_it_runs_on(backend: Backend) -> None:
    facts = describe(backend)
    assert facts["format"]
    assert facts["provider"]
    if facts["format"] not in ("Python", "scikit-learn") and "LinearClassifier" not in facts.get("operators", ""):
        assert int(facts["parameters"].partition(" ")[0].replace(",", "")) > 0
        assert facts["runtime"]


def test_a_missing_input_is_named(backend: Backend) -> None:
    name = backend.signature.inputs[0].name
    with pytest.raises(Invalid, match=f"input '{name}' is missing") as refusal:
        Pipeline(backend)({"wrong": np.zeros((1, 30), np.float32)})
    assert refusal.value.code == "missing_input"


def test_a_wrong_shape_is_named_with_what_was_expected(backend: Backend) -> None:
    spec = backend.signature.inputs[0]
    name, taken = spec.name, "" if spec.dtype is Datatype.BYTES else ", 30"
    wrong = np.full((1, 7), b"word" if spec.dtype is Datatype.BYTES else 0, spec.dtype.numpy)
    with pytest.raises(Invalid, match=rf"input '{name}' has shape \[1, 7\], the model takes \[\?{taken}\]"):
        Pipeline(backend)({name: wrong})


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
    file = tmp_path / FILES.get(name, "model.joblib")
    file.write_bytes(b"<net name='x'>" if name == "openvino" else b"x")
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
